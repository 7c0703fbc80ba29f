"""One new backend connection of the L4 door, from its first packet until it has taken the first bytes.

Promise: a connected, non-blocking socket that the edges watch already and that has taken what was to be said first, or a
DialError with a bounded reason, within the deadline. Whoever is refused, late or given up leaves nothing behind. An address costs
no look-up; a name costs one in a thread. Refuses to know: TLS, endpoints and registrations (those are `backend/dial.py`'s), and
which backend is tried next.

The first bytes are sent as soon as the kernel takes them, which tells that the connection stands: a backend nearby has taken them
before anybody could have been told so. Source: connect(2), RFC 9293 section 3.9.1.2 (SEND before ESTABLISHED).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from functools import lru_cache
from socket import SocketType
from typing import Any, Final, TypeAlias

from router.l4.relay import Plumbing
from router.net.deadline import NEVER, Timed
from router.net.edges import ENDED, WRITABLE

# Plain numbers and the plain socket: the names of the standard library are enumerations, each use of which costs a look-up.
_TCP: Final = int(socket.IPPROTO_TCP)
_NODELAY: Final = int(socket.TCP_NODELAY)
_SOCKET: Final = int(socket.SOL_SOCKET)
_KEEPALIVE: Final = int(socket.SO_KEEPALIVE)
_STREAM: Final = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN})
"""What this machine lacks (descriptors, memory, local ports) says nothing about a backend."""


class DialError(Exception):
    """No connection. `reason`: dial_timeout, dial_failed, name_not_found or out_of_descriptors."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


Opening: TypeAlias = Callable[[SocketType], bytes]
"""What is said first, to this socket's other end. Raises OSError (ENOTCONN: the connection does not stand yet), DialError."""


class Dial(Timed):
    """One attempt. `told`: the edges so far; `taken`: how many of the first bytes the connection took, -1 before it stands."""

    __slots__ = ("_looking", "_opening", "_over", "_plumbing", "_sock", "taken", "told")

    def __init__(self, plumbing: Plumbing, opening: Opening, over: Callable[[Dial, DialError | None], object]) -> None:
        """`over` is called once if `begin` said that one has to wait; with what went wrong, if it did."""
        self.deadline = NEVER  # a call less than `super().__init__`, for each connection
        self.slot = None
        self._plumbing = plumbing
        self._opening = opening
        self._over = over
        self._looking: asyncio.Task[list[Any]] | None = None
        self._sock: SocketType | None = None
        self.told = 0
        self.taken = -1

    def begin(self, host: str, port: int, until: float) -> bool:
        """Connect to `host` (a name, or an address without brackets) before `until` (seconds of the loop's clock).

        True: connected. False: `over` will tell. Raises DialError.
        """
        known = _numeric(host, port)
        if known is None:
            self._look_up(host, port)
        elif self._connect(*known):
            return True
        self._plumbing.wheel.arm(self, until)
        return False

    def end(self) -> None:
        """Give up; nobody is told. Safe at any time, and twice."""
        self._plumbing.wheel.forget(self)
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._sock is not None:
            self._plumbing.edges.drop(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def give(self) -> SocketType:
        """The connected socket, for an owner who waits through the same edges."""
        sock, self._sock = self._sock, None
        assert sock is not None
        return sock

    def expire(self) -> None:
        """The wheel says that the deadline has passed."""
        self._fail(DialError("dial_timeout"))

    def _connect(self, family: int, address: tuple[str, int]) -> bool:
        """Does it stand already? Raises DialError."""
        try:
            sock = self._sock = SocketType(family, _STREAM)
            sock.setsockopt(_TCP, _NODELAY, 1)
            sock.setsockopt(_SOCKET, _KEEPALIVE, 1)
            code = sock.connect_ex(address)
            if code and code != errno.EINPROGRESS:
                raise OSError(code, "connect")
            edges = self._plumbing.edges
            edges.watch(sock.fileno(), self._stirred)
            if self._speak(sock):
                return True
            edges.await_room(sock.fileno())
            return False
        except OSError as error:
            self.end()
            raise _fault(error) from error
        except DialError:
            self.end()
            raise

    def _speak(self, sock: SocketType) -> bool:
        """Has the connection taken its first bytes? Only one that stands does. Raises OSError, DialError."""
        try:
            self.taken = sock.send(self._opening(sock))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
            return False
        return True

    def _stirred(self, events: int) -> None:
        """Something changed at the socket."""
        self.told |= events
        sock = self._sock
        if sock is None or self.taken >= 0 or not self.told & (WRITABLE | ENDED):
            return
        try:
            if self.told & ENDED and (code := sock.getsockopt(_SOCKET, socket.SO_ERROR)):
                raise OSError(code, "connect")
            stands = self._speak(sock)
        except OSError as error:
            self._fail(_fault(error))
        except DialError as error:
            self._fail(error)
        else:
            if stands:
                self._succeed()

    def _look_up(self, host: str, port: int) -> None:
        self._looking = self._plumbing.loop.create_task(_addresses(self._plumbing.loop, host, port))
        self._looking.add_done_callback(lambda found: self._found(found, port))

    def _found(self, found: asyncio.Task[list[Any]], port: int) -> None:
        problem = None if found.cancelled() else found.exception()
        if self._looking is not found:  # given up
            return
        self._looking = None
        if problem is not None:
            ours = isinstance(problem, OSError) and not isinstance(problem, socket.gaierror)
            self._fail(_fault(problem) if ours else DialError("name_not_found", str(problem)))
            return
        family, _, _, _, address = found.result()[0]
        try:
            stands = self._connect(family, (str(address[0]), port))
        except DialError as error:
            self._fail(error)
        else:
            if stands:
                self._succeed()

    def _succeed(self) -> None:
        self._plumbing.wheel.forget(self)
        self._over(self, None)

    def _fail(self, error: DialError) -> None:
        self.end()
        self._over(self, error)


async def _addresses(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Any]:
    return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _fault(error: BaseException) -> DialError:
    code = (error.errno if isinstance(error, OSError) else None) or 0
    return DialError("out_of_descriptors" if code in _OURS else "dial_failed", errno.errorcode.get(code, str(code)))


@lru_cache(maxsize=4096)  # backends stand in the configuration
def _numeric(host: str, port: int) -> tuple[int, tuple[str, int]] | None:
    if host[:1].isdigit() and host.replace(".", "").isdigit():
        return int(socket.AF_INET), (host, port)
    return (int(socket.AF_INET6), (host, port)) if ":" in host else None
