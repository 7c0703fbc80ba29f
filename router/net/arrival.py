"""A client connection of which nothing is decided yet: looked at without consuming, then given to whoever serves it.

Promise: `peek` consumes nothing, `consume` exactly what it is told; every wait has a deadline. A peer that sends byte by byte
does not wake us for each: the kernel's low-water mark waits for as many as can change anything. Whoever takes the socket takes it
as it came from the peer, without a byte read too far. Refuses to know what the bytes mean.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from router.net.budget import Budget
from router.net.deadline import Wheel
from router.net.edges import ENDED, Edges
from router.net.gate import Gate
from router.net.listener import Listener, reset
from router.wire.proxy_protocol import SocketAddress

_PEEK: Final = int(socket.MSG_PEEK)  # the name is an enumeration's, each use of which costs a look-up


class Refused(Exception):
    """A connection ends before anybody serves it; `reason` is a bounded code, `alert` the last words, if any."""

    def __init__(self, reason: str, alert: bytes = b"") -> None:
        super().__init__(reason)
        self.reason = reason
        self.alert = alert


class Arrival:
    """One accepted, non-blocking socket. One waiter at a time.

    `peer` is the other end of the socket; `client` the same, until a PROXY header names the real one.
    """

    __slots__ = ("_edges", "_gate", "_loop", "_wheel", "client", "closed", "counted", "listener", "peer", "seen", "sock", "told")

    def __init__(
        self,
        sock: socket.socket,
        peer: SocketAddress,
        listener: Listener,
        loop: asyncio.AbstractEventLoop,
        wheel: Wheel,
        edges: Edges,
    ) -> None:
        self.sock = sock
        self.peer = self.client = peer
        self.listener = listener
        self.counted: Budget | None = None  # where the real client was counted in
        self.closed = False  # or given away
        self.seen = b""  # what was looked at last, and is still to be read
        self.told = 0  # every event so far, for the next one who waits through the same edges
        self._loop = loop
        self._wheel = wheel
        self._edges = edges
        self._gate: Gate | None = None  # most never wait here

    def look(self, size: int) -> bytes:
        """What is here already, at most `size` bytes, without consuming it; nothing where one would wait. Raises OSError."""
        return self._look(size) or b""

    async def peek(self, until: float, size: int, known: int) -> bytes:
        """More than `known` bytes (at most `size`) without consuming them; b"" when the peer ends before more come.

        Raises TimeoutError past `until` (seconds of the loop's clock), OSError.
        """
        data = self._look(size)
        if known and len(data or b"") <= known:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, known + 1)
        try:
            while data is None or (data and len(data) <= known):
                if self.told & ENDED:
                    return b""
                await self._stirred(until)
                data = self._look(size)
        finally:
            if known and not self.closed:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        return data

    def consume(self, size: int) -> None:
        """Take away what was peeked. Raises OSError."""
        self.seen = self.seen[size:]
        while size > 0:
            size -= len(self.sock.recv(size)) or size

    def interrupt(self, error: BaseException) -> None:
        """Raise `error` in whoever waits here. Only from a callback of the event loop."""
        handed_on = [error]
        del error  # as in `Gate.fail`: this frame must not hold what is raised inside it
        if self._gate is not None:
            self._gate.fail(handed_on.pop())

    def give(self) -> socket.socket:
        """The open socket, for an owner who waits through the same edges: it stays registered."""
        self._leave()
        return self.sock

    def detach(self) -> socket.socket:
        """The open socket, for an owner who waits in another way."""
        self._edges.forget(self.sock.fileno())
        self._leave()
        return self.sock

    def close(self) -> None:
        """Close now. Safe twice, and after it was given away."""
        if not self.closed:
            self._edges.drop(self.sock.fileno())
            self._leave()
            self.sock.close()

    def reset(self) -> None:
        """Close with a TCP reset. Safe as `close`."""
        if not self.closed:
            self._edges.drop(self.sock.fileno())
            self._leave()
            reset(self.sock)

    def _leave(self) -> None:
        self.closed = True
        self.seen = b""
        if self._gate is not None:
            self._wheel.forget(self._gate)

    def _look(self, size: int) -> bytes | None:
        try:
            self.seen = self.sock.recv(size, _PEEK)
        except BlockingIOError:
            return None
        return self.seen

    async def _stirred(self, until: float) -> None:
        gate = self._gate = self._gate or Gate(self._loop)
        self._edges.watch(self.sock.fileno(), self._on_edge)
        self._wheel.arm(gate, until)
        await gate
        if self.closed:
            raise ConnectionAbortedError("connection was closed")

    def _on_edge(self, events: int) -> None:
        self.told |= events
        if self._gate is not None:
            self._gate.open()


def spelt(address: SocketAddress) -> str:
    """`host:port`, an IPv6 address in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
