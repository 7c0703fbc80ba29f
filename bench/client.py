"""A load generator that can hold client certificates: `python -m bench.client JSON`, one process, no event loop.

It says "ready" when every connection stands (new-connection mode: at once), begins at the first line of its input, and says
in one line of JSON what it did. It ends when its input does. Modes: `keep` (a request at a time on each connection), `new` (a
connection a request), `idle` (one request on each connection, then silence until the input ends), `socket` (a WebSocket on each
connection and one message there and back, then silence until the input ends).

Refuses to know: which proxy it talks to, and whose CPU counts.
"""

import json
import re
import select
import socket
import ssl
import sys
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import Literal

Mode = Literal["keep", "new", "idle", "socket"]
GROUP = "X25519"
"""The key exchange, the same for every proxy: newer ones would choose a costlier one by themselves."""

_OK = b"HTTP/1.1 200"
_SWITCHED = b"HTTP/1.1 101"
_MORE = {
    "new": b"Connection: close\r\n",
    "socket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
}
MESSAGE = b"\x82\xfe\x04\x00\0\0\0\0" + b"x" * 1024
"""A binary frame of 1 KiB, masked with zeroes (RFC 6455 section 5.2)."""
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
MAX_ERRORS = 1000
"""After so many a connection that fails is not replaced: nothing can come of it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to do. `host` is SNI and Host, `path` the target; `certificate` (PEM with key) may be empty; `tls` False: plain
    HTTP.
    """

    mode: Mode
    port: int
    host: str
    path: str
    tls: bool
    certificate: str
    connections: int
    seconds: float


@dataclass(slots=True)
class Done:
    """What was done. `why`: the first error, for people."""

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    why: str = ""


class AnswerError(Exception):
    """The proxy did not answer 200 with a length."""


Steps = Generator[None, None, None]


class Runner:
    """Drives one generator a connection; each yields when it must wait for bytes."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._context = tls_context(order.certificate) if order.tls else None
        more = _MORE.get(order.mode, b"")
        head = b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: bench\r\n%b\r\n"
        self._request = head % (order.path.encode(), order.host.encode(), more)
        self._sockets: list[socket.socket] = []
        self._epoll = select.epoll()
        self._steps: dict[int, tuple[Steps, socket.socket]] = {}
        self.done = Done()

    def prepare(self) -> None:
        """Open every connection that stays; one that will be idle carries something first, so that its buffers have been used."""
        if self._order.mode == "new":
            return
        for _ in range(self._order.connections):
            sock = self._connect()
            if self._order.mode == "idle":
                for _ in self._exchange(sock):
                    raise AssertionError("a blocking socket does not wait")
            elif self._order.mode == "socket":
                self._open_socket(sock)
            self._sockets.append(sock)

    def run(self) -> None:
        """Load the proxy for the ordered time."""
        started = time.perf_counter()
        if self._order.mode == "new":
            for _ in range(self._order.connections):
                self._start_new()
        for sock in self._sockets:
            self._adopt(sock, self._exchanges(sock))
        self._drive(started + self._order.seconds)
        self.done.seconds = time.perf_counter() - started

    def _drive(self, end: float) -> None:
        while self._steps and time.perf_counter() < end:
            for fd, _ in self._epoll.poll(0.1):
                self._step(*self._steps[fd])

    def _adopt(self, sock: socket.socket, steps: Steps) -> None:
        sock.setblocking(False)
        self._steps[sock.fileno()] = steps, sock
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._step(steps, sock)

    def _step(self, steps: Steps, sock: socket.socket) -> None:
        try:
            next(steps)
            return
        except StopIteration:
            pass
        except (OSError, AnswerError) as error:
            self.done.errors += 1
            self.done.why = self.done.why or f"{type(error).__name__}: {error}"
        del self._steps[sock.fileno()]
        sock.close()
        if self._order.mode == "new" and self.done.errors < MAX_ERRORS:
            self._start_new()

    def _start_new(self) -> None:
        sock = self._connect(handshake=False)
        self._adopt(sock, self._exchange(sock))

    def _connect(self, *, handshake: bool = True) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self._order.port), 20.0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is None:
            return sock
        return self._context.wrap_socket(sock, server_hostname=self._order.host, do_handshake_on_connect=handshake)

    def _open_socket(self, sock: socket.socket) -> None:
        """Upgrade, then one message and its echo."""
        sock.sendall(self._request)
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += _more(sock, data)
        if not data.startswith(_SWITCHED):
            raise AnswerError(f"expected 101, got {data[:80]!r}")
        sock.sendall(MESSAGE)
        data = b""
        while len(data) < len(MESSAGE):
            data += _more(sock, data)
        self.done.requests += 1

    def _exchanges(self, sock: socket.socket) -> Steps:
        while True:
            sock.send(self._request)
            yield
            yield from self._answer(sock)

    def _exchange(self, sock: socket.socket) -> Steps:
        while isinstance(sock, ssl.SSLSocket):
            try:
                sock.do_handshake()
                break
            except ssl.SSLWantReadError:
                yield
        sock.send(self._request)
        yield from self._answer(sock)

    def _answer(self, sock: socket.socket) -> Steps:
        """Read one whole response."""
        data = b""
        missing = 1
        while missing > 0:
            try:
                piece = sock.recv(16384)
            except (BlockingIOError, ssl.SSLWantReadError):
                yield
                continue
            if not piece:
                raise AnswerError(f"ended after {data[:80]!r}")
            data += piece
            missing = _missing(data)
        self.done.requests += 1


def _more(sock: socket.socket, data: bytes) -> bytes:
    """Wait for more than `data`."""
    piece = sock.recv(16384)
    if not piece:
        raise AnswerError(f"ended after {data[:80]!r}")
    return piece


def _missing(data: bytes) -> int:
    """Bytes that the response lacks; at least 1 while its head is not complete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 1
    length = _LENGTH.search(data, 0, end + 2)
    if not data.startswith(_OK) or length is None:
        raise AnswerError(f"expected 200 with a length, got {data[:80]!r}")
    return end + 4 + int(length[1]) - len(data)


def tls_context(certificate: str) -> ssl.SSLContext:
    """How the generator speaks TLS. The server's name is not checked: what is measured is the proxy."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_ecdh_curve(GROUP)
    if certificate:
        context.load_cert_chain(certificate)
    return context


def main() -> None:
    """Do what the first argument orders."""
    order = Order(**json.loads(sys.argv[1]))
    runner = Runner(order)
    runner.prepare()
    print("ready", flush=True)
    if not sys.stdin.readline():
        return
    if order.mode not in ("idle", "socket"):
        runner.run()
    print(json.dumps(asdict(runner.done)), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
