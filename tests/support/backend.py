"""An HTTP/1.1 backend under the test's control, by hand on sockets and threads: it can do wrong on purpose.

By default it echoes: 200 and a JSON account of the request. A script replaces that for the next requests:

    backend.script(b"HTTP/1.1 503 Busy\\r\\nContent-Length: 0\\r\\n\\r\\n", my_step)

A step that is bytes is sent once the whole request was read; a step that is callable gets the `Exchange` as
soon as the head was read, and does as it likes. Every head is recorded byte for byte in `received`, and the
body when it was read.
"""

import contextlib
import json
import queue
import socket
import ssl
import struct
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from tests.support.certs import CA, Credential


@dataclass(slots=True, eq=False)
class Received:
    """One request as its bytes arrived."""

    connection: int
    head: bytes
    peer_der: bytes | None = None
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = False

    @property
    def request_line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names in lower case, values as they came, in order of arrival."""
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known == name.lower()]

    def get(self, name: str) -> str | None:
        """The only value of a header; None where it is absent. Two values are a failure."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None


class Exchange:
    """What a scripted step holds: the request so far, and the connection."""

    def __init__(self, connection: "_Connection", request: Received) -> None:
        self._connection = connection
        self.request = request

    def read_body(self) -> bytes:
        """Read (and answer 100-continue for) the rest of the request."""
        self._connection.read_body(self.request)
        return self.request.body

    def send(self, data: bytes) -> None:
        self._connection.socket.sendall(data)

    def recv(self, size: int = 65536) -> bytes:
        """Raw bytes after the head; empty at the end."""
        return self._connection.recv(size)

    def close(self) -> None:
        self._connection.close()

    def reset(self) -> None:
        """Close with RST."""
        linger = struct.pack("ii", 1, 0)
        self._connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._connection.socket.close()

    def half_close(self) -> None:
        self._connection.socket.shutdown(socket.SHUT_WR)


Step = bytes | Callable[[Exchange], object]


class EchoBackend:
    """Listens on a free loopback port from construction to `stop`; use as a context manager or by fixture."""

    def __init__(
        self,
        name: str = "backend",
        *,
        credential: Credential | None = None,
        client_ca: CA | None = None,
        host: str = "127.0.0.1",
        tls_maximum: ssl.TLSVersion | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self.received: list[Received] = []
        self.connections = 0
        self.errors: list[str] = []
        self._context = _server_context(credential, client_ca, tls_maximum)
        self._steps: queue.SimpleQueue[Step] = queue.SimpleQueue()
        self._always: Step | None = None
        self._changed = threading.Condition()
        self._open: set[_Connection] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def tls(self) -> bool:
        return self._context is not None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def use_ciphers(self, names: str) -> None:
        """OpenSSL's names of the only TLS 1.2 ciphers, from the next connection on."""
        assert self._context is not None
        self._context.set_ciphers(names)

    def choose(self, protocols: list[str]) -> None:
        """By ALPN, from the next connection on."""
        assert self._context is not None
        self._context.set_alpn_protocols(protocols)

    def script(self, *steps: Step) -> None:
        """Each step serves one of the next requests, in order of arrival; afterwards echo again."""
        for step in steps:
            self._steps.put(step)

    def always(self, step: Step | None) -> None:
        """Serve every request that no script covers with `step`; None is echo again."""
        self._always = step

    def wait_for(self, count: int = 1, deadline: float = 10.0) -> list[Received]:
        """At least `count` complete requests, or AssertionError after `deadline` seconds."""
        end = time.monotonic() + deadline
        with self._changed:
            while len(done := [r for r in self.received if r.complete]) < count:
                remaining = end - time.monotonic()
                assert remaining > 0, f"{self.name} got {len(done)} of {count} requests in {deadline} s"
                self._changed.wait(remaining)
            return done

    @property
    def last(self) -> Received:
        assert self.received, f"{self.name} got no request"
        return self.received[-1]

    @property
    def open_connections(self) -> int:
        """How many connections are open as far as the backend has noticed."""
        return len(self._open)

    def clear(self) -> None:
        """Forget what was received."""
        self.received.clear()

    def close_connections(self) -> None:
        """Close every open connection, as a backend does with idle ones."""
        for connection in list(self._open):
            connection.close()

    def stop_listening(self) -> None:
        """Refuse new connections; open ones stay. The port stays ours: nobody else's server answers there meanwhile."""
        if self._listener.fileno() < 0:
            return
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        grave = socket.socket(self._listener.family)
        weakref.finalize(self, grave.close)
        grave.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            grave.bind((self.host, self.port))

    def stop(self) -> None:
        self.stop_listening()
        self.close_connections()
        for thread in self._threads:
            thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True, name=f"{self.name}-{len(self._threads)}")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._serve, raw, self.connections)

    def _serve(self, raw: socket.socket, number: int) -> None:
        connection = _Connection(raw)
        self._open.add(connection)
        try:
            if self._context is not None:
                connection.socket = self._context.wrap_socket(raw, server_side=True)
            while (head := connection.read_head()) is not None:
                request = Received(number, head, connection.peer_der())
                self._note(request)
                self._answer(connection, request)
        except (OSError, EOFError, ValueError) as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        finally:
            connection.close()
            self._open.discard(connection)

    def _note(self, request: Received) -> None:
        with self._changed:
            self.received.append(request)

    def _answer(self, connection: "_Connection", request: Received) -> None:
        try:
            step = self._steps.get_nowait()
        except queue.Empty:
            step = self._always or self._echo
        if callable(step):
            step(Exchange(connection, request))
        else:
            connection.read_body(request)
            self._complete(request)
            connection.socket.sendall(step)
        self._complete(request)

    def _complete(self, request: Received) -> None:
        with self._changed:
            request.complete = True
            self._changed.notify_all()

    def _echo(self, exchange: Exchange) -> None:
        body = exchange.read_body()
        request = exchange.request
        self._complete(request)
        account = {
            "backend": self.name,
            "line": request.request_line,
            "headers": request.headers,
            "length": len(body),
        }
        data = json.dumps(account).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data)
        exchange.send(head if request.request_line.startswith("HEAD ") else head + data)


class _Connection:
    """Buffered reading of one accepted socket."""

    def __init__(self, raw: socket.socket) -> None:
        raw.settimeout(30)
        self.socket = raw
        self._buffer = b""

    def peer_der(self) -> bytes | None:
        return self.socket.getpeercert(binary_form=True) if isinstance(self.socket, ssl.SSLSocket) else None

    def read_head(self) -> bytes | None:
        """The bytes up to and with the empty line; None where the peer closed between requests."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._fill():
                if self._buffer:
                    raise EOFError(f"closed inside a head: {self._buffer[:200]!r}")
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n"

    def read_body(self, request: Received) -> None:
        if request.complete:
            return
        if (request.get("expect") or "").lower() == "100-continue":
            self.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in [coding.lower() for coding in request.all("transfer-encoding")]:
            self._read_chunks(request)
        else:
            request.body = self._exactly(int(request.get("content-length") or 0))

    def recv(self, size: int) -> bytes:
        if not self._buffer:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _read_chunks(self, request: Received) -> None:
        pieces: list[bytes] = []
        while size := int(self._line().split(b";")[0], 16):
            pieces.append(self._exactly(size))
            self._line()
        while line := self._line():
            name, _, value = line.decode("latin-1").partition(":")
            request.trailers.append((name.lower(), value.strip()))
        request.body = b"".join(pieces)

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if not self._fill():
                raise EOFError("closed inside a body")
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _exactly(self, size: int) -> bytes:
        pieces, missing = [self._buffer[:size]], size - len(self._buffer[:size])
        self._buffer = self._buffer[size:]
        while missing:
            piece = self.socket.recv(min(missing, 1 << 20))
            if not piece:
                raise EOFError(f"closed {missing} bytes before the end of a body")
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def _fill(self) -> bool:
        data = self.socket.recv(65536)
        self._buffer += data
        return bool(data)


def _server_context(credential: Credential | None, client_ca: CA | None, maximum: ssl.TLSVersion | None) -> ssl.SSLContext | None:
    if credential is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*credential.files())
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.pem)
    if maximum is not None:
        context.maximum_version = maximum
    return context
