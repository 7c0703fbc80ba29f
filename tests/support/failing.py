"""Backends that fail before HTTP begins, or regardless of it, each in one way."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Babbler:
    """Accepts, waits for a first byte, says `words`, closes: what a plain HTTP server is to a TLS client."""

    def __init__(self, words: bytes) -> None:
        self.connections = 0
        self._words = words
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with accepted, contextlib.suppress(OSError):
                accepted.settimeout(5)
                accepted.recv(65536)
                accepted.sendall(self._words)
                accepted.shutdown(socket.SHUT_WR)
                while accepted.recv(65536):
                    pass


class Mute:
    """Takes connections and says nothing; with `full=True` not even that: its queue is full, a connect waits in vain."""

    def __init__(self, *, full: bool = False) -> None:
        self._held: list[socket.socket] = []
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0 if full else 64)
        self.port: int = self._listener.getsockname()[1]
        for _ in range(3 if full else 0):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", self.port))
            self._held.append(one)

    def accept(self) -> None:
        """Wait until somebody has connected."""
        self._listener.settimeout(5)
        self._held.append(self._listener.accept()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for one in (*self._held, self._listener):
            one.close()


class Wire:
    """The way to another loopback port: bytes pass both ways until `cut`, which resets every connection on it; later ones too."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._held: list[socket.socket] = []
        self._is_cut = False
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def cut(self) -> None:
        """Both ends of every connection see a reset."""
        with self._lock:
            self._is_cut = True
            held = list(self._held)
        for one in held:
            _reset(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                one = self._listener.accept()[0]
            except OSError:
                return
            with self._lock:
                if self._is_cut:
                    _reset(one)
                    continue
                other = socket.create_connection(("127.0.0.1", self._to))
                self._held += (one, other)
            self._start(self._pass_on, one, other)
            self._start(self._pass_on, other, one)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            if not self._is_cut:
                sink.shutdown(socket.SHUT_WR)


def _reset(one: socket.socket) -> None:
    """Close with RST; whoever waits in it is woken."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RD)
    one.close()
