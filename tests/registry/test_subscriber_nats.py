"""The subscriber against a real nats-server."""

import asyncio
import json
import zlib
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from registry.active_apps import ActiveApps
from registry.connect_nats import NatsSettings
from registry.ledger import PARTS, Change, Ledger, LedgerSettings
from registry.subscriber_nats import Subscriber, SubscriberSettings
from registry.table import RouteTable
from router.demo.process import free_port
from tests.support.nats import NatsConnection, NatsServer
from tests.support.recorder import RecordingLog, RecordingRegistryMetrics
from tests.support.waiting import running, until

MakeNats = Callable[..., NatsServer]


class Ear:
    """A subscriber with its neighbours, and a clock that the test moves."""

    def __init__(self, *servers: NatsServer, **settings: Any) -> None:
        self.now = 1000.0
        self.table = RouteTable()
        self.publications: list[Sequence[Change]] = []
        self.log = RecordingLog()
        self.metrics = RecordingRegistryMetrics()
        self.ledger = Ledger(LedgerSettings())
        self.active = ActiveApps()
        self.subscriber = Subscriber(
            SubscriberSettings(**{"prune_interval": 0.02, **settings}),
            NatsSettings(tuple(("127.0.0.1", server.port) for server in servers)),
            self.ledger,
            log=self.log,
            metrics=self.metrics,
            publish=self._publish,
            clock=lambda: self.now,
            active=self.active,
        )

    def _publish(self, table: RouteTable, changes: Sequence[Change]) -> None:
        self.table = table
        self.publications.append(changes)

    @property
    def routes(self) -> set[str]:
        return {route.key for route in self.table}

    async def connected(self) -> None:
        await until(lambda: self.subscriber.connected, "the subscriber's connection")

    async def has(self, *routes: str) -> None:
        await until(lambda: set(routes) == self.routes, f"exactly the routes {routes}; there are {self.routes}")

    def run(self, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the subscriber and, once it is connected, the scenario beside it."""

        async def both() -> None:
            async with running(self.subscriber.run()):
                await self.connected()
                await scenario()

        asyncio.run(both())


def app(*uris: str, **fields: Any) -> bytes:
    return json.dumps({"host": "10.0.0.1", "port": 8080, "uris": list(uris), **fields}).encode()


@pytest.fixture
def server(make_nats: MakeNats) -> NatsServer:
    """A server of the test's own: nobody else registers there."""
    return make_nats()


def test_it_announces_itself_and_answers_greetings(server: NatsServer) -> None:
    """R326: router.start and the answer to router.greet carry the interval and the threshold."""
    ear = Ear(server, register_interval=20, stale_threshold=120, index=3)
    with NatsConnection(server.port) as nats:
        nats.subscribe("router.start")

        async def scenario() -> None:
            announced = json.loads(nats.next_message().data)
            answered = json.loads((await asyncio.to_thread(nats.request, "router.greet")).data)
            assert announced == answered
            assert announced.pop("id").startswith("3-")
            assert announced == {
                "hosts": ["127.0.0.1"],
                "minimumRegisterIntervalInSeconds": 20,
                "pruneThresholdInSeconds": 120,
            }

        ear.run(scenario)


def test_active_apps_are_told_at_their_interval(server: NatsServer) -> None:
    """Contract b.1: what was marked, once; what comes back on the subject is no registration."""
    ear = Ear(server, active_interval=0.02)
    ear.active.mark("app-1")
    with NatsConnection(server.port) as nats:
        nats.subscribe("router.active_apps")

        async def scenario() -> None:
            told = [await asyncio.to_thread(nats.next_message) for _ in range(2)]
            assert [json.loads(zlib.decompress(message.data)) for message in told] == [["app-1"], []]

        ear.run(scenario)
    assert ear.subscriber.heard_at == 1000.0


def test_a_registration_is_published_and_an_unregistration_takes_it_back(server: NatsServer) -> None:
    """From NATS to the table, and the change with it."""
    ear = Ear(server)

    async def scenario() -> None:
        with NatsConnection(server.port) as nats:
            nats.publish("router.register", app("a.example", "b.example/path"))
            await ear.has("a.example", "b.example/path")
            assert ear.publications[-1][-1].new_routes == ("a.example", "b.example/path")
            nats.publish("router.unregister", app("a.example"))
            await ear.has("b.example/path")

    ear.run(scenario)


def test_an_unchanged_heartbeat_publishes_nothing(server: NatsServer) -> None:
    """R280: repetition is absorbed; only what changes routing is published."""
    ear = Ear(server)

    async def scenario() -> None:
        with NatsConnection(server.port) as nats:
            nats.publish("router.register", app("a.example"))
            await ear.has("a.example")
            for _ in range(50):
                nats.publish("router.register", app("a.example"), flush=False)
            nats.flush()
            await until(lambda: ear.metrics.counts["registry_message", "", "unmodified"] == 50, "50 heartbeats")

    ear.run(scenario)
    assert len(ear.publications) == 1


def test_the_garbage_collector_leaves_a_grown_table_alone(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has so many routes, and again when they have doubled; a look at a million would hold everything up for seconds."""
    frozen: list[int] = []
    monkeypatch.setattr("registry.subscriber_nats.FREEZE_ROUTES", 2)
    ear: Ear = Ear(server)
    monkeypatch.setattr("gc.freeze", lambda: frozen.append(len(ear.ledger.table)))

    async def scenario() -> None:
        with NatsConnection(server.port) as nats:
            for number in range(5):
                nats.publish("router.register", app(f"{number}.example"))
                await ear.has(*(f"{known}.example" for known in range(number + 1)))

    ear.run(scenario)
    assert frozen == [2, 4]


def test_a_burst_loses_nothing_and_is_published_in_few_tables(server: NatsServer) -> None:
    """R280, R284: thousands of registrations at once, gathered into few publications."""
    count = 5000
    ear = Ear(server)

    async def scenario() -> None:
        def burst() -> None:
            with NatsConnection(server.port) as nats:
                for n in range(count):
                    nats.publish("router.register", app(f"h{n}.example"), flush=False)
                nats.flush()

        await asyncio.to_thread(burst)
        await until(lambda: len(ear.table) == count, f"{count} routes", deadline=30)

    ear.run(scenario)
    assert (ear.subscriber.dropped, len(ear.publications) < count / 5) == (0, True)


def test_bad_messages_change_nothing_and_later_ones_still_count(server: NatsServer) -> None:
    """Attack 78: malformed, huge, duplicated, reordered; each is ignored or counted, none silences the next."""
    ear = Ear(server)

    async def scenario() -> None:
        with NatsConnection(server.port) as nats:
            nats.publish("router.unregister", app("early.example"))
            for data in (b"", b"{", b"\x00\xff", b"9" * 5000, b" " * 500_000, app(), app("a.example", port=-1)):
                nats.publish("router.register", data)
                nats.publish("router.unregister", data)
            for subject in ("router.start", "router.greet", "router.active_apps", "router.register.deeper"):
                nats.publish(subject, b"not for us", reply="somewhere.else")
            for _ in range(2):
                nats.publish("router.register", app("good.example"))
            await ear.has("good.example")

    ear.run(scenario)
    dropped = sum(count for key, count in ear.metrics.counts.items() if key[0] == "message_dropped")
    assert dropped == 14
    assert ear.log.of("registry-message-failed") == []


def test_a_table_that_cannot_be_published_does_not_stop_the_next(server: NatsServer) -> None:
    """A failure behind us is logged; messages go on."""
    ear = Ear(server)
    good = ear._publish

    async def scenario() -> None:
        def bad(_table: RouteTable, _changes: Sequence[Change]) -> None:
            raise RuntimeError("no room")

        ear.subscriber._publish = bad
        with NatsConnection(server.port) as nats:
            nats.publish("router.register", app("a.example"))
            await until(lambda: "publishing-routes-failed" in ear.log.names, "the logged failure")
            ear.subscriber._publish = good
            nats.publish("router.register", app("b.example"))
            await ear.has("a.example", "b.example")

    ear.run(scenario)


def test_while_nats_is_away_nothing_is_pruned_and_afterwards_all_is_fresh(server: NatsServer) -> None:
    """Attack 77: routes are kept through an outage; back again, each endpoint has its full time to live."""
    ear = Ear(server, stale_threshold=120)

    async def scenario() -> None:
        with NatsConnection(server.port) as nats:
            nats.publish("router.register", app("a.example"))
            await ear.has("a.example")
        await asyncio.to_thread(server.kill)
        await until(lambda: not ear.subscriber.connected, "the loss to be noticed")
        ear.now += 1000
        await until(lambda: "prune-suspended" in ear.log.names, "a suspended prune")
        await asyncio.to_thread(server.start)
        await ear.connected()
        ear.now += 119
        await prunes(ear, 2)
        assert {"a.example"} == ear.routes
        ear.now += 2
        await ear.has()

    ear.run(scenario)
    assert 1 <= ear.log.names.count("prune-suspended") <= ear.log.names.count("nats-connection-lost"), "once an outage"


def test_the_operator_may_let_pruning_go_on(server: NatsServer) -> None:
    """`suspend_pruning_if_nats_unavailable: false` is honoured."""
    ear = Ear(server, suspend_pruning=False)

    async def scenario() -> None:
        with NatsConnection(server.port) as nats:
            nats.publish("router.register", app("a.example"))
            await ear.has("a.example")
        await asyncio.to_thread(server.kill)
        await until(lambda: not ear.subscriber.connected, "the loss to be noticed")
        ear.now += 121
        await ear.has()

    ear.run(scenario)


def test_start_is_sent_again_after_a_reconnection(server: NatsServer) -> None:
    """Attack 77: a restart of NATS makes emitters register again at once, because we ask."""
    ear = Ear(server)

    async def scenario() -> None:
        await asyncio.to_thread(server.restart)
        with NatsConnection(server.port) as nats:
            nats.subscribe("router.start")
            message = await asyncio.to_thread(nats.next_message)
            assert message.subject == "router.start"
            nats.publish("router.register", app("a.example"))
            await ear.has("a.example")

    ear.run(scenario)


def test_it_starts_without_nats_and_connects_when_it_comes(make_nats: MakeNats) -> None:
    """Until the first connection `first_connection` is not set; the router is not healthy before it."""
    server = make_nats(start=False)
    server.port = free_port()
    ear = Ear(server)

    async def scenario() -> None:
        async with running(ear.subscriber.run()):
            await until(lambda: "nats-connection-failed" in ear.log.names, "a failed try")
            assert not ear.subscriber.first_connection.is_set()
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(2.5):
                await ear.subscriber.first_connection.wait()

    asyncio.run(scenario())


def test_what_the_pending_limits_cost_is_counted(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages beyond the limits are dropped and counted, and the rest is served."""
    monkeypatch.setattr("registry.subscriber_nats.PENDING_MESSAGES", 10)
    ear = Ear(server)

    async def scenario() -> None:
        with NatsConnection(server.port) as nats:
            nats._socket.sendall(b"".join(frame("router.register", app(f"h{n}.example")) for n in range(2000)))
            nats.flush()
            await until(lambda: ear.subscriber.dropped, "a dropped message")

            def sent_again() -> bool:
                nats.publish("router.register", app("last.example"))
                return "last.example" in ear.routes

            await until(sent_again, "a route registered after the flood")

    ear.run(scenario)
    assert "nats-messages-dropped" in ear.log.names


def frame(subject: str, data: bytes) -> bytes:
    return f"PUB {subject} {len(data)}\r\n".encode() + data + b"\r\n"


def test_a_walk_through_the_table_leaves_turns_to_others(server: NatsServer) -> None:
    """However large it is, and whatever is found: after a few milliseconds of it the event loop deals with what else there is."""
    ear = Ear(server)
    turn, at = 0, []
    original = ear.ledger.prune

    def slow(now: float, part: int = 0, of: int = 1) -> Change:
        ear.now += 0.002
        at.append(turn)
        return original(now, part, of)

    async def scenario() -> None:
        nonlocal turn
        ear.ledger.prune = slow  # type: ignore[method-assign]
        while len(at) < PARTS:
            turn += 1
            await asyncio.sleep(0)

    ear.run(scenario)
    assert max(Counter(at).values()) == 3


async def prunes(ear: Ear, count: int) -> None:
    """Wait until that many more prune cycles have run."""
    done = 0
    original = ear.ledger.prune

    def counted(now: float, part: int = 0, of: int = 1) -> Change:
        nonlocal done
        done += part == of - 1
        return original(now, part, of)

    ear.ledger.prune = counted  # type: ignore[method-assign]
    try:
        await until(lambda: done >= count, f"{count} prune cycles")
    finally:
        ear.ledger.prune = original  # type: ignore[method-assign]
