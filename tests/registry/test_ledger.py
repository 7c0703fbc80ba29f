"""Tests of registry/ledger.py: what is registered, what a heartbeat may do, and when a table is due."""

import json
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.policy import NO_POLICY, PoolPolicy, conjunction
from registry.endpoint import Endpoint, Pool
from registry.hostname import Host
from registry.ledger import PARTS, Change, Ledger, LedgerSettings, What
from registry.route_limits import RouteLimits
from registry.table import RouteTable
from tests.registry.parts import parsed, registration

TTL = 120.0
TLS: dict[str, Any] = {"tls_port": 8443, "private_instance_id": "i1", "server_cert_domain_san": "i1"}


def ledger(**settings: object) -> Ledger:
    return Ledger(LedgerSettings(**settings))  # type: ignore[arg-type]


def register(to: Ledger, *uris: str, now: float = 0.0, number: int = 1, **fields: object) -> Change:
    data = registration(*uris, number=number, **fields)
    return to.register(parsed(data), data, now)


def unregister(to: Ledger, *uris: str, now: float = 0.0, number: int = 1, **fields: object) -> Change:
    return to.unregister(parsed(registration(*uris, number=number, **fields)), now)


def pool(of: Ledger, host: str, path: str = "") -> Pool:
    route = of.publish().lookup(host, path)
    assert route is not None
    return route.pool


def kinds(change: Change) -> list[What]:
    return [event.what for event in change.events]


def listed(table: RouteTable) -> dict[str, list[str]]:
    return {route.key: [endpoint.address for endpoint in route.pool.endpoints] for route in table}


# Register


def test_a_first_registration_makes_its_routes() -> None:
    """Contract b.3: each uri on its own; new routes are named."""
    routes = ledger()
    change = register(routes, "a.b", "A.b/X/")
    assert change.new_routes == ("a.b", "a.b/x")
    assert kinds(change) == [What.REGISTERED] * 2
    assert change.routing
    assert listed(routes.publish()) == {"a.b": ["10.0.0.1:8080"], "a.b/x": ["10.0.0.1:8080"]}
    assert pool(routes, "a.b", "/x").context_path == "/X"


def test_a_change_replaces_the_endpoint_and_keeps_its_pulse() -> None:
    """What is in flight or marked goes on being counted for the same instance."""
    routes = ledger()
    register(routes, "a.b", private_instance_id="i")
    before = pool(routes, "a.b").endpoints[0]
    change = register(routes, "a.b", private_instance_id="i", tags={"component": "x"})
    after = pool(routes, "a.b").endpoints[0]
    assert (kinds(change), change.new_routes) == ([What.UPDATED], ())
    assert (after.tags["component"], True) == ("x", after.pulse is before.pulse)


def test_another_instance_at_the_same_address_replaces() -> None:
    """Attack 78: a reused address is the new instance's, with a health of its own."""
    routes = ledger()
    register(routes, "a.b", private_instance_id="old")
    pool(routes, "a.b").endpoints[0].pulse.failed_until = 99.0
    register(routes, "a.b", private_instance_id="new")
    [endpoint] = pool(routes, "a.b").endpoints
    assert (endpoint.instance_id, endpoint.pulse.failed_until) == ("new", 0.0)


def test_the_same_again_in_other_bytes_refreshes_only() -> None:
    """Contract b.3: an equal endpoint moves its deadline; no table is due."""
    routes = ledger()
    register(routes, "a.b")
    table = routes.publish()
    change = register(routes, "a.b", now=50.0, unknown_field=1)
    assert (kinds(change), change.routing) == ([What.REFRESHED], False)
    assert routes.publish() is table
    assert pool(routes, "a.b").endpoints[0].pulse.expires == 50.0 + TTL


def test_the_lowest_limits_hold_whatever_the_order() -> None:
    """Limits are narrowed as policies are; only when the endpoint that asked has left are they wider again."""
    asked: list[dict[str, Any]] = [
        {"connection-limit": 5, "session-cookie": "B"},
        {"connection-limit": 9, "rate-limit-rps": 2, "session-cookie": "A"},
        {},
    ]
    for order in permutations(enumerate(asked, 1)):
        routes = ledger()
        for number, options in order:
            register(routes, "a.b", number=number, options=options)
        found = pool(routes, "a.b")
        assert found.limits == RouteLimits(connections=5, rate=2.0)
        assert (found.session_cookie, found.bucket is None) == ("A", False)
        unregister(routes, "a.b", number=2)
        assert (pool(routes, "a.b").limits, pool(routes, "a.b").session_cookie) == (RouteLimits(connections=5), "B")
        unregister(routes, "a.b", number=1)
        assert (pool(routes, "a.b").limits, pool(routes, "a.b").session_cookie) == (None, "")


def test_a_route_keeps_its_bucket_while_its_rate_changes() -> None:
    """A registration does not fill it; one without a rate takes it away."""
    routes = ledger()
    register(routes, "a.b", options={"rate-limit-rps": 1})
    bucket = pool(routes, "a.b").bucket
    assert bucket is not None
    register(routes, "a.b", options={"rate-limit-rps": 5})
    register(routes, "a.b", number=2)
    assert pool(routes, "a.b").bucket is bucket
    register(routes, "a.b", options={"connection-limit": 5})
    assert pool(routes, "a.b").bucket is None


def test_balancing_and_route_service_are_the_last_registrations() -> None:
    """Contract b.3: last wins; an empty or invalid algorithm keeps the route's."""
    routes = ledger(algorithm="least-connection")
    register(routes, "a.b")
    assert pool(routes, "a.b").balancing.algorithm == "least-connection"
    hashed = {"loadbalancing": "hash", "hash_header": "X-T", "hash_balance": 1.5}
    register(routes, "a.b", number=2, options=hashed, route_service_url="https://rs.example")
    assert tuple(pool(routes, "a.b").balancing) == ("hash", "X-T", 1.5, "least-connection")
    assert pool(routes, "a.b").route_service_url == "https://rs.example"
    for number, algorithm in enumerate(("", "fastest"), 3):
        register(routes, "a.b", number=number, options={"loadbalancing": algorithm})
        assert pool(routes, "a.b").balancing.algorithm == "hash"
    register(routes, "a.b", number=5, options={"loadbalancing": "round-robin"})
    assert tuple(pool(routes, "a.b").balancing) == ("round-robin", "", 0.0, "least-connection")
    assert pool(routes, "a.b").route_service_url == ""


def test_each_route_starts_its_turn_where_the_router_says() -> None:
    """The start is injected (random in a router), asked for once a route."""
    starts = iter([7, 8])
    routes = Ledger(LedgerSettings(), first_turn=lambda: next(starts))
    register(routes, "a.b", "c.d")
    register(routes, "a.b", number=2)
    assert (pool(routes, "a.b").turn.next, pool(routes, "c.d").turn.next) == (7, 8)


def test_new_options_are_said_once_a_change() -> None:
    """R318: once for a route's instances, again only when another set of options appears."""
    routes = ledger()
    said = [
        register(routes, "a.b", number=number, options={"mtls_allowed_apps": apps}).events[0].new_options
        for number, apps in ((1, "g1"), (2, "g1"), (1, "g1"), (2, "g2"), (1, "g2"))
    ]
    assert said == [True, False, False, True, False]


# The policy of a route


APPS = ("g1,g2", "g2,g3", "g1,g2")


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_policy_does_not_depend_on_the_order_of_registrations(order: tuple[int, ...]) -> None:
    """Decision 4: the conjunction of what the live endpoints demand."""
    routes = ledger()
    for number in order:
        register(routes, "a.b", number=number, options={"mtls_allowed_apps": APPS[number]})
    policies = [parsed(registration("a.b", options={"mtls_allowed_apps": a})).endpoint.options.policy for a in APPS]
    assert pool(routes, "a.b").policy.parts == conjunction(policies).parts
    assert len(pool(routes, "a.b").policy.parts) == 2


def test_revoking_acts_at_once_and_granting_with_the_last_endpoint() -> None:
    """Decision 4: while one endpoint still demands more, more is demanded."""
    routes = ledger()
    for number in (1, 2):
        register(routes, "a.b", number=number, options={"mtls_allowed_apps": "g1"})
    strict = pool(routes, "a.b").policy
    register(routes, "a.b", number=1, options={"mtls_allow_any": True})
    assert set(strict.parts) < set(pool(routes, "a.b").policy.parts)
    register(routes, "a.b", number=2, options={"mtls_allow_any": True})
    assert not set(strict.parts) & set(pool(routes, "a.b").policy.parts)


def test_the_policy_stays_one_object_while_its_demands_stay() -> None:
    """So that what was computed for it is not computed again when an instance comes or goes."""
    routes = ledger()
    register(routes, "a.b", options={"mtls_allowed_apps": "g1"})
    before = pool(routes, "a.b").policy
    register(routes, "a.b", number=2, options={"mtls_allowed_apps": "g1"})
    assert pool(routes, "a.b").policy is before


# Heartbeats


def test_a_heartbeat_moves_the_deadline_and_publishes_nothing() -> None:
    """R280: liveness is not routing."""
    routes = ledger()
    data = registration("a.b", "c.d", stale_threshold_in_seconds=60)
    assert not routes.heartbeat(data, 0.0)
    routes.register(parsed(data), data, 0.0)
    table = routes.publish()
    assert routes.heartbeat(bytes(bytearray(data)), 40.0)
    assert routes.publish() is routes.table is table
    assert [route.pool.endpoints[0].pulse.expires for route in table] == [100.0, 100.0]


def test_bytes_that_were_overtaken_are_no_heartbeat() -> None:
    """Old, new, old again: the third message must be applied, not taken for the first."""
    routes = ledger()
    old, new = (registration("a.b", tags={"v": version}) for version in ("1", "2"))
    for data in (old, new):
        routes.register(parsed(data), data, 0.0)
    assert (routes.heartbeat(old, 0.0), routes.heartbeat(new, 0.0)) == (False, True)


def test_bytes_overtaken_for_one_of_their_routes_are_no_heartbeat() -> None:
    """The index holds only messages that are what their endpoint applied last for every one of their uris."""
    routes = ledger()
    both, one = registration("a.b", "c.d"), registration("c.d", tags={"v": "2"})
    for data in (both, one):
        routes.register(parsed(data), data, 0.0)
    assert (routes.heartbeat(both, 0.0), routes.heartbeat(one, 0.0)) == (False, True)
    routes.register(parsed(both), both, 0.0)
    assert (routes.heartbeat(both, 0.0), routes.heartbeat(one, 0.0)) == (True, False)


def test_bytes_of_an_endpoint_that_is_gone_are_no_heartbeat() -> None:
    """Unregistered, pruned or removed: the next registration brings it back."""
    for take in (
        lambda routes: unregister(routes, "c.d", private_instance_id="i"),
        lambda routes: routes.prune(TTL),
    ):
        routes = ledger()
        data = registration("a.b", "c.d", private_instance_id="i")
        routes.register(parsed(data), data, 0.0)
        take(routes)
        assert not routes.heartbeat(data, 1.0)
        assert routes.register(parsed(data), data, 1.0).routing


# Unregister


def test_only_the_endpoint_and_the_uri_named_go() -> None:
    """Contract b.4: the others remain; an emptied route goes at once."""
    routes = ledger()
    for number in (1, 2):
        register(routes, "a.b", "c.d", number=number)
    change = unregister(routes, "A.B/", number=1)
    assert (kinds(change), change.routing, change.gone_routes) == ([What.UNREGISTERED], True, ())
    assert listed(routes.publish()) == {
        "a.b": ["10.0.0.2:8080"],
        "c.d": ["10.0.0.1:8080", "10.0.0.2:8080"],
    }
    assert unregister(routes, "a.b", number=2).gone_routes == ("a.b",)
    assert list(listed(routes.publish())) == ["c.d"]


@pytest.mark.parametrize(
    ("uri", "fields"),
    [
        ("x.y", {}),
        ("a.b/x", {}),
        ("*.b", {}),
        ("a.b", {"number": 9}),
        ("a.b", {"port": 8081}),
        ("a.b", {"private_instance_id": "another"}),
    ],
)
def test_what_is_not_named_exactly_stays(uri: str, fields: dict[str, object]) -> None:
    """Attack 78: a foreign back end's unregistration, or its predecessor's, does nothing."""
    routes = ledger()
    register(routes, "a.b", private_instance_id="i")
    table = routes.publish()
    change = unregister(routes, uri, **fields)  # type: ignore[arg-type]
    assert (kinds(change), change.routing) == ([What.UNKNOWN], False)
    assert routes.publish() is table


# Staleness


def test_a_plain_endpoint_goes_when_silent_for_its_ttl() -> None:
    """Contract b.5: its own, if that is shorter than the router's."""
    routes = ledger()
    register(routes, "a.b", number=1)
    register(routes, "a.b", number=2, stale_threshold_in_seconds=30)
    assert not routes.prune(29.9).routing
    assert [event.endpoint.host for event in routes.prune(30.0).events] == ["10.0.0.2"]
    change = routes.prune(TTL)
    assert (kinds(change), change.gone_routes) == ([What.PRUNED], ("a.b",))
    assert len(routes.publish()) == 0


def test_a_table_can_be_pruned_in_parts() -> None:
    """Each stale endpoint goes once, with its part, whether its route was published or not."""
    routes = ledger()
    for number in range(40):
        register(routes, f"h{number}.b")
        if number == 30:
            routes.publish()
    gone = [event.key for part in range(4) for event in routes.prune(TTL, part, 4).events]
    assert sorted(gone) == sorted(f"h{number}.b" for number in range(40))
    assert len(routes.publish()) == 0


def test_no_part_of_a_large_table_is_large() -> None:
    """What is done with one part at a time, at worst for all of its routes, holds the event loop up that long."""
    routes = ledger()
    for number in range(10_000):
        register(routes, f"h{number}.b")
    assert max(len(routes.prune(TTL, part, PARTS).events) for part in range(PARTS)) < 40
    assert len(routes.publish()) == 0


def test_a_tls_endpoint_never_goes_by_ttl() -> None:
    """Decision 14: it proves who it is at each dial."""
    routes = ledger()
    register(routes, "a.b", **TLS)
    assert not routes.prune(1e9).routing
    assert listed(routes.publish()) == {"a.b": ["10.0.0.1:8443"]}


def test_an_address_that_changes_between_tls_and_plain_goes_by_ttl_only_while_it_is_plain() -> None:
    """Decision 14, whatever was asked between: the ledger knows which routes silence can take from."""
    routes = ledger()
    register(routes, "a.b", tls_port=8080)
    assert not routes.prune(TTL).routing
    register(routes, "a.b", now=TTL)
    register(routes, "a.b", now=TTL, tls_port=8080)
    assert not routes.prune(3 * TTL).routing
    register(routes, "a.b", now=3 * TTL)
    assert kinds(routes.prune(4 * TTL)) == [What.PRUNED]


def test_after_an_outage_everything_counts_as_heard_of_now() -> None:
    """Attack 77, K40: the way back from an outage prunes nothing."""
    routes = ledger()
    register(routes, "a.b")
    register(routes, "c.d", number=2, stale_threshold_in_seconds=10)
    routes.refresh_all(1000.0)
    assert not routes.prune(1009.0).routing
    assert [event.key for event in routes.prune(1010.0).events] == ["c.d"]


# Removal after a failed identity or dial


def test_a_tls_endpoint_that_failed_its_identity_is_removed() -> None:
    """Attack 78, contract f.2: not served; the next registration brings it back."""
    routes = ledger()
    register(routes, "a.b", "c.d", **TLS)
    [failed] = pool(routes, "a.b").endpoints
    assert kinds(routes.remove_endpoint("a.b", failed, 0.0)) == [What.REMOVED]
    assert list(listed(routes.publish())) == ["c.d"]
    assert not routes.remove_endpoint("a.b", failed, 0.0).routing
    assert register(routes, "a.b", "c.d", **TLS).new_routes == ("a.b",)


def test_the_successor_of_a_failed_endpoint_stays() -> None:
    """The failure was the old instance's: the address has been registered anew since."""
    routes = ledger()
    register(routes, "a.b", **TLS)
    [failed] = pool(routes, "a.b").endpoints
    register(routes, "a.b", **(TLS | {"private_instance_id": "i2", "server_cert_domain_san": "i2"}))
    assert not routes.remove_endpoint("a.b", failed, 0.0).routing


def test_a_plain_endpoint_is_never_removed_for_a_failure() -> None:
    """Contract f.2: it is only marked."""
    routes = ledger()
    register(routes, "a.b")
    assert not routes.remove_endpoint("a.b", pool(routes, "a.b").endpoints[0], 0.0).routing


# Empty pools


@pytest.mark.parametrize(("is_on", "timeout"), [(False, 10.0), (True, 0.0)])
def test_an_emptied_route_is_kept_only_with_both_settings(timeout: float, *, is_on: bool) -> None:
    """Contract b.4: empty_pool_response_code_503 and empty_pool_timeout > 0."""
    routes = ledger(empty_pool_503=is_on, empty_pool_timeout=timeout)
    register(routes, "a.b")
    unregister(routes, "a.b")
    assert len(routes.publish()) == 0


def test_an_emptied_route_answers_until_its_timeout() -> None:
    """Contract b.4: with the policy it had, so that a refused caller stays refused."""
    routes = ledger(empty_pool_503=True, empty_pool_timeout=10.0)
    register(routes, "a.b", options={"mtls_allowed_apps": "g1"})
    policy = pool(routes, "a.b").policy
    assert unregister(routes, "a.b", now=5.0).gone_routes == ()
    assert (pool(routes, "a.b").endpoints, pool(routes, "a.b").policy) == ((), policy)
    assert not routes.prune(14.9).routing
    assert routes.prune(15.0).gone_routes == ("a.b",)
    assert len(routes.publish()) == 0


def test_an_emptied_route_keeps_what_it_demanded_last_published_or_not() -> None:
    """Contract b.4: a change and its end within the milliseconds of one publication leave no older policy behind."""
    routes = ledger(empty_pool_503=True, empty_pool_timeout=10.0)
    register(routes, "a.b", options={"mtls_allow_any": True})
    routes.publish()
    register(routes, "a.b", "c.d", options={"mtls_allowed_apps": "g1"})
    unregister(routes, "a.b", "c.d")
    demanded = parsed(registration("a.b", options={"mtls_allowed_apps": "g1"})).endpoint.options.policy.parts
    assert [pool(routes, host).policy.parts for host in ("a.b", "c.d")] == [demanded, demanded]


def test_a_registration_in_time_fills_the_emptied_route() -> None:
    """It is no new route, and the timeout is forgotten."""
    routes = ledger(empty_pool_503=True, empty_pool_timeout=10.0)
    register(routes, "a.b")
    unregister(routes, "a.b")
    assert register(routes, "a.b", now=9.0).new_routes == ()
    assert not routes.prune(20.0).routing
    assert len(pool(routes, "a.b").endpoints) == 1


# Sharding


@pytest.mark.parametrize(
    ("mode", "carried"),
    [("all", {"", "s1", "s2"}), ("segments", {"s1"}), ("shared-and-segments", {"", "s1"})],
)
def test_messages_of_other_segments_are_ignored(mode: str, carried: set[str]) -> None:
    """Contract b.6: for registering and unregistering alike."""
    routes = ledger(sharding_mode=mode, isolation_segments=frozenset({"s1"}))
    taken = {segment for segment in ("", "s1", "s2") if not register(routes, f"h{segment}.b", isolation_segment=segment).ignored}
    assert taken == carried
    assert len(routes.publish()) == len(carried)
    ignored = [unregister(routes, "h.b", isolation_segment=segment).ignored for segment in ("", "s1", "s2")]
    assert ignored == [segment not in carried for segment in ("", "s1", "s2")]


# Hosts that the operator holds


def endpoint(number: int, **more: Any) -> Endpoint:
    return Endpoint(f"10.9.0.{number}", 443, **more)


def hold(routes: Ledger, *endpoints: Endpoint, host: str = "a.b", now: float = 0.0) -> Change:
    return routes.hold({Host(host): endpoints} if endpoints else {}, now)


def test_what_the_operator_holds_is_a_route_like_any_other() -> None:
    """K15: found by its host, at every path, with the endpoints in the operator's order."""
    routes = ledger()
    change = hold(routes, endpoint(1), endpoint(2))
    assert (kinds(change), change.new_routes, change.routing) == ([What.REGISTERED] * 2, ("a.b",), True)
    assert listed(routes.publish()) == {"a.b": ["10.9.0.1:443", "10.9.0.2:443"]}
    assert pool(routes, "a.b", "/any/path").policy is NO_POLICY


def test_no_message_touches_a_held_host() -> None:
    """K15: the configuration wins, whatever is said and in whatever order; paths below the host and the very address too."""
    routes = ledger()
    hold(routes, endpoint(1))
    before = routes.publish()
    change = register(routes, "a.b", "A.b/x")
    assert (kinds(change), change.routing, change.new_routes) == ([What.HELD] * 2, False, ())
    assert kinds(unregister(routes, "a.b", host="10.9.0.1", port=443)) == [What.HELD]
    assert routes.publish() is before


def test_only_the_held_uri_of_a_message_is_ignored_and_it_is_read_again() -> None:
    """So that the route is there with the next message once the operator lets go."""
    routes = ledger()
    hold(routes, endpoint(1))
    data = registration("a.b", "c.d")
    assert kinds(routes.register(parsed(data), data, 0.0)) == [What.REGISTERED, What.HELD]
    assert not routes.heartbeat(data, 1.0)
    assert kinds(routes.register(parsed(data), data, 1.0)) == [What.REFRESHED, What.HELD]
    change = hold(routes)
    assert (change.gone_routes, listed(routes.publish())) == (("a.b",), {"c.d": ["10.0.0.1:8080"]})
    assert routes.register(parsed(data), data, 2.0).new_routes == ("a.b",)
    assert routes.heartbeat(data, 3.0)


def test_holding_a_host_ends_what_was_registered_for_it() -> None:
    """With its paths; bytes that were a heartbeat for it are read again, and then are ignored."""
    routes = ledger()
    data = registration("a.b", "a.b/x", "c.d")
    routes.register(parsed(data), data, 0.0)
    change = hold(routes, endpoint(1))
    assert (change.routing, change.gone_routes) == (True, ("a.b/x",))
    assert listed(routes.publish()) == {"c.d": ["10.0.0.1:8080"], "a.b": ["10.9.0.1:443"]}
    assert not routes.heartbeat(data, 1.0)
    assert kinds(routes.register(parsed(data), data, 1.0)) == [What.REFRESHED, What.HELD, What.HELD]


def test_a_wildcard_around_a_held_host_is_not_held() -> None:
    """Exact comes before wildcard, as for all routes."""
    routes = ledger()
    hold(routes, endpoint(1))
    register(routes, "*.b")
    assert [e.address for e in pool(routes, "a.b").endpoints] == ["10.9.0.1:443"]
    assert [e.address for e in pool(routes, "z.b").endpoints] == ["10.0.0.1:8080"]


def test_nothing_makes_a_held_endpoint_go() -> None:
    """Neither silence nor a failure: nobody would register it again."""
    routes = ledger()
    hold(routes, endpoint(1, ttl=1.0), endpoint(2, tls=True, san="x", ttl=1.0))
    before = routes.publish()
    assert not routes.prune(1e9).routing
    assert not routes.remove_endpoint("a.b", pool(routes, "a.b").endpoints[1], 0.0).routing
    assert routes.publish() is before


def test_holding_the_same_again_changes_nothing() -> None:
    """A reload that changes something else publishes no table."""
    routes = ledger()
    hold(routes, endpoint(1), endpoint(2))
    before = routes.publish()
    change = hold(routes, endpoint(1), endpoint(2), now=5.0)
    assert (change.routing, change.new_routes, change.gone_routes) == (False, (), ())
    assert routes.publish() is before


def test_another_list_of_endpoints_keeps_the_pulse_of_those_that_stay() -> None:
    """What is in flight or marked goes on being counted; the others go, new ones come."""
    routes = ledger()
    hold(routes, endpoint(1), endpoint(2))
    kept = pool(routes, "a.b").endpoints[1].pulse
    assert hold(routes, endpoint(2)).routing
    assert hold(routes, endpoint(2), endpoint(3)).routing
    found = pool(routes, "a.b").endpoints
    assert [e.address for e in found] == ["10.9.0.2:443", "10.9.0.3:443"]
    assert found[0].pulse is kept


# Against a naive model


URIS = ["a.b", "a.b/x", "*.b", "c.d"]


@dataclass
class Model:
    """GoRouter's words, naively: a dictionary of routes, every message applied in full, no heartbeats."""

    routes: dict[str, dict[str, tuple[Endpoint, float]]] = field(default_factory=dict)

    def register(self, data: bytes, now: float) -> None:
        message = parsed(data)
        for uri in message.uris:
            said = (message.endpoint, now + message.endpoint.ttl)
            self.routes.setdefault(uri.key, {})[message.endpoint.address] = said

    def unregister(self, data: bytes) -> None:
        message = parsed(data)
        for uri in message.uris:
            known = self.routes.get(uri.key, {}).get(message.endpoint.address)
            if known and known[0].instance_id == message.endpoint.instance_id:
                del self.routes[uri.key][message.endpoint.address]

    def prune(self, now: float) -> None:
        for members in self.routes.values():
            stale = [a for a, (endpoint, expires) in members.items() if expires <= now and not endpoint.tls]
            for address in stale:
                del members[address]

    def state(self) -> dict[str, dict[str, tuple[Endpoint, float]]]:
        return {key: members for key, members in self.routes.items() if members}

    def policy(self, key: str) -> PoolPolicy:
        return conjunction({endpoint.options.policy for endpoint, _ in self.routes[key].values()})


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    said: dict[str, object] = {"private_instance_id": draw(st.sampled_from(["i1", "i2"]))}
    if draw(st.booleans()):
        said["tls_port"] = 8443
    if draw(st.booleans()):
        said["options"] = {"mtls_allowed_apps": draw(st.sampled_from(["g1", "g2"]))}
    if draw(st.booleans()):
        said["stale_threshold_in_seconds"] = 30
    uris = draw(st.lists(st.sampled_from(URIS), min_size=1, max_size=3))
    return registration(*uris, number=draw(st.integers(1, 2)), **said)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["register"] * 4 + ["unregister", "prune"]),
        st.integers(0, 5),
        st.sampled_from([0, 1, 29, 60]),
    ),
    max_size=30,
)


def _told(routes: Ledger, what: str, data: bytes, now: float) -> Change | bool:
    match what:
        case "register":
            return routes.heartbeat(data, now) or routes.register(parsed(data), data, now)
        case "unregister":
            return routes.unregister(parsed(data), now)
        case _:
            return routes.prune(now)


@given(st.lists(messages(), min_size=6, max_size=6), STEPS, st.lists(st.booleans(), min_size=30, max_size=30))
def test_what_is_not_published_yet_counts_all_the_same(
    known: list[bytes], steps: list[tuple[str, int, int]], published: list[bool]
) -> None:
    """Two ledgers hear the same, one publishes after every message: they tell of the same changes, and end alike. The index of
    heartbeats never holds more messages than there are endpoints of routes.
    """
    eager, lazy, now = ledger(), ledger(), 0.0
    for (what, which, seconds), both in zip(steps, published, strict=False):
        now += seconds
        assert _told(eager, what, known[which], now) == _told(lazy, what, known[which], now)
        eager.publish()
        if both:
            lazy.publish()
        assert eager.known_messages == lazy.known_messages <= sum(len(route.pool.endpoints) for route in eager.table)
    assert listed(eager.publish()) == listed(lazy.publish())
    assert lazy.prune(now + 1e6) == eager.prune(now + 1e6)
    assert sum(not e.tls for route in eager.publish() for e in route.pool.endpoints) == 0


@given(st.lists(messages(), min_size=6, max_size=6), STEPS)
def test_the_ledger_is_the_naive_model(known: list[bytes], steps: list[tuple[str, int, int]]) -> None:
    """Same routes, deadlines and policies after any sequence; no heartbeat changes the table."""
    routes, model, now = ledger(), Model(), 0.0
    for what, which, seconds in steps:
        now += seconds
        data, before = known[which], routes.publish()
        match what:
            case "register":
                model.register(data, now)
                if routes.heartbeat(data, now):
                    assert routes.publish() is before
                else:
                    change = routes.register(parsed(data), data, now)
                    assert change.routing == (routes.publish() is not before)
            case "unregister":
                model.unregister(data)
                assert routes.unregister(parsed(data), now).routing == (routes.publish() is not before)
            case "prune":
                model.prune(now)
                assert routes.prune(now).routing == (routes.publish() is not before)
        table = routes.publish()
        state = {route.key: {e.address: (e, e.pulse.expires) for e in route.pool.endpoints} for route in table}
        assert state == model.state()
        assert all(route.pool.policy.parts == model.policy(route.key).parts for route in table)
        assert len(table) == len(state)


def test_a_route_without_options_has_the_constant_policy() -> None:
    """`NO_POLICY` itself: the fast answer for the open majority."""
    routes = ledger()
    register(routes, "a.b", options=json.loads("{}"))
    assert pool(routes, "a.b").policy is NO_POLICY


@given(
    st.lists(
        st.tuples(st.sampled_from(["hold a.b", "hold c.d", "free", "register", "unregister", "prune"]), st.integers(0, 5)),
        max_size=20,
    ),
    st.lists(messages(), min_size=6, max_size=6),
)
def test_a_held_host_has_the_operators_endpoints_after_anything(steps: list[tuple[str, int]], known: list[bytes]) -> None:
    """K15: whatever the order of messages and reloads, and a table is published exactly when routing changed."""
    routes, held, now = ledger(), "", 0.0
    for what, which in steps:
        now += 10.0
        before, data = routes.publish(), known[which]
        match what:
            case "register":
                change = Change() if routes.heartbeat(data, now) else routes.register(parsed(data), data, now)
            case "unregister":
                change = routes.unregister(parsed(data), now)
            case "prune":
                change = routes.prune(now)
            case _:
                held = what.removeprefix("hold ").removeprefix("free")
                change = hold(routes, *([endpoint(1)] if held else []), host=held, now=now)
        assert change.routing == (routes.publish() is not before)
        if held:
            table = routes.publish()
            assert [key for key in listed(table) if key.partition("/")[0] == held] == [held]
            assert listed(table)[held] == ["10.9.0.1:443"]
