"""The promise: trailers pass both ways, within a version of HTTP and across (RFC 9110 section 6.5, RFC 9113 section 8.1)."""

from collections.abc import Iterator

import pytest

from tests.support.backend import Exchange
from tests.support.client import Tls
from tests.support.http2_client import FrameClient, Http2Client, data_frame, headers_frame
from tests.support.register import Registrar
from tests.support.router import RouterProcess, wait_until
from tests.support.site import Site, site

CHUNKED = b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 5\r\nX-Other: z\r\n\r\n"


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh(place: Site) -> None:
    place.backend.clear()


def connect(place: Site) -> Http2Client:
    return Http2Client(place.router.ssl_port, Tls(place.host))


def test_trailers_pass_over_http_1_1(place: Site) -> None:
    """Chunked in, chunked out: names and values of both sides arrive."""
    place.backend.script(CHUNKED)
    head = f"POST / HTTP/1.1\r\nHost: {place.host}\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n"
    with place.client() as client:
        client.send(head.encode() + b"2\r\nhi\r\n0\r\nX-Up: 1\r\nx-up2: 2\r\n\r\n")
        response = client.read_response()
    assert (response.body, response.trailers) == (b"ok", [("x-sum", "5"), ("x-other", "z")])
    assert (place.backend.last.body, place.backend.last.trailers) == (b"hi", [("x-up", "1"), ("x-up2", "2")])


def test_trailers_of_http_2_reach_an_http_1_1_backend(place: Site) -> None:
    """A HEADERS frame behind the DATA becomes the trailer section of a chunked body."""
    with connect(place) as client:
        assert client.request(place.host, method="POST", body=b"hi", trailers=[("x-up", "1"), ("x-up2", "2")]).status == 200
    seen = place.seen()
    assert (seen.body, seen.trailers) == (b"hi", [("x-up", "1"), ("x-up2", "2")])


def test_trailers_of_http_1_1_reach_an_http_2_client(place: Site) -> None:
    """The trailer section of a chunked answer becomes a HEADERS frame that ends the stream."""
    place.backend.script(CHUNKED)
    with connect(place) as client:
        answer = client.request(place.host, headers=[("te", "trailers")])
    assert (answer.body, answer.trailers, answer.ended) == (b"ok", [("x-sum", "5"), ("x-other", "z")], True)


def test_trailers_without_a_body_pass(place: Site) -> None:
    """An answer that is all trailers, and a request with an empty body and trailers."""
    place.backend.script(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 5\r\n\r\n")
    with connect(place) as client:
        answer = client.request(place.host, method="POST", trailers=[("x-up", "1")])
    assert (answer.body, answer.trailers) == (b"", [("x-sum", "5")])
    assert (place.backend.last.body, place.backend.last.trailers) == (b"", [("x-up", "1")])


def test_trailers_wait_for_the_window_of_the_body(place: Site) -> None:
    """Trailers come behind the last byte, also where the window was shut for long."""
    data = b"x" * 100_000
    place.backend.script(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nX-Sum: 5\r\n\r\n" % (len(data), data)
    )
    with Http2Client(place.router.ssl_port, Tls(place.host), credit=False) as client:
        stream = client.open(place.host)
        answer = client.answer(stream)
        client.wait(lambda: len(answer.body) == 65_535, "a full window")
        client.ping()
        assert (len(answer.body), answer.trailers) == (65_535, [])
        client.take(stream, 65_535)
        client.response(stream)
    assert (answer.body, answer.trailers) == (data, [("x-sum", "5")])


def test_trailers_behind_a_length_reach_nobody_who_cannot_read_them(place: Site) -> None:
    """HTTP/1.1 has no trailers behind a Content-Length: the body arrives whole, and they are left out."""
    with FrameClient(place.router.ssl_port, Tls(place.host)) as client:  # all at once: the answer may come before the trailers
        stream = client.ask(client.head(place.host, method="POST", more=[("content-length", "2")]), end=False)
        client.write(data_frame(stream, b"hi") + headers_frame(stream, client.block([("x-up", "1")])))
        assert client.response(stream).status == 200
    seen = place.seen()
    assert seen.body == b"hi"
    assert seen.trailers == [] or seen.all("transfer-encoding") == ["chunked"]


@pytest.mark.parametrize(
    "name", ["content-length", "host", "x-forwarded-for", "x-forwarded-client-cert", "authorization", "content-type", "trailer"]
)
def test_a_field_that_must_not_be_a_trailer_is_left_out(place: Site, name: str) -> None:
    """RFC 9110 section 6.5.1: what frames, routes or authenticates a message does not come behind it."""
    place.backend.script(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n%b: 7\r\nX-Sum: 5\r\n\r\n" % name.encode()
    )
    with FrameClient(place.router.ssl_port, Tls(place.host)) as client:
        stream = client.ask(client.head(place.host, method="POST"), end=False)
        client.write(data_frame(stream, b"hi") + headers_frame(stream, client.block([(name, "7"), ("x-up", "1")])))
        answer = client.response(stream)
    assert (answer.status, answer.trailers) == (200, [("x-sum", "5")])
    assert place.seen().trailers == [("x-up", "1")]


def test_trailers_of_a_stream_do_not_wait_for_the_next_read(place: Site) -> None:
    """The end of an upload reaches the backend at once, though nothing follows it."""

    def answer_at_the_end(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    place.backend.script(answer_at_the_end)
    with connect(place) as client:
        stream = client.open(place.host, method="POST", end=False)
        client.send(stream, b"hi")
        wait_until(lambda: place.backend.received, "the head at the backend")
        client.send_trailers(stream, [("x-up", "1")])
        assert client.response(stream).status == 200
    assert place.backend.last.trailers == [("x-up", "1")]


@pytest.mark.parametrize(
    "name", ["x-cf-applicationid", "x_forwarded_client_cert", "x-client-verify", "x-amzn-mtls-clientcert", "x_tls_client_cert"]
)
def test_a_trailer_cannot_say_what_a_field_cannot(place: Site, name: str) -> None:
    """A name that no client may write in a head, in any spelling, does not come behind the body either."""
    place.backend.script(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-CF-Proxy-Signature: s\r\nX-Sum: 5\r\n\r\n")
    with connect(place) as client:
        answer = client.request(place.host, method="POST", body=b"hi", trailers=[(name, "forged"), ("x-up", "1")])
    assert answer.trailers == [("x-sum", "5")]
    assert place.seen().trailers == [("x-up", "1")]
