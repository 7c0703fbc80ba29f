"""Backends that fail before HTTP begins, each in one way."""

import contextlib
import socket
import threading
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
