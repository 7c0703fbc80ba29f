"""The promise: however many workers there are, routes, limits, numbers and logs are those of one router."""

import json
import threading
from collections.abc import Callable

import pytest

from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend, Exchange
from tests.support.client import Client, get, render_request
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, wait_until
from tests.support.workers import client_of_each

MakeRegistrar = Callable[[NatsServer, RouterProcess], Registrar]


@pytest.fixture
def crew(make_router: MakeRouter, make_registrar: MakeRegistrar, nats_server: NatsServer) -> tuple[RouterProcess, Registrar]:
    """A router with two workers."""
    router = make_router(workers=2)
    return router, make_registrar(nats_server, router)


def test_a_registration_answers_on_every_worker(crew: tuple[RouterProcess, Registrar], backend: EchoBackend) -> None:
    """And an unregistration on every one too; an option of it is every worker's."""
    router, registrar = crew
    host = unique_host(OPEN)
    with client_of_each(router, host) as clients:
        registrar.register(host, backend=backend)
        assert [client.request(host).status for client in clients.values()] == [200, 200]
        registrar.unregister(host, backend=backend)
        assert [client.request(host).status for client in clients.values()] == [404, 404]


def test_a_scrape_shows_what_every_worker_did_before_it(crew: tuple[RouterProcess, Registrar], backend: EchoBackend) -> None:
    """Counters are sums, and each name stands there once."""
    router, registrar = crew
    host = unique_host(OPEN)
    registrar.register(host, backend=backend)
    before = router.metric("responses", status_group="2xx")
    with client_of_each(router, host) as clients:
        asked = router.metric("responses", status_group="2xx") - before
        for client in clients.values():
            for _ in range(5):
                assert client.request(host).status == 200
        assert router.metric("responses", status_group="2xx") == before + asked + 10
        assert router.metric("connections_open") >= 2
    types = [line for line in router.metrics().splitlines() if line.startswith("# TYPE ")]
    assert len(types) == len(set(types))
    assert router.metric("workers_serving") == 2


def test_max_conns_of_an_endpoint_holds_over_all_workers(
    make_router: MakeRouter, make_registrar: MakeRegistrar, nats_server: NatsServer, backend: EchoBackend
) -> None:
    """One request in flight is one, whoever sent it."""
    router, host = make_router(workers=2, backends={"max_conns": 1}), unique_host(OPEN)
    make_registrar(nats_server, router).register(host, backend=backend)
    released = threading.Event()

    def slow(exchange: Exchange) -> None:
        released.wait(20)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with client_of_each(router, host) as clients:
        first, second = clients.values()
        before = len(backend.received)
        backend.script(slow)
        first.send(render_request(host))
        wait_until(lambda: len(backend.received) > before, "the request in flight")
        refused = second.request(host)
        assert (refused.status, refused.get("x-cf-routererror")) == (503, "Connection Limit Reached")
        released.set()
        assert first.read_response().status == 200
        assert second.request(host).status == 200


def test_the_connections_of_a_listener_are_bounded_in_all(make_router: MakeRouter) -> None:
    """`max_connections` counts those of every worker."""
    router = make_router(workers=2, max_connections=6)
    open_ones = [Client(router.port) for _ in range(20)]
    try:
        answered = 0
        for client in open_ones:
            try:
                answered += client.request("none.invalid").status == 404
            except (OSError, EOFError):
                continue
        assert answered == 6
        assert router.metric("connections_shed", reason="max_connections") == 14
    finally:
        for client in open_ones:
            client.close()


def test_lines_of_the_access_log_are_whole(crew: tuple[RouterProcess, Registrar], backend: EchoBackend) -> None:
    """Two processes write one file, and each line is one request's."""
    router, registrar = crew
    host = unique_host(OPEN)
    registrar.register(host, backend=backend)
    targets = [f"/{number:04}-" + "x" * 3000 for number in range(400)]

    def ask(part: list[str]) -> None:
        for start in range(0, len(part), 20):
            with Client(router.port) as client:
                for target in part[start : start + 20]:
                    assert client.request(host, target).status == 200

    asking = [threading.Thread(target=ask, args=(targets[number::4],)) for number in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    wait_until(lambda: len([line for line in router.access_log if "xxx" in line]) >= len(targets), "the lines")
    lines = [line for line in router.access_log if "xxx" in line]
    assert sorted(line.split('"GET ')[1].split(" ")[0] for line in lines) == targets
    assert all(line.startswith(f"{host} - [") and line.count(" - [") == 1 for line in lines)


def test_lines_of_the_component_log_are_whole_and_say_which_worker(crew: tuple[RouterProcess, Registrar]) -> None:
    """JSON, each line; the supervisor's have no number."""
    router, _ = crew
    for _ in range(20):
        with Client(router.port) as client:
            client.send(b"BAD\r\n\r\n")
            client.read_response()
    events = [json.loads(line) for line in router.events if line.startswith("{")]
    said = {event["data"].get("worker") for event in events if event["message"] == "malformed-request"}
    assert said <= {1, 2}
    assert said
    assert all("worker" not in event["data"] for event in events if event["message"] == "router-started")


def test_the_router_is_there_for_everyone_who_asks(crew: tuple[RouterProcess, Registrar]) -> None:
    """Health, routes, explain and policies are answered by the supervisor, which has no client."""
    router, registrar = crew
    registrar.settle()
    assert router.health() == 200
    assert isinstance(router.routes(), dict)
    assert get(router.port, "none.invalid").status == 404
