"""A client's connection carries request after request, and ends exactly when one side says so (RFC 9112 section 9)."""

from collections.abc import Iterator

import pytest

from tests.support.client import render_request
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


def test_a_connection_carries_many_requests(place: Site) -> None:
    """Requests follow each other on one connection, with and without bodies."""
    with place.client() as client:
        for number in range(20):
            body = b"x" * number
            response = client.request(place.host, f"/{number}", method="POST", body=body)
            assert response.status == 200
            assert f'"length": {number}'.encode() in response.body
            assert response.get("connection") is None


def test_pipelined_requests_are_answered_in_order(place: Site) -> None:
    """Requests sent at once, with bodies of both framings between them, are answered in the order they came."""
    requests = [
        render_request(place.host, "/0"),
        render_request(place.host, "/1", method="POST", body=b"GET /not-a-request HTTP/1.1\r\n\r\n"),
        render_request(place.host, "/2", method="POST", headers=[("Transfer-Encoding", "chunked")], body=b"2\r\nhi\r\n0\r\n\r\n"),
        render_request(place.host, "/3", method="HEAD"),
        render_request(place.host, "/4"),
    ]
    with place.client() as client:
        client.send(b"".join(requests))
        bodies = [client.read_response("HEAD" if number == 3 else "GET").body for number in range(5)]
    for number in (0, 1, 2, 4):
        assert f" /{number} HTTP/1.1".encode() in bodies[number]
    assert bodies[3] == b""


def test_a_request_may_come_byte_by_byte(place: Site) -> None:
    """A head and a body in single bytes are the same request as in one piece."""
    with place.client() as client:
        for byte in render_request(place.host, "/slow", method="POST", body=b"hello"):
            client.send(bytes([byte]))
        assert b'"length": 5' in client.read_response().body


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close"])
def test_a_client_that_asks_for_the_end_gets_it(place: Site, value: str) -> None:
    """`Connection: close` is answered by `Connection: close`, and then the connection ends."""
    with place.client() as client:
        response = client.request(place.host, headers=[("Connection", value)])
        assert (response.status, response.get("connection")) == (200, "close")
        assert client.closed_by_server()


def test_a_backend_that_closes_leaves_the_clients_connection_open(place: Site) -> None:
    """A backend's `Connection: close` is between it and the router: the client's connection goes on."""
    place.backend.script(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    with place.client() as client:
        response = client.request(place.host)
        assert (response.body, response.get("connection")) == (b"ok", None)
        assert client.request(place.host).status == 200


def test_an_http_1_0_client_is_served(place: Site) -> None:
    """An HTTP/1.0 request goes to the backend as HTTP/1.1; its answer says HTTP/1.1 and the connection ends."""
    place.backend.clear()
    with place.client() as client:
        response = client.request(place.host, "/old", version="HTTP/1.0")
        assert (response.status, response.get("connection")) == (200, "close")
        assert client.closed_by_server()
    assert place.seen().request_line == "GET /old HTTP/1.1"


def test_an_http_1_0_client_may_keep_its_connection(place: Site) -> None:
    """`Connection: keep-alive` keeps an HTTP/1.0 client's connection, where the answer's length is stated."""
    with place.client() as client:
        for _ in range(2):
            response = client.request(place.host, version="HTTP/1.0", headers=[("Connection", "keep-alive")])
            assert (response.status, response.get("connection")) == (200, "keep-alive")


def test_an_http_1_0_client_never_reads_chunks(place: Site) -> None:
    """To an HTTP/1.0 client a chunked answer is written plain, and ends with the connection."""
    place.backend.script(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    with place.client() as client:
        response = client.request(place.host, version="HTTP/1.0", headers=[("Connection", "keep-alive")])
        assert (response.body, response.get("connection")) == (b"onetwo", "close")
        assert response.get("transfer-encoding") is None
        assert client.closed_by_server()


def test_a_refusal_keeps_the_connection_where_nothing_is_left_to_read(place: Site) -> None:
    """A 404 ends no connection: the next request on it is served, also after a refused one with its body here."""
    with place.client() as client:
        assert client.request("nowhere.open.example").status == 404
        assert client.request("nowhere.open.example", method="POST", body=b"unread").status == 404
        assert client.request(place.host).status == 200


def test_a_refusal_with_a_body_still_to_come_ends_the_connection(place: Site) -> None:
    """A 404 to a request whose body is not here says that the connection ends: the body's bytes are no request."""
    with place.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: nowhere.open.example\r\nContent-Length: 100\r\n\r\n")
        response = client.read_response()
        assert (response.status, response.get("connection")) == (404, "close")
        client.send(render_request(place.host, "/smuggled") * 2)
        assert client.closed_by_server()
    assert "GET /smuggled HTTP/1.1" not in [one.request_line for one in place.backend.received]
