"""A TLS client that is OpenSSL in all but what it sends: every flight passes through a function of the test's.

    with MangledClient(port, Tls("app.example"), lambda number, flight: [flight]) as client:
        answer = client.ask(b"GET / HTTP/1.1\\r\\nHost: app.example\\r\\n\\r\\n")

The function gets the flight's number (0 is the ClientHello) and its bytes, and returns the segments to send. What is not
encrypted (the first flight, and in TLS 1.2 the client's certificate and its proof of the key) can so be made anything.
"""

import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import Self, TypeVar

from OpenSSL import SSL

from tests.support.client import READ_ALERT, TIMEOUT, Tls, client_context
from tests.support.client_hellos import vector

CERTIFICATE, CERTIFICATE_VERIFY = 11, 15
"""Types of handshake messages."""

T = TypeVar("T")

Mangle = Callable[[int, bytes], Iterable[bytes]]


def open_flight(flight: bytes) -> tuple[dict[int, bytes], bytes]:
    """A client's second TLS 1.2 flight: the bodies of its messages in the clear by type, in order, and the rest (encrypted)."""
    clear, at = b"", 0
    while flight[at] == 22:
        end = at + 5 + int.from_bytes(flight[at + 3 : at + 5])
        clear, at = clear + flight[at + 5 : end], end
    bodies: dict[int, bytes] = {}
    while clear:
        end = 4 + int.from_bytes(clear[1:4])
        bodies[clear[0]], clear = clear[4:end], clear[end:]
    return bodies, flight[at:]


def seal_flight(bodies: Iterable[tuple[int, bytes]], rest: bytes) -> bytes:
    """The reverse of `open_flight`, for any messages in any order."""
    clear = b"".join(bytes([kind]) + vector(3, body) for kind, body in bodies)
    records = (clear[at : at + (1 << 14)] for at in range(0, len(clear), 1 << 14))
    return b"".join(b"\x16\x03\x03" + vector(2, record) for record in records) + rest


def with_certificate(der: bytes, flight: bytes) -> bytes:
    """The second flight with this certificate for its own: one that OpenSSL would not send."""
    bodies, rest = open_flight(flight)
    bodies[CERTIFICATE] = vector(3, vector(3, der))
    return seal_flight(bodies.items(), rest)


class MangledClient:
    """One connection; the first flight is sent at once. `alert` is the fatal alert that came, None while there is none."""

    def __init__(self, port: int, tls: Tls, mangle: Mangle) -> None:
        self.alert: int | None = None
        self._mangle = mangle
        self._number = 0
        self.tls = SSL.Connection(client_context(tls, self._saw), None)
        if tls.sni is not None:
            self.tls.set_tlsext_host_name(tls.sni if isinstance(tls.sni, bytes) else tls.sni.encode())
        self.tls.set_connect_state()
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(SSL.WantReadError):
            self.tls.do_handshake()
        self._flush()

    def ask(self, request: bytes) -> bytes:
        """Finish the handshake, send the request: the first bytes of the answer, b"" where the server ended it instead."""
        try:
            self._until(self.tls.do_handshake)
            self.tls.send(request)
            self._flush()
            return self._until(lambda: self.tls.recv(65536))
        except (SSL.Error, ConnectionError):
            return b""

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _until(self, step: Callable[[], T]) -> T:
        while True:
            try:
                result = step()
            except SSL.WantReadError:
                self._flush()
            else:
                self._flush()
                return result
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the server closed")
            self.tls.bio_write(data)

    def _flush(self) -> None:
        flight = b""
        with contextlib.suppress(SSL.WantReadError):
            while True:
                flight += self.tls.bio_read(65536)
        if flight:
            number, self._number = self._number, self._number + 1
            # The server may have refused, and closed, before it had read everything: its alert is still to be read.
            with contextlib.suppress(ConnectionError):
                for segment in self._mangle(number, flight):
                    self.socket.sendall(segment)

    def _saw(self, _connection: SSL.Connection, where: int, value: int) -> None:
        if where == READ_ALERT and value >> 8 == 2:
            self.alert = value & 0xFF
