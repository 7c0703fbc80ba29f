"""The promise: reload, drain and stop hold over all workers, as a whole."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from router.demo.process import free_port
from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend, Exchange
from tests.support.client import Client, get, render_request
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, wait_until
from tests.support.workers import client_of_each

MakeRegistrar = Callable[[NatsServer, RouterProcess], Registrar]
BIG = [("X-Big", "x" * 3000)]


@pytest.fixture
def pair(crew: RouterProcess, crew_registrar: Registrar, backend: EchoBackend) -> Iterator[tuple[RouterProcess, str]]:
    """A router with two workers and a route; it has its configuration back at the end."""
    host = unique_host(OPEN)
    crew_registrar.register(host, backend=backend)
    with crew.restored():
        yield crew, host


@pytest.fixture
def mortal(
    make_router: MakeRouter, make_registrar: MakeRegistrar, nats_server: NatsServer, backend: EchoBackend
) -> tuple[RouterProcess, str]:
    """A router with two workers and a route, which may end."""
    router, host = make_router(workers=2), unique_host(OPEN)
    make_registrar(nats_server, router).register(host, backend=backend)
    return router, host


def test_a_reload_is_in_force_in_every_worker(pair: tuple[RouterProcess, str]) -> None:
    """When it is counted, the next request on any connection is under it; connections are kept."""
    router, host = pair
    with client_of_each(router, host) as clients:
        assert [client.request(host, headers=BIG).status for client in clients.values()] == [200, 200]
        assert router.reload(max_request_header_bytes=2048) == {'result="ok"': 1}
        assert [client.request(host, headers=BIG).status for client in clients.values()] == [431, 431]


def test_ports_come_and_go_in_every_worker(pair: tuple[RouterProcess, str]) -> None:
    """A new one is served by all, an old one by none."""
    router, host = pair
    old, new = router.port, free_port()
    with client_of_each(router, host) as clients:
        assert router.reload(port=new) == {'result="ok"': 1}
        router.port = new
        assert [client.request(host).status for client in clients.values()] == [200, 200]
        with client_of_each(router, host) as others:
            assert clients.keys() == others.keys()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", old))


@pytest.mark.parametrize("problem", ["taken", "invalid"])
def test_a_reload_that_cannot_be_had_changes_no_worker(pair: tuple[RouterProcess, str], problem: str) -> None:
    """Attack 25: a port that somebody has, or a file with a mistake."""
    router, host = pair
    with socket.create_server(("127.0.0.1", free_port())) as taken, client_of_each(router, host) as clients:
        changes = {"port": taken.getsockname()[1]} if problem == "taken" else {"prot": 1}
        assert router.reload(max_request_header_bytes=2048, **changes) == {'result="error"': 1}
        assert [client.request(host, headers=BIG).status for client in clients.values()] == [200, 200]
        assert get(router.port, host).status == 200


def test_a_log_that_one_worker_cannot_open_is_a_reload_of_none(pair: tuple[RouterProcess, str]) -> None:
    """Two phases: nobody adopts what not all have prepared."""
    router, host = pair
    log = router.directory / "access.log"
    with client_of_each(router, host) as clients:
        log.rename(log.with_suffix(".old"))
        log.mkdir()
        assert router.reload(max_request_header_bytes=2048) == {'result="error"': 1}
        assert [client.request(host, headers=BIG).status for client in clients.values()] == [200, 200]
        log.rmdir()
        assert router.reload() == {'result="ok"': 1}
        assert [client.request(host, headers=BIG).status for client in clients.values()] == [431, 431]


def test_a_drain_lets_the_requests_of_every_worker_finish(mortal: tuple[RouterProcess, str], backend: EchoBackend) -> None:
    """Attack 82: no new connections, each request in flight gets its answer, exit status 0 and no process left."""
    router, host = mortal
    drained = threading.Event()

    def slow(exchange: Exchange) -> None:
        drained.wait(20)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with client_of_each(router, host) as clients:
        before = len(backend.received)
        backend.always(slow)
        for client in clients.values():
            client.send(render_request(host))
        wait_until(lambda: len(backend.received) == before + 2, "both requests at the backend")
        router.signal(signal.SIGUSR1)
        wait_until(lambda: _refuses(router.port), "the closed port")
        assert router.health() == 503
        drained.set()
        answers = [client.read_response() for client in clients.values()]
        assert [(answer.status, answer.get("connection")) for answer in answers] == [(200, "close")] * 2
    assert router.wait_exit() == 0


def test_a_drain_that_takes_too_long_ends_with_1(
    make_router: MakeRouter, make_registrar: MakeRegistrar, nats_server: NatsServer, backend: EchoBackend
) -> None:
    """Where one worker's deadline passes, the router's has."""
    router, host = make_router(workers=2, drain_timeout="100ms"), unique_host(OPEN)
    make_registrar(nats_server, router).register(host, backend=backend)
    backend.always(lambda exchange: exchange.recv())
    with Client(router.port) as client:
        client.send(render_request(host))
        wait_until(lambda: backend.received, "the request at the backend")
        router.signal(signal.SIGUSR1)
        assert router.wait_exit() == 1
    assert "drain-deadline-passed" in router.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_every_process(mortal: tuple[RouterProcess, str], backend: EchoBackend, number: signal.Signals) -> None:
    """At once, whatever is under way; `wait_exit` looks for what is left."""
    router, host = mortal
    backend.always(lambda exchange: exchange.recv())
    with Client(router.port) as client:
        client.send(render_request(host))
        wait_until(lambda: backend.received, "the request in flight")
        router.signal(number)
        assert router.wait_exit() == 0
        assert client.closed_by_server()


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it came as the port was being closed
        return False
    return False
