"""A listening socket on the event loop.

Promise: accepted sockets are non-blocking, without Nagle's delay, with TCP keep-alive, and handed to `serve` one by one; a
few a turn, so that a flood of new connections cannot starve the open ones. When descriptors run out, accepting pauses for a
moment while the open connections go on, without a busy loop. Connections over the budget are reset at once and counted by
reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
import struct
from collections.abc import Callable
from typing import Final

from router.net.budget import Budget

ACCEPTS_A_TURN: Final = 64
BACKLOG: Final = 4096
CLIENT_SHARE: Final = 0.75
"""Of the descriptors that the process may have; a proxy needs up to one more for each client."""

_RESET: Final = struct.pack("ii", 1, 0)
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Serve = Callable[[socket.socket, str, int, "Listener"], None]


def bind(address: str, port: int, *, shared: bool = False, listening: bool = True) -> socket.socket:
    """A bound, listening socket; `::` listens on every address, IPv4 too. Raises OSError.

    `shared`: with others of this user that are bound as shared ones; the kernel spreads the connections.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if address == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, port))
        if listening:
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


class Entrance:
    """Where a connection came in: what logs call it, whether its connections begin with a ClientHello, and how many there are."""

    def __init__(self, name: str, budget: Budget, *, tls: bool) -> None:
        self.name = name
        self.budget = budget
        self.tls = tls


class Listener(Entrance):
    """One listening socket."""

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        *,
        tls: bool,
        budget: Budget,
        loop: asyncio.AbstractEventLoop,
        serve: Serve,
        shed: Callable[[str], object],
        pause_seconds: float,
    ) -> None:
        super().__init__(name, budget, tls=tls)
        self.sock = sock
        self._loop = loop
        self._serve = serve
        self._shed = shed
        self._pause_seconds = pause_seconds
        self._resume: asyncio.TimerHandle | None = None
        self._accepting = False
        self._family = int(sock.family)
        sock.setblocking(False)
        # What Linux hands on to every accepted socket.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    @property
    def port(self) -> int:
        return int(self.sock.getsockname()[1])

    def open(self) -> None:
        """Start (or go on) accepting."""
        self._resume = None
        if not self._accepting and self.sock.fileno() >= 0:
            self._accepting = True
            self._loop.add_reader(self.sock.fileno(), self._accept)

    def pause(self) -> None:
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self.sock.fileno())

    def close(self) -> None:
        """Stop listening; the kernel refuses new connections from now on."""
        self.release().close()

    def finish(self) -> None:
        """As `close`, but who waits to be accepted is, now."""
        if self._accepting:
            self._accept()
        self.close()

    def release(self) -> socket.socket:
        """Accept no more; the socket still listens, for whoever takes it over."""
        self.pause()
        if self._resume is not None:
            self._resume.cancel()
        return self.sock

    def _accept(self) -> None:
        most = CLIENT_SHARE * resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        for _ in range(ACCEPTS_A_TURN):
            try:
                sock, address = self._next()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest()
                return
            if sock.fileno() >= most:
                reset(sock)
                self._rest()
                return
            self._admit(sock, str(address[0]).removeprefix("::ffff:"), int(address[1]))

    def _next(self) -> tuple[socket.socket, tuple[str, int]]:
        """As `socket.accept`, without its detour through enumerations: a third of what it costs. Raises OSError."""
        fd, address = self.sock._accept()  # type: ignore[attr-defined]  # there since 3.0, and still in 3.14
        return socket.socket(self._family, socket.SOCK_STREAM, 0, fd), address

    def _rest(self) -> None:
        """Out of descriptors: what is not accepted waits in the backlog meanwhile."""
        self._shed("out_of_descriptors")
        self.pause()
        self._resume = self._loop.call_later(self._pause_seconds, self.open)

    def _admit(self, sock: socket.socket, address: str, port: int) -> None:
        reason = self.budget.admit(address, self._loop.time())
        if reason is not None:
            self._shed(reason)
            reset(sock)
            return
        sock.setblocking(False)
        self._serve(sock, address, port, self)


def reset(sock: socket.socket) -> None:
    """Close with a TCP reset."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()
