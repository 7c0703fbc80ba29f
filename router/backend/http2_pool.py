"""The HTTP/2 connections to backends, shared by all requests to the same endpoint.

Promise: `join` gives a stream of a connection that was dialled and verified for this very address and name, on one that is there
if it has room; else the request waits, with its own deadline, for the dial under way, and dials are only as many as the waiting
need. None from it: the backend speaks HTTP/1.1. A connection without streams is kept like any idle one, by the same bounds and
for the same time. Nobody waits for a dial that is over; a fault of it is each waiter's own.
Refuses to know: what a stream carries, who may reach whom.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Final

from authz.deny import DenyLists
from registry.endpoint import Endpoint
from router.backend.dial import Dialer, chose_http1
from router.backend.http1 import Http1Upstream, Key, key_of
from router.backend.http2 import Http2Connection, Keeper, NotHttp2
from router.backend.http2_round_trip import Http2RoundTrip
from router.backend.pool import IdlePool
from router.faults import Fault
from router.wire.http2_limits import STREAMS, Http2Limits

HTTP1_SECONDS: Final = 60.0
"""For which a backend that spoke HTTP/1.1 is spoken to in it; then it is asked again, for an app may have been replaced."""
PLACES: Final = 10_000
"""Endpoints that are remembered; then those with nothing to remember are forgotten."""


class Place:
    """What is known of one endpoint: its connections, oldest first, and who waits for one."""

    __slots__ = ("connections", "dials", "expected", "how", "http1_until", "waiting")

    def __init__(self, endpoint: Endpoint, dialer: Dialer) -> None:
        self.how = endpoint, dialer
        self.connections: list[Http2Connection] = []
        self.waiting: deque[asyncio.Future[Http2RoundTrip | None]] = deque()
        self.dials = 0
        self.expected = STREAMS  # how many of the waiting a dial is likely to help
        self.http1_until = 0.0


class Http2Pool:
    """All HTTP/2 backend connections. `idle` keeps those of backends that chose HTTP/1.1, and says how many may be idle."""

    def __init__(self, idle: IdlePool, limits: Http2Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.idle = idle
        self.limits = limits
        self._loop = loop
        self._most = max(1, idle.per_endpoint)
        self._places: dict[Key, Place] = {}
        self._resting: set[Http2Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def resting(self) -> int:
        """Connections without a stream."""
        return len(self._resting)

    def take(self, endpoint: Endpoint, deny: DenyLists) -> Http2RoundTrip | None:
        """A stream of a connection that is there and has room."""
        place = self._places.get(key_of(endpoint))
        if place is None:
            return None
        for connection in tuple(place.connections):
            if not connection.free:
                continue
            upstream = connection.upstream
            if upstream.passed is deny or upstream.passes(deny):
                return self._trip(connection)
            connection.retire()
        return None

    def speaks_only_http1(self, endpoint: Endpoint) -> bool:
        """Did it say so lately?"""
        place = self._places.get(key_of(endpoint))
        return place is not None and place.http1_until > self._loop.time()

    async def join(self, endpoint: Endpoint, dialer: Dialer, until: float) -> Http2RoundTrip | None:
        """A stream as soon as there is room; None where it is to be HTTP/1.1. Raises Fault."""
        place = self._place(endpoint, dialer)
        future: asyncio.Future[Http2RoundTrip | None] = self._loop.create_future()
        place.waiting.append(future)
        self._dial_more(place)
        try:
            async with asyncio.timeout_at(until):
                return await future
        except TimeoutError:
            self._unwait(place, future)
            raise Fault("endpoint_timeout", "waiting for a stream") from None
        except BaseException:
            self._unwait(place, future)
            raise

    def sweep(self, unwanted: Callable[[Http1Upstream], bool]) -> None:
        """No connection that is unwanted takes another stream."""
        for place in list(self._places.values()):
            for connection in [one for one in place.connections if unwanted(one.upstream)]:
                connection.retire()

    def close(self) -> None:
        """No connection takes another stream; those without are closed."""
        self._closed = True
        self.sweep(lambda _: True)

    # ---- what the connections say

    def freed(self, connection: Http2Connection) -> None:
        place = self._places[key_of(connection.upstream.endpoint)]
        while connection.free and place.waiting:
            future = place.waiting.popleft()
            if not future.done():
                future.set_result(self._trip(connection))
        if connection.busy:
            return
        if not connection.accepts or len(self._resting) >= self.idle.total or not self.idle.per_endpoint:
            connection.close()
        elif connection not in self._resting:
            self._resting.add(connection)
            connection.stream.wheel.arm(connection.rest, self._loop.time() + self.idle.idle_seconds)

    def ended(self, connection: Http2Connection) -> None:
        self._resting.discard(connection)
        place = self._places.get(key_of(connection.upstream.endpoint))
        if place is not None and connection in place.connections:
            place.connections.remove(connection)
            self._dial_more(place)

    def speaks_http1(self, connection: Http2Connection) -> None:
        self._places[key_of(connection.upstream.endpoint)].http1_until = self._loop.time() + HTTP1_SECONDS
        connection.retire()

    # ---- giving out

    def _trip(self, connection: Http2Connection) -> Http2RoundTrip:
        if connection in self._resting:
            self._resting.discard(connection)
            connection.stream.wheel.forget(connection.rest)
        trip = Http2RoundTrip(connection)
        if not self.idle.per_endpoint:
            connection.retired = True  # one request a connection
        return trip

    def _unwait(self, place: Place, future: asyncio.Future[Http2RoundTrip | None]) -> None:
        """Whoever waited has left; what it was given in the same moment is given back."""
        if future in place.waiting:
            place.waiting.remove(future)
        if future.done() and not future.cancelled() and future.exception() is None and (trip := future.result()) is not None:
            trip.close()

    def _place(self, endpoint: Endpoint, dialer: Dialer) -> Place:
        key = key_of(endpoint)
        place = self._places.get(key)
        if place is None:
            if len(self._places) >= PLACES:
                self._forget_empty()
            place = self._places[key] = Place(endpoint, dialer)
        place.how = endpoint, dialer
        return place

    def _forget_empty(self) -> None:
        now = self._loop.time()
        self._places = {
            key: place
            for key, place in self._places.items()
            if place.connections or place.waiting or place.dials or place.http1_until > now
        }

    # ---- dialling

    def _dial_more(self, place: Place) -> None:
        alive = sum(connection.accepts for connection in place.connections)
        while len(place.waiting) > place.dials * place.expected and alive + place.dials < self._most:
            place.dials += 1
            task = self._loop.create_task(self._dial(place, *place.how))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _dial(self, place: Place, endpoint: Endpoint, dialer: Dialer) -> None:
        """One more connection, in a task that no client's leaving ends."""
        try:
            connection = await self._connect(endpoint, dialer)
        except Fault as fault:
            place.dials -= 1
            self._fail(place, fault)
            return
        except BaseException:
            place.dials -= 1
            self._fail(place, Fault("unknown_failure"))
            raise
        place.dials -= 1
        if connection is None:
            place.http1_until = self._loop.time() + HTTP1_SECONDS
            for future in _drained(place.waiting):
                future.set_result(None)
        else:
            self._keep(place, connection)

    def _keep(self, place: Place, connection: Http2Connection) -> None:
        if not connection.free:  # nor would the next one be
            self._fail(place, Fault("stream_refused", "no streams allowed"))
            connection.close()
            return
        place.connections.append(connection)
        place.expected = connection.streams
        self.freed(connection)
        if self._closed:
            connection.retire()
        self._dial_more(place)

    async def _connect(self, endpoint: Endpoint, dialer: Dialer) -> Http2Connection | None:
        """None where it is to be HTTP/1.1. Raises Fault."""
        opened = await open_http2(endpoint, dialer, self.limits, keeper=self)
        if isinstance(opened, Http1Upstream):
            opened.home = self.idle
            self.idle.give(opened)
            return None
        return opened

    def _fail(self, place: Place, fault: Fault) -> None:
        for future in _drained(place.waiting):
            future.set_exception(Fault(fault.kind, fault.detail))


def _drained(waiting: deque[asyncio.Future[Http2RoundTrip | None]]) -> list[asyncio.Future[Http2RoundTrip | None]]:
    """All who still wait; nobody waits there any more."""
    found = [future for future in waiting if not future.done()]
    waiting.clear()
    return found


async def open_http2(
    endpoint: Endpoint, dialer: Dialer, limits: Http2Limits, by: float = math.inf, keeper: Keeper | None = None
) -> Http2Connection | Http1Upstream | None:
    """A connection whose backend has said that it speaks HTTP/2; as it was dialled where a TLS backend chose HTTP/1.1; None where
    another has shown that it speaks something else, and is closed. Raises Fault.
    """
    upstream = await dialer.dial_http2(endpoint, by)
    if chose_http1(upstream):
        return upstream
    connection = Http2Connection(upstream, limits, keeper)
    try:
        await connection.settle(min(by, upstream.stream.loop.time() + dialer.handshake_timeout))
    except NotHttp2 as error:
        if endpoint.tls:
            raise Fault("response_malformed", f"chose h2 and {error}") from error
        return None
    return connection
