"""authz/decide.py: decision 8, cell by cell, and what surrounds it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.binding import BOUND_DOMAIN, BOUND_OPEN
from authz.decide import TABLE, Row, decide, deny_scope, row_of, unenforced
from authz.decision import DENY_LABELS, NO_SCOPES, Allow, Check, Decision, Deny
from authz.domain import DomainPolicy
from authz.policy import NO_POLICY, PoolPolicy, RoutePolicy, conjunction, route_policy
from identity.caller import Caller, Guid
from identity.certificate import IdentityError
from tests.authz.parts import APP, CALLER, ORG, SPACE, domain, pool, registered

DOMAINS: dict[Row, DomainPolicy | None] = {
    "open": None,
    "none": domain(mode="none"),
    "cf_identity": domain(),
    "domains": domain(dialect="domains", mode="none", identity_extractor="none"),
}
ENFORCING = domain()
SECOND = DOMAINS["domains"]
MTLS: dict[str, object] = {"mtls_allowed_apps": APP}
SOURCES: dict[str, object] = {"route_policy_scope": "any", "route_policy_sources": f"cf:app:{APP}"}
NO_OU = IdentityError("no_app", "certificate does not contain CF identity OU fields")


def _decide(host: DomainPolicy | None, policy: PoolPolicy, caller: Caller | IdentityError | None = CALLER) -> Decision:
    return decide(BOUND_OPEN if host is None else BOUND_DOMAIN, host, caller, policy)


def _invalid(*raw_keys: str) -> PoolPolicy:
    return conjunction([route_policy({}, (), "invalid", raw_keys)])


def _allow(decision: Decision) -> Allow:
    assert isinstance(decision, Allow)
    return decision


def _deny(decision: Decision) -> Deny:
    assert isinstance(decision, Deny)
    assert decision.trail[-1] == Check(decision.trail[-1].layer, decision.rule, False, decision.reason)
    assert all(check.passed for check in decision.trail[:-1])
    assert decision.label in DENY_LABELS
    return decision


COLUMNS = {
    "no options": NO_POLICY,
    "mtls": pool(MTLS),
    "route_policy": pool(SOURCES),
    "invalid": _invalid(),
    "invalid with mtls_": _invalid("mtls_allowed_apps"),
    "invalid with route_policy_": _invalid("route_policy_scope"),
    "invalid with both": _invalid("mtls_allowed_apps", "route_policy_scope"),
}
MTLS_RULE, SOURCE_RULE = "route:mtls_allowed_apps", "route:cf:app:app-1"
INVALID_RULE, NO_RULE = "route:invalid_options", "route:no_mtls_allowed_options"
FORWARD = (None, None)


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [
        ("open", "no options", FORWARD),
        ("open", "mtls", ("not_enforced", None)),
        ("open", "route_policy", ("denied", "identity_extraction")),
        ("open", "invalid", FORWARD),
        ("open", "invalid with mtls_", FORWARD),
        ("open", "invalid with route_policy_", ("denied", INVALID_RULE)),
        ("open", "invalid with both", ("denied", INVALID_RULE)),
        ("none", "no options", FORWARD),
        ("none", "mtls", ("not_enforced", None)),
        ("none", "route_policy", ("allowed", SOURCE_RULE)),
        ("none", "invalid", FORWARD),
        ("none", "invalid with mtls_", FORWARD),
        ("none", "invalid with route_policy_", ("denied", INVALID_RULE)),
        ("none", "invalid with both", ("denied", INVALID_RULE)),
        ("cf_identity", "no options", ("denied", NO_RULE)),
        ("cf_identity", "mtls", ("allowed", MTLS_RULE)),
        ("cf_identity", "route_policy", ("allowed", SOURCE_RULE)),
        ("cf_identity", "invalid", ("denied", INVALID_RULE)),
        ("cf_identity", "invalid with mtls_", ("denied", INVALID_RULE)),
        ("cf_identity", "invalid with route_policy_", ("denied", INVALID_RULE)),
        ("cf_identity", "invalid with both", ("denied", INVALID_RULE)),
        ("domains", "no options", FORWARD),
        ("domains", "mtls", ("allowed", MTLS_RULE)),
        ("domains", "route_policy", ("allowed", SOURCE_RULE)),
        ("domains", "invalid", FORWARD),
        ("domains", "invalid with mtls_", ("denied", INVALID_RULE)),
        ("domains", "invalid with route_policy_", ("denied", INVALID_RULE)),
        ("domains", "invalid with both", ("denied", INVALID_RULE)),
    ],
)
def test_each_cell_of_the_table(row: Row, column: str, expected: tuple[str | None, str | None]) -> None:
    """R252, R270, R318, attacks 29, 30: decision 8 for a caller that every list here admits."""
    decision = _decide(DOMAINS[row], COLUMNS[column])
    assert decision.log_fields()[:2] == expected


@pytest.mark.parametrize("row", ["none", "cf_identity", "domains"])
@pytest.mark.parametrize("options", [MTLS, SOURCES])
def test_where_options_are_enforced_a_stranger_is_denied(row: Row, options: dict[str, object]) -> None:
    """R254, attack 29: 403 for a caller that is on no list."""
    stranger = Caller(Guid("other"), Guid("other"), Guid("other"))
    decision = _decide(DOMAINS[row], pool(options), stranger)
    if (row, options) == ("none", MTLS):
        assert _allow(decision).auth == "not_enforced"
    else:
        assert _deny(decision).status == 403
        assert _deny(decision).code == "mtls_authorization_denied"


def test_the_rows_cover_every_domain() -> None:
    """A domain stands in exactly one row."""
    assert {row: row_of(host) for row, host in DOMAINS.items()} == {row: row for row in TABLE}
    assert row_of(domain(dialect="domains")) == "domains"


@pytest.mark.parametrize("caller", [None, NO_OU, IdentityError("ambiguous", "two")])
@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("none", "route_policy"),
        ("cf_identity", "no options"),
        ("cf_identity", "mtls"),
        ("cf_identity", "invalid"),
        ("domains", "mtls"),
        ("domains", "route_policy"),
    ],
)
def test_without_identity_whatever_is_enforced_denies(row: Row, column: str, caller: IdentityError | None) -> None:
    """R328: 403 with a named reason."""
    denied = _deny(_decide(DOMAINS[row], COLUMNS[column], caller))
    assert (denied.status, denied.rule, denied.label) == (403, "identity_extraction", "no_identity")
    assert denied.reason == (caller.detail if caller else "no client certificate was verified on this connection")


def test_even_any_needs_an_identity() -> None:
    """R257: any authenticated caller, not anybody."""
    assert _deny(_decide(ENFORCING, pool({"mtls_allow_any": True}), NO_OU)).rule == "identity_extraction"


@pytest.mark.parametrize("column", ["no options", "invalid"])
def test_the_second_dialect_forwards_a_caller_without_identity(column: str) -> None:
    """RFC-0055, tier 1: the app authorizes."""
    assert _allow(_decide(SECOND, COLUMNS[column], NO_OU)).auth is None


def test_a_caller_on_an_open_host_is_never_believed() -> None:
    """Decision 8: no verified identity there, even if one is passed in."""
    assert _deny(_decide(None, pool(SOURCES), CALLER)).rule == "identity_extraction"
    assert _allow(_decide(None, NO_POLICY, CALLER)).caller is None


def test_a_domain_that_reads_no_identity_has_none() -> None:
    """R314: `identity_extractor: none` means none, and a route that demands one is closed."""
    host = domain(mode="none", identity_extractor="none")
    denied = _deny(_decide(host, pool(SOURCES)))
    assert denied.rule == "identity_extraction"
    assert "xfcc.identity_extractor: none" in denied.reason


@pytest.mark.parametrize(
    ("changes", "rule", "reason"),
    [
        (
            {"orgs": {"o"}},
            "domain:orgs",
            "caller org org-1 not in authorization.config.orgs of *.apps.mtls.internal",
        ),
        (
            {"orgs": set()},
            "domain:orgs",
            "caller org org-1 not in authorization.config.orgs of *.apps.mtls.internal",
        ),
        (
            {"spaces": {"s"}},
            "domain:spaces",
            "caller space space-1 not in authorization.config.spaces of *.apps.mtls.internal",
        ),
    ],
)
def test_the_domain_denies_before_the_route_is_asked(changes: dict[str, Any], rule: str, reason: str) -> None:
    """R263, R265, R266: the operator's door comes first."""
    host = domain(**{key: frozenset(value) for key, value in changes.items()})
    for policy in (pool(MTLS), NO_POLICY, pool({"mtls_allow_any": True})):
        denied = _deny(_decide(host, policy))
        assert (denied.rule, denied.reason) == (rule, reason)
        assert denied.label == rule.replace(":", "_")


@pytest.mark.parametrize(("key", "rule"), [("orgs", "domain:orgs"), ("spaces", "domain:spaces")])
def test_a_caller_without_org_or_space_passes_no_list_of_them(key: str, rule: str) -> None:
    """Decision 5: a missing value never matches."""
    host = domain(**{key: frozenset({ORG, SPACE})})
    denied = _deny(_decide(host, pool(MTLS), Caller(APP)))
    assert denied.rule == rule
    assert "caller without" in denied.reason


def test_the_route_only_narrows() -> None:
    """R264, R274, R327: both doors must open."""
    host = domain(orgs=frozenset({ORG}))
    assert _allow(_decide(host, pool(MTLS))).rule == MTLS_RULE
    assert _deny(_decide(host, pool({"mtls_allowed_apps": "other"}))).rule == MTLS_RULE
    assert _deny(_decide(host, pool(MTLS), Caller(APP, SPACE, Guid("o2")))).rule == "domain:orgs"


@pytest.mark.parametrize(
    ("options", "rule", "reason", "label"),
    [
        (
            {"mtls_allowed_apps": "g"},
            MTLS_RULE,
            "caller app app-1 not in mtls_allowed_apps",
            "route_not_listed",
        ),
        (
            {"mtls_allowed_spaces": "g", "mtls_allowed_orgs": "g"},
            "route:mtls_allowed_spaces",
            "caller space space-1 not in mtls_allowed_spaces, caller org org-1 not in mtls_allowed_orgs",
            "route_not_listed",
        ),
        (
            {"mtls_allowed_apps": ""},
            NO_RULE,
            "route has no mtls_allowed_* options configured",
            "route_no_options",
        ),
        (
            {"mtls_allow_any": False},
            NO_RULE,
            "route has no mtls_allowed_* options configured",
            "route_no_options",
        ),
        (
            {"route_policy_scope": "any", "route_policy_sources": "cf:app:g"},
            "route:route_policies",
            "caller app app-1 not in route_policies",
            "route_not_listed",
        ),
        (
            {"route_policy_scope": "any"},
            "route:no_route_policies",
            "route has no route policies configured",
            "route_no_options",
        ),
        (
            {"route_policy_sources": "cf:any"},
            "domain:scope=unknown",
            "route_policy_scope is missing or unknown",
            "domain_scope",
        ),
    ],
)
def test_a_denial_names_rule_and_reason(options: dict[str, object], rule: str, reason: str, label: str) -> None:
    """R259, attack 30: the words of the log."""
    for host in (ENFORCING, SECOND):
        denied = _deny(_decide(host, pool(options)))
        assert (denied.rule, denied.reason, denied.label) == (rule, reason, label)


def test_an_app_that_calls_itself_obeys_the_same_rules() -> None:
    """R329: no self-allow; the policy does not even know whose route it is."""
    assert isinstance(_decide(ENFORCING, pool({"mtls_allowed_apps": "other"})), Deny)


@pytest.mark.parametrize("kind", ["org", "space"])
def test_a_scope_binds_the_endpoint_choice(kind: str) -> None:
    """Decision 7: the Allow carries what the choice must honour."""
    allow = _allow(_decide(SECOND, pool(SOURCES | {"route_policy_scope": kind})))
    assert allow.scopes == {kind}
    denied = _deny(deny_scope(allow))
    named = {"org": "org org-1", "space": "space space-1"}[kind]
    assert (denied.status, denied.rule, denied.label) == (403, f"domain:scope={kind}", "domain_scope")
    assert denied.reason == f"caller {named} not in endpoint pool"


def test_scopes_of_several_policies_all_bind() -> None:
    """Decision 4 for scopes."""
    one, two = SOURCES | {"route_policy_scope": "org"}, SOURCES | {"route_policy_scope": "space"}
    allow = _allow(_decide(SECOND, pool(one, two)))
    assert allow.scopes == {"org", "space"}
    assert deny_scope(allow).rule == "domain:scope=space"


@pytest.mark.parametrize("kind", ["org", "space"])
def test_a_caller_without_the_value_fails_the_scope_at_once(kind: str) -> None:
    """Contract a.9, 8: an endpoint without tag and a caller without OU are not equal."""
    denied = _deny(_decide(SECOND, pool(SOURCES | {"route_policy_scope": kind}), Caller(APP)))
    assert (denied.rule, denied.label) == (f"domain:scope={kind}", "domain_scope")


def test_both_dialects_on_one_route_must_both_allow() -> None:
    """Decision 4."""
    assert _allow(_decide(ENFORCING, pool(MTLS | SOURCES))).rule == MTLS_RULE
    no_source = SOURCES | {"route_policy_sources": "cf:app:g"}
    assert _deny(_decide(ENFORCING, pool(MTLS | no_source))).rule == "route:route_policies"
    assert _deny(_decide(ENFORCING, pool({"mtls_allowed_apps": "g"} | SOURCES))).rule == MTLS_RULE


def test_where_one_dialect_is_ignored_the_other_still_decides() -> None:
    """Decision 8, second row: the trail says what was ignored."""
    allow = _allow(_decide(DOMAINS["none"], pool({"mtls_allowed_apps": "g"} | SOURCES)))
    assert (allow.auth, allow.rule) == ("allowed", SOURCE_RULE)
    assert "not_enforced" in [check.rule for check in allow.trail]


def test_one_endpoint_without_options_closes_an_enforcing_route() -> None:
    """Decision 4: granting waits for the last endpoint, revoking for the first."""
    assert _deny(_decide(ENFORCING, pool(MTLS, {}))).rule == NO_RULE
    assert _allow(_decide(SECOND, pool(MTLS, {}))).rule == MTLS_RULE
    assert isinstance(_decide(SECOND, pool(MTLS, {"mtls_allowed_apps": "g"})), Deny)


def test_an_empty_policy_matches_nothing_and_denies() -> None:
    """Default deny: where identity is demanded, no part at all is no permission."""
    assert _deny(_decide(ENFORCING, PoolPolicy(()))).rule == NO_RULE


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("none", "route specifies mtls_allowed_apps but domain authorization.mode=none; rules ignored"),
        ("open", "route specifies mtls_allowed_apps but its domain is no mTLS domain; rules ignored"),
    ],
)
def test_options_that_are_not_enforced_are_said_to_be_so(row: Row, reason: str) -> None:
    """R270, R275, R318: forwarded, with the option named; the same text serves the warning once a change."""
    allow = _allow(_decide(DOMAINS[row], pool(MTLS), None))
    assert (allow.auth, allow.rule, allow.reason, allow.scopes) == ("not_enforced", None, reason, NO_SCOPES)
    assert unenforced(DOMAINS[row], pool(MTLS)) == reason


@pytest.mark.parametrize("row", ["cf_identity", "domains"])
def test_options_that_are_enforced_give_no_warning(row: Row) -> None:
    """R318."""
    assert unenforced(DOMAINS[row], pool(MTLS, SOURCES)) is None
    assert unenforced(None, pool(SOURCES)) is None
    assert unenforced(None, NO_POLICY) is None


@pytest.mark.parametrize(
    ("caller", "policy", "changes"),
    [
        (CALLER, NO_POLICY, {}),
        (CALLER, pool({"mtls_allowed_apps": "g"}), {}),
        (CALLER, pool(MTLS), {"orgs": frozenset({Guid("o")})}),
        (CALLER, _invalid(), {}),
        (CALLER, pool({"route_policy_sources": "cf:any"}), {}),
        (NO_OU, pool(MTLS), {}),
        (None, pool(MTLS), {}),
    ],
)
def test_report_only_forwards_and_says_what_it_would_do(
    caller: Caller | IdentityError | None, policy: PoolPolicy, changes: dict[str, Any]
) -> None:
    """Decision 8: every 403 of the domain and route layers, a missing identity included."""
    denied = _deny(_decide(domain(**changes), policy, caller))
    allow = _allow(_decide(domain(report_only=True, **changes), policy, caller))
    assert (allow.auth, allow.rule, allow.reason) == ("would_deny", denied.rule, denied.reason)
    assert allow.trail == denied.trail
    assert allow.scopes == NO_SCOPES


def test_report_only_softens_the_scope_of_the_endpoint_choice() -> None:
    """The choice is repeated among all endpoints."""
    first = _allow(_decide(domain(report_only=True), pool(SOURCES | {"route_policy_scope": "org"})))
    assert (first.auth, first.scopes) == ("allowed", frozenset({"org"}))
    allow = _allow(deny_scope(first))
    assert (allow.auth, allow.rule, allow.scopes) == ("would_deny", "domain:scope=org", NO_SCOPES)


def test_report_only_never_softens_a_421() -> None:
    """Decision 8: the handshake is not a matter of reporting."""
    bound = Check("binding", "no_mtls", False, "why")
    denied = decide(bound, domain(report_only=True), CALLER, pool(MTLS))
    assert isinstance(denied, Deny)
    assert (denied.status, denied.trail) == (421, (bound,))


def test_the_binding_fails_before_anything_else_is_asked() -> None:
    """Attack 1: no identity, no route, one check in the trail."""
    denied = decide(Check("binding", "other_domain", False, "why"), ENFORCING, NO_OU, NO_POLICY)
    assert isinstance(denied, Deny)
    assert (denied.status, denied.label, len(denied.trail)) == (421, "other_domain", 1)


def test_an_allow_shows_every_check_in_order() -> None:
    """The trail explains the decision."""
    allow = _allow(_decide(domain(spaces=frozenset({SPACE})), pool(MTLS, SOURCES)))
    layers = [(check.layer, check.rule) for check in allow.trail]
    assert layers == [
        ("binding", "domain"),
        ("identity", "identity_extraction"),
        ("domain", "domain:spaces"),
        ("route", MTLS_RULE),
        ("route", SOURCE_RULE),
    ]
    assert all(check.passed for check in allow.trail)
    assert allow.caller == CALLER


REGISTRATIONS = [
    registered(MTLS),
    registered({"mtls_allowed_apps": "other"}),
    registered({"mtls_allow_any": True}),
    registered(SOURCES),
    registered(SOURCES | {"route_policy_scope": "org"}),
    registered({}),
    route_policy({}, (), "invalid", ("mtls_x",)),
]


@given(
    st.lists(st.sampled_from(REGISTRATIONS), min_size=1, max_size=5).flatmap(
        lambda chosen: st.tuples(st.just(chosen), st.permutations(chosen))
    ),
    st.sampled_from(list(DOMAINS.values())),
    st.sampled_from([CALLER, Caller(APP), NO_OU, None]),
)
def test_a_shared_route_is_decided_the_same_in_every_order(
    orders: tuple[list[RoutePolicy], list[RoutePolicy]],
    host: DomainPolicy | None,
    caller: Caller | IdentityError | None,
) -> None:
    """Attack 31: same decision, rule, reason and trail, however the registrations came."""
    first, second = (_decide(host, conjunction(order), caller) for order in orders)
    assert first == second


@given(
    st.lists(st.sampled_from(REGISTRATIONS), min_size=1, max_size=4),
    st.sampled_from(REGISTRATIONS),
    st.sampled_from([DOMAINS["cf_identity"], DOMAINS["domains"], DOMAINS["none"]]),
)
def test_one_more_registration_never_opens_a_route(
    registrations: list[RoutePolicy], more: RoutePolicy, host: DomainPolicy | None
) -> None:
    """Attack 31: the conjunction only narrows."""
    before = _decide(host, conjunction(registrations))
    after = _decide(host, conjunction([*registrations, more]))
    assert not (isinstance(before, Deny) and isinstance(after, Allow))
