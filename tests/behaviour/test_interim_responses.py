"""1xx responses and `Expect: 100-continue` (RFC 9110 sections 10.1.1 and 15.2)."""

import threading
from collections.abc import Iterator

import pytest

from tests.support.backend import Exchange
from tests.support.client import Client
from tests.support.register import Registrar
from tests.support.router import RouterProcess, wait_until
from tests.support.site import Site, site

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh(place: Site) -> None:
    place.backend.clear()


def _expecting(place: Site, length: int = 5) -> bytes:
    lines = f"POST /expect HTTP/1.1\r\nHost: {place.host}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    return lines.encode()


def _head(client: Client) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        got += client.recv(1)
    return got


def test_early_hints_are_passed_on(place: Site) -> None:
    """103 and other interim responses reach the client before the final one, with their fields."""
    place.backend.script(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK)
    with place.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
        hints = _head(client)
        assert hints.startswith(b"HTTP/1.1 103 Early Hints\r\n")
        assert b"link: </a.css>\r\n" in hints.lower()
        response = client.read_response()
        assert (response.interim, response.status, response.body) == ([102], 200, b"ok")


def test_an_http_1_0_client_gets_no_interim_response(place: Site) -> None:
    """HTTP/1.0 does not know 1xx: such a client gets only the final response."""
    place.backend.script(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    with place.client() as client:
        response = client.request(place.host, version="HTTP/1.0")
        assert (response.interim, response.body) == ([], b"ok")


def test_the_backend_decides_whether_the_body_is_sent(place: Site) -> None:
    """Expect: 100-continue goes to the backend; its 100 goes to the client, which then sends the body."""
    with place.client() as client:
        client.send(_expecting(place))
        assert _head(client).startswith(b"HTTP/1.1 100 Continue\r\n")
        assert place.backend.received[0].get("expect") == "100-continue"
        client.send(b"hello")
        response = client.read_response()
        assert (response.status, response.get("connection")) == (200, None)
        assert client.request(place.host).status == 200
    assert place.backend.received[0].body == b"hello"


def test_a_refusal_instead_of_100_ends_both_connections(place: Site) -> None:
    """A final response instead of 100 is passed on with `Connection: close`; the body is asked of nobody."""
    ended = threading.Event()

    def refuse(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        assert exchange.recv() == b""
        ended.set()

    place.backend.script(refuse)
    with place.client() as client:
        client.send(_expecting(place))
        response = client.read_response()
        assert (response.interim, response.status, response.body) == ([], 403, b"no")
        assert response.get("connection") == "close"
        assert ended.wait(5)
        assert client.closed_by_server()


def test_a_client_need_not_wait(place: Site) -> None:
    """A client that sends its body without waiting for 100 is served; no 100 comes after its body was here."""
    with place.client() as client:
        client.send(_expecting(place) + b"hello")
        response = client.read_response()
        assert (response.interim, response.status) == ([], 200)
    seen = place.seen()
    assert (seen.body, seen.get("expect")) == (b"hello", None)


def test_a_client_that_gives_up_waiting_is_served(place: Site) -> None:
    """A backend that says no 100 gets the body once the client sends it anyway."""

    def silent(exchange: Exchange) -> None:
        body = b""
        while len(body) < 5:
            body += exchange.recv()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)

    place.backend.script(silent)
    with place.client() as client:
        client.send(_expecting(place))
        wait_until(lambda: place.backend.received, "the head at the backend")
        client.send(b"hello")
        response = client.read_response()
        assert (response.interim, response.body) == ([], b"hello")


def test_the_routers_own_refusal_comes_instead_of_100(place: Site) -> None:
    """A request that is refused is not asked for its body: 404 at once, and the connection ends."""
    with place.client() as client:
        client.send(_expecting(place).replace(place.host.encode(), b"nowhere.open.example"))
        response = client.read_response()
        assert (response.interim, response.status, response.get("connection")) == ([], 404, "close")
        assert client.closed_by_server()


@pytest.mark.parametrize("value", ["200-ok", "100-continue, x", ""])
def test_another_expectation_is_refused(place: Site, value: str) -> None:
    """An expectation other than 100-continue is 417."""
    data = f"POST / HTTP/1.1\r\nHost: {place.host}\r\nExpect: {value}\r\nContent-Length: 2\r\n\r\nhi"
    place.refuses(data.encode(), 417)
    assert place.backend.received == []
