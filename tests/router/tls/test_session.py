"""router/tls/session.py: TLS on the descriptor itself, with a real client in a thread, on both event loops."""

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from OpenSSL import SSL

from router.net.deadline import Wheel
from router.net.stream import Stream
from router.tls import session
from router.tls.contexts import ClientPolicy, TlsSettings
from router.tls.session import REASONS, HandshakeError, SessionError, TlsStream
from tests.router.net.pairs import soon, tcp_pair
from tests.router.tls.handshakes import context_of, shake
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import Client, Tls, TlsRefusedError
from tests.support.client_hellos import FIXTURES
from tests.support.waiting import until

_PARTIAL_WRITE = 1
"""SSL_MODE_ENABLE_PARTIAL_WRITE."""


@asynccontextmanager
async def secured(tls: Tls | None = None, context: SSL.Context | None = None) -> AsyncIterator[tuple[TlsStream, Client]]:
    """(our end after its handshake, a blocking client)."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connecting = loop.run_in_executor(None, Client, listener.getsockname()[1], tls or Tls())
        sock, _ = await loop.run_in_executor(None, listener.accept)
    sock.setblocking(False)
    stream = TlsStream(sock, context or context_of(ClientPolicy()), loop, wheel)
    await stream.handshake_server(soon())
    client = await connecting
    try:
        yield stream, client
    finally:
        stream.close()
        client.close()
        wheel.close()


def start(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work)


async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, call, *arguments)


@asynccontextmanager
async def raw_peer() -> AsyncIterator[tuple[TlsStream, socket.socket]]:
    """(our end before its handshake, a plain socket)."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    ours, theirs = tcp_pair()
    stream = TlsStream(ours, context_of(ClientPolicy()), loop, wheel)
    try:
        yield stream, theirs
    finally:
        stream.close()
        theirs.close()
        wheel.close()


# The handshake


async def test_a_peer_that_does_not_speak_tls_is_told_apart() -> None:
    """HTTP on the TLS port."""
    async with raw_peer() as (stream, peer):
        peer.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises(HandshakeError) as raised:
            await stream.handshake_server(soon())
        assert raised.value.reason == "not_tls"


@pytest.mark.parametrize("reset", [False, True])
async def test_a_peer_that_leaves_in_the_handshake_is_told_apart(reset: bool) -> None:
    """Ended or reset: `peer_left`."""
    async with raw_peer() as (stream, peer):
        peer.sendall(bytes.fromhex("160301"))
        if reset:
            Stream(peer, asyncio.get_running_loop(), stream.wheel).reset()
        else:
            peer.close()
        with pytest.raises(HandshakeError) as raised:
            await stream.handshake_server(soon())
        assert raised.value.reason == "peer_left"


async def test_a_silent_peer_costs_no_more_than_the_deadline() -> None:
    """Attack 27: TimeoutError."""
    async with raw_peer() as (stream, _):
        with pytest.raises(TimeoutError):
            await stream.handshake_server(asyncio.get_running_loop().time())


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (40, "handshake_failure"),
        (42, "alert_bad_certificate"),
        (43, "alert_bad_certificate"),
        (44, "alert_bad_certificate"),
        (45, "alert_bad_certificate"),
        (46, "alert_bad_certificate"),
        (48, "alert_unknown_ca"),
        (70, "protocol_version"),
        (80, "alert"),
        (116, "certificate_required"),
    ],
)
async def test_an_alert_of_the_peer_is_told_by_its_meaning(number: int, reason: str) -> None:
    """After our half of a TLS 1.2 handshake: the reason names what the peer holds against us."""
    async with raw_peer() as (stream, peer):
        peer.sendall((FIXTURES / "python-ssl-tls12.bin").read_bytes() + bytes.fromhex("150303000202") + bytes([number]))
        with pytest.raises(HandshakeError) as raised:
            await stream.handshake_server(soon())
        assert reason == raised.value.reason, raised.value.detail


async def test_a_client_that_distrusts_us_is_told_apart() -> None:
    """Its alert arrives and is named."""
    outcome = await shake(context_of(ClientPolicy()), Tls(trust=authority("strangers"), maximum=SSL.TLS1_2_VERSION))
    assert outcome.reason == "alert_unknown_ca"


@pytest.mark.parametrize("text", ["", "something OpenSSL never said before", "peer did not return a certificate" * 50])
async def test_any_words_of_openssl_give_a_bounded_reason(text: str) -> None:
    """REASONS is the set of metric labels, and the detail is cut."""
    async with raw_peer() as (stream, _):
        reason, detail = stream._explain(SSL.Error([("", "", text)]))
        assert reason in REASONS
        assert len(HandshakeError(reason, detail).detail) <= 200
        stream.note.error = 9999
        assert stream._explain(SSL.Error([("", "", text)]))[0] == "bad_certificate"


def test_every_verify_reason_is_a_label() -> None:
    """Nothing a client provokes adds a label."""
    assert set(session._VERIFY_REASONS.values()) <= REASONS


# Afterwards


async def test_bytes_go_both_ways_in_any_amount() -> None:
    """The verbs of a stream: more than a record, more than the kernel takes at once."""
    data = bytes(range(256)) * 16384
    async with secured() as (stream, client):
        sending = start(in_thread(client.send, data))
        got = bytearray()
        while len(got) < len(data):
            piece = await stream.recv(soon())
            assert 0 < len(piece) <= TlsStream.chunk
            got += piece
        await sending
        assert bytes(got) == data
        stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        rest = stream.push(data)
        assert rest is not None
        reading = start(in_thread(client._exactly, len(data)))
        await stream.send(rest, soon())
        assert await reading == data


class Counted:
    """OpenSSL, and how often it was called to write."""

    def __init__(self, tls: SSL.Connection) -> None:
        self.tls = tls
        self.calls = 0

    def send(self, data: memoryview) -> int:
        self.calls += 1
        return self.tls.send(data)


@pytest.mark.parametrize(("partial", "calls"), [(False, 1), (True, 4)])
async def test_what_the_kernel_takes_leaves_at_once_however_many_records_it_is(partial: bool, calls: int) -> None:
    """In one call where OpenSSL may write them all, else in one a record; no wait comes between them."""
    data = bytes(range(256)) * 256
    context = context_of(ClientPolicy())
    if partial:
        context.set_mode(_PARTIAL_WRITE)
    async with secured(context=context) as (stream, client):
        stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * len(data))
        reading = start(in_thread(client._exactly, len(data)))
        tls = stream.tls
        counted = stream.tls = Counted(tls)  # type: ignore[assignment]
        assert stream.push(data) is None
        assert counted.calls == calls
        stream.tls = tls
        assert await reading == data


async def test_a_message_of_which_some_records_left_goes_on_where_it_stopped() -> None:
    """Nothing twice, nothing lost, however often the client makes us wait: the whole of it is offered until the last is taken."""
    data = bytes(range(256)) * 16384
    async with secured() as (stream, client):
        stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        rest = stream.push(data)
        assert rest is not None
        assert len(rest) == len(data)
        reading = start(in_thread(client._exactly, len(data) + 4))
        while rest is not None:
            await stream.writable(soon())
            rest = stream.push(rest)
        assert stream.push(b"more") is None
        assert await reading == data + b"more"


class Leaving:
    """OpenSSL at a peer that leaves after the first record."""

    def __init__(self, error: SSL.Error) -> None:
        self.error = error
        self.records = [16384]

    def send(self, data: memoryview) -> int:
        if self.records:
            return self.records.pop()
        raise self.error


@pytest.mark.parametrize("error", [SSL.SysCallError(104, "reset"), SSL.Error([("ssl", "", "shutdown")]), SSL.ZeroReturnError()])
async def test_bytes_that_left_before_a_failure_are_counted(error: SSL.Error) -> None:
    """A request of which something left is not taken for one that never went out: the failure comes with the next try."""
    async with secured() as (stream, _):
        tls, stream.tls = stream.tls, Leaving(error)  # type: ignore[assignment]
        rest = stream.push(bytes(40000))
        assert rest is not None
        assert len(rest) == 40000 - 16384
        with pytest.raises(ConnectionError):
            stream.push(rest)
        stream.tls = tls


async def test_bytes_that_openssl_holds_already_are_read_without_a_wake_up() -> None:
    """Several records in one segment: the descriptor is not readable any more, the stream is."""
    async with secured() as (stream, client):
        for word in (b"one", b"two", b"three"):
            await in_thread(client.send, word)
        await asyncio.sleep(0.02)
        assert [await stream.recv(soon()) for _ in range(3)] == [b"one", b"two", b"three"]
        await in_thread(client.send, bytes(40_000))
        got = 0
        while got < 40_000:
            got += len(await stream.recv(soon()))


@pytest.mark.parametrize("polite", [True, False], ids=["close_notify", "truncated"])
async def test_the_end_of_the_peer_reads_as_the_end(polite: bool) -> None:
    """With or without close_notify: HTTP framing says what is complete."""
    async with secured() as (stream, client):
        if polite:
            await in_thread(client.half_close)
        else:
            client.socket.shutdown(socket.SHUT_WR)
        assert await stream.recv(soon()) == b""


async def test_a_reset_is_an_error() -> None:
    """An OSError, when reading and when writing."""
    async with secured() as (stream, client):
        await in_thread(client.reset)
        with pytest.raises(OSError):
            await stream.recv(soon())
        with pytest.raises(OSError):
            await stream.send(bytes(1 << 20), soon())


async def test_bytes_that_are_no_tls_end_the_connection() -> None:
    """Attack: a record that does not decrypt is an OSError, and the peer gets an alert."""
    async with secured() as (stream, client):
        client.socket.sendall(bytes.fromhex("1703030020") + bytes(32))
        with pytest.raises(ConnectionAbortedError):
            await stream.recv(soon())
        stream.close()
        with contextlib.suppress(Exception):
            await in_thread(client.recv)
        assert client.alert == 20


async def test_a_peer_that_left_is_seen_without_waiting() -> None:
    """`take` looks through TLS: tickets are nothing, the end is an empty value."""
    async with secured() as (stream, client):
        assert stream.take() is None
        await in_thread(client.send, b"x")
        await until(lambda: stream.take() == b"x", "the byte")
        await in_thread(client.half_close)
        await until(lambda: stream.take() == b"", "the end")


async def test_an_end_of_ours_is_told_and_what_the_client_still_says_is_heard() -> None:
    """close_notify, then the end of TCP; RFC 8446 section 6.1 leaves the other way open."""
    async with secured() as (stream, client):
        assert not stream.half_closes
        stream.end_writing()
        assert await in_thread(client.recv) == b""
        await in_thread(client.send, b"last words")
        assert await stream.recv(soon()) == b"last words"


async def test_closing_says_goodbye_and_resetting_does_not() -> None:
    """close_notify tells the client that the response was whole; after a reset it must not think so."""
    async with secured() as (stream, client):
        stream.close()
        stream.close()
        assert await in_thread(client.recv) == b""
    async with secured() as (stream, client):
        stream.reset()
        stream.reset()
        with pytest.raises(ConnectionResetError):
            await in_thread(client.recv)


async def test_lingering_says_goodbye_and_waits_for_the_peer() -> None:
    """Unread input does not overtake the last words."""
    async with secured() as (stream, client):
        await in_thread(client.send, bytes(100_000))
        await stream.send(b"answer", soon())
        ending = start(stream.linger())
        assert await in_thread(client.recv) == b"answer"
        assert await in_thread(client.recv) == b""
        client.close()
        await ending


async def test_renegotiation_is_refused() -> None:
    """Attack 17: a second handshake in TLS 1.2 is not carried out; the client is told so, or the connection ends."""
    async with secured(Tls(maximum=SSL.TLS1_2_VERSION)) as (stream, client):
        assert client.tls is not None
        assert client.tls.renegotiate()
        again = start(in_thread(client.handshake))
        with pytest.raises((TimeoutError, OSError)):
            await stream.recv(asyncio.get_running_loop().time() + 0.2)
        stream.reset()
        with pytest.raises((TlsRefusedError, ConnectionError)):
            await again
        assert stream.tls.total_renegotiations() == 0


async def test_our_side_can_be_the_client() -> None:
    """`handshake_client` sends the server name; what the server shows is for the caller to check."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    ours, theirs = tcp_pair()
    theirs.setblocking(False)
    server = TlsStream(theirs, context_of(ClientPolicy(), TlsSettings("TLSv1.3")), loop, wheel)
    client = TlsStream(ours, SSL.Context(SSL.TLS_CLIENT_METHOD), loop, wheel)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.handshake_server(soon()))
        group.create_task(client.handshake_client("app.example", soon()))
    assert server.tls.get_servername() == b"app.example"
    assert client.tls.get_peer_certificate() is not None
    assert server.verified_chain() == []
    await client.send(b"hello", soon())
    assert await server.recv(soon()) == b"hello"
    client.close()
    assert await server.recv(soon()) == b""
    server.close()
    wheel.close()


@pytest.mark.parametrize("reading", [True, False])
async def test_what_a_peer_thinks_of_our_certificate_is_heard_after_the_handshake(reading: bool) -> None:
    """TLS 1.3: the verdict comes when we believe to be done; it can be asked for, and a read tells it too."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    demanding = EchoBackend(credential=authority("server").issue_server("localhost"), client_ca=authority("somebody"))
    sock = await in_thread(socket.create_connection, (demanding.host, demanding.port))
    sock.setblocking(False)
    stream = TlsStream(sock, SSL.Context(SSL.TLS_CLIENT_METHOD), loop, wheel)
    try:
        await stream.handshake_client(None, soon())
        ended = select.poll()
        ended.register(sock, 0)  # hang-up and error are always told
        await until(lambda: ended.poll(0), "the peer's end")
        with pytest.raises(SessionError) as caught:
            await stream.recv(soon()) if reading else stream.hear_verdict()
        assert caught.value.reason == "certificate_required"
    finally:
        stream.close()
        wheel.close()
        demanding.stop()


async def test_a_peer_that_has_said_nothing_is_content() -> None:
    """No verdict is a good one; bytes that came stay where they are."""
    async with secured() as (stream, client):
        stream.hear_verdict()
        await in_thread(client.send, b"x")
        await stream.readable(soon())
        stream.hear_verdict()
        assert await stream.recv(soon()) == b"x"
