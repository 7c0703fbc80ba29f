"""Tests of registry/balance.py: turns, marks, scopes and instance headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.policy import NO_POLICY
from identity.caller import Caller, Guid
from registry.balance import (
    NoEndpoint,
    Selector,
    choose,
    in_scope,
    mark_failed,
    parse_app_instance,
    parse_process_instance,
)
from registry.endpoint import Endpoint, Pool, Turn
from tests.registry.parts import endpoint, tags

NOW = 1000.0
NONE: frozenset[str] = frozenset()
GUID = "6f2b9f0a-5f0c-4f53-9f2e-0f6f6a6c2a11"
CALLER = Caller(Guid("app"), Guid("space-1"), Guid("org-1"))


def pool(*endpoints: Endpoint, start: int = 0) -> Pool:
    return Pool(endpoints, NO_POLICY, turn=Turn(start))


def taken(among: Pool, times: int = 1) -> list[str]:
    """The last number of each chosen address, or the reason for none."""
    chosen = [choose(among, NONE, None, NOW) for _ in range(times)]
    return [each.reason if isinstance(each, NoEndpoint) else each.host[-1] for each in chosen]


def test_endpoints_take_turns() -> None:
    """Contract f.1: from the start given, one after the other, over all requests of the pool."""
    assert taken(pool(endpoint(1), endpoint(2), endpoint(3), start=4), 5) == ["2", "3", "1", "2", "3"]


def test_the_turn_survives_a_new_generation() -> None:
    """The cursor belongs to the route, not to one pool."""
    before = pool(endpoint(1), endpoint(2))
    assert taken(before) == ["1"]
    assert taken(Pool((*before.endpoints, endpoint(3)), NO_POLICY, turn=before.turn), 2) == ["2", "3"]


def test_an_empty_pool_has_none() -> None:
    """Scope asked or not: nobody is there."""
    assert NoEndpoint("none") == choose(pool(), NONE, None, NOW)
    assert NoEndpoint("none") == choose(pool(), frozenset({"org"}), CALLER, NOW)


def test_a_failed_endpoint_is_passed_over_for_30_seconds() -> None:
    """Contract f.1: then it is back."""
    one, two = endpoint(1), endpoint(2)
    mark_failed(one, NOW - 30)
    assert taken(pool(one, two), 2) == ["1", "2"]
    mark_failed(one, NOW - 29)
    assert taken(pool(one, two), 2) == ["2", "2"]


def test_when_all_have_failed_the_marks_are_lifted() -> None:
    """Contract f.1: and one is returned."""
    one, two = endpoint(1), endpoint(2)
    mark_failed(one, NOW)
    mark_failed(two, NOW)
    assert sorted(taken(pool(one, two), 2)) == ["1", "2"]
    assert (one.pulse.failed_until, two.pulse.failed_until) == (0.0, 0.0)


def test_a_silent_tls_endpoint_comes_last() -> None:
    """Decision 14: chosen only when no fresh one is left, not even a marked one."""
    silent, fresh = (endpoint(n, tls=True, expires=at) for n, at in ((1, NOW), (2, NOW + 1)))
    assert taken(pool(silent, fresh), 3) == ["2", "2", "2"]
    mark_failed(fresh, NOW)
    assert taken(pool(silent, fresh)) == ["2"]
    assert silent == choose(pool(silent, fresh), NONE, None, NOW, {fresh.address})
    assert taken(pool(silent, endpoint(3, tls=True, expires=0.0)), 3) == ["1", "3", "1"]


def test_a_plain_endpoint_is_never_silent() -> None:
    """Pruning alone decides: while it is suspended, plain endpoints serve on."""
    assert taken(pool(endpoint(1, expires=0.0))) == ["1"]


def test_those_tried_before_are_left_out() -> None:
    """A retry goes elsewhere, or nowhere."""
    one, two = endpoint(1), endpoint(2)
    assert two == choose(pool(one, two), NONE, None, NOW, {one.address})
    assert NoEndpoint("none") == choose(pool(one, two), NONE, None, NOW, {one.address, two.address})


def test_a_full_endpoint_is_passed_over() -> None:
    """`backends.max_conns`: when all have their fill, say so."""
    one, two = endpoint(1), endpoint(2)
    one.pulse.in_flight = 2
    assert two == choose(pool(one, two), NONE, None, NOW, max_conns=2)
    two.pulse.in_flight = 2
    assert NoEndpoint("overloaded") == choose(pool(one, two), NONE, None, NOW, max_conns=2)
    assert one == choose(pool(one, two), NONE, None, NOW)


ORG = tags(organization_id="org-1", space_id="space-2")


@pytest.mark.parametrize(
    ("scopes", "caller", "tagged", "expected"),
    [
        ({"org"}, CALLER, {"organization_id": "org-1"}, True),
        ({"org"}, CALLER, {"organization_id": "org-2"}, False),
        ({"org"}, CALLER, {"organization_id": "ORG-1"}, False),
        ({"org"}, CALLER, {"organization_id": ""}, False),
        ({"org"}, CALLER, {}, False),
        ({"org"}, None, {"organization_id": "org-1"}, False),
        ({"org"}, Caller(Guid("app")), {"organization_id": ""}, False),
        ({"org"}, Caller(Guid("app")), {}, False),
        ({"space"}, CALLER, {"space_id": "space-1"}, True),
        ({"space"}, CALLER, {"space_id": "org-1"}, False),
        ({"org", "space"}, CALLER, {"organization_id": "org-1", "space_id": "space-1"}, True),
        ({"org", "space"}, CALLER, {"organization_id": "org-1", "space_id": "space-2"}, False),
        ({"planet"}, CALLER, {"planet": ""}, False),
    ],
)
def test_a_scope_is_shared_only_where_both_sides_name_it(
    scopes: set[str], caller: Caller | None, tagged: dict[str, str], *, expected: bool
) -> None:
    """Decision 5 and K22: missing never equals missing, an unknown scope admits nobody."""
    assert expected == in_scope(endpoint(tags=tags(**tagged)), frozenset(scopes), caller)


def test_only_endpoints_in_scope_are_candidates() -> None:
    """Decision 7: a route shared between orgs gives no intermittent refusal."""
    mine, other = (endpoint(n, tags=tags(organization_id=f"org-{n}")) for n in (1, 2))
    shared = pool(other, mine)
    assert [mine] * 4 == [choose(shared, frozenset({"org"}), CALLER, NOW) for _ in range(4)]
    mark_failed(mine, NOW)
    assert mine == choose(shared, frozenset({"org"}), CALLER, NOW)
    assert NoEndpoint("scope") == choose(pool(other), frozenset({"org"}), CALLER, NOW)
    assert NoEndpoint("none") == choose(shared, frozenset({"org"}), CALLER, NOW, {mine.address})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"{GUID}:3", Selector("app", GUID, "3")),
        (GUID, None),
        (f"{GUID}:", None),
        (f"{GUID}:x", None),
        (f"{GUID}:1 ", None),
        (f"{GUID}:1\n", None),
        (f"{GUID.upper()}:1", None),
        (f"{GUID}:{'9' * 11}", None),
        ("", None),
    ],
)
def test_an_app_instance_header_is_guid_and_index(value: str, expected: Selector | None) -> None:
    """Contract c: lower-case hex GUID, colon, digits; anything else is malformed."""
    assert expected == parse_app_instance(value.encode())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (GUID, Selector("process", GUID, None)),
        (f"{GUID}:3", Selector("process", GUID, "3")),
        (f"{GUID}:", None),
        (f"{GUID}:3:4", None),
        (f"x{GUID}", None),
    ],
)
def test_a_process_instance_header_may_leave_out_the_index(value: str, expected: Selector | None) -> None:
    """Contract c."""
    assert expected == parse_process_instance(value.encode())


@given(st.binary(max_size=80))
def test_any_header_value_is_a_selector_or_malformed(value: bytes) -> None:
    """Never raises."""
    for selector in (parse_app_instance(value), parse_process_instance(value)):
        assert selector is None or len(selector.guid) == 36


INSTANCES = pool(
    endpoint(1, app=GUID, instance_index="0", tags=tags(process_id="p", organization_id="org-1")),
    endpoint(2, app=GUID, instance_index="1", tags=tags(process_id="p", organization_id="org-2")),
    endpoint(3, app="other", instance_index="1"),
)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (Selector("app", GUID, "1"), "2"),
        (Selector("app", "other", "1"), "3"),
        (Selector("app", GUID, "7"), "instance"),
        (Selector("app", "p", "1"), "instance"),
        (Selector("process", "p", "0"), "1"),
        (Selector("process", "p", "2"), "instance"),
        (Selector("process", "q", None), "instance"),
    ],
)
def test_a_selector_restricts_the_pool(selector: Selector, expected: str) -> None:
    """Contract c: that instance or none."""
    chosen = choose(INSTANCES, NONE, None, NOW, selector=selector)
    assert expected == (chosen.reason if isinstance(chosen, NoEndpoint) else chosen.host[-1])


def test_a_process_without_index_takes_turns_among_its_instances() -> None:
    """Contract c: any instance of the process."""
    selector = Selector("process", "p", None)
    chosen = [choose(INSTANCES, NONE, None, NOW, selector=selector) for _ in range(4)]
    assert {"10.0.0.1", "10.0.0.2"} == {each.host for each in chosen if isinstance(each, Endpoint)}


def test_a_selector_does_not_reach_outside_the_scope() -> None:
    """Contract a.9: scope is judged on the instance asked for too."""
    outside = choose(INSTANCES, frozenset({"org"}), CALLER, NOW, selector=Selector("app", GUID, "1"))
    unknown = choose(INSTANCES, frozenset({"org"}), CALLER, NOW, selector=Selector("app", GUID, "9"))
    assert (NoEndpoint("scope"), NoEndpoint("instance")) == (outside, unknown)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 2)), max_size=5),
    st.sets(st.integers(0, 4)),
    st.integers(0, 2),
    st.integers(0, 10),
)
def test_the_choice_is_always_the_best_that_is_left(
    states: list[tuple[bool, bool, bool, int]], tried: set[int], max_conns: int, start: int
) -> None:
    """Never one tried or full; fresh before silent; of one kind, unmarked before marked."""
    made = []
    for number, (tls, fresh, failed, in_flight) in enumerate(states):
        one = endpoint(number, tls=tls, expires=NOW + fresh)
        one.pulse.in_flight = in_flight
        if failed:
            mark_failed(one, NOW)
        made.append(one)
    ranks = {
        one.address: (tls and not fresh, failed)
        for one, (tls, fresh, failed, in_flight) in zip(made, states, strict=True)
        if int(one.host[-1]) not in tried and not (max_conns and in_flight >= max_conns)
    }
    exclude = {f"10.0.0.{number}:8080" for number in tried}
    chosen = choose(pool(*made, start=start), NONE, None, NOW, exclude, max_conns=max_conns)
    if isinstance(chosen, NoEndpoint):
        assert not ranks
    else:
        assert ranks[chosen.address] == min(ranks.values())
