"""Attack 52: heads meant to fill the memory. 431 and close at the bound, long before the client is done."""

import select
import threading
from collections.abc import Iterator

import pytest

from tests.support.backend import Exchange
from tests.support.register import Registrar
from tests.support.router import RouterProcess, wait_until
from tests.support.site import Site, site

CODE = "max-request-size-exceeded"


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


def _fields(count: int) -> bytes:
    return b"".join(b"X-%d: y\r\n" % number for number in range(count))


@pytest.mark.parametrize(
    "lines",
    [_fields(10_000), _fields(128), b"X: " + b"y" * 2**20 + b"\r\n", b"X" * 2**20 + b": y\r\n", b"X: y" * 2**17],
    ids=["10_000_fields", "one_field_too_many", "1_mib_value", "1_mib_name", "no_end"],
)
def test_too_many_or_too_large_fields_are_refused(place: Site, lines: bytes) -> None:
    """Attack 52: 10,000 fields, or 1 MiB of one, are 431 and close; the backend sees nothing."""
    place.refuses(b"GET / HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (place.host.encode(), lines), 431, CODE)
    assert place.backend.received == []


@pytest.mark.parametrize("lines", [_fields(127), b"X: " + b"y" * 65_000 + b"\r\n"], ids=["128_fields", "64_kib"])
def test_the_most_that_is_allowed_passes(place: Site, lines: bytes) -> None:
    """Attack 52: a head at the bounds (128 fields, nearly 64 KiB) is served, so the bound and nothing else refuses."""
    place.backend.clear()
    with place.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (place.host.encode(), lines))
        assert client.read_response().status == 200
    place.backend.clear()


def test_memory_stays_flat_under_many_heads_that_do_not_end(place: Site) -> None:
    """Attack 52: 100 connections that each hold all but the end of a 64 KiB head cost no more than those heads."""
    unfinished = b"GET / HTTP/1.1\r\nHost: %b\r\nX: " % place.host.encode() + b"y" * 65_000
    clients = [place.client() for _ in range(100)]
    try:
        for client in clients[:5]:
            client.send(unfinished)
        before = place.router.resident_kib()
        for client in clients[5:]:
            client.send(unfinished)
        with place.client() as honest:
            assert honest.request(place.host).status == 200
        assert place.router.resident_kib() - before < 95 * 3 * 64
    finally:
        for client in clients:
            client.close()
        place.backend.clear()


def test_what_is_pipelined_behind_a_slow_request_is_not_read(place: Site) -> None:
    """Attack 52: what a client sends behind a request that is being served stays in the kernel; memory does not grow."""
    answer = threading.Event()

    def slow(exchange: Exchange) -> None:
        answer.wait(20)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    place.backend.script(slow)
    with place.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
        wait_until(lambda: place.backend.received, "the request at the backend")
        before = place.router.resident_kib()
        client.socket.setblocking(False)
        sent = 0
        while sent < 2**26 and select.select([], [client.socket], [], 0.3)[1]:
            sent += client.socket.send(b"x" * 65_536)
        assert sent < 2**26
        assert place.router.resident_kib() - before < 1024
        answer.set()
        client.socket.setblocking(True)
        assert client.read_response().status == 200
    place.backend.clear()
