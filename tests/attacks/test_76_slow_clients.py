"""Attack 76: hundreds of clients that send or read as slowly as they can, against short configured deadlines."""

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from OpenSSL import SSL

from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend, Exchange
from tests.support.client import Client, Tls, get
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, wait_until

DEADLINE = 0.6
"""Seconds of every configured deadline here."""

SLACK = 2.5
"""Seconds by which a close may come later than its deadline: the wheel's tick, the crowd, a busy machine."""

CROWD = 300


@pytest.fixture
def slow_router(make_router: MakeRouter) -> RouterProcess:
    return make_router(
        read_header_timeout=f"{DEADLINE}s", client_stall_timeout=f"{DEADLINE}s", frontend_idle_timeout=f"{DEADLINE}s",
        tls_handshake_timeout=f"{DEADLINE}s",
    )  # fmt: skip


@pytest.fixture
def host(
    slow_router: RouterProcess, nats_server: NatsServer, backend: EchoBackend, make_registrar: Callable[..., Registrar]
) -> str:
    name = unique_host(OPEN)
    make_registrar(nats_server, slow_router).register(name, backend=backend)
    return name


@contextlib.contextmanager
def crowd(port: int, count: int, first: bytes, receive_buffer: int = 0) -> Iterator[list[socket.socket]]:
    """So many connections, each of which has sent `first`."""
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            one = socket.socket()
            made.append(one)
            if receive_buffer:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            one.connect(("127.0.0.1", port))
            one.sendall(first)
        yield made
    finally:
        for one in made:
            one.close()


def drip_until_closed(sockets: list[socket.socket], piece: bytes, deadline: float) -> list[bytes]:
    """Send `piece` on each every 50 ms until the router has closed all; what each was told, b"" for a reset."""
    answers = dict.fromkeys(sockets, b"")
    is_open = set(sockets)
    end = time.monotonic() + deadline
    with selectors.DefaultSelector() as selector:
        for one in sockets:
            one.setblocking(False)
            selector.register(one, selectors.EVENT_READ)
        while is_open:
            assert time.monotonic() < end, f"{len(is_open)} of {len(sockets)} are still open after {deadline} s"
            for key, _ in selector.select(0.05):
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                data = _received(ready)
                answers[ready] += data
                if not data:
                    is_open.discard(ready)
                    selector.unregister(ready)
            for one in is_open if piece else ():
                with contextlib.suppress(OSError):
                    one.send(piece)
    return list(answers.values())


def _received(ready: socket.socket) -> bytes:
    try:
        return ready.recv(65536)
    except OSError:
        return b""


def test_heads_that_drip_are_answered_408_and_closed(slow_router: RouterProcess, host: str, backend: EchoBackend) -> None:
    """Attack 76: a head that is not whole in time gets 408 and a close, however many clients drip; others are served."""
    began = time.monotonic()
    with crowd(slow_router.port, CROWD, b"GET / HTTP/1.1\r\nHost: %b\r\nX-Slow: " % host.encode()) as sockets:
        assert get(slow_router.port, host).status == 200
        answers = drip_until_closed(sockets, b"a", DEADLINE + SLACK)
    assert time.monotonic() - began >= DEADLINE
    assert [answer.split(b"\r\n", 1)[0] for answer in answers] == [b"HTTP/1.1 408 Request Timeout"] * CROWD
    assert all(b"X-Cf-RouterError: request_timeout\r\n" in answer for answer in answers)
    assert slow_router.metric("malformed_requests", reason="head_timeout") == CROWD
    assert get(slow_router.port, host).status == 200
    assert len(backend.received) == 2


def test_a_drip_is_measured_from_the_first_byte_and_not_from_the_last(slow_router: RouterProcess, host: str) -> None:
    """Attack 76: bytes that keep coming do not move the deadline of a head."""
    with Client(slow_router.port) as client:
        began = time.monotonic()
        client.send(b"GET / HTTP/1.1\r\n")
        [answer] = drip_until_closed([client.socket], b"X", DEADLINE + SLACK)
    assert time.monotonic() - began >= DEADLINE
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_bodies_that_stall_are_answered_408_and_leave_no_backend_behind(
    slow_router: RouterProcess, host: str, backend: EchoBackend
) -> None:
    """Attack 76: a body that stops coming gets 408 and a close; its backend connection is closed, not used again."""
    count = 100
    backend.always(lambda exchange: exchange.read_body())
    stalled = b"POST / HTTP/1.1\r\nHost: %b\r\nContent-Length: 1000\r\n\r\nonly this" % host.encode()
    with crowd(slow_router.port, count, stalled) as sockets:
        answers = drip_until_closed(sockets, b"", DEADLINE + SLACK)
    assert [b"HTTP/1.1 408 Request Timeout"] * count == [answer.split(b"\r\n", 1)[0] for answer in answers]
    assert not any(received.complete for received in backend.received)
    wait_until(lambda: len(backend.errors) >= count, "every backend connection to be closed inside its body")
    backend.always(None)
    assert get(slow_router.port, host).status == 200


def test_a_slow_reader_is_cut_off_and_costs_no_memory(slow_router: RouterProcess, host: str, backend: EchoBackend) -> None:
    """Attack 76: clients that take not one byte of a large response are closed at the deadline; memory stays flat."""
    count, size = 60, 16 * 1024 * 1024
    piece = bytes(65536)

    def pour(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // len(piece)):
            exchange.send(piece)

    assert get(slow_router.port, host).status == 200
    before = slow_router.resident_kib()
    backend.always(pour)
    head = b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode()
    with crowd(slow_router.port, count, head, receive_buffer=4096):
        wait_until(lambda: len(backend.received) > count, "every request to reach the backend")
        grown = slow_router.resident_kib() - before
        wait_until(lambda: slow_router.metric("connections_open") == 0, "the slow readers to be closed", DEADLINE + SLACK)
    assert grown < 24 * 1024, f"{grown} KiB for {count} slow readers"
    wait_until(lambda: _cut_off(slow_router) == count, "each to be in the access log as what it is")
    backend.always(None)
    assert get(slow_router.port, host).status == 200


def _cut_off(router: RouterProcess) -> int:
    return sum("client-conn-closed-during-response-streaming" in line for line in router.access_log)


def test_silence_is_closed_without_a_word(slow_router: RouterProcess, host: str) -> None:
    """Attack 76: connections that never say anything, or nothing more, end at the idle deadline."""
    with crowd(slow_router.port, CROWD, b"") as sockets, Client(slow_router.port) as served:
        assert served.request(host).status == 200
        assert get(slow_router.port, host).status == 200
        assert drip_until_closed(sockets, b"", DEADLINE + SLACK) == [b""] * CROWD
        assert served.closed_by_server()


def test_a_client_hello_that_stops_is_reset_and_other_handshakes_go_on(slow_router: RouterProcess, host: str) -> None:
    """Attack 76: TLS that does not come to its first request ends at the handshake deadline; others are served."""
    cut = bytes.fromhex("16030102000100 01fc0303")
    with crowd(slow_router.ssl_port, CROWD, cut) as sockets:
        assert get(slow_router.ssl_port, host, tls=Tls(host)).status == 200
        assert drip_until_closed(sockets, b"", DEADLINE + SLACK) == [b""] * CROWD
    assert slow_router.metric("connections_refused", reason="hello_timeout") == CROWD


def test_a_handshake_that_stops_half_way_is_closed(slow_router: RouterProcess, host: str) -> None:
    """Attack 76: a client that never finishes the handshake it began is closed and counted as a time-out."""
    with Client(slow_router.ssl_port, Tls(host), handshake=False) as client:
        assert client.tls is not None
        hello = _client_hello(host)
        client.socket.sendall(hello)
        client.socket.settimeout(DEADLINE + SLACK)
        taken = b""
        with contextlib.suppress(ConnectionError):
            while data := client.socket.recv(65536):
                taken += data
    assert taken[:1] == b"\x16"
    assert slow_router.metric("tls_handshakes", domain="", result="timeout") == 1


def _client_hello(name: str) -> bytes:
    """A whole ClientHello, as OpenSSL makes it."""
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    connection.set_tlsext_host_name(name.encode())
    connection.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(65536)
