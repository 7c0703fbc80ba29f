"""authz/remedy.py: the change that is named is enough, all of it is needed, and it lets nobody else in."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.binding import BOUND_DOMAIN, BOUND_OPEN
from authz.decide import decide, deny_scope
from authz.decision import NO_SCOPES, Allow, Check, Decision
from authz.domain import DomainPolicy
from authz.policy import MtlsOptions, PoolPolicy, RoutePolicies, conjunction, route_policy
from authz.remedy import Case, Edit, Remedy, Step, apply, judge, remedy
from identity.caller import Caller, Guid
from identity.certificate import IdentityError
from tests.authz.parts import APP, CALLER, domain, pool, registered

NO_OU = IdentityError("no_app", "certificate does not contain CF identity OU fields")
ENTRY = "mtls_domains[domain=*.apps.mtls.internal]"
HOST = "a.apps.mtls.internal"
ELSEWHERE = "map the route to a host of a domain with authorization.mode: cf_identity; under this one its options mean nothing"
BOTH = frozenset({"org", "space"})


def _remedy(
    host: DomainPolicy | None,
    policy: PoolPolicy,
    caller: Caller | IdentityError | None = CALLER,
    bound: Check | None = None,
    shared: frozenset[str] = BOTH,
) -> Remedy | None:
    """The remedy for what is decided of this."""
    case = Case(bound or (BOUND_OPEN if host is None else BOUND_DOMAIN), host, caller, policy, shared)
    return remedy(judge(case), host, caller, policy, host=HOST, shared=shared)


def _steps(found: Remedy | None) -> list[tuple[str, str, str]]:
    return [(step.who, step.where, step.change) for step in found.steps] if found is not None else []


@pytest.mark.parametrize(
    ("host", "policy", "caller", "expected"),
    [
        (
            domain(),
            pool({"mtls_allowed_apps": "other"}),
            CALLER,
            [("developer", "mtls_allowed_apps", "add app app-1 to mtls_allowed_apps of the route")],
        ),
        (
            domain(),
            pool({}),
            CALLER,
            [("developer", "mtls_allowed_apps", "add app app-1 to mtls_allowed_apps of the route")],
        ),
        (
            domain(orgs=frozenset()),
            pool({"mtls_allow_any": True}),
            CALLER,
            [
                (
                    "operator",
                    f"{ENTRY}.authorization.config.orgs",
                    "add org org-1 to authorization.config.orgs of *.apps.mtls.internal",
                )
            ],
        ),
        (
            domain(spaces=frozenset({Guid("space-9")})),
            pool({"mtls_allowed_spaces": "space-9"}),
            CALLER,
            [
                (
                    "operator",
                    f"{ENTRY}.authorization.config.spaces",
                    "add space space-1 to authorization.config.spaces of *.apps.mtls.internal",
                ),
                ("developer", "mtls_allowed_apps", "add app app-1 to mtls_allowed_apps of the route"),
            ],
        ),
        (
            domain(orgs=frozenset()),
            pool({"mtls_allow_any": True}),
            Caller(APP),
            [
                (
                    "caller",
                    "certificate",
                    f"get a certificate with an OU organization:<guid> ({ENTRY}.authorization.config.orgs asks for it)",
                )
            ],
        ),
        (
            domain(),
            pool({"mtls_allow_any": True}),
            NO_OU,
            [
                (
                    "caller",
                    "certificate",
                    "get a certificate with exactly one OU app:<guid> (certificate does not contain CF identity OU fields)",
                )
            ],
        ),
        (
            domain(),
            pool({"mtls_allow_any": True}),
            None,
            [
                (
                    "caller",
                    "certificate",
                    "show a client certificate of an authority of *.apps.mtls.internal, with an OU app:<guid>",
                )
            ],
        ),
        (
            domain(mode="none", identity_extractor="none"),
            pool({"route_policy_scope": "any", "route_policy_sources": "cf:app:other"}),
            CALLER,
            [
                (
                    "operator",
                    f"{ENTRY}.xfcc.identity_extractor",
                    "let *.apps.mtls.internal read who is calling from the certificate's OUs: cf_ou",
                ),
                ("developer", "route_policy_sources", "add cf:app:app-1 to route_policy_sources of the route"),
            ],
        ),
        (
            None,
            pool({"route_policy_scope": "any", "route_policy_sources": "cf:any"}),
            CALLER,
            [
                (
                    "developer",
                    "route",
                    "map the route to a host of a domain that verifies callers; under this host its policies can only deny",
                )
            ],
        ),
        (
            None,
            pool({"mtls_allowed_apps": "other"}),
            CALLER,
            [("developer", "route", ELSEWHERE)],
        ),
        (
            domain(mode="none"),
            pool({"mtls_allowed_apps": "other"}),
            CALLER,
            [
                (
                    "operator",
                    f"{ENTRY}.authorization.mode",
                    "enforce the options of routes under *.apps.mtls.internal: cf_identity, and xfcc.identity_extractor: cf_ou",
                )
            ],
        ),
        (
            domain(),
            pool({}, {"mtls_allowed_apps": APP}),
            CALLER,
            [("developer", "options", "register every instance of the route with the same options: one of them has none")],
        ),
        (
            domain(dialect="domains", mode="none", identity_extractor="none"),
            pool({"route_policy_scope": "org"}),
            CALLER,
            [("developer", "route_policy_sources", "add cf:app:app-1 to route_policy_sources of the route")],
        ),
        (
            domain(report_only=True),
            pool({"mtls_allowed_orgs": "org-9"}),
            CALLER,
            [("developer", "mtls_allowed_apps", "add app app-1 to mtls_allowed_apps of the route")],
        ),
    ],
)
def test_each_layer_has_its_remedy(
    host: DomainPolicy | None,
    policy: PoolPolicy,
    caller: Caller | IdentityError | None,
    expected: list[tuple[str, str, str]],
) -> None:
    """Who may change what, in order; the operator's door comes before the developer's."""
    assert _steps(_remedy(host, policy, caller)) == expected


def test_invalid_options_are_replaced_by_the_least_that_lets_this_caller_in() -> None:
    """In the dialect that was meant."""
    for keys, said in (
        (["mtls_allowed_apps"], "mtls_allowed_apps: app-1"),
        (["route_policy_sources"], "route_policy_scope: space, route_policy_sources: cf:app:app-1"),
    ):
        found = _remedy(domain(), conjunction([route_policy({}, (), "invalid", keys)]))
        assert found is not None
        assert (found.who, found.where, len(found.steps)) == ("developer", "options", 1)
        assert found.change.endswith(said)


def test_invalid_options_beside_valid_ones_are_registered_alike() -> None:
    """What the other instances say is what the developer meant."""
    policy = conjunction([route_policy({}, (), "invalid", ()), registered({"mtls_allowed_apps": APP})])
    assert _steps(_remedy(domain(), policy)) == [
        ("developer", "options", "register every instance of the route with the same valid options")
    ]


@pytest.mark.parametrize(
    ("scope", "shared", "expected"),
    [
        ("space", frozenset({"org"}), "org"),
        ("space", NO_SCOPES, "any"),
        ("org", NO_SCOPES, "any"),
        ("nonsense", BOTH, "space"),
        ("nonsense", frozenset({"org"}), "org"),
    ],
)
def test_a_scope_is_widened_as_far_as_needed(scope: str, shared: frozenset[str], expected: str) -> None:
    """Not from space to any where the caller's org has an endpoint."""
    policy = pool({"route_policy_scope": scope, "route_policy_sources": "cf:any"})
    found = _remedy(domain(dialect="domains", mode="none"), policy, shared=shared)
    assert _steps(found) == [
        ("developer", "route_policy_scope", f"set route_policy_scope of the route to {expected}"),
    ]


def test_a_denial_by_scope_alone_says_that_no_endpoint_is_shared() -> None:
    """Who calls without `shared` need not repeat what the decision says."""
    host = domain(dialect="domains", mode="none")
    policy = pool({"route_policy_scope": "org", "route_policy_sources": "cf:any"})
    allow = decide(BOUND_DOMAIN, host, CALLER, policy)
    assert isinstance(allow, Allow)
    found = remedy(deny_scope(allow), host, CALLER, policy)
    assert [step[2] for step in _steps(found)] == ["set route_policy_scope of the route to any"]


def test_a_caller_without_the_ou_of_a_scope_needs_another_certificate() -> None:
    """A wider scope would let in more than this caller."""
    policy = pool({"route_policy_scope": "org", "route_policy_sources": "cf:any"})
    found = _remedy(domain(dialect="domains", mode="none"), policy, Caller(APP))
    assert _steps(found) == [
        ("caller", "certificate", "get a certificate with an OU organization:<guid> (route_policy_scope is org)")
    ]


@pytest.mark.parametrize("rule", ["plain_http", "no_mtls", "other_domain"])
def test_a_connection_that_does_not_fit_is_the_callers_to_change(rule: str) -> None:
    """And what the doors would say then is named too."""
    failed = Check("binding", rule, False, "no fit")
    host = domain()
    connect = (
        "caller",
        "connection",
        f"ask over TLS with SNI {HOST}, on a connection of its own, with a client certificate of an authority of {host.pattern}",
    )
    add = ("developer", "mtls_allowed_apps", "add app app-1 to mtls_allowed_apps of the route")
    assert _steps(_remedy(host, pool({"mtls_allowed_apps": "other"}), bound=failed)) == [connect, add]
    assert _steps(_remedy(host, pool({"mtls_allow_any": True}), bound=failed)) == [connect]
    assert _steps(_remedy(host, pool({"mtls_allow_any": True}), None, bound=failed)) == [connect]


def test_an_open_host_wants_a_connection_that_enforced_nothing() -> None:
    """The other direction of the 421."""
    found = _remedy(None, pool({}), bound=Check("binding", "outside_domain", False, "no fit"))
    assert _steps(found) == [
        ("caller", "connection", "ask for a.apps.mtls.internal on a connection of its own, with SNI a.apps.mtls.internal")
    ]


@pytest.mark.parametrize("rule", ["certificate_expired", "certificate_revoked"])
def test_a_certificate_of_the_past_is_replaced(rule: str) -> None:
    """No other connection helps."""
    found = _remedy(domain(), pool({"mtls_allow_any": True}), bound=Check("binding", rule, False, "past"))
    assert _steps(found) == [("caller", "certificate", "get a new certificate, and connect with it")]


def test_what_is_allowed_needs_nothing() -> None:
    """Neither does what nobody asks about."""
    assert _remedy(domain(), pool({"mtls_allow_any": True})) is None
    assert _remedy(None, pool({})) is None


def test_a_step_is_plain_json() -> None:
    """The edit is for whoever tries it out, not for the reader."""
    found = _remedy(domain(), pool({}))
    assert found is not None
    assert found.steps[0].as_json() == {
        "who": "developer",
        "where": "mtls_allowed_apps",
        "change": "add app app-1 to mtls_allowed_apps of the route",
    }


# ---- properties

_SOME = st.sampled_from(["1", "2", "3"])


def _lists(kind: str) -> st.SearchStrategy[str]:
    return st.lists(_SOME.map(lambda n: f"{kind}-{n}"), max_size=2).map(",".join)


_MTLS = st.fixed_dictionaries(
    {},
    optional={
        "mtls_allowed_apps": _lists("app"),
        "mtls_allowed_spaces": _lists("space"),
        "mtls_allowed_orgs": _lists("org"),
        "mtls_allow_any": st.booleans(),
    },
)
_LATER = st.fixed_dictionaries(
    {},
    optional={
        "route_policy_scope": st.sampled_from(["any", "org", "space", "odd"]),
        "route_policy_sources": st.one_of(
            st.just("cf:any"), _lists("cf:app:app"), _lists("cf:space:space"), _lists("cf:org:org")
        ),
    },
)
_KEYS = st.sampled_from([(), ("mtls_allowed_apps",), ("route_policy_scope",)])
_POLICIES = st.lists(
    st.one_of(
        _MTLS.map(registered),
        _LATER.map(registered),
        st.builds(lambda a, b: registered({**a, **b}), _MTLS, _LATER),
        _KEYS.map(lambda keys: route_policy({}, (), "invalid", keys)),
    ),
    min_size=1,
    max_size=3,
).map(conjunction)
_GUIDS = st.sampled_from([1, 2])
_CALLERS = st.builds(
    lambda app, space, org: Caller(Guid(f"app-{app}"), space, org),
    _GUIDS,
    st.one_of(st.none(), _GUIDS.map(lambda n: Guid(f"space-{n}"))),
    st.one_of(st.none(), _GUIDS.map(lambda n: Guid(f"org-{n}"))),
)
_ORGS = st.one_of(st.none(), st.frozensets(st.sampled_from([Guid("org-1"), Guid("org-2")])))
_SPACES = st.frozensets(st.sampled_from([Guid("space-1"), Guid("space-2")]))
_DOMAINS: st.SearchStrategy[DomainPolicy | None] = st.one_of(
    st.none(),
    st.builds(lambda orgs, soft: domain(orgs=orgs, report_only=soft), _ORGS, st.booleans()),
    st.builds(lambda spaces: domain(spaces=spaces), _SPACES),
    st.sampled_from(["cf_ou", "none"]).map(lambda reads: domain(mode="none", identity_extractor=reads)),
    st.just(domain(dialect="domains", mode="none", identity_extractor="none")),
)
_BOUND_FAILED = st.sampled_from(["", "plain_http", "no_mtls", "other_domain"])
_CASES = st.builds(
    lambda host, caller, policy, shared, failed: Case(
        Check("binding", failed, False, "no fit") if failed and host else BOUND_OPEN if host is None else BOUND_DOMAIN,
        host,
        caller,
        policy,
        # What an endpoint can share, the caller must have.
        frozenset(kind for kind in shared if (caller.org if kind == "org" else caller.space) is not None),
    ),
    _DOMAINS,
    _CALLERS,
    _POLICIES,
    st.frozensets(st.sampled_from(["org", "space"])),
    _BOUND_FAILED,
)


def _of(case: Case) -> Remedy | None:
    return remedy(judge(case), case.domain, case.caller, case.policy, host="h", shared=case.shared)


def _after(case: Case, steps: tuple[Step, ...]) -> Case:
    for step in steps:
        assert step.edit is not None
        case = apply(step.edit, case)
    return case


def _lets_in(decision: Decision) -> bool:
    return isinstance(decision, Allow) and decision.auth in ("allowed", None)


@given(_CASES)
def test_whatever_is_not_allowed_has_a_remedy_that_turns_it(case: Case) -> None:
    """The steps together are enough, by the same `decide`; where one is no change of its inputs, it comes last."""
    before, found = judge(case), _of(case)
    if _lets_in(before):
        assert found is None
        return
    assert found is not None
    if found.steps[-1].edit is None:
        assert all(step.edit is not None for step in found.steps[:-1])
        return
    after = judge(_after(case, found.steps))
    if isinstance(before, Allow) and before.auth == "not_enforced":
        assert not isinstance(after, Allow) or after.auth != "not_enforced"
    else:
        assert isinstance(after, Allow)
        assert after.auth != "would_deny" or not isinstance(before, Allow)


@given(_CASES)
def test_no_step_of_a_remedy_can_be_left_out(case: Case) -> None:
    """The smallest change: each step alone keeps the caller out when it is missing."""
    before, found = judge(case), _of(case)
    if found is None or found.steps[-1].edit is None or isinstance(before, Allow):
        return
    for left_out in range(len(found.steps)):
        rest = found.steps[:left_out] + found.steps[left_out + 1 :]
        assert not isinstance(judge(_after(case, rest)), Allow)


@given(_CASES, st.sampled_from([BOTH, NO_SCOPES]))
def test_a_remedy_lets_in_nobody_whom_nothing_names(case: Case, shared: frozenset[str]) -> None:
    """Who shares neither app nor space nor org with anybody stays out, unless the route lets in anybody of its own will."""
    found = _of(case)
    if found is None or found.steps[-1].edit is None or isinstance(judge(case), Allow) or _lets_in_anybody(case.policy):
        return
    stranger = case._replace(caller=Caller(Guid("app-9"), Guid("space-9"), Guid("org-9")), shared=shared)
    connected = stranger if stranger.bound.passed else apply(Edit("connect"), stranger)
    if not isinstance(judge(connected), Allow):
        assert not isinstance(judge(_after(stranger, found.steps)), Allow)


@given(_CASES)
def test_a_remedy_opens_a_route_for_one_app_alone(case: Case) -> None:
    """A neighbour in the same space, who was not let in, stays out, unless another door was all that kept them out."""
    found = _of(case)
    if found is None or any(step.where not in ("mtls_allowed_apps", "route_policy_sources") for step in found.steps):
        return
    assert isinstance(case.caller, Caller)
    neighbour = case._replace(caller=replace(case.caller, app=Guid("app-9")))
    if not isinstance(judge(neighbour), Allow):
        assert not isinstance(judge(_after(neighbour, found.steps)), Allow)


def _lets_in_anybody(policy: PoolPolicy) -> bool:
    return any(isinstance(part, MtlsOptions | RoutePolicies) and part.callers.any for part in policy.parts)
