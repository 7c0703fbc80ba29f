"""Tests of registry/balance.py: turns, the least busy, hashes, zones, marks, scopes and instance headers."""

from collections import Counter
from ipaddress import ip_network
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.deny import DenyLists
from authz.policy import NO_POLICY
from identity.caller import Caller, Guid
from registry.balance import (
    NoEndpoint,
    Pin,
    Selector,
    choose,
    in_scope,
    mark_failed,
    parse_app_instance,
    parse_process_instance,
)
from registry.endpoint import DEFAULT_BALANCING, Balancing, Endpoint, Pool, Route, Turn
from registry.hostname import Host
from registry.maglev import SIZE
from registry.sieve import sift
from tests.registry.parts import endpoint, tags

NOW = 1000.0
NONE: frozenset[str] = frozenset()
GUID = "6f2b9f0a-5f0c-4f53-9f2e-0f6f6a6c2a11"
CALLER = Caller(Guid("app"), Guid("space-1"), Guid("org-1"))


def pool(*endpoints: Endpoint, start: int = 0, balancing: Balancing = DEFAULT_BALANCING) -> Pool:
    return Pool(endpoints, NO_POLICY, balancing, turn=Turn(start))


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


LEAST = Balancing("least-connection")
HASH = Balancing("hash", "X-Tenant")
BALANCED = Balancing("hash", "X-Tenant", 1.25, "least-connection")


def busy(number: int, in_flight: int = 0, **fields: object) -> Endpoint:
    made = endpoint(number, instance_id=f"instance-{number}", **fields)
    made.pulse.in_flight = in_flight
    return made


def spread(among: Pool, times: int, **wish: Any) -> dict[str, int]:
    """How often each endpoint, by the last number of its address, or each reason for none was the answer."""
    chosen = [choose(among, NONE, None, NOW, **wish) for _ in range(times)]
    return dict(Counter(each.reason if isinstance(each, NoEndpoint) else each.host[-1] for each in chosen))


def tenant(value: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"a.example"), (b"x-tenant", value.encode()), (b"x-tenant", b"second")]


def own(among: Pool, value: str) -> Endpoint:
    """The endpoint that a tenant's value leads to."""
    found = choose(among, NONE, None, NOW, fields=tenant(value))
    assert isinstance(found, Endpoint)
    return found


def test_least_connection_takes_the_one_with_the_fewest_requests() -> None:
    """Contract f.1: requests in flight count, not how many there were."""
    assert spread(pool(busy(1, 3), busy(2, 1), busy(3, 2), balancing=LEAST), 5) == {"2": 5}


def test_least_connection_draws_among_equals() -> None:
    """Contract f.1: random, so that nobody is favoured for where it stands, whoever joins or leaves the least."""
    one, two, three, four = (busy(n, in_flight) for n, in_flight in enumerate((0, 0, 0, 1), 1))
    among = pool(one, two, three, four, balancing=LEAST, start=5)
    drawn = spread(among, 3000)
    assert set(drawn) == {"1", "2", "3"}
    assert all(900 < times < 1100 for times in drawn.values())


def test_least_connection_passes_over_marks_and_full_ones() -> None:
    """Contract f.1, `backends.max_conns`."""
    one, two, three = busy(1), busy(2, 1), busy(3, 2)
    mark_failed(one, NOW)
    among = pool(one, two, three, balancing=LEAST)
    assert spread(among, 3) == {"2": 3}
    assert spread(among, 3, exclude={two.address}) == {"3": 3}
    assert spread(among, 3, max_conns=1) == {"1": 3}
    one.pulse.in_flight = 1
    assert spread(among, 3, max_conns=1) == {"overloaded": 3}


def test_a_hash_leads_the_same_value_to_the_same_endpoint() -> None:
    """Contract f.1: by the first value of the header, on every router, whatever the order of registrations."""
    endpoints = [busy(n) for n in range(1, 6)]
    here, there = pool(*endpoints, balancing=HASH), pool(*reversed(endpoints), balancing=HASH, start=3)
    leads = {value: own(here, value) for value in map(str, range(50))}
    assert all(own(here, value) is own(there, value) is found for value, found in leads.items())
    assert set(leads.values()) == set(endpoints)


def test_without_its_header_a_hash_leaves_the_choice_to_the_operators_algorithm() -> None:
    """Contract f.1: an empty value is none."""
    for fields in ([], tenant("")):
        assert spread(pool(busy(1, 1), busy(2), balancing=HASH), 4, fields=fields) == {"1": 2, "2": 2}
        assert spread(pool(busy(1, 1), busy(2), balancing=BALANCED), 4, fields=fields) == {"2": 4}


def test_who_cannot_serve_is_replaced_by_the_next_of_the_table_and_gets_its_keys_back() -> None:
    """Contract f.1: marked, full, or tried before; the others' keys stay."""
    endpoints = [busy(n) for n in range(1, 5)]
    among = pool(*endpoints, balancing=HASH)
    before = {value: own(among, value) for value in map(str, range(40))}
    out = before["0"]
    mark_failed(out, NOW)
    for value, was in before.items():
        assert (own(among, value) is was) == (was is not out)
    assert len({own(among, value).host for value, was in before.items() if was is out}) > 1
    out.pulse.failed_until = 0.0
    assert before == {value: own(among, value) for value in before}
    retry = choose(among, NONE, None, NOW, {out.address}, fields=tenant("0"))
    assert retry not in (out, NoEndpoint("none"))
    out.pulse.in_flight = 9
    assert retry == choose(among, NONE, None, NOW, max_conns=9, fields=tenant("0"))


def test_hash_balance_bounds_an_endpoints_share_of_the_requests_in_flight() -> None:
    """Contract f.1: above hash_balance times the average, the next of the table."""
    endpoints = [busy(n, 4) for n in range(1, 5)]
    among = pool(*endpoints, balancing=BALANCED)
    found = own(among, "a")
    found.pulse.in_flight = 5  # of an average of 4.25: 1.18
    assert own(among, "a") is found
    found.pulse.in_flight = 6  # of an average of 4.5: 1.33
    assert own(among, "a") is not found
    assert own(Pool(among.endpoints, NO_POLICY, HASH), "a") is found


def test_an_endpoint_that_the_table_has_no_slot_for_still_serves() -> None:
    """More instances than slots: nobody starves."""
    endpoints = [Endpoint("h", number) for number in range(1, SIZE + 5)]
    among = pool(*endpoints, balancing=HASH)
    left = [one for one in endpoints if one.name not in among.turn.table(among.endpoints).names]
    tried = {one.address for one in endpoints} - {left[0].address}
    assert left[0] == choose(among, NONE, None, NOW, tried, fields=tenant("a"))


@pytest.mark.parametrize("balancing", [DEFAULT_BALANCING, LEAST, HASH])
def test_a_first_attempt_stays_in_the_zone(balancing: Balancing) -> None:
    """Contract f.1: `locally-optimistic`; a retry goes anywhere, and so do all where nobody there can serve."""
    one, two, three = busy(1, availability_zone="z1"), busy(2, availability_zone="z2"), busy(3)
    among = pool(one, two, three, balancing=balancing)
    assert spread(among, 4, zone="z2") == {"2": 4}
    assert set(spread(among, 40, zone="z2", exclude={"10.0.0.9:1"})) == {"1", "2", "3"}
    assert set(spread(among, 40, zone="z9")) == {"1", "2", "3"}
    mark_failed(two, NOW)
    assert set(spread(among, 40, zone="z2")) == {"1", "3"}
    two.pulse.failed_until, two.pulse.in_flight = 0.0, 7
    assert set(spread(among, 40, zone="z2", max_conns=7)) == {"1", "3"}


def test_a_zone_takes_turns() -> None:
    """Contract f.1."""
    among = pool(*(busy(n, availability_zone=f"z{n % 2}") for n in range(1, 6)))
    assert spread(among, 30, zone="z1") == {"1": 10, "3": 10, "5": 10}


def test_a_hash_knows_no_zone() -> None:
    """Contract f.1: the preference is ignored."""
    endpoints = [busy(n, availability_zone=f"z{n}") for n in range(1, 5)]
    among = pool(*endpoints, balancing=HASH)
    assert all(own(among, value) is choose(among, NONE, None, NOW, zone="z1", fields=tenant(value)) for value in "abcdefgh")


@pytest.mark.parametrize("balancing", [DEFAULT_BALANCING, LEAST, HASH, BALANCED])
@pytest.mark.parametrize("zone", ["", "z1"])
def test_no_algorithm_reaches_outside_the_scope(balancing: Balancing, zone: str) -> None:
    """Decision 7: not for the least busy, nor the zone's own, nor the hash's own."""
    mine, other = (
        busy(1, 8, tags=tags(organization_id="org-1")),
        busy(2, tags=tags(organization_id="org-2"), availability_zone="z1"),
    )
    among = pool(other, mine, balancing=balancing)
    values = [tenant(str(number)) for number in range(20)]
    scope = frozenset({"org"})
    assert {mine} == {choose(among, scope, CALLER, NOW, zone=zone, fields=fields) for fields in values}
    assert NoEndpoint("scope") == choose(pool(other, balancing=balancing), scope, CALLER, NOW, zone=zone, fields=values[0])


@pytest.mark.parametrize("balancing", [DEFAULT_BALANCING, LEAST, HASH, BALANCED])
def test_no_algorithm_reaches_what_a_deny_list_names(balancing: Balancing) -> None:
    """R238: also where the table was made before the list came."""
    endpoints = [busy(n, n) for n in range(1, 5)]
    whole = Route("a.example", Host("a.example"), "", pool(*endpoints, balancing=balancing))
    values = [tenant(str(number)) for number in range(40)]

    def taken(route: Route) -> set[object]:
        return {choose(route.pool, NONE, None, NOW, fields=fields) for fields in values}

    assert endpoints[0] in taken(whole)
    left = sift(DenyLists(networks=(ip_network("10.0.0.1"),)), whole).route
    assert endpoints[0] not in taken(left)
    assert taken(left) <= set(endpoints)


class State(NamedTuple):
    """What an endpoint is like at the moment of a choice."""

    tls: bool
    fresh: bool
    failed: bool
    in_flight: int
    org: int
    zone: int


STATES = st.builds(State, st.booleans(), st.booleans(), st.booleans(), st.integers(0, 3), st.integers(1, 2), st.integers(1, 2))


@given(
    st.lists(STATES, max_size=6),
    st.sets(st.integers(0, 5)),
    st.integers(0, 3),
    st.integers(0, 2**64),
    st.sampled_from([DEFAULT_BALANCING, LEAST, HASH, BALANCED]),
    st.sampled_from(["", "z1", "z2"]),
    st.sampled_from(["", "a", "b", "c"]),
    st.booleans(),
)
def test_the_choice_is_always_the_best_that_is_left(
    states: list[State], tried: set[int], max_conns: int, start: int, balancing: Balancing, zone: str, value: str, scoped: bool
) -> None:
    """Whatever the algorithm: never one out of scope, tried or full; fresh before silent; of one kind, unmarked before marked;
    and none only where none is left.
    """
    made = []
    for number, state in enumerate(states):
        one = busy(
            number, state.in_flight, tls=state.tls, expires=NOW + state.fresh, availability_zone=f"z{state.zone}",
            tags=tags(organization_id=f"org-{state.org}"),
        )  # fmt: skip
        if state.failed:
            mark_failed(one, NOW)
        made.append(one)
    ranks = {
        number: (state.tls and not state.fresh, state.failed)
        for number, state in enumerate(states)
        if number not in tried and not (max_conns and state.in_flight >= max_conns) and not (scoped and state.org != 1)
    }
    exclude = {f"10.0.0.{number}:8080" for number in tried}
    chosen = choose(
        pool(*made, start=start, balancing=balancing), frozenset({"org"}) if scoped else NONE, CALLER, NOW, exclude,
        max_conns=max_conns, zone=zone, fields=tenant(value),
    )  # fmt: skip
    if isinstance(chosen, NoEndpoint):
        assert not ranks
        return
    best = {number for number, rank in ranks.items() if rank == min(ranks.values())}
    number = int(chosen.host[-1])
    assert number in best
    hashed = balancing.algorithm == "hash" and value
    local = {number for number in best if f"z{states[number].zone}" == zone} if not tried and not hashed else set()
    assert not local or number in local
    if not hashed and "least-connection" in (balancing.algorithm, balancing.otherwise):
        assert states[number].in_flight == min(states[number].in_flight for number in local or best)


# ---- pins

PINS = [Pin("i-2"), Pin("10.0.0.2:8080"), Pin("i-2", binding=True)]


def pinned(among: Pool, pin: Pin, times: int = 1, **more: object) -> list[str]:
    """As `taken`, with a pin."""
    chosen = [choose(among, NONE, None, NOW, preferred=pin, **more) for _ in range(times)]  # type: ignore[arg-type]
    return [each.reason if isinstance(each, NoEndpoint) else each.host[-1] for each in chosen]


def three(**fields: object) -> Pool:
    """Three endpoints with ids; the fields are the second one's."""
    return pool(endpoint(1, instance_id="i-1"), endpoint(2, instance_id="i-2", **fields), endpoint(3, instance_id="i-3"))


@pytest.mark.parametrize("pin", PINS)
def test_a_pinned_request_goes_to_its_instance_and_takes_nobodys_turn(pin: Pin) -> None:
    """Contract f.5: by id or by address, before every turn; the turns of others go on where they were."""
    among = three()
    assert taken(among) == ["1"]
    assert pinned(among, pin, 3) == ["2", "2", "2"]
    assert taken(among, 2) == ["2", "3"]


@pytest.mark.parametrize("name", ["", "i-9", "I-2", "i-2 ", "10.0.0.2", "10.0.0.9:8080"])
def test_a_pin_to_nobody_is_as_none_unless_it_binds(name: str) -> None:
    """Contract f.5: an instance that is gone: another; with negotiate: no endpoint."""
    assert pinned(three(), Pin(name), 3) == ["1", "2", "3"]
    assert pinned(three(), Pin(name, binding=True)) == ["none"]


def test_a_pin_to_a_failed_instance_falls_back_unless_it_binds() -> None:
    """Contract f.5: marked as failed, or tried already: another; with negotiate only the mark is overlooked."""
    among = three()
    mark_failed(among.endpoints[1], NOW)
    assert pinned(among, Pin("i-2"), 2) == ["1", "3"]
    assert pinned(among, Pin("i-2", binding=True)) == ["2"]
    assert pinned(three(), Pin("i-2"), exclude={"10.0.0.2:8080"}) == ["1"]
    assert pinned(three(), Pin("i-2", binding=True), exclude={"10.0.0.2:8080"}) == ["none"]


def test_a_pin_to_a_busy_instance_falls_back_unless_it_binds() -> None:
    """Contract f.5: overloaded: another; with negotiate none, for want of room."""
    among = three()
    among.endpoints[1].pulse.in_flight = 2
    assert pinned(among, Pin("i-2"), 2, max_conns=2) == ["1", "3"]
    assert pinned(among, Pin("i-2", binding=True), max_conns=2) == ["overloaded"]
    assert pinned(among, Pin("i-2"), max_conns=3) == ["2"]


def test_a_pin_to_a_silent_instance_holds() -> None:
    """While NATS is away all are silent: sessions stay where they are."""
    assert pinned(three(tls=True, expires=NOW - 1), Pin("i-2"), 2) == ["2", "2"]


@pytest.mark.parametrize("pin", PINS)
def test_a_pin_never_leads_out_of_scope(pin: Pin) -> None:
    """Decision 7: a cookie that names an endpoint of another org is as one that names nobody."""
    mine = endpoint(1, instance_id="i-1", tags=tags(organization_id="org-1"))
    among = pool(mine, endpoint(2, instance_id="i-2", tags=tags(organization_id="org-2")))
    chosen = choose(among, frozenset({"org"}), CALLER, NOW, preferred=pin)
    assert chosen == (NoEndpoint("none") if pin.binding else mine)
    assert NoEndpoint("scope") == choose(pool(among.endpoints[1]), frozenset({"org"}), CALLER, NOW, preferred=pin)


def test_a_pin_holds_among_the_instances_asked_for() -> None:
    """X-CF-App-Instance and X-CF-Process-Instance come first, the cookie chooses among what they leave."""
    among = pool(*(endpoint(n, app=GUID, instance_index=str(n % 2), instance_id=f"i-{n}") for n in (1, 2, 3)))
    assert pinned(among, Pin("i-3"), 2, selector=Selector("app", GUID, "1")) == ["3", "3"]
    assert pinned(among, Pin("i-2"), 2, selector=Selector("app", GUID, "1")) == ["1", "3"]


def test_of_two_endpoints_of_an_instance_the_one_that_can_serve() -> None:
    """One instance may serve a route on two ports."""
    first, second = endpoint(1, instance_id="i"), endpoint(2, instance_id="i")
    mark_failed(first, NOW)
    assert pinned(pool(first, second), Pin("i"), 2) == ["2", "2"]


@pytest.mark.parametrize("balancing", [DEFAULT_BALANCING, LEAST, HASH, BALANCED])
@pytest.mark.parametrize("value", ["", "a", "b", "c"])
def test_a_pin_comes_before_every_algorithm(balancing: Balancing, value: str) -> None:
    """Contract f.5: before turns, the least busy, the hash and the zone; a pin to nobody leaves the choice to them."""
    endpoints = [endpoint(n, instance_id=f"i-{n}", availability_zone=f"z{n}") for n in (1, 2, 3)]
    endpoints[1].pulse.in_flight = 9
    among = pool(*endpoints, balancing=balancing)
    assert pinned(among, Pin("i-2"), 3, zone="z3", fields=tenant(value)) == ["2", "2", "2"]
    assert pinned(among, Pin("i-9", binding=True), zone="z3", fields=tenant(value)) == ["none"]
    if not (balancing.algorithm == "hash" and value):
        assert pinned(among, Pin("i-9"), 3, zone="z3", fields=tenant(value)) == ["3", "3", "3"]


def unhealthy(one: Endpoint) -> Endpoint:
    assert one.pulse.checked(passed=False, needed=1)
    return one


ALGORITHMS = ("round-robin", "least-connection", "hash")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_unhealthy_endpoint_is_not_eligible(algorithm: Any) -> None:
    """R39: by no algorithm, while another is there and while none is; and marks of requests change nothing about it."""
    by = Balancing(algorithm, "x" if algorithm == "hash" else "")
    out, well = unhealthy(endpoint(1)), endpoint(2)
    mark_failed(well, NOW)
    mark_failed(out, NOW)
    assert taken(pool(out, well, balancing=by), 3) == ["2", "2", "2"]
    assert taken(pool(out, unhealthy(endpoint(3)), balancing=by), 2) == ["unhealthy", "unhealthy"]
    assert out.pulse.failed_until > NOW + 1e9
    out.pulse.lift()
    assert taken(pool(out, balancing=by)) == ["1"]


def test_a_check_that_passes_does_not_make_up_for_a_scope_a_bound_or_silence() -> None:
    """R41: registered, in scope and free come first; `overloaded` is said of those that are well."""
    full, out = endpoint(1), unhealthy(endpoint(2))
    full.pulse.in_flight = 1
    assert NoEndpoint("overloaded") == choose(pool(full, out), NONE, None, NOW, max_conns=1)
    assert NoEndpoint("scope") == choose(pool(full, out), frozenset({"org"}), CALLER, NOW)


@pytest.mark.parametrize("binding", [True, False])
def test_a_cookie_does_not_lead_to_an_unhealthy_endpoint(binding: bool) -> None:
    """R39: a pin to it goes to another, or, where it binds, nowhere."""
    out, well = unhealthy(endpoint(1)), endpoint(2)
    found = choose(pool(out, well), NONE, None, NOW, preferred=Pin(out.address, binding))
    assert found == (NoEndpoint("none") if binding else well)
