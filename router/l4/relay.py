"""Two sockets joined: what one peer says the other hears, by `splice`, both ways at once, until they end.

Promise: every byte in order and once, without entering this process where it comes in bulk; a peer that does not take its bytes
is not read for, so the kernel's windows hold its sender back (a way holds one pipe's content, or one receive where no pipe is to
be had; nothing while nothing moves); an end is passed on alone, and the other way goes on; a reset is passed on as a reset, at
once, also while nobody reads from or writes to the one who sent it. Over after `idle` seconds in which no byte came from either
side, or `total` seconds in all. What did not end by itself is cut with a reset, so that nothing cut short looks whole.
Refuses to know what the bytes are, and TLS: `net/relay.py` is the relay of connections that the router speaks on itself.

No task and no buffer belongs to a relay: all that moves bytes is the callback of a descriptor. Source: splice(2), epoll(7);
RFC 9293 sections 3.5.2 (reset) and 3.6.1 (half-close).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from socket import SocketType
from typing import Final, Literal, TypeAlias

from router.l4.pipes import PIPE_BYTES, Pipe, Pipes
from router.net.deadline import NEVER, Timed, Wheel
from router.net.edges import BROKEN, ENDED, READABLE, WRITABLE, Edges
from router.net.relay import Ending
from router.net.stream import CHUNK

Over: TypeAlias = Callable[["SocketRelay", Ending], object]

TURN_BYTES: Final = 1 << 20
"""Bytes that one way moves before the other connections have their turn."""

_RESET: Final = struct.pack("ii", 1, 0)


class Plumbing:
    """What all relays of an event loop share: readiness, deadlines, pipes, and one buffer for what is too short for a pipe."""

    __slots__ = ("buffer", "edges", "loop", "pipes", "wheel")

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: Wheel, edges: Edges, pipes: Pipes) -> None:
        self.loop = loop
        self.wheel = wheel
        self.edges = edges
        self.pipes = pipes
        self.buffer = memoryview(bytearray(CHUNK))


class _Way:
    """One direction. `rest`, or the `inside` bytes of the pipe, were taken from the source and wait for the sink."""

    __slots__ = ("asked", "blocked", "bulk", "drained", "inside", "moved", "over", "pipe", "rest", "sink", "source")

    def __init__(self, source: SocketType, sink: SocketType) -> None:
        self.source = source
        self.sink = sink
        self.rest: bytes | memoryview = b""
        self.pipe: Pipe | None = None
        self.inside = 0
        self.moved = 0  # what the sink has taken
        self.bulk = False  # there was more than a buffer holds: what comes goes through a pipe
        self.drained = False  # the source has nothing more for now
        self.blocked = False  # the sink takes nothing more for now
        self.asked = False  # the edges tell of the sink's room
        self.over = False

    def take(self, plumbing: Plumbing, *, ended: bool) -> int:
        """How many bytes the source had, at most a pipe or a buffer full; 0: it has ended. Raises OSError.

        A short read leaves nothing behind, unless an end follows.
        """
        if self.bulk and self.pipe is None:
            self.pipe = plumbing.pipes.borrow()
        if self.bulk and self.pipe is not None:
            size = self.inside = os.splice(self.source.fileno(), self.pipe.sink, PIPE_BYTES)
        else:
            size = self.source.recv_into(plumbing.buffer)
            self.rest = plumbing.buffer[:size]
            self.bulk = size == CHUNK
            self.drained = size < CHUNK and not ended
        return size

    def skip(self, buffer: memoryview, size: int) -> None:
        """The sink has these bytes of the source already. Raises OSError."""
        while self.moved < size:
            self.moved += self.source.recv_into(buffer, size - self.moved) or size

    def flush(self) -> None:
        """Hand on what was taken. Raises BlockingIOError where the sink takes no more for now, OSError where it never will."""
        self.blocked = True
        while self.rest:
            size = self.sink.send(self.rest)
            self.rest = self.rest[size:]
            self.moved += size
        while self.inside and self.pipe is not None:
            size = os.splice(self.pipe.source, self.sink.fileno(), self.inside)
            self.inside -= size
            self.moved += size
        self.blocked = False

    def settle(self, pipes: Pipes) -> None:
        """Keep nothing that others could use: no empty pipe, no view of the shared buffer."""
        if self.rest:
            self.rest = bytes(self.rest)
        if self.pipe is not None and not self.inside:
            pipes.give_back(self.pipe)
            self.pipe = None

    def drop(self, pipes: Pipes) -> None:
        """Lose what waits."""
        self.rest = b""
        if self.pipe is not None and self.inside:
            pipes.discard(self.pipe)
            self.pipe = None
        self.settle(pipes)


class SocketRelay(Timed):
    """`client` and `backend`, two connected non-blocking sockets, from now until `over` is called: both are closed then."""

    __slots__ = ("_idle", "_over", "_plumbing", "_to_backend", "_to_client", "_until", "broken_by", "ending")

    def __init__(
        self, client: SocketType, backend: SocketType, plumbing: Plumbing, idle: float, total: float, over: Over
    ) -> None:
        """`idle` and `total` in seconds. `over` is called once."""
        self.deadline = NEVER  # a call less than `super().__init__`, for each connection
        self.slot = None
        self._plumbing = plumbing
        self._to_backend = _Way(client, backend)
        self._to_client = _Way(backend, client)
        self._idle = idle
        self._until = plumbing.loop.time() + total
        self._over = over
        self.ending: Ending | None = None
        self.broken_by: Literal["", "client", "backend"] = ""

    @property
    def from_client(self) -> int:
        """Bytes that the backend's side took so far."""
        return self._to_backend.moved

    @property
    def from_backend(self) -> int:
        """Bytes that the client's side took so far."""
        return self._to_client.moved

    def begin(self, said: int = 0, client_told: int = 0, backend_told: int = 0) -> None:
        """Carry until the end.

        `said`: bytes that the client's socket still holds and the backend has taken already; `client_told`, `backend_told`: the
        events that somebody else was told of before, which the edges do not repeat.
        """
        edges, way = self._plumbing.edges, self._to_backend
        self._stir()
        try:
            edges.watch(way.source.fileno(), self._client_stirs)
            edges.watch(way.sink.fileno(), self._backend_stirs)
        except OSError:
            self.end("broken")
            return
        try:
            way.skip(self._plumbing.buffer, said)
        except OSError:
            self._break(way.source)
            return
        if client_told:
            self._client_stirs(client_told | READABLE & ~ENDED)
        if backend_told & READABLE:
            self._backend_stirs(backend_told)

    def end(self, ending: Ending) -> None:
        """Close both sides now, with a reset unless both have ended; the first reason stands. Safe at any time, and twice."""
        if self.ending is not None:
            return
        self.ending = ending
        plumbing = self._plumbing
        plumbing.wheel.forget(self)
        for way in (self._to_backend, self._to_client):
            if way.rest or way.pipe is not None:
                way.drop(plumbing.pipes)
            plumbing.edges.drop(way.source.fileno())
            if ending != "ended":
                with contextlib.suppress(OSError):
                    way.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            way.source.close()
        self._over(self, ending)

    def expire(self) -> None:
        """The wheel says that a deadline has passed."""
        self.end("late" if self._plumbing.loop.time() >= self._until else "idle")

    # ---- the callbacks

    def _client_stirs(self, events: int) -> None:
        if events & READABLE or self._to_client.blocked:  # most edges only say that a peer has taken what it was sent
            self._look(events, self._to_backend, self._to_client)

    def _backend_stirs(self, events: int) -> None:
        if events & READABLE or self._to_backend.blocked:
            self._look(events, self._to_client, self._to_backend)

    def _look(self, events: int, heard: _Way, said: _Way) -> None:
        """Something changed at the source of `heard`, which is the sink of `said`."""
        if said.blocked and events & WRITABLE:
            self._pump(said, ended=True)
        if events & READABLE and not heard.blocked and not heard.over:
            self._pump(heard, ended=bool(events & ENDED))
        if events & BROKEN and self.ending is None and heard.source.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._break(heard.source)

    def _pump(self, way: _Way, *, ended: bool) -> None:
        """Move until the source has nothing more, the sink takes nothing more, or the other connections have their turn.

        `ended`: an end may be here behind the bytes, of which nobody will tell again.
        """
        if self.ending is not None or way.over:
            return
        before = way.moved
        side = way.sink
        try:
            if way.rest or way.inside:
                way.flush()
            while way.moved - before < TURN_BYTES:
                side = way.source
                if not way.take(self._plumbing, ended=ended):
                    way.over = True
                    break
                side = way.sink
                way.flush()
                if way.drained:
                    break
            else:
                self._plumbing.loop.call_soon(self._go_on, way)
        except BlockingIOError:
            way.bulk = way.bulk and (way.blocked or way.moved - before >= CHUNK)
            if way.blocked and not way.asked:
                way.asked = True
                self._plumbing.edges.await_room(way.sink.fileno())
        except OSError:
            self._break(side)
            return
        if way.rest or way.pipe is not None:
            way.settle(self._plumbing.pipes)
        if way.moved != before:
            self._stir()
        if way.over and not self.broken_by:  # behind a reset an end is none
            self._pass_end_on(way)

    def _go_on(self, way: _Way) -> None:
        self._pump(way, ended=True)

    def _pass_end_on(self, way: _Way) -> None:
        """The source has ended, and all it said is on its way: say so to the sink."""
        if self._to_backend.over and self._to_client.over:
            self.end("ended")
            return
        try:
            way.sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._break(way.sink)

    def _break(self, side: SocketType) -> None:
        """The connection of this side broke: its last words still go to the other one, then the reset."""
        if not self.broken_by:
            heard = self._to_backend if side is self._to_backend.source else self._to_client
            self.broken_by = "client" if heard is self._to_backend else "backend"
            self._pump(heard, ended=True)
        self.end("broken")

    def _stir(self) -> None:
        """Something moved: the deadline of the idle is a later one."""
        plumbing = self._plumbing
        due = min(plumbing.loop.time() + self._idle, self._until)
        if self.slot is None:
            plumbing.wheel.arm(self, due)
        else:
            self.deadline = due
