"""The promise: an L7 route of the configuration is served with its own certificate, beside L4 routes on the same port."""

import copy
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from router.demo.process import free_port
from tests.conftest import MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import CA, authority
from tests.support.client import Client, Tls, get
from tests.support.client_hellos import in_records, message, server_name
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import RouterProcess, wait_until

HOST, TUNNEL = "shop.static.example", "tunnel.static.example"
BOT = {"type": "user_agent_block", "value": "bot"}


@pytest.fixture
def own_ca() -> CA:
    return authority("the route's own")


@pytest.fixture
def tunnel() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        yield listening


def l7(own_ca: CA, backend: str, **more: Any) -> dict[str, Any]:
    pair = own_ca.issue_server(HOST)
    return {"hostname": HOST, "mode": "l7", "tls_cert": pair.chain_pem, "tls_key": pair.key_pem, "backend": backend, **more}


@pytest.fixture
def router(make_router: MakeRouter, own_ca: CA, backend: EchoBackend, tunnel: socket.socket) -> RouterProcess:
    """Two TLS ports: both kinds of route on the one, the same suffix passed through on the other."""
    to_tunnel = f"127.0.0.1:{tunnel.getsockname()[1]}"
    mixed = [l7(own_ca, backend.address, l7_policies=[BOT]), {"hostname": "*.static.example", "backend": to_tunnel}]
    return make_router(
        ca_certs=[authority("backends").pem],
        listeners=[
            {"port": free_port(), "kind": "tls", "routes": mixed},
            {"port": free_port(), "kind": "tls", "routes": [{"hostname": TUNNEL, "backend": to_tunnel}]},
        ],
    )


def port(router: RouterProcess, number: int = 0) -> int:
    return int(router.config["listeners"][number]["port"])


def changed(router: RouterProcess, **more: Any) -> list[dict[str, Any]]:
    """The listeners, with something of the L7 route replaced."""
    listeners: list[dict[str, Any]] = copy.deepcopy(router.config["listeners"])
    listeners[0]["routes"][0].update(more)
    return listeners


def test_it_is_terminated_with_its_own_certificate_and_its_neighbour_is_not(
    router: RouterProcess, own_ca: CA, backend: EchoBackend, tunnel: socket.socket
) -> None:
    """R74, R101, R104, R107, R109: one port, two modes; the suffix around the name takes the others."""
    response = get(port(router), HOST, tls=Tls(sni=HOST, trust=own_ca))
    assert response.status == 200
    assert (backend.last.get("x-forwarded-proto"), backend.last.get("x-real-ip")) == ("https", "127.0.0.1")
    hello = in_records(message([server_name(TUNNEL.encode()), (43, b"\2\3\4")]))
    with socket.create_connection(("127.0.0.1", port(router)), 10) as client:
        client.sendall(hello)
        with tunnel.accept()[0] as there:
            assert there.recv(65536) == hello


def test_another_port_does_not_answer_for_it(router: RouterProcess) -> None:
    """R8, R137: the certificate is the listener's, so the name means nothing elsewhere."""
    with socket.create_connection(("127.0.0.1", port(router, 1)), 10) as client:
        client.sendall(in_records(message([server_name(HOST.encode()), (43, b"\2\3\4")])))
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_registration_for_it_is_counted_and_ignored(
    router: RouterProcess, backend: EchoBackend, nats_server: NatsServer
) -> None:
    """K15: the configuration wins over whoever registers the host."""
    with EchoBackend("another") as other, Registrar(nats_server.port, router) as registrar:
        registrar.register(HOST, backend=other, wait=False)
        router.wait_for_metric("registry_message", 1, action="held")
        for _ in range(4):
            assert get(port(router), HOST, tls=Tls(sni=HOST)).status == 200
        assert (len(backend.received), other.received) == (4, [])


def test_its_policies_are_its_own(router: RouterProcess) -> None:
    """R128, R130: refused before any backend."""
    with Client(port(router), Tls(sni=HOST)) as client:
        assert client.request(HOST, headers=[("User-Agent", "a bot")]).status == 403
        assert client.request(HOST, headers=[("User-Agent", "a browser")]).status == 200


def test_a_backend_that_is_not_there_is_a_502_and_a_reload_leads_elsewhere(router: RouterProcess, backend: EchoBackend) -> None:
    """R103, R225: from the next request on, on the connection that is there."""
    with Client(port(router), Tls(sni=HOST)) as client:
        assert router.reload(listeners=changed(router, backend=f"127.0.0.1:{free_port()}")) == {'result="ok"': 1}
        answer = client.request(HOST)
        assert (answer.status, len(answer.body) < 200) == (502, True)
        assert router.reload(listeners=changed(router, backend=backend.address)) == {'result="ok"': 1}
        assert client.request(HOST).status == 200


def test_tls_to_its_backends_is_verified_by_the_name_it_says(router: RouterProcess) -> None:
    """R75: the right name is served; another one is a 503, and nothing is said in the clear or to the wrong one."""
    backends = authority("backends")
    with EchoBackend("secure", credential=backends.issue_server("inner.example")) as secure:
        told = {"backend": secure.address, "backend_tls": True}
        assert router.reload(listeners=changed(router, **told, server_cert_domain_san="inner.example")) == {'result="ok"': 1}
        assert get(port(router), HOST, tls=Tls(sni=HOST)).status == 200
        assert router.reload(listeners=changed(router, **told, server_cert_domain_san="outer.example")) == {'result="ok"': 1}
        assert get(port(router), HOST, tls=Tls(sni=HOST)).status == 503
        assert len(secure.received) == 1


def test_a_sick_backend_is_passed_over_until_it_is_well(
    make_router: MakeRouter, own_ca: CA, make_backend: Callable[..., EchoBackend]
) -> None:
    """R39 to R42: the backends of a static route are checked as registered ones are; the check only removes."""
    sick, well = make_backend("sick"), make_backend("well")
    answer = b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    sick.always(answer % b"503 Sick")
    route = l7(own_ca, sick.address)
    del route["backend"]
    router = make_router(
        listeners=[{"port": free_port(), "kind": "tls", "routes": [{**route, "backends": [sick.address, well.address]}]}],
        backend_health_check={"path": "/healthz", "interval": "60ms", "unhealthy_threshold": 2, "healthy_threshold": 1},
    )

    def statuses() -> set[int]:
        return {get(port(router), HOST, tls=Tls(sni=HOST, trust=own_ca)).status for _ in range(4)}

    wait_until(lambda: router.metric("backends_unhealthy") == 1, "the sick backend to be found")
    assert statuses() == {200}
    sick.always(answer % b"204 No Content")
    wait_until(lambda: router.metric("backends_unhealthy") == 0, "the backend to be well")
    assert statuses() == {200, 204}
