"""Attack 55: a backend whose answers do not fit its requests. Whatever it sends, nobody but the client it answered reads it: the
answer is a 502 or ends early, and no later request goes over that connection (response-queue poisoning).
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.backend import Exchange
from tests.support.client import Client, render_request
from tests.support.register import Registrar
from tests.support.router import RouterProcess, wait_until
from tests.support.site import Site, site

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


def _answer(client: Client) -> bytes:
    """All the client gets until the server closes: the head and what came of the body; empty after a reset."""
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv():
            pieces.append(piece)
    return b"".join(pieces)


def _until_closed(exchange: Exchange) -> None:
    with contextlib.suppress(ConnectionResetError):
        while exchange.recv():
            pass


def _assert_not_reused(place: Site, connection: int) -> None:
    """The next requests, more than the pool could hold of poisoned connections, have their own answers on other ones."""
    for number in range(3):
        with place.client() as client:
            response = client.request(place.host, f"/next{number}")
        assert response.status == 200
        assert f"GET /next{number} HTTP/1.1".encode() in response.body
    later = [one for one in place.backend.received if one.request_line.startswith("GET /next")]
    assert len(later) == 3
    assert connection not in {one.connection for one in later}


def _first_connection(place: Site) -> int:
    return place.backend.received[0].connection


@pytest.mark.parametrize(
    ("answer", "method", "body"),
    [
        (OK + POISON, "GET", b"ok"),
        (OK + b"x", "GET", b"ok"),
        (OK + b"\r\n", "GET", b"ok"),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + POISON, "GET", b"ok"),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\n0\r\n\r\n", "GET", b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "HEAD", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n" + POISON, "GET", b""),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison", "GET", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison", "GET", b""),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + POISON, "GET", b"ok"),
    ],
)
def test_what_follows_an_answer_is_nobodys(place: Site, answer: bytes, method: str, body: bytes) -> None:
    """Attack 55: bytes behind an answer, a whole second one included, reach no client; their connection is closed."""
    place.backend.script(answer)
    with place.client() as client:
        response = client.request(place.host, method=method)
        assert response.body == body
        client.send(b"GET /same HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
        again = client.read_response()
        assert b"GET /same HTTP/1.1" in again.body
    _assert_not_reused(place, _first_connection(place))


@pytest.mark.parametrize("late", [POISON, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", b"x"])
def test_an_answer_without_a_request_poisons_nobody(place: Site, late: bytes) -> None:
    """Attack 55: a pooled connection on which the idle backend speaks is closed at once, before any request goes over it."""
    go, ended = threading.Event(), threading.Event()

    def twice(exchange: Exchange) -> None:
        exchange.send(OK)
        go.wait(10)
        exchange.send(late)
        _until_closed(exchange)
        ended.set()

    place.backend.script(twice)
    with place.client() as client:
        assert client.request(place.host).body == b"ok"
    go.set()
    assert ended.wait(5)
    _assert_not_reused(place, _first_connection(place))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_answer_that_comes_together_with_the_next_request_poisons_nobody(place: Site, method: str) -> None:
    """Attack 55: where the unasked answer and the next request reach the router in one turn, the request first, the pooled
    connection is still not used: the client gets its own answer.
    """
    go, sent = threading.Event(), threading.Event()

    def twice(exchange: Exchange) -> None:
        exchange.send(OK)
        go.wait(10)
        exchange.send(POISON)
        sent.set()
        _until_closed(exchange)

    place.backend.script(twice)
    with place.client() as client:
        assert client.request(place.host).body == b"ok"
        place.router.signal_all(signal.SIGSTOP)
        try:
            client.send(render_request(place.host, "/own", method=method))
            go.set()
            assert sent.wait(5)
        finally:
            place.router.signal_all(signal.SIGCONT)
        assert f"{method} /own HTTP/1.1".encode() in client.read_response().body
    _assert_not_reused(place, _first_connection(place))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        CHUNKED + b"5\r\nshort\r\n",
        CHUNKED + b"a\r\nshort",
        CHUNKED + b"5\r\nshort\r\n0\r\n",
        CHUNKED + b"5\r\nshort\r\n0\r\nX: y\r\n",
    ],
)
@pytest.mark.parametrize("ending", ["close", "reset"])
def test_an_answer_cut_short_is_never_completed(place: Site, answer: bytes, ending: str) -> None:
    """Attack 55: an answer that ends before its stated end ends the client's connection too: it is never made to look whole."""

    def cut(exchange: Exchange) -> None:
        exchange.send(answer)
        exchange.close() if ending == "close" else exchange.reset()

    place.backend.script(cut)
    with place.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
        got = _answer(client)
    assert not got.endswith(b"0\r\n\r\n")
    if got.startswith(b"HTTP/1.1 200 "):
        head, _, body = got.partition(b"\r\n\r\n")
        assert b"content-length: 10" in head.lower() or b"transfer-encoding: chunked" in head.lower()
        assert len(body) < 12
    elif got:
        assert got.startswith(b"HTTP/1.1 502 ")
    _assert_not_reused(place, _first_connection(place))


@pytest.mark.parametrize(
    "chunks",
    [
        b"2\nok\n0\n\n",
        b"2\r\nokay\r\n0\r\n\r\n",
        b"0x2\r\nok\r\n0\r\n\r\n",
        b" 2\r\nok\r\n0\r\n\r\n",
        b"-2\r\nok\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\nok\r\n0\r\n\r\n",
        b"2;a\nb\r\nok\r\n0\r\n\r\n",
        b"\r\nok\r\n0\r\n\r\n",
        b"2\r\nok\r\n0\r\nX: y\n\r\n",
    ],
)
def test_a_broken_chunk_of_a_backend_ends_the_answer(place: Site, chunks: bytes) -> None:
    """Attack 55: a backend's broken chunk is no 200 with an end: 502 where nothing was sent yet, else the connection ends."""
    place.backend.script(CHUNKED + chunks)
    with place.client() as client:
        response = client.request(place.host)
        assert (response.status, response.get("x-cf-routererror")) == (502, "endpoint_failure (malformed response)")
    _assert_not_reused(place, _first_connection(place))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20 Short\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"just text, no head\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early\r\nContent-Length: 5\r\n\r\nHTTP/" + OK,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + POISON,
        b"\x16\x03\x01\x00\x05hello",
    ],
)
def test_an_answer_that_cannot_be_understood_is_a_bad_gateway(place: Site, answer: bytes) -> None:
    """Attack 55: an answer that is not exactly one HTTP/1.1 head is 502; not a byte of it reaches the client."""
    before = place.router.metric("bad_gateways")
    place.backend.script(answer)
    with place.client() as client:
        response = client.request(place.host)
        assert (response.status, response.get("x-cf-routererror")) == (502, "endpoint_failure (malformed response)")
        assert response.body == b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"
    assert place.router.metric("bad_gateways") == before + 1
    place.router.wait_for_log(
        lambda line: place.host in line and 'x_cf_routererror:"endpoint_failure (malformed response)"' in line
    )
    _assert_not_reused(place, _first_connection(place))


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"])
def test_a_flood_of_interim_answers_is_a_bad_gateway(place: Site, interim: bytes) -> None:
    """Attack 55: after 17 interim answers without a final one the request is a 502 and the backend's connection closed."""

    def flood(exchange: Exchange) -> None:
        for _ in range(100_000):
            exchange.send(interim)

    place.backend.script(flood)
    with place.client() as client:
        response = client.request(place.host)
    assert (response.status, response.get("x-cf-routererror")) == (502, "endpoint_failure (malformed response)")
    assert len(response.interim) == 16
    _assert_not_reused(place, _first_connection(place))


@pytest.mark.parametrize(
    "lines",
    [
        b"".join(b"X-%d: y\r\n" % number for number in range(10_000)),
        b"".join(b"X-%d: y\r\n" % number for number in range(257)),
        b"X: " + b"y" * 2**20 + b"\r\n",
        b"X" * 2**20 + b": y\r\n",
    ],
    ids=["10_000_fields", "257_fields", "1_mib_value", "1_mib_name"],
)
def test_a_header_bomb_is_a_bad_gateway(place: Site, lines: bytes) -> None:
    """Attack 55: an answer's head over its bounds (256 fields, 256 KiB) is a 502; the client reads none of it."""
    place.backend.script(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + lines + b"\r\n")
    with place.client() as client:
        response = client.request(place.host)
    assert response.status == 502
    assert (response.get("x-cf-routererror") or "").startswith("endpoint_failure (")
    assert len(response.head) < 1024
    _assert_not_reused(place, _first_connection(place))


def _chunked_request(place: Site) -> bytes:
    return b"POST /upload HTTP/1.1\r\nHost: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % place.host.encode()


def _long_request(place: Site) -> bytes:
    return b"POST /upload HTTP/1.1\r\nHost: %b\r\nContent-Length: 1000000\r\n\r\nfirst" % place.host.encode()


@pytest.mark.parametrize("request_head", [_chunked_request, _long_request], ids=["chunked", "content_length"])
def test_an_early_answer_ends_both_connections(place: Site, request_head: Callable[[Site], bytes]) -> None:
    """Attack 55: a final answer before the request's end is passed on, and says that the connection ends; then both do."""
    ended = threading.Event()

    def early(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        _until_closed(exchange)
        ended.set()

    place.backend.script(early)
    with place.client() as client:
        client.send(request_head(place))
        response = client.read_response()
        assert (response.status, response.body, response.get("connection")) == (413, b"big", "close")
        assert response.get("x-cf-routererror") is None
        assert ended.wait(5)
        assert client.closed_by_server()
    _assert_not_reused(place, _first_connection(place))


@pytest.mark.parametrize("end", [b"zz\r\n", b"2\r\nhigh\r\n0\r\n\r\n"], ids=["bad_size", "bad_end"])
def test_half_a_request_behind_an_early_answer_is_never_pooled(place: Site, end: bytes) -> None:
    """Attack 55: where the client breaks its body while it still reads an early answer, the backend's connection, on which
    half a request stands, is closed; the next request does not become that body's rest.
    """
    body = b"x" * 2**24  # more than the kernel holds: the router waits for the client when the body breaks

    def early(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        _until_closed(exchange)

    place.backend.script(early)
    with place.client() as client:
        client.send(_chunked_request(place) + b"2\r\nhi\r\n")
        wait_until(lambda: place.backend.received, "the request at the backend")
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        before = place.router.metric("malformed_requests", reason="bad_chunk_size")
        before += place.router.metric("malformed_requests", reason="bad_chunk_end")
        client.send(end)
        wait_until(
            lambda: (
                place.router.metric("malformed_requests", reason="bad_chunk_size")
                + place.router.metric("malformed_requests", reason="bad_chunk_end")
                > before
            ),
            "the broken chunk to be seen",
        )
        _answer(client)
    _assert_not_reused(place, _first_connection(place))
