"""The response on one stream of an HTTP/2 connection.

Promise: a `ResponseWriter`. A stream sends only what its client's windows and the connection have room for, and waits for more at
most `stall` seconds; nothing of it is kept here but the piece that waits. Names go out in lower case and without the fields that
speak of an HTTP/1.1 connection (the frame layer sees to that).
Source: RFC 9113 sections 5.2 and 8.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from router.faults import Fault
from router.net.deadline import Wheel
from router.net.gate import Gate
from router.wire.http1 import Fields
from router.wire.http2 import ErrorCode, ServerConnection


class Sender(Protocol):
    """The connection's side of sending."""

    h2: ServerConnection
    loop: asyncio.AbstractEventLoop
    wheel: Wheel

    @property
    def blocked(self) -> bool:
        """Does the client's system take no more just now?"""

    def flush_soon(self) -> None:
        """Send what `h2` has to say, together with what others add in this turn of the loop."""


class Http2Writer:
    """`malformed`: the request broke the protocol: its stream ends with an error, even behind an answer (section 8.1.1)."""

    __slots__ = ("_gate", "_head", "_left", "_sender", "_stall", "finished", "left", "malformed", "proto", "stream")

    def __init__(self, sender: Sender, stream: int, stall: float, *, malformed: bool) -> None:
        self.proto = b"HTTP/2.0"  # as GoRouter spells it
        self.stream = stream
        self.malformed = malformed
        self.finished = False  # was the whole response handed over?
        self.left = False  # has the client left, with the stream or the whole connection?
        self._sender = sender
        self._stall = stall
        self._head: tuple[int, Fields] | None = None
        self._left: Callable[[], object] | None = None
        self._gate: Gate | None = None

    # ---- the client

    def watch(self, left: Callable[[], object] | None) -> None:
        self._left = left
        if left is not None and self.left:
            self._sender.loop.call_soon(self._tell)

    def gone(self) -> bool:
        return self.left

    def leave(self) -> None:
        """The client has left."""
        self.left = True
        self.wake()
        if self._left is not None:
            self._sender.loop.call_soon(self._tell)

    def wake(self) -> None:
        """There may be room to send."""
        if self._gate is not None and self._gate.waited:
            self._sender.loop.call_soon(self._gate.open)

    def _tell(self) -> None:
        if self._left is not None:
            self._left()

    # ---- the response

    async def interim(self, status: int, reason: bytes, fields: Fields) -> None:
        if self._sender.blocked:
            await self._unblocked()
        self._send_head(status, fields, end=False)

    def begin(self, status: int, reason: bytes, fields: Fields, framing: int, *, keep: bool) -> bool:
        self._head = status, fields
        return keep

    async def flush(self) -> None:
        if self._sender.blocked:
            await self._unblocked()
        self._begin(end=False)

    async def write(self, data: bytes) -> None:
        if self._sender.blocked:
            await self._unblocked()
        self._begin(end=False)
        await self._send(data, end=False)

    async def finish(self, data: bytes, trailers: Fields) -> None:
        if self._sender.blocked:
            await self._unblocked()
        end = not trailers and not self.malformed
        self._begin(end=end and not data)
        if data or (end and not self.finished):
            await self._send(data, end=end)
        if trailers and not self.malformed:
            self._sender.h2.send_trailers(self.stream, trailers)
            self._sender.flush_soon()
        self.finished = True

    def abort(self) -> None:
        self._sender.h2.reset(self.stream, ErrorCode.INTERNAL_ERROR)
        self._sender.flush_soon()

    def _begin(self, *, end: bool) -> None:
        if self._head is not None:
            (status, fields), self._head = self._head, None
            self._send_head(status, fields, end=end)
            self.finished = end

    def _send_head(self, status: int, fields: Fields, *, end: bool) -> None:
        if self.left:
            raise Fault("client_gone_while_streaming", "stream reset")
        self._sender.h2.send_head(self.stream, status, fields, end=end)
        self._sender.flush_soon()

    async def _send(self, data: bytes, *, end: bool) -> None:
        sender, rest = self._sender, memoryview(data)
        while True:
            if self.left:
                raise Fault("client_gone_while_streaming", "stream reset")
            if not sender.blocked:
                taken = sender.h2.send_data(self.stream, rest, end=end)
                sender.flush_soon()
                if taken == len(rest):
                    return
                rest = rest[taken:]
            await self._wait()

    async def _unblocked(self) -> None:
        """Heads wait as bodies do: no window holds them back, and a hundred of 256 KiB would be kept for who reads nothing."""
        while self._sender.blocked and not self.left:
            await self._wait()

    async def _wait(self) -> None:
        sender, gate = self._sender, self._gate
        if gate is None:
            gate = self._gate = Gate(sender.loop)
        if not sender.blocked:  # while it is, whoever drains it has the deadline, and puts it off for each byte that is taken
            sender.wheel.arm(gate, sender.loop.time() + self._stall)
        try:
            await gate
        except TimeoutError as error:
            raise Fault("client_gone_while_streaming", "stalled") from error
        finally:
            sender.wheel.forget(gate)
