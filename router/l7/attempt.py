"""One attempt at one endpoint: send the request, relay the response.

Promise: `Attempt.run` returns when the client has the whole response, or raises a `Fault` that says how it ended; whatever
happens, the backend connection is back in the pool only if both messages were complete, and closed otherwise. The request
body has a task of its own where it streams, so that a response may begin, and even end, before it. Memory: one receive's
worth of each body. Refuses to know: whether another attempt follows (`sent` tells the resend rule how far this one got).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from registry.endpoint import Endpoint
from router.backend.http1 import Http1Upstream
from router.backend.retry import Sent
from router.backend.round_trip import RoundTrip
from router.faults import Fault, Kind
from router.l7.header_policy import KEEP, Verdicts
from router.l7.hygiene import request_fields, response_fields, vcap_trace
from router.l7.reach import Reach
from router.l7.state import Exchange, Permit
from router.l7.sticky import sticky_cookies
from router.l7.target import trimmed
from router.l7.tunnel import Tunnel
from router.l7.upgrade import switched_fields
from router.net.body import BodyMalformed, BodyReader, BodyTruncated
from router.wire.http1 import CHUNKED, Fields, ResponseHead

_LOOK_SECONDS: Final = 1.0
"""How often a client is looked after whose body the backend is slow to read."""

_STALE: Final = frozenset({"connection_closed", "connection_reset"})


class Attempt(Reach):
    """Takes the `Permit`: nothing is forwarded without one; and the place at its endpoint, which `give_place` gives back."""

    __slots__ = ("bytes_left", "clock", "permit", "placed", "pump", "taken")

    def __init__(self, exchange: Exchange, permit: Permit, endpoint: Endpoint) -> None:
        limits, own = exchange.snapshot.limits, permit.route.pool.limits
        over_http2 = exchange.writer.proto == b"HTTP/2.0"
        seconds = limits.http2_endpoint_deadline if over_http2 else limits.endpoint_deadline
        super().__init__(exchange, endpoint, exchange.started + (seconds if own is None else min(seconds, own.seconds)))
        self.permit = permit
        self.placed = True  # does it still hold the endpoint's place that came with the choice?
        self.clock = time.perf_counter()
        self.pump: asyncio.Task[None] | None = None
        self.bytes_left = False
        self.taken = False  # has the backend been sent the whole request?

    def sent(self) -> Sent:
        """How far this attempt got."""
        trip, kept = self.trip, self.exchange.whole is not None
        if trip is None:
            return Sent(self.bytes_left, False, False, kept)
        return Sent(self.bytes_left, trip.reused, trip.response_began, kept)

    async def run(self) -> None:
        """Raises Fault."""
        exchange, trip = self.exchange, self.trip
        if trip is None:
            trip = await self.connect()
        try:
            rest = self._start(trip)
            if rest is not None:
                await self._send_rest(trip, rest)
            self.taken = exchange.whole is not None
            if self.taken:
                exchange.writer.watch(self._client_left)
            else:
                self.pump = exchange.router.loop.create_task(self._send_body(trip))
            response = await trip.read_head(self.until, exchange.head.method, exchange.snapshot.response_limits)
            if response.status < 200:
                response = await self._await_final(trip, response)
            self.give_place()
            if response.status == 101:
                await self._switch(trip, response)
            else:
                body = self._begin(trip, response)
                whole = body.buffered() if trip.broken is None else None
                if whole is None:
                    await self._relay(trip, body)
                else:
                    exchange.record.bytes_out += len(whole)
                    exchange.answering = True
                    await exchange.writer.finish(whole, [])
                self._end(trip, response)
        except BaseException:
            trip.close()
            raise
        finally:
            exchange.writer.watch(None)
            if self.pump is not None:
                await self._stop_pump(self.pump)
        self._count(response)

    def give_place(self) -> None:
        """The endpoint may be chosen for another request instead; safe twice. Until the response's head is in it is taken: the
        least busy is not the one that nobody gets through to.
        """
        if self.placed:
            self.placed = False
            self.endpoint.pulse.leave()

    def _count(self, response: ResponseHead) -> None:
        self.exchange.router.metrics.total_requests.labels(self.exchange.component).value += 1

    def is_stale(self, fault: Fault) -> bool:
        """Did a pooled connection turn out to have ended while it was idle?"""
        sent = self.sent()
        return fault.kind in _STALE and sent.reused and not sent.response_began

    # ---- the request

    def _start(self, trip: RoundTrip) -> memoryview | None:
        """Send the head, with the body where it is here as a whole; a longer one goes its own way beside the response. What was
        not taken at once, None where that is nothing, is for `_send_rest`.
        """
        exchange = self.exchange
        head = exchange.head
        fields: Fields = []
        target = self._prepare(fields)
        try:
            rest = trip.start(head.method, target, fields, head.body, exchange.whole)
        except OSError as error:
            raise self._unsent(trip, error) from error
        self.bytes_left = True
        return rest

    async def _send_rest(self, trip: RoundTrip, rest: memoryview | None) -> None:
        exchange = self.exchange
        if exchange.whole is not None:
            exchange.writer.watch(self._client_left)  # who has left does not wait for a backend that reads nothing
        try:
            while rest is not None:
                await trip.writable(self.until)
                rest = trip.push(rest)
        except OSError as error:
            raise self._unsent(trip, error) from error

    def _unsent(self, trip: RoundTrip, error: OSError) -> Fault:
        if isinstance(error, TimeoutError):
            return Fault("endpoint_timeout", "sending")
        return Fault(trip.why_reset(error), str(error))

    def _prepare(self, fields: Fields) -> bytes:
        """The request as the endpoint may see it: its fields into `fields`, and its target."""
        exchange = self.exchange
        head, party, snapshot = exchange.head, exchange.party, exchange.snapshot
        mode, xfcc = party.shown(*snapshot.xfcc_for(self.permit.domain))
        start = b"%d" % (exchange.record.started_at * 1000)
        fields += request_fields(head, party.facts, snapshot.headers, mode, xfcc, exchange.ids, self.endpoint, start)
        fields += exchange.passed_on
        if party.facts.trusted:
            exchange.describe_forwarded(fields)
        if head.expect_continue and exchange.whole is None:
            fields.append((b"Expect", b"100-continue"))
        if exchange.upgrade is not None:
            fields += exchange.upgrade.request_fields()
        elif snapshot.idle.per_endpoint <= 0:
            fields.append((b"Connection", b"close"))
        own = self.permit.route.pool.limits
        return exchange.target.raw if own is None or not own.trims else self._trim(fields)

    def _trim(self, fields: Fields) -> bytes:
        """The target as this endpoint asked for it; what was removed is told as other proxies tell it."""
        target, route, own = self.exchange.target, self.permit.route, self.endpoint.options.wishes.limits
        if own is None or not own.trims or not route.path:
            return target.raw
        raw = trimmed(target, route.path)
        if raw is None:
            raise Fault("request_malformed", "ambiguous_path")
        fields.append((b"X-Forwarded-Prefix", route.pool.context_path.encode("latin-1")))
        return raw

    async def _send_body(self, trip: RoundTrip) -> None:
        """The request body, piece by piece, in a task of its own. Whatever ends it early is raised where the response is
        awaited.
        """
        try:
            if await self._pump_body(trip):
                self.exchange.writer.watch(self._client_left)
        except Fault as fault:
            self._interrupt(trip, fault)
        except TimeoutError:
            self._interrupt(trip, Fault("request_timeout", "body"))
        except BodyMalformed as error:
            self.exchange.router.metrics.malformed_requests.labels(error.reason).inc()
            self._interrupt(trip, Fault("request_malformed", error.reason))
        except (BodyTruncated, OSError):
            self._interrupt(trip, Fault("client_cancelled", "body"))

    async def _pump_body(self, trip: RoundTrip) -> bool:
        """True when the backend has all of it; False when it reads no more. Raises Fault, TimeoutError, BodyMalformed,
        BodyTruncated, OSError (the client's).
        """
        exchange = self.exchange
        body, limits = exchange.body, exchange.snapshot.limits
        most, own = limits.request_body_bytes, self.permit.route.pool.limits
        if own is not None:
            most = min(most, own.body_bytes)
        ended = body.done
        while not ended:
            data = await self._read_request(body, limits.client_read_stall)
            if body.received > most:
                raise Fault("request_body_too_large")
            ended = body.done
            trailers = _passed(body.trailers, exchange.snapshot.headers.request) if ended else []
            piece = trip.frame(data, last=ended, trailers=trailers)
            if piece is not None and not await self._send_piece(trip, piece):
                return False
        self.taken = True
        return True

    async def _read_request(self, body: BodyReader, stall: float) -> bytes:
        """The next piece of the request's body, which is due within `stall` seconds. Where the response has begun and no length
        was promised, nothing is due: it is a conversation, and may be silent for as long as the endpoint may take.
        """
        due = self.exchange.router.loop.time() + stall
        while True:
            try:
                return await body.read(due)
            except TimeoutError:
                if not self.exchange.answering or body.framing != CHUNKED or due >= self.until:
                    raise
                due = self.until

    async def _send_piece(self, trip: RoundTrip, data: bytes) -> bool:
        """False when the backend reads no more: it may still answer, so its response, or its end, is for the reading side to
        find. While it is slow to read, the client is looked after: nobody reads what it sends, so its leaving would not show.
        """
        exchange = self.exchange
        try:
            rest = trip.push(data)
            while rest is not None:
                now = exchange.router.loop.time()
                if now >= self.until:
                    raise Fault("endpoint_timeout", "sending")
                if exchange.writer.gone():
                    raise Fault("client_cancelled", "body")
                with contextlib.suppress(TimeoutError):
                    await trip.writable(min(self.until, now + _LOOK_SECONDS))
                rest = trip.push(rest)
        except OSError:
            exchange.keep = False
            return False
        return True

    def _interrupt(self, trip: RoundTrip, fault: Fault) -> None:
        """Raise `fault` in the task that waits for the response; from the body's task, so on the loop's next turn. If it waits
        for the client just then, it finds the fault when it turns to the backend again.
        """
        self.exchange.keep = False
        trip.broken = fault
        self.exchange.router.loop.call_soon(trip.interrupt, fault)

    async def _stop_pump(self, pump: asyncio.Task[None]) -> None:
        self.pump = None
        if not pump.done():
            self.exchange.keep = False
            pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pump

    def _client_left(self) -> None:
        """The client left while it waited for its response: stop asking for it."""
        if self.trip is not None:
            kind: Kind = "client_gone_while_streaming" if self.exchange.answering else "client_cancelled"
            self.trip.interrupt(Fault(kind))

    # ---- the response

    async def _await_final(self, trip: RoundTrip, response: ResponseHead) -> ResponseHead:
        """The final response's head; interim ones (1xx), `response` first, are passed on as they come."""
        exchange = self.exchange
        left = exchange.snapshot.limits.informational_responses
        while response.status < 200:
            if response.status == 101:
                why = "101 without an upgrade" if exchange.upgrade is None else exchange.upgrade.fault_of(response)
                if why is not None:
                    raise Fault("response_malformed", why)
                return response
            if left == 0:
                raise Fault("response_malformed", "too many interim responses")
            left -= 1
            fields = response_fields(response.fields, response.connection, exchange.snapshot.headers, exchange.ids)
            await exchange.writer.interim(response.status, response.reason, fields)
            response = await trip.read_head(self.until, exchange.head.method, exchange.snapshot.response_limits)
        return response

    async def _switch(self, trip: RoundTrip, response: ResponseHead) -> None:
        """Pass the verified 101 on; from then on both connections speak another protocol, and neither comes back to this one."""
        assert isinstance(trip, Http1Upstream)  # nothing else has a 101
        exchange = self.exchange
        exchange.writer.watch(None)  # whoever reads from here on reads for the backend
        exchange.keep = False
        exchange.record.status = 101
        fields = self._response_fields(response)
        fields = [field for field in fields if field[0] != b"content-length"]  # RFC 9110 section 8.6
        fields += switched_fields(response)
        exchange.answering = True
        await exchange.writer.interim(101, response.reason, fields)
        exchange.router.metrics.websocket_upgrades.inc()
        try:
            await Tunnel(exchange, trip, self.permit.route).run()
        finally:
            now = time.perf_counter()
            exchange.record.backend_time, exchange.record.app_time = now - self.clock, now - exchange.forwarded

    def _begin(self, trip: RoundTrip, response: ResponseHead) -> BodyReader:
        """Let the response begin. From here on nothing can be retried, and a failure can only end the client's connection."""
        exchange = self.exchange
        body = trip.body(response, exchange.snapshot.limits.chunked_decoder)
        keep = exchange.keep and self.taken and not exchange.conn.closing
        exchange.record.status = response.status
        fields = self._response_fields(response)
        if response.status == 204:  # RFC 9110 section 8.6: no length where there can be no content
            fields = [field for field in fields if field[0] != b"content-length"]
        exchange.keep = exchange.writer.begin(response.status, response.reason, fields, response.body, keep=keep)
        return body

    async def _relay(self, trip: RoundTrip, body: BodyReader) -> None:
        """Pass the body on as it comes."""
        exchange, writer = self.exchange, self.exchange.writer
        ended = body.done
        if ended or not trip.ready:
            exchange.answering = True
            await (writer.finish(b"", []) if ended else writer.flush())
        while not ended:
            piece = await self._read_piece(trip, body)
            exchange.record.bytes_out += len(piece)
            ended = body.done
            if ended:
                exchange.answering = True
                await writer.finish(piece, _passed(body.trailers, exchange.snapshot.headers.response))
            elif piece:
                exchange.answering = True
                await writer.write(piece)

    def _end(self, trip: RoundTrip, response: ResponseHead) -> None:
        exchange = self.exchange
        now = time.perf_counter()
        exchange.record.backend_time, exchange.record.app_time = now - self.clock, now - exchange.forwarded
        trip.release(response, fit=self.taken)

    async def _read_piece(self, trip: RoundTrip, body: BodyReader) -> bytes:
        if trip.broken is not None:
            raise trip.broken
        try:
            return await body.read(self.until)
        except TimeoutError:
            raise Fault("endpoint_timeout", "response body") from None
        except BodyMalformed as error:
            raise Fault("response_malformed", error.reason) from error
        except BodyTruncated as error:
            raise Fault("response_truncated") from error
        except OSError as error:
            raise Fault("response_truncated", str(error)) from error

    def _response_fields(self, response: ResponseHead) -> Fields:
        exchange = self.exchange
        policy, ours = exchange.snapshot.headers, self._ours(response)
        return response_fields(response.fields, response.connection, policy, exchange.ids, ours, time.time())

    def _ours(self, response: ResponseHead) -> Fields:
        """What the router adds to a response of this endpoint, whatever its status."""
        exchange, pool = self.exchange, self.permit.route.pool
        sticky = exchange.snapshot.sticky_for(pool) if pool.session_cookie else exchange.snapshot.sticky
        traced = exchange.ids.traced
        ours = vcap_trace(exchange.router.local_address, self.endpoint.address.encode()) if traced else []
        if sticky is not None and (response.sets_cookie or exchange.pin is not None or sticky.negotiate):
            path, now = pool.context_path, exchange.record.started_at
            ours += sticky_cookies(response.fields, exchange.head.fields, exchange.pin, self.endpoint, path, sticky, now)
        if b";" in exchange.head.target:
            ours += exchange.warnings()
        return ours


def _passed(trailers: Fields, verdicts: Verdicts) -> Fields:
    """The trailers that go on: a name that may not stand in the head, or is ours there, does not come after the body either."""
    return [field for field in trailers if verdicts[field[0]] == KEEP]
