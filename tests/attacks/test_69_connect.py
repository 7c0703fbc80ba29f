"""Attack 69: CONNECT. There is no tunnel to anywhere, whatever a request line, an upgrade or a pseudo-field calls it."""

from collections.abc import Iterator

import pytest
from hyperframe.frame import SettingsFrame

from tests.attacks.floods import attacker
from tests.support.client import Tls
from tests.support.http2_client import Code, data_frame
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site
from tests.support.websocket import KEY

WEBSOCKET = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "head",
    [
        "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n",
        "CONNECT {backend} HTTP/1.1\r\nHost: {backend}\r\n",
        "CONNECT {host}:80 HTTP/1.0\r\n",
        "CONNECT / HTTP/1.1\r\nHost: {host}\r\n",
        "CONNECT https://{host}/ HTTP/1.1\r\nHost: {host}\r\n",
        "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\n" + WEBSOCKET,
        "CONNECT /chat HTTP/1.1\r\nHost: {host}\r\nProtocol: websocket\r\n" + WEBSOCKET,
    ],
    ids=["host and port", "the backend", "HTTP/1.0", "path", "absolute", "with an upgrade", "as in HTTP/2"],
)
def test_connect_opens_no_tunnel(place: Site, head: str, over_tls: bool) -> None:
    """Attack 69: R297: 405 with the methods that are served, then the end; bytes behind it reach nobody."""
    place.backend.clear()
    data = head.format(host=place.host, backend=place.backend.address) + "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"
    response = place.refuses(data.encode(), 405, tls=Tls(sni=place.host) if over_tls else None)
    assert "CONNECT" not in (response.get("allow") or "CONNECT")
    assert "GET" in (response.get("allow") or "")


CONNECTS = {
    "host and port": [(":authority", "{host}:443")],
    "host": [(":authority", "{host}")],
    "the backend": [(":authority", "{backend}")],
    "with a path": [(":scheme", "https"), (":authority", "{host}"), (":path", "/")],
    "without an authority": [(":scheme", "https"), (":path", "/")],
    "nothing": [],
    "extended": [(":protocol", "websocket"), (":scheme", "https"), (":authority", "{host}"), (":path", "/chat")],
    "extended, without a path": [(":protocol", "websocket"), (":authority", "{host}")],
}


@pytest.mark.parametrize("pseudo", CONNECTS.values(), ids=list(CONNECTS))
def test_connect_over_http2_opens_no_tunnel(place: Site, pseudo: list[tuple[str, str]]) -> None:
    """Attack 69: 405, 400 or a reset for that stream; its data reaches nobody, and the connection goes on."""
    place.backend.clear()
    pairs = [(name, value.format(host=place.host, backend=place.backend.address)) for name, value in pseudo]
    with attacker(place) as client:
        stream = client.ask(client.block([(":method", "CONNECT"), *pairs]), end=False)
        client.write(data_frame(stream, b"GET /tunnel HTTP/1.1\r\nHost: x\r\n\r\n"))
        answer = client.response(stream)
        assert answer.status in (0, 400, 405), answer
        if answer.status == 405:
            assert "CONNECT" not in (answer.get("allow") or "CONNECT")
        elif not answer.status:
            assert answer.reset == Code.PROTOCOL_ERROR
        assert client.response(client.ask(client.head(place.host, "/next"))).status == 200
    assert [one.request_line for one in place.backend.received] == ["GET /next HTTP/1.1"]


def test_extended_connect_is_not_offered(place: Site) -> None:
    """Attack 69: without SETTINGS_ENABLE_CONNECT_PROTOCOL no client may ask for it (RFC 8441 section 3)."""
    with attacker(place) as client:
        assert client.response(client.ask(client.head(place.host))).status == 200
        (settings,) = [frame for frame in client.frames if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags]
        assert SettingsFrame.ENABLE_CONNECT_PROTOCOL not in settings.settings
