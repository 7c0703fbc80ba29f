"""Attack 57: a request that is sent twice may be served twice. The rule (decision 10): sent again only when not one byte
left for a backend, or when it is idempotent with its body wholly kept, and a reused connection ended before any answer.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import authority
from tests.support.client import Client, Response, render_request
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess
from tests.support.site import Site, site

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


def _hang_up(exchange: Exchange) -> None:
    """Read the request and close, without a byte of an answer: what a race with an idle time-out looks like."""
    exchange.read_body()
    exchange.close()


def _reset(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.reset()


def _on_a_reused_connection(place: Site, step: Callable[[Exchange], None], method: str, **request: Any) -> Response:
    """A request on the pooled connection of an earlier one, which meets `step`; any resending meets the echo."""
    place.backend.script(OK, step)
    with place.client() as client:
        assert client.request(place.host, "/first").body == b"ok"
        response = client.request(place.host, "/second", method=method, **request)
    first, second = place.backend.received[:2]
    assert first.connection == second.connection
    return response


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("step", [_hang_up, _reset])
def test_an_idempotent_request_is_sent_again(place: Site, method: str, step: Callable[[Exchange], None]) -> None:
    """Attack 57: GET, HEAD, OPTIONS and TRACE survive a backend that ends a reused connection: once more, on a new one."""
    assert _on_a_reused_connection(place, step, method).status == 200
    _, second, third = place.backend.received
    assert second.request_line == third.request_line == f"{method} /second HTTP/1.1"
    assert second.connection != third.connection


def test_an_idempotent_request_with_its_body_kept_is_sent_again(place: Site) -> None:
    """Attack 57: a GET whose body was wholly here goes again with the same body."""
    assert _on_a_reused_connection(place, _hang_up, "GET", body=b"kept").status == 200
    _, second, third = place.backend.received
    assert (second.body, third.body) == (b"kept", b"kept")


@pytest.mark.parametrize("name", ["Idempotency-Key", "X-Idempotency-Key"])
def test_a_request_with_an_idempotency_key_is_sent_again(place: Site, name: str) -> None:
    """Attack 57: a POST that carries an idempotency key, its body wholly here, goes again, key and body the same."""
    response = _on_a_reused_connection(place, _hang_up, "POST", headers=[(name, "key-1")], body=b"kept")
    assert response.status == 200
    _, second, third = place.backend.received
    assert (second.body, third.body) == (b"kept", b"kept")
    assert second.get(name) == third.get(name) == "key-1"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
@pytest.mark.parametrize("step", [_hang_up, _reset])
def test_a_request_that_may_have_been_served_is_not_sent_again(
    place: Site, method: str, step: Callable[[Exchange], None]
) -> None:
    """Attack 57: any other method whose bytes left is a 502, and reached the backend once."""
    response = _on_a_reused_connection(place, step, method, body=b"once")
    assert response.status == 502
    assert response.get("x-cf-routererror") in ("endpoint_failure (connection closed)", "endpoint_failure (connection reset)")
    assert len(place.backend.received) == 2


@pytest.mark.parametrize("headers", [(), (("Idempotency-Key", "key-1"),)], ids=["get", "with_a_key"])
def test_a_request_whose_body_is_not_kept_is_not_sent_again(place: Site, headers: tuple[tuple[str, str], ...]) -> None:
    """Attack 57: an idempotent request whose body streams cannot be sent again: 502, once."""
    place.backend.script(OK, _hang_up)
    with place.client() as client:
        assert client.request(place.host, "/first").body == b"ok"
        chunked = [*headers, ("Transfer-Encoding", "chunked")]
        client.send(render_request(place.host, "/second", headers=chunked, body=b"2\r\nhi\r\n0\r\n\r\n"))
        assert client.read_response().status == 502
    assert len(place.backend.received) == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("step", [_hang_up, _reset])
def test_a_failure_of_a_fresh_connection_is_not_retried(place: Site, method: str, step: Callable[[Exchange], None]) -> None:
    """Attack 57: on a new connection the backend had the request and did not want to answer it: 502, once, also for GET."""
    place.backend.script(step)
    with place.client() as client:
        response = client.request(place.host, method=method)
    assert response.status == 502
    assert len(place.backend.received) == 1


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_a_request_is_not_sent_again_once_an_answer_began(place: Site, begun: bytes) -> None:
    """Attack 57: one byte of an answer shows that the backend was serving the request: 502, once, also for GET."""

    def begin(exchange: Exchange) -> None:
        exchange.send(begun)
        exchange.close()

    response = _on_a_reused_connection(place, begin, "GET")
    assert response.status == 502
    assert len(place.backend.received) == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "streaming"])
def test_a_refused_dial_is_retried_elsewhere(place: Site, registrar: Registrar, method: str, chunked: bool) -> None:
    """Attack 57: while no byte has left, any method goes to another endpoint, its body included; each request arrives once."""
    with EchoBackend() as gone:
        gone.stop_listening()
        registrar.register(place.host, backend=gone, index=1)
        coding = [("Transfer-Encoding", "chunked")] if chunked else []
        body = b"4\r\nonce\r\n0\r\n\r\n" if chunked else b"once"
        with place.client() as client:
            for number in range(4):
                assert client.request(place.host, f"/{number}", method=method, headers=coding, body=body).status == 200
        registrar.unregister(place.host, backend=gone, index=1)
    assert [one.request_line.split()[1] for one in place.backend.received] == ["/0", "/1", "/2", "/3"]
    assert {one.body for one in place.backend.received} == {b"once"}


def test_a_request_is_tried_at_no_more_endpoints_than_configured(
    router: RouterProcess, registrar: Registrar, make_backend: Callable[..., EchoBackend]
) -> None:
    """Attack 57: of four endpoints that all fail in the handshake, `backends.max_attempts` (3) are tried, then it is over."""
    host = unique_host("open.example")
    credential = authority("unknown to the router").issue_server("x")
    backends = [make_backend(credential=credential) for _ in range(4)]
    for index, one in enumerate(backends):
        registrar.register(host, backend=one, index=index, server_cert_domain_san="x", wait=False)
    registrar.settle()
    with Client(router.port) as client:
        response = client.request(host, method="POST", body=b"never sent")
    assert (response.status, response.get("x-cf-routererror")) == (526, "endpoint_failure (certificate not trusted)")
    assert sum(one.connections for one in backends) == 3
    assert [one.received for one in backends] == [[], [], [], []]


def test_an_idle_connection_that_ended_is_not_used(place: Site) -> None:
    """Attack 57: a pooled connection that the backend closed while idle is given up unseen: even a POST goes over a new one."""
    with place.client() as client:
        for _ in range(3):
            assert client.request(place.host, method="POST", body=b"x").status == 200
            place.backend.close_connections()
    assert len(place.backend.received) == 3
    assert len({one.connection for one in place.backend.received}) == 3
