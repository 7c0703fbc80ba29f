"""authz/policy.py: two dialects, one policy, and never "any" out of a mistake."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.policy import (
    MAX_LIST,
    NO_POLICY,
    WITHOUT_OPTIONS,
    Callers,
    InvalidOptions,
    MtlsOptions,
    RoutePolicies,
    RoutePolicy,
    conjunction,
    route_policy,
)
from identity.caller import Caller, Guid
from tests.authz.parts import APP, CALLER, ORG, SPACE, pool, registered

G1, G2 = Guid("g1"), Guid("g2")


def _guids(*texts: str) -> frozenset[Guid]:
    return frozenset(Guid(text) for text in texts)


def _mtls(policy: RoutePolicy) -> Callers:
    (part,) = policy.parts
    assert isinstance(part, MtlsOptions)
    return part.callers


def _sources(policy: RoutePolicy) -> tuple[str, Callers]:
    (part,) = policy.parts
    assert isinstance(part, RoutePolicies)
    return part.scope, part.callers


@pytest.mark.parametrize(
    ("options", "callers"),
    [
        ({"mtls_allowed_apps": "g1,g2"}, Callers(apps=_guids("g1", "g2"))),
        ({"mtls_allowed_apps": " g1 ,\tg2, ,,g1"}, Callers(apps=_guids("g1", "g2"))),
        ({"mtls_allowed_spaces": "g1"}, Callers(spaces=_guids("g1"))),
        ({"mtls_allowed_orgs": "g1"}, Callers(orgs=_guids("g1"))),
        (
            {"mtls_allowed_apps": "g1", "mtls_allowed_spaces": "g2", "mtls_allowed_orgs": "g1"},
            Callers(_guids("g1"), _guids("g2"), _guids("g1")),
        ),
        ({"mtls_allow_any": True}, Callers(any=True)),
        ({"mtls_allow_any": "true"}, Callers(any=True)),
        ({"mtls_allow_any": False}, Callers()),
        ({"mtls_allow_any": "false"}, Callers()),
        ({"mtls_allow_any": False, "mtls_allowed_apps": "g1"}, Callers(apps=_guids("g1"))),
    ],
)
def test_the_first_dialect_is_read(options: dict[str, object], callers: Callers) -> None:
    """R254 to R257, R260: lists with blanks, booleans also as text; `false` beside a list is no conflict."""
    policy = registered(options)
    assert _mtls(policy) == callers
    assert policy.warnings == ()


@pytest.mark.parametrize(
    ("options", "callers"),
    [
        ({"mtls_allow_any": True, "mtls_allowed_apps": "g1"}, Callers(apps=_guids("g1"))),
        ({"mtls_allow_any": "true", "mtls_allowed_orgs": "g1"}, Callers(orgs=_guids("g1"))),
        ({"mtls_allow_any": True, "mtls_allowed_apps": ""}, Callers()),
        ({"mtls_allow_any": True, "mtls_allowed_apps": "!"}, Callers()),
        ({"mtls_allow_any": True, "mtls_allowed_apps": ["g1"]}, Callers()),
        ({"mtls_allow_any": True, "mtls_allowed_app": "g1"}, Callers()),
    ],
)
def test_any_beside_a_list_is_dropped_and_the_list_stands(options: dict[str, object], callers: Callers) -> None:
    """R258, K3: the wide `any` is the invalid one, even beside an empty, broken or misspelt list."""
    policy = registered(options)
    assert _mtls(policy) == callers
    assert sum("is dropped" in warning for warning in policy.warnings) == 1


@pytest.mark.parametrize("value", [1, 0, 1.0, "True", "TRUE", "yes", " true", "1", "", None, [], {"a": 1}, [True]])
def test_a_bad_allow_any_never_allows_anyone(value: object) -> None:
    """Decision 8: a bad pair counts as nothing, never as `any`."""
    policy = registered({"mtls_allow_any": value})
    assert _mtls(policy).nobody
    assert len(policy.warnings) == 1


@pytest.mark.parametrize(
    "value",
    [
        True,
        5,
        5.5,
        None,
        ["g1"],
        {"g1": 1},
        pytest.param("g," * MAX_LIST, id="too long"),
        pytest.param(10**5000, id="huge"),
    ],
)
def test_a_bad_list_is_an_empty_list_and_the_others_stand(value: object) -> None:
    """Attack 30: a list that is none denies; what else was said stays."""
    policy = registered({"mtls_allowed_apps": value, "mtls_allowed_orgs": "g1"})
    assert _mtls(policy) == Callers(orgs=_guids("g1"))
    assert len(policy.warnings) == 1


def test_a_key_with_a_bad_value_is_present_and_empty() -> None:
    """A nested value arrives as a bad key: the dialect is present, and nobody is allowed."""
    assert _mtls(registered({}, "mtls_allowed_apps")).nobody
    assert _mtls(registered({}, "mtls_allow_any")).nobody
    assert _mtls(registered({"mtls_allow_any": True}, "mtls_allowed_sources")).nobody


def test_a_bad_key_beats_a_pair_of_the_same_name() -> None:
    """Whoever says it is bad is believed."""
    assert _mtls(registered({"mtls_allowed_apps": "g1"}, "mtls_allowed_apps")).nobody


def test_a_malformed_guid_is_skipped_and_the_rest_stands() -> None:
    """One warning a list, with the first culprit, quoted."""
    policy = registered({"mtls_allowed_apps": "g1,a b,g2,c\nd"})
    assert _mtls(policy) == Callers(apps=_guids("g1", "g2"))
    assert policy.warnings == ("mtls_allowed_apps: 'a b' and 1 more skipped, expected a GUID",)


@pytest.mark.parametrize("key", ["mtls_allowed_sources", "mtls_", "mtls_allowed_Apps", "mtls_x"])
def test_an_unknown_key_of_the_dialect_makes_it_present_and_allows_nobody(key: str) -> None:
    """R262: a misspelt or nested form closes the route and is named."""
    policy = registered({key: "g1"})
    assert _mtls(policy).nobody
    assert key in policy.warnings[0]


@pytest.mark.parametrize("key", ["MTLS_allowed_apps", "xmtls_allow_any", "Route_policy_scope", "loadbalancing"])
def test_keys_are_case_sensitive_and_others_do_not_concern_callers(key: str) -> None:
    """Decision 8: keys are case-sensitive."""
    assert registered({key: "any"}) is WITHOUT_OPTIONS


@pytest.mark.parametrize(
    ("options", "scope", "callers"),
    [
        ({"route_policy_scope": "any", "route_policy_sources": "cf:any"}, "any", Callers(any=True)),
        ({"route_policy_scope": "any", "route_policy_sources": "cf:any, cf:any"}, "any", Callers(any=True)),
        (
            {"route_policy_scope": "org", "route_policy_sources": "cf:app:g1"},
            "org",
            Callers(apps=_guids("g1")),
        ),
        (
            {"route_policy_scope": "space", "route_policy_sources": " cf:space:g1 ,cf:org:g2"},
            "space",
            Callers(spaces=_guids("g1"), orgs=_guids("g2")),
        ),
        ({"route_policy_scope": "any"}, "any", Callers()),
        ({"route_policy_scope": "any", "route_policy_sources": ""}, "any", Callers()),
    ],
)
def test_the_second_dialect_is_read(options: dict[str, object], scope: str, callers: Callers) -> None:
    """RFC-0055: a scope, and sources of which one is enough."""
    policy = registered(options)
    assert _sources(policy) == (scope, callers)
    assert policy.warnings == ()


@pytest.mark.parametrize("scope", ["Any", "ORG", "", "global", " any", None, True, 1, ["any"], {"any": 1}])
def test_an_unknown_scope_stays_unknown(scope: object) -> None:
    """Attack 30: an unknown selector denies."""
    policy = registered({"route_policy_scope": scope, "route_policy_sources": "cf:any"})
    assert _sources(policy)[0] == "unknown"
    assert "the route denies" in policy.warnings[0]


def test_sources_without_a_scope_deny() -> None:
    """Attack 30: half an update is present, and its boundary is not known."""
    policy = registered({"route_policy_sources": "cf:any"})
    assert _sources(policy)[0] == "unknown"
    assert policy.warnings == ("route_policy_scope is missing, expected any, org or space: the route denies",)


@pytest.mark.parametrize(
    ("sources", "callers"),
    [
        ("cf:any,cf:app:g1", Callers(apps=_guids("g1"))),
        ("cf:any,cf:app:!", Callers()),
        ("cf:any,spiffe://x", Callers()),
        ("cf:app:,cf:app:g1", Callers(apps=_guids("g1"))),
        ("CF:app:g1,cf:App:g1,cf:app: g1,app:g1,g1,any,cf:anyone,cf:any:x", Callers()),
        (True, Callers()),
        (None, Callers()),
    ],
)
def test_a_malformed_source_is_skipped_and_any_stands_only_alone(sources: object, callers: Callers) -> None:
    """K3 for the second dialect; sources are case-sensitive, an empty GUID never matches."""
    policy = registered({"route_policy_scope": "any", "route_policy_sources": sources})
    assert _sources(policy) == ("any", callers)
    assert policy.warnings


@pytest.mark.parametrize(
    ("keys", "column"),
    [
        ((), "invalid"),
        (("loadbalancing",), "invalid"),
        (("mtls_x", "a"), "invalid_mtls"),
        (("route_policy_x",), "invalid_route_policy"),
        (("mtls_allowed_apps", "route_policy_scope"), "invalid_route_policy"),
    ],
)
def test_a_map_that_is_invalid_as_a_whole_remembers_whose_keys_it_had(keys: tuple[str, ...], column: str) -> None:
    """R321, decision 8: no pair of it is in effect, whatever it says."""
    policy = route_policy({"mtls_allow_any": True} if "mtls_x" in keys else {}, (), "invalid", keys)
    assert [part.column for part in policy.parts] == [column]
    assert isinstance(policy.parts[0], InvalidOptions)
    assert len(policy.warnings) == 1


def test_both_dialects_on_one_route_are_two_parts() -> None:
    """Decision 4: both must allow."""
    policy = registered({"mtls_allow_any": True, "route_policy_scope": "any", "route_policy_sources": "cf:any"})
    assert [part.column for part in policy.parts] == ["mtls", "route_policy"]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"mtls_allowed_apps": APP}, "route:mtls_allowed_apps"),
        ({"mtls_allowed_spaces": SPACE}, "route:mtls_allowed_spaces"),
        ({"mtls_allowed_orgs": ORG}, "route:mtls_allowed_orgs"),
        ({"mtls_allow_any": True}, "route:mtls_allow_any"),
        ({"mtls_allowed_apps": ORG, "mtls_allowed_orgs": APP}, None),
        ({"route_policy_scope": "any", "route_policy_sources": f"cf:app:{APP}"}, "route:cf:app:app-1"),
        (
            {"route_policy_scope": "any", "route_policy_sources": f"cf:space:{SPACE}"},
            "route:cf:space:space-1",
        ),
        ({"route_policy_scope": "any", "route_policy_sources": f"cf:org:{ORG}"}, "route:cf:org:org-1"),
        ({"route_policy_scope": "any", "route_policy_sources": "cf:any"}, "route:cf:any"),
        ({"route_policy_scope": "any", "route_policy_sources": f"cf:app:{ORG}"}, None),
    ],
)
def test_a_match_names_its_rule(options: dict[str, object], rule: str | None) -> None:
    """Contract a.2, a.3: the log says which rule admitted."""
    (part,) = registered(options).parts
    assert isinstance(part, MtlsOptions | RoutePolicies)
    assert part.match(CALLER) == rule


def test_a_caller_without_space_or_org_matches_no_list_of_them() -> None:
    """Decision 5: absent never equals anything."""
    for options in (
        {"mtls_allowed_spaces": "s,None", "mtls_allowed_orgs": "o,None"},
        {"route_policy_scope": "any", "route_policy_sources": "cf:space:None,cf:org:None"},
    ):
        (part,) = registered(options).parts
        assert isinstance(part, MtlsOptions | RoutePolicies)
        assert part.match(Caller(APP)) is None


def test_policies_are_equal_by_value_and_pools_by_identity() -> None:
    """A pool's policy is a cache key; a registration's is compared."""
    first, second = registered({"mtls_allowed_apps": "g1,g2"}), registered({"mtls_allowed_apps": "g2, g1"})
    assert first == second
    assert hash(first) == hash(second)
    assert conjunction([first]) != conjunction([first])


def test_pools_without_options_share_one_policy() -> None:
    """A hundred thousand routes without options cost nothing."""
    assert pool({}, {"loadbalancing": "hash"}) is NO_POLICY
    assert conjunction(()) is NO_POLICY


MIXED = [
    registered({"mtls_allowed_apps": "g1"}),
    registered({"mtls_allowed_apps": "g2, a b"}),
    registered({"mtls_allow_any": True}),
    registered({"route_policy_scope": "org", "route_policy_sources": "cf:any"}),
    registered({"mtls_allowed_orgs": "g1", "route_policy_scope": "any", "route_policy_sources": "cf:any"}),
    WITHOUT_OPTIONS,
    route_policy({}, (), "invalid", ()),
]


@given(st.permutations(MIXED), st.lists(st.sampled_from(MIXED)))
def test_a_conjunction_is_the_same_for_every_order_and_repetition(order: list[RoutePolicy], again: list[RoutePolicy]) -> None:
    """Attack 31: constant under reordering and repetition of registrations."""
    expected, got = conjunction(MIXED), conjunction([*order, *again])
    assert got.parts == expected.parts
    assert got.warnings == expected.warnings


keys = st.one_of(
    st.sampled_from(
        [
            "mtls_allowed_apps",
            "mtls_allowed_spaces",
            "mtls_allowed_orgs",
            "mtls_allow_any",
            "route_policy_scope",
            "route_policy_sources",
        ]
    ),
    st.text(max_size=6).map(lambda text: "mtls_" + text),
    st.text(max_size=6).map(lambda text: "route_policy_" + text),
    st.text(max_size=6),
)
flat = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.text(alphabet="cf:any,ps g1-"))
values = st.recursive(
    flat,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.dictionaries(keys, values, max_size=8),
    st.lists(keys, max_size=3),
    st.booleans(),
    st.lists(keys, max_size=3),
)
def test_no_options_raise_or_become_any_by_mistake(pairs: dict[str, object], bad: list[str], valid: bool, raw: list[str]) -> None:
    """Attack 30: garbage never raises; "any" needs exactly its own word, and no list beside it."""
    policy = route_policy(pairs, bad, "ok" if valid else "invalid", raw)
    hash(policy)
    for part in policy.parts:
        match part:
            case MtlsOptions(Callers(any=True), _):
                assert pairs["mtls_allow_any"] in (True, "true")
                assert not isinstance(pairs["mtls_allow_any"], int) or pairs["mtls_allow_any"] is True
                assert not any(key.startswith("mtls_allowed") for key in [*pairs, *bad, *raw])
            case RoutePolicies(_, Callers(any=True)):
                entries = [entry.strip(" \t") for entry in str(pairs["route_policy_sources"]).split(",")]
                assert set(entries) - {""} == {"cf:any"}
            case _:
                pass
    seen = [key for key in [*pairs, *bad, *raw] if key.startswith(("mtls_", "route_policy_"))]
    assert not (seen and policy == WITHOUT_OPTIONS)
    for warning in policy.warnings:
        assert warning.isascii()
        assert warning.isprintable()
        assert len(warning) < 1000
    assert len(policy.warnings) <= 10


def test_every_pair_of_registrations_is_symmetric() -> None:
    """Attack 31, exhaustively for two."""
    for left, right in itertools.product(MIXED, MIXED):
        assert conjunction([left, right]).parts == conjunction([right, left]).parts


@pytest.mark.parametrize("size", [0, 1, 8, 9, 40])
def test_lists_are_equal_whatever_they_were_given_as(size: int) -> None:
    """A short list is kept small, a long one is looked up fast; nobody can tell them apart."""
    guids = [Guid(f"g{number}") for number in range(size)]
    kept = Callers(apps=frozenset(guids)), Callers(apps=set(guids))
    assert kept[0] == kept[1]
    assert hash(kept[0]) == hash(kept[1])
    assert sorted(kept[0].apps) == sorted(guids)
    assert kept[0].nobody is (size == 0)
