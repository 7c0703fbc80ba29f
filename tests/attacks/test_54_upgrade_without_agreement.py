"""Attack 54: an upgrade that the two sides do not agree on. HTTP's framing stays in force until a backend has agreed to just what
its client asked for: until then the client's connection is never joined to the backend's.
"""

import contextlib
import threading
from collections.abc import Iterator

import pytest

from tests.support.backend import Exchange
from tests.support.client import Client, Tls
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site
from tests.support.websocket import KEY, Reader, accept_of, echo, frame, open_websocket, opening, read_frame, server, switching

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
ACCEPT = b"Sec-WebSocket-Accept: " + accept_of(KEY).encode() + b"\r\n"
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh(place: Site) -> None:
    place.backend.clear()


def second(place: Site) -> bytes:
    return f"GET /admin HTTP/1.1\r\nHost: {place.host}\r\n\r\n".encode()


def test_an_upgrade_answered_with_200_stays_http(place: Site) -> None:
    """Attack 54: after a 200 to an upgrade request the next bytes are a request, judged like any other, not a tunnel's."""
    place.backend.script(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
    with place.client() as client:
        client.send(opening(place.host))
        assert client.read_response().body == b"no"
        client.send(b"\x81\x85raw frames\r\n\r\n")
        assert client.read_response().status == 400
        assert client.closed_by_server()
    assert len(place.backend.received) == 1


def test_a_request_behind_a_refused_upgrade_passes_the_doors_itself(place: Site) -> None:
    """Attack 54: smuggling by a WebSocket of an unknown version; a strict Host behind it is a 421, not a passenger."""
    place.backend.script(b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n")
    hidden = b"GET /secret HTTP/1.1\r\nHost: hidden.east.example\r\n\r\n"
    with place.client() as client:
        client.send(opening(place.host).replace(b"Version: 13", b"Version: 1337") + hidden)
        assert client.read_response().status == 426
        response = client.read_response()
        assert (response.status, response.get("x-cf-routererror")) == (421, "mtls_domain_mismatch")
    assert [one.request_line for one in place.backend.received] == ["GET / HTTP/1.1"]


def test_a_request_behind_an_agreed_upgrade_is_not_parsed(place: Site) -> None:
    """Attack 54: once the backend has agreed, whatever looks like HTTP is its protocol's and goes nowhere else."""

    def repeat(exchange: Exchange) -> None:
        exchange.send(exchange.recv())
        exchange.close()

    place.backend.script(server(repeat))
    with place.client() as client:
        client.send(opening(place.host) + second(place))
        assert client.read_response().status == 101
        assert client.read_all() == second(place)
    assert len(place.backend.received) == 1


WRONG = {
    "no digest": SWITCH + UPGRADE + b"\r\n",
    "digest of another key": switching("AAAAAAAAAAAAAAAAAAAAAA=="),
    "the key itself": SWITCH + UPGRADE + f"Sec-WebSocket-Accept: {KEY}\r\n\r\n".encode(),
    "two digests": SWITCH + UPGRADE + ACCEPT + ACCEPT + b"\r\n",
    "no Connection": SWITCH + b"Upgrade: websocket\r\n" + ACCEPT + b"\r\n",
    "no Upgrade": SWITCH + b"Connection: Upgrade\r\n" + ACCEPT + b"\r\n",
    "another protocol": SWITCH + UPGRADE.replace(b"websocket", b"h2c") + ACCEPT + b"\r\n",
    "two protocols": SWITCH + UPGRADE.replace(b"websocket", b"websocket, h2c") + ACCEPT + b"\r\n",
    "a body": SWITCH + UPGRADE + ACCEPT + b"Content-Length: 5\r\n\r\n",
    "a coding": SWITCH + UPGRADE + ACCEPT + b"Transfer-Encoding: chunked\r\n\r\n",
    "after too many others": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17 + SWITCH + UPGRADE + ACCEPT + b"\r\n",
}


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("answer", [pytest.param(WRONG[name], id=name) for name in WRONG])
def test_a_101_that_is_no_agreement_is_a_bad_gateway(place: Site, answer: bytes, over_tls: bool) -> None:
    """Attack 54: 502; nothing behind it reaches the client, nothing more the backend, whose connection ends."""
    after: list[bytes] = []
    ended = threading.Event()

    def switch(exchange: Exchange) -> None:
        exchange.send(answer + FORGED)
        with contextlib.suppress(ConnectionError):
            after.append(exchange.recv())
        ended.set()

    failures, upgrades = (place.router.metric(f"websocket_{what}") for what in ("failures", "upgrades"))
    place.backend.script(switch)
    with place.client(Tls(sni=place.host) if over_tls else None) as client:
        client.send(opening(place.host) + second(place))
        response = client.read_response()
        assert (response.status, response.get("x-cf-routererror")) == (502, "endpoint_failure (malformed response)")
        assert b"forged" not in response.body
        assert client.read_response().status == 200
    assert ended.wait(10)
    assert after in ([b""], [])
    first, admin = place.backend.wait_for(2)
    assert (first.connection != admin.connection, admin.request_line) == (True, "GET /admin HTTP/1.1")
    assert place.router.metric("websocket_failures") == failures + 1
    assert place.router.metric("websocket_upgrades") == upgrades


@pytest.mark.parametrize(
    "request_head",
    [
        "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {key}\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {key}\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {key}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: foo/1\r\nSec-WebSocket-Key: {key}\r\n\r\n",
    ],
    ids=["plain request", "no Connection", "HTTP/1.0", "POST", "another protocol"],
)
def test_a_101_that_was_not_asked_for_is_a_bad_gateway(place: Site, request_head: str) -> None:
    """Attack 54: the backend's switch is its own affair."""
    after: list[bytes] = []
    ended = threading.Event()

    def switch(exchange: Exchange) -> None:
        exchange.send(switching(KEY) + FORGED)
        with contextlib.suppress(ConnectionError):
            after.append(exchange.recv())
        ended.set()

    place.backend.script(switch)
    with place.client() as client:
        client.send(request_head.format(host=place.host, key=KEY).encode())
        response = client.read_response()
        assert (response.status, response.get("x-cf-routererror")) == (502, "endpoint_failure (malformed response)")
        assert b"forged" not in response.body
    assert ended.wait(10)
    assert after in ([b""], [])


def test_what_follows_the_first_101_belongs_to_the_protocol(place: Site) -> None:
    """Attack 54: a second 101 is bytes like any other; the client sees it only because its backend sent it to this client."""
    place.backend.script(server(lambda exchange: exchange.close(), first=switching("", protocol="h2c") + FORGED))
    with place.client() as client:
        open_websocket(client, place.host)
        assert client.read_all() == switching("", protocol="h2c") + FORGED
    assert len(place.backend.received) == 1


def test_a_frame_that_claims_terabytes_is_only_bytes(place: Site) -> None:
    """Attack 54: frames are not read here, so their lengths reserve nothing, and a mask is nobody's business."""
    head = b"\x82\xff" + (1 << 62).to_bytes(8, "big") + b"\0\0\0\0"
    before = place.router.resident_kib()

    def count(exchange: Exchange) -> None:
        exchange.send(str(len(Reader(exchange.recv)(len(head) + 1000))).encode())
        exchange.close()

    place.backend.script(server(count))
    with place.client() as client:
        open_websocket(client, place.host)
        client.send(head + bytes(1000))
        assert client.read_all() == str(len(head) + 1000).encode()
    assert place.router.resident_kib() - before < 4096


def test_an_upgraded_connection_disturbs_no_neighbour(place: Site) -> None:
    """Attack 54: beside one that streams, others are served, and its bytes reach nobody else."""
    place.backend.script(echo)
    with place.client() as client, Client(place.router.port) as neighbour:
        open_websocket(client, place.host)
        for number in range(20):
            client.send(frame(b"%d" % number * 5000, masked=True))
            assert neighbour.request(place.host).status == 200
            assert read_frame(Reader(client.recv)) == b"%d" % number * 5000
