"""Tests of router/workers/routes.py: what a worker answers is what the supervisor's table does."""

import marshal
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.balance import NoEndpoint, Pin, choose
from registry.endpoint import Endpoint, Pulse, Route
from registry.hostname import Host
from registry.ledger import Ledger, LedgerSettings
from registry.table import RouteTable
from router.workers.open_routes import SILENT
from router.workers.packed_route import FORMAT, Makers
from router.workers.routes import FeedError, RouteFeed, RouteReplica
from tests.registry.parts import endpoint, parsed, registration


class Desk:
    """A ledger, its feed, and one replica that hears all."""

    def __init__(self, feed: RouteFeed | None = None, makers: Makers | None = None, size: int = 4) -> None:
        self.ledger = Ledger(LedgerSettings(empty_pool_503=True, empty_pool_timeout=5.0))
        self.feed = feed or RouteFeed()
        self.now = 0.0
        self.replica = RouteReplica(makers or Makers(), lambda: self.now, size)
        self.table = self.ledger.publish()
        begin(self.feed, self.replica, self.table)

    def register(self, *uris: str, **fields: object) -> None:
        data = registration(*uris, **fields)  # type: ignore[arg-type]
        self.ledger.register(parsed(data), data, self.now)
        self.publish()

    def unregister(self, *uris: str, **fields: object) -> None:
        self.ledger.unregister(parsed(registration(*uris, **fields)), self.now)  # type: ignore[arg-type]
        self.publish()

    def publish(self) -> None:
        before, self.table = self.table, self.ledger.publish()
        change = self.feed.change(before, self.table)
        assert (change is None) == (before is self.table)
        if change is not None:
            assert self.replica.apply(change) is self.replica.table

    def tell(self, parts: int = 1) -> None:
        for part in range(parts):
            said = self.feed.liveness(self.table, self.now, part, parts)
            if said is not None:
                assert self.replica.apply(said) is None

    def pool(self, host: str, path: str = "/") -> tuple[Endpoint, ...]:
        route = self.replica.table.lookup(host, path)
        assert route is not None
        return route.pool.endpoints

    def pulse(self, host: str) -> Pulse:
        (one,) = self.pool(host)
        return one.pulse


def begin(feed: RouteFeed, replica: RouteReplica, table: RouteTable) -> None:
    *pieces, last = feed.whole(table)
    assert all(replica.apply(piece) is None for piece in pieces)
    assert replica.apply(last) is replica.table


@dataclass
class Numbers:
    """Cells that say what was taken and given back."""

    taken: int = 0
    released: list[int] = field(default_factory=list)

    def take(self) -> int:
        self.taken += 1
        return self.taken

    def release(self, number: int) -> None:
        self.released.append(number)


HOSTS = ["a.b", "*.b", "c.d"]
PATHS = ["", "/x", "/X/y", "/z"]
OPTIONS: list[object] = [
    {},
    {"mtls_allowed_apps": "g1,g2", "mtls_allowed_orgs": "o"},
    {"mtls_allow_any": "true"},
    {"route_policy_scope": "space", "route_policy_sources": "cf:app:g1"},
    {"loadbalancing": "hash", "hash_header": "X-Tenant", "hash_balance": 1.5},
    {"loadbalancing": "least-connection", "session-cookie": "SID", "trim-path": True},
    {"rate-limit-rps": 5, "connection-limit": 3, "max-request-bytes": 10, "request-timeout-seconds": 2},
    {"mtls_allowed_apps": ["nested"], "unknown": 1, "loadbalancing": "no such"},
    "no object",
]
TAGS: list[dict[str, str]] = [{}, {"app_id": "g1", "space_id": "s"}, {"Überraschung": "ja", "app_id": "g1"}]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    said: dict[str, object] = {
        "app": draw(st.sampled_from(["", "g1"])),
        "private_instance_id": draw(st.sampled_from(["i1", "i2"])),
        "tags": draw(st.sampled_from(TAGS)),
        "options": draw(st.sampled_from(OPTIONS)),
        "stale_threshold_in_seconds": draw(st.sampled_from([0, 30])),
        "endpoint_updated_at_ns": draw(st.sampled_from([0, 1_700_000_000_000_000_001])),
        "protocol": draw(st.sampled_from(["http1", "http2"])),
        "availability_zone": draw(st.sampled_from(["", "z1"])),
        "route_service_url": draw(st.sampled_from(["", "https://service.b/x"])),
    }
    if draw(st.booleans()):
        said |= {"tls_port": 8443, "server_cert_domain_san": "i1"}
    if draw(st.booleans()):
        said["host"] = "fd00::1"
    hosts, paths = st.sampled_from(HOSTS), st.sampled_from(PATHS)
    uris = draw(st.lists(st.builds(str.__add__, hosts, paths), min_size=1, max_size=3))
    return registration(*uris, number=draw(st.integers(1, 3)), **said)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["register"] * 5 + ["unregister", "prune", "tell", "ask", "again", "hold"]),
        st.integers(0, 7),
        st.sampled_from([0, 1, 31]),
    ),
    max_size=30,
)
ASKED = [(host, path) for host in ("a.b", "q.b", "c.d", "none") for path in ("/", "/x", "/x/Y/1", "/z", "/q")]


@given(st.lists(messages(), min_size=1, max_size=8), STEPS)
def test_a_replica_answers_as_the_table_does(known: list[bytes], steps: list[tuple[str, int, int]]) -> None:
    """After any sequence: routes, policies, limits and liveness are equal, however few of them are open at a time."""
    desk = Desk()
    heard = [(data, parsed(data)) for data in known]
    for what, which, seconds in steps:
        desk.now += seconds
        data, message = heard[which % len(heard)]
        match what:
            case "register":
                if not desk.ledger.heartbeat(data, desk.now):
                    desk.ledger.register(message, data, desk.now)
            case "unregister":
                desk.ledger.unregister(message, desk.now)
            case "prune":
                desk.ledger.prune(desk.now)
            case "tell":
                desk.tell(which + 1)
            case "ask":
                desk.replica.table.lookup(*ASKED[which])
            case "again":
                begin(desk.feed, desk.replica, desk.table)
            case "hold":
                desk.ledger.hold({Host("a.b"): (endpoint(which, send_proxy="v2"),)} if which % 2 else {}, desk.now)
        desk.publish()
        same(desk.table, desk.replica.table)
    desk.tell()
    assert alive(desk.table, desk.now) == alive(desk.replica.table, desk.now)
    late = RouteReplica(Makers(), lambda: desk.now)
    begin(desk.feed, late, desk.table)
    same(desk.table, late.table)
    assert alive(desk.table, desk.now) == alive(late.table, desk.now)


def same(expected: RouteTable, found: RouteTable) -> None:
    assert (expected.generation, len(expected)) == (found.generation, len(found))
    assert [comparable(expected.lookup(*asked)) for asked in ASKED] == [comparable(found.lookup(*asked)) for asked in ASKED]
    assert {route.key: comparable(route) for route in expected} == {route.key: comparable(route) for route in found}


def comparable(route: Route | None) -> object:
    """A route as values: a pool's policy is compared by identity elsewhere."""
    if route is None:
        return None
    pool = route.pool
    of_pool = (pool.balancing, pool.route_service_url, pool.context_path, pool.limits, pool.session_cookie)
    return (
        route.key,
        route.host,
        route.path,
        pool.endpoints,
        pool.policy.parts,
        pool.policy.warnings,
        of_pool,
        pool.bucket is None,
    )


def alive(table: RouteTable, now: float) -> dict[tuple[str, str], tuple[bool, bool]]:
    return {
        (route.key, one.address): (one.tls and one.pulse.expires <= now, one.pulse.unhealthy)
        for route in table
        for one in route.pool.endpoints
    }


@given(st.lists(messages(), min_size=1, max_size=8), st.sampled_from([None, Pin("i1"), Pin("10.0.0.2:8080", binding=True)]))
def test_endpoints_are_chosen_alike(known: list[bytes], pin: Pin | None) -> None:
    """The same turn, the same hash, the same session: with nothing in flight, request by request."""
    desk = Desk(size=100)
    for data in known:
        desk.ledger.register(parsed(data), data, 0.0)
    desk.publish()
    for host, path in ASKED * 2:
        ours, theirs = desk.table.lookup(host, path), desk.replica.table.lookup(host, path)
        if ours is not None and theirs is not None:
            fields = [(b"x-tenant", path.encode())]
            chosen = [choose(r.pool, frozenset(), None, 0.0, fields=fields, zone="z1", preferred=pin) for r in (ours, theirs)]
            assert chosen[0] == chosen[1]


# Identity over generations


def test_an_endpoint_keeps_its_pulse_and_a_route_its_turn_and_bucket() -> None:
    """Requests in flight and the rate go on over a change of the route."""
    desk = Desk()
    desk.register("a.b", options={"rate-limit-rps": 5})
    (first,) = desk.pool("a.b")
    before = desk.replica.table.lookup("a.b", "/")
    first.pulse.in_flight = 3
    desk.register("a.b", number=2, options={"rate-limit-rps": 5})
    after = desk.replica.table.lookup("a.b", "/")
    assert before is not None
    assert after is not None
    assert after.pool.endpoints[0].pulse is first.pulse
    assert (before.pool.turn, before.pool.bucket) == (after.pool.turn, after.pool.bucket)
    assert before.pool.policy is after.pool.policy
    assert before.pool.endpoints == (first,)


def test_a_policy_that_stays_is_the_same_object() -> None:
    """Who remembers decisions by policy goes on."""
    desk = Desk()
    desk.register("a.b", options={"mtls_allowed_apps": "g1"})
    before = desk.replica.table.lookup("a.b", "/")
    desk.register("a.b", number=2, options={"mtls_allowed_apps": "g1"})
    after = desk.replica.table.lookup("a.b", "/")
    assert before is not None
    assert after is not None
    assert after is not before
    assert after.pool.policy is before.pool.policy


@pytest.mark.parametrize("again", [False, True])
def test_another_instance_at_the_same_address_has_a_pulse_of_its_own(again: bool) -> None:
    """Also where it is the same instance that left and came back between two tables."""
    desk = Desk()
    desk.register("a.b", private_instance_id="one")
    before = desk.pulse("a.b")
    if again:
        data = registration("a.b", private_instance_id="one")
        desk.ledger.unregister(parsed(data), 0.0)
        desk.ledger.prune(100.0)
    desk.register("a.b", private_instance_id="one" if again else "two")
    assert desk.pulse("a.b") is not before


def test_a_whole_table_keeps_the_pulses_of_what_is_open_and_forgets_what_is_gone() -> None:
    """A worker that is told everything anew goes on with its requests."""
    desk = Desk()
    desk.register("a.b")
    desk.register("c.d")
    kept, before = desk.pulse("a.b"), desk.pulse("c.d")
    other = Ledger(LedgerSettings())
    data = registration("a.b")
    other.register(parsed(data), data, 0.0)
    begin(RouteFeed(), desk.replica, other.publish())
    assert desk.pulse("a.b") is kept
    assert desk.replica.table.lookup("c.d", "/") is None
    begin(desk.feed, desk.replica, desk.table)
    assert desk.pulse("c.d") is not before


def test_a_route_that_was_gone_begins_anew() -> None:
    """Nothing is kept of what no table has; another's health is not its."""
    desk = Desk()
    desk.register("a.b")
    before = desk.replica.table.lookup("a.b", "/")
    desk.unregister("a.b")
    desk.now = 5.0
    desk.ledger.prune(desk.now)
    desk.publish()
    assert len(desk.replica.table) == 0
    desk.register("a.b")
    after = desk.replica.table.lookup("a.b", "/")
    assert before is not None
    assert after is not None
    assert after.pool.turn is not before.pool.turn
    assert after.pool.endpoints[0].pulse is not before.pool.endpoints[0].pulse


def test_an_older_generation_still_answers_as_it_did() -> None:
    """An exchange may keep the table that it started with."""
    desk = Desk()
    desk.register("a.b")
    older = desk.replica.table
    pulse = desk.pulse("a.b")
    desk.register("a.b", number=2)
    assert len(desk.pool("a.b")) == 2
    was = older.lookup("a.b", "/")
    assert was is not None
    assert [pulse] == [one.pulse for one in was.pool.endpoints]
    assert [pulse] == [one.pulse for one in desk.pool("a.b")][:1]


# Liveness


def test_silent_and_unhealthy_endpoints_are_told_once_and_lifted_once() -> None:
    """House 14: a TLS endpoint silent for its TTL is chosen last, on every worker."""
    desk = Desk()
    desk.register("a.b", tls_port=443)
    assert desk.pulse("a.b").expires == math.inf
    desk.now = 121.0
    desk.tell()
    assert desk.pulse("a.b").expires <= desk.now
    assert desk.feed.liveness(desk.table, desk.now) is None
    (supervisors,) = next(iter(desk.table)).pool.endpoints
    assert supervisors.pulse.checked(passed=False, needed=1)
    desk.tell()
    route = desk.replica.table.lookup("a.b", "/")
    assert route is not None
    assert choose(route.pool, frozenset(), None, desk.now) == NoEndpoint("unhealthy")
    supervisors.pulse.lift()
    desk.register("a.b", tls_port=443)
    desk.tell()
    assert (desk.pulse("a.b").expires, desk.pulse("a.b").unhealthy, desk.pulse("a.b").failed_until) == (math.inf, False, 0.0)


def test_a_mark_of_the_workers_own_outlives_what_the_supervisor_says() -> None:
    """A failed dial here is not lifted because the endpoint was heard of there."""
    desk = Desk()
    desk.register("a.b", tls_port=443)
    desk.now = 121.0
    desk.tell()
    desk.pulse("a.b").failed_until = 150.0
    desk.register("a.b", tls_port=443)
    desk.tell()
    assert desk.pulse("a.b").failed_until == 150.0


def test_a_silent_endpoint_stays_silent_when_others_come_to_its_route() -> None:
    """A change of the route carries what was said of its endpoints."""
    desk = Desk()
    desk.register("a.b", tls_port=443)
    desk.now = 121.0
    desk.tell()
    desk.register("a.b", number=2, tls_port=443)
    assert [one.pulse.expires for one in desk.pool("a.b")] == [-math.inf, math.inf]


def test_an_instance_that_takes_over_an_address_is_not_silent() -> None:
    """What was said was said of its predecessor, to workers that know it and to those that come."""
    desk = Desk()
    desk.register("a.b", tls_port=443, private_instance_id="one")
    desk.now = 121.0
    desk.tell()
    desk.register("a.b", tls_port=443, private_instance_id="two")
    late = RouteReplica(Makers(), lambda: desk.now)
    begin(desk.feed, late, desk.table)
    for replica in (desk.replica, late):
        route = replica.table.lookup("a.b", "/")
        assert route is not None
        assert route.pool.endpoints[0].pulse.expires == math.inf


def test_flags_of_a_route_that_is_not_there_wait_for_it() -> None:
    """Liveness names routes that a worker on an older table may not have yet."""
    desk = Desk()
    desk.replica.apply(marshal.dumps(("liveness", [("a.b", "", "10.0.0.1:8080", SILENT)])))
    assert desk.replica.table.lookup("a.b", "/") is None


# A worker that comes late


def test_a_worker_with_an_older_table_catches_up_by_one_change() -> None:
    """Whole is made of one generation while others are published; numbers of cells are given and taken back once."""
    numbers = Numbers()
    feed = RouteFeed(endpoints=numbers)
    made: list[int] = []
    desk = Desk(feed)
    desk.register("a.b", "c.d")
    older = desk.table
    pieces = list(feed.whole(older))
    desk.unregister("a.b")
    desk.register("e.f", number=2)
    gone = numbers.released.copy()

    def make(number: int) -> Pulse:
        made.append(number)
        return Pulse()

    late = RouteReplica(Makers(pulse=make), lambda: 0.0)
    for piece in pieces:
        late.apply(piece)
    change = feed.change(older, desk.table)
    assert change is not None
    late.apply(change)
    same(desk.table, late.table)
    assert numbers.taken == 3
    assert len(gone) == 1
    assert numbers.released == gone
    assert sorted(made) == sorted({1, 2, 3} - {*gone})


def test_a_table_goes_in_pieces() -> None:
    """No piece keeps a supervisor's loop for long; together they are the table."""
    ledger = Ledger(LedgerSettings())
    for number in range(600):
        data = registration(f"a{number}.b", tags={"blob": "x" * 900}, number=number % 250)
        ledger.register(parsed(data), data, 0.0)
    table, feed, replica = ledger.publish(), RouteFeed(), RouteReplica(Makers(), lambda: 0.0)
    pieces = list(feed.whole(table))
    assert len(pieces) == 3
    assert max(map(len, pieces)) < 1 << 20
    begin(feed, replica, table)
    same(table, replica.table)


# Numbers of cells


def test_cells_are_made_by_the_numbers_that_the_supervisor_gave() -> None:
    """An endpoint and a bucket have one number while they are in a table, and give it back once."""
    endpoints, buckets = Numbers(), Numbers(taken=100)
    pulses: dict[int, Pulse] = {}
    desk = Desk(RouteFeed(endpoints, buckets), Makers(pulse=lambda number: pulses.setdefault(number, Pulse())))
    desk.register("a.b", options={"rate-limit-rps": 5})
    desk.register("a.b", number=2)
    held = [one.pulse for one in desk.pool("a.b")]
    assert held == [pulses[1], pulses[2]]
    told = [desk.feed.known_number(one.pulse) for route in desk.ledger.table for one in route.pool.endpoints]
    assert (told, desk.feed.known_number(Pulse())) == ([1, 2], 0)
    desk.unregister("a.b")
    assert (endpoints.released, buckets.released) == ([1], [101])
    desk.unregister("a.b", number=2)
    assert endpoints.released == [1, 2]
    assert (endpoints.taken, buckets.taken) == (2, 101)


# What no feed says


@pytest.mark.parametrize(
    "wrong",
    [
        lambda good: b"",
        lambda good: b"\x00" * 9,
        lambda good: good[:-3],
        lambda good: marshal.dumps(("else",)),
        lambda good: marshal.dumps(("change", 1, 2)),
        lambda good: marshal.dumps(("change", 5, 6, [])),
        lambda good: marshal.dumps(("change", 1, 2, [("a.b", "", None, (), {}), ("c.d", "")])),
        lambda good: marshal.dumps(("change", 1, 2, [("a.b", "", None, (), {}), ("c.d", "", 7, (), {})])),
        lambda good: marshal.dumps(("change", 1, 2, [("c.d", "", b"x", (), {}), ("a.b", "", b"x", (), {})])),
        lambda good: marshal.dumps(("change", 1, 2, [("c.d", "", b"x", (), {"a": "b"})])),
        lambda good: marshal.dumps(("change", 1, 2, [("c.d", "", b"x", None, {})])),
        lambda good: marshal.dumps(("liveness", [("a.b", "", "10.0.0.1:8080", 1), ("c.d", "")])),
        lambda good: marshal.dumps(("liveness", [("a.b", "", "10.0.0.1:8080", 1), ("c.d", "", "x", "y")])),
        lambda good: marshal.dumps(("whole", FORMAT, 1, 7, [], [])),
        lambda good: marshal.dumps(("whole", FORMAT + 1, 0, 7, [], [])),
        lambda good: marshal.dumps(("whole", FORMAT, 0, 7, [("a.b", "", b"x", (), {})], [])),
    ],
)
def test_what_cannot_be_applied_is_not_applied_half(wrong: Callable[[bytes], bytes]) -> None:
    """A supervisor's mistake is said and changes nothing; the next good change is taken."""
    desk = Desk()
    desk.register("a.b")
    pulse, table = desk.pulse("a.b"), desk.replica.table
    data = registration("c.d")
    desk.ledger.register(parsed(data), data, 0.0)
    following = desk.ledger.publish()
    good = desk.feed.change(desk.table, following)
    assert good is not None
    with pytest.raises(FeedError):
        desk.replica.apply(wrong(good))
    assert desk.replica.table is table
    assert desk.pulse("a.b") is pulse
    assert pulse.expires == math.inf
    desk.replica.apply(good)
    same(following, desk.replica.table)


def test_only_what_changed_is_said() -> None:
    """Hosts and routes that stayed are told apart by identity."""
    desk = Desk()
    for number in range(50):
        desk.register(f"a{number}.b", f"shared.b/{number}")
    before = desk.table
    data = registration("shared.b/7", number=2)
    desk.ledger.register(parsed(data), data, 0.0)
    change = desk.feed.change(before, desk.ledger.publish())
    assert change is not None
    assert [record[:2] for record in marshal.loads(change)[3]] == [("shared.b", "/7")]
