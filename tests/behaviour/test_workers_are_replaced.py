"""The promise: a worker that dies takes its own connections with it and nothing else, and another one has its place at once."""

import os
import signal
import threading

import pytest

from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import Client, get
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, wait_until
from tests.support.workers import client_of_each, stands_by


@pytest.fixture
def pair(crew: RouterProcess, crew_registrar: Registrar, backend: EchoBackend) -> tuple[RouterProcess, str]:
    """A router with two workers, one that stands by, and a route."""
    host = unique_host(OPEN)
    crew_registrar.register(host, backend=backend)
    return crew, host


def test_a_killed_worker_loses_its_own_connections_only(pair: tuple[RouterProcess, str]) -> None:
    """The other's go on; new ones are served throughout by whoever is left, or by its replacement."""
    router, host = pair
    replaced = router.metric("workers_replaced")
    with client_of_each(router, host) as clients:
        (victim, lost), (_, kept) = clients.items()
        os.kill(victim, signal.SIGKILL)
        assert lost.closed_by_server()
        assert kept.request(host).status == 200
        assert [get(router.port, host).status for _ in range(30)] == [200] * 30
    router.wait_for_metric("workers_replaced", replaced + 1)
    assert router.metric("workers_serving") == 2
    assert "SIGKILL" in router.wait_for_event(lambda line: "worker-died" in line and f'"pid":{victim},' in line)


def test_what_waits_for_a_dead_worker_is_its_replacements(pair: tuple[RouterProcess, str]) -> None:
    """Nobody who connects in the moment of a death is refused."""
    router, host = pair
    statuses: list[int] = []

    def ask() -> None:
        statuses.extend(get(router.port, host).status for _ in range(100))

    with client_of_each(router, host) as clients:
        victim = next(iter(clients))
    for client in clients.values():
        client.close()
    os.kill(victim, signal.SIGSTOP)  # what the kernel gives it from now on waits
    waiting = [Client(router.port) for _ in range(20)]
    for client in waiting:
        client.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode())
    os.kill(victim, signal.SIGKILL)
    asking = threading.Thread(target=ask)
    asking.start()
    assert [client.read_response().status for client in waiting] == [200] * 20
    asking.join()
    assert statuses == [200] * 100
    for client in waiting:
        client.close()


def test_what_it_counted_stays_counted(pair: tuple[RouterProcess, str]) -> None:
    """No counter goes back; what it told before it died is in the sum."""
    router, host = pair
    with client_of_each(router, host) as clients:
        before, replaced = router.metric("responses", status_group="2xx"), router.metric("workers_replaced")
        os.kill(next(iter(clients)), signal.SIGKILL)
        router.wait_for_metric("workers_replaced", replaced + 1)
        assert router.metric("responses", status_group="2xx") == before


def test_while_no_worker_serves_health_is_bad(make_router: MakeRouter) -> None:
    """A balancer turns away, and back when one serves again."""
    router = make_router(workers=1)
    stands_by(router)
    for pid in router.workers():  # the one that stands by too, so that its place stays empty for a while
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: router.health() == 503, "bad health")
    wait_until(lambda: router.health() == 200, "good health")
    assert router.metric("workers_serving") == 1


def test_an_endpoint_that_is_another_is_pruned_for_all(crew: RouterProcess, crew_registrar: Registrar) -> None:
    """Contract f.2: one worker finds out, and the route has left the table of each."""
    backends_ca = authority("backends")
    host, credential = unique_host(OPEN), backends_ca.issue_server("instance-1")
    with crew.restored(), EchoBackend("stranger", credential=credential) as stranger:
        assert crew.reload(ca_certs=[backends_ca.pem]) == {'result="ok"': 1}
        crew_registrar.register(host, backend=stranger, server_cert_domain_san="instance-2")
        with client_of_each(crew, "none.invalid") as clients:
            first, second = clients.values()
            assert first.request(host).status == 503
            wait_until(lambda: host not in crew.routes(), "the route to be gone")
            crew.settle_workers()
            assert [first.request(host).status, second.request(host).status] == [404, 404]


def test_nobody_waits_for_a_worker_that_never_comes(pair: tuple[RouterProcess, str]) -> None:
    """Where no replacement can serve, since none can open its log, those who are left serve everybody; when one can, it does."""
    router, host = pair
    log = router.directory / "access.log"
    with client_of_each(router, host) as clients:
        victim = next(iter(clients))
    log.rename(router.directory / "old.log")
    log.mkdir()
    os.kill(victim, signal.SIGKILL)
    router.wait_for_event("workers-die-young", 20)
    wait_until(lambda: all(_is_served(router, host) for _ in range(20)), "answers by those who are left", 30)
    assert router.metric("workers_serving") == 1
    log.rmdir()
    wait_until(lambda: router.metric("workers_serving") == 2, "the replacement", 40)
    with client_of_each(router, host):
        pass


def _is_served(router: RouterProcess, host: str) -> bool:
    with Client(router.port) as client:
        client.socket.settimeout(1.0)
        try:
            return client.request(host).status == 200
        except OSError:
            return False
