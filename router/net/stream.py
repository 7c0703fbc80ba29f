"""A non-blocking TCP stream on the event loop: the five verbs of the data path (recv, send, peek, close, reset).

Promise: every wait has a deadline (absolute, seconds of `loop.time()`; past it `TimeoutError`); a closed or broken peer is
an `OSError` or an empty `recv`; nothing is buffered here; a peer that is always ready does not keep the others waiting. The
read callback stays registered between waits, so a request costs no `epoll_ctl`; bytes that arrive while nobody reads stay in
the kernel (the callback is then taken off, which is the back-pressure).

`watch` names a callback for the time in which nobody reads but the peer matters: a client that waits for its response may
leave, a pooled backend connection may end or speak out of turn.

TLS is a subclass (`router/tls/session.py`) that replaces the `_try_*` verbs and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
from collections.abc import Callable
from typing import ClassVar, Final

from router.net.deadline import Wheel
from router.net.gate import Gate

CHUNK: Final = 65536
"""Bytes asked for at once; buffers of 128 KiB and more cost a memory map a call."""

TURN_BYTES: Final = 4 * CHUNK
"""Bytes that one stream yields without a wait; then the others have their turn, however fast this peer sends."""

_RESET: Final = struct.pack("ii", 1, 0)
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 1 << 20


class Stream:
    """One TCP connection. Not safe for two readers or two writers; one of each is fine."""

    __slots__ = (
        "_drained",
        "_look",
        "_reader_on",
        "_short",
        "_unbroken",
        "_watcher",
        "closed",
        "fd",
        "loop",
        "read_gate",
        "sock",
        "wheel",
        "write_gate",
    )

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, wheel: Wheel) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.loop = loop
        self.wheel = wheel
        self.read_gate = Gate(loop)
        self.write_gate = Gate(loop)
        self.closed = False
        self._reader_on = False
        self._short = False
        self._drained = False
        self._unbroken = 0
        self._look: select.poll | None = None
        self._watcher: Callable[[], object] | None = None

    # ---- reading

    chunk: ClassVar[int] = CHUNK
    half_closes: ClassVar[bool] = True
    """Does a peer that has ended its side still listen?"""

    async def recv(self, until: float) -> bytes:
        """1 to `chunk` bytes, or b"" when the peer has ended its side.

        A first try that could only fail is spared where the last read emptied the kernel and something was sent since.
        Without a sending in between it is made: when bytes and a reset come at once, libuv tells of them once and never again.
        """
        size = self.chunk
        if self._drained:
            await self._gate_until(until)
            if self.closed:
                raise ConnectionAbortedError("stream was closed")
        elif self._unbroken >= TURN_BYTES:
            # Waits on the gate, as for bytes, so that an interruption or a deadline finds the task there. The descriptor may
            # open it first: a call left over would be a turn more in every round of the loop to come.
            turn = self.loop.call_soon(self.read_gate.open)
            try:
                await self.readable(until)
            finally:
                turn.cancel()
        while True:
            data = self._try_recv(size)
            if data is not None:
                self._drained = False
                self._unbroken += len(data)
                self._short = len(data) < size
                return data
            await self.readable(until)

    def take(self) -> bytes | None:
        """What is here already, without waiting: None for nothing, b"" when the peer has ended its side. Raises OSError."""
        data = self._try_recv(self.chunk)
        self._drained = self._short = False
        return data

    async def peek(self, until: float, size: int, known: int) -> bytes:
        """More than `known` bytes (at most `size`) without consuming them; b"" when the peer ends before more come.

        The low-water mark lets the kernel do the waiting: one wake-up while bytes are short, and a wake-up that brings none
        is the end.
        """
        if known:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, known + 1)
        try:
            await self.readable(until)
        finally:
            if known and not self.closed:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        try:
            data = self.sock.recv(size, socket.MSG_PEEK)
        except BlockingIOError:
            return b""
        return data if len(data) > known else b""

    async def readable(self, until: float) -> None:
        """Wait until a read would make progress, or seem to."""
        await self._gate_until(until)
        if self.closed:  # by another task, and woken for another reason: the descriptor may be somebody else's now
            raise ConnectionAbortedError("stream was closed")

    def _gate_until(self, until: float) -> Gate:
        """What opens when a read would make progress, or seem to; who has waited asks whether the stream is still open."""
        if self.closed:
            raise ConnectionAbortedError("stream is closed")
        self._unbroken = 0
        gate = self.read_gate
        if not self._reader_on:
            self.loop.add_reader(self.fd, self._on_readable)
            self._reader_on = True
        self.wheel.arm(gate, until)
        return gate

    def _try_recv(self, size: int) -> bytes | None:
        try:
            return self.sock.recv(size)
        except BlockingIOError:
            return None

    def _on_readable(self) -> None:
        self._drained = self._short = False
        if self.read_gate.open():
            return
        self._stop_reading()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher()

    def _stop_reading(self) -> None:
        if self._reader_on:
            self._reader_on = False
            self._drained = self._short = False
            self.loop.remove_reader(self.fd)

    def hung_up(self) -> bool:
        """Has the peer ended or reset its side, even behind bytes that are still to be read? Consumes nothing."""
        look = select.poll()
        look.register(self.fd, select.POLLRDHUP)
        return bool(look.poll(0))

    def quiet(self) -> bool:
        """Is there nothing to read, and no end? Asks the socket itself, under TLS too; consumes nothing."""
        look = self._look
        if look is None:
            look = self._look = select.poll()
            look.register(self.fd, select.POLLIN | select.POLLRDHUP)
        return not look.poll(0)

    def watch(self, watcher: Callable[[], object] | None) -> None:
        """Call `watcher` once when something arrives, or the peer leaves, while nobody reads; None takes it off."""
        self._watcher = watcher
        if watcher is not None and not self._reader_on and not self.closed:
            self.loop.add_reader(self.fd, self._on_readable)
            self._reader_on = True

    # ---- writing

    def push(self, data: bytes | memoryview) -> memoryview | None:
        """Hand `data` to the kernel without waiting; what it did not take is for `send`, None when that is nothing.

        Nearly every response fits: this saves the coroutine of a `send`.
        """
        sent = self._try_send(data)
        if sent == len(data):
            self._drained = self._short
            return None
        return memoryview(data)[sent:]

    async def send(self, data: bytes | bytearray | memoryview, until: float) -> None:
        """Hand all of `data` to the kernel; `until` bounds the whole call."""
        sent = self._try_send(data)
        if sent == len(data):
            self._drained = self._short
            return
        rest = memoryview(data)[sent:]
        while rest:
            await self.writable(until)
            rest = rest[self._try_send(rest) :]

    async def writable(self, until: float) -> None:
        if self.closed:
            raise ConnectionAbortedError("stream is closed")
        self.loop.add_writer(self.fd, self._on_writable)
        self.wheel.arm(self.write_gate, until)
        try:
            await self.write_gate
        finally:
            if not self.closed:
                self.loop.remove_writer(self.fd)
        if self.closed:
            raise ConnectionAbortedError("stream was closed")

    def _try_send(self, data: bytes | bytearray | memoryview) -> int:
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0

    def _on_writable(self) -> None:
        if self.write_gate.waited:
            self.write_gate.open()
        elif not self.closed:
            self.loop.remove_writer(self.fd)

    # ---- ending

    def interrupt(self, error: BaseException) -> None:
        """Raise `error` in whoever waits on this stream. Only from a callback of the event loop."""
        gate = self.read_gate if self.read_gate.waited else self.write_gate
        handed_on = [error]
        del error  # as in `Gate.fail`: this frame must not hold what is raised inside it
        gate.fail(handed_on.pop())

    def detach(self) -> socket.socket:
        """Give the open descriptor to its next owner; this stream is closed for good and never touches it again."""
        self._release()
        self.closed = True
        return self.sock

    def _release(self) -> None:
        self._watcher = None
        self._stop_reading()
        self.wheel.forget(self.read_gate)
        self.wheel.forget(self.write_gate)

    def close(self) -> None:
        """Close now; bytes the kernel still holds are sent. Safe to call twice."""
        if self.closed:
            return
        self._release()
        self.loop.remove_writer(self.fd)
        self.closed = True
        self.sock.close()
        for gate in (self.read_gate, self.write_gate):
            if gate.waited:
                self.loop.call_soon(gate.fail, ConnectionAbortedError("stream was closed"))

    def reset(self) -> None:
        """Close with a TCP reset: the peer learns at once that nothing more is to be had."""
        if not self.closed:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.close()

    async def linger(self) -> None:
        """End our side, let the peer read our last words, then close (RFC 9112 section 9.6).

        Without it, unread input makes the kernel answer with a reset that can overtake an alert or an error response.
        Bounded by two seconds and 1 MiB of discarded input.
        """
        if self.closed:
            return
        until = self.loop.time() + LINGER_SECONDS
        try:
            self.end_writing()
            taken = 0
            while taken < LINGER_BYTES:
                data = await self._discard(until)
                if not data:
                    break
                taken += data
        except (OSError, TimeoutError):
            pass
        finally:
            self.close()

    def end_writing(self) -> None:
        """Say that nothing more comes from us. Raises OSError when the peer is gone."""
        self.sock.shutdown(socket.SHUT_WR)

    async def _discard(self, until: float) -> int:
        await self.readable(until)
        try:
            return len(self.sock.recv(CHUNK))
        except BlockingIOError:
            return 1
