"""Attacks 58 and 60: fields of HTTP/2 that HTTP/1.1 would read differently, and two names of one host."""

from collections.abc import Iterator

import pytest

from tests.attacks.conftest import Door, assert_unseen
from tests.attacks.floods import assert_refused_alone, attacker
from tests.support.client import Tls
from tests.support.http2_client import Code, FrameClient, data_frame, headers_frame
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site

SMUGGLED = b"x\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh(place: Site) -> None:
    place.backend.clear()


BAD_FIELDS = [
    (b"transfer-encoding", b"chunked"),
    (b"transfer-encoding", b""),
    (b"connection", b"close"),
    (b"connection", b"x-forwarded-client-cert"),
    (b"keep-alive", b"timeout=5"),
    (b"proxy-connection", b"keep-alive"),
    (b"upgrade", b"websocket"),
    (b"te", b"gzip"),
    (b"te", b"trailers, gzip"),
    (b"X-Capital", b"value"),
    (b"x-capitaL", b"value"),
    (b"x\r\nx-forwarded-client-cert", b"value"),
    (b"x\nx", b"value"),
    (b"x\0x", b"value"),
    (b"x x", b"value"),
    (b"x:x", b"value"),
    (b"x: y\r\nz", b"value"),
    (b"x\x7f", b"value"),
    (b"x\xe9", b"value"),
    (b"x(", b"value"),
    (b"", b"value"),
    (b"x", SMUGGLED),
    (b"x", b"a\nb: c"),
    (b"x", b"a\rb"),
    (b"x", b"a\0b"),
    (b"x", b" value"),
    (b"x", b"value "),
    (b"x", b"\tvalue"),
    (b"x", b"value\t"),
    (b"cookie", b"a=b\r\nx: y"),
]


@pytest.mark.parametrize(("name", "value"), BAD_FIELDS, ids=str)
def test_a_field_that_http_1_1_reads_differently_is_refused(place: Site, name: bytes, value: bytes) -> None:
    """Attack 58: 400 or a reset for that stream; the connection, with its compression state, goes on."""
    with attacker(place) as client:
        stream = client.ask(client.head(place.host, "/bad", more=[(name, value)]))
        assert_refused_alone(client, stream, place)


@pytest.mark.parametrize(
    ("name", "value"), [*BAD_FIELDS, (b":path", b"/other"), (b":status", b"200"), (b":unknown", b"x")], ids=str
)
def test_such_a_field_in_trailers_is_refused(place: Site, name: bytes, value: bytes) -> None:
    """Attack 58: the stream is reset before its request is whole, so the backend never has the whole of it."""
    with attacker(place) as client:
        stream = client.ask(client.head(place.host, "/bad", method="POST"), end=False)
        client.write(data_frame(stream, b"body") + headers_frame(stream, client.block([(name, value)])))
        assert client.response(stream).reset == Code.PROTOCOL_ERROR
        assert_refused_alone(client, stream, place)


def test_te_trailers_is_the_one_that_is_allowed(place: Site) -> None:
    """Attack 58: `te: trailers` is no attack, so it is the rule and nothing else that refuses the others."""
    with attacker(place) as client:
        assert client.response(client.ask(client.head(place.host, more=[("te", "trailers")]))).status == 200


@pytest.mark.parametrize("end", [True, False], ids=["whole", "trailers that go on"])
def test_trailers_end_their_stream(place: Site, end: bool) -> None:
    """Attack 58: a second header block without the end of the stream is malformed (RFC 9113 section 8.1)."""
    with attacker(place) as client:
        stream = client.ask(client.head(place.host, "/bad", method="POST"), end=False)
        client.write(headers_frame(stream, client.block([("x", "y")]), end=end))
        if end:
            assert client.response(stream).status == 200
        else:
            assert client.response(stream).reset == Code.PROTOCOL_ERROR
            assert_refused_alone(client, stream, place)


@pytest.mark.parametrize("end", [True, False], ids=["without a body", "with a body"])
def test_bytes_that_follow_a_refused_head_reach_nobody(place: Site, end: bool) -> None:
    """Attack 58: the body of a malformed request is dropped, also where the client sends all it has."""
    with attacker(place) as client:
        stream = client.ask(client.head(place.host, "/bad", method="POST", more=[("upgrade", "x")]), end=end)
        if not end:
            client.write(data_frame(stream, b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", end=True))
        assert_refused_alone(client, stream, place)


# 60: two names of one host


@pytest.mark.parametrize(
    "hosts",
    [
        ["other.open.example"],
        ["{host}", "{host}"],
        ["{host}", "other.open.example"],
        ["other.open.example", "{host}"],
        [""],
        ["{host}:8080"],
        ["{host}, other.open.example"],
        ["other.open.example#{host}"],
    ],
    ids=str,
)
def test_a_host_beside_another_authority_is_refused(place: Site, hosts: list[str]) -> None:
    """Attack 60: 400, whichever of the two a backend might believe (GoRouter and HAProxy answer 200)."""
    with attacker(place) as client:
        fields = [("host", host.format(host=place.host)) for host in hosts]
        stream = client.ask(client.head(place.host, "/bad", more=fields))
        assert_refused_alone(client, stream, place)


def test_a_host_that_says_the_same_is_served(place: Site) -> None:
    """Attack 60: two fields that agree, in whatever case, are one host; the backend gets it once."""
    with attacker(place) as client:
        assert client.response(client.ask(client.head(place.host, more=[("host", place.host.upper())]))).status == 200
    assert place.seen().all("host") == [place.host]


def test_a_host_alone_is_served(place: Site) -> None:
    """Attack 60: Host without `:authority` is what a gateway in front may send (RFC 9113 section 8.3.1)."""
    with attacker(place) as client:
        pseudo = [(":method", "GET"), (":scheme", "https"), (":path", "/")]
        assert client.response(client.ask(client.block([*pseudo, ("host", place.host)]))).status == 200
    assert place.seen().all("host") == [place.host]


def test_neither_of_two_domains_is_reached(router: RouterProcess, strict: Door, open_door: Door) -> None:
    """Attack 60: an open authority with a strict Host, and the other way round: 400 or 421, and nobody saw it."""
    with FrameClient(router.ssl_port, Tls(open_door.host)) as client:
        for authority, host in ((open_door.host, strict.host), (strict.host, open_door.host)):
            answer = client.response(client.ask(client.head(authority, more=[("host", host)])))
            assert answer.refusal in ((400, "malformed_request"), (421, "mtls_domain_mismatch"))
        bare = [(":method", "GET"), (":scheme", "https"), (":path", "/"), ("host", strict.host)]
        assert client.response(client.ask(client.block(bare))).refusal == (421, "mtls_domain_mismatch")
    assert_unseen(strict, open_door)
