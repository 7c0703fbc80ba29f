"""Settled HTTP/2 connections and requests on them, for the tests of this folder."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from router.backend.http2 import Http2Connection
from router.backend.http2_pool import open_http2
from router.backend.http2_round_trip import Http2RoundTrip
from router.limits import Limits
from router.net.body import BodyReader
from router.wire.http1 import CHUNKED, Fields, HeadLimits, ResponseHead
from router.wire.http2_limits import Http2Limits
from tests.router.backend.parts import endpoint
from tests.router.backend.test_dial import dialer
from tests.router.net.pairs import soon
from tests.support.backend import EchoBackend

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
    trip = Http2RoundTrip(connection)
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


async def push_on(trip: Http2RoundTrip, rest: memoryview | None, seconds: float) -> None:
    """All of it, as long as something is taken every so many seconds."""
    while rest is not None:
        await trip.writable(asyncio.get_running_loop().time() + seconds)
        rest = trip.push(rest)


async def answer_beside(one: Http2Connection) -> int:
    """The status of another request on the connection."""
    return (await answer(begin(one)))[0]
