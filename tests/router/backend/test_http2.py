"""router/backend/http2.py: one HTTP/2 connection to a real backend, on both event loops."""

import asyncio
import socket
import threading

import pytest

from router.backend.http2 import UNHEARD_MS, Http2Connection, NotHttp2
from router.backend.http2_pool import open_http2
from router.backend.http2_round_trip import Http2RoundTrip
from router.faults import Fault
from router.limits import Limits
from router.net.body import BodyTruncated
from router.net.stream import Stream as TcpStream
from router.wire.http1 import NO_BODY
from tests.router.backend.http2_parts import (
    FIELDS,
    LIMITS,
    answer,
    answer_beside,
    begin,
    connected,
    head_of,
    whole,
)
from tests.router.backend.parts import endpoint
from tests.router.backend.test_dial import BACKENDS, dialer
from tests.router.net.pairs import soon
from tests.support.backend import EchoBackend
from tests.support.failing import Mute
from tests.support.http2_backend import Http2Backend, Stream, echo, in_order
from tests.support.waiting import until


async def test_many_streams_share_a_connection() -> None:
    """Each has its own answer, whatever the order in which they come."""

    def backwards(stream: Stream) -> None:
        backend.requests[-1].wait()
        stream.respond(stream.path.encode())

    with Http2Backend() as backend:
        backend.each(backwards)
        async with connected(backend) as one:
            trips = [begin(one, target=b"/%d" % number) for number in range(20)]
            assert one.busy == 20
            assert [await answer(trip) for trip in trips] == [(200, b"/%d" % number, []) for number in range(20)]
            for trip in trips:
                trip.close()
            assert one.busy == 0
    assert backend.connections == 1


async def test_goaway_refuses_the_later_and_lets_the_earlier_end() -> None:
    """RFC 9113 section 6.8; then the connection is closed, and nothing new began on it."""
    with Http2Backend() as backend:

        def late(stream: Stream) -> None:
            backend.wait_for_requests(2)
            stream.connection.send_raw(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + stream.number.to_bytes(4) + bytes(4))
            stream.respond(b"late")

        backend.next(late, lambda stream: None)
        async with connected(backend) as one:
            first, second = begin(one), begin(one)
            with pytest.raises(Fault) as raised:
                await head_of(second)
            assert raised.value.kind == "stream_refused"
            assert not one.accepts
            second.close()
            assert await answer(first) == (200, b"late", [])
            assert not one.closed
            first.close()
            assert one.closed


async def test_the_end_of_the_connection_ends_every_stream() -> None:
    """Before the head: `connection_closed`, for the resend rule; inside a body: cut short."""

    def begun(stream: Stream) -> None:
        stream.head()
        stream.data(b"some")

    with Http2Backend() as backend:
        backend.next(begun, lambda stream: None)
        async with connected(backend) as one:
            first, second = begin(one), begin(one)
            body = first.body(await head_of(first), Limits().chunked_decoder)
            backend.close_connections()
            with pytest.raises(Fault) as raised:
                await head_of(second)
            assert raised.value.kind in {"connection_closed", "connection_reset"}
            with pytest.raises(BodyTruncated):
                await whole(body)
            with pytest.raises(OSError, match="ended"):
                Http2RoundTrip(one).start(b"GET", b"/", [], NO_BODY, b"")


async def test_a_connection_counts_as_used_once_it_brought_a_response() -> None:
    """Attack 57: of a burst on a new one that is lost, no request is sent again for free."""
    with Http2Backend() as backend:
        async with connected(backend) as one:
            first, second = begin(one), begin(one)
            assert (first.reused, second.reused) == (False, False)
            await answer(first)
            assert begin(one).reused


async def test_a_machine_that_is_gone_without_a_word_is_noticed() -> None:
    """What it does not acknowledge ends the connection, long before every request's deadline."""
    with Http2Backend() as backend:
        async with connected(backend) as one:
            assert one.stream.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNHEARD_MS


async def test_what_was_answered_is_read_although_nothing_can_be_said_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend may answer and leave: what it said is here. No new request is tried on such a connection."""
    answer_now = threading.Event()

    def broken(stream: TcpStream, data: bytes) -> None:
        raise BrokenPipeError

    with Http2Backend() as backend:
        backend.next(in_order(lambda _: answer_now.wait(10), lambda stream: stream.respond(b"said")))
        async with connected(backend) as one:
            trip = begin(one)
            backend.wait_for_requests()
            monkeypatch.setattr(TcpStream, "push", broken)
            late = Http2RoundTrip(one)
            with pytest.raises(OSError, match="ended"):
                late.start(b"GET", b"/", list(FIELDS), NO_BODY, b"")
            late.close()
            assert not one.accepts
            answer_now.set()
            assert await answer(trip) == (200, b"said", [])
            trip.close()
            assert one.closed
            monkeypatch.undo()


async def test_a_response_that_does_not_come_is_a_timeout_and_casts_doubt_on_a_silent_connection() -> None:
    """No new stream goes where nothing was heard since the last began."""
    with Http2Backend() as backend:
        backend.next(echo, lambda stream: None)
        async with connected(backend) as one:
            said = begin(one)
            assert (await answer(said))[0] == 200
            said.close()
            trip = begin(one)
            with pytest.raises(Fault) as raised:
                await trip.read_head(asyncio.get_running_loop().time() + 0.05, b"GET", LIMITS)
            assert raised.value.kind == "endpoint_timeout"
            assert not one.accepts
            trip.close()
            assert one.closed


@pytest.mark.parametrize("tls", [False, True])
async def test_who_speaks_something_else_is_told_no_request(tls: bool) -> None:
    """Over TLS it has chosen HTTP/1.1 and may be used so; in plain text it is closed."""
    with EchoBackend(credential=BACKENDS.issue_server("app") if tls else None) as backend:
        to = endpoint(backend.port, tls=tls, san="app" if tls else "", protocol="http2")
        made = await open_http2(to, dialer(), Limits().http2_backends())
        assert (made is None) is not tls
        if made is not None:
            assert not isinstance(made, Http2Connection)
            made.close()
        await until(lambda: not backend.open_connections, "the connection to end")
    assert not any(line.request_line.startswith("GET") for line in backend.received)


async def test_tls_is_asked_for_h2() -> None:
    """ALPN chose it; the scheme says it."""
    with Http2Backend(credential=BACKENDS.issue_server("app")) as backend:
        async with connected(backend) as one:
            assert await answer_beside(one) == 200
        assert (":scheme", "https") in backend.requests[0].headers


async def test_silence_instead_of_settings_ends_at_the_deadline() -> None:
    """And nothing is left open."""
    with Mute() as mute:
        upstream = await dialer().dial(endpoint(mute.port))
        one = Http2Connection(upstream, Limits().http2_backends())
        with pytest.raises(Fault) as raised:
            await one.settle(asyncio.get_running_loop().time() + 0.05)
        assert (raised.value.kind, one.closed) == ("dial_timeout", True)
    with EchoBackend() as backend:
        one = Http2Connection(await dialer().dial(endpoint(backend.port)), Limits().http2_backends())
        backend.close_connections()
        with pytest.raises(NotHttp2):
            await one.settle(soon())
