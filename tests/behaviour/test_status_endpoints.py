"""The promise: health, life and the route table are told where the operator wants them, and to nobody else."""

import base64
import json
import signal
from collections.abc import Mapping
from typing import Any

import pytest

from router.demo.process import free_port
from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import Client, Tls, get
from tests.support.register import Registrar, unique_host
from tests.support.router import STATUS_PASSWORD, STATUS_USER, RouterProcess, wait_until

ALIVE = "/is-process-alive-do-not-use-for-loadbalancing"
UNCACHED = {"cache-control": "private, max-age=0", "expires": "0"}


def basic(user: str, password: str) -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_health_is_ok_and_never_cached(router: RouterProcess) -> None:
    """Contract h: /health of a router that serves: 200, `ok`, not to be cached."""
    answer = router.fetch(router.status_port, "/health")
    assert (answer.status, answer.body) == (200, b"ok\n")
    assert UNCACHED.items() <= dict(answer.headers).items()


def test_alive_is_ok_even_where_health_is_not(make_router: MakeRouter) -> None:
    """Contract h: while it drains a router is alive (200) and not healthy (503), on the balancer's own probe too."""
    router = make_router(drain_wait="5s")
    probe = [("User-Agent", "HTTP-Monitor/1.1")]
    assert get(router.port, "anything", headers=probe).body == b"ok\n"
    router.signal(signal.SIGUSR1)
    wait_until(lambda: router.health() == 503, "the drain to show")
    assert router.fetch(router.status_port, ALIVE).status == 200
    answer = get(router.port, "anything", headers=probe)
    assert (answer.status, answer.get("connection")) == (503, "close")
    assert UNCACHED.items() <= dict(answer.headers).items()


def test_health_over_tls(make_router: MakeRouter) -> None:
    """Contract h: the TLS health listener, beside the plain one."""
    ca = authority("health")
    credential = ca.issue_server("localhost")
    port = free_port()
    router = make_router(start=False)
    with_status(router, tls={"port": port, "certificate": credential.chain_pem, "key": credential.key_pem}).start()
    assert get(port, "localhost", "/health", tls=Tls(trust=ca)).body == b"ok\n"
    assert router.health() == 200


def with_status(router: RouterProcess, **changes: object) -> RouterProcess:
    """Change keys of the section `status` that the harness writes; None removes one."""
    defaults = router._defaults

    def changed() -> dict[str, Any]:
        made = defaults()
        section = {**made["status"], **changes}
        return {**made, "status": {key: value for key, value in section.items() if value is not None}}

    router._defaults = changed  # type: ignore[method-assign]
    return router


@pytest.mark.parametrize(
    "headers",
    [
        [], [basic(STATUS_USER, "wrong")], [basic("wrong", STATUS_PASSWORD)], [basic("", "")], [("Authorization", "Basic !!!")],
        [("Authorization", "Bearer " + STATUS_PASSWORD)], [basic(STATUS_USER, STATUS_PASSWORD + "x")],
        [basic(STATUS_USER, STATUS_PASSWORD), basic(STATUS_USER, STATUS_PASSWORD)],
    ],
    ids=["none", "password", "user", "empty", "no base64", "bearer", "longer", "twice"],
)  # fmt: skip
def test_the_route_table_is_only_for_those_who_know_the_password(router: RouterProcess, headers: list[tuple[str, str]]) -> None:
    """Contract h: /routes answers 401 without, or with wrong credentials, and shows nothing."""
    answer = router.fetch(router.routes_port, "/routes", headers=headers)
    assert (answer.status, answer.get("www-authenticate")) == (401, 'Basic realm="Authorization Required"')
    assert b"{" not in answer.body


def test_the_route_table_is_json(router: RouterProcess, registrar: Registrar, backend: EchoBackend) -> None:
    """Contract h: with the password: every uri with its endpoints."""
    host = unique_host(OPEN)
    registrar.register(host, backend=backend)
    answer = router.fetch(router.routes_port, "/routes", headers=[basic(STATUS_USER, STATUS_PASSWORD)])
    assert (answer.status, answer.get("content-type")) == (200, "application/json")
    table: Mapping[str, object] = json.loads(answer.body)
    assert host in table


def test_without_a_password_the_route_table_refuses_everyone(make_router: MakeRouter) -> None:
    """Decision 13: an absent status.pass opens nothing: nobody gets in, with an empty password either."""
    router = make_router(start=False)
    with_status(router, **{"pass": None}).start()
    for credentials in (basic(STATUS_USER, ""), basic("", ""), basic(STATUS_USER, "None")):
        assert router.fetch(router.routes_port, "/routes", headers=[credentials]).status == 401


def test_the_route_table_listens_on_loopback_only(router: RouterProcess) -> None:
    """Contract h: /routes is on 127.0.0.1, whatever status.host says."""
    assert _listening_addresses(router.routes_port) == {"0100007F"}


def _listening_addresses(port: int) -> set[str]:
    """The local addresses (as the kernel writes them) that listen on a port."""
    found = set()
    for name in ("tcp", "tcp6"):
        with open(f"/proc/net/{name}") as table:
            for line in table.read().splitlines()[1:]:
                address, _, hexadecimal = line.split()[1].partition(":")
                if int(hexadecimal, 16) == port and line.split()[3] == "0A":
                    found.add(address)
    return found


@pytest.mark.parametrize("port", ["status_port", "routes_port", "metrics_port"])
def test_an_operators_endpoint_survives_what_is_no_request(router: RouterProcess, port: str) -> None:
    """Attack 79: a garbled head, an unknown path, another method, a huge head: each has its answer, the next is served."""
    number = getattr(router, port)
    cases = {
        b"\x00\x01\r\n\r\n": 400, b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n": 404, b"POST / HTTP/1.1\r\nHost: x\r\n\r\n": 405,
        b"GET /../routes HTTP/1.1\r\nHost: x\r\n\r\n": 404, b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000: 431,
    }  # fmt: skip
    for data, status in cases.items():
        with Client(number) as client:
            client.send(data)
            assert client.read_response().status == status
    with Client(number) as silent:
        assert router.fetch(number, "/").status == 404
        silent.reset()
