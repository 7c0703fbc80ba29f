"""Attack 61: Content-Length that says something else than the DATA frames (H2.CL). No backend may have a whole request of it."""

from collections.abc import Iterator

import pytest

from tests.attacks.floods import assert_refused_alone, attacker
from tests.support.http2_client import Code, data_frame, headers_frame
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site

SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh(place: Site) -> None:
    place.backend.clear()


@pytest.mark.parametrize(
    ("length", "pieces"),
    [
        ("5", [b"1234"]),
        ("5", [b""]),
        ("5", [b"12", b"34"]),
        ("5", [b"123456"]),
        ("0", [SMUGGLED]),
        ("5", [b"12", b"3456"]),
        ("100000", [b"x" * 10_000, b""]),
    ],
    ids=["too short", "nothing", "too short in two", "too long", "smuggled", "too long in two", "far too short"],
)
def test_a_length_that_the_data_does_not_keep_resets_the_stream(place: Site, length: str, pieces: list[bytes]) -> None:
    """Attack 61: RST_STREAM PROTOCOL_ERROR, and the backend's connection ends before its request is whole."""
    with attacker(place) as client:
        stream = client.next_stream()
        head = client.head(place.host, "/bad", method="POST", more=[("content-length", length)])
        data = [data_frame(stream, piece, end=piece is pieces[-1]) for piece in pieces]
        client.write(headers_frame(stream, head, end=False) + b"".join(data))
        assert client.response(stream).reset == Code.PROTOCOL_ERROR
        assert_refused_alone(client, stream, place)


@pytest.mark.parametrize("length", ["5", "1"])
def test_a_length_without_any_data_is_malformed(place: Site, length: str) -> None:
    """Attack 61: a head that ends its stream has no body."""
    with attacker(place) as client:
        stream = client.ask(client.head(place.host, "/bad", method="POST", more=[("content-length", length)]))
        assert_refused_alone(client, stream, place)


def test_a_length_that_trailers_cut_short_resets_the_stream(place: Site) -> None:
    """Attack 61: trailers end a body as DATA does."""
    with attacker(place) as client:
        stream = client.ask(client.head(place.host, "/bad", method="POST", more=[("content-length", "5")]), end=False)
        client.write(data_frame(stream, b"12") + headers_frame(stream, client.block([("x", "y")])))
        assert client.response(stream).reset == Code.PROTOCOL_ERROR
        assert_refused_alone(client, stream, place)


@pytest.mark.parametrize(
    "lengths",
    [["5", "6"], ["+5"], ["-1"], ["0x5"], ["5_0"], [" 5"], ["5, 6"], [""], ["5", ""], ["\u00b2"], ["99999999999999999999999"]],
    ids=str,
)
def test_a_length_that_is_none_is_malformed(place: Site, lengths: list[str]) -> None:
    """Attack 61: attack 44 in HTTP/2: the length goes on to an HTTP/1.1 backend, so its grammar is HTTP/1.1's."""
    with attacker(place) as client:
        fields = [("content-length", length) for length in lengths]
        stream = client.ask(client.head(place.host, "/bad", method="POST", more=fields), end=False)
        client.write(data_frame(stream, b"12345", end=True))
        assert_refused_alone(client, stream, place)


def test_data_behind_a_length_that_was_kept_is_not_sent_on(place: Site) -> None:
    """Attack 61: bytes that come after the body was whole reset the stream, and no next request on any backend connection."""
    with attacker(place) as client:
        stream = client.ask(client.head(place.host, "/bad", method="POST", more=[("content-length", "5")]), end=False)
        client.write(data_frame(stream, b"12345") + data_frame(stream, SMUGGLED, end=True))
        assert client.response(stream).reset == Code.PROTOCOL_ERROR
        assert client.response(client.ask(client.head(place.host, "/next"))).status == 200
    assert [one.request_line for one in place.backend.received if b"smuggled" in one.head or b"smuggled" in one.body] == []


def test_a_length_that_is_kept_is_served(place: Site) -> None:
    """Attack 61: the body in pieces, padded, with an empty frame at its end; its length reaches the backend once."""
    with attacker(place) as client:
        stream = client.ask(client.head(place.host, method="POST", more=[("content-length", "5")]), end=False)
        client.write(data_frame(stream, b"12") + data_frame(stream, b"345") + data_frame(stream, end=True))
        assert client.response(stream).status == 200
    seen = place.seen()
    assert (seen.all("content-length"), seen.all("transfer-encoding"), seen.body) == (["5"], [], b"12345")
