"""Bodies, their framing and their trailers pass both ways unchanged in content (RFC 9112 sections 6 and 7)."""

import threading
from collections.abc import Iterator

import pytest

from tests.support.backend import Exchange
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site

CHUNKED = ("Transfer-Encoding", "chunked")


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh(place: Site) -> None:
    place.backend.clear()


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 1_000_000])
def test_a_request_body_of_stated_length_arrives(place: Site, size: int) -> None:
    """A Content-Length body arrives whole, with the same Content-Length."""
    body = bytes(range(256)) * (size // 256 + 1)
    with place.client() as client:
        headers = [("Content-Length", "0")] if not size else []
        assert client.request(place.host, method="POST", headers=headers, body=body[:size]).status == 200
    seen = place.seen()
    assert seen.body == body[:size]
    assert seen.get("content-length") == str(size)
    assert seen.get("transfer-encoding") is None


@pytest.mark.parametrize("sizes", [(), (1,), (5, 100_000, 1), (65_536,) * 4])
def test_a_chunked_request_body_arrives(place: Site, sizes: tuple[int, ...]) -> None:
    """A chunked body arrives whole and chunked, without a Content-Length."""
    pieces = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    encoded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    with place.client() as client:
        assert client.request(place.host, method="POST", headers=[CHUNKED], body=encoded).status == 200
    seen = place.seen()
    assert seen.body == b"".join(pieces)
    assert seen.get("transfer-encoding") == "chunked"
    assert seen.get("content-length") is None


@pytest.mark.parametrize("te", [[], [("TE", "trailers")]], ids=["without_te", "with_te"])
def test_trailers_pass_both_ways(place: Site, te: list[tuple[str, str]]) -> None:
    """Trailers of request and response pass, whether or not the client sent TE."""
    head = b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
    place.backend.script(head + b"2\r\nok\r\n0\r\nX-Sum: 42\r\nX-Two: b\r\n\r\n")
    with place.client() as client:
        body = b"2\r\nhi\r\n0\r\nX-In: 7\r\nX-In: 8\r\n\r\n"
        response = client.request(place.host, method="POST", headers=[CHUNKED, ("Trailer", "X-In"), *te], body=body)
        assert (response.body, response.trailers) == (b"ok", [("x-sum", "42"), ("x-two", "b")])
        assert client.request(place.host).status == 200
    assert place.backend.received[0].trailers == [("x-in", "7"), ("x-in", "8")]


def test_a_response_without_length_is_chunked_for_the_client(place: Site) -> None:
    """A response that ends with the backend's connection reaches an HTTP/1.1 client in chunks, and its connection goes on."""

    def until_close(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        exchange.close()

    place.backend.script(until_close)
    with place.client() as client:
        response = client.request(place.host)
        assert (response.body, response.get("transfer-encoding")) == (b"all of it", "chunked")
        assert client.request(place.host).status == 200


@pytest.mark.parametrize(
    ("method", "answer", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", "12345"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n", None),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nContent-Length: 12345\r\nETag: "x"\r\n\r\n', "12345"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n", None),
    ],
)
def test_a_response_that_has_no_body_ends_with_its_head(place: Site, method: str, answer: bytes, length: str | None) -> None:
    """HEAD, 204 and 304: no body, a Content-Length that is only said stays, and both connections go on at once."""
    place.backend.script(answer)
    with place.client() as client:
        response = client.request(place.host, method=method)
        assert (response.body, response.get("content-length")) == (b"", length)
        assert response.get("transfer-encoding") is None
        assert client.request(place.host).status == 200
    first, second = place.backend.received
    assert first.connection == second.connection


def test_head_errors_have_no_body(place: Site) -> None:
    """The router's own answers to HEAD say their length and have no body."""
    with place.client() as client:
        response = client.request("nowhere.open.example", method="HEAD")
        assert (response.status, response.body) == (404, b"")
        assert int(response.get("content-length") or 0) > 0
        assert client.request(place.host).status == 200


def test_request_and_response_flow_at_the_same_time(place: Site) -> None:
    """A backend may answer piece by piece while the request still comes: each piece arrives before the next one is sent."""

    def converse(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while b"end" not in (data := exchange.recv()):
            exchange.send(b"%x\r\n%b\r\n" % (len(data), data))
        exchange.send(b"0\r\n\r\n")

    place.backend.script(converse)
    with place.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: %b\r\nContent-Length: 13\r\n\r\n" % place.host.encode())
        got = client.recv()
        assert got.startswith(b"HTTP/1.1 200 OK")
        for word in (b"first", b"other"):
            client.send(word)
            while word not in got:
                got += client.recv()
        client.send(b"end")
        while not got.endswith(b"0\r\n\r\n"):
            got += client.recv()


def test_pieces_are_passed_on_as_they_come(place: Site) -> None:
    """A response that pauses is not held back: what the backend has said reaches the client before it says more."""
    go = threading.Event()

    def paused(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        go.wait(10)
        exchange.send(b"other")

    place.backend.script(paused)
    with place.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
        got = b""
        while not got.endswith(b"first"):
            got += client.recv()
        go.set()
        while not got.endswith(b"other"):
            got += client.recv()
