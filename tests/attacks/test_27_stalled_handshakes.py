"""Attack 27: clients that begin a TLS handshake and never end it."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
from OpenSSL import SSL

from tests.attacks.conftest import MakeRegistrar
from tests.conftest import EAST, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential
from tests.support.client import Tls, get
from tests.support.client_hellos import in_records, message, server_name
from tests.support.nats import NatsServer
from tests.support.register import unique_host
from tests.support.router import RouterProcess, lone, mtls_domain, wait_until

DEADLINE = 0.6
"""Seconds of the configured handshake deadline."""

PATIENCE = 30.0
"""Seconds after which a connection counts as never closed, on a machine however busy."""

CROWD = 300


def hello(name: str) -> bytes:
    """A whole ClientHello as OpenSSL makes it."""
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    connection.set_tlsext_host_name(name.encode())
    connection.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(65536)


@contextlib.contextmanager
def crowd(port: int, said: bytes) -> Iterator[list[socket.socket]]:
    """CROWD connections that have all said this, each at once."""
    made: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        while len(made) < CROWD:
            made.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE)))
            with contextlib.suppress(ConnectionError):  # closed already: it was late, and is counted all the same
                made[-1].sendall(said)
        yield made


def drip(one: socket.socket, said: bytes) -> None:
    """A byte now and then."""
    for byte in said:
        one.sendall(bytes([byte]))
        time.sleep(0.02)


def ended(one: socket.socket) -> None:
    """Read this connection to its end, or its reset; TimeoutError where neither comes."""
    with contextlib.suppress(ConnectionError):
        while one.recv(65536):
            pass


def timed_out(router: RouterProcess) -> float:
    """Connections closed for a deadline: of the handshake, or, where a busy machine lost time between the two, of the hello."""
    return sum(router.metric("connections_refused", reason=reason) for reason in ("timeout", "hello_timeout"))


@pytest.fixture
def stalls(
    make_router: MakeRouter, make_registrar: MakeRegistrar, nats_server: NatsServer, east_ca: CA, backend: EchoBackend
) -> tuple[RouterProcess, str]:
    router = make_router(tls_handshake_timeout=f"{DEADLINE}s", mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)])
    host = unique_host(EAST)
    make_registrar(nats_server, router).register(host, backend=backend, options={"mtls_allow_any": True})
    return router, host


def test_stalled_handshakes_time_out_and_leave_nothing_behind(stalls: tuple[RouterProcess, str], caller: Credential) -> None:
    """Attack 27: hundreds that stop before Finished, round after round: others are served, all are closed, memory is flat."""
    router, host = stalls
    assert get(router.ssl_port, host, tls=Tls(host, caller)).status == 200
    files, resident = router.open_files(), []
    for number in range(1, 4):
        began = time.monotonic()
        with crowd(router.ssl_port, hello(host)) as made:
            assert get(router.ssl_port, host, tls=Tls(host, caller)).status == 200
            for one in made:
                ended(one)
            assert time.monotonic() - began >= DEADLINE
        wait_until(lambda expected=number * CROWD: timed_out(router) >= expected, "all to be counted")  # type: ignore[misc]
        wait_until(lambda: router.open_files() <= files + 1, "descriptors to be given back")
        resident.append(router.resident_kib())
    assert timed_out(router) == 3 * CROWD
    assert resident[-1] - resident[0] < 4 * 1024, f"KiB after each round: {resident}"


def test_a_handshake_that_drips_is_measured_from_its_start(stalls: tuple[RouterProcess, str]) -> None:
    """Attack 27: a byte now and then does not move the deadline, neither of the hello nor of what follows it."""
    router, host = stalls
    for first, then in ((b"", hello(host)), (hello(host), b"\x14\x03\x03\x00\x01\x01\x17\x03\x03\x40\x00" + bytes(1000))):
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", router.ssl_port), PATIENCE) as one:
            one.sendall(first)
            with pytest.raises(ConnectionError):  # long before the last byte, which is due after twenty seconds at the earliest
                drip(one, then)
        assert time.monotonic() - began >= DEADLINE


def test_too_many_at_once_shed_the_oldest(
    make_router: MakeRouter, make_registrar: MakeRegistrar, nats_server: NatsServer, east_ca: CA, backend: EchoBackend,
    caller: Credential,
) -> None:  # fmt: skip
    """Attack 27: with `max_handshakes` reached the one that dawdles longest is closed, and an honest client is served."""
    limit = 50
    router = make_router(workers=lone(), max_handshakes=limit, mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)])
    host = unique_host(EAST)
    make_registrar(nats_server, router).register(host, backend=backend, options={"mtls_allow_any": True})
    with crowd(router.ssl_port, hello(host)) as made:
        shed = CROWD - limit
        assert get(router.ssl_port, host, tls=Tls(host, caller)).status == 200
        router.wait_for_metric("connections_shed", shed + 1, reason="max_handshakes")
        wait_until(lambda: router.metric("connections_open") < limit, "the ones that were shed to be closed")
        ended(made[0])
    wait_until(lambda: router.metric("connections_open") == 0, "all to be gone")
    assert router.metric("connections_shed", reason="max_handshakes") == shed + 1


def test_a_hello_that_openssl_never_answers_holds_no_place(stalls: tuple[RouterProcess, str], caller: Credential) -> None:
    """Attack 27: hellos that OpenSSL refuses at once (no shared cipher) are gone at once, not at the deadline."""
    router, host = stalls
    with crowd(router.ssl_port, in_records(message([server_name(host.encode())], b"\x00\x05"))) as made:
        for one in made:
            ended(one)
        assert get(router.ssl_port, host, tls=Tls(host, caller)).status == 200
    router.wait_for_metric("tls_handshakes", CROWD, domain=f"*.{EAST}", result="no_shared_cipher")
