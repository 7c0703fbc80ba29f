"""Active health checks of registered endpoints: an optional second opinion that only removes (R39 to R42)."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import CA, authority
from tests.support.client import Client
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import STATUS_USER, RouterProcess, wait_until

NAME = "instance-guid"
SECTION = {"path": "/healthz", "interval": "60ms", "timeout": "1s", "unhealthy_threshold": 2, "healthy_threshold": 1}
HOSTS = "*.checked.example"


@pytest.fixture(scope="module")
def backend_ca() -> CA:
    return authority("backends")


@pytest.fixture(scope="module")
def checking(nats_server: NatsServer, backend_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """A router that checks the hosts of one domain."""
    config: dict[str, Any] = {"ca_certs": [backend_ca.pem], "backend_health_check": {**SECTION, "hosts": [HOSTS]}}
    with RouterProcess(tmp_path_factory.mktemp("checking"), nats=nats_server, **config) as process:
        yield process


@pytest.fixture(scope="module")
def registrar(nats_server: NatsServer, checking: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, checking) as made:
        yield made


class App:
    """A step for every request: the app answers, its health page says what it is told to."""

    def __init__(self, backend: EchoBackend) -> None:
        self.backend = backend
        self.well = True
        backend.always(self)

    def __call__(self, exchange: Exchange) -> None:
        check = b"GET /healthz " in self.backend.received[-1].head
        status = b"200 OK" if self.well or not check else b"503 Sick"
        exchange.read_body()
        exchange.send(b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
        exchange.close()

    @property
    def asked(self) -> int:
        """Requests that were no checks."""
        return sum(b"GET /healthz " not in one.head for one in self.backend.received)


def ask(router: RouterProcess, host: str, count: int = 1) -> list[tuple[int, str | None]]:
    answers = []
    for _ in range(count):
        with Client(router.port) as client:
            answer = client.request(host)
            answers.append((answer.status, answer.get("x-cf-routererror")))
    return answers


def endpoints(router: RouterProcess, host: str) -> list[dict[str, Any]]:
    token = base64.b64encode(f"{STATUS_USER}:status-secret".encode()).decode()
    answer = router.fetch(router.routes_port, f"/policies?host={host}", headers=[("Authorization", f"Basic {token}")])
    found: list[dict[str, Any]] = [one for route in json.loads(answer.body)["routes"] for one in route["endpoints"]]
    return found


def health(router: RouterProcess, host: str) -> list[bool]:
    return [one["healthy"] for one in endpoints(router, host)]


def test_an_unhealthy_endpoint_gets_no_request_until_it_is_well_again(
    checking: RouterProcess, registrar: Registrar, make_backend: Callable[..., EchoBackend]
) -> None:
    """R39, R41: the sick one is passed over, stays registered, and is back after its check passes."""
    host = unique_host("checked.example")
    sick, well = App(make_backend()), App(make_backend())
    for index, app in enumerate((sick, well)):
        registrar.register(host, backend=app.backend, index=index)
    sick.well = False
    wait_until(lambda: sorted(health(checking, host)) == [False, True], "the sick one to be out")
    line = checking.wait_for_event(lambda line: "backend-unhealthy" in line and host in line)
    assert '"bad_status"' in line
    before = sick.asked
    assert ask(checking, host, 6) == [(200, None)] * 6
    assert (sick.asked, len(checking.routes()[host])) == (before, 2)
    assert [one["failed"] for one in endpoints(checking, host)] == [False, False]
    assert checking.metric("backends_unhealthy") >= 1
    sick.well = True
    wait_until(lambda: health(checking, host) == [True, True], "the sick one to be back")
    assert ask(checking, host, 4) == [(200, None)] * 4
    assert sick.asked > before
    checking.wait_for_event(lambda line: "backend-healthy" in line and host in line)
    assert sum("backend-unhealthy" in line and host in line for line in checking.events) == 1
    assert checking.metric("backend_health_checks", result="bad_status") >= 2


def test_a_route_whose_endpoints_are_all_unhealthy_is_unavailable(
    checking: RouterProcess, registrar: Registrar, backend: EchoBackend
) -> None:
    """R41: 503 at once, not a request to an app that says it cannot serve; the route stays, and serves again by itself."""
    host = unique_host("checked.example")
    app = App(backend)
    registrar.register(host, backend=backend)
    app.well = False
    wait_until(lambda: health(checking, host) == [False], "the endpoint to be out")
    before = checking.metric("backend_selection_errors", reason="unhealthy")
    assert ask(checking, host, 3) == [(503, "no_endpoints")] * 3
    assert app.asked == 0
    assert checking.metric("backend_selection_errors", reason="unhealthy") == before + 3
    app.well = True
    wait_until(lambda: health(checking, host) == [True], "the endpoint to be back")
    assert ask(checking, host) == [(200, None)]


def test_a_passing_check_revives_nobody(checking: RouterProcess, registrar: Registrar, backend: EchoBackend) -> None:
    """R42: an endpoint that the control plane took back is out and is not asked any more, however well it is."""
    host = unique_host("checked.example")
    App(backend)
    registrar.register(host, backend=backend)
    wait_until(lambda: backend.received, "a check")
    registrar.unregister(host, backend=backend)
    assert ask(checking, host) == [(404, "unknown_route")]
    counted = checking.metric("backend_health_checks", result="passed")
    with EchoBackend() as other:
        App(other)
        registrar.register(unique_host("checked.example"), backend=other)
        before = len(backend.received)
        wait_until(lambda: len(other.received) > 3, "three more rounds")
    assert len(backend.received) <= before + 1
    assert checking.metric("backend_health_checks", result="passed") > counted
    assert host not in checking.routes()


def test_a_check_verifies_who_answers(
    checking: RouterProcess, registrar: Registrar, make_backend: Callable[..., EchoBackend], backend_ca: CA
) -> None:
    """R40: over TLS where the endpoint registered TLS; another app at its address is no healthy instance, and reads nothing."""
    host = unique_host("checked.example")
    right = make_backend(credential=backend_ca.issue_server(NAME))
    wrong = make_backend(credential=backend_ca.issue_server("another"))
    registrar.register(host, backend=right, server_cert_domain_san=NAME)
    registrar.register(host, backend=wrong, index=1, server_cert_domain_san=NAME)
    wait_until(lambda: sorted(health(checking, host)) == [False, True], "the other to be out")
    assert right.received
    assert wrong.received == []
    checking.wait_for_event(lambda line: "backend-unhealthy" in line and host in line and "tls_name_mismatch" in line)


def test_hosts_that_are_not_chosen_are_left_alone(
    checking: RouterProcess, registrar: Registrar, make_backend: Callable[..., EchoBackend]
) -> None:
    """R40: `hosts` says whose endpoints are asked."""
    host, asked = unique_host("open.example"), make_backend()
    alone = make_backend()
    registrar.register(host, backend=alone)
    registrar.register(unique_host("checked.example"), backend=asked)
    wait_until(lambda: len(asked.received) > 2, "three rounds")
    assert alone.connections == 0


def test_a_reload_turns_checks_off_and_on(
    nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory, backend: EchoBackend
) -> None:
    """Off is the default; a reload begins with the checks, and one without them lets everybody back in at once."""
    app = App(backend)
    app.well = False
    with (
        RouterProcess(tmp_path_factory.mktemp("turning"), nats=nats_server) as router,
        Registrar(nats_server.port, router) as made,
    ):
        host = unique_host("open.example")
        made.register(host, backend=backend)
        assert ask(router, host) == [(200, None)]
        assert len(backend.received) == app.asked == 1
        assert router.reload(backend_health_check=SECTION) == {'result="ok"': 1}
        wait_until(lambda: health(router, host) == [False], "the endpoint to be out")
        wait_until(lambda: ask(router, host) == [(503, "no_endpoints")], "every worker to know")
        assert router.reload(backend_health_check=None) == {'result="ok"': 1}
        wait_until(lambda: health(router, host) == [True], "the endpoint to be back")
        wait_until(lambda: ask(router, host) == [(200, None)], "every worker to know")
