"""router/inspect/difference.py: whose access a change opens or closes."""

import pytest
from hypothesis import given, settings

from authz.deny import DenyLists
from identity.caller import Caller, Guid
from router.inspect.callers import KnownCaller
from router.inspect.difference import Change, authorities, compare, pairs
from router.inspect.scene import Scene
from router.tls.contexts import ClientPolicy
from tests.router.inspect.test_distinct_callers import worlds
from tests.router.inspect.worlds import asking, domain, side

HOST = "x.mtls.example"
POLICIES = (ClientPolicy(), ClientPolicy(system_roots=True))
"""Two that hosts in no domain may have."""


def changes(old: Scene, new: Scene, *known: KnownCaller, host: str | None = None) -> tuple[Change, ...]:
    return compare(pairs(old, new, known, {}, host), asking(old), asking(new))


def lines(*found: Change) -> list[tuple[str, str]]:
    return [(change.kind, change.pair.who.caller.name) for change in found]


def test_an_app_that_is_added_is_opened_where_the_operator_admits_it() -> None:
    old, new = (side({HOST: {"mtls_allowed_apps": apps}}, domain(orgs=["o-1"])) for apps in ("a-1", "a-1,a-2"))
    assert lines(*changes(old, new)) == [("opened", "app a-2, if in org o-1")]


def test_the_widest_is_said_first_and_nobody_twice() -> None:
    """An app that had access before has it still, and is no news."""
    old = side({HOST: {"mtls_allowed_apps": "a-1"}, "z.mtls.example": {}}, domain())
    new = side({HOST: {"mtls_allow_any": True}, "z.mtls.example": {"mtls_allowed_apps": "a-2"}}, domain())
    assert lines(*changes(old, new))[:2] == [("opened", "anybody else with a certificate"), ("opened", "app a-2")]
    assert [(change.kind, change.pair.place.host) for change in changes(old, new)][:2] == [
        ("opened", HOST),
        ("opened", "z.mtls.example"),
    ]


def test_a_domain_that_goes_opens_its_routes_to_anybody_without_a_certificate() -> None:
    """The widest of all."""
    routes = {HOST: {"mtls_allowed_apps": "a-1"}}
    assert lines(*changes(side(routes, domain()), side(routes)))[:2] == [
        ("opened", "anybody without a certificate"),
        ("opened", "anybody else with a certificate"),
    ]


def test_the_same_answer_by_another_rule_is_a_change_of_its_own() -> None:
    old, new = side({HOST: {"mtls_allowed_apps": "a-1"}}, domain()), side({HOST: {"mtls_allowed_orgs": "o-1"}}, domain())
    known = KnownCaller("front", Caller(Guid("a-1"), Guid("s-1"), Guid("o-1")))
    found = {change.pair.who.caller.name: change for change in changes(old, new, known)}
    assert (found["front"].kind, found["front"].old.rule, found["front"].new.rule) == (
        "rule",
        "route:mtls_allowed_apps",
        "route:mtls_allowed_orgs",
    )
    assert {name: change.kind for name, change in found.items()} == {
        "anybody in org o-1": "opened",
        "front": "rule",
        "anybody else with a certificate": "rule",
    }


def test_known_callers_are_always_said() -> None:
    old, new = side({HOST: {}}, domain()), side({HOST: {"mtls_allow_any": True}}, domain())
    assert lines(*changes(old, new, KnownCaller("front", Caller(Guid("a-1"))))) == [
        ("opened", "anybody with a certificate"),
        ("opened", "front"),
    ]


def test_what_holds_for_everybody_is_said_once() -> None:
    """Everybody who has a certificate, where no list lets some in and others not."""
    routes = {HOST: {"mtls_allow_any": True}}
    assert lines(*changes(side(routes, domain()), side({HOST: {}}, domain()))) == [("closed", "anybody with a certificate")]
    bounded = domain(orgs=["o-1", "o-2"])
    assert lines(*changes(side(routes, bounded), side({HOST: {}}, bounded))) == [("closed", "anybody in org o-1 (or 1 more)")]


def test_what_holds_in_every_org_is_said_once() -> None:
    """An app that is closed wherever it may be; else the line says where."""
    lists = {"mtls_allowed_apps": "a-1", "mtls_allowed_orgs": "o-1"}
    old, none, other = (side({HOST: options}, domain()) for options in (lists, {}, {**lists, "mtls_allowed_apps": "a-2"}))
    assert lines(*changes(old, none))[:2] == [("closed", "anybody in org o-1"), ("closed", "app a-1")]
    assert lines(*changes(old, other))[:2] == [
        ("opened", "app a-2, if in no listed org"),
        ("closed", "app a-1, if in no listed org"),
    ]


def test_whom_the_operator_denies_is_closed() -> None:
    world = side({HOST: {"mtls_allow_any": True}}, domain())
    shut = world._replace(deny=DenyLists(apps=frozenset({Guid("a-1")})))
    assert lines(*changes(world, shut)) == [("closed", "app a-1")]
    assert lines(*changes(shut, world)) == [("opened", "app a-1")]


def test_a_route_that_goes_closes_and_one_that_comes_opens() -> None:
    old, new = side({"a.example": {}}), side({"b.example": {}})
    found = {(change.kind, change.pair.place.route) for change in changes(old, new)}
    assert found == {("closed", "a.example"), ("opened", "b.example")}


def test_a_host_narrows_the_question() -> None:
    old, new = side({"a.example": {}, "b.c.example": {}}), side({})
    assert {change.pair.place.host for change in changes(old, new, host="*.c.example")} == {"b.c.example"}


def test_the_number_of_pairs_is_bounded() -> None:
    world = side({"a.example": {}, "b.example": {}})
    assert len(pairs(world, world, (), {}, limit=4)) == 4
    with pytest.raises(ValueError, match="more than 3 pairs"):
        pairs(world, world, (), {}, limit=3)


def test_where_other_certificates_are_accepted_is_said() -> None:
    """GUIDs cannot tell whom another authority lets in."""
    old = side({HOST: {}}, domain(client_policy="ca-1"), domain("*.same.example"))
    new = side({HOST: {}}, domain(client_policy="ca-2"), domain("*.same.example"), domain(HOST, client_policy="ca-3"))
    assert authorities(old, new) == (("*.mtls.example", "*.mtls.example"), ("*.mtls.example", HOST))
    assert authorities(old, old) == ()
    one, other = (side({"open.example": {}})._replace(open_policy=policy) for policy in POLICIES)
    assert authorities(one, other) == (("hosts in no domain", "hosts in no domain"),)
    assert authorities(*(old._replace(open_policy=policy) for policy in POLICIES)) == ()


def test_a_change_is_json_for_programs() -> None:
    old, new = (side({HOST: {"mtls_allowed_apps": apps}}, domain()) for apps in ("", "a-1"))
    (change, *_) = changes(old, new)
    told = change.as_json()
    assert [told.pop(key)["result"] for key in ("old", "new")] == ["deny", "allow"]  # type: ignore[index]
    assert told == {
        "change": "opened", "caller": "app a-1", "width": "app", "route": HOST, "host": HOST, "path": "/",
    }  # fmt: skip


@given(worlds())
@settings(max_examples=50, deadline=None)
def test_equal_worlds_make_no_difference(world: Scene) -> None:
    assert changes(world, world) == ()


SWAPPED = {"opened": "closed", "closed": "opened", "rule": "rule"}


@given(worlds(), worlds())
@settings(max_examples=100, deadline=None)
def test_a_change_and_its_undoing_are_mirror_images(old: Scene, new: Scene) -> None:
    """Opened one way is closed the other way, for the same people at the same places."""
    there = {
        (change.kind, change.pair.place, change.pair.who.caller.identity, change.old, change.new) for change in changes(old, new)
    }
    back = {
        (SWAPPED[change.kind], change.pair.place, change.pair.who.caller.identity, change.new, change.old)
        for change in changes(new, old)
    }
    assert there == back


@pytest.mark.parametrize("kind", ["opened", "closed"])
def test_opened_and_closed_stand_in_this_order(kind: str) -> None:
    old, new = (
        side({"a.example": {}, HOST: {"mtls_allowed_apps": "a"}}, domain()),
        side({HOST: {"mtls_allowed_apps": "b"}}, domain()),
    )
    kinds = [change.kind for change in changes(old, new)]
    assert kinds == sorted(kinds, key=["opened", "closed", "rule"].index)
    assert kind in kinds
