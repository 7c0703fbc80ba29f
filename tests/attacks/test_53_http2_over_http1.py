"""Attack 53: HTTP/2 spoken to an HTTP/1.1 listener, plain or TLS. It must neither be tunnelled to a backend that understands it
(h2c smuggling) nor be half understood here. The bytes are those of a real HTTP/2 library.
"""

from collections.abc import Iterator

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from tests.support.backend import Exchange
from tests.support.client import Tls
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


def _preface_and_request(host: str) -> bytes:
    """What an HTTP/2 client with prior knowledge sends: preface, SETTINGS, one GET."""
    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    names = [(":method", "GET"), (":path", "/smuggled"), (":scheme", "http"), (":authority", host)]
    connection.send_headers(1, names, end_stream=True)
    return bytes(connection.data_to_send())


def _upgrade_settings() -> str:
    """The HTTP2-Settings value of an h2c Upgrade request (RFC 7540 section 3.2.1)."""
    connection = H2Connection(H2Configuration(client_side=True))
    settings = connection.initiate_upgrade_connection()
    assert settings is not None
    return settings.decode()


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_a_preface_is_refused(place: Site, over_tls: bool) -> None:
    """Attack 53: an HTTP/2 preface with a request behind it is 505 and close; no backend sees a byte."""
    place.backend.clear()
    tls = Tls(sni=place.host, alpn=[b"h2", b"http/1.1"]) if over_tls else None
    place.refuses(_preface_and_request(place.host), 505, tls=tls)
    assert place.backend.received == []


def test_h2_is_not_chosen_by_alpn(place: Site) -> None:
    """Attack 53: where only HTTP/1.1 is served, ALPN says so, whatever the client prefers."""
    with place.client(Tls(sni=place.host, alpn=[b"h2", b"http/1.1"])) as client:
        assert client.tls is not None
        assert client.tls.get_alpn_proto_negotiated() == b"http/1.1"


def _upgrade(place: Site, connection: str) -> bytes:
    lines = [
        "GET /upgrade HTTP/1.1",
        f"Host: {place.host}",
        f"Connection: {connection}",
        "Upgrade: h2c",
        f"HTTP2-Settings: {_upgrade_settings()}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(
    "connection", ["Upgrade, HTTP2-Settings", "Upgrade", "upgrade,http2-settings, keep-alive", "HTTP2-Settings"]
)
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_an_h2c_upgrade_is_an_ordinary_request(place: Site, connection: str, over_tls: bool) -> None:
    """Attack 53: an h2c Upgrade request is served as HTTP/1.1; the backend is not told of it, so that it cannot agree."""
    place.backend.clear()
    with place.client(Tls(sni=place.host) if over_tls else None) as client:
        client.send(_upgrade(place, connection))
        assert client.read_response().status == 200
        assert client.request(place.host, "/next").status == 200
    upgrade, following = place.backend.received
    assert upgrade.all("upgrade") == upgrade.all("connection") == upgrade.all("http2-settings") == []
    assert following.request_line == "GET /next HTTP/1.1"


def test_a_backend_that_switches_to_h2c_gets_no_tunnel(place: Site) -> None:
    """Attack 53: a backend that answers 101 all the same is a 502, and HTTP/2 frames of the client reach nobody."""
    place.backend.clear()
    after: list[bytes] = []

    def agree(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        after.append(exchange.recv())

    place.backend.script(agree)
    with place.client() as client:
        client.send(_upgrade(place, "Upgrade, HTTP2-Settings"))
        response = client.read_response()
        assert (response.status, response.get("x-cf-routererror")) == (502, "endpoint_failure (malformed response)")
        client.send(_preface_and_request(place.host))
        refused = client.read_response()
        assert refused.status == 505
        assert client.closed_by_server()
    place.backend.wait_for(1)
    assert after == [b""]
    assert [one.request_line for one in place.backend.received] == ["GET /upgrade HTTP/1.1"]
