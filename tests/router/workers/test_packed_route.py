"""Tests of router/workers/packed_route.py: every field of a route comes back, and what stayed keeps its cells."""

import math
from dataclasses import fields, replace

import pytest

from authz.policy import NO_POLICY, conjunction
from registry.bucket import Bucket
from registry.endpoint import Balancing, Endpoint, Pool, Pulse, Route
from registry.hostname import Host
from registry.options import NO_OPTIONS, parse_options
from registry.route_limits import RouteLimits
from router.workers.packed_route import Makers, pack_route, unpack_route
from tests.registry.parts import endpoint, tags

PLAIN = endpoint()
OPTIONS = parse_options(
    {
        "mtls_allowed_apps": "g1,g2",
        "mtls_allowed_orgs": "o1",
        "route_policy_scope": "org",
        "route_policy_sources": "cf:app:g1,cf:space:s1,nobody",
        "loadbalancing": "hash",
        "hash_header": "X-A",
        "hash_balance": 1.5,
        "rate-limit-rps": 2.5,
        "trim-path": True,
        "session-cookie": "SID",
        "nested": {},
    }
)
OTHERS: dict[str, object] = {
    "host": "fd00::1",
    "port": 61001,
    "tls": True,
    "app": "g1",
    "instance_id": "i-1",
    "instance_index": "3",
    "san": "i-1",
    "protocol": "http2",
    "tags": tags(app_id="g1", space_id="s1", own="Größe"),
    "availability_zone": "z1",
    "isolation_segment": "seg",
    "route_service_url": "https://a.b/c",
    "ttl": math.inf,
    "updated_at_ns": 1_700_000_000_123_456_789,
    "options": OPTIONS,
    "send_proxy": "v2",
}
"""Of each field of an endpoint a value that is not the usual one."""


def route(*endpoints: Endpoint, path: str = "", **of_pool: object) -> Route:
    policy = conjunction({one.options.policy for one in endpoints})
    pool = Pool(endpoints, policy, **({"context_path": path} | of_pool))  # type: ignore[arg-type]
    return Route("a.b" + path, Host("a.b"), path, pool)


def other(*names: str) -> Endpoint:
    """An endpoint whose fields of these names have their unusual values."""
    return replace(PLAIN, **{name: OTHERS[name] for name in names})  # type: ignore[arg-type]


def again(one: Route, before: Route | None = None, renewed: tuple[str, ...] = ()) -> Route:
    return unpack_route(one.host, one.path, pack_route(one), Makers(), before, renewed)


def same(expected: Route, found: Route) -> None:
    """Equal in all fields, those that equality leaves out included."""
    assert (expected.pool.policy.parts, expected.pool.policy.warnings) == (found.pool.policy.parts, found.pool.policy.warnings)
    assert expected == replace(found, pool=replace(found.pool, policy=expected.pool.policy))
    addresses = [[one.address for one in each.pool.endpoints] for each in (expected, found)]
    assert addresses[0] == addresses[1]


def test_every_field_has_an_unusual_value_here() -> None:
    """A field that somebody adds must be packed too."""
    assert OTHERS.keys() == {field.name for field in fields(Endpoint)} - {"pulse", "address"}


@pytest.mark.parametrize("name", OTHERS)
def test_every_field_of_an_endpoint_comes_back(name: str) -> None:
    """Alone and beside others."""
    one = other(name)
    same(route(one, PLAIN), again(route(one, PLAIN)))
    every = other(*OTHERS)
    same(route(every), again(route(every)))


@pytest.mark.parametrize(
    "of_pool",
    [
        {"balancing": Balancing("least-connection", otherwise="least-connection")},
        {"route_service_url": "https://a.b/c"},
        {"context_path": "/Foo/Bar"},
        {"limits": RouteLimits(3, 2.0, 10, 5.5, trims=True)},
        {"session_cookie": "SID"},
        {"bucket": Bucket()},
    ],
)
def test_every_field_of_a_pool_comes_back(of_pool: dict[str, object]) -> None:
    """Those that equality leaves out are cells: there, or not there."""
    one = route(PLAIN, path="/foo/bar", **of_pool)
    found = again(one)
    same(one, found)
    assert (one.pool.bucket is None) == (found.pool.bucket is None)


def test_an_emptied_route_keeps_its_policy() -> None:
    """It denies whoever it denied, until it goes."""
    one = Route("a.b", Host("a.b"), "", Pool((), conjunction({OPTIONS.policy})))
    same(one, again(one))


def test_constants_stay_constants() -> None:
    """What is compared by identity elsewhere, and what costs nothing."""
    found = again(route(PLAIN))
    assert found.pool.policy is NO_POLICY
    assert found.pool.endpoints[0].options is NO_OPTIONS


def test_what_is_said_several_times_is_one_value() -> None:
    """The same options of many instances, and their policy in the pool's, are packed once and shared again."""
    few, many = (route(*(endpoint(number, options=OPTIONS) for number in range(count))) for count in (1, 100))
    assert len(pack_route(many)) < len(pack_route(few)) + 99 * 80
    options = {id(one.options) for one in again(many).pool.endpoints}
    assert len(options) == 1
    found = again(few)
    assert found.pool.policy.parts[0] is found.pool.endpoints[0].options.policy.parts[0]


def test_an_endpoint_that_stays_keeps_its_pulse_and_another_does_not() -> None:
    """Another instance, or one that came anew, has nothing to do with what its predecessor did."""
    stays, gone = endpoint(1, instance_id="one", updated_at_ns=1), endpoint(2, instance_id="two")
    before = again(route(stays, gone, endpoint(3)))
    now = route(replace(stays, updated_at_ns=2), replace(gone, instance_id="other"), endpoint(3), endpoint(4))
    after = again(now, before, renewed=("10.0.0.3:8080",))
    kept = [one.pulse in [was.pulse for was in before.pool.endpoints] for one in after.pool.endpoints]
    assert kept == [True, False, False, False]
    assert after.pool.turn is before.pool.turn
    assert all(one.pulse.expires == math.inf for one in after.pool.endpoints)


def test_cells_are_made_by_number() -> None:
    """The supervisor's numbers reach the factories."""
    one = route(endpoint(1), endpoint(2), bucket=Bucket())
    numbers = {one.pool.endpoints[0].pulse: 7, one.pool.endpoints[1].pulse: 8, one.pool.bucket: 9}
    made: list[int] = []

    def pulse(number: int) -> Pulse:
        made.append(number)
        return Pulse()

    def bucket(number: int) -> Bucket:
        made.append(number)
        return Bucket()

    found = unpack_route("a.b", "", pack_route(one, numbers.__getitem__), Makers(pulse, bucket, lambda: 5))
    assert made == [7, 8, 9]
    assert found.pool.turn.next == 5


def test_a_bucket_with_another_number_is_another_bucket() -> None:
    """A route lost its rate and has one again: its old number may be a stranger's."""
    one = route(endpoint(1), bucket=Bucket())
    made: dict[int, Bucket] = {}
    makers = Makers(bucket=lambda number: made.setdefault(number, Bucket()))
    before = unpack_route("a.b", "", pack_route(one, lambda _: 9), makers)
    same = unpack_route("a.b", "", pack_route(one, lambda _: 9), makers, before)
    other = unpack_route("a.b", "", pack_route(one, lambda _: 10), makers, same)
    assert [found.pool.bucket for found in (before, same, other)] == [made[9], made[9], made[10]]
