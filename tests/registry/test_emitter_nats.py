"""The emitter against a real nats-server."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from registry.connect_nats import NatsSettings
from registry.emitter_nats import DEFAULT_INTERVAL, INTERVALS, Emitter
from tests.support.nats import NatsConnection, NatsServer
from tests.support.recorder import RecordingLog
from tests.support.waiting import running, until

MESSAGE = {"host": "10.0.0.1", "port": 8080, "uris": ["a.example"]}


@pytest.fixture
def server(make_nats: Callable[..., NatsServer]) -> NatsServer:
    """A server of the test's own: no router answers greetings there but the test. It logs what it is sent."""
    return make_nats("trace: true")


def emitter(server: NatsServer, *messages: dict[str, object]) -> Emitter:
    return Emitter(NatsSettings((("127.0.0.1", server.port),)), messages or (MESSAGE,), log=RecordingLog())


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


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 60_000, b"null", b"\xff", b'{"x":' + b"1" * 70_000])
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
