"""Attack 69: CONNECT. There is no tunnel to anywhere, whatever a request line or an upgrade calls it."""

from collections.abc import Iterator

import pytest

from tests.support.client import Tls
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
