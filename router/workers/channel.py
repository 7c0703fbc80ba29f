"""One end of a pair of sockets on the event loop: whole messages, both ways, with descriptors where they are given.

    message = length (4 bytes, big-endian), number of descriptors (1 byte), body

Promise: `send` never waits and never raises; what the other end does not read is kept, up to a bound, and past that bound it
counts as lost. A message is received whole or not at all; one that is longer than agreed, or says something impossible, ends the
channel. `lost` is called once, and nothing after it. Descriptors are received close-on-exec, and closed where nobody takes them.
Refuses to know what is said (messages.py).

Source: unix(7), cmsg(3): descriptors travel with the first byte of a send, and arrive in order.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

MAX_DESCRIPTORS: Final = 128
"""In one message: the kernel takes 253."""
MAX_BACKLOG: Final = 64 * 1024 * 1024
"""Bytes that wait for the other end, at most; a piece of routes is 1 MiB."""
LOW_WATER: Final = 256 * 1024
READ_BYTES: Final = 256 * 1024
READS_A_TURN: Final = 8

_HEAD: Final = 5
_INT: Final = array.array("i").itemsize


class Channel:
    """`received` is given each message with its descriptors, which are then its own; `lost`: the other end has gone."""

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        received: Callable[[bytes, list[int]], None],
        lost: Callable[[], None],
        longest: int,
        backlog: int = MAX_BACKLOG,
        most_descriptors: int = MAX_DESCRIPTORS,
    ) -> None:
        """`longest`: bytes of a message that the other end may send, `most_descriptors`: what may come with it; `backlog`: bytes
        that may wait here to be read there.
        """
        sock.setblocking(False)
        self._sock = sock
        self._loop = loop
        self._received = received
        self._lost = lost
        self._longest = longest
        self._backlog = backlog
        self._most_descriptors = most_descriptors
        self._space = socket.CMSG_SPACE(most_descriptors * _INT) if most_descriptors else 0
        self._unsent: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._waiting = 0
        self._unread = bytearray()
        self._descriptors: deque[int] = deque()
        self._drained = asyncio.Event()
        self._drained.set()
        self._writing = False
        self.closed = False
        loop.add_reader(sock.fileno(), self._read)

    # ---- out

    def send(self, body: bytes, descriptors: Sequence[int] = ()) -> None:
        """Say it, in turn. The descriptors are copied, and stay the caller's. At most MAX_DESCRIPTORS."""
        if self.closed:
            return
        head = len(body).to_bytes(4, "big") + bytes((len(descriptors),))
        own = [os.dup(descriptor) for descriptor in descriptors]
        self._put(memoryview(head), own)
        self._put(memoryview(body), ())
        if not self._writing:
            self._write()
        if self._waiting > self._backlog:
            self._end()

    async def drained(self) -> None:
        """Little waits to be read, or the channel is over."""
        await self._drained.wait()

    def _put(self, data: memoryview, descriptors: Sequence[int]) -> None:
        if data:
            self._unsent.append((data, descriptors))
            self._waiting += len(data)

    def _write(self) -> None:
        while self._unsent:
            try:
                sent = self._send_some()
            except BlockingIOError:
                break
            except OSError:
                self._end()
                return
            self._waiting -= sent
        if self._waiting > LOW_WATER:
            self._drained.clear()
        else:
            self._drained.set()
        self._watch(writing=bool(self._unsent))

    def _send_some(self) -> int:
        """A head with its descriptors goes alone: they must not come with a message before theirs."""
        data, descriptors = self._unsent[0]
        if not descriptors:
            sent = self._sock.send(data)
        else:
            rights = array.array("i", descriptors)
            sent = self._sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            _close_all(descriptors)
        if sent < len(data):
            self._unsent[0] = data[sent:], ()
        else:
            self._unsent.popleft()
        return sent

    def _watch(self, *, writing: bool) -> None:
        if writing and not self._writing:
            self._loop.add_writer(self._sock.fileno(), self._write)
        elif self._writing and not writing:
            self._loop.remove_writer(self._sock.fileno())
        self._writing = writing

    # ---- in

    def _read(self) -> None:
        for _ in range(READS_A_TURN):
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(READ_BYTES, self._space, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._end()
                return
            self._keep(ancillary)
            if not data or flags & socket.MSG_CTRUNC:
                self._end()
                return
            self._unread += data
            if not self._deliver():
                self._end()
                return
            if self.closed or len(data) < READ_BYTES:
                return

    def _keep(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(data[: len(data) - len(data) % _INT])
                self._descriptors.extend(numbers)

    def _deliver(self) -> bool:
        """Hand on every message that is whole, each once, whatever becomes of it; False for one that cannot be."""
        unread = self._unread
        start = 0
        try:
            while not self.closed and len(unread) - start >= _HEAD:
                size = int.from_bytes(unread[start : start + 4], "big")
                count = unread[start + 4]
                if size > self._longest or count > self._most_descriptors:
                    return False
                if len(unread) - start < _HEAD + size:
                    break
                if count > len(self._descriptors):
                    return False
                body = bytes(memoryview(unread)[start + _HEAD : start + _HEAD + size])
                start += _HEAD + size
                self._received(body, [self._descriptors.popleft() for _ in range(count)])
        finally:
            del unread[:start]
        return True

    # ---- the end

    def close(self) -> None:
        """No more, both ways; `lost` is not called. What was not read there yet is not lost if its socket took it."""
        if self.closed:
            return
        self.closed = True
        self._watch(writing=False)
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for _, descriptors in self._unsent:
            _close_all(descriptors)
        _close_all(self._descriptors)
        self._unsent.clear()
        self._drained.set()

    def _end(self) -> None:
        if not self.closed:
            self.close()
            self._loop.call_soon(self._lost)


def _close_all(descriptors: Sequence[int] | deque[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
