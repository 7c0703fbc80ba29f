"""Attacks 46 to 48: chunked bodies that two programs could read in two ways. The head has gone to the backend by then, but no
byte of a client's framing ever does: the backend never has a whole request, and the connection to it is not used again.
"""

from collections.abc import Iterator

import pytest

from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


def _head(place: Site) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % place.host.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"0x2\r\nhi\r\n0\r\n\r\n",
        b"2_0\r\nhi\r\n0\r\n\r\n",
        b"+2\r\nhi\r\n0\r\n\r\n",
        b"-2\r\nhi\r\n0\r\n\r\n",
        b"\r\nhi\r\n0\r\n\r\n",
        b";ext\r\nhi\r\n0\r\n\r\n",
        b"g\r\nhi\r\n0\r\n\r\n",
        b"10000000000000002\r\nhi\r\n0\r\n\r\n",  # 2 in 64 bits
        b"ffffffffffffffff\r\nhi\r\n0\r\n\r\n",
        b"8000000000000000\r\nhi\r\n0\r\n\r\n",
        b"00000000000000000002\r\nhi\r\n0\r\n\r\n",
        b" 2\r\nhi\r\n0\r\n\r\n",
        b"2 \r\nhi\r\n0\r\n\r\n",
        b"2 ;ext\r\nhi\r\n0\r\n\r\n",
        b"2\t\r\nhi\r\n0\r\n\r\n",
        b"2\nhi\r\n0\r\n\r\n",
        b"2\rhi\r\n0\r\n\r\n",
        b"2\r\r\nhi\r\n0\r\n\r\n",
        b"2\r\nhi\n0\r\n\r\n",
        b"2\r\nhi\r0\r\n\r\n",
        b"2\r\nhi0\r\n\r\n",
        b"2\r\nhigh\r\n0\r\n\r\n",  # more data than stated
        b"2\r\nhi\r\n0\n\n",
        b"2\r\nhi\r\n0\r\n\n",
        b"2\r\nhi\r\n0\r\nX: y\n\r\n",
        b"2\r\nhi\r\n0\r\n X: y\r\n\r\n",
        b"2\r\nhi\r\n0\r\nX : y\r\n\r\n",
        b"2\r\nhi\r\n0\r\nno colon\r\n\r\n",
        b"2\r\nhi\r\n0\r\nX: \x00\r\n\r\n",
        b"2\x00\r\nhi\r\n0\r\n\r\n",
        b"\xd9\xa2\r\nhi\r\n0\r\n\r\n",  # ARABIC-INDIC DIGIT TWO
    ],
)
@pytest.mark.parametrize("pieces", [1, 2], ids=["whole", "after_the_head"])
def test_a_broken_chunk_ends_the_request(place: Site, body: bytes, pieces: int) -> None:
    """Attack 46: a chunk size or chunk end that is not exactly the grammar's is 400 and close; no whole request arrives."""
    place.backend.clear()
    head = _head(place)
    with place.client() as client:
        client.send(head + body if pieces == 1 else head)
        if pieces == 2:
            client.send(body)
        response = client.read_response()
        assert (response.status, response.get("x-cf-routererror")) == (400, "malformed_request")
        assert client.closed_by_server()
    assert [one for one in place.backend.received if one.complete] == []


def test_what_follows_a_broken_chunk_is_no_request(place: Site) -> None:
    """Attack 46: bytes behind a broken chunk are read by nobody; the backend connection that has half a request is closed."""
    place.backend.clear()
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode()
    with place.client() as client:
        client.send(_head(place) + b"2\r\nhigh\r\n0\r\n\r\n" + smuggled)
        assert client.read_response().status == 400
        assert client.closed_by_server()
    with place.client() as client:
        assert client.request(place.host, "/honest").status == 200
    whole = [one for one in place.backend.received if one.complete]
    assert [one.request_line for one in whole] == ["GET /honest HTTP/1.1"]
    broken = {one.connection for one in place.backend.received if not one.complete}
    assert whole[0].connection not in broken


@pytest.mark.parametrize(
    "body",
    [
        b"2;a\nb\r\nhi\r\n0\r\n\r\n",
        b"2;\n\r\nhi\r\n0\r\n\r\n",
        b"2;a=\x00\r\nhi\r\n0\r\n\r\n",
        b"2;a\rb\r\nhi\r\n0\r\n\r\n",
        b"2;" + b"x" * 65536 + b"\r\nhi\r\n0\r\n\r\n",
        b"2;" + b"x" * 65536,  # and never an end
        b"".join(b"1;%b\r\nx\r\n" % (b"y" * 1000) for _ in range(64)) + b"0\r\n\r\n",
    ],
    ids=["lf", "only_lf", "nul", "cr", "64_kib", "64_kib_without_end", "64_times_1_kib"],
)
def test_an_extension_that_is_broken_or_huge_is_refused(place: Site, body: bytes) -> None:
    """Attack 47: a chunk extension with a control byte, or 64 KiB of extensions, is 400."""
    place.backend.clear()
    place.refuses(_head(place) + body, 400)


def test_a_short_extension_is_taken_off(place: Site) -> None:
    """Attack 47: an ordinary chunk extension is legal, and never passed on."""
    place.backend.clear()
    with place.client() as client:
        client.send(_head(place) + b'2;name="value"\r\nhi\r\n0;last\r\n\r\n')
        assert client.read_response().status == 200
    assert place.seen().body == b"hi"


@pytest.mark.parametrize(
    "trailer",
    [
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Host: other.example",
        b"Connection: close",
        b"Authorization: Basic eA==",
        b"Cookie: a=b",
        b"X-Forwarded-For: 192.0.2.1",
        b"X-Forwarded-Client-Cert: forged",
        b"X_Forwarded_Client_Cert: forged",
        b"X-CF-InstanceID: forged",
        b"X-Vcap-Request-Id: forged",
        b"Client-Cert: forged",
        b"Trailer: X",
        b"TE: trailers",
        b"Upgrade: h2c",
        b"Content-Type: text/html",
    ],
)
def test_a_trailer_that_frames_routes_or_identifies_is_dropped(place: Site, trailer: bytes) -> None:
    """Attack 48: a trailer field that frames, routes, authenticates or identifies is not passed on; an innocent one is."""
    place.backend.clear()
    with place.client() as client:
        client.send(_head(place) + b"2\r\nhi\r\n0\r\n%b\r\nX-Sum: 1\r\n\r\n" % trailer)
        assert client.read_response().status == 200
    assert place.seen().trailers == [("x-sum", "1")]


@pytest.mark.parametrize(
    "trailers",
    [b"".join(b"X-%d: y\r\n" % number for number in range(100)), b"X: %b\r\n" % (b"y" * 65536)],
    ids=["100_fields", "64_kib"],
)
def test_a_flood_of_trailers_is_refused(place: Site, trailers: bytes) -> None:
    """Attack 48: more trailer fields or bytes than the bound end the request; no whole request arrives."""
    place.backend.clear()
    place.refuses(_head(place) + b"2\r\nhi\r\n0\r\n" + trailers + b"\r\n", 400)
