"""Two connections joined: what one side says the other hears, byte for byte, both ways at once, until they end.

Promise: bytes that were read too far come first, then all that follows, in order and once; a side that does not take its bytes
is not read for (at most one receive a way is held, none while nothing moves); an end is passed on alone where the transport
says so (plain TCP: the other way goes on), and where it does not (a close_notify, which means "no more from me" to some and
"goodbye" to most) the other way has HALF_CLOSED_SECONDS to say its last. A connection that broke breaks the other one, so that
nothing cut short looks whole. Ends after `idle` seconds in which no byte came from either side, or `stall` seconds in which
the client took none. Refuses to know what the bytes are.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Literal

from router.net.channel import Channel
from router.net.deadline import NEVER

HALF_CLOSED_SECONDS: Final = 2.0

Ending = Literal["ended", "broken", "idle", "stalled", "late", "denied", "drained"]
"""Why a relay is over: the sides ended it, one broke, nothing moved, somebody took nothing, it had its time in all; or whoever
called `end` says so.
"""


class _Stalled(TimeoutError):
    """The sink took nothing for too long."""


class _Way:
    """One direction. `moved` counts the bytes that were handed on or were about to be."""

    __slots__ = ("moved", "over", "sink", "source", "stall")

    def __init__(self, source: Channel, sink: Channel, stall: float) -> None:
        self.source = source
        self.sink = sink
        self.stall = stall
        self.moved = 0
        self.over = False


class Relay:
    """`down` and `up` (the client's side and the backend's) from now until `run` returns, both closed."""

    __slots__ = ("_down_to_up", "_idle", "_last", "_limit", "_up_to_down", "ending")

    def __init__(self, down: Channel, up: Channel, idle: float, stall: float) -> None:
        """`idle` and `stall` in seconds."""
        self._down_to_up = _Way(down, up, idle)
        self._up_to_down = _Way(up, down, stall)
        self._idle = idle
        self._last = down.stream.loop.time()
        self._limit = NEVER  # once a side has ended for good: when the other one has to
        self.ending: Ending | None = None

    @property
    def from_client(self) -> int:
        """Bytes so far."""
        return self._down_to_up.moved

    @property
    def from_backend(self) -> int:
        """Bytes so far."""
        return self._up_to_down.moved

    async def run(self) -> Ending:
        """Carry until the end; whatever happens, both streams are closed."""
        back = asyncio.get_running_loop().create_task(self._carry(self._up_to_down))
        try:
            await self._carry(self._down_to_up)
            await back
        except asyncio.CancelledError:
            self.end("drained")
            raise
        finally:
            self.end("broken")
            if not back.done():
                back.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await back
        return self.ending or "broken"

    def end(self, ending: Ending) -> None:
        """Close both sides now; the first reason stands. Safe at any time, and twice."""
        if self.ending is not None:
            return
        self.ending = ending
        for channel in (self._down_to_up.source, self._down_to_up.sink):
            if ending == "broken":
                channel.stream.reset()
            else:
                channel.stream.close()

    async def _carry(self, way: _Way) -> None:
        try:
            await self._copy(way)
            self._pass_end_on(way)
        except TimeoutError as error:
            late = way.source.stream.loop.time() >= self._limit
            self.end("ended" if late else "stalled" if isinstance(error, _Stalled) else "idle")
        except OSError:
            self.end("broken")
        finally:
            if not way.over:  # whatever it was: one way alone is of no use
                self.end("broken")

    async def _copy(self, way: _Way) -> None:
        """Until the source has ended. Raises OSError, TimeoutError."""
        source, sink, loop = way.source.stream, way.sink.stream, way.source.stream.loop
        data, way.source.buffer = way.source.buffer, b""
        while True:
            if data:
                way.moved += len(data)
                rest = sink.push(data)
                data = b""  # what waits holds no buffer
                while rest is not None:
                    await self._wait_for_room(way)
                    rest = sink.push(rest)
                    self._last = loop.time()
            try:
                data = await source.recv(min(self._last + self._idle, self._limit))
            except TimeoutError:
                if loop.time() < min(self._last + self._idle, self._limit):
                    continue  # the other way moved meanwhile
                raise
            if not data:
                return
            self._last = loop.time()

    async def _wait_for_room(self, way: _Way) -> None:
        stream = way.sink.stream
        try:
            await stream.writable(min(stream.loop.time() + way.stall, self._limit))
        except TimeoutError:
            raise _Stalled from None

    def _pass_end_on(self, way: _Way) -> None:
        """The source has ended: say so to the sink, and bound what the sink may still say where the source is deaf now."""
        way.over = True
        if self.ending is not None:
            return
        if self._down_to_up.over and self._up_to_down.over:
            self.end("ended")
            return
        source, sink = way.source.stream, way.sink.stream
        sink.end_writing()
        if not source.half_closes:
            self._limit = source.loop.time() + HALF_CLOSED_SECONDS
            sink.wheel.arm(sink.read_gate, self._limit)
            source.wheel.arm(source.write_gate, self._limit)
