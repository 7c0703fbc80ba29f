"""X-Forwarded-For, -Proto, -Host, Forwarded and X-Real-IP: the router's word, and whose word it takes."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.behaviour.conftest import ANY, OPEN, At, json_log
from tests.behaviour.place import Call, Place, make_place
from tests.support.backend import Received
from tests.support.certs import Credential
from tests.support.client import Client, Tls
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import RouterProcess

Headers = list[tuple[str, str]]
NAMES = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "x-real-ip")
FORGED: Headers = [
    ("X-Forwarded-For", "203.0.113.7"),
    ("X-Forwarded-Proto", "gopher"),
    ("X-Forwarded-Host", "evil.example"),
    ("Forwarded", "for=203.0.113.7;host=evil.example;proto=gopher"),
    ("X-Real-IP", "203.0.113.7"),
]
PROXIED: Headers = [
    ("X-Forwarded-For", "198.51.100.1, 203.0.113.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "www.example"),
]


def told(received: Received) -> dict[str, str | None]:
    return {name: received.get(name) for name in NAMES}


def ours(host: str, proto: str) -> dict[str, str]:
    forwarded = f'for=127.0.0.1;host="{host}";proto={proto}'
    return dict(zip(NAMES, ("127.0.0.1", proto, host, forwarded, "127.0.0.1"), strict=True))


@pytest.mark.parametrize("headers", [[], FORGED, FORGED + FORGED], ids=["none", "forged", "twice"])
@pytest.mark.parametrize("plain", [True, False], ids=["http", "https"])
def test_whatever_a_client_says_is_replaced_by_what_the_router_knows(at: At, headers: Headers, plain: bool) -> None:
    """R27, R28, R29, R30, K4, decision 9: each is stripped and set: the client's address, http or https as it came, its host."""
    place = at(OPEN)
    call = place.call(plain=plain, headers=headers)
    assert told(call.at_backend) == ours(place.host, "http" if plain else "https")


def test_no_look_alike_of_them_arrives(at: At) -> None:
    """R27, decision 9: underscores for hyphens, other X-Forwarded-*, and names in Connection change nothing."""
    names = ["X_Forwarded_For", "X-Forwarded_Proto", "x_real_ip", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Ssl"]
    place = at(OPEN)
    connection = ("Connection", "X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Forwarded, X-Real-IP")
    received = place.call(plain=True, headers=[*((name, "forged-value") for name in names), connection]).at_backend
    assert b"forged-value" not in received.head
    assert told(received) == ours(place.host, "http")


def test_the_same_holds_on_an_mtls_domain(at: At, alice: Credential) -> None:
    """R27, R28: a certificate makes nobody a trusted proxy."""
    place = at(ANY, {"mtls_allow_any": True})
    assert told(place.call(alice, headers=FORGED).at_backend) == ours(place.host, "https")


def test_the_host_is_told_as_the_client_wrote_it(at: At) -> None:
    """R30: X-Forwarded-Host is the original Host, port and case included, and so is Host itself."""
    place = at(OPEN)
    asked = f"{place.host.upper()}:8080"
    received = place.call(plain=True, host=asked).at_backend
    assert (received.get("host"), received.get("x-forwarded-host")) == (asked, asked)


def ask_from(place: Place, address: str, headers: Sequence[tuple[str, str]] = (), *, tls: bool = False) -> Call:
    """A request from a client at this loopback address."""
    port, settings = (place.router.ssl_port, Tls(place.host)) if tls else (place.router.port, None)
    with Client(port, settings, host=address) as client:
        return place.ask(client, headers=headers)


def test_an_ipv6_client_is_written_as_rfc_7239_asks(at: At) -> None:
    """R28, R31: bare in X-Forwarded-For, bracketed and quoted in Forwarded."""
    place = at(OPEN)
    received = ask_from(place, "::1").at_backend
    assert (received.get("x-forwarded-for"), received.get("x-real-ip")) == ("::1", "::1")
    assert received.get("forwarded") == f'for="[::1]";host="{place.host}";proto=http'


@pytest.mark.parametrize(
    "preface",
    [
        b"PROXY TCP4 203.0.113.7 127.0.0.1 1 80\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([203, 0, 113, 7, 127, 0, 0, 1, 0, 1, 0, 80]),
    ],
    ids=["v1", "v2"],
)
def test_a_proxy_protocol_header_is_no_request(at: At, preface: bytes) -> None:
    """R33, R34: the PROXY protocol is off: its header is a malformed request, never a client address."""
    place = at(OPEN)
    with Client(place.router.port) as client:
        client.send(preface + f"GET / HTTP/1.1\r\nHost: {place.host}\r\n\r\n".encode())
        assert client.read_response().status == 400
        assert client.closed_by_server()
    assert place.backends[0].received == []


@pytest.fixture(scope="module")
def behind(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """A router that trusts the proxy at 127.0.0.1, and nobody at ::1."""
    directory = tmp_path_factory.mktemp("behind")
    with RouterProcess(
        directory, nats=nats_server, trusted_proxies=["127.0.0.1", "10.0.0.0/8"], access_log=json_log(directory)
    ) as process:
        yield process


@pytest.fixture
def place(behind: RouterProcess, nats_server: NatsServer) -> Iterator[Place]:
    with Registrar(nats_server.port, behind) as registrar:
        made = make_place(behind, registrar, OPEN)
        made.register()
        yield made
        made.leave()


def test_a_trusted_proxy_is_appended_to_and_believed(place: Place) -> None:
    """R28, K4, decision 9: from `trusted_proxies` X-Forwarded-For grows by the peer, -Proto and -Host are kept and logged."""
    call = place.call(plain=True, headers=PROXIED)
    assert told(call.at_backend) == {
        "x-forwarded-for": "198.51.100.1, 203.0.113.7, 127.0.0.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "www.example",
        "forwarded": 'for=198.51.100.1;host="www.example";proto=https, for=203.0.113.7, for=127.0.0.1',
        "x-real-ip": "127.0.0.1",
    }
    record = call.record
    assert (record["x_forwarded_for"], record["x_forwarded_proto"]) == ("198.51.100.1, 203.0.113.7, 127.0.0.1", "https")


def test_a_trusted_proxy_that_says_nothing_is_told_on(place: Place) -> None:
    """R28, R29, R30: with nothing to keep, the values are those of the connection."""
    assert told(place.call(plain=True).at_backend) == ours(place.host, "http")


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("X-Forwarded-Proto", "ht tp", "http"),
        ("X-Forwarded-Proto", "", "http"),
        ("X-Forwarded-Proto", 'https"', "http"),
        ("X-Forwarded-Host", "a b", None),
        ("X-Forwarded-Host", 'x";proto=gopher', None),
    ],
)
def test_a_proxys_value_of_no_known_form_is_not_kept(place: Place, name: str, value: str, kept: str | None) -> None:
    """R29, R30: trust does not extend to what could break the field that carries it."""
    received = place.call(plain=True, headers=[(name, value)]).at_backend
    assert received.get(name) == (kept or place.host)
    assert received.get("forwarded") == f'for=127.0.0.1;host="{place.host}";proto=http'


def test_who_is_not_in_the_list_is_not_believed(place: Place) -> None:
    """R27, K4: the same headers from another address are replaced."""
    received = ask_from(place, "::1", PROXIED).at_backend
    assert (received.get("x-forwarded-for"), received.get("x-forwarded-proto")) == ("::1", "http")
    assert received.get("x-forwarded-host") == place.host


@pytest.mark.parametrize(
    ("config", "tls", "proto"),
    [
        ({"sanitize_forwarded_proto": True}, False, "http"),
        ({"sanitize_forwarded_proto": True}, True, "https"),
        ({"force_forwarded_proto_https": True}, False, "https"),
        ({"force_forwarded_proto_https": True, "sanitize_forwarded_proto": True}, False, "https"),
    ],
)
def test_the_operator_may_sanitize_or_force_the_proto(place: Place, config: dict[str, Any], tls: bool, proto: str) -> None:
    """R29, decision 9: `sanitize_forwarded_proto` overrules a trusted proxy, `force_forwarded_proto_https` everybody."""
    router = place.router
    off = {"sanitize_forwarded_proto": False, "force_forwarded_proto_https": False}
    try:
        assert router.reload(**{**off, **config}) == {'result="ok"': 1}
        received = ask_from(place, "127.0.0.1", [("X-Forwarded-Proto", "gopher")], tls=tls).at_backend
        assert received.get("x-forwarded-proto") == proto
        assert (received.get("forwarded") or "").endswith(f"proto={proto}")
        if "force_forwarded_proto_https" in config:
            assert ask_from(place, "::1").at_backend.get("x-forwarded-proto") == "https"
    finally:
        router.reload(**off)


def test_xfcc_never_follows_trusted_proxies(place: Place) -> None:
    """R312, decision 9: a trusted proxy's X-Forwarded-Client-Cert is as little believed as anybody's."""
    received = place.call(plain=True, headers=[("X-Forwarded-Client-Cert", "forged")]).at_backend
    assert received.all("x-forwarded-client-cert") == []
