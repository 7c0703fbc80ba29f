"""The promise: workers serve on when their supervisor is killed, and the next one takes over without a request lost."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.client import get
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, wait_until
from tests.support.workers import client_of_each, stands_by

MakeRegistrar = Callable[[NatsServer, RouterProcess], Registrar]


@pytest.fixture
def pair(
    make_router: MakeRouter, make_registrar: MakeRegistrar, nats_server: NatsServer, backend: EchoBackend
) -> tuple[RouterProcess, str, Registrar]:
    """A router with two workers and a route."""
    router, host = make_router(workers=2), unique_host(OPEN)
    stands_by(router)
    registrar = make_registrar(nats_server, router)
    registrar.register(host, backend=backend)
    return router, host, registrar


@contextmanager
def asked_all_the_time(port: int, host: str) -> Iterator[list[int]]:
    """Fresh connections, one after the other, for as long as the block lasts; the statuses of their answers."""
    statuses: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            statuses.append(get(port, host).status)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield statuses
    finally:
        over.set()
        asking.join()


def test_the_next_supervisor_takes_over_without_a_request_lost(
    pair: tuple[RouterProcess, str, Registrar], backend: EchoBackend
) -> None:
    """The old workers serve until the new ones know the routes, and end when these serve."""
    router, host, registrar = pair
    router.write_config(start_response_delay_interval="1s")  # longer than registrations are apart
    with asked_all_the_time(router.port, host) as statuses:
        router.kill_supervisor()
        orphans = router.workers()
        over = threading.Event()

        def register_again() -> None:
            while not over.wait(0.1):
                registrar.register(host, backend=backend, wait=False)

        registering = threading.Thread(target=register_again)
        registering.start()
        try:
            router.succeed()
            wait_until(lambda: not set(orphans) & set(router.processes()), "the end of the old workers")
        finally:
            over.set()
            registering.join()
        assert router.metric("workers_serving") == 2
        at = len(statuses)
        wait_until(lambda: len(statuses) > at + 10, "answers of the new workers alone")
    assert set(statuses) == {200}
    router.stop()


def test_a_router_that_is_alive_is_not_taken_over(crew: RouterProcess, crew_registrar: Registrar, backend: EchoBackend) -> None:
    """The same file twice: the second one is told that the port is in use, and changes nothing."""
    host = unique_host(OPEN)
    crew_registrar.register(host, backend=backend)
    twin = RouterProcess(crew.directory / "twin", nats=None)
    twin.directory.mkdir()
    (twin.directory / "router.yml").symlink_to(crew.config_file)
    twin._launch()
    try:
        assert twin._process is not None
        assert twin._process.wait(30) == 1
        assert "in use" in twin.stderr
    finally:
        twin.kill()
    assert get(crew.port, host).status == 200


def test_workers_serve_on_with_the_last_routes_until_they_are_sent_away_by_hand(
    pair: tuple[RouterProcess, str, Registrar],
) -> None:
    """Open connections and new ones; the one that stood by is gone.

    SIGTERM ends a worker that has no supervisor; what only a supervisor understands does nothing.
    """
    router, host, _ = pair
    with client_of_each(router, host) as clients:
        router.kill_supervisor()
        assert [client.request(host).status for client in clients.values()] == [200, 200]
        assert [get(router.port, host).status for _ in range(20)] == [200] * 20
        wait_until(lambda: set(router.workers()) == set(clients), "the end of the one that stood by")
        wait_until(lambda: router.stdout.count("supervisor-lost") == 2, "each to say so once")
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGINT):
            for pid in clients:
                os.kill(pid, number)
        assert [client.request(host).status for client in clients.values()] == [200, 200]
        began = time.monotonic()
        for pid in clients:
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not router.processes(), "their end")
        assert time.monotonic() - began < 10
    router.kill()
