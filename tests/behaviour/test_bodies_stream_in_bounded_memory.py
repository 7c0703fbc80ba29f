"""Bodies stream with back-pressure: a large one costs the router no more memory than a small one."""

import hashlib
import select
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.backend import Exchange
from tests.support.client import Client, Tls
from tests.support.register import Registrar
from tests.support.router import RouterProcess, wait_until
from tests.support.site import Site, site

SIZE = 2**28
PIECE = bytes(range(256)) * 1024  # 256 KiB
GROWTH_KIB = 4 * 1024


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


def _digest(count: int) -> str:
    digest = hashlib.blake2b()
    for _ in range(count):
        digest.update(PIECE)
    return digest.hexdigest()


class Sink:
    """A step that reads a chunked or plain body of SIZE bytes without keeping it, then answers with its digest."""

    def __init__(self) -> None:
        self.taken = 0

    def __call__(self, exchange: Exchange) -> None:
        digest = hashlib.blake2b()
        while self.taken < SIZE:
            data = exchange.recv(2**20)
            assert data
            digest.update(data)
            self.taken += len(data)
        answer = digest.hexdigest().encode()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))


def _warmed(place: Site, tls: Tls | None) -> Client:
    """A connection that has served a request in both directions already, so that what it costs once is spent."""
    client = place.client(tls)
    assert client.request(place.host, method="POST", body=PIECE).status == 200
    return client


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_a_large_request_body_costs_no_memory(place: Site, over_tls: bool) -> None:
    """256 MiB from client to backend: the router grows by less than 4 MiB, and not a byte changes."""
    with _warmed(place, Tls(sni=place.host) if over_tls else None) as client:
        sink = Sink()
        place.backend.script(sink)
        before = place.router.resident_kib()
        client.send(b"POST / HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n\r\n" % (place.host.encode(), SIZE))
        count = SIZE // len(PIECE)
        most = before
        for number in range(count):
            client.send(PIECE)
            if number % 64 == 0:
                most = max(most, place.router.resident_kib())
        response = client.read_response()
        assert response.body.decode() == _digest(count)
        assert max(most, place.router.resident_kib()) - before < GROWTH_KIB


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("framing", ["content_length", "chunked"])
def test_a_large_response_body_costs_no_memory(place: Site, over_tls: bool, framing: str) -> None:
    """256 MiB from backend to client, of stated length or chunked: the router grows by less than 4 MiB."""
    count = SIZE // len(PIECE)

    def pour(exchange: Exchange) -> None:
        if framing == "chunked":
            exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(count):
                exchange.send(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
            exchange.send(b"0\r\n\r\n")
        else:
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
            for _ in range(count):
                exchange.send(PIECE)

    with _warmed(place, Tls(sni=place.host) if over_tls else None) as client:
        place.backend.script(pour)
        before = most = place.router.resident_kib()
        client.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
        taken, looked = 0, 0
        while taken < SIZE:
            data = client.recv(2**20)
            assert data
            taken += len(data)
            if taken - looked > 2**24:
                looked = taken
                most = max(most, place.router.resident_kib())
        assert max(most, place.router.resident_kib()) - before < GROWTH_KIB


def test_a_slow_client_holds_back_the_backend(place: Site) -> None:
    """A client that reads nothing stops the backend: what the kernels hold is sent, no more, and the router does not grow."""
    poured = 0
    ended = threading.Event()

    def pour(exchange: Exchange) -> None:
        nonlocal poured
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        for _ in range(SIZE // len(PIECE)):
            exchange.send(PIECE)
            poured += len(PIECE)
        ended.set()

    with _warmed(place, None) as client:
        place.backend.script(pour)
        before = place.router.resident_kib()
        client.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
        assert client.recv(1) == b"H"
        _wait_until_still(lambda: poured)
        assert poured < SIZE // 2
        assert not ended.is_set()
        assert place.router.resident_kib() - before < GROWTH_KIB
        taken = 0
        while taken < SIZE:
            taken += len(client.recv(2**20))
        assert ended.wait(10)


def test_a_slow_backend_holds_back_the_client(place: Site) -> None:
    """A backend that reads nothing stops the client's body; the router does not grow."""
    go = threading.Event()
    sink = Sink()

    def lazy(exchange: Exchange) -> None:
        go.wait(20)
        sink(exchange)

    with _warmed(place, None) as client:
        place.backend.script(lazy)
        before = place.router.resident_kib()
        client.send(b"POST / HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n\r\n" % (place.host.encode(), SIZE))
        client.socket.setblocking(False)
        sent = 0
        while sent < SIZE and select.select([], [client.socket], [], 0.3)[1]:
            sent += client.socket.send(PIECE[: SIZE - sent])
        assert sent < SIZE // 2
        assert place.router.resident_kib() - before < GROWTH_KIB
        go.set()
        client.socket.setblocking(True)
        rest = SIZE - sent
        while rest:
            rest -= client.socket.send(PIECE[:rest])
        assert client.read_response().status == 200
    assert sink.taken == SIZE


def _wait_until_still(value: Callable[[], int]) -> None:
    """Wait until a number has not changed for a fifth of a second."""
    last, since = value(), time.monotonic()

    def still() -> bool:
        nonlocal last, since
        if (now := value()) != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > 0.2

    wait_until(still, "the backend to be held back")
