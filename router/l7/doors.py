"""The doors of a request, in the order of the story: may it be forwarded, and to which route?

    domain -> binding (421) -> deny lists, L7 policies (403) -> route (404) -> decide (403) -> what the route can be asked at all

Promise: a `Permit` is given by `admit` alone, under the snapshots of that moment, and only on an `Allow`; everything else is
`Refused`, with its reason in log, record and metrics and none of it for the client. A permit says where the request goes first:
to the route's service, unless it comes from there. Nothing here waits. Refuses to know: how a decision is made
(`authz/decide.py`), which endpoint is chosen, and how bytes move.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, NoReturn

from authz.decide import decide, deny_scope
from authz.decision import Check, Decision, Deny
from authz.deny import denied_request
from authz.domain import DomainPolicy
from authz.policy import NO_POLICY
from registry.balance import Selector, in_scope, parse_app_instance, parse_process_instance
from registry.endpoint import Pool, Route
from router.faults import Fault
from router.l7.denial import log_broken_policy, log_denial
from router.l7.policies import L7Policies
from router.l7.refusal import Code, Refusal, malformed, refusal
from router.l7.returning import carried, recognise
from router.l7.route_service import Sealed, ServiceUrl, Unsealed, parse_service_url
from router.l7.state import Exchange, Permit
from router.l7.sticky import pinned
from router.l7.target import normalised_path, trimmed
from router.wire.malformed import Malformed

_SELECTORS: Final[dict[bytes, tuple[Callable[[bytes], Selector | None], Code]]] = {
    b"x-cf-app-instance": (parse_app_instance, "invalid_cf_app_instance_header"),
    b"x-cf-process-instance": (parse_process_instance, "invalid_cf_process_instance_header"),
}
_WISHES: Final = frozenset({b"cookie", *_SELECTORS})


class Refused(Exception):
    """The router answers by itself."""

    def __init__(self, answer: Refusal) -> None:
        super().__init__(answer.status)
        self.answer = answer


def admit(exchange: Exchange, last: Fault | None = None) -> Permit:
    """Both doors, by the snapshots of this moment. Raises Refused, or `last` where an attempt failed and the route has since
    lost its endpoints.
    """
    snapshot, target = exchange.router.live.snapshot, exchange.target
    if exchange.snapshot is not snapshot:
        exchange.snapshot = snapshot
        exchange.conn.under(snapshot)
    if exchange.seal is not None:
        recognise(exchange, snapshot)
    party = exchange.party
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
        refuse(exchange, "unknown_route")
    if not lists.empty:
        route = _without_denied(exchange, domain, route)
    policy = route.pool.policy
    decision = party.decisions.get((domain, policy))
    if decision is None:
        decision = party.decisions[domain, policy] = decide(bound, domain, party.caller_for(domain), policy)
    if isinstance(decision, Deny):
        _deny(exchange, decision, domain, route)
    exchange.describe_decision(decision, domain)
    if last is not None and not route.pool.endpoints:
        raise last
    _check_pool(exchange, route)
    concerned = exchange.seal is not None or route.pool.route_service_url
    return Permit(route, decision, domain, _service(exchange, route.pool) if concerned else None)


def _bound(exchange: Exchange, domain: DomainPolicy | None) -> Check:
    """The 421 check; remembered for the connection while the configuration stands and the certificate is in date."""
    conn, now = exchange.party, exchange.record.started_at
    binding = conn.binding
    expired = binding is not None and binding.not_after is not None and binding.not_after < now
    bound = conn.bound.get(domain)
    if bound is not None and not expired:
        return bound
    bound = conn.bound[domain] = conn.check_today(exchange.snapshot, domain, now)
    return bound


def _check_lists(exchange: Exchange, domain: DomainPolicy | None) -> None:
    """The host and the caller against the deny lists, before anything is said of routes."""
    conn, host = exchange.party, exchange.target.host
    try:
        hit = conn.listed[host]
    except KeyError:
        hit = conn.listed[host] = denied_request(exchange.snapshot.deny, host, domain, conn.caller_for(domain))
    if hit is not None:
        deny_listed(exchange, hit, domain, None)


def _check_policies(exchange: Exchange, policies: L7Policies) -> None:
    """The operator's rules for requests as such; before the route, so that an answer says nothing of routes or callers."""
    head, target = exchange.head, exchange.target
    policy = policies.broken(target.host, target.path, head.fields, head.connection)
    if policy is not None:
        exchange.router.metrics.l7_policy_denied.labels(policy.type).inc()
        log_broken_policy(exchange, policy)
        refuse(exchange, "l7_policy_denied")


def _without_denied(exchange: Exchange, domain: DomainPolicy | None, route: Route) -> Route:
    """The route with the endpoints that are on no deny list; a denial where it had some and none is left."""
    sifted = exchange.snapshot.sieve.sift(route)
    if sifted.barred is not None:
        deny_listed(exchange, sifted.barred, domain, route)
    return sifted.route


def deny_listed(exchange: Exchange, hit: Check, domain: DomainPolicy | None, route: Route | None) -> NoReturn:
    conn = exchange.party  # what it remembers may be another stream's by now: the binding is asked again
    _deny(exchange, decide(_bound(exchange, domain), domain, conn.caller_for(domain), NO_POLICY, denied=hit), domain, route)


def _lookup(exchange: Exchange) -> Route | None:
    """The route, unless another spelling of the path would select another one: then 400."""
    started = time.perf_counter_ns()
    table, target = exchange.router.live.table, exchange.target
    route = table.lookup(target.host, target.path)
    normal = normalised_path(target.path)
    if normal is not None and table.lookup(target.host, normal) is not route:
        refuse_malformed(exchange, Malformed("ambiguous_path"))
    exchange.router.metrics.route_lookup_time.observe(time.perf_counter_ns() - started)
    return route


def _check_pool(exchange: Exchange, route: Route) -> None:
    """What can be refused before an endpoint is chosen."""
    pool = route.pool
    if not pool.endpoints:
        refuse(exchange, "no_endpoints")
    most, own = exchange.snapshot.limits.request_body_bytes, pool.limits
    if own is not None:
        most = min(most, own.body_bytes)
        if own.trims and trimmed(exchange.target, route.path) is None:
            refuse_malformed(exchange, Malformed("ambiguous_path"))
    if exchange.head.body > most:
        refuse(exchange, "request_body_too_large")
    _read_wishes(exchange, pool)


def check_rate(exchange: Exchange, permit: Permit) -> None:
    """One request of the route's rate; once a request, however often it is tried, and never for one that is denied."""
    pool = permit.route.pool
    assert pool.bucket is not None
    assert pool.limits is not None
    check_scope(exchange, permit)
    wait = pool.bucket.take(pool.limits.rate, exchange.router.loop.time())
    if wait:
        exchange.router.metrics.rate_limited_requests.inc()
        host = exchange.target.host
        raise Refused(refusal("rate_limit_exceeded", is_head=exchange.is_head, host=host, retry_after=math.ceil(wait)))


def check_scope(exchange: Exchange, permit: Permit) -> None:
    """Is any endpoint in the caller's scope? Where the request does not go to one at once."""
    allow = permit.allow
    if allow.scopes and not any(in_scope(each, allow.scopes, allow.caller) for each in permit.route.pool.endpoints):
        soften_scope(exchange, permit)


def _service(exchange: Exchange, pool: Pool) -> ServiceUrl | None:
    """Where a request of a route with a route service goes first; None for one that comes back, and for routes without."""
    services, seal = exchange.snapshot.route_services, exchange.seal
    exchange.passed_on = []
    if not pool.route_service_url:
        if isinstance(seal, Sealed) and not exchange.returned:
            exchange.passed_on = carried(exchange, seal)
        elif isinstance(seal, Unsealed) and services is not None and services.strict:
            _refuse_seal(exchange, seal.reason, "foreign_route_service_signature")
        return None
    if exchange.upgrade is not None:
        refuse(exchange, "route_service_upgrade")
    if services is None:
        refuse(exchange, "route_service_unsupported")
    if exchange.returned:
        return None
    if seal is not None:
        _refuse_seal(exchange, seal.reason if isinstance(seal, Unsealed) else "other_url", "invalid_route_service_signature")
    url = parse_service_url(pool.route_service_url)
    if url is None:
        exchange.router.log.sparse("route-service-failed", route=exchange.target.host, url=pool.route_service_url)
        refuse(exchange, "bad_route_service_url")
    return url


def _refuse_seal(exchange: Exchange, reason: str, code: Code) -> NoReturn:
    exchange.router.log.sparse(
        "signature-validation-failed", reason=reason, host=exchange.target.host, vcap_request_id=exchange.ids.vcap
    )
    refuse(exchange, "expired_route_service_signature" if reason == "expired" else code)


def _read_wishes(exchange: Exchange, pool: Pool) -> None:
    """The instance that the client wants: X-CF-App-Instance, else X-CF-Process-Instance (the same twice is malformed), and the
    one that its cookies name.
    """
    exchange.selector = exchange.pin = None
    if _WISHES.isdisjoint(exchange.sent):
        return
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
            refuse(exchange, code)
        asked[name] = selector
    exchange.selector = asked.get(b"x-cf-app-instance") or asked.get(b"x-cf-process-instance")
    sticky = exchange.snapshot.sticky_for(pool) if cookies else None
    exchange.pin = pinned(exchange.head.fields, sticky) if sticky is not None else None


def soften_scope(exchange: Exchange, permit: Permit) -> None:
    """No endpoint is in the caller's scope: a denial, or where the domain only reports, a permit for all of them."""
    softened = deny_scope(permit.allow)
    if isinstance(softened, Deny):
        _deny(exchange, softened, permit.domain, permit.route)
    permit.allow = softened
    exchange.describe_decision(softened, permit.domain)


def refuse(exchange: Exchange, code: Code, *, instance: str = "", guid: str = "") -> NoReturn:
    raise Refused(refusal(code, is_head=exchange.is_head, host=exchange.target.host, instance=instance, guid=guid))


def refuse_malformed(exchange: Exchange, reason: Malformed) -> NoReturn:
    router = exchange.router
    router.metrics.malformed_requests.labels(reason.reason).inc()
    router.log.sparse("malformed-request", reason=reason.reason, status=reason.status, remote=exchange.conn.remote)
    raise Refused(malformed(reason, is_head=exchange.is_head))


def _deny(exchange: Exchange, decision: Decision, domain: DomainPolicy | None, route: Route | None) -> NoReturn:
    """Refuse with the decision's code; its reason goes to log, record and metrics, never to the client."""
    assert isinstance(decision, Deny)
    router, record, conn = exchange.router, exchange.record, exchange.party
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
    refuse(exchange, decision.code)
