"""Attacks 74 and 75: names that lead nowhere, names in pieces, and one name with two owners."""

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from router.demo.process import free_port
from tests.conftest import MakeRouter
from tests.support.certs import authority
from tests.support.client_hellos import in_records, message, server_name, split_again
from tests.support.nats import NatsServer
from tests.support.router import RouterProcess, mtls_domain, server_credential, tls_pem, wait_until

NAME = b"tunnel.example"
NAMES = 2_000


def hello(*extensions: tuple[int, bytes]) -> bytes:
    return in_records(message([*extensions, (43, b"\2\3\4")]))


@dataclass(frozen=True)
class Place:
    """A router whose one TLS port passes NAME through and terminates what it has a certificate for."""

    router: RouterProcess
    backend: socket.socket
    port: int

    def visit(self, *pieces: bytes) -> bytes | None:
        """What the client hears, None for a reset."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
            try:
                for piece in pieces:
                    sock.sendall(piece)
                return sock.recv(100)
            except (ConnectionResetError, BrokenPipeError):
                return None

    def is_as_before(self, files: int) -> None:
        """Once every connection has ended, the router holds what it held."""
        wait_until(lambda: self.router.metric("connections_open") == 0, "every connection to end")
        wait_until(lambda: self.router.open_files() <= files, "the descriptors to be closed")

    def refused(self, reason: str) -> float:
        return self.router.metric_values("connections_refused").get(f'reason="{reason}"', 0.0)


@pytest.fixture(scope="module")
def place(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with socket.create_server(("127.0.0.1", 0)) as backend:
        backend.settimeout(10)
        port = free_port()
        route = {"hostname": NAME.decode(), "backend": f"127.0.0.1:{backend.getsockname()[1]}"}
        listeners = [{"port": port, "kind": "tls", "routes": [route]}]
        with RouterProcess(tmp_path_factory.mktemp("passing"), nats=nats_server, listeners=listeners) as router:
            made = Place(router, backend, port)
            files = router.open_files()
            yield made
            made.is_as_before(files)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (hello(), "no_sni"),
        (hello((0xFE0D, b"\0\0\1\0\1\x17\0\0\0\0"), server_name(b"public.example")), "ech"),
        (hello(server_name(b"other.example")), "unknown_sni"),
        (hello(server_name(b"x" + NAME)), "unknown_sni"),
        (hello(server_name(NAME, NAME)), "two_names"),
        (b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfd" + bytes(16_376), "too_large"),
        (b"\x80\x2e\x01\x00\x02" + bytes(44), "not_tls"),
    ],
    ids=["none", "outer name", "unknown", "almost", "two", "16 KiB and a byte", "SSLv2"],
)
def test_a_connection_without_a_route_is_reset(place: Place, said: bytes, reason: str) -> None:
    """Attack 74: never a default backend, and no alert that would tell one refusal from another."""
    before = place.refused(reason)
    assert place.visit(said) is None
    assert place.refused(reason) == before + 1


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_hello_in_pieces_finds_its_route(place: Place, size: int) -> None:
    """Attack 74: over records and segments of any size; the backend gets it as it was sent."""
    said = split_again(hello(server_name(NAME)), size)
    with socket.create_connection(("127.0.0.1", place.port), 10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(said), 50):
            sock.sendall(said[at : at + 50])
        there, _ = place.backend.accept()
        with there:
            heard = b""
            while len(heard) < len(said):
                heard += there.recv(65536)
            assert heard == said


def test_half_a_hello_is_reset_at_its_deadline(place: Place) -> None:
    """Attack 74: within five seconds."""
    started = time.monotonic()
    assert place.visit(hello(server_name(NAME))[:40]) is None
    assert 4.5 <= time.monotonic() - started < 8
    assert place.refused("hello_timeout") >= 1


def test_names_without_end_leave_nothing_that_grows(place: Place) -> None:
    """Attack 74: a million names are refused as one is; no series, no descriptor and no memory remembers them."""

    def ask(numbers: range) -> None:
        for number in numbers:
            assert place.visit(hello(server_name(f"n{number}.example".encode()))) is None

    ask(range(NAMES // 4))
    before, files, memory = place.refused("unknown_sni"), place.router.open_files(), place.router.resident_kib()
    series = place.router.metrics().count("\n")
    ask(range(NAMES // 4, NAMES + NAMES // 4))
    assert place.refused("unknown_sni") == before + NAMES
    assert place.router.metrics().count("\n") == series
    assert place.router.resident_kib() - memory < 1024
    place.is_as_before(files)


def test_one_name_with_two_owners_is_refused_and_the_first_one_stays(make_router: MakeRouter) -> None:
    """Attack 75: no race; the conflict names both, and the old configuration stays."""
    port = free_port()
    pair = tls_pem(server_credential())
    through = {"hostname": "a.open.example", "backend": "127.0.0.1:1"}
    ended = {**through, "mode": "l7", "tls_cert": pair["cert_chain"], "tls_key": pair["private_key"]}
    router = make_router(listeners=[{"port": port, "kind": "tls", "routes": [through]}])
    assert router.reload(listeners=[{"port": port, "kind": "tls", "routes": [through, ended]}]) == {'result="error"': 1}
    problem = router.wait_for_event("config-problem")
    assert "a.open.example" in problem
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), 10)) as sock:
        sock.sendall(hello(server_name(b"a.open.example")))
        with pytest.raises(ConnectionResetError):  # its backend is not there: it is passed through still
            sock.recv(1)
    assert "dial_failed" in router.wait_for_log("a.open.example")


def test_a_name_under_an_mtls_domain_is_not_passed_through(make_router: MakeRouter) -> None:
    """Attack 75: a route around the lock is an error of the configuration."""
    route = {"hostname": "a.east.example", "backend": "127.0.0.1:1"}
    listeners = [{"port": free_port(), "kind": "tls", "routes": [route]}]
    domains = [mtls_domain("*.east.example", authority("east instance identity"))]
    router = make_router(start=False, listeners=listeners, mtls_domains=domains)
    with pytest.raises(AssertionError, match=r"a\.east\.example"):
        router.start()
