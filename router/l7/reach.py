"""How a request gets a connection: one that idles, a stream of one that is shared, or a new one.

Promise: `trip` is a connection that was alive as far as can be known and whose peer today's deny lists do not name. The record
says from where and in what time it was reached; `waited` tells that the world may have changed meanwhile. Refuses to know what
is sent over it (attempt.py), and whether the request may still go (exchange.py).
"""

from __future__ import annotations

from typing import Final

from authz.deny import DenyLists
from registry.endpoint import Endpoint
from router.backend.http1 import Http1Upstream
from router.backend.http2_pool import Http2Pool
from router.backend.pool import IdlePool
from router.backend.round_trip import RoundTrip
from router.faults import Fault
from router.l7.announcement import announcing
from router.l7.state import Exchange

_LATE: Final = frozenset({"dial_timeout", "tls_handshake_timeout"})


class Reach:
    """The road of one exchange to one endpoint, which must be gone by `until` (seconds of the loop's clock)."""

    __slots__ = ("endpoint", "exchange", "trip", "until", "waited")

    def __init__(self, exchange: Exchange, endpoint: Endpoint, until: float) -> None:
        self.exchange = exchange
        self.endpoint = endpoint
        self.until = until
        self.trip: RoundTrip | None = None
        self.waited = False  # did connecting take its time?

    def take(self) -> bool:
        """Is there a pooled connection for an endpoint of HTTP/1.1? Then it is taken; else `connect` says more."""
        return self.endpoint.protocol != "http2" and self._take_idle() is not None

    async def connect(self) -> RoundTrip:
        """A pooled connection that is still alive as far as can be known, else a new one. Raises Fault."""
        exchange, endpoint = self.exchange, self.endpoint
        snapshot = exchange.snapshot
        if endpoint.protocol == "http2" and exchange.upgrade is None and snapshot.http2 is not None:
            trip = await self._join(snapshot.http2)
            if trip is not None:
                return trip
        return self._take_idle() or await self._dial()

    def _take_idle(self) -> Http1Upstream | None:
        snapshot = self.exchange.snapshot
        # What begins with the name of one client is never another's, so it is not kept at all.
        return None if self.endpoint.send_proxy else self.take_from(snapshot.idle, snapshot.deny)

    def take_from(self, pool: IdlePool, lists: DenyLists) -> Http1Upstream | None:
        """An idle connection of `pool` that is still alive as far as can be known, and whose peer is on none of `lists`."""
        while (upstream := pool.take(self.endpoint)) is not None:
            # An idle backend has nothing to say: what it said all the same would pass for the answer to this request.
            if upstream.stream.quiet() and (upstream.passed is lists or upstream.passes(lists)):
                self.exchange.record.local_address = upstream.local_address
                self.trip = upstream
                return upstream
            upstream.close()
        return None

    def reached(self, upstream: RoundTrip) -> None:
        """A new connection: what the record says of it."""
        self.trip, record = upstream, self.exchange.record
        record.local_address = upstream.local_address
        record.dns_time, record.dial_time, record.tls_time = upstream.dns_time, upstream.dial_time, upstream.tls_time

    async def _dial(self) -> Http1Upstream:
        exchange, endpoint = self.exchange, self.endpoint
        snapshot = exchange.snapshot
        self.waited = True
        within = None if exchange.upgrade is None else snapshot.limits.upgrade_dial_deadline
        try:
            if endpoint.send_proxy:
                announce = announcing(exchange.party, endpoint.send_proxy)
                upstream = await snapshot.dialer.dial_for(announce, endpoint, self.until, within)
            else:
                upstream = await snapshot.dialer.dial(endpoint, self.until, within)
        except Fault as fault:
            if fault.kind in _LATE and exchange.router.loop.time() >= self.until:
                raise Fault("endpoint_timeout", "dialling") from fault
            raise
        self.reached(upstream)
        upstream.home = snapshot.idle if not endpoint.send_proxy else None
        exchange.router.metrics.backend_dial_seconds.observe(upstream.dial_time)
        return upstream

    async def _join(self, pool: Http2Pool) -> RoundTrip | None:
        """A stream of an HTTP/2 connection; None where the backend is to be spoken to in HTTP/1.1. Raises Fault."""
        exchange, endpoint = self.exchange, self.endpoint
        if pool.speaks_only_http1(endpoint):
            return None
        snapshot = exchange.snapshot
        trip = pool.take(endpoint, snapshot.deny)
        if trip is None:
            self.waited = True
            trip = await pool.join(endpoint, snapshot.dialer, self.until)
            if trip is None:
                return None
            if not trip.passes(snapshot.deny):  # the dial may have begun under other lists
                trip.close()
                raise Fault("dial_denied", "after the dial")
        if self.waited and not trip.reused:
            self.reached(trip)
            exchange.router.metrics.backend_dial_seconds.observe(trip.dial_time)
        else:
            self.trip, exchange.record.local_address = trip, trip.local_address
        return trip

    def close(self) -> None:
        """End an attempt of which no byte was sent."""
        if self.trip is not None:
            self.trip.close()
