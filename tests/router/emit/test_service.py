"""The emitter as a process: gates, signals, what is left behind."""

import asyncio
import json
import signal
from collections.abc import Callable, Iterator

import pytest

from registry.connect_nats import NatsSettings
from registry.emitter_nats import Registration
from registry.registration import Instance, messages_of
from router.demo.process import free_port
from router.emit.health import Thresholds
from router.emit.plan import Planned
from router.emit.service import SIGNALS, Gate, left_behind, serve
from tests.registry.test_registration import Route
from tests.support.nats import NatsConnection, NatsServer
from tests.support.recorder import RecordingLog
from tests.support.waiting import until

FAST = Thresholds(interval=0.01, timeout=5.0)
ONE, TWO = Instance("10.0.0.1", 8080), Instance("10.0.0.2", 8080)


class Doctor:
    """A check whose results are the test's."""

    def __init__(self, **ill: str) -> None:
        self.ill = ill
        self.asked = 0

    async def __call__(self, instance: Instance) -> str:
        self.asked += 1
        return self.ill.get("one" if instance is ONE else "two", "")


def planned(*instances: Instance) -> list[Planned]:
    return [
        Planned("orders", one, tuple(messages_of([Route("orders.example")], one, app="orders", tags={}))) for one in instances
    ]


def settings(port: int) -> NatsSettings:
    return NatsSettings((("127.0.0.1", port),))


@pytest.fixture
def heard(nats_server: NatsServer) -> Iterator[NatsConnection]:
    with NatsConnection(nats_server.port) as nats:
        nats.subscribe("router.register")
        nats.subscribe("router.unregister")
        yield nats


def next_of(nats: NatsConnection) -> tuple[str, str]:
    """Verb and host of the next message that is one of ours."""
    while True:
        message = nats.next_message()
        body = json.loads(message.data)
        if body.get("uris") == ["orders.example"]:
            return message.subject.removeprefix("router."), body["host"]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_takes_everything_back(nats_server: NatsServer, heard: NatsConnection, number: signal.Signals) -> None:
    """SIGTERM, SIGINT, SIGHUP: unregistered, and told as clean."""

    async def scenario() -> bool:
        loop = asyncio.get_running_loop()
        work = loop.create_task(serve(planned(ONE), settings(nats_server.port), RecordingLog()))
        assert await asyncio.to_thread(next_of, heard) == ("register", "10.0.0.1")
        signal.raise_signal(number)
        return await work

    assert asyncio.run(scenario())
    assert next_of(heard) == ("unregister", "10.0.0.1")


def test_only_the_instance_that_fails_is_taken_back_until_it_is_well(nats_server: NatsServer, heard: NatsConnection) -> None:
    """Each has a gate of its own."""
    doctor, log = Doctor(), RecordingLog()

    async def scenario() -> bool:
        loop = asyncio.get_running_loop()
        work = loop.create_task(serve(planned(ONE, TWO), settings(nats_server.port), log, gate=Gate(doctor, FAST)))
        assert {await asyncio.to_thread(next_of, heard) for _ in range(2)} == {("register", "10.0.0.1"), ("register", "10.0.0.2")}
        doctor.ill["two"] = "exit status 1"
        assert await asyncio.to_thread(next_of, heard) == ("unregister", "10.0.0.2")
        del doctor.ill["two"]
        assert await asyncio.to_thread(next_of, heard) == ("register", "10.0.0.2")
        signal.raise_signal(signal.SIGTERM)
        return await work

    assert asyncio.run(scenario())
    assert log.of("instance-unhealthy") == [{"app": "orders", "instance": "10.0.0.2:8080", "reason": "exit status 1"}]
    assert [one["instance"] for one in log.of("instance-healthy")].count("10.0.0.2:8080") == 2


def test_an_instance_is_not_registered_before_it_is_well(nats_server: NatsServer, heard: NatsConnection) -> None:
    """What an emitter before it may have left is taken back."""
    doctor = Doctor(one="not yet")

    async def scenario() -> bool:
        loop = asyncio.get_running_loop()
        work = loop.create_task(serve(planned(ONE), settings(nats_server.port), RecordingLog(), gate=Gate(doctor, FAST)))
        assert await asyncio.to_thread(next_of, heard) == ("unregister", "10.0.0.1")
        del doctor.ill["one"]
        assert await asyncio.to_thread(next_of, heard) == ("register", "10.0.0.1")
        signal.raise_signal(signal.SIGTERM)
        return await work

    assert asyncio.run(scenario())


def test_nothing_registered_is_nothing_left_behind() -> None:
    """NATS was never there."""
    log = RecordingLog()

    async def scenario() -> bool:
        work = asyncio.get_running_loop().create_task(serve(planned(ONE), settings(free_port()), log))
        await until(lambda: log.of("nats-away"), "word of it")
        signal.raise_signal(signal.SIGTERM)
        return await work

    assert asyncio.run(scenario())
    assert log.of("left-registered") == []


def test_what_could_not_be_unregistered_is_named_with_what_ends_it(make_nats: Callable[..., NatsServer]) -> None:
    """Issue 3: on exit with NATS away."""
    log, nats = RecordingLog(), make_nats()

    async def scenario() -> bool:
        work = asyncio.get_running_loop().create_task(serve(planned(ONE), settings(nats.port), log))
        await until(lambda: log.of("registered"), "the registration")
        nats.kill()
        await until(lambda: log.of("nats-away"), "the outage")
        signal.raise_signal(signal.SIGTERM)
        return await work

    assert not asyncio.run(scenario())
    (left,) = log.of("left-registered")
    assert (left["app"], left["host"], left["uris"]) == ("orders", "10.0.0.1", ["orders.example"])
    assert left["what_follows"] == "ends by itself 120 s after its last registration"


def test_of_a_tls_endpoint_it_is_said_that_it_does_not_expire() -> None:
    """Decision 14."""
    (one,) = planned(Instance("10.0.0.1", 80, 8443))[0].messages
    assert "TLS endpoints do not expire" in str(left_behind(Registration(one, b""))["what_follows"])
