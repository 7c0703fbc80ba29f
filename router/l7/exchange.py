"""THE OTHER STORY: one request and its response, from head to access record.

    target -> domain -> binding (421) -> deny lists, L7 policies (403) -> route (404) -> decide (403) -> pick -> attempt -> record
                                                            (a route with a route service: the service instead of a pick)

Promise: nothing is forwarded without an `Allow`; every attempt asks again, under the policy of its moment; every exchange
ends in exactly one access record. The backend sees no byte of a request that was refused. Refuses to know: how a decision is
made (`authz/decide.py`), what a fault means (`router/faults.py`), which fields pass (`hygiene.py`), how bytes go to a
backend and come back (`attempt.py`).
"""

from __future__ import annotations

import time
from operator import attrgetter
from typing import Final, NoReturn

from authz.decision import Check
from registry.balance import NoEndpoint, choose, in_scope, mark_failed
from registry.endpoint import Endpoint
from router.backend.retry import may_resend
from router.faults import Fault
from router.l7.attempt import Attempt
from router.l7.doors import Refused, admit, check_rate, deny_listed, refuse, refuse_malformed, soften_scope
from router.l7.grpc_refusal import as_grpc, asks_by_grpc
from router.l7.hygiene import refusal_fields
from router.l7.refusal import Refusal, failure, healthcheck
from router.l7.returning import read_seal
from router.l7.service_leg import ask_service
from router.l7.state import Exchange, Permit
from router.l7.target import resolve_target
from router.wire.malformed import Malformed

_CHOICES: Final = 8
"""So often another process may be faster before the endpoints count as full."""

_who: Final = attrgetter("address", "tls", "san", "instance_id")


async def run(exchange: Exchange) -> bool:
    """Answer the request; True when the connection may carry another."""
    try:
        exchange.describe()
        _read_target(exchange)
        exchange.keep = exchange.head.keep_alive and not exchange.router.health.draining
        if exchange.snapshot.route_services is not None:
            read_seal(exchange, exchange.snapshot)
        permit = admit(exchange)
        if permit.route.pool.bucket is not None and not exchange.returned:
            check_rate(exchange, permit)
        exchange.whole = exchange.body.buffered()
        if exchange.writer.left:  # what is reset as soon as it is asked is no backend's business
            raise Fault("client_cancelled", "before an endpoint was chosen")
        await _forward(exchange, permit)
    except Refused as refused:
        await _answer(exchange, refused.answer)
    except Fault as fault:
        fault.let_go()
        await _fail(exchange, fault)
    finally:
        exchange.finish()
    return exchange.keep and exchange.body.done and not exchange.conn.closing


def _read_target(exchange: Exchange) -> None:
    """What the head asks for, and what the router answers by itself before anybody's policy."""
    if exchange.malformed is not None:
        refuse_malformed(exchange, exchange.malformed)
    head = exchange.head
    target = resolve_target(head, exchange.conn.facts.host)
    if isinstance(target, Malformed):
        refuse_malformed(exchange, target)
    exchange.target = target
    agent = exchange.snapshot.healthcheck_user_agent
    if agent and (b"user-agent", agent) in head.fields:
        probe = healthcheck(head.fields, agent, healthy=exchange.router.health.good, is_head=exchange.is_head)
        if probe is not None:
            raise Refused(probe)


# ---- the attempts


async def _forward(exchange: Exchange, permit: Permit) -> None:
    """Try endpoints until one has answered, as often and as long as the operator allows and the resend rule permits."""
    tried: set[str] = set()
    last: Fault | None = None
    attempts = 0
    exchange.forwarded = time.perf_counter()
    while True:
        if permit.service is not None:
            rest = await ask_service(exchange, permit)
            if rest is None:
                return
            permit = rest
        endpoint = _pick(exchange, permit, tried, last)
        tried.add(endpoint.address)
        attempts += 1
        attempt = Attempt(exchange, permit, endpoint)
        try:
            if not attempt.take() and not await _connect(exchange, attempt):
                if attempts >= exchange.snapshot.limits.max_attempts or exchange.too_late:
                    break
                permit = attempt.permit
                tried.discard(endpoint.address)
                continue
            await attempt.run()
            return
        except Fault as caught:
            last = fault = exchange.as_it_matters(caught)
            stale = attempt.is_stale(fault)
            _after_fault(exchange, fault, attempt, stale=stale)
            if not may_resend(fault, exchange.head, attempt.sent()) or exchange.too_late:
                raise fault from None
            # An endpoint that closed idle connections says nothing by it, one that is denied was no candidate.
            attempts -= stale or fault.kind == "dial_denied"
            if attempts >= exchange.snapshot.limits.max_attempts:
                raise
            if stale:
                exchange.snapshot.idle.drop(endpoint)
            if stale or fault.kind == "stream_refused":
                tried.discard(endpoint.address)  # its next connection may take what this one did not
        finally:
            attempt.give_place()
        permit = admit(exchange, last)
    if last is not None:
        raise last
    refuse(exchange, "no_endpoints")


async def _connect(exchange: Exchange, attempt: Attempt) -> bool:
    """False where the permit does not stand when the connection does; then as `_still_admitted`. Raises Fault, Refused."""
    await attempt.connect()
    return not attempt.waited or _still_admitted(exchange, attempt)


def _still_admitted(exchange: Exchange, attempt: Attempt) -> bool:
    """After a dial, which may have taken seconds: does the permit stand? If not, ask again (Refused where the answer is no now);
    False where the endpoint, or what it was verified by, is no longer today's: then `attempt` is over and has the new permit.
    Fault where nobody waits for the answer any more.
    """
    if exchange.writer.left:
        attempt.close()
        raise Fault("client_cancelled", "while an endpoint was dialled")
    live, before, endpoint = exchange.router.live, exchange.snapshot, attempt.endpoint
    route = live.table.lookup(exchange.target.host, exchange.target.path)
    if live.snapshot is before and route is not None and before.admitted(route) is attempt.permit.route:
        return True
    try:
        permit = attempt.permit = admit(exchange)
    except Refused:
        attempt.close()
        raise
    today = exchange.snapshot
    kept = today.idle is before.idle and today.http2 is before.http2
    same = kept and any(_reaches(permit, each, endpoint) for each in permit.route.pool.endpoints)
    if same and permit.service is None and attempt.trip is not None and attempt.trip.passes(today.deny):
        return True
    attempt.close()
    return False


def _reaches(permit: Permit, today: Endpoint, dialled: Endpoint) -> bool:
    """Is the endpoint that was dialled the one of today, and may the caller reach it?"""
    allow = permit.allow
    return _who(today) == _who(dialled) and (not allow.scopes or in_scope(today, allow.scopes, allow.caller))


def _pick(exchange: Exchange, permit: Permit, tried: set[str], last: Fault | None) -> Endpoint:
    """An endpoint that the caller may reach and that was not tried yet, with a place there taken. Raises Refused, or `last`
    when none is left.
    """
    while True:
        allow, found = permit.allow, _take_place(exchange, permit, tried)
        if isinstance(found, Endpoint):
            exchange.describe_endpoint(found)
            return found
        if last is not None and last.kind == "dial_denied":
            hit = Check("deny", "deny:backend_networks", False, last.detail)
            deny_listed(exchange, hit, permit.domain, permit.route)
        if last is not None:
            raise last
        exchange.router.metrics.backend_selection_errors.labels(found.reason).inc()
        if found.reason != "scope" or not allow.scopes:
            _refuse_unpicked(exchange, found)
        soften_scope(exchange, permit)


def _take_place(exchange: Exchange, permit: Permit, tried: set[str]) -> Endpoint | NoEndpoint:
    """The endpoint that is chosen. Another process may be faster at its last place: then the choice is made again."""
    allow, snapshot, now = permit.allow, exchange.snapshot, exchange.router.loop.time()
    most, own = snapshot.limits.max_in_flight_per_endpoint, permit.route.pool.limits
    if own is not None:
        most = min(most, own.connections)
    for _ in range(_CHOICES):
        found = choose(
            permit.route.pool, allow.scopes, allow.caller, now, tried,
            selector=exchange.selector, max_conns=most, zone=snapshot.zone, fields=exchange.head.fields,
            preferred=exchange.pin,
        )  # fmt: skip
        if isinstance(found, NoEndpoint) or found.pulse.enter(most):
            return found
    return NoEndpoint("overloaded")


def _after_fault(exchange: Exchange, fault: Fault, attempt: Attempt, *, stale: bool) -> None:
    """Log a failed attempt, and mark or prune the endpoint if the fault says something about it."""
    router, record, endpoint, rule = exchange.router, exchange.record, attempt.endpoint, fault.rule
    record.failed_attempts += 1
    record.failed_attempts_time = max(record.failed_attempts_time, 0.0) + time.perf_counter() - attempt.clock
    if fault.side == "downstream":
        return
    router.log.sparse(
        "backend-endpoint-failed", error=fault.kind, detail=fault.detail, address=endpoint.address, route=exchange.target.host,
        attempt=record.failed_attempts, conn_reused=attempt.sent().reused, vcap_request_id=exchange.ids.vcap,
    )  # fmt: skip
    router.metrics.count_backend_fault(fault.kind)
    if rule.failable and not stale:
        mark_failed(endpoint, router.loop.time(), exchange.snapshot.limits.failed_mark)
    if rule.prunable and endpoint.tls:
        router.prune(attempt.permit.route.key, endpoint)


# ---- refusing


def _refuse_unpicked(exchange: Exchange, found: NoEndpoint) -> NoReturn:
    match found.reason:
        case "instance":
            selector = exchange.selector
            assert selector is not None
            refuse(exchange, "unknown_instance", instance=selector.index or "", guid=selector.guid)
        case "overloaded":
            exchange.router.metrics.backend_exhausted_conns.inc()
            refuse(exchange, "Connection Limit Reached")
        case _:
            refuse(exchange, "no_endpoints")


async def _answer(exchange: Exchange, answer: Refusal) -> None:
    """Send a response of the router's own."""
    if answer.close or not _body_is_out_of_the_way(exchange):
        exchange.keep = False
    headers, page = exchange.snapshot.headers, exchange.snapshot.error_page
    extra, now = exchange.warnings(), time.time()
    if asks_by_grpc(exchange.head.fields):
        answer = as_grpc(answer)
    elif page is not None:
        answer = page.dress(answer, refusal_fields(answer.fields, headers, exchange.ids, now, extra), is_head=exchange.is_head)
    record = exchange.record
    record.status = answer.status
    record.bytes_out = len(answer.body)
    fields = refusal_fields(answer.fields, headers, exchange.ids, now, extra)
    record.router_error = next((value.decode() for name, value in fields if name == b"X-Cf-RouterError"), "")
    exchange.router.metrics.rejected_requests.value += 1
    exchange.answering = True
    writer = exchange.writer
    exchange.keep = writer.begin(answer.status, answer.reason, fields, len(answer.body), keep=exchange.keep)
    try:
        await writer.finish(answer.body, [])
    except Fault:
        exchange.keep = False


def _body_is_out_of_the_way(exchange: Exchange) -> bool:
    """Has the request's body been read, or is all of it here to be dropped, so that the next head can follow?"""
    return exchange.body.done or exchange.body.buffered() is not None


async def _fail(exchange: Exchange, fault: Fault) -> None:
    """Answer for a fault where the response has not begun; else all that is left is to end the connection."""
    record, rule = exchange.record, fault.rule
    record.router_error = rule.router_error
    if exchange.answering or rule.status == 499:
        exchange.keep = False
        record.status = record.status or rule.status
        exchange.writer.abort()
        return
    if rule.status == 502:
        exchange.router.metrics.bad_gateways.inc()
    await _answer(exchange, failure(fault, is_head=exchange.is_head))
