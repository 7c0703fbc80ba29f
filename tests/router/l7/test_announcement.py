"""router/l7/announcement.py: PROXY headers to backends of L7, in this process, on both event loops."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from registry.endpoint import Endpoint
from registry.hostname import Host
from registry.options import parse_options
from router.wire.malformed import Malformed
from router.wire.proxy_protocol import TlsFacts, parse_proxy_header, render_v2
from tests.router.desk import EAST, Desk, desk, in_thread, raw
from tests.support.certs import Credential, authority, name_of
from tests.support.client import Client, Tls

HOST = "www.open.example"
STRICT = f"www.{EAST}"
EAST_CA = authority("east instance identity")
ASK = b"GET / HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Introduced:
    """A backend that wants a PROXY header first, and keeps its connections; `headers` are their first bytes."""

    def __init__(self) -> None:
        self.headers: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(10)
        data = b""
        with sock, contextlib.suppress(OSError):
            while (header := parse_proxy_header(data)) is None:
                data += sock.recv(65536)
            size = 0 if isinstance(header, Malformed) else header.size
            self.headers.append(data[:size])
            data = data[size:]
            while True:
                while b"\r\n\r\n" not in data:
                    piece = sock.recv(65536)
                    if not piece:
                        return
                    data += piece
                data = b""
                sock.sendall(ANSWER)


@pytest.fixture
def introduced() -> Iterator[Introduced]:
    with Introduced() as made:
        yield made


def hold(one: Desk, host: str, port: int, form: Any) -> None:
    endpoint = Endpoint("127.0.0.1", port, ttl=1e9, send_proxy=form, options=parse_options({"mtls_allow_any": True}, 1024))
    one.ledger.hold({Host(host): (endpoint,)}, one.loop.time())
    one.live.table = one.ledger.publish()


def sources(introduced: Introduced) -> list[object]:
    headers = [parse_proxy_header(data) for data in introduced.headers]
    return [header.source if header is not None and not isinstance(header, Malformed) else header for header in headers]


@pytest.mark.parametrize(("form", "begin"), [("v1", b"PROXY TCP4 "), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c")])
async def test_a_backend_connection_names_its_client_and_is_never_anothers(
    introduced: Introduced, form: str, begin: bytes
) -> None:
    """R76, R92, R98, R108: before the first byte of a request; not kept, so that no other client stands behind the name."""
    async with desk() as one:
        hold(one, HOST, introduced.port, form)
        clients = []
        for _ in range(2):
            with raw(one) as sock:
                for _ in range(2):
                    sock.sendall(ASK)
                    assert (await in_thread(sock.recv, 65536)).startswith(b"HTTP/1.1 200 ")
                    clients.append(sock.getsockname()[:2])
            await one.idle()
        assert sources(introduced) == clients
        assert all(header.startswith(begin) for header in introduced.headers)
        assert one.live.snapshot.idle.size == 0


async def test_without_it_no_header_is_sent(introduced: Introduced) -> None:
    """R33, R76: off unless the operator wants it."""
    async with desk() as one:
        hold(one, HOST, introduced.port, "")
        with raw(one) as sock:
            sock.sendall(ASK)
            assert (await in_thread(sock.recv, 65536)).startswith(b"HTTP/1.1 200 ")
        await one.idle()
        assert introduced.headers == [b""]


async def said_of(introduced: Introduced, host: str, credential: Credential | None) -> tuple[bytes, Any]:
    """(the header, the same client's connection as the router saw it)."""
    async with desk() as one:
        hold(one, host, introduced.port, "v2-ssl-cn")

        def call() -> int:
            with Client(one.port(tls=True), Tls(sni=host, credential=credential)) as client:
                return client.request(host).status

        assert await in_thread(call) == 200
        await one.idle()
        return introduced.headers[-1], (one.seen[0].address, one.seen[0].port)


async def test_what_the_handshake_proved_is_told_where_that_is_wanted(introduced: Introduced) -> None:
    """Version, server name, and the common name of a certificate that was verified; without one, that there was none."""
    where = ("127.0.0.1", introduced.port)
    header, client = await said_of(introduced, HOST, EAST_CA.issue_instance("app-1", instance="instance-1"))
    assert header == render_v2(client, where, TlsFacts("TLSv1.3", HOST))  # an open host asks for no certificate


async def test_a_verified_client_has_its_common_name(introduced: Introduced) -> None:
    """In a domain that demands certificates; one of two names would be the sender's choice, so then there is none."""
    where, unit = ("127.0.0.1", introduced.port), [(NameOID.ORGANIZATIONAL_UNIT_NAME, "app:app-1")]
    two = name_of([unit, [(NameOID.COMMON_NAME, "a")], [(NameOID.COMMON_NAME, "b")]])
    for credential, told in (
        (EAST_CA.issue_instance("app-1", instance="instance-1"), "instance-1"),
        (EAST_CA.issue(two, san=[x509.DNSName("a.example")]), None),
    ):
        header, client = await said_of(introduced, STRICT, credential)
        assert header == render_v2(client, where, TlsFacts("TLSv1.3", STRICT, verified=True, common_name=told))


async def test_on_the_plain_port_there_is_no_tls_to_tell(introduced: Introduced) -> None:
    """The address, and nothing else."""
    async with desk() as one:
        hold(one, HOST, introduced.port, "v2-ssl-cn")
        with raw(one) as sock:
            sock.sendall(ASK)
            assert (await in_thread(sock.recv, 65536)).startswith(b"HTTP/1.1 200 ")
            assert introduced.headers == [render_v2(sock.getsockname()[:2], ("127.0.0.1", introduced.port))]
