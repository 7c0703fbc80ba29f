"""Tests of registry/entry.py: what a route makes of its endpoints' words, and what goes on from one table to the next."""

from authz.policy import NO_POLICY
from registry.endpoint import DEFAULT_BALANCING, Balancing, Endpoint, Turn
from registry.entry import Entry
from registry.message import uri_of
from registry.options import parse_options
from tests.registry.parts import endpoint


def entry(*endpoints: Endpoint) -> Entry:
    made = Entry(uri_of("a.b/x"), DEFAULT_BALANCING, Turn(7))
    for one in endpoints:
        made.members[one.address] = one
        made.adopt(one)
    return made


def asking(number: int = 1, **options: str | float) -> Endpoint:
    return endpoint(number, options=parse_options(options))


def test_a_route_that_is_opened_and_closed_is_the_same() -> None:
    """Nothing is kept of it elsewhere: endpoints, policy, turn and bucket are the very objects."""
    before = entry(
        endpoint(options=parse_options({"mtls_allowed_apps": "g1", "rate-limit-rps": 5, "loadbalancing": "hash"}))
    ).route()
    after = Entry.opened(before).route()
    assert after == before
    assert (after.pool.policy, after.pool.turn, after.pool.bucket) == (before.pool.policy, before.pool.turn, before.pool.bucket)
    assert after.pool.endpoints[0] is before.pool.endpoints[0]


def test_the_policy_is_made_anew_only_for_other_demands() -> None:
    """What was decided under it is remembered by its identity."""
    before = entry(asking(1, mtls_allowed_apps="g1")).route()
    same, other = Entry.opened(before), Entry.opened(before)
    same.members["x"] = asking(2, mtls_allowed_apps="g1")
    other.members["x"] = asking(2, mtls_allowed_apps="g2")
    assert same.route().pool.policy is before.pool.policy
    assert len(other.route().pool.policy.parts) == 2


def test_an_emptied_route_keeps_its_policy() -> None:
    """It answers 503, and to those whom it would let in."""
    emptied = Entry.opened(entry(asking(mtls_allowed_apps="g1")).route())
    emptied.members.clear()
    assert emptied.route().pool.policy is not NO_POLICY


def test_equal_options_are_known_as_one_of_the_routes() -> None:
    """Whichever object says them."""
    ours = asking(mtls_allowed_apps="g1").options
    assert entry(endpoint(2), endpoint(options=ours)).like(ours) is ours
    assert entry(asking(mtls_allowed_apps="g1")).like(parse_options({"mtls_allowed_apps": "g2"})) is None


def test_the_last_registration_says_how_the_route_balances() -> None:
    """One that says nothing leaves it."""
    made = entry(asking(1, loadbalancing="hash", hash_header="x", hash_balance=1.5), asking(2))
    assert made.balancing == Balancing("hash", "x", 1.5)
