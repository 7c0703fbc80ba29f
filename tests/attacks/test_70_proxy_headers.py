"""Attacks 70 to 73: PROXY headers that are malformed, not believed, doubled or held open."""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from router.demo.process import free_port
from router.wire.proxy_protocol import render_v1, render_v2
from tests.support.client_hellos import in_records, message, server_name
from tests.support.nats import NatsServer
from tests.support.router import RouterProcess, wait_until

CLIENT, HERE = ("203.0.113.7", 40_000), ("192.0.2.1", 443)
HELLO = in_records(message([server_name(b"tunnel.example"), (43, b"\2\3\4")]))
BLOCK = render_v2(CLIENT, HERE)
SIGNATURE = BLOCK[:12]
LINE = b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n"
ABORT = struct.pack("ii", 1, 0)
CROWD = 300
PIPE = 2
"""Descriptors of the one that is kept for the next relay."""

MALFORMED = [
    b"proxy TCP4 203.0.113.7 192.0.2.1 40000 443\r\n",
    b" PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n",
    b"PROXY  TCP4 203.0.113.7 192.0.2.1 40000 443\r\n",
    b"PROXY\tTCP4 203.0.113.7 192.0.2.1 40000 443\r\n",
    b"PROXY TCP5 203.0.113.7 192.0.2.1 40000 443\r\n",
    b"PROXY UDP4 203.0.113.7 192.0.2.1 40000 443\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 40000\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443 \r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443 1\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r \n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 65536 443\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 -1 443\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 040000 443\r\n",
    b"PROXY TCP4 203.0.113.256 192.0.2.1 40000 443\r\n",
    b"PROXY TCP4 203.0.113 192.0.2.1 40000 443\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 40000 443\r\n",
    b"PROXY TCP6 203.0.113.7 192.0.2.1 40000 443\r\n",
    b"PROXY TCP6 2001:db8::1%eth0 2001:db8::2 40000 443\r\n",
    b"PROXY TCP4 localhost 192.0.2.1 40000 443\r\n",
    b"PROXY UNKNOWN " + b"x" * 107 + b"\r\n",
    b"PROXY \r\n",
    SIGNATURE + b"\x11" + BLOCK[13:],
    SIGNATURE + b"\x22" + BLOCK[13:],
    BLOCK[:13] + b"\x12" + BLOCK[14:],
    BLOCK[:13] + b"\x31" + BLOCK[14:],
    BLOCK[:14] + b"\x00\x0b" + BLOCK[16:],
    BLOCK[:14] + b"\x02\x09" + BLOCK[16:] + bytes(600),
    BLOCK[:14] + b"\x00\x0d" + BLOCK[16:] + b"\x01",
    b"\r\n\r\n\0\r\nQUIT\r" + BLOCK[12:],
]


@dataclass(frozen=True)
class Place:
    """A router whose ports want a PROXY header from 127.0.0.2 and believe nobody else."""

    router: RouterProcess
    backend: socket.socket
    tls: int
    tcp: int

    def visit(self, port: int, said: bytes, source: str = "127.0.0.2") -> bytes | None:
        """What the client hears, None for a reset, which may come before it knows that it is connected."""
        try:
            with socket.create_connection(("127.0.0.1", port), 10, (source, 0)) as sock:
                sock.sendall(said)
                return sock.recv(100)
        except (ConnectionResetError, BrokenPipeError):
            return None

    def nobody_was_reached(self) -> bool:
        self.backend.settimeout(0.0)
        try:
            self.backend.accept()[0].close()
        except BlockingIOError:
            return True
        return False

    def is_as_before(self, files: int) -> None:
        """Once every connection has ended, the router holds what it held, and at most a pipe more for each worker."""
        wait_until(lambda: self.router.metric("connections_open") == 0, "every connection to end")
        wait_until(lambda: self.router.open_files() <= files + PIPE * self.router.width, "the descriptors to be closed")


@pytest.fixture(scope="module")
def place(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with socket.create_server(("127.0.0.1", 0)) as backend:
        to = f"127.0.0.1:{backend.getsockname()[1]}"
        tls, tcp = free_port(), free_port()
        proxied = {"proxy_protocol": True, "proxy_protocol_trusted": ["127.0.0.2/32"]}
        listeners = [
            {"port": tls, "kind": "tls", **proxied, "routes": [{"hostname": "tunnel.example", "backend": to}]},
            {"port": tcp, "kind": "tcp", **proxied, "routes": [{"backend": to}]},
        ]
        with RouterProcess(tmp_path_factory.mktemp("proxied"), nats=nats_server, listeners=listeners) as router:
            made = Place(router, backend, tls, tcp)
            files = router.open_files()
            yield made
            made.is_as_before(files)


def refused(place: Place, reason: str) -> float:
    return place.router.metric_values("connections_refused").get(f'reason="{reason}"', 0.0)


@pytest.mark.parametrize("header", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_header_is_a_reset_and_nothing_is_forwarded(place: Place, header: bytes) -> None:
    """Attack 70: whatever follows it, on both kinds of port."""
    for port in (place.tls, place.tcp):
        assert place.visit(port, header + HELLO) is None
    assert place.nobody_was_reached()


@contextlib.contextmanager
def visitor(port: int) -> Iterator[socket.socket]:
    """Somebody at an address whose headers are believed."""
    with socket.create_connection(("127.0.0.1", port), 10, ("127.0.0.2", 0)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def good_headers_pass(place: Place) -> None:
    for header in (LINE, BLOCK):
        place.backend.settimeout(10)
        with visitor(place.tls) as sock:
            sock.sendall(header + HELLO)
            there, _ = place.backend.accept()
            with there:
                assert there.recv(65536) == HELLO


def test_a_good_header_passes(place: Place) -> None:
    """Attack 70: what the refusals are compared with."""
    good_headers_pass(place)
    assert '"203.0.113.7:40000"' in place.router.wait_for_log("tunnel.example")


def test_a_header_from_a_stranger_is_a_reset_and_so_is_a_connection_without_one(place: Place) -> None:
    """Attack 71: never optional by guess; the address of the peer decides, and it alone."""
    before = refused(place, "proxy_untrusted")
    assert place.visit(place.tls, BLOCK + HELLO, source="127.0.0.1") is None
    assert place.visit(place.tls, HELLO, source="127.0.0.1") is None
    assert place.visit(place.tls, HELLO) is None
    assert refused(place, "proxy_untrusted") == before + 2
    assert place.nobody_was_reached()


@pytest.mark.parametrize("second", [LINE, BLOCK, render_v1(("198.51.100.1", 1), HERE)], ids=["v1", "v2", "another's"])
@pytest.mark.parametrize("first", [LINE, BLOCK], ids=["v1", "v2"])
def test_two_headers_are_a_reset(place: Place, first: bytes, second: bytes) -> None:
    """Attack 72: the second would be the client's own word about itself."""
    for port in (place.tls, place.tcp):
        assert place.visit(port, first + second + HELLO) is None
    assert place.nobody_was_reached()


BEGUN = {"nothing": b"", "v1": LINE[:20], "v2": BLOCK[:15], "all but a byte": BLOCK[:-1]}


def held_open(port: int, said: bytes) -> float:
    """Begin a header and say no more: the seconds until the reset."""
    started = time.monotonic()
    with visitor(port) as sock:
        sock.sendall(said)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    return time.monotonic() - started


def in_drops(port: int) -> float:
    """A header of which a byte comes now and then: the seconds until the reset, which is before its end."""
    started = time.monotonic()
    with visitor(port) as sock:
        sock.settimeout(0.2)
        assert any(is_reset_behind(sock, byte) for byte in LINE)
    return time.monotonic() - started


def is_reset_behind(sock: socket.socket, byte: int) -> bool:
    """Whether that byte is the last; else after the socket's timeout."""
    try:
        sock.sendall(bytes([byte]))
        sock.recv(1)
    except TimeoutError:
        return False
    except (ConnectionResetError, BrokenPipeError):
        return True
    raise AssertionError("an end, where a reset was due")


def test_a_header_that_is_held_open_or_comes_in_drops_ends_within_five_seconds(place: Place) -> None:
    """Attack 73: each byte is news, and none of them is a reprieve; nothing is left behind, as the place counts at its end."""
    with ThreadPoolExecutor(len(BEGUN) + 1) as at_once:
        waits = {name: at_once.submit(held_open, place.tcp, said) for name, said in BEGUN.items()}
        waits["in drops"] = at_once.submit(in_drops, place.tcp)
        seconds = {name: wait.result() for name, wait in waits.items()}
    assert {name: took for name, took in seconds.items() if not 4.5 <= took < 8} == {}
    assert place.nobody_was_reached()
    wait_until(lambda: place.router.metric("l4_open") == 0, "the end")


def test_a_crowd_that_begins_and_says_no_more_is_gone_at_the_deadline_and_hinders_nobody(place: Place) -> None:
    """Attack 73: hundreds at once; a good header passes meanwhile, and nothing of theirs stays."""
    files = place.router.open_files()
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(visitor(place.tls)) for _ in range(CROWD)]
        for number, sock in enumerate(crowd):
            sock.sendall((LINE[:20], BLOCK, BLOCK + HELLO[:40])[number % 3])
        started = time.monotonic()
        good_headers_pass(place)
        assert time.monotonic() - started < 3
        for sock in crowd:
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert time.monotonic() - started < 12  # a header's deadline, and a hello's behind it
    place.is_as_before(files)


def test_a_reset_at_each_step_leaves_nothing_behind(place: Place) -> None:
    """Attacks 70 to 73: before the header, within it, behind it, within the hello, and when both sides are joined."""
    files = place.router.open_files()
    for said in (b"", LINE[:20], BLOCK[:15], BLOCK, BLOCK + HELLO[:20], BLOCK + HELLO, LINE + HELLO + bytes(100_000)):
        for port in (place.tls, place.tcp):
            with visitor(port) as sock:
                sock.sendall(said)
                wait_until(lambda: place.router.metric("connections_open") == 1, "it to be looked at")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            wait_until(lambda: place.router.metric("connections_open") == 0, "its end")
    place.is_as_before(files)
    while not place.nobody_was_reached():
        pass
