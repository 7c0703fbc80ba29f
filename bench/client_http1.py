"""Load by HTTP/1.1: connections that are kept, new ones, idle ones, and WebSockets.

Promises: every answer is read to its end and is a 200; each failure is counted. Refuses to know: processes.
"""

import re
import select
import socket
import ssl
import time
from collections.abc import Generator

from bench.order import Done, Order
from bench.waits import gather

GROUP = "X25519"
"""The key exchange, the same for every proxy: newer ones would choose a costlier one by themselves."""
PIECE = 1 << 18
"""What is read at once: a page whole, of a large body much."""

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
OPEN_AT_ONCE = 64
"""Of connections that will be idle."""
CONNECT_SECONDS = 20.0
GRACE_SECONDS = 5.0
"""For the first answer: a moment's load on a busy machine may see none before its end."""
MAX_ERRORS = 1000
"""After so many a connection that fails is not replaced: nothing can come of it."""


class AnswerError(Exception):
    """The proxy did not answer 200 with a length."""


Steps = Generator[None, None, None]


class Runner:
    """Drives one generator a connection; each yields when it must wait for bytes."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.done = Done()
        self.sockets: list[socket.socket] = []
        self.epoll = select.epoll()
        head = b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: bench\r\n%b\r\n"
        self.request = head % (order.path.encode(), order.host.encode(), _MORE.get(order.mode, b""))
        self._context = tls_context(order.certificate) if order.tls else None
        self._steps: dict[int, tuple[Steps, socket.socket]] = {}
        self._waits: list[float] = []
        self._buffer = memoryview(bytearray(PIECE))

    def prepare(self) -> None:
        """Open every connection that stays; one that will be idle carries something first, so that its buffers have been used."""
        if self.order.mode == "idle":
            self._open_idle()
        elif self.order.mode != "new":
            for _ in range(self.order.connections):
                sock = self._connect()
                if self.order.mode == "socket":
                    self._open_socket(sock)
                self.sockets.append(sock)
        self.done.spoken = spoken(self.sockets[0]) if self.sockets else ""

    def run(self) -> None:
        """Load the proxy for the ordered time; idle connections have done theirs."""
        if self.order.mode in ("idle", "socket"):
            return
        started = time.perf_counter()
        if self.order.mode == "new":
            for _ in range(self.order.connections):
                self._start_new()
        for sock in self.sockets:
            self._adopt(sock, self._exchanges(sock))
        self._drive(started + self.order.seconds)
        self.done.seconds = time.perf_counter() - started
        self.done.waits = gather(self._waits)

    def answer(self, sock: socket.socket) -> Steps:
        """Read one whole response."""
        data, missing = b"", None
        while missing is None:
            size = yield from self._receive(sock)
            data += self._buffer[:size]
            missing = _missing(data)
        while missing > 0:
            missing -= yield from self._receive(sock)
        self.done.requests += 1

    def fail(self, error: Exception) -> None:
        """Count it, and keep what the first one says."""
        self.done.errors += 1
        self.done.why = self.done.why or f"{type(error).__name__}: {error}"

    def _receive(self, sock: socket.socket) -> Generator[None, None, int]:
        while True:
            try:
                size = sock.recv_into(self._buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                yield
                continue
            if not size:
                raise AnswerError("the connection ended before its answer did")
            self.done.received += size
            return size

    def _drive(self, end: float) -> None:
        while self._steps and ((now := time.perf_counter()) < end or (not self.done.requests and now < end + GRACE_SECONDS)):
            for fd, _ in self.epoll.poll(0.1):
                self._step(*self._steps[fd])

    def _adopt(self, sock: socket.socket, steps: Steps) -> None:
        sock.setblocking(False)
        self._steps[sock.fileno()] = steps, sock
        self.epoll.register(sock.fileno(), select.EPOLLIN)
        self._step(steps, sock)

    def _step(self, steps: Steps, sock: socket.socket) -> None:
        try:
            next(steps)
            return
        except StopIteration:
            pass
        except (OSError, AnswerError) as error:
            self.fail(error)
        del self._steps[sock.fileno()]
        sock.close()
        if self.order.mode == "new" and self.done.errors < MAX_ERRORS:
            self._start_new()

    def _start_new(self) -> None:
        began = time.perf_counter()
        sock = self._connect(handshake=False)
        self._adopt(sock, self._exchange(sock, began))

    def _connect(self, *, handshake: bool = True) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.order.port), CONNECT_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is None:
            return sock
        return self._context.wrap_socket(sock, server_hostname=self.order.host, do_handshake_on_connect=handshake)

    def _open_idle(self) -> None:
        """OPEN_AT_ONCE at a time. AnswerError for the first that fails."""
        for number in range(self.order.connections):
            sock = self._connect(handshake=False)
            self._adopt(sock, self._settle(sock))
            last = number + 1 == self.order.connections
            while number + 1 - len(self.sockets) >= (1 if last else OPEN_AT_ONCE):
                ready = self.epoll.poll(CONNECT_SECONDS)
                for fd, _ in ready:
                    self._step(*self._steps[fd])
                if not ready:
                    self.fail(AnswerError(f"no answer within {CONNECT_SECONDS:g} s"))
                if self.done.errors:
                    raise AnswerError(self.done.why)

    def _settle(self, sock: socket.socket) -> Steps:
        """One exchange, then silence."""
        yield from self._exchange(sock)
        self.epoll.unregister(sock.fileno())
        self.sockets.append(sock)
        while True:
            yield

    def _open_socket(self, sock: socket.socket) -> None:
        """Upgrade, then one message and its echo."""
        sock.sendall(self.request)
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
            began = time.perf_counter()
            sock.send(self.request)
            yield
            yield from self.answer(sock)
            self._waits.append(time.perf_counter() - began)

    def _exchange(self, sock: socket.socket, began: float = 0.0) -> Steps:
        """The first on a connection, its handshake included."""
        while isinstance(sock, ssl.SSLSocket):
            try:
                sock.do_handshake()
                break
            except ssl.SSLWantReadError:
                yield
        sock.send(self.request)
        yield from self.answer(sock)
        self._waits.append(time.perf_counter() - began)


def _more(sock: socket.socket, data: bytes) -> bytes:
    """Wait for more than `data`."""
    piece = sock.recv(16384)
    if not piece:
        raise AnswerError(f"ended after {data[:80]!r}")
    return piece


def _missing(data: bytes) -> int | None:
    """Bytes that the response lacks; None while its head is not complete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
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


def spoken(sock: socket.socket) -> str:
    """Version and cipher; empty without TLS."""
    if not isinstance(sock, ssl.SSLSocket):
        return ""
    cipher = sock.cipher()
    return f"{sock.version()} {cipher[0] if cipher else '?'}"
