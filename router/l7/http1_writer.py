"""The response to an HTTP/1.x request, written to the client's connection.

Promise: a `ResponseWriter`. The framing is what the client's version can read: a length, chunks, or for HTTP/1.0 the end of the
connection; head and first bytes leave in one `send`. A client that takes nothing for `stall` seconds is gone.
Source: RFC 9112 sections 6, 7 and 9.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from router.faults import Fault
from router.net.channel import Channel
from router.wire.http1 import Fields, encode_chunk, encode_last_chunk, render_response_head

_BODILESS: Final = (204, 304)


class Http1Writer:
    """`minor` as in the request's head; `is_head`: the request's method is HEAD."""

    __slots__ = ("_chunked", "_conn", "_head", "_is_head", "_left", "_minor", "_stall", "proto")

    left = False  # only `gone` finds out

    def __init__(self, conn: Channel, minor: int, stall: float, *, is_head: bool) -> None:
        self.proto = b"HTTP/1.1" if minor else b"HTTP/1.0"
        self._conn = conn
        self._minor = minor
        self._stall = stall
        self._is_head = is_head
        self._head = b""
        self._chunked = False
        self._left: Callable[[], object] | None = None

    # ---- the client

    def watch(self, left: Callable[[], object] | None) -> None:
        self._left = left
        self._conn.stream.watch(self._stirred if left is not None else None)

    def _stirred(self) -> None:
        """The client did something while it waits: what it sends is for later, but it may have left."""
        match self._conn.read_ahead():
            case "open":
                self._conn.stream.watch(self._stirred)
            case "left" if self._left is not None:
                self._left()
            case _:
                pass

    def gone(self) -> bool:
        stream = self._conn.stream
        return stream.closed or stream.hung_up()

    # ---- the response

    async def interim(self, status: int, reason: bytes, fields: Fields) -> None:
        if self._minor and (rest := self._push(render_response_head(status, reason, fields))) is not None:
            await self._wait(rest)

    def begin(self, status: int, reason: bytes, fields: Fields, framing: int, *, keep: bool) -> bool:
        self._chunked = False
        if framing < 0:
            if self._minor:
                self._chunked = True
                fields.append((b"Transfer-Encoding", b"chunked"))
            else:
                keep = False
        elif framing == 0 and not self._is_head and status not in _BODILESS and not _has_length(fields):
            fields.append((b"Content-Length", b"0"))
        if not keep:
            fields.append((b"Connection", b"close"))
        elif self._minor == 0:
            fields.append((b"Connection", b"keep-alive"))
        self._head = render_response_head(status, reason, fields)
        return keep

    async def flush(self) -> None:
        data, self._head = self._head, b""
        if (rest := self._push(data)) is not None:
            await self._wait(rest)

    async def write(self, data: bytes) -> None:
        if self._chunked:
            data = encode_chunk(data)
        if self._head:
            data, self._head = self._head + data, b""
        if data and (rest := self._push(data)) is not None:
            await self._wait(rest)

    async def finish(self, data: bytes, trailers: Fields) -> None:
        if self._chunked:
            data = encode_chunk(data) + encode_last_chunk(trailers)
        if self._head:
            data, self._head = self._head + data, b""
        if data and (rest := self._push(data)) is not None:
            await self._wait(rest)

    def abort(self) -> None:
        self._conn.stream.reset()

    def _push(self, data: bytes) -> memoryview | None:
        """What was not taken at once: hardly ever anything, so no coroutine is made for it."""
        try:
            return self._conn.stream.push(data)
        except OSError as error:
            raise Fault("client_gone_while_streaming", type(error).__name__) from error

    async def _wait(self, rest: memoryview | None) -> None:
        """A slow client may take as long as it likes, as long as it takes something."""
        stream = self._conn.stream
        try:
            while rest is not None:
                await stream.writable(stream.loop.time() + self._stall)
                rest = stream.push(rest)
        except (OSError, TimeoutError) as error:
            raise Fault("client_gone_while_streaming", type(error).__name__) from error


def _has_length(fields: Fields) -> bool:
    return any(name.lower() == b"content-length" for name, _ in fields)
