"""A message's body as whoever passes it on reads it, wherever it comes from; and the body of one stream among many.

Promise: `read` yields pieces in order and none past the end; what breaks a body off is raised after the pieces that came before
it; every wait has its deadline. An `Inflow` holds what its connection lets in: the flow-control window is the bound, and it is
opened again (`taken`) only as pieces are handed on, so that a slow reader holds back this sender and nobody else.
Source: RFC 9112 section 6, RFC 9113 sections 5.2 and 8.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from router.net.deadline import Wheel
from router.net.gate import Gate
from router.wire.http1 import NO_BODY, Fields

SMALL: Final = 1_024
"""Bytes of a piece to which the next is added: an object for every two bytes would be thirty times the window."""


class BodyMalformed(Exception):
    """The body's framing is broken; `reason` is a bounded code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BodyTruncated(Exception):
    """The peer ended before its message did."""


class BodyReader(Protocol):
    """`framing` is a length, CHUNKED (the length is not known before the end) or UNTIL_CLOSE; `received` counts the bytes handed
    out; `done`: the end was handed out too, and `trailers` are all there.
    """

    done: bool
    received: int
    framing: int

    @property
    def trailers(self) -> Fields: ...

    def buffered(self) -> bytes | None:
        """The whole body if all of it is here and no trailers follow it, as if read; else None."""

    async def read(self, until: float) -> bytes:
        """The next piece, b"" at the end or where only the end has come. Raises BodyMalformed, BodyTruncated, TimeoutError,
        OSError.
        """


class Inflow:
    """A `BodyReader` that its connection fills."""

    __slots__ = ("_ended", "_error", "_gate", "_loop", "_pieces", "_taken", "_wheel", "done", "framing", "received", "trailers")

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: Wheel, framing: int, taken: Callable[[int], object]) -> None:
        """`taken`: called with the number of bytes that were handed on."""
        self.framing = framing
        self.done = framing == NO_BODY
        self.received = 0
        self.trailers: Fields = []
        self._ended = self.done
        self._error: BaseException | None = None
        self._pieces: list[bytes] = []
        self._gate: Gate | None = None
        self._loop = loop
        self._wheel = wheel
        self._taken = taken

    # ---- the connection's side

    def put(self, data: bytes) -> None:
        pieces = self._pieces
        if pieces and len(pieces[-1]) < SMALL:
            pieces[-1] += data
        else:
            pieces.append(data)
        self._wake()

    def end(self, trailers: Fields | None = None) -> None:
        """Nothing follows. Trailers behind a body that had ended already (it had no length) are nobody's."""
        if not self._ended:
            self._ended = True
            if trailers:
                self.trailers = trailers
            self._wake()

    def fail(self, error: BaseException) -> None:
        """Raise `error` in whoever reads on; what ended already stays as it is."""
        if not self._ended and self._error is None:
            self._error = error
            self._wake()

    @property
    def waiting(self) -> bool:
        """Are there pieces, or an end, that nobody has read?"""
        return bool(self._pieces) or (self._ended and not self.done)

    # ---- the reader's side

    def buffered(self) -> bytes | None:
        if not self._ended or self._error is not None or self.trailers:
            return None
        return self._hand_on() if not self.done else b""

    async def read(self, until: float) -> bytes:
        while not self._pieces:
            if self.done:
                return b""
            if self._ended:
                self.done = True
                return b""
            if self._error is not None:
                self.done = True
                error, self._error = self._error, None
                try:
                    raise error
                finally:
                    del error  # what is raised holds this frame: nothing that the frame holds may hold it
            await self._wait(until)
        return self._hand_on()

    def _hand_on(self) -> bytes:
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.done = self._ended
        self.received += len(data)
        if data:
            self._taken(len(data))
        return data

    async def _wait(self, until: float) -> None:
        gate = self._gate
        if gate is None:
            gate = self._gate = Gate(self._loop)
        self._wheel.arm(gate, until)
        try:
            await gate
        finally:
            self._wheel.forget(gate)  # a stream is short, its deadline may be far

    def _wake(self) -> None:
        if self._gate is not None and self._gate.waited:
            self._loop.call_soon(self._gate.open)
