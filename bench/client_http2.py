"""Load by HTTP/2 over TLS: every connection keeps its streams busy (RFC 9113). Used where h2load is not installed.

Promises: each answer is a 200 that is read to its end; whatever else comes is an error. The header block is the same for every
request and uses no dynamic table, so that the generator costs little. Refuses to know: what a response's fields say but for
their first, the status.
"""

import contextlib
import select
import socket
import ssl
import struct
import time

from bench.client_http1 import GRACE_SECONDS, PIECE, AnswerError, spoken, tls_context
from bench.order import Done, Order
from bench.waits import gather

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = (1 << 31) - 1
"""For streams and connections: the proxy sets the pace."""
REFILL = 1 << 30
"""Bytes after which a connection's window is opened again."""

_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY, _UPDATE = 0x0, 0x1, 0x4, 0x6, 0x7, 0x8
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_HEAD = struct.Struct(">BHBBI")
_INITIAL_WINDOW, _ENABLE_PUSH = 0x4, 0x2
_STATUS_200 = 0x88
"""The whole field, as every encoder writes it (RFC 7541 appendix A)."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Bytes of one frame."""
    return _HEAD.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def request_block(host: str, path: str) -> bytes:
    """GET over https; literals without indexing."""
    return b"\x82\x87" + _literal(b"\x04", path) + _literal(b"\x01", host) + _literal(b"\x0f\x2b", "bench")


def is_ok(block: bytes) -> bool:
    """Whether a response's first field is the status 200; a change of the table's size may stand before it."""
    at = 0
    while at < len(block) and block[at] & 0xE0 == 0x20:
        more = block[at] & 0x1F == 0x1F
        at += 1
        while more and at < len(block):
            more = block[at] & 0x80 != 0
            at += 1
    return at < len(block) and block[at] == _STATUS_200


class _Connection:
    """One connection and the streams that it waits for."""

    def __init__(self, sock: ssl.SSLSocket, block: bytes) -> None:
        self.sock = sock
        self.asked: dict[int, float] = {}
        self.data = bytearray()
        self.out = bytearray()
        self.received = 0
        self._block = block
        self._next = 1

    def ask(self) -> None:
        """One more request; `flush` sends it."""
        self.out += frame(_HEADERS, _END_STREAM | _END_HEADERS, self._next, self._block)
        self.asked[self._next] = time.perf_counter()
        self._next += 2

    def flush(self) -> None:
        """Send what waits; requests are small, so that it goes in one piece."""
        if self.out:
            self.sock.sendall(self.out)
            self.out.clear()


class Http2Runner:
    """Drives them all."""

    def __init__(self, order: Order) -> None:
        self.done = Done()
        self._order = order
        self._context = tls_context(order.certificate)
        self._context.set_alpn_protocols(["h2"])
        self._block = request_block(order.host, order.path)
        self._connections: dict[int, _Connection] = {}
        self._epoll = select.epoll()
        self._waits: list[float] = []
        self._buffer = memoryview(bytearray(PIECE))

    def prepare(self) -> None:
        """Open every connection. AnswerError where HTTP/2 is not spoken."""
        for _ in range(self._order.connections):
            raw = socket.create_connection(("127.0.0.1", self._order.port), 20.0)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = self._context.wrap_socket(raw, server_hostname=self._order.host)
            if sock.selected_alpn_protocol() != "h2":
                raise AnswerError("the proxy does not speak HTTP/2")
            self.done.spoken = spoken(sock)
            settings = struct.pack(">HIHI", _ENABLE_PUSH, 0, _INITIAL_WINDOW, WINDOW)
            sock.sendall(PREFACE + frame(_SETTINGS, 0, 0, settings) + _update(WINDOW - 65_535))
            self._connections[sock.fileno()] = _Connection(sock, self._block)
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """Load the proxy for the ordered time."""
        started = time.perf_counter()
        for connection in self._connections.values():
            for _ in range(self._order.streams):
                connection.ask()
            connection.flush()
            connection.sock.setblocking(False)
        end = started + self._order.seconds
        while self._connections and (
            (now := time.perf_counter()) < end or (not self.done.requests and now < end + GRACE_SECONDS)
        ):
            for fd, _ in self._epoll.poll(0.1):
                self._serve(fd, self._connections[fd])
        self.done.seconds = time.perf_counter() - started
        self.done.waits = gather(self._waits)

    def _serve(self, fd: int, connection: _Connection) -> None:
        try:
            self._read(connection)
            connection.flush()
        except (OSError, AnswerError) as error:
            self.done.errors += len(connection.asked)
            self.done.why = self.done.why or f"{type(error).__name__}: {error}"
            del self._connections[fd]
            connection.sock.close()

    def _read(self, connection: _Connection) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            while size := connection.sock.recv_into(self._buffer):
                connection.data += self._buffer[:size]
                self._frames(connection)
            raise AnswerError("the connection ended")

    def _frames(self, connection: _Connection) -> None:
        data, at = connection.data, 0
        while len(data) - at >= _HEAD.size:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            size = high << 16 | low
            if len(data) - at < _HEAD.size + size:
                break
            body = at + _HEAD.size
            at = body + size
            match kind:
                case 0x0:
                    connection.received += size
                    self.done.received += size
                case 0x1 if not is_ok(bytes(data[body : min(at, body + 16)])):
                    raise AnswerError(f"expected 200, got the block {bytes(data[body:at])[:40]!r}")
                case 0x4 if not flags & _ACK:
                    connection.out += frame(_SETTINGS, _ACK, 0)
                case 0x6 if not flags & _ACK:
                    connection.out += frame(_PING, _ACK, 0, bytes(data[body:at]))
                case 0x3 | 0x7:
                    raise AnswerError(f"{'GOAWAY' if kind == _GOAWAY else 'RST_STREAM'} {bytes(data[body:at])[:40]!r}")
            if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
                self._answered(connection, stream)
        del data[:at]
        if connection.received > REFILL:
            connection.out += _update(connection.received)
            connection.received = 0

    def _answered(self, connection: _Connection, stream: int) -> None:
        self._waits.append(time.perf_counter() - connection.asked.pop(stream))
        self.done.requests += 1
        connection.ask()


def _update(size: int) -> bytes:
    """More of a connection's window."""
    return frame(_UPDATE, 0, 0, struct.pack(">I", size))


def _literal(name: bytes, value: str) -> bytes:
    """A field of the static table with a value of its own, shorter than 127 bytes (RFC 7541 section 6.2.2)."""
    text = value.encode()
    if len(text) > 126:
        raise ValueError(f"a value of {len(text)} bytes: expected at most 126")
    return name + bytes([len(text)]) + text
