"""Attack 53: HTTP/2 spoken where HTTP/1.1 was agreed, plain or TLS, and HTTP/1.1 where HTTP/2 was. It must not be
tunnelled to a backend that understands it (h2c smuggling), nor half understood. The bytes are those of a real HTTP/2 library.
"""

from collections.abc import Iterator

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from tests.attacks.floods import assert_refused_alone, attacker
from tests.support.backend import Exchange
from tests.support.client import Tls, render_request
from tests.support.http2_client import PREFACE, Code, FrameClient
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


@pytest.mark.parametrize("alpn", [None, [], [b"http/1.1"], [b"h3"]], ids=["plain", "without ALPN", "http/1.1", "something else"])
def test_a_preface_is_refused(place: Site, alpn: list[bytes] | None) -> None:
    """Attack 53: an HTTP/2 preface where HTTP/2 was not agreed, is 505 and close; no backend sees a byte."""
    place.backend.clear()
    tls = None if alpn is None else Tls(sni=place.host, alpn=alpn)
    place.refuses(_preface_and_request(place.host), 505, tls=tls)
    assert place.backend.received == []


@pytest.mark.parametrize(
    "front", [b"", b"PRI * HTTP/2.0\r\n\r\n", PREFACE[:-1] + b"x"], ids=["nothing", "half a preface", "almost"]
)
def test_http_1_1_is_not_understood_where_http2_was_agreed(place: Site, front: bytes) -> None:
    """Attack 53: the first bytes must be the preface, to the last of them: PROTOCOL_ERROR and the end."""
    place.backend.clear()
    with FrameClient(place.router.ssl_port, Tls(sni=place.host), greet=False) as client:
        client.write(front + render_request(place.host) * 2)
        goodbye = client.wait_end()
        assert goodbye is None or goodbye.code == Code.PROTOCOL_ERROR
        assert [frame for frame in client.frames if frame.stream_id] == []
    assert place.backend.received == []


def test_an_upgrade_inside_http2_is_refused(place: Site) -> None:
    """Attack 53: there is no Upgrade in HTTP/2, to whatever (RFC 9113 section 8.2.2)."""
    place.backend.clear()
    with attacker(place) as client:
        stream = client.ask(client.head(place.host, "/bad", more=[("connection", "upgrade"), ("upgrade", "websocket")]))
        assert_refused_alone(client, stream, place)


def test_settings_of_an_upgrade_do_not_reach_a_backend(place: Site) -> None:
    """Attack 53: HTTP2-Settings belongs to the hop it was sent on."""
    place.backend.clear()
    with attacker(place) as client:
        assert client.response(client.ask(client.head(place.host, more=[("http2-settings", _upgrade_settings())]))).status == 200
    assert place.seen().all("http2-settings") == []


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
