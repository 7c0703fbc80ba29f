"""Whatever is registered, taken back, replaced, pruned, removed, held, and in whatever order: the table is what was said last.

A slow and plain model says what must be. Two ledgers hear the same, one publishes after every step, one now and then, and walks
through the table in parts have other steps between their parts.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from authz.policy import NO_POLICY, PoolPolicy, conjunction
from registry.endpoint import Endpoint, Pulse, Route
from registry.hostname import Host
from registry.ledger import Change, Ledger, LedgerSettings
from registry.route_limits import lowest
from tests.registry.parts import parsed, registration

PARTS = 4
KEPT_EMPTY = 40.0
URIS = ("a.b", "A.b/X", "*.b", "c.d", "c.d/x/y")
OPTIONS: tuple[dict[str, object], ...] = (
    {},
    {"mtls_allowed_apps": "g1"},
    {"mtls_allowed_apps": "g2,g1"},
    {"mtls_allow_any": True},
    {"mtls_allowed_apps": "g1", "loadbalancing": "least-connection", "rate-limit-rps": 2},
    {"loadbalancing": "hash", "hash_header": "X-T", "connection-limit": 3},
)
SECONDS = st.sampled_from((0.0, 0.0, 1.0, 29.0, 30.0, 120.0))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    said: dict[str, Any] = {"private_instance_id": draw(st.sampled_from(("", "i1", "i2")))}
    if draw(st.booleans()):
        said["tls_port"] = 8080  # the address of a plain one
    if draw(st.booleans()):
        said["stale_threshold_in_seconds"] = 30
    said["options"] = draw(st.sampled_from(OPTIONS))
    said["route_service_url"] = draw(st.sampled_from(("", "", "https://rs.example")))
    uris = draw(st.lists(st.sampled_from(URIS), min_size=1, max_size=3))
    return registration(*uris, number=draw(st.integers(1, 2)), **said)


@dataclass
class Member:
    """`said`: the bytes that were applied last, None for the operator's; `pulse`: where the eager ledger counts."""

    endpoint: Endpoint
    expires: float
    said: bytes | None
    pulse: Pulse | None = None
    former: Pulse | None = None
    """Another instance's."""


@dataclass
class Expected:
    """A route as it must be."""

    context_path: str
    members: dict[str, Member] = field(default_factory=dict)
    algorithm: str = "round-robin"
    service: str = ""
    kept_until: float | None = None
    kept_policy: PoolPolicy = NO_POLICY

    def policy(self) -> PoolPolicy:
        return conjunction(member.endpoint.options.policy for member in self.members.values())


class Model:
    """What was said, in plain dictionaries."""

    def __init__(self) -> None:
        self.routes: dict[str, Expected] = {}
        self.held: dict[Host, tuple[Endpoint, ...]] = {}

    def put(self, key: str, context_path: str, endpoint: Endpoint, said: bytes | None, now: float) -> None:
        route = self.routes.setdefault(key, Expected(context_path))
        before = route.members.get(endpoint.address)
        if before is not None and before.endpoint == endpoint:
            before.expires, before.said = now + endpoint.ttl, said
            return
        route.kept_until = None
        route.service = endpoint.route_service_url
        route.algorithm = endpoint.options.algorithm or route.algorithm
        same = before is not None and instance(before.endpoint) == instance(endpoint)
        pulse = before.pulse if before is not None else None
        route.members[endpoint.address] = Member(endpoint, now + endpoint.ttl, said, *((pulse,) if same else (None, pulse)))

    def is_heartbeat(self, data: bytes) -> bool:
        message = parsed(data)
        found = [self.routes.get(uri.key) for uri in message.uris]
        members = [route.members.get(message.endpoint.address) if route else None for route in found]
        return all(member is not None and member.said == data for member in members)

    def register(self, data: bytes, now: float) -> None:
        message = parsed(data)
        for uri in message.uris:
            if uri.host not in self.held:
                self.put(uri.key, uri.context_path, message.endpoint, data, now)

    def unregister(self, data: bytes, now: float) -> None:
        message = parsed(data)
        for uri in message.uris:
            route = self.routes.get(uri.key)
            member = route.members.get(message.endpoint.address) if route else None
            ids = {message.endpoint.instance_id, member.endpoint.instance_id if member else ""} - {""}
            if member is not None and uri.host not in self.held and len(ids) < 2:
                self.take(uri.key, [message.endpoint.address], now)

    def take(self, key: str, addresses: Iterable[str], now: float) -> None:
        route = self.routes[key]
        policy = route.policy()
        for address in addresses:
            del route.members[address]
        if not route.members:
            route.kept_until, route.kept_policy = now + KEPT_EMPTY, policy

    def prune(self, part: int, now: float) -> None:
        for key, route in list(self.routes.items()):
            if key.partition("/")[0] not in self.held and hash(key) % PARTS == part:
                stale = [at for at, each in route.members.items() if not each.endpoint.tls and each.expires <= now]
                if stale:
                    self.take(key, stale, now)
        ends = {key: route.kept_until for key, route in self.routes.items() if route.kept_until is not None and not part}
        over = [key for key, until in ends.items() if until <= now]
        for key in over:
            del self.routes[key]

    def refresh(self, now: float) -> None:
        for route in self.routes.values():
            for member in route.members.values():
                member.expires = now + member.endpoint.ttl

    def remove(self, key: str, endpoint: Endpoint, now: float) -> None:
        route = self.routes.get(key)
        member = route.members.get(endpoint.address) if route else None
        held = key.partition("/")[0] in self.held
        if member is not None and endpoint.tls and not held and instance(member.endpoint) == instance(endpoint):
            self.take(key, [endpoint.address], now)

    def hold(self, static: dict[Host, tuple[Endpoint, ...]], now: float) -> None:
        other = self.held.keys() ^ static.keys()
        self.routes = {key: route for key, route in self.routes.items() if key.partition("/")[0] not in other}
        self.held = static
        for host, endpoints in static.items():
            for endpoint in endpoints:
                self.put(host, "", endpoint, None, now)
            addresses = {endpoint.address for endpoint in endpoints}
            members = self.routes[host].members
            self.routes[host].members = {at: member for at, member in members.items() if at in addresses}


def instance(endpoint: Endpoint) -> tuple[object, ...]:
    return endpoint.instance_id, endpoint.tls, endpoint.san


def as_it_must_be(key: str, route: Route, expected: Expected, *, pulses: bool) -> None:
    """One published route against the model."""
    pool = route.pool
    assert {each.address: each for each in pool.endpoints} == {at: m.endpoint for at, m in expected.members.items()}, key
    assert pool.policy.parts == (expected.policy() if expected.members else expected.kept_policy).parts, key
    assert (pool.balancing.algorithm, pool.route_service_url) == (expected.algorithm, expected.service), key
    assert pool.context_path == expected.context_path, key
    wishes = [member.endpoint.options.wishes.limits for member in expected.members.values()]
    assert pool.limits == lowest(limits for limits in wishes if limits is not None), key
    for each in pool.endpoints:
        member = expected.members[each.address]
        assert each.pulse.expires == member.expires, (key, each.address)
        if pulses:
            assert (member.pulse or each.pulse) is each.pulse is not member.former, (key, each.address)
            member.pulse = each.pulse


class AnyOrder(RuleBasedStateMachine):
    """Every rule does the same to the model and both ledgers."""

    def __init__(self) -> None:
        super().__init__()
        settings_ = LedgerSettings(empty_pool_503=True, empty_pool_timeout=KEPT_EMPTY)
        self.eager, self.lazy, self.model = Ledger(settings_), Ledger(settings_), Model()
        self.known: list[bytes] = []
        self.seen: list[tuple[str, Endpoint]] = []
        self.now = 1.0

    def both(self, do: Callable[[Ledger], Change | bool | None]) -> Change | bool | None:
        """What both answer alike; the eager one publishes exactly when it said that routing changed."""
        before = self.eager.publish()
        answer = do(self.eager)
        assert answer == do(self.lazy)
        if isinstance(answer, Change):
            assert answer.routing == (self.eager.publish() is not before)
        return answer

    def say(self, data: bytes) -> None:
        heartbeat = self.both(lambda ledger: ledger.heartbeat(data, self.now))
        assert heartbeat is self.model.is_heartbeat(data)
        self.model.register(data, self.now)
        if not heartbeat:
            self.both(lambda ledger: ledger.register(parsed(data), data, self.now))

    @rule(data=messages(), seconds=SECONDS)
    def something_new(self, data: bytes, seconds: float) -> None:
        self.now += seconds
        self.known.append(data)
        self.say(data)

    @precondition(lambda self: self.known)
    @rule(which=st.integers(0, 1000), seconds=SECONDS)
    def something_again(self, which: int, seconds: float) -> None:
        self.now += seconds
        self.say(self.known[which % len(self.known)])

    @precondition(lambda self: self.known)
    @rule(which=st.integers(0, 1000), seconds=SECONDS)
    def taken_back(self, which: int, seconds: float) -> None:
        self.now += seconds
        data = self.known[which % len(self.known)]
        self.model.unregister(data, self.now)
        self.both(lambda ledger: ledger.unregister(parsed(data), self.now))

    @rule(parts=st.sampled_from((range(PARTS), *((part,) for part in range(PARTS)))), seconds=SECONDS)
    def all_or_a_part_is_pruned(self, parts: Iterable[int], seconds: float) -> None:
        self.now += seconds
        for part in parts:
            self.model.prune(part, self.now)
            self.both(partial(Ledger.prune, now=self.now, part=part, of=PARTS))

    @rule(which=st.lists(st.tuples(st.integers(0, 1000), st.booleans()), max_size=PARTS), seconds=SECONDS)
    def all_is_refreshed_in_parts(self, which: list[tuple[int, bool]], seconds: float) -> None:
        self.now += seconds
        for part in range(PARTS):
            self.both(partial(Ledger.refresh_all, now=self.now, part=part, of=PARTS))
            if part < len(which) and self.known:
                number, back = which[part]
                (self.taken_back if back else self.something_again)(number, 0.0)
                self.lazy.publish() if back else self.eager.publish()
        self.model.refresh(self.now)

    @precondition(lambda self: self.seen)
    @rule(which=st.integers(0, 1000))
    def one_fails(self, which: int) -> None:
        key, endpoint = self.seen[which % len(self.seen)]
        self.model.remove(key, endpoint, self.now)
        self.both(lambda ledger: ledger.remove_endpoint(key, endpoint, self.now))

    @rule(hosts=st.sets(st.sampled_from((Host("a.b"), Host("c.d"), Host("*.b")))), count=st.integers(1, 2))
    def the_operator_holds(self, hosts: set[Host], count: int) -> None:
        def static() -> dict[Host, tuple[Endpoint, ...]]:
            return {host: tuple(Endpoint("10.0.0.1", 8080 + number) for number in range(count)) for host in sorted(hosts)}

        self.model.hold(static(), self.now)
        self.both(lambda ledger: ledger.hold(static(), self.now))

    @rule()
    def the_lazy_one_publishes(self) -> None:
        self.lazy.publish()

    @invariant()
    def the_table_is_what_was_said(self) -> None:
        table = self.eager.publish()
        routes = {route.key: route for route in table}
        assert routes.keys() == self.model.routes.keys()
        assert len(table) == len(routes)
        for key, route in routes.items():
            as_it_must_be(key, route, self.model.routes[key], pulses=True)
            assert table.exact(route.host, route.path) is route
        pulses = [each.pulse for route in table for each in route.pool.endpoints]
        assert len({id(pulse) for pulse in pulses}) == len(pulses)
        assert self.eager.known_messages == self.lazy.known_messages <= len(pulses)
        self.seen += [(route.key, each) for route in table for each in route.pool.endpoints][:2]

    def teardown(self) -> None:
        for route in self.lazy.publish():
            as_it_must_be(route.key, route, self.model.routes[route.key], pulses=False)
        assert {route.key for route in self.lazy.table} == self.model.routes.keys()
        assert len(self.lazy.table) == len(self.model.routes)


def test_the_table_is_what_was_said_last_in_any_order() -> None:
    """R280, decision 4: nothing stale, nothing lost, revoked at once, granted with the last endpoint; heartbeats only prolong."""
    run_state_machine_as_test(AnyOrder, settings=settings(max_examples=60, stateful_step_count=30))
