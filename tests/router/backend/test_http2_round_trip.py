"""router/backend/http2_round_trip.py: one stream of a connection to a real backend, on both event loops."""

import asyncio

import pytest
from h2.errors import ErrorCodes

from router.backend.http2 import OUT_BYTES
from router.backend.http2_round_trip import INTERIM, Http2RoundTrip
from router.faults import Fault
from router.limits import Limits
from router.net.body import BodyMalformed, BodyTruncated
from router.wire.hpack_encoder import encode_fields
from router.wire.http1 import CHUNKED, Fields, HeadLimits
from router.wire.http2_frames import head_frames
from tests.router.backend.http2_parts import (
    FIELDS,
    LIMITS,
    answer,
    answer_beside,
    begin,
    connected,
    head_of,
    push,
    push_on,
    whole,
)
from tests.router.net.pairs import soon
from tests.support.http2_backend import Http2Backend, Step, Stream, in_order
from tests.support.waiting import until


async def test_a_request_goes_with_its_body_and_trailers() -> None:
    """The whole of it, in pieces, in fields that belong to HTTP/2."""
    with Http2Backend() as backend:
        async with connected(backend) as one:
            trip = Http2RoundTrip(one)
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
            trip = Http2RoundTrip(one)
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
