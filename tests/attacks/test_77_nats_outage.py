"""Attack 77: NATS is killed for longer than every registration lives."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from registry.connect_nats import NatsSettings
from registry.emitter_nats import Emitter
from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.client import get
from tests.support.nats import NatsConnection, NatsServer
from tests.support.recorder import RecordingLog
from tests.support.register import Registrar, message, unique_host
from tests.support.router import RouterProcess, wait_until

STALE = 1.0
PRUNE = 0.2
OUTAGE = 1.8


@pytest.fixture
def nats(make_nats: Callable[..., NatsServer]) -> NatsServer:
    return make_nats()


def short_lived(make_router: MakeRouter, nats: NatsServer, *, suspend: bool) -> RouterProcess:
    return make_router(
        nats=nats, droplet_stale_threshold=f"{STALE}s", prune_stale_droplets_interval=f"{PRUNE}s",
        suspend_pruning_if_nats_unavailable=suspend, nats_client_ping_interval="200ms",
    )  # fmt: skip


@contextmanager
def emitting(nats: NatsServer, *messages: dict[str, object]) -> Iterator[Emitter]:
    """The project's own emitter, beside the test."""
    emitter = Emitter(NatsSettings((("127.0.0.1", nats.port),)), messages, log=RecordingLog())
    loop = asyncio.new_event_loop()
    task = loop.create_task(emitter.run())

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield emitter
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)


def test_routes_are_kept_while_nats_is_away_and_for_their_whole_life_after_it(
    make_router: MakeRouter, nats: NatsServer, make_registrar: Callable[..., Registrar], backend: EchoBackend
) -> None:
    """Attack 77: no request fails during an outage longer than the stale threshold; deadlines start anew with recovery."""
    router = short_lived(make_router, nats, suspend=True)
    host = unique_host(OPEN)
    make_registrar(nats, router).register(host, backend=backend)
    nats.kill()
    router.wait_for_event("nats-connection-lost")
    end = time.monotonic() + OUTAGE
    statuses = set()
    while time.monotonic() < end:
        statuses.add(get(router.port, host).status)
        time.sleep(0.02)
    assert statuses == {200}
    assert router.health() == 200
    assert "prune-suspended" in router.wait_for_event("prune-suspended")
    assert router.metric("ms_since_last_registry_update") >= OUTAGE * 1000
    assert router.metric("routes_pruned") == 0
    nats.start()
    wait_until(lambda: sum("nats-connected" in line for line in router.events) == 2, "the router to be back")
    recovered = time.monotonic()
    assert get(router.port, host).status == 200
    wait_until(lambda: get(router.port, host).status == 404, "a route that nobody repeats to go")
    assert time.monotonic() - recovered >= STALE * 0.9
    assert router.metric("routes_pruned") >= 1


def test_routes_are_pruned_during_an_outage_only_where_the_operator_says_so(
    make_router: MakeRouter, nats: NatsServer, make_registrar: Callable[..., Registrar], backend: EchoBackend
) -> None:
    """Attack 77: with suspend_pruning_if_nats_unavailable off a silent route goes at its threshold, and the log says it."""
    router = short_lived(make_router, nats, suspend=False)
    host = unique_host(OPEN)
    make_registrar(nats, router).register(host, backend=backend)
    nats.kill()
    router.wait_for_event("nats-connection-lost")
    assert get(router.port, host).status == 200
    wait_until(lambda: get(router.port, host).status == 404, "the route to be pruned")
    assert host in router.wait_for_event(lambda line: "pruned-route" in line and host in line)
    assert get(router.port, host).get("x-cf-routererror") == "unknown_route"
    assert not any("prune-suspended" in line for line in router.events)
    assert router.health() == 200


def test_after_the_restart_apps_register_again_without_a_gap(
    make_router: MakeRouter, nats: NatsServer, backend: EchoBackend
) -> None:
    """Attack 77: router and app find the restarted server by themselves, the app registers again, no request fails."""
    router = short_lived(make_router, nats, suspend=True)
    host = unique_host(OPEN)
    with emitting(nats, message(host, backend=backend)):
        wait_until(lambda: host in router.routes(), "the app to be registered")
        before = router.metric("registry_message", action="unmodified")
        nats.kill()
        router.wait_for_event("nats-connection-lost")
        statuses = set()
        end = time.monotonic() + STALE * 1.2
        while time.monotonic() < end:
            statuses.add(get(router.port, host).status)
            time.sleep(0.02)
        nats.start()

        def registered_again() -> bool:
            statuses.add(get(router.port, host).status)
            return router.metric("registry_message", action="unmodified") > before

        wait_until(registered_again, "the app to register again")
        assert statuses == {200}


def test_a_router_announces_itself_after_each_reconnection(make_router: MakeRouter, nats: NatsServer) -> None:
    """Attack 77: router.start goes out at once after a restart, so that emitters need not wait for their interval."""
    router = short_lived(make_router, nats, suspend=True)
    nats.kill()
    router.wait_for_event("nats-connection-lost")
    nats.start()
    with NatsConnection(nats.port) as listener:
        listener.subscribe("router.start")
        start = listener.next_message().data
    assert b'"minimumRegisterIntervalInSeconds"' in start
    assert b'"pruneThresholdInSeconds":1' in start
