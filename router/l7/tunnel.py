"""A connection after its 101: bytes both ways until somebody ends it, under the policy of the day.

Promise: what let the request in keeps being asked: CHECK_SECONDS and a tick of the wheel after a reload, a registration, the
end of the certificate or its revocation would deny this caller this route, the connection is cut, logged and counted. An
endpoint that is no longer registered is no denial (it may be shutting down), one that is on a deny list now is. The access
record at the end has the bytes both ways. Refuses to know the protocol.
"""

from __future__ import annotations

import time
from itertools import count
from typing import Final

from authz.decide import decide, deny_scope
from authz.decision import Allow, Check, Decision, Deny
from authz.deny import denied_request
from authz.policy import NO_POLICY
from registry.balance import in_scope
from registry.endpoint import Endpoint, Route
from registry.sieve import barred
from router.backend.http1 import Http1Upstream
from router.l7.denial import log_denial
from router.l7.state import Exchange
from router.net.deadline import Timed
from router.net.relay import Relay

CHECK_SECONDS: Final = 2.0
"""How often an upgraded connection is judged again. Where nothing changed that costs two comparisons."""

_PHASES: Final = 8
_turn: Final = count()


class Tunnel(Timed):
    """One upgraded connection; the wheel wakes it for its checks."""

    __slots__ = ("_exchange", "_relay", "_route", "_seen", "_upstream")

    def __init__(self, exchange: Exchange, upstream: Http1Upstream, route: Route) -> None:
        """`route`: what let the request in."""
        super().__init__()
        limits = exchange.snapshot.limits
        self._exchange = exchange
        self._upstream = upstream
        self._route = route  # as it was when it last had endpoints
        self._relay = Relay(exchange.conn, upstream, limits.upgrade_idle_deadline, limits.client_write_stall)
        self._seen: tuple[object, object] | None = None

    async def run(self) -> None:
        """Until the connection is over; both sides are closed then, and the record has its bytes."""
        exchange, relay = self._exchange, self._relay
        router, record, wheel = exchange.router, exchange.record, exchange.conn.stream.wheel
        router.relays.add(relay)
        # The first checks are spread, so that connections that came together are not judged in one turn of the wheel.
        wheel.arm(self, router.loop.time() + CHECK_SECONDS * (next(_turn) % _PHASES + 1) / _PHASES)
        try:
            await relay.run()
        finally:
            wheel.forget(self)
            router.relays.discard(relay)
            record.bytes_in += relay.from_client
            record.bytes_out += relay.from_backend
            if relay.ending in ("idle", "stalled", "drained"):
                router.metrics.websocket_terminated.labels(relay.ending).inc()

    def expire(self) -> None:
        """A check is due."""
        exchange, now = self._exchange, time.time()
        live, binding = exchange.router.live, exchange.party.binding
        seen = (live.snapshot, live.table)
        expired = binding is not None and binding.not_after is not None and binding.not_after < now
        if expired or self._seen is None or any(is_now is not was for is_now, was in zip(seen, self._seen, strict=True)):
            route = live.table.lookup(self._route.host, self._route.path or "/")
            if route is not None and route.key == self._route.key and route.pool.endpoints:
                self._route = route  # and not one that takes its requests now: that is another app's word
            decision = judge_today(exchange, self._upstream, self._route, now)
            if isinstance(decision, Deny):
                self._cut(decision)
                return
            self._seen = seen
        exchange.conn.stream.wheel.arm(self, exchange.router.loop.time() + CHECK_SECONDS)

    def _cut(self, denied: Deny) -> None:
        exchange, record = self._exchange, self._exchange.record
        exchange.decision = denied
        record.mtls_auth, record.mtls_rule, record.mtls_denied_reason = denied.log_fields()
        record.router_error = denied.code
        log_denial(exchange, denied, "upgrade-cut")
        exchange.router.metrics.websocket_terminated.labels(denied.label).inc()
        self._relay.end("denied")


def judge_today(exchange: Exchange, upstream: Http1Upstream, route: Route, now_epoch: float) -> Decision:
    """Both doors again, for a connection that is through them; where nobody is registered any more, by the last policy of the
    route: who left takes no word back, but neither does that lift a denial of the operator's.
    """
    snapshot, conn, host = exchange.router.live.snapshot, exchange.party, exchange.target.host
    conn.under(snapshot)
    domain = snapshot.domains.claim(host)
    bound = conn.check_today(snapshot, domain, now_epoch)
    if not bound.passed:
        return decide(bound, domain, None, NO_POLICY)
    caller = conn.caller_for(domain)
    lists = snapshot.deny
    if not lists.empty:
        hit = denied_request(lists, host, domain, caller) or barred(lists, upstream.endpoint) or _denied_peer(exchange, upstream)
        if hit is not None:
            return decide(bound, domain, caller, NO_POLICY, denied=hit)
    decision = decide(bound, domain, caller, route.pool.policy)
    if not isinstance(decision, Allow) or not decision.scopes:
        return decision
    endpoint = _today(route, upstream.endpoint)
    return decision if in_scope(endpoint, decision.scopes, decision.caller) else deny_scope(decision)


def _denied_peer(exchange: Exchange, upstream: Http1Upstream) -> Check | None:
    """Who was really reached, on today's lists; one that is gone needs no denial."""
    try:
        return upstream.denied(exchange.router.live.snapshot.deny)
    except OSError:
        return None


def _today(route: Route, dialled: Endpoint) -> Endpoint:
    """The endpoint as it is registered now, itself where it is not."""
    for endpoint in route.pool.endpoints:
        if (endpoint.address, endpoint.instance_id) == (dialled.address, dialled.instance_id):
            return endpoint
    return dialled
