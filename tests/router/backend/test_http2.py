"""router/backend/http2.py: one HTTP/2 connection to a real backend, and the round trips on it, on both event loops."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from h2.errors import ErrorCodes

from router.backend.http2 import INTERIM, OUT_BYTES, UNHEARD_MS, Http2Connection, Http2RoundTrip, NotHttp2
from router.backend.http2_pool import open_http2
from router.faults import Fault
from router.limits import Limits
from router.net.body import BodyMalformed, BodyReader, BodyTruncated
from router.net.stream import Stream as TcpStream
from router.wire.hpack_encoder import encode_fields
from router.wire.http1 import CHUNKED, NO_BODY, Fields, HeadLimits, ResponseHead
from router.wire.http2_frames import head_frames
from router.wire.http2_limits import Http2Limits
from tests.router.backend.parts import endpoint
from tests.router.backend.test_dial import BACKENDS, dialer
from tests.router.net.pairs import soon
from tests.support.backend import EchoBackend
from tests.support.failing import Mute
from tests.support.http2_backend import Http2Backend, Step, Stream, echo, in_order
from tests.support.waiting import until

LIMITS = HeadLimits(4096, 20)
FIELDS: Fields = [(b"Host", b"app.example")]


@asynccontextmanager
async def connected(backend: EchoBackend, limits: Http2Limits | None = None) -> AsyncIterator[Http2Connection]:
    """A settled connection to `backend`."""
    to = endpoint(backend.port, tls=backend.tls, san="app" if backend.tls else "", protocol="http2")
    made = await open_http2(to, dialer(), limits or Limits().http2_backends())
    assert isinstance(made, Http2Connection)
    try:
        yield made
    finally:
        made.close()


def begin(connection: Http2Connection, method: bytes = b"GET", target: bytes = b"/", whole: bytes | None = b"") -> Http2RoundTrip:
    trip = connection.trip()
    assert trip.start(method, target, list(FIELDS), CHUNKED if whole is None else len(whole), whole) is None
    return trip


async def head_of(trip: Http2RoundTrip, method: bytes = b"GET", limits: HeadLimits = LIMITS) -> ResponseHead:
    return await trip.read_head(soon(), method, limits)


async def whole(body: BodyReader) -> bytes:
    found = b""
    while not body.done:
        found += await body.read(soon())
    return found


async def answer(trip: Http2RoundTrip) -> tuple[int, bytes, Fields]:
    head = await head_of(trip)
    body = trip.body(head, Limits().chunked_decoder)
    return head.status, await whole(body), body.trailers


async def push(trip: Http2RoundTrip, data: bytes, *, last: bool = False, trailers: Fields | None = None) -> None:
    rest: bytes | memoryview | None = trip.frame(data, last=last, trailers=trailers or [])
    while rest is not None:
        rest = trip.push(rest)
        if rest is not None:
            await trip.writable(soon())


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


async def test_a_request_goes_with_its_body_and_trailers() -> None:
    """The whole of it, in pieces, in fields that belong to HTTP/2."""
    with Http2Backend() as backend:
        async with connected(backend) as one:
            trip = one.trip()
            rest = trip.start(b"POST", b"/whole", list(FIELDS), 300_000, b"x" * 300_000)
            while rest is not None:
                await trip.writable(soon())
                rest = trip.push(rest)
            await answer(trip)
            trip = begin(one, b"POST", b"/pieces", None)
            for _ in range(30):
                await push(trip, b"y" * 50_000)
            await push(trip, b"end", last=True, trailers=[(b"x-sum", b"1")])
            await answer(trip)
            trip = begin(one, b"POST", b"/empty", None)
            await push(trip, b"", last=True)
            await answer(trip)
        first, second, third = backend.requests
    assert first.headers == [
        (":method", "POST"), (":scheme", "http"), (":authority", "app.example"), (":path", "/whole"),
    ]  # fmt: skip
    assert first.body == b"x" * 300_000
    assert (second.body, second.trailers) == (b"y" * 1_500_000 + b"end", [("x-sum", "1")])
    assert (third.body, third.complete) == (b"", True)


async def test_an_answer_has_its_interim_heads_and_trailers() -> None:
    """A head of HTTP/1.1's shape; the body's end is known when it comes."""

    def step(stream: Stream) -> None:
        stream.head(103, [("link", "<x>")])
        stream.head(200, [("content-type", "application/grpc")])
        stream.data(b"some")
        stream.end([("grpc-status", "0")])

    with Http2Backend() as backend:
        backend.next(step)
        async with connected(backend) as one:
            trip = begin(one)
            assert (await head_of(trip)).status == 103
            head = await head_of(trip)
            assert (head.status, head.body, head.fields) == (200, CHUNKED, [(b"content-type", b"application/grpc")])
            body = trip.body(head, Limits().chunked_decoder)
            assert (await whole(body), body.trailers) == (b"some", [(b"grpc-status", b"0")])


async def test_a_slow_reader_holds_back_only_its_own_sender() -> None:
    """The window of the one closes; the other's body goes on, on the same connection."""
    sent: list[int] = []

    def endless(stream: Stream) -> None:
        stream.head()
        while True:
            stream.data(b"z" * 10_000)
            sent.append(10_000)

    with Http2Backend() as backend:
        backend.next(endless)
        async with connected(backend) as one:
            slow = begin(one)
            body = slow.body(await head_of(slow), Limits().chunked_decoder)
            await until(lambda: sum(sent) >= 260_000, "the first stream's window to close")
            backend.next(lambda stream: stream.respond(b"q" * 3_000_000))
            assert (await answer(begin(one)))[1] == b"q" * 3_000_000
            assert 250_000 <= sum(sent) <= 262_144
            await body.read(soon())
            await until(lambda: sum(sent) > 300_000, "the first stream to go on")
            slow.close()


async def test_a_backend_that_reads_nothing_holds_back_its_client() -> None:
    """No more than its window, and OUT_BYTES of ours, is taken; then `writable` waits."""
    with Http2Backend() as backend:
        backend.reading = False
        async with connected(backend) as one:
            trip = begin(one, b"POST", whole=None)
            rest = trip.push(b"x" * 1_000_000)
            assert rest is not None
            assert 1_000_000 - len(rest) <= 65_535 + OUT_BYTES
            with pytest.raises(TimeoutError):
                await push_on(trip, rest, 0.3)
            assert (await answer_beside(one)) == 200
            trip.close()


async def push_on(trip: Http2RoundTrip, rest: memoryview | None, seconds: float) -> None:
    """All of it, as long as something is taken every so many seconds."""
    while rest is not None:
        await trip.writable(asyncio.get_running_loop().time() + seconds)
        rest = trip.push(rest)


async def answer_beside(one: Http2Connection) -> int:
    """The status of another request on the connection."""
    return (await answer(begin(one)))[0]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (ErrorCodes.REFUSED_STREAM, "stream_refused"),
        (ErrorCodes.HTTP_1_1_REQUIRED, "stream_refused"),
        (ErrorCodes.INTERNAL_ERROR, "stream_reset"),
        (ErrorCodes.ENHANCE_YOUR_CALM, "stream_reset"),
        (ErrorCodes.PROTOCOL_ERROR, "stream_reset"),
    ],
)
async def test_a_stream_that_is_reset_is_a_fault_of_its_own(code: ErrorCodes, kind: str) -> None:
    """The others on the connection do not notice."""
    with Http2Backend() as backend:
        backend.next(lambda stream: stream.reset(code))
        async with connected(backend) as one:
            trip = begin(one)
            with pytest.raises(Fault) as raised:
                await head_of(trip)
            assert (raised.value.kind, trip.response_began) == (kind, False)
            trip.close()
            assert await answer_beside(one) == 200


async def test_a_reset_inside_the_body_cuts_it_short() -> None:
    """What came before is handed on."""

    def step(stream: Stream) -> None:
        stream.head()
        stream.data(b"some")
        stream.reset(ErrorCodes.INTERNAL_ERROR)

    with Http2Backend() as backend:
        backend.next(step)
        async with connected(backend) as one:
            trip = begin(one)
            body = trip.body(await head_of(trip), Limits().chunked_decoder)
            await until(lambda: trip.ready, "the body to begin")
            assert await body.read(soon()) == b"some"
            with pytest.raises(BodyTruncated):
                await body.read(soon())


async def test_an_answer_that_breaks_its_promise_is_malformed() -> None:
    """A length that is not the body's; the connection goes on."""
    with Http2Backend() as backend:
        backend.next(lambda stream: stream.connection.send_raw(frames_with_wrong_length()))
        async with connected(backend) as one:
            trip = begin(one)
            body = trip.body(await head_of(trip), Limits().chunked_decoder)
            with pytest.raises(BodyMalformed):
                await whole(body)
            trip.close()
            assert await answer_beside(one) == 200


def frames_with_wrong_length() -> bytes:
    """On stream 1: 200 with a length of 10, and 4 bytes that end it."""
    head = b"\x88\x0f\x0d\x0210"
    return len(head).to_bytes(3) + b"\x01\x04\x00\x00\x00\x01" + head + b"\x00\x00\x04\x00\x01\x00\x00\x00\x01some"


@pytest.mark.parametrize(
    ("fields", "limits", "kind"),
    [
        ([(b"a", b"x" * 5000)], LIMITS, "response_too_large"),
        ([(b"a%d" % number, b"x") for number in range(21)], LIMITS, "response_too_large"),
        ([(b"a%d" % number, b"x" * 50_000) for number in range(13)], LIMITS, "response_too_large"),
    ],
    ids=["bytes", "fields", "more than the connection takes"],
)
async def test_a_head_beyond_the_limits_is_too_large(fields: Fields, limits: HeadLimits, kind: str) -> None:
    """Attack 55: as in HTTP/1.1."""
    with Http2Backend() as backend:
        backend.next(
            lambda stream: stream.connection.send_raw(b"".join(head_frames(1, b"\x88" + encode_fields(fields), end=True)))
        )
        async with connected(backend) as one:
            with pytest.raises(Fault) as raised:
                await head_of(begin(one), limits=limits)
            assert raised.value.kind == kind


async def test_interim_heads_that_nobody_reads_are_bounded() -> None:
    """Attack 55: sixteen wait, then the stream is given up."""

    def step(stream: Stream) -> None:
        for _ in range(40):
            stream.head(103)

    with Http2Backend() as backend:
        backend.next(step)
        async with connected(backend) as one:
            trip = begin(one)
            await until(lambda: backend.requests and backend.requests[0].reset_code is not None, "the router to give up")
            for _ in range(INTERIM):
                assert (await head_of(trip)).status == 103
            with pytest.raises(Fault) as raised:
                await head_of(trip)
            assert raised.value.kind == "response_malformed"
            assert await answer_beside(one) == 200


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
                one.trip().start(b"GET", b"/", [], NO_BODY, b"")


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
            late = one.trip()
            with pytest.raises(OSError, match="ended"):
                late.start(b"GET", b"/", list(FIELDS), NO_BODY, b"")
            late.close()
            assert not one.accepts
            answer_now.set()
            assert await answer(trip) == (200, b"said", [])
            trip.close()
            assert one.closed
            monkeypatch.undo()


async def test_what_is_abandoned_is_cancelled() -> None:
    """The backend learns that nobody waits; the connection stays."""
    with Http2Backend() as backend:
        backend.next(lambda stream: None)
        async with connected(backend) as one:
            trip = begin(one)
            (stream,) = backend.wait_for_requests()
            trip.close()
            trip.close()
            await until(lambda: stream.reset_code == ErrorCodes.CANCEL, "the backend to hear of it")
            assert (one.busy, one.closed) == (0, False)


async def test_an_early_answer_leaves_the_request_unfinished() -> None:
    """It is passed on; the backend is told that no more comes."""
    with Http2Backend() as backend:
        backend.next(lambda stream: stream.respond(b"no", 413))
        async with connected(backend) as one:
            trip = begin(one, b"POST", whole=None)
            await push(trip, b"x" * 1000)
            head = await head_of(trip, b"POST")
            assert await whole(trip.body(head, Limits().chunked_decoder)) == b"no"
            trip.release(head, fit=False)
            await until(lambda: backend.requests[0].reset_code == ErrorCodes.NO_ERROR, "the backend to hear of it")
            with pytest.raises(OSError, match="nothing more"):
                trip.push(b"x")


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        (in_order(lambda stream: stream.respond(b"no", 413), lambda stream: stream.reset(ErrorCodes.NO_ERROR)), "413"),
        (lambda stream: stream.reset(ErrorCodes.REFUSED_STREAM), "stream_refused"),
    ],
)
async def test_an_answer_before_the_end_of_a_kept_body_is_the_answer(step: Step, outcome: str) -> None:
    """What does not fit the backend's window any more is not missed: no fault of the connection's."""
    with Http2Backend() as backend:
        backend.reading = False
        backend.next(step)
        async with connected(backend) as one:
            trip = one.trip()
            rest = trip.start(b"POST", b"/", list(FIELDS), 300_000, b"x" * 300_000)
            assert rest is not None
            await push_on(trip, rest, 10.0)
            try:
                found = str((await head_of(trip, b"POST")).status)
            except Fault as fault:
                found = fault.kind
            assert found == outcome
            trip.close()
            assert await answer_beside(one) == 200


async def test_a_fault_interrupts_whoever_waits() -> None:
    """For the head, for the body, for room."""
    loop = asyncio.get_running_loop()
    with Http2Backend() as backend:
        backend.reading = False
        backend.each(lambda stream: stream.head() if stream.path == "/body" else None)
        async with connected(backend) as one:
            head, body, room = begin(one), begin(one, target=b"/body"), begin(one, b"POST", whole=None)
            reader = body.body(await head_of(body), Limits().chunked_decoder)
            room.push(b"x" * 1_000_000)
            for trip, wait in ((head, head_of(head)), (body, reader.read(soon())), (room, room.writable(soon()))):
                loop.call_later(0.01, trip.interrupt, Fault("client_cancelled"))
                with pytest.raises(Fault) as raised:
                    await wait
                assert raised.value.kind == "client_cancelled"


async def test_a_response_that_does_not_come_is_a_timeout_and_casts_doubt_on_a_silent_connection() -> None:
    """No new stream goes where nothing was heard since the last began."""
    with Http2Backend() as backend:
        backend.next(echo, lambda stream: None)
        async with connected(backend) as one:
            assert await answer_beside(one) == 200
            one.trips[1].close()
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
