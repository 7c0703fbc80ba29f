"""A stream with the bytes read too far, and a message body read off it: what both sides of an exchange have in common.

Promise: `Body.read` yields the body in pieces of at most one receive, never past its end; what follows stays in
`channel.buffer`. Framing that breaks is a `BodyMalformed`, a peer that ends early a `BodyTruncated`; a missed deadline is
`TimeoutError`. Source: RFC 9112 sections 6 and 7.
"""

from __future__ import annotations

from typing import Final, Literal

from router.net.body import BodyMalformed, BodyTruncated
from router.net.stream import Stream
from router.wire.chunked import ChunkedDecoder
from router.wire.http1 import CHUNKED, NO_BODY, UNTIL_CLOSE, Fields, Malformed

READ_AHEAD: Final = 65536
"""Bytes kept of what a client sends before its turn; beyond that the socket is not read."""


class Channel:
    """One side's connection: the stream, and bytes received but not yet consumed."""

    __slots__ = ("buffer", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.buffer = b""

    def read_ahead(self) -> Literal["open", "full", "left"]:
        """Take what the peer sent before its turn, so that its end can be seen behind it.

        `left`: it has ended or reset its side; `full`: READ_AHEAD bytes are kept, look no further.
        """
        try:
            data = self.stream.take()
        except OSError:
            return "left"
        if data == b"":
            return "left"
        self.buffer += data or b""
        return "full" if len(self.buffer) >= READ_AHEAD else "open"


class Body:
    """One message body. `framing` is a length, CHUNKED or UNTIL_CLOSE; `received` counts the body bytes handed out."""

    __slots__ = ("_decoder", "_left", "channel", "done", "framing", "received")

    def __init__(self, channel: Channel, framing: int, decoder: ChunkedDecoder | None = None) -> None:
        self.channel = channel
        self.framing = framing
        self.done = framing == NO_BODY
        self.received = 0
        self._left = framing
        self._decoder = decoder

    @property
    def trailers(self) -> Fields:
        return self._decoder.trailers if self._decoder is not None else []

    def buffered(self) -> bytes | None:
        """The whole body if every byte of it is here already (only for a stated length), taken from the buffer; else None."""
        left = self._left
        if not left:
            return b""
        buffer = self.channel.buffer
        if left < 0 or len(buffer) < left:
            return None
        if len(buffer) == left:
            data, self.channel.buffer = buffer, b""
        else:
            data, self.channel.buffer = buffer[:left], buffer[left:]
        self.received += left
        self._left = 0
        self.done = True
        return data

    async def read(self, until: float) -> bytes:
        """The next piece, b"" at the end."""
        if self.done:
            return b""
        if self.framing == CHUNKED:
            return await self._read_chunked(until)
        data = await self._take(until)
        if not data:
            self.done = True
            if self.framing != UNTIL_CLOSE:
                raise BodyTruncated
            return b""
        if self.framing != UNTIL_CLOSE:
            if len(data) > self._left:
                data, self.channel.buffer = data[: self._left], data[self._left :]
            self._left -= len(data)
            self.done = self._left == 0
        self.received += len(data)
        return data

    async def _read_chunked(self, until: float) -> bytes:
        decoder = self._decoder
        assert decoder is not None
        while True:
            data = await self._take(until)
            if not data:
                self.done = True
                raise BodyTruncated
            pieces = decoder.feed(data)
            if isinstance(pieces, Malformed):
                self.done = True
                raise BodyMalformed(pieces.reason)
            if decoder.done:
                self.done = True
                self.channel.buffer = decoder.rest
            if pieces or decoder.done:
                joined = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                self.received += len(joined)
                return joined

    async def _take(self, until: float) -> bytes:
        channel = self.channel
        if channel.buffer:
            data, channel.buffer = channel.buffer, b""
            return data
        return await channel.stream.recv(until)
