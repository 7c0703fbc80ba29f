"""One new backend connection of the L4 door.

Promise: a connected, non-blocking socket that the relay's edges watch already, or DialError with a bounded reason, within the
deadline. An address costs no look-up; a name costs one in a thread. Refuses to know: TLS, endpoints and registrations (those
are `backend/dial.py`'s), and which backend is tried next.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from socket import SocketType
from typing import Final, NamedTuple

from router.l4.relay import Plumbing
from router.net.edges import ENDED, WRITABLE
from router.net.gate import Gate

# Plain numbers and the plain socket: the names of the standard library are enumerations, each use of which costs a look-up.
_TCP: Final = int(socket.IPPROTO_TCP)
_SOCKET: Final = int(socket.SOL_SOCKET)
_STREAM: Final = socket.SOCK_STREAM | socket.SOCK_NONBLOCK

_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN})
"""What this machine lacks (descriptors, memory, local ports) says nothing about a backend."""


class DialError(Exception):
    """No connection. `reason`: dial_timeout, dial_failed, name_not_found or out_of_descriptors."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class Dialed(NamedTuple):
    """A connected socket, and the events that the edges have told of it."""

    sock: SocketType
    told: int


async def dial(plumbing: Plumbing, host: str, port: int, until: float) -> Dialed:
    """Connect to `host` (a name, or an address without brackets) before `until` (seconds of the loop's clock).

    Raises DialError.
    """
    try:
        family, address = _numeric(host, port) or await _look_up(plumbing.loop, host, port, until)
        sock = SocketType(family, _STREAM)
        try:
            return Dialed(sock, await _connect(plumbing, sock, address, until))
        except BaseException:
            plumbing.edges.drop(sock.fileno())
            sock.close()
            raise
    except TimeoutError as error:
        raise DialError("dial_timeout") from error
    except OSError as error:
        code = error.errno or 0
        raise DialError("out_of_descriptors" if code in _OURS else "dial_failed", errno.errorcode.get(code, str(code))) from error


def _numeric(host: str, port: int) -> tuple[int, tuple[str, int]] | None:
    if host[:1].isdigit() and host.replace(".", "").isdigit():
        return socket.AF_INET, (host, port)
    return (socket.AF_INET6, (host, port)) if ":" in host else None


async def _look_up(loop: asyncio.AbstractEventLoop, host: str, port: int, until: float) -> tuple[int, tuple[str, int]]:
    try:
        async with asyncio.timeout_at(until):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise DialError("name_not_found", str(error)) from error
    family, _, _, _, address = found[0]
    return family, (str(address[0]), port)


async def _connect(plumbing: Plumbing, sock: SocketType, address: tuple[str, int], until: float) -> int:
    """The events so far."""
    sock.setsockopt(_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(_SOCKET, socket.SO_KEEPALIVE, 1)
    code = sock.connect_ex(address)
    told = 0
    if code == errno.EINPROGRESS:
        gate = Gate(plumbing.loop)

        def stirred(events: int) -> None:
            nonlocal told
            told |= events
            gate.open()

        plumbing.edges.watch(sock.fileno(), stirred)
        plumbing.wheel.arm(gate, until)
        try:
            while not told & (WRITABLE | ENDED):
                await gate
        finally:
            plumbing.wheel.forget(gate)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if told & ENDED else 0
    if code:
        raise OSError(code, "connect")
    return told
