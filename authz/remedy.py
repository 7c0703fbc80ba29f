"""What would have to change for another answer, and who may change it: the smallest change, never a wider one.

Promises: a remedy is found by trying: each step is done to the inputs of `decide`, and `decide` is asked again, until it lets
the caller in; so a step is there because without it the answer stays. A route is opened for the one app that asked, a domain
for the one org or space. Where somebody must do something that is no change of these inputs (get another certificate, ask on
another connection), the steps end there.
Refuses to know: files, tables, names, and whether anybody should make the change.
"""

from dataclasses import replace
from typing import Literal, NamedTuple

from authz.binding import BOUND_DOMAIN, BOUND_OPEN
from authz.decide import TABLE, decide, deny_scope, row_of
from authz.decision import Allow, Check, Decision
from authz.domain import DomainPolicy
from authz.policy import Callers, InvalidOptions, MtlsOptions, NoOptions, Part, PoolPolicy, RoutePolicies, Scope
from identity.caller import Caller, Guid
from identity.certificate import IdentityError

Who = Literal["operator", "developer", "caller"]
EditKind = Literal["connect", "extractor", "mode", "org", "space", "app", "source", "scope", "same_options", "valid_options"]

_BOTH: frozenset[str] = frozenset({"org", "space"})
_MAX_STEPS = 8
_SCOPES: dict[str, Scope] = {"any": "any", "org": "org", "space": "space"}


class Edit(NamedTuple):
    """A change of what `decide` is asked, as data; `apply` makes it."""

    kind: EditKind
    value: str = ""


class Step(NamedTuple):
    """One change: who may make it, where (path of a configuration, name of a route option, `certificate`, `connection`), and
    what, in a sentence. `edit` is None where it is no change of the inputs.
    """

    who: Who
    where: str
    change: str
    edit: Edit | None = None

    def as_json(self) -> dict[str, str]:
        """Plain JSON values."""
        return {"who": self.who, "where": self.where, "change": self.change}


class Remedy(NamedTuple):
    """The steps, in the order in which the layers ask for them; all are needed. Never empty."""

    steps: tuple[Step, ...]

    @property
    def who(self) -> Who:
        """Who may make the first change."""
        return self.steps[0].who

    @property
    def where(self) -> str:
        """Where the first change belongs."""
        return self.steps[0].where

    @property
    def change(self) -> str:
        """The first change, in a sentence."""
        return self.steps[0].change


class Case(NamedTuple):
    """What a decision is made of. `shared`: the scopes that some endpoint of the route shares with the caller."""

    bound: Check
    domain: DomainPolicy | None
    caller: Caller | IdentityError | None
    policy: PoolPolicy
    shared: frozenset[str] = _BOTH


def remedy(
    decision: Decision,
    domain: DomainPolicy | None,
    caller: Caller | IdentityError | None,
    policy: PoolPolicy,
    *,
    host: str = "",
    shared: frozenset[str] | None = None,
) -> Remedy | None:
    """What would turn `decision`; None for one that needs no turning, or that nothing here can turn.

    A denial, or one that report-only softened, is turned into an Allow; options that are not enforced into some that are.
    `caller` is whom the certificate names, also where the domain reads no identity; `host` is for the sentences; `shared` as
    in Case (None: not known).
    """
    if isinstance(decision, Allow) and decision.auth in (None, "allowed"):
        return None
    pool_said = decision.rule in ("domain:scope=org", "domain:scope=space")
    known = shared if shared is not None else frozenset() if pool_said else _BOTH
    if isinstance(decision, Allow) and domain is not None and domain.report_only:
        domain = replace(domain, report_only=False)
    case = Case(decision.trail[0], domain, caller, policy, known)
    step = _enforcing(decision, case) if isinstance(decision, Allow) and decision.auth == "not_enforced" else None
    if step is not None:
        return Remedy((step,))
    steps = _try(decision, case, host)
    return Remedy(steps) if steps else None


def judge(case: Case) -> Decision:
    """What `decide` says, with the endpoints' scope: as the data plane, but without a connection and without endpoints."""
    decision = decide(case.bound, case.domain, case.caller if _read(case) else None, case.policy)
    if isinstance(decision, Allow) and not decision.scopes <= case.shared:
        return deny_scope(decision)
    return decision


def apply(edit: Edit, case: Case) -> Case:
    """`case` after the change."""
    domain, policy = case.domain, case.policy
    match edit.kind:
        case "connect":
            return case._replace(bound=BOUND_OPEN if domain is None else BOUND_DOMAIN)
        case "extractor" | "mode" | "org" | "space":
            return case if domain is None else case._replace(domain=_edit_domain(edit, domain))
        case "app" | "source" | "scope" | "same_options" | "valid_options":
            parts = dict.fromkeys(after for part in policy.parts if (after := _edit_part(edit, part, case)) is not None)
            return case._replace(policy=PoolPolicy(tuple(parts), policy.warnings))


def _try(decision: Decision, case: Case, host: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    while len(steps) < _MAX_STEPS:
        step = _step(decision, case, host)
        if step is None:
            break
        steps.append(step)
        if step.edit is None:
            break
        case = apply(step.edit, case)
        decision = judge(case)
        if isinstance(decision, Allow):
            break
    return tuple(steps)


def _step(decision: Decision, case: Case, host: str) -> Step | None:
    """The smallest change for the check that failed."""
    failed = decision.trail[-1]
    match failed.layer:
        case "binding":
            return _connect(failed, case, host)
        case "deny":
            where = failed.rule.replace(":", ".")
            return Step("operator", where, f"take it off {where}: {failed.detail}")
        case "identity":
            return _identify(case)
        case "domain":
            return _enter(failed, case)
        case "route":
            return _admit(failed, case)


def _connect(failed: Check, case: Case, host: str) -> Step:
    name, domain = host or "the Host", case.domain
    if failed.rule in ("certificate_expired", "certificate_revoked"):
        return Step("caller", "certificate", "get a new certificate, and connect with it")
    if domain is None:
        return Step("caller", "connection", f"ask for {name} on a connection of its own, with SNI {name}", Edit("connect"))
    change = (
        f"ask over TLS with SNI {name}, on a connection of its own, with a client certificate of an authority of {domain.pattern}"
    )
    return Step("caller", "connection", change, Edit("connect") if isinstance(case.caller, Caller) else None)


def _identify(case: Case) -> Step:
    domain = case.domain
    if domain is None:
        change = "map the route to a host of a domain that verifies callers; under this host its policies can only deny"
        return Step("developer", "route", change)
    if not domain.reads_identity:
        change = f"let {domain.pattern} read who is calling from the certificate's OUs: cf_ou"
        return Step("operator", f"{_entry(domain)}.xfcc.identity_extractor", change, Edit("extractor"))
    if isinstance(case.caller, IdentityError):
        return Step("caller", "certificate", f"get a certificate with exactly one OU app:<guid> ({case.caller.detail})")
    return Step("caller", "certificate", f"show a client certificate of an authority of {domain.pattern}, with an OU app:<guid>")


def _enter(failed: Check, case: Case) -> Step | None:
    domain, caller = case.domain, case.caller
    if domain is None or not isinstance(caller, Caller):
        return None
    match failed.rule:
        case "domain:orgs":
            return _list(domain, "org", caller.org)
        case "domain:spaces":
            return _list(domain, "space", caller.space)
        case _:
            return _scope(failed, case, caller)


def _list(domain: DomainPolicy, kind: Literal["org", "space"], guid: Guid | None) -> Step:
    where = f"{_entry(domain)}.authorization.config.{kind}s"
    if guid is None:
        return _lacks("organization" if kind == "org" else "space", f"{where} asks for it")
    return Step("operator", where, f"add {kind} {guid} to authorization.config.{kind}s of {domain.pattern}", Edit(kind, guid))


def _scope(failed: Check, case: Case, caller: Caller) -> Step:
    asked = failed.rule.removeprefix("domain:scope=")
    if asked == "org" and caller.org is None:
        return _lacks("organization", "route_policy_scope is org")
    if asked == "space" and caller.space is None:
        return _lacks("space", "route_policy_scope is space")
    scope = _narrowest(case)
    return Step("developer", "route_policy_scope", f"set route_policy_scope of the route to {scope}", Edit("scope", scope))


def _narrowest(case: Case) -> Scope:
    """The narrowest scope in which the caller reaches an endpoint."""
    usable = _usable(case)
    return "space" if "space" in usable else "org" if "org" in usable else "any"


def _usable(case: Case) -> frozenset[str]:
    caller = case.caller
    if not isinstance(caller, Caller):
        return frozenset()
    return frozenset(kind for kind in case.shared if (caller.org if kind == "org" else caller.space) is not None)


def _lacks(prefix: str, why: str) -> Step:
    return Step("caller", "certificate", f"get a certificate with an OU {prefix}:<guid> ({why})")


def _admit(failed: Check, case: Case) -> Step | None:
    parts, caller = case.policy.parts, case.caller
    if failed.rule == "route:invalid_options":
        if _others(case):
            change = "register every instance of the route with the same valid options"
            return Step("developer", "options", change, Edit("same_options"))
        value, options = _least(case)
        change = f"register one flat JSON object within max_route_options_size as options; the least for this caller: {options}"
        return Step("developer", "options", change, Edit("valid_options", value))
    if not isinstance(caller, Caller):
        return None
    demanded = TABLE[row_of(case.domain)]["no_options"] == "deny"
    if demanded and any(isinstance(part, NoOptions) for part in parts) and _others(case):
        change = "register every instance of the route with the same options: one of them has none"
        return Step("developer", "options", change, Edit("same_options"))
    if failed.rule in ("route:route_policies", "route:no_route_policies"):
        change = f"add cf:app:{caller.app} to route_policy_sources of the route"
        return Step("developer", "route_policy_sources", change, Edit("source", caller.app))
    change = f"add app {caller.app} to mtls_allowed_apps of the route"
    return Step("developer", "mtls_allowed_apps", change, Edit("app", caller.app))


def _others(case: Case) -> bool:
    """Whether some instances say, with effect, whom they let in, beside those that do not."""
    row = TABLE[row_of(case.domain)]
    return any(isinstance(part, MtlsOptions | RoutePolicies) and row[part.column] == "enforce" for part in case.policy.parts)


def _least(case: Case) -> tuple[str, str]:
    """An edit's value, and the wording, of the least options, in the dialect that the broken ones were in."""
    app = case.caller.app if isinstance(case.caller, Caller) else ""
    if any(part.column == "invalid_route_policy" for part in case.policy.parts):
        scope = _narrowest(case)
        return f"{scope} {app}", f"route_policy_scope: {scope}, route_policy_sources: cf:app:{app or '<guid>'}"
    return app, f"mtls_allowed_apps: {app or '<guid>'}"


def _enforcing(decision: Allow, case: Case) -> Step:
    """What makes options count that do not count where the route is."""
    domain = case.domain
    if domain is None or row_of(domain) != "none":
        change = (
            "map the route to a host of a domain with authorization.mode: cf_identity; under this one its options mean nothing"
        )
        return Step("developer", "route", change)
    change = f"enforce the options of routes under {domain.pattern}: cf_identity, and xfcc.identity_extractor: cf_ou"
    return Step("operator", f"{_entry(domain)}.authorization.mode", change, Edit("mode"))


def _edit_domain(edit: Edit, domain: DomainPolicy) -> DomainPolicy:
    match edit.kind:
        case "extractor":
            return replace(domain, identity_extractor="cf_ou")
        case "mode":
            return replace(domain, mode="cf_identity", identity_extractor="cf_ou")
        case "org":
            return replace(domain, orgs=(domain.orgs or frozenset()) | {Guid(edit.value)})
        case _:
            return replace(domain, spaces=(domain.spaces or frozenset()) | {Guid(edit.value)})


def _edit_part(edit: Edit, part: Part, case: Case) -> Part | None:
    """The part after the change; None where it goes. What lets the caller in already stays as it is."""
    match edit.kind, part:
        case "app", MtlsOptions(callers) if not _matches(part, case.caller):
            return replace(part, callers=_with_app(callers, edit.value))
        case "source", RoutePolicies(callers=callers) if not _matches(part, case.caller):
            return replace(part, callers=_with_app(callers, edit.value))
        case "app", NoOptions() if not _others(case):
            return MtlsOptions(_with_app(Callers(), edit.value), ("mtls_allowed_apps",))
        case "scope", RoutePolicies(scope) if scope == "unknown" or (scope != "any" and scope not in _usable(case)):
            return replace(part, scope=_SCOPES[edit.value])
        case "same_options", NoOptions() | InvalidOptions():
            return None
        case "valid_options", InvalidOptions():
            return _valid(edit.value, part)
        case _:
            return part


def _matches(part: Part, caller: Caller | IdentityError | None) -> bool:
    if isinstance(caller, Caller) and isinstance(part, MtlsOptions | RoutePolicies):
        return part.match(caller) is not None
    return False


def _with_app(callers: Callers, app: str) -> Callers:
    return replace(callers, apps={*callers.apps, Guid(app)}) if app else callers


def _valid(value: str, part: InvalidOptions) -> Part:
    scope, _, app = value.rpartition(" ")
    callers = _with_app(Callers(), app)
    if part.column == "invalid_route_policy":
        return RoutePolicies(_SCOPES[scope], callers)
    return MtlsOptions(callers, ("mtls_allowed_apps",))


def _read(case: Case) -> bool:
    return case.domain is not None and case.domain.reads_identity


def _entry(domain: DomainPolicy) -> str:
    return f"{domain.dialect}[domain={domain.pattern}]"
