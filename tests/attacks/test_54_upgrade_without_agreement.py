"""Attack 54: an upgrade that the two sides do not agree on. HTTP's framing stays in force: whatever a backend says, the client's
connection is never joined to the backend's.
"""

from collections.abc import Iterator

import pytest

from tests.support.backend import Exchange
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
WEBSOCKET = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


def test_an_upgrade_answered_with_200_stays_http(place: Site) -> None:
    """Attack 54: after a 200 to an upgrade request the next bytes are a request, judged like any other, not a tunnel's."""
    place.backend.clear()
    place.backend.script(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
    with place.client() as client:
        assert client.request(place.host, headers=WEBSOCKET).body == b"no"
        client.send(b"\x81\x85raw frames\r\n\r\n")
        assert client.read_response().status == 400
        assert client.closed_by_server()
    assert len(place.backend.received) == 1


@pytest.mark.parametrize("headers", [(), WEBSOCKET], ids=["not_asked_for", "asked_for"])
def test_a_switch_of_protocols_is_a_bad_gateway(place: Site, headers: tuple[tuple[str, str], ...]) -> None:
    """Attack 54: 101, asked for or not, is a 502 while no upgrade is served: nothing behind it reaches the client, and the
    backend's connection is closed.
    """
    place.backend.clear()
    after: list[bytes] = []

    def switch(exchange: Exchange) -> None:
        exchange.send(SWITCH + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
        after.append(exchange.recv())

    place.backend.script(switch)
    with place.client() as client:
        response = client.request(place.host, headers=headers)
        assert (response.status, response.get("x-cf-routererror")) == (502, "endpoint_failure (malformed response)")
        assert b"forged" not in response.body
        assert client.request(place.host).status == 200
    first, second = place.backend.wait_for(2)
    assert after == [b""]
    assert first.connection != second.connection
