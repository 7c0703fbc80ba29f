"""The promise: however many workers there are, routes, limits, numbers and logs are those of one router."""

import contextlib
import json
import threading

import pytest

from tests.conftest import OPEN
from tests.support.backend import EchoBackend, Exchange
from tests.support.client import Client, get, render_request
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, wait_until
from tests.support.workers import client_of_each

Pair = tuple[RouterProcess, Registrar]


@pytest.fixture
def pair(crew: RouterProcess, crew_registrar: Registrar) -> Pair:
    """The router with two workers, and who registers there."""
    return crew, crew_registrar


def test_a_registration_answers_on_every_worker(pair: Pair, backend: EchoBackend) -> None:
    """And an unregistration on every one too; an option of it is every worker's."""
    router, registrar = pair
    host = unique_host(OPEN)
    with client_of_each(router, host) as clients:
        registrar.register(host, backend=backend)
        assert [client.request(host).status for client in clients.values()] == [200, 200]
        registrar.unregister(host, backend=backend)
        assert [client.request(host).status for client in clients.values()] == [404, 404]


def test_a_scrape_shows_what_every_worker_did_before_it(pair: Pair, backend: EchoBackend) -> None:
    """Counters are sums, and each name stands there once."""
    router, registrar = pair
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


def test_max_conns_of_an_endpoint_holds_over_all_workers(pair: Pair, backend: EchoBackend) -> None:
    """One request in flight is one, whoever sent it."""
    router, registrar = pair
    host = unique_host(OPEN)
    registrar.register(host, backend=backend)
    released = threading.Event()

    def slow(exchange: Exchange) -> None:
        released.wait(20)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with router.restored(), client_of_each(router, host) as clients:
        assert router.reload(backends={"max_conns": 1}) == {'result="ok"': 1}
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


def test_the_connections_of_a_listener_are_bounded_in_all(crew: RouterProcess) -> None:
    """`max_connections` counts those of every worker."""
    before, answered = crew.metric("connections_shed", reason="max_connections"), 0
    with crew.restored(), contextlib.ExitStack() as stack:
        assert crew.reload(max_connections=6) == {'result="ok"': 1}
        open_ones: list[Client] = []
        for _ in range(20):
            with contextlib.suppress(ConnectionResetError):  # who is shed may hear of it before he knows that he is connected
                open_ones.append(stack.enter_context(Client(crew.port)))
        for client in open_ones:
            with contextlib.suppress(OSError, EOFError):
                answered += client.request("none.invalid").status == 404
        assert answered == 6
        assert crew.metric("connections_shed", reason="max_connections") == before + 14


def test_lines_of_the_access_log_are_whole(pair: Pair, backend: EchoBackend) -> None:
    """Two processes write one file, and each line is one request's."""
    router, registrar = pair
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


def test_lines_of_the_component_log_are_whole_and_say_which_worker(pair: Pair) -> None:
    """JSON, each line; the supervisor's have no number."""
    router, _ = pair
    before = len(router.stdout)
    for _ in range(20):
        with Client(router.port) as client:
            client.send(b"BAD\r\n\r\n")
            client.read_response()
    events = [json.loads(line) for line in router.events if line.startswith("{")]
    serving = {e["data"]["worker"] for e in events if e["message"] == "worker-serving" and e["data"]["pid"] in router.workers()}
    new = [json.loads(line) for line in router.stdout[before:].splitlines()]
    said = {event["data"].get("worker") for event in new if event["message"] == "malformed-request"}
    assert len(serving) == 2
    assert said <= serving
    assert said
    assert all("worker" not in event["data"] for event in events if event["message"] == "router-started")


def test_the_router_is_there_for_everyone_who_asks(pair: Pair) -> None:
    """Health, routes, explain and policies are answered by the supervisor, which has no client."""
    router, registrar = pair
    registrar.settle()
    assert router.health() == 200
    assert isinstance(router.routes(), dict)
    assert get(router.port, "none.invalid").status == 404
