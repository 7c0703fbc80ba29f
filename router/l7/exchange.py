"""THE OTHER STORY: one request and its response, from head to access record.

    target -> domain -> binding (421) -> deny lists, L7 policies (403) -> route (404) -> decide (403) -> pick -> attempt -> record

Promise: nothing is forwarded without an `Allow`; every attempt asks again, under the policy of its moment; every exchange
ends in exactly one access record. The backend sees no byte of a request that was refused. Refuses to know: how a decision is
made (`authz/decide.py`), what a fault means (`router/faults.py`), which fields pass (`hygiene.py`), how bytes go to a
backend and come back (`attempt.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from operator import attrgetter
from typing import Final, NoReturn

from authz.decide import decide, deny_scope
from authz.decision import Check, Decision, Deny
from authz.deny import denied_request
from authz.domain import DomainPolicy
from authz.policy import NO_POLICY
from registry.balance import NoEndpoint, Selector, choose, in_scope, mark_failed, parse_app_instance, parse_process_instance
from registry.endpoint import Endpoint, Pool, Route
from router.backend.retry import may_resend
from router.faults import Fault
from router.l7.attempt import Attempt
from router.l7.denial import log_broken_policy, log_denial
from router.l7.hygiene import refusal_fields
from router.l7.policies import L7Policies
from router.l7.refusal import Code, Refusal, failure, healthcheck, malformed, refusal
from router.l7.state import Exchange, Permit
from router.l7.sticky import pinned
from router.l7.target import normalised_path, resolve_target, trimmed
from router.wire.http1 import render_response_head
from router.wire.malformed import Malformed

_SELECTORS: Final[dict[bytes, tuple[Callable[[bytes], Selector | None], Code]]] = {
    b"x-cf-app-instance": (parse_app_instance, "invalid_cf_app_instance_header"),
    b"x-cf-process-instance": (parse_process_instance, "invalid_cf_process_instance_header"),
}
_WISHES: Final = frozenset({b"cookie", *_SELECTORS})
_who: Final = attrgetter("address", "tls", "san", "instance_id")
_STALE: Final = frozenset({"connection_closed", "connection_reset"})


class Refused(Exception):
    """The router answers by itself."""

    def __init__(self, answer: Refusal) -> None:
        super().__init__(answer.status)
        self.answer = answer


async def run(exchange: Exchange) -> bool:
    """Answer the request; True when the connection may carry another."""
    try:
        exchange.describe()
        _read_target(exchange)
        exchange.keep = exchange.head.keep_alive and not exchange.router.health.draining
        permit = _admit(exchange)
        if permit.route.pool.bucket is not None:
            _check_rate(exchange, permit)
        exchange.whole = exchange.body.buffered()
        await _forward(exchange, permit)
    except Refused as refused:
        await _answer(exchange, refused.answer)
    except Fault as fault:
        await _fail(exchange, fault)
    finally:
        exchange.finish()
    return exchange.keep and exchange.body.done and not exchange.conn.closing


def _read_target(exchange: Exchange) -> None:
    """What the head asks for, and what the router answers by itself before anybody's policy."""
    if exchange.malformed is not None:
        _refuse_malformed(exchange, exchange.malformed)
    head = exchange.head
    target = resolve_target(head, exchange.conn.facts.host)
    if isinstance(target, Malformed):
        _refuse_malformed(exchange, target)
    exchange.target = target
    agent = exchange.snapshot.healthcheck_user_agent
    if agent:
        probe = healthcheck(head.fields, agent, healthy=exchange.router.health.good, is_head=exchange.is_head)
        if probe is not None:
            raise Refused(probe)


# ---- the doors


def _admit(exchange: Exchange, last: Fault | None = None) -> Permit:
    """Both doors, by the snapshots of this moment. Raises Refused, or `last` where an attempt failed and the route has since
    lost its endpoints.
    """
    snapshot, conn, target = exchange.router.live.snapshot, exchange.conn, exchange.target
    exchange.snapshot = snapshot
    conn.under(snapshot)
    domain = snapshot.domains.claim(target.host)
    bound = _bound(exchange, domain)
    if not bound.passed:
        _deny(exchange, decide(bound, domain, None, NO_POLICY), domain, None)
    lists = snapshot.deny
    if not lists.empty:
        _check_lists(exchange, domain)
    if snapshot.l7_policies is not None:
        _check_policies(exchange, snapshot.l7_policies)
    route = _lookup(exchange)
    if route is None:
        if last is not None:
            raise last
        _refuse(exchange, "unknown_route")
    if not lists.empty:
        route = _without_denied(exchange, domain, route)
    policy = route.pool.policy
    decision = conn.decisions.get((domain, policy))
    if decision is None:
        decision = conn.decisions[domain, policy] = decide(bound, domain, conn.caller_for(domain), policy)
    if isinstance(decision, Deny):
        _deny(exchange, decision, domain, route)
    exchange.describe_decision(decision, domain)
    if last is not None and not route.pool.endpoints:
        raise last
    _check_pool(exchange, route)
    return Permit(route, decision, domain)


def _bound(exchange: Exchange, domain: DomainPolicy | None) -> Check:
    """The 421 check; remembered for the connection while the configuration stands and the certificate is in date."""
    conn, now = exchange.conn, exchange.record.started_at
    binding = conn.binding
    expired = binding is not None and binding.not_after is not None and binding.not_after < now
    bound = conn.bound.get(domain)
    if bound is not None and not expired:
        return bound
    bound = conn.bound[domain] = conn.check_today(exchange.snapshot, domain, now)
    return bound


def _check_lists(exchange: Exchange, domain: DomainPolicy | None) -> None:
    """The host and the caller against the deny lists, before anything is said of routes."""
    conn, host = exchange.conn, exchange.target.host
    try:
        hit = conn.listed[host]
    except KeyError:
        hit = conn.listed[host] = denied_request(exchange.snapshot.deny, host, domain, conn.caller_for(domain))
    if hit is not None:
        _deny_listed(exchange, hit, domain, None)


def _check_policies(exchange: Exchange, policies: L7Policies) -> None:
    """The operator's rules for requests as such; before the route, so that an answer says nothing of routes or callers."""
    head, target = exchange.head, exchange.target
    policy = policies.broken(target.host, target.path, head.fields, head.connection)
    if policy is not None:
        exchange.router.metrics.l7_policy_denied.labels(policy.type).inc()
        log_broken_policy(exchange, policy)
        _refuse(exchange, "l7_policy_denied")


def _without_denied(exchange: Exchange, domain: DomainPolicy | None, route: Route) -> Route:
    """The route with the endpoints that are on no deny list; a denial where it had some and none is left."""
    sifted = exchange.snapshot.sieve.sift(route)
    if sifted.barred is not None:
        _deny_listed(exchange, sifted.barred, domain, route)
    return sifted.route


def _deny_listed(exchange: Exchange, hit: Check, domain: DomainPolicy | None, route: Route | None) -> NoReturn:
    conn = exchange.conn
    _deny(exchange, decide(conn.bound[domain], domain, conn.caller_for(domain), NO_POLICY, denied=hit), domain, route)


def _lookup(exchange: Exchange) -> Route | None:
    """The route, unless another spelling of the path would select another one: then 400."""
    started = time.perf_counter_ns()
    table, target = exchange.router.live.table, exchange.target
    route = table.lookup(target.host, target.path)
    normal = normalised_path(target.path)
    if normal is not None and table.lookup(target.host, normal) is not route:
        _refuse_malformed(exchange, Malformed("ambiguous_path"))
    exchange.router.metrics.route_lookup_time.observe(time.perf_counter_ns() - started)
    return route


def _check_pool(exchange: Exchange, route: Route) -> None:
    """What can be refused before an endpoint is chosen."""
    pool = route.pool
    if not pool.endpoints:
        _refuse(exchange, "no_endpoints")
    if pool.route_service_url:
        _refuse(exchange, "route_service_unsupported" if exchange.upgrade is None else "route_service_upgrade")
    most, own = exchange.snapshot.limits.request_body_bytes, pool.limits
    if own is not None:
        most = min(most, own.body_bytes)
        if own.trims and trimmed(exchange.target, route.path) is None:
            _refuse_malformed(exchange, Malformed("ambiguous_path"))
    if exchange.head.body > most:
        _refuse(exchange, "request_body_too_large")
    _read_wishes(exchange, pool)


def _check_rate(exchange: Exchange, permit: Permit) -> None:
    """One request of the route's rate; once a request, however often it is tried, and never for one that is denied."""
    pool, allow = permit.route.pool, permit.allow
    assert pool.bucket is not None
    assert pool.limits is not None
    if allow.scopes and not any(in_scope(endpoint, allow.scopes, allow.caller) for endpoint in pool.endpoints):
        _soften_scope(exchange, permit)
    wait = pool.bucket.take(pool.limits.rate, exchange.router.loop.time())
    if wait:
        exchange.router.metrics.rate_limited_requests.inc()
        host = exchange.target.host
        raise Refused(refusal("rate_limit_exceeded", is_head=exchange.is_head, host=host, retry_after=math.ceil(wait)))


def _read_wishes(exchange: Exchange, pool: Pool) -> None:
    """The instance that the client wants: X-CF-App-Instance, else X-CF-Process-Instance (the same twice is malformed), and the
    one that its cookies name.
    """
    asked: dict[bytes, Selector] = {}
    cookies = False
    for name, value in exchange.head.fields:
        if name not in _WISHES:
            continue
        if name == b"cookie":
            cookies = True
            continue
        parse, code = _SELECTORS[name]
        selector = parse(value)
        if selector is None or name in asked:
            _refuse(exchange, code)
        asked[name] = selector
    exchange.selector = asked.get(b"x-cf-app-instance") or asked.get(b"x-cf-process-instance")
    sticky = exchange.snapshot.sticky_for(pool) if cookies else None
    exchange.pin = pinned(exchange.head.fields, sticky) if sticky is not None else None


# ---- the attempts


async def _forward(exchange: Exchange, permit: Permit) -> None:
    """Try endpoints until one has answered, as often and as long as the operator allows and the resend rule permits."""
    tried: set[str] = set()
    last: Fault | None = None
    attempts = 0
    exchange.forwarded = time.perf_counter()
    while True:
        endpoint = _pick(exchange, permit, tried, last)
        tried.add(endpoint.address)
        attempts += 1
        attempt = Attempt(exchange, permit, endpoint)
        try:
            upstream = await attempt.connect()
            if not upstream.reused and not _still_admitted(exchange, attempt):
                if attempts >= exchange.snapshot.limits.max_attempts or _too_late(exchange):
                    break
                permit = attempt.permit
                tried.discard(endpoint.address)
                continue
            await attempt.run()
            return
        except Fault as caught:
            last = fault = _as_it_matters(exchange, caught)
            stale = _is_stale(fault, attempt)
            _after_fault(exchange, fault, attempt, stale=stale)
            if not may_resend(fault, exchange.head, attempt.sent()) or _too_late(exchange):
                raise fault from None
            if fault.kind == "dial_denied":
                attempts -= 1  # it was no candidate: its name only did not say so
            elif stale:
                # The endpoint closed idle connections: that says nothing about it, and costs no attempt.
                tried.discard(endpoint.address)
                attempts -= 1
                exchange.snapshot.idle.drop(endpoint)
            elif attempts >= exchange.snapshot.limits.max_attempts:
                raise
        permit = _admit(exchange, last)
    if last is not None:
        raise last
    _refuse(exchange, "no_endpoints")


def _still_admitted(exchange: Exchange, attempt: Attempt) -> bool:
    """After a dial, which may have taken seconds: does the permit stand? If not, ask again (Refused where the answer is no now);
    False where the endpoint, or what it was verified by, is no longer today's: then `attempt` is over and has the new permit.
    """
    live, before, endpoint = exchange.router.live, exchange.snapshot, attempt.endpoint
    route = live.table.lookup(exchange.target.host, exchange.target.path)
    if live.snapshot is before and route is not None and before.admitted(route) is attempt.permit.route:
        return True
    try:
        permit = attempt.permit = _admit(exchange)
    except Refused:
        attempt.close()
        raise
    today = exchange.snapshot
    same = today.idle is before.idle and any(_reaches(permit, each, endpoint) for each in permit.route.pool.endpoints)
    if same and attempt.upstream is not None and attempt.upstream.passes(today.deny):
        return True
    attempt.close()
    return False


def _reaches(permit: Permit, today: Endpoint, dialled: Endpoint) -> bool:
    """Is the endpoint that was dialled the one of today, and may the caller reach it?"""
    allow = permit.allow
    return _who(today) == _who(dialled) and (not allow.scopes or in_scope(today, allow.scopes, allow.caller))


def _as_it_matters(exchange: Exchange, fault: Fault) -> Fault:
    """The fault, unless nobody waits for an answer any more: then the client cancelled, which is held against no endpoint, and
    nothing is tried again.
    """
    stream = exchange.conn.stream
    if fault.side != "upstream" or exchange.answering or not (stream.closed or stream.hung_up()):
        return fault
    return Fault("client_cancelled", fault.kind)


def _too_late(exchange: Exchange) -> bool:
    """Has the time passed in which another attempt may begin?"""
    return exchange.router.loop.time() - exchange.started >= exchange.snapshot.limits.retry_deadline


def _is_stale(fault: Fault, attempt: Attempt) -> bool:
    """Did a pooled connection turn out to have ended while it was idle?"""
    sent = attempt.sent()
    return fault.kind in _STALE and sent.reused and not sent.response_began


def _pick(exchange: Exchange, permit: Permit, tried: set[str], last: Fault | None) -> Endpoint:
    """An endpoint that the caller may reach and that was not tried yet. Raises Refused, or `last` when none is left."""
    snapshot, now = exchange.snapshot, exchange.router.loop.time()
    most = snapshot.limits.max_in_flight_per_endpoint
    while True:
        allow, own = permit.allow, permit.route.pool.limits
        found = choose(
            permit.route.pool, allow.scopes, allow.caller, now, tried,
            selector=exchange.selector, max_conns=most if own is None else min(most, own.connections), zone=snapshot.zone,
            fields=exchange.head.fields, preferred=exchange.pin,
        )  # fmt: skip
        if isinstance(found, Endpoint):
            exchange.describe_endpoint(found)
            return found
        if last is not None and last.kind == "dial_denied":
            hit = Check("deny", "deny:backend_networks", False, last.detail)
            _deny_listed(exchange, hit, permit.domain, permit.route)
        if last is not None:
            raise last
        exchange.router.metrics.backend_selection_errors.labels(found.reason).inc()
        if found.reason != "scope" or not allow.scopes:
            _refuse_unpicked(exchange, found)
        _soften_scope(exchange, permit)


def _soften_scope(exchange: Exchange, permit: Permit) -> None:
    """No endpoint is in the caller's scope: a denial, or where the domain only reports, a permit for all of them."""
    softened = deny_scope(permit.allow)
    if isinstance(softened, Deny):
        _deny(exchange, softened, permit.domain, permit.route)
    permit.allow = softened
    exchange.describe_decision(softened, permit.domain)


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


def _refuse(exchange: Exchange, code: Code, *, instance: str = "", guid: str = "") -> NoReturn:
    raise Refused(refusal(code, is_head=exchange.is_head, host=exchange.target.host, instance=instance, guid=guid))


def _refuse_unpicked(exchange: Exchange, found: NoEndpoint) -> NoReturn:
    match found.reason:
        case "instance":
            selector = exchange.selector
            assert selector is not None
            _refuse(exchange, "unknown_instance", instance=selector.index or "", guid=selector.guid)
        case "overloaded":
            exchange.router.metrics.backend_exhausted_conns.inc()
            _refuse(exchange, "Connection Limit Reached")
        case _:
            _refuse(exchange, "no_endpoints")


def _refuse_malformed(exchange: Exchange, reason: Malformed) -> NoReturn:
    router = exchange.router
    router.metrics.malformed_requests.labels(reason.reason).inc()
    router.log.sparse("malformed-request", reason=reason.reason, status=reason.status, remote=exchange.conn.remote)
    raise Refused(malformed(reason, is_head=exchange.is_head))


def _deny(exchange: Exchange, decision: Decision, domain: DomainPolicy | None, route: Route | None) -> NoReturn:
    """Refuse with the decision's code; its reason goes to log, record and metrics, never to the client."""
    assert isinstance(decision, Deny)
    router, record, conn = exchange.router, exchange.record, exchange.conn
    name = domain.pattern if domain is not None else ""
    if decision.status == 421:
        router.metrics.mtls_misdirected.labels(name or conn.binding_domain).inc()
    router.metrics.mtls_decisions.labels(name, "deny", decision.label).inc()
    exchange.decision = decision
    record.mtls_auth, record.mtls_rule, record.mtls_denied_reason = decision.log_fields()
    if route is not None and route.pool.endpoints:
        record.app_id = route.pool.endpoints[0].app
    log_denial(exchange, decision)
    if decision.close:
        exchange.keep = False
    _refuse(exchange, decision.code)


async def _answer(exchange: Exchange, answer: Refusal) -> None:
    """Send a response of the router's own."""
    if answer.close or not _body_is_out_of_the_way(exchange):
        exchange.keep = False
    headers, page = exchange.snapshot.headers, exchange.snapshot.error_page
    extra = exchange.warnings()
    if page is not None:
        answer = page.dress(answer, refusal_fields(answer.fields, headers, exchange.ids, extra), is_head=exchange.is_head)
    record = exchange.record
    record.status = answer.status
    record.bytes_out = len(answer.body)
    fields = refusal_fields(answer.fields, headers, exchange.ids, extra)
    record.router_error = next((value.decode() for name, value in fields if name == b"X-Cf-RouterError"), "")
    exchange.add_connection(fields)
    exchange.router.metrics.rejected_requests.value += 1
    exchange.answering = True
    try:
        await exchange.send(render_response_head(answer.status, answer.reason, fields) + answer.body)
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
        exchange.conn.stream.reset()
        return
    if rule.status == 502:
        exchange.router.metrics.bad_gateways.inc()
    await _answer(exchange, failure(fault, is_head=exchange.is_head))
