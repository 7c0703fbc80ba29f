"""Connections to backends are used again, and their end is never a client's error where that can be helped."""

import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import authority
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess
from tests.support.site import Site, site


@pytest.fixture
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


def test_one_connection_serves_many_clients(place: Site) -> None:
    """Requests of different client connections, one after the other, go over one backend connection, of each worker."""
    for _ in range(5):
        with place.client() as client:
            assert client.request(place.host, method="POST", body=b"x").status == 200
    assert 1 <= place.backend.connections <= place.router.width


def test_requests_at_the_same_time_have_connections_of_their_own(place: Site) -> None:
    """Two requests in flight never share a backend connection; afterwards both connections are kept."""
    meet = threading.Barrier(2, timeout=10)

    def together(exchange: Exchange) -> None:
        meet.wait()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    place.backend.script(together, together)
    with place.client() as one, place.client() as two:
        for client in (one, two):
            client.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
        assert (one.read_response().body, two.read_response().body) == (b"ok", b"ok")
    first, second = place.backend.received
    assert first.connection != second.connection
    assert place.backend.open_connections == 2


def test_routes_of_one_endpoint_share_its_connections(place: Site, registrar: Registrar) -> None:
    """What is kept belongs to the endpoint, not to the route or the client."""
    other = unique_host("open.example")
    registrar.register(other, backend=place.backend)
    with place.client() as client:
        for host in (place.host, other, place.host):
            assert client.request(host).status == 200
    registrar.unregister(other, backend=place.backend)
    assert place.backend.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["close", "http_1_0"],
)
def test_a_connection_that_its_backend_ends_is_not_kept(place: Site, answer: bytes) -> None:
    """After `Connection: close`, or HTTP/1.0 without keep-alive, the next request goes over a new connection."""
    place.backend.script(answer)
    with place.client() as client:
        assert client.request(place.host).status == 200
        assert client.request(place.host).status == 200
    assert [one.connection for one in place.backend.received] == [1, 2]


def test_a_backend_that_closes_between_requests_costs_no_get(place: Site) -> None:
    """The keep-alive race: a backend that closes each connection after its answer, unannounced, never shows as a 502."""

    def answer_and_close(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        exchange.close()

    place.backend.always(answer_and_close)
    with place.client() as client:
        for _ in range(200):
            assert client.request(place.host).status == 200
    assert len(place.backend.received) == 200


def test_a_backend_that_hangs_up_on_every_second_request_costs_no_get(place: Site) -> None:
    """The same race, lost every time: each request on a used connection is hung up on, and answered on a new one."""
    used: set[int] = set()

    def hang_up(exchange: Exchange) -> None:
        if exchange.request.connection in used:
            exchange.close()
            return
        used.add(exchange.request.connection)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    place.backend.always(hang_up)
    with place.client() as client:
        for _ in range(50):
            assert client.request(place.host).status == 200
    assert len(used) == 50


def test_keep_alives_can_be_switched_off(
    nats_server: NatsServer, make_router: Callable[..., RouterProcess], make_registrar: Callable[..., Registrar]
) -> None:
    """`disable_keep_alives: true`: every request has a connection of its own, and the backend is told so."""
    router = make_router(disable_keep_alives=True)
    with site(router, make_registrar(nats_server, router)) as place:
        with place.client() as client:
            for _ in range(2):
                assert client.request(place.host).status == 200
        assert [one.connection for one in place.backend.received] == [1, 2]
        assert place.backend.last.get("connection") == "close"


def test_an_endpoint_of_another_name_has_connections_of_its_own(
    nats_server: NatsServer, make_router: Callable[..., RouterProcess], make_registrar: Callable[..., Registrar]
) -> None:
    """A TLS connection verified for one instance's name is never used for another instance at the same address."""
    ca = authority("pooled backends")
    router = make_router(ca_certs=[ca.pem])
    registrar = make_registrar(nats_server, router)
    one, two = unique_host("open.example"), unique_host("open.example")
    with EchoBackend(credential=ca.issue_server("instance-one")) as backend:
        registrar.register(one, backend=backend, server_cert_domain_san="instance-one")
        registrar.register(two, backend=backend, server_cert_domain_san="instance-two")
        with site(router, registrar) as place, place.client() as client:
            assert client.request(one).status == 200
            assert client.request(two).status == 503
            assert client.request(one).status == 200
        assert {received.get("host") for received in backend.received} == {one}
