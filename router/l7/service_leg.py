"""The first leg: a request whose route has a route service goes there first, sealed; the service's answer is the client's.

Promises: whoever may not call the route is refused before the service hears of the request; the service is asked with the method,
body and fields of the client, and with three headers that send it back; each attempt asks the doors again. The service's
answer sets no cookie of ours. Refuses to know what a service does, and the way back (returning.py).
Source: GoRouter's route services.
"""

from __future__ import annotations

import os
import time
from typing import Final

from registry.endpoint import Endpoint
from router.backend.http1 import Http1Upstream
from router.backend.retry import may_resend
from router.backend.round_trip import RoundTrip
from router.faults import Fault
from router.l7.attempt import Attempt
from router.l7.doors import Refused, admit, check_scope, refuse
from router.l7.hygiene import vcap_trace
from router.l7.route_service import Origin, ServiceUrl, forwarded_url, leg_fields
from router.l7.route_service_seal import NONCE_BYTES
from router.l7.route_services import RouteServices, blocks, endpoint_of
from router.l7.state import Exchange, Permit
from router.wire.http1 import Fields, ResponseHead

_NOT_FOR_SERVICES: Final = (b"host", b"X-CF-InstanceID")


async def ask_service(exchange: Exchange, permit: Permit) -> Permit | None:
    """None when the client has its answer; a permit where the route has no service any more. Raises Fault, Refused."""
    attempts = 0
    while permit.service is not None:
        services = exchange.snapshot.route_services
        assert services is not None  # whoever gave the permit saw to it
        check_scope(exchange, permit)
        attempts += 1
        attempt = ServiceAttempt(exchange, permit, permit.service, services)
        try:
            trip = await attempt.connect()
            if not trip.reused and not _still_asked(exchange, attempt):
                if attempts >= services.max_attempts or exchange.too_late:
                    refuse(exchange, "no_endpoints")
                permit = attempt.permit
                continue
            await attempt.run()
        except Fault as caught:
            fault = exchange.as_it_matters(caught)
            stale = attempt.is_stale(fault)
            _note(exchange, fault, attempt)
            attempts -= stale
            if stale:
                services.idle.drop(attempt.endpoint)
            if not may_resend(fault, exchange.head, attempt.sent()) or exchange.too_late or attempts >= services.max_attempts:
                exchange.router.metrics.count_route_service(None)
                raise fault from None
            permit = admit(exchange, fault)
        else:
            return None
    return permit


def _still_asked(exchange: Exchange, attempt: ServiceAttempt) -> bool:
    """After a dial, which may have taken seconds: does the permit stand, and name this service? If not, ask again (Refused where
    the answer is no now); False where another is to be asked, or this one otherwise: then `attempt` is over.
    """
    live, before, service = exchange.router.live, exchange.snapshot, attempt.permit.service
    route = live.table.lookup(exchange.target.host, exchange.target.path)
    if live.snapshot is before and route is not None and before.admitted(route) is attempt.permit.route:
        return True
    try:
        permit = attempt.permit = admit(exchange)
        check_scope(exchange, permit)
    except Refused:
        attempt.close()
        raise
    if permit.service == service and exchange.snapshot.route_services is attempt.services:
        return True
    attempt.close()
    return False


def _note(exchange: Exchange, fault: Fault, attempt: ServiceAttempt) -> None:
    """Log a failed attempt."""
    record, router = exchange.record, exchange.router
    record.failed_attempts += 1
    record.failed_attempts_time = max(record.failed_attempts_time, 0.0) + time.perf_counter() - attempt.clock
    if fault.side != "downstream":
        router.log.sparse(
            "route-service-connection-failed", error=fault.kind, detail=fault.detail, address=attempt.endpoint.address,
            route=exchange.target.host, attempt=record.failed_attempts, vcap_request_id=exchange.ids.vcap,
        )  # fmt: skip


class ServiceAttempt(Attempt):
    """One attempt at a route service."""

    __slots__ = ("services", "url")

    def __init__(self, exchange: Exchange, permit: Permit, url: ServiceUrl, services: RouteServices) -> None:
        endpoint: Endpoint = endpoint_of(url)
        super().__init__(exchange, permit, endpoint)
        self.placed = False  # a service has no places
        self.url = url
        self.services = services
        exchange.describe_endpoint(endpoint)

    async def connect(self) -> RoundTrip:
        """Inside the process where the service is a route here and the operator wants that; else pooled, or new. Raises Fault."""
        services, url, router = self.services, self.url, self.exchange.router
        why = blocks(services.blocked, url)
        if why:
            raise Fault("egress_denied", why)
        if services.stays_inside(url.host) and router.live.table.lookup(url.host, url.path) is not None:
            inside = self.trip = Http1Upstream(router.connect_inside(), self.endpoint)
            return inside
        return self.take_from(services.idle, services.blocked) or await self._dial()

    async def _dial(self) -> Http1Upstream:
        try:
            trip = await self.services.dialer.dial(self.endpoint, self.until)
        except Fault as fault:
            raise Fault("egress_denied", fault.detail) if fault.kind == "dial_denied" else fault from None
        self.reached(trip)
        trip.home = self.services.idle
        return trip

    def _prepare(self, fields: Fields) -> bytes:
        super()._prepare(fields)
        exchange, services, url = self.exchange, self.services, self.url
        fields[:] = [(b"Host", url.authority), *(field for field in fields if field[0] not in _NOT_FOR_SERVICES)]
        party, told = exchange.party, dict(fields)
        origin = Origin(
            leaf=party.client.der if party.client is not None else b"",
            domain=party.binding.domain if party.binding is not None else None,
            client_policy=party.binding.client_policy if party.binding is not None else "",
            address=party.facts.peer.decode("ascii"),
            forwarded_for=told.get(b"X-Forwarded-For", b"").decode("latin-1"),
            proto=told.get(b"X-Forwarded-Proto", b"").decode("latin-1"),
        )
        back = forwarded_url(services.scheme, exchange.target)
        fields += leg_fields(back, origin, services.seal, time.time(), os.urandom(NONCE_BYTES))
        return url.target

    def _ours(self, response: ResponseHead) -> Fields:
        exchange = self.exchange
        ours = vcap_trace(exchange.router.local_address, self.endpoint.address.encode()) if exchange.ids.traced else []
        return ours + exchange.warnings() if b";" in exchange.head.target else ours

    def _count(self, response: ResponseHead) -> None:
        self.exchange.router.metrics.count_route_service(response.status)
