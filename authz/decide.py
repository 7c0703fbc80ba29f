"""May this caller reach this route? Layer by layer; the first failure wins; no match means deny.

    binding   the handshake fits the Host (binding.py)          421
    deny      the operator's deny lists (deny.py)               403
    identity  the verified leaf names a caller                  403
    domain    the operator's boundary, and the route's scope    403
    route     every distinct policy of the route's endpoints    403

Promises: TABLE is decision 8, and the only place that says what is enforced where. Report-only softens a 403
of the last three layers and nothing else; a deny list holds on open hosts too. Refuses to know: headers,
sockets, endpoints (their choice honours Allow.scopes).
"""

from typing import Literal, assert_never, get_args

from authz.binding import misdirected
from authz.decision import NO_SCOPES, Allow, Check, Code, Decision, Deny, DenyLabel, Layer, ListLabel
from authz.domain import DomainPolicy
from authz.policy import Column, MtlsOptions, PoolPolicy, RoutePolicies
from identity.caller import Caller
from identity.certificate import IdentityError

Row = Literal["open", "none", "cf_identity", "domains"]
Outcome = Literal["forward", "not_enforced", "enforce", "deny"]

# An open host has no verified identity, so what a route demands of identities can only deny there.
TABLE: dict[Row, dict[Column, Outcome]] = {
    "open": {
        "no_options": "forward",
        "mtls": "not_enforced",
        "route_policy": "deny",
        "invalid": "forward",
        "invalid_mtls": "forward",
        "invalid_route_policy": "deny",
    },
    "none": {
        "no_options": "forward",
        "mtls": "not_enforced",
        "route_policy": "enforce",
        "invalid": "forward",
        "invalid_mtls": "forward",
        "invalid_route_policy": "deny",
    },
    "cf_identity": {
        "no_options": "deny",
        "mtls": "enforce",
        "route_policy": "enforce",
        "invalid": "deny",
        "invalid_mtls": "deny",
        "invalid_route_policy": "deny",
    },
    "domains": {
        "no_options": "forward",
        "mtls": "enforce",
        "route_policy": "enforce",
        "invalid": "forward",
        "invalid_mtls": "deny",
        "invalid_route_policy": "deny",
    },
}

_INVALID: tuple[Layer, str, str, DenyLabel] = (
    "route",
    "route:invalid_options",
    "route options are invalid or too large, so nobody is allowed",
    "route_invalid_options",
)
_DENIALS: dict[Column, tuple[Layer, str, str, DenyLabel]] = {
    "no_options": (
        "route",
        "route:no_mtls_allowed_options",
        "route has no mtls_allowed_* options configured",
        "route_no_options",
    ),
    "route_policy": (
        "identity",
        "identity_extraction",
        "route demands a caller identity, and its domain verifies none",
        "no_identity",
    ),
    "invalid": _INVALID,
    "invalid_mtls": _INVALID,
    "invalid_route_policy": _INVALID,
}

_LIST_LABELS: dict[str, ListLabel] = {label.replace("deny_", "deny:", 1): label for label in get_args(ListLabel)}

_FORWARDED = Check("route", "not_demanded", True, "no option of the route is enforced, and the domain demands none")
_IDENTIFIED = Check("identity", "identity_extraction", True, "the verified certificate names the caller")
_DOMAIN_ANY = Check("domain", "domain:any", True, "the domain has no list of callers")
_DOMAIN_ORGS = Check("domain", "domain:orgs", True, "the caller's org is in authorization.config.orgs")
_DOMAIN_SPACES = Check("domain", "domain:spaces", True, "the caller's space is in authorization.config.spaces")
_SCOPED = {
    "org": Check("domain", "domain:scope=org", True, "the endpoint choice is bound to the caller's org"),
    "space": Check("domain", "domain:scope=space", True, "the endpoint choice is bound to the caller's space"),
}
_MATCHED = "the caller is allowed by the route"


def row_of(domain: DomainPolicy | None) -> Row:
    """Return the row of TABLE that a Host's domain stands in."""
    if domain is None:
        return "open"
    return "domains" if domain.dialect == "domains" else domain.mode


def decide(
    bound: Check,
    domain: DomainPolicy | None,
    caller: Caller | IdentityError | None,
    policy: PoolPolicy,
    *,
    denied: Check | None = None,
) -> Decision:
    """Judge one exchange by check_binding's answer and the connection's caller (None: no verified leaf).

    `denied` is the hit of a deny list, if there is one. Raises ValueError for a check that is none.
    """
    if not bound.passed:
        return misdirected(bound)
    if denied is not None:
        return _denied(bound, domain, denied)
    decision = _judge(bound, domain, caller, policy)
    if domain is not None and domain.report_only and isinstance(decision, Deny):
        return _soften(decision, caller)
    return decision


def _denied(bound: Check, domain: DomainPolicy | None, hit: Check) -> Deny:
    label = _LIST_LABELS.get(hit.rule)
    if hit.passed or label is None:
        raise ValueError(f"no denial can be made of the check {hit.rule}: passed={hit.passed}")
    code: Code = "access_denied" if domain is None else "mtls_authorization_denied"
    return Deny(403, code, hit.rule, hit.detail, label, (bound, hit))


def deny_scope(allow: Allow) -> Decision:
    """Answer for an Allow whose scopes no endpoint of the pool satisfies: a 403.

    On a report-only domain it is an Allow without scopes instead: then choose again, among all endpoints.
    """
    caller = allow.caller
    said = " and ".join(kind if caller is None else _named(caller, kind) for kind in sorted(allow.scopes))
    rule = "domain:scope=" + ("space" if "space" in allow.scopes else "org")
    denied = _deny(list(allow.trail), "domain", rule, f"caller {said} not in endpoint pool", "domain_scope")
    return _soften(denied, caller) if allow.report_only else denied


def unenforced(domain: DomainPolicy | None, policy: PoolPolicy) -> str | None:
    """Return the warning that options of the route are not enforced on this domain, or None if all are."""
    row = TABLE[row_of(domain)]
    for part in policy.parts:
        if isinstance(part, MtlsOptions) and row[part.column] == "not_enforced":
            return _ignored(domain, part)
    return None


def _judge(bound: Check, domain: DomainPolicy | None, caller: Caller | IdentityError | None, policy: PoolPolicy) -> Decision:
    name = row_of(domain)
    row = TABLE[name]
    enforced: list[MtlsOptions | RoutePolicies] = []
    ignored: MtlsOptions | None = None
    denied: Column | None = None
    for part in policy.parts:
        outcome = row[part.column]
        if outcome == "enforce" and isinstance(part, (MtlsOptions, RoutePolicies)):
            enforced.append(part)
        elif outcome == "not_enforced" and isinstance(part, MtlsOptions):
            ignored = ignored or part
        elif outcome != "forward":
            denied = denied or part.column
    known = caller if isinstance(caller, Caller) and domain is not None and domain.reads_identity else None
    if domain is not None and (enforced or name == "cf_identity"):
        if known is None:
            return _deny([bound], "identity", "identity_extraction", _why_unknown(domain, caller), "no_identity")
        trail = [bound, _IDENTIFIED]
        if ignored is not None:
            trail.append(Check("route", "not_enforced", True, _ignored(domain, ignored)))
        return _judge_known(trail, domain, known, enforced, denied)
    if denied is not None:
        return _deny([bound], *_DENIALS[denied])
    if ignored is not None:
        reason = _ignored(domain, ignored)
        trail = [bound, Check("route", "not_enforced", True, reason)]
        return Allow("not_enforced", None, reason, NO_SCOPES, known, tuple(trail))
    return Allow(None, None, None, NO_SCOPES, known, (bound, _FORWARDED))


def _judge_known(
    trail: list[Check],
    domain: DomainPolicy,
    caller: Caller,
    enforced: list[MtlsOptions | RoutePolicies],
    denied: Column | None,
) -> Decision:
    boundary = _judge_boundary(trail, domain, caller)
    if boundary is not None:
        return boundary
    scopes = NO_SCOPES
    for part in enforced:
        if isinstance(part, RoutePolicies) and part.scope != "any":
            outside = _judge_scope(trail, part, caller)
            if outside is not None:
                return outside
            scopes |= {part.scope}
    if denied is not None or not enforced:
        return _deny(trail, *_DENIALS[denied or "no_options"])
    first: str | None = None
    for part in enforced:
        rule = part.match(caller)
        if rule is None:
            return _deny_unmatched(trail, part, caller)
        trail.append(Check("route", rule, True, _MATCHED))
        first = first or rule
    return Allow("allowed", first, None, scopes, caller, tuple(trail), domain.report_only)


def _judge_boundary(trail: list[Check], domain: DomainPolicy, caller: Caller) -> Deny | None:
    if domain.orgs is not None:
        if caller.org not in domain.orgs:
            reason = f"caller {_named(caller, 'org')} not in authorization.config.orgs of {domain.pattern}"
            return _deny(trail, "domain", "domain:orgs", reason, "domain_orgs")
        trail.append(_DOMAIN_ORGS)
    elif domain.spaces is not None:
        if caller.space not in domain.spaces:
            reason = f"caller {_named(caller, 'space')} not in authorization.config.spaces of {domain.pattern}"
            return _deny(trail, "domain", "domain:spaces", reason, "domain_spaces")
        trail.append(_DOMAIN_SPACES)
    else:
        trail.append(_DOMAIN_ANY)
    return None


def _judge_scope(trail: list[Check], part: RoutePolicies, caller: Caller) -> Deny | None:
    match part.scope:
        case "any":
            return None
        case "unknown":
            reason = "route_policy_scope is missing or unknown"
            return _deny(trail, "domain", "domain:scope=unknown", reason, "domain_scope")
        case "org" | "space" as scope:
            # An endpoint without the tag must never equal a caller without the OU.
            if (caller.org if scope == "org" else caller.space) is None:
                reason = f"caller has no {scope} in its certificate to compare with the endpoint pool"
                return _deny(trail, "domain", "domain:scope=" + scope, reason, "domain_scope")
            trail.append(_SCOPED[scope])
            return None
        case _:
            assert_never(part.scope)


def _deny_unmatched(trail: list[Check], part: MtlsOptions | RoutePolicies, caller: Caller) -> Deny:
    callers = part.callers
    if isinstance(part, RoutePolicies):
        if callers.nobody:
            reason = "route has no route policies configured"
            return _deny(trail, "route", "route:no_route_policies", reason, "route_no_options")
        reason = f"caller app {caller.app} not in route_policies"
        return _deny(trail, "route", "route:route_policies", reason, "route_not_listed")
    if callers.nobody:
        return _deny(trail, *_DENIALS["no_options"])
    rule = reason = ""
    if callers.apps:
        rule, reason = "route:mtls_allowed_apps", f"caller app {caller.app} not in mtls_allowed_apps"
    if callers.spaces:
        rule = rule or "route:mtls_allowed_spaces"
        reason = _also(reason, f"caller {_named(caller, 'space')} not in mtls_allowed_spaces")
    if callers.orgs:
        rule = rule or "route:mtls_allowed_orgs"
        reason = _also(reason, f"caller {_named(caller, 'org')} not in mtls_allowed_orgs")
    return _deny(trail, "route", rule, reason, "route_not_listed")


def _also(said: str, more: str) -> str:
    return f"{said}, {more}" if said else more


def _why_unknown(domain: DomainPolicy, caller: Caller | IdentityError | None) -> str:
    if isinstance(caller, IdentityError):
        return caller.detail
    if not domain.reads_identity:
        return f"{domain.pattern} reads no identity (xfcc.identity_extractor: none), and the route demands one"
    return "no client certificate was verified on this connection"


def _ignored(domain: DomainPolicy | None, part: MtlsOptions) -> str:
    options = ", ".join(part.named) or "mtls_* options"
    why = "its domain is no mTLS domain" if domain is None else "domain authorization.mode=none"
    return f"route specifies {options} but {why}; rules ignored"


def _named(caller: Caller, kind: str) -> str:
    guid = caller.org if kind == "org" else caller.space if kind == "space" else caller.app
    return f"without {kind}" if guid is None else f"{kind} {guid}"


def _deny(trail: list[Check], layer: Layer, rule: str, reason: str, label: DenyLabel) -> Deny:
    checks = (*trail, Check(layer, rule, False, reason))
    return Deny(403, "mtls_authorization_denied", rule, reason, label, checks)


def _soften(denied: Deny, caller: Caller | IdentityError | None) -> Allow:
    known = caller if isinstance(caller, Caller) else None
    return Allow("would_deny", denied.rule, denied.reason, NO_SCOPES, known, denied.trail, report_only=True)
