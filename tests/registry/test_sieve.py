"""registry/sieve.py: of a route only the endpoints that no deny list names are left."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.deny import NO_DENY, DenyLists
from identity.caller import Guid
from registry import sieve
from registry.endpoint import Endpoint, Pool, Route
from registry.hostname import Host
from registry.sieve import Sieve, barred, sift
from tests.authz.parts import pool
from tests.registry.parts import endpoint, tags

POLICY = pool({"mtls_allowed_apps": "app-1"})
OWNED = tags(space_id="space-1", organization_id="org-1")


def route(*endpoints: Endpoint) -> Route:
    return Route("a.example", Host("a.example"), "", Pool(endpoints, POLICY))


@pytest.mark.parametrize(
    ("lists", "rule"),
    [
        (DenyLists(apps=frozenset({Guid("app-1")})), "deny:apps"),
        (DenyLists(spaces=frozenset({Guid("space-1")})), "deny:spaces"),
        (DenyLists(orgs=frozenset({Guid("org-1")})), "deny:orgs"),
        (DenyLists(networks=(ip_network("10.0.0.1"),)), "deny:backend_networks"),
        (DenyLists(hosts=frozenset({"a.example"})), None),
        (NO_DENY, None),
    ],
)
def test_an_endpoint_is_out_by_its_owner_or_its_address(lists: DenyLists, rule: str | None) -> None:
    """R237, R238: its tags say space and org; hosts are no matter of endpoints."""
    found = barred(lists, endpoint(1, app="app-1", tags=OWNED))
    assert (found.rule if found else None) == rule


@pytest.mark.parametrize("app", ["", "app-2"])
def test_an_endpoint_that_names_its_app_by_tag_alone_is_out_too(app: str) -> None:
    """R237: the owner that `/policies` shows is the owner that is denied, whatever the other place says."""
    found = barred(DenyLists(apps=frozenset({Guid("app-1")})), endpoint(1, app=app, tags=tags(app_id="app-1")))
    assert found is not None
    assert (found.rule, found.detail) == ("deny:apps", "endpoint app app-1 is on deny.apps")


def test_without_a_hit_the_route_is_the_same() -> None:
    """The same object: nothing is made for a route that no list concerns."""
    whole = route(endpoint(1), endpoint(2))
    assert sift(DenyLists(orgs=frozenset({Guid("org-1")})), whole) == (whole, None)
    assert sift(NO_DENY, whole).route is whole


def test_the_others_are_left_with_policy_and_turn() -> None:
    """R238: round-robin goes on among them, and the demands of those that are out still hold."""
    one, two, three = endpoint(1), endpoint(2), endpoint(3)
    whole = route(one, two, three)
    left, why = sift(DenyLists(networks=(ip_network("10.0.0.2"),)), whole)
    assert why is None
    assert left.pool.endpoints == (one, three)
    assert left.pool.endpoints[0].pulse is one.pulse
    assert left.pool.policy is whole.pool.policy
    assert left.pool.turn is whole.pool.turn
    assert (left.key, left.host, left.path) == (whole.key, whole.host, whole.path)


def test_where_all_are_out_the_first_says_why() -> None:
    """R237: a 403 needs one reason."""
    lists = DenyLists(orgs=frozenset({Guid("org-1")}), networks=(ip_network("10.0.0.2"),))
    left, why = sift(lists, route(endpoint(1, tags=OWNED), endpoint(2)))
    assert left.pool.endpoints == ()
    assert why is not None
    assert why.rule == "deny:orgs"


def test_a_route_without_endpoints_is_empty_and_not_denied() -> None:
    """A 503 stays a 503."""
    assert sift(DenyLists(networks=(ip_network("0.0.0.0/0"),)), route()) == (route(), None)


def test_a_sieve_remembers_routes_by_themselves_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look a request; an equal route of another generation is looked at anew."""
    monkeypatch.setattr(sieve, "MAX_ROUTES", 2)
    filled = Sieve(DenyLists(networks=(ip_network("10.0.0.1"),)))
    routes = [route(endpoint(1), endpoint(2)) for _ in range(5)]
    assert all(filled.sift(one) is filled.sift(one) for one in routes)
    assert [filled.sift(one).route.pool.endpoints for one in routes] == [(endpoint(2),)] * 5
    assert len(filled._known) <= 2


@given(st.lists(st.integers(min_value=1, max_value=20), max_size=8, unique=True), st.integers(min_value=28, max_value=32))
def test_exactly_the_endpoints_outside_the_lists_are_left(numbers: list[int], prefix: int) -> None:
    """In their order, whatever the pool."""
    network = ip_network(f"10.0.0.{16 if prefix == 28 else 7}/{prefix}", strict=False)
    lists = DenyLists(networks=(network,))
    left, why = Sieve(lists).sift(route(*map(endpoint, numbers)))
    expected = [one for one in map(endpoint, numbers) if barred(lists, one) is None]
    assert list(left.pool.endpoints) == expected
    assert (why is None) == bool(expected or not numbers)
