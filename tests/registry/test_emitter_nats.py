"""The emitter against a real nats-server."""

import asyncio
import json
import logging
import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from registry import connect_nats, emitter_nats
from registry.connect_nats import NatsSettings
from registry.emitter_nats import DEFAULT_INTERVAL, INTERVALS, Emitter, EventLog, Registration
from tests.support.nats import NatsConnection, NatsServer
from tests.support.recorder import RecordingLog
from tests.support.waiting import running, until

MESSAGE = {"host": "10.0.0.1", "port": 8080, "uris": ["a.example"]}


@pytest.fixture
def server(make_nats: Callable[..., NatsServer]) -> NatsServer:
    """A server of the test's own: no router answers greetings there but the test. It logs what it is sent."""
    return make_nats("trace: true")


def emitter(server: NatsServer, *messages: dict[str, object], log: RecordingLog | None = None) -> Emitter:
    return Emitter(NatsSettings((("127.0.0.1", server.port),)), messages or (MESSAGE,), log=log or RecordingLog())


@pytest.fixture
def retries_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second between two tries is long for a test."""
    monkeypatch.setattr(connect_nats, "RETRY_SECONDS", 0.02)


def hear(nats: NatsConnection) -> tuple[str, object]:
    """Subject and port of the next message."""
    message = nats.next_message()
    return message.subject, json.loads(message.data)["port"]


async def hears(nats: NatsConnection, *expected: tuple[str, object]) -> None:
    """These come next, in this order."""
    assert [await asyncio.to_thread(hear, nats) for _ in expected] == list(expected)


def beside(work: Emitter, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def both() -> None:
        async with running(work.run()):
            await work.registered.wait()
            await scenario()

    asyncio.run(both())


def subjects_until(nats: NatsConnection, subject: str) -> list[str]:
    """The subjects that come, up to and with `subject`."""
    seen: list[str] = []
    while subject not in seen:
        seen.append(nats.next_message().subject)
    return seen


def test_it_registers_at_once_and_unregisters_when_it_ends(server: NatsServer) -> None:
    """The same message under both subjects."""
    with NatsConnection(server.port) as nats:
        nats.subscribe("router.register")
        nats.subscribe("router.unregister")

        async def scenario() -> None:
            message = await asyncio.to_thread(nats.next_message)
            assert (message.subject, json.loads(message.data)) == ("router.register", MESSAGE)

        beside(emitter(server), scenario)
        message = nats.next_message()
        assert (message.subject, json.loads(message.data)) == ("router.unregister", MESSAGE)


def test_it_registers_again_on_a_routers_start(server: NatsServer) -> None:
    """A new router need not wait for the interval."""
    with NatsConnection(server.port) as nats:

        async def scenario() -> None:
            nats.subscribe("router.register")
            nats.publish("router.start", b"{}")
            message = await asyncio.to_thread(nats.next_message)
            assert json.loads(message.data) == MESSAGE

        beside(emitter(server), scenario)


def test_it_keeps_the_shortest_interval_that_routers_ask_for(server: NatsServer) -> None:
    """R280, R326: 20 s unless a router says otherwise, in router.start or in answer to router.greet."""
    work = emitter(server)
    with NatsConnection(server.port) as nats:

        async def scenario() -> None:
            assert work.interval == DEFAULT_INTERVAL
            for asked, kept in ((30, 30), (10, 10), (40, 10), (0, 10), ("x", 10), (0.001, 1)):
                nats.publish("router.start", json.dumps({"minimumRegisterIntervalInSeconds": asked}).encode())
                await until(lambda kept=kept: work.interval == kept, f"{kept} s after {asked}")  # type: ignore[misc]

        beside(work, scenario)


def test_the_answer_to_its_greeting_sets_the_interval(server: NatsServer) -> None:
    """R326: a router that runs already does not start again; it is asked."""
    log = RecordingLog()
    work = emitter(server, log=log)
    with NatsConnection(server.port) as nats:
        nats.subscribe("router.greet")

        async def scenario() -> None:
            greeting = await asyncio.to_thread(nats.next_message)
            assert (greeting.subject, work.interval) == ("router.greet", DEFAULT_INTERVAL)
            assert greeting.reply is not None
            nats.publish(greeting.reply, b'{"minimumRegisterIntervalInSeconds": 7}')
            await until(lambda: work.interval == 7, "the interval of the answer")

        beside(work, scenario)
    assert log.of("register-interval") == [{"seconds": 7.0}]


NO_FLOAT = b'{"minimumRegisterIntervalInSeconds":' + b"9" * 400 + b"}"


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 60_000, b"null", b"\xff", b'{"x":' + b"1" * 70_000, NO_FLOAT])
def test_a_start_that_does_not_parse_still_makes_it_register(server: NatsServer, data: bytes) -> None:
    """Attack 78: nothing that comes raises, and the interval stays."""
    work = emitter(server)
    with NatsConnection(server.port) as nats:

        async def scenario() -> None:
            nats.subscribe("router.register")
            nats.publish("router.start", data)
            await asyncio.to_thread(nats.next_message)

        beside(work, scenario)
    assert work.interval == DEFAULT_INTERVAL


def test_it_repeats_after_the_interval(server: NatsServer) -> None:
    """The shortest interval there is, with jitter that only shortens it."""
    with NatsConnection(server.port) as nats:

        async def scenario() -> None:
            nats.subscribe("router.register")
            nats.publish("router.start", b'{"minimumRegisterIntervalInSeconds": 0.5}')
            async with asyncio.timeout(INTERVALS[0] * 3):
                for _ in range(2):
                    await asyncio.to_thread(nats.next_message)

        beside(emitter(server), scenario)


@pytest.mark.parametrize("drawn", [0.0, 0.5, 1.0])
def test_emitters_do_not_register_in_step(server: NatsServer, monkeypatch: pytest.MonkeyPatch, drawn: float) -> None:
    """Issue 3: the last tenth of the interval is left to chance, which only shortens it."""
    monkeypatch.setattr("random.random", lambda: drawn)

    async def wait() -> float:
        work = emitter(server)
        work._set_timer()
        assert work._timer is not None
        work._timer.cancel()
        return work._timer.when() - asyncio.get_running_loop().time()

    assert asyncio.run(wait()) == pytest.approx(DEFAULT_INTERVAL * (1 - 0.1 * drawn), abs=0.5)


def test_it_registers_again_when_nats_comes_back(server: NatsServer) -> None:
    """Attack 77: after a restart of NATS the routes are there at once."""
    work = emitter(server)

    async def scenario() -> None:
        await asyncio.to_thread(server.restart)
        await until(lambda: "PUB router.register" in server.log(), "a registration in the new server's log")

    beside(work, scenario)


def test_all_messages_are_registered(server: NatsServer) -> None:
    """An app may have several instances or routes."""
    second = {**MESSAGE, "port": 8081}
    with NatsConnection(server.port) as nats:
        nats.subscribe("router.*")

        async def scenario() -> None:
            seen = await asyncio.to_thread(subjects_until, nats, "router.register")
            assert "router.greet" in seen
            assert json.loads((await asyncio.to_thread(nats.next_message)).data)["port"] == 8081

        beside(emitter(server, MESSAGE, second), scenario)


REGISTER, UNREGISTER = "router.register", "router.unregister"
SECOND = {**MESSAGE, "port": 8081}


@pytest.fixture
def listener(server: NatsServer) -> Iterator[NatsConnection]:
    """Hears registrations and what takes them back."""
    with NatsConnection(server.port) as nats:
        nats.subscribe(REGISTER)
        nats.subscribe(UNREGISTER)
        yield nats


def test_a_block_registers_and_leaves(server: NatsServer, listener: NatsConnection) -> None:
    """`async with` is all that an app needs."""

    async def app() -> None:
        async with emitter(server) as work:
            await work.registered.wait()
            assert work.connected
            await hears(listener, (REGISTER, 8080))
        assert (work.connected, work.left_behind) == (False, ())

    asyncio.run(app())
    assert hear(listener) == (UNREGISTER, 8080)


def test_an_exception_in_the_block_unregisters_too(server: NatsServer, listener: NatsConnection) -> None:
    """An app that dies of one takes its routes along."""

    async def app() -> None:
        async with emitter(server) as work:
            await work.registered.wait()
            raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(app())
    assert [hear(listener), hear(listener)] == [(REGISTER, 8080), (UNREGISTER, 8080)]


def test_one_message_is_paused_and_resumed(server: NatsServer, listener: NatsConnection) -> None:
    """The others hear nothing of it."""
    log = RecordingLog()

    async def app() -> None:
        async with emitter(server, log=log) as work:
            second = work.start(SECOND)
            await hears(listener, (REGISTER, 8080), (REGISTER, 8081))
            await until(lambda: second.registered, "NATS to confirm it")
            work.pause(second)
            await hears(listener, (UNREGISTER, 8081))
            await until(lambda: not second.known, "NATS to confirm that")
            work.resume(second)
            await hears(listener, (REGISTER, 8081))
            await until(lambda: second.registered, "NATS to confirm it again")

    asyncio.run(app())
    assert {hear(listener), hear(listener)} == {(UNREGISTER, 8080), (UNREGISTER, 8081)}
    said = [(event.name, event.data["port"]) for event in log.events if event.name.endswith("registered")]
    one, two = ("registered", 8080), ("registered", 8081)
    assert said[:4] == [one, two, ("unregistered", 8081), two]
    assert sorted(said[4:]) == [("unregistered", 8080), ("unregistered", 8081)]


def test_what_was_never_registered_is_not_taken_back_at_the_end(server: NatsServer, listener: NatsConnection) -> None:
    """Paused before NATS was there: nothing to leave behind."""

    async def app() -> None:
        work = emitter(server)
        work.pause(work.start(SECOND))
        async with work:
            await work.registered.wait()
            assert [one.message for one in work.left_behind] == [MESSAGE]

    asyncio.run(app())
    heard = [hear(listener) for _ in range(3)]
    assert heard == [(UNREGISTER, 8081), (REGISTER, 8080), (UNREGISTER, 8080)]


def test_what_is_paused_stays_away_from_a_router_that_starts(server: NatsServer, listener: NatsConnection) -> None:
    """A router that was away may have missed it: it is told again, and never the opposite."""

    async def app() -> None:
        async with emitter(server) as work:
            second = work.start(SECOND)
            await hears(listener, (REGISTER, 8080), (REGISTER, 8081))
            work.pause(second)
            await hears(listener, (UNREGISTER, 8081))
            for _ in range(2):
                await asyncio.to_thread(listener.publish, "router.start", b"{}")
                await hears(listener, (UNREGISTER, 8081), (REGISTER, 8080))

    asyncio.run(app())


@pytest.mark.usefixtures("retries_fast")
def test_what_is_paused_while_nats_is_away_is_unregistered_as_soon_as_it_is_back(server: NatsServer) -> None:
    """Issue 3: nothing is lost that must be unregistered, and it is not registered again."""
    log = RecordingLog()

    async def app() -> None:
        async with emitter(server, log=log) as work:
            second = work.start(SECOND)
            await until(lambda: second.registered, "the second one")
            await asyncio.to_thread(server.kill)
            await until(lambda: not work.connected, "the loss")
            work.pause(second)
            await until(lambda: log.of("nats-away"), "word of it")
            assert (second.known, len(work.left_behind)) == (True, 2)
            await asyncio.to_thread(server.start)
            await until(lambda: not second.known, "the unregistration")
            await until(lambda: all(one.registered for one in work.left_behind), "the other one")
            assert published(server) == [("router.unregister", 8081), ("router.register", 8080)]

    asyncio.run(app())
    assert published(server)[2:] == [("router.unregister", 8080)]


@pytest.mark.usefixtures("retries_fast")
def test_a_change_of_mind_while_nats_is_away_costs_nothing(server: NatsServer) -> None:
    """Only the last word counts."""

    async def app() -> None:
        async with emitter(server) as work:
            (only,) = await until(lambda: work.left_behind, "the registration")
            await work.registered.wait()
            await asyncio.to_thread(server.kill)
            await until(lambda: not work.connected, "the loss")
            work.pause(only)
            work.resume(only)
            await asyncio.to_thread(server.start)
            await until(lambda: only.registered, "it to be there again")
            assert published(server) == [("router.register", 8080)]

    asyncio.run(app())


@pytest.mark.usefixtures("retries_fast")
def test_that_nats_is_away_is_said_once_a_minute(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """And once when it is back."""
    server.kill()
    log = RecordingLog()
    failures = 0

    async def app() -> None:
        nonlocal failures
        work = emitter(server, log=log)
        count = work._link._failed

        def counted(error: Exception) -> None:
            nonlocal failures
            failures += 1
            count(error)

        work._link._failed = counted
        async with work:
            await until(lambda: failures > 5, "several failures")
            assert log.names == ["nats-away"]
            monkeypatch.setattr(emitter_nats, "AWAY_SECONDS", 0.0)
            await until(lambda: len(log.names) > 1, "the next minute")
            await asyncio.to_thread(server.start)
            await work.registered.wait()

    asyncio.run(app())
    *away, connected, registered, unregistered = [name for name in log.names if name != "nats-connection-failed"]
    assert set(away) == {"nats-away"}
    assert (connected, registered, unregistered) == ("nats-connected", "registered", "unregistered")


@pytest.mark.usefixtures("retries_fast")
def test_what_nats_kept_from_being_unregistered_is_known_at_the_end(server: NatsServer) -> None:
    """Whoever runs the emitter can say what stays."""

    async def app() -> tuple[Registration, ...]:
        async with emitter(server) as work:
            gone = work.start(SECOND)
            await until(lambda: gone.registered, "both")
            work.pause(gone)
            await until(lambda: not gone.known, "one to go")
            await asyncio.to_thread(server.kill)
            await until(lambda: not work.connected, "the loss")
        return work.left_behind

    assert [one.message for one in asyncio.run(app())] == [MESSAGE]


def test_a_message_that_routers_would_drop_is_not_started(server: NatsServer) -> None:
    """Issue 3: said before anything is sent."""
    with pytest.raises(ValueError, match="port: 0"):
        emitter(server, {**MESSAGE, "port": 0})


def test_a_connection_on_which_nothing_can_be_said_is_given_up(make_nats: Callable[..., NatsServer]) -> None:
    """A server whose limit is smaller than the message: tried again, for ever, and told."""
    log = RecordingLog()

    async def app() -> None:
        async with emitter(make_nats("max_payload: 40"), log=log) as work:
            await until(lambda: log.names.count("nats-connection-lost"), "the loss")
            assert not work.registered.is_set()

    asyncio.run(app())
    assert "MaxPayload" in repr(log.of("nats-connection-failed")[0]["error"])


def test_without_a_log_events_go_to_pythons_own(caplog: pytest.LogCaptureFixture) -> None:
    """An app sees them where it sees everything else."""
    log, caught = EventLog(), caplog
    caught.set_level(logging.DEBUG, "vestibule.emitter")
    log.debug("a", x=1)
    log.info("b")
    log.warning("c")
    log.error("d")
    log.sparse("e")
    assert [(one.levelname, one.getMessage()) for one in caught.records] == [
        ("DEBUG", "a {'x': 1}"), ("INFO", "b {}"), ("WARNING", "c {}"), ("ERROR", "d {}"), ("WARNING", "e {}"),
    ]  # fmt: skip


def published(server: NatsServer) -> list[tuple[str, object]]:
    """What the server's log says was published, since it was started: subject and port."""
    found = re.findall(r"\[PUB (router\.(?:un)?register) +\d+\]\n.* MSG_PAYLOAD: (\[.*\])\n", server.log())
    return [(subject, json.loads(json.loads(payload)[0])["port"]) for subject, payload in found]
