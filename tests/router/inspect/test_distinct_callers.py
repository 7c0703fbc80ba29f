"""router/inspect/distinct_callers.py: who can be told apart at which route."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.deny import DenyLists
from authz.domain import DomainPolicy
from identity.caller import Caller, Guid
from router.inspect.callers import KnownCaller
from router.inspect.difference import pairs
from router.inspect.distinct_callers import ANYBODY, Place, distinct_callers, places
from router.inspect.judgement import Asked
from router.inspect.scene import Scene
from tests.router.inspect.worlds import Routes, asking, domain, side


def test_every_route_of_either_side_is_a_place() -> None:
    old, new = side({"b.example/V1": {}, "a.example": {}}), side({"a.example": {}, "c.example": {}})
    assert places(old, new) == (
        Place("a.example", "/", "a.example"),
        Place("b.example", "/v1", "b.example/v1"),
        Place("c.example", "/", "c.example"),
    )


def test_a_wildcard_is_asked_once_for_each_domain_below_it() -> None:
    """One host of it is open, another in a domain: they are different doors."""
    old = side({"*.example": {}, "any.example": {}}, domain("*.a.example"), domain("b.example"))
    assert [place.host for place in places(old, side({}))] == ["any1.example", "any.a.example", "b.example", "any.example"]
    assert {place.route for place in places(old, side({}))} == {"*.example", "any.example"}


def test_a_denied_host_below_a_wildcard_is_a_place() -> None:
    shut = side({"*.example": {}}, deny=DenyLists(hosts=frozenset({"out.example", "*.far.example", "elsewhere"})))
    assert [place.host for place in places(side({}), shut)] == ["any.example", "any.far.example", "out.example"]


def names(old: Scene, new: Scene, known: dict[Guid, KnownCaller] | None = None) -> list[str]:
    (place,) = places(old, new)
    return [who.caller.name for who in distinct_callers(place, old, new, known or {})][2:]


def test_whoever_no_list_names_is_anybody() -> None:
    world = side({"x.mtls.example": {}}, domain())
    (place,) = places(world, world)
    anybody = Guid("anybody")
    assert [who.caller for who in distinct_callers(place, world, world, {})] == [
        KnownCaller("anybody without a certificate"),
        KnownCaller("anybody with a certificate", Caller(anybody, anybody, anybody)),
    ]


def test_anybody_is_never_a_name_of_a_list() -> None:
    world = side({"x.mtls.example": {"mtls_allowed_orgs": "anybody"}}, domain())
    (place,) = places(world, world)
    (_, anybody, org) = distinct_callers(place, world, world, {})
    assert (anybody.width, anybody.caller.identity) == (ANYBODY, Caller(Guid("anybody1"), Guid("anybody1"), Guid("anybody1")))
    assert org.caller.name == "anybody in org anybody"


def test_whom_the_change_moves_is_asked_about_alone_and_the_others_of_a_kind_together() -> None:
    old = side({"x.mtls.example": {"mtls_allowed_apps": "a-1,a-2,a-3"}}, domain())
    new = side({"x.mtls.example": {"mtls_allowed_apps": "a-1,a-2,b-1,b-2"}}, domain())
    assert names(old, new) == ["app a-1 (or 1 more)", "app a-3", "app b-1", "app b-2"]


def test_who_is_known_is_asked_about_as_they_are() -> None:
    """Their space and org are told: nothing has to be supposed."""
    world = side({"x.mtls.example": {"mtls_allowed_apps": "a-1,a-2"}}, domain(orgs=["o-1"]))
    known = {Guid("a-1"): KnownCaller("front", Caller(Guid("a-1"), Guid("s"), Guid("o-1")))}
    assert names(world, world, known) == ["anybody in org o-1", "front", "app a-2, if in no listed org", "app a-2, if in org o-1"]


def test_an_app_of_unknown_org_is_asked_about_in_each_kind_of_org() -> None:
    """The operator's door asks for the org, the developer's for the app."""
    old = side({"x.mtls.example": {"mtls_allowed_apps": "a-1"}}, domain(orgs=["o-1", "o-2"]))
    new = side({"x.mtls.example": {"mtls_allowed_apps": "a-1"}}, domain(orgs=["o-1", "o-2", "o-3"]))
    assert names(old, new) == [
        "anybody in org o-1 (or 1 more)",
        "anybody in org o-3",
        "app a-1, if in no listed org",
        "app a-1, if in org o-1 (or 1 more)",
        "app a-1, if in org o-3",
    ]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [("org", ["anybody in org o-9", "app a-1, if in no listed org", "app a-1, if in org o-9"]), ("any", ["app a-1"])],
)
def test_a_scope_asks_for_the_orgs_of_the_endpoints(scope: str, expected: list[str]) -> None:
    options = {"route_policy_scope": scope, "route_policy_sources": "cf:app:a-1"}
    world = side({"x.mtls.example": options}, domain(), tags={"organization_id": "o-9"})
    assert names(world, world) == expected


def test_whom_the_operator_denies_is_asked_about() -> None:
    deny = DenyLists(apps=frozenset({Guid("a-9")}), orgs=frozenset({Guid("o-9")}))
    old, new = side({"x.mtls.example": {}}, domain()), side({"x.mtls.example": {}}, domain(), deny=deny)
    assert names(old, new) == ["anybody in org o-9", "app a-9, if in no listed org", "app a-9, if in org o-9"]


GUIDS = ("1", "2", "3")
LIST = st.lists(st.sampled_from(GUIDS), max_size=2).map(",".join)
OPTIONS = st.one_of(
    st.just({}),
    st.just({"mtls_allow_any": True}),
    st.fixed_dictionaries({}, optional={f"mtls_allowed_{kind}": LIST for kind in ("apps", "spaces", "orgs")}),
    st.builds(
        lambda scope, kind, guid: {"route_policy_scope": scope, "route_policy_sources": f"cf:{kind}:{guid}"},
        st.sampled_from(("any", "org", "space")),
        st.sampled_from(("app", "space", "org")),
        st.sampled_from(GUIDS),
    ),
)
SETS = st.none() | st.sets(st.sampled_from(GUIDS), max_size=2)
DOMAINS = st.one_of(
    st.builds(lambda orgs: (domain(orgs=orgs),), SETS),
    st.builds(lambda spaces: (domain(spaces=spaces),), SETS),
    st.just(()),
)
DENIED = st.sets(st.sampled_from(list(map(Guid, GUIDS))), max_size=1).map(frozenset)


@st.composite
def worlds(draw: st.DrawFn) -> Scene:
    routes: Routes = {"x.mtls.example": draw(OPTIONS)} if draw(st.integers(0, 9)) else {}
    claimed: tuple[DomainPolicy, ...] = draw(DOMAINS)
    deny = DenyLists(apps=draw(DENIED), spaces=draw(DENIED), orgs=draw(DENIED))
    return side(routes, *claimed, deny=deny, tags={"organization_id": "1", "space_id": "2"})


@given(worlds(), worlds())
@settings(max_examples=150, deadline=None)
def test_no_caller_at_all_is_moved_that_nobody_asked_about(old: Scene, new: Scene) -> None:
    """For every caller there could be, somebody is asked about whom both sides answer the same."""
    asked = pairs(old, new, (), {})
    one, other = asking(old), asking(new)

    def answers(caller: KnownCaller) -> tuple[object, ...]:
        question = Asked(caller, "x.mtls.example", "/")
        return tuple((seen.allowed, seen.outcome) for seen in (one(question), other(question)))

    found = {answers(pair.who.caller) for pair in asked}
    if asked:
        everybody = product((*GUIDS, "4"), repeat=3)
        assert {answers(KnownCaller("x", Caller(*map(Guid, guids)))) for guids in everybody} <= found
