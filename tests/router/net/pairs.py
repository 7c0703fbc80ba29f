"""Connected TCP sockets, one end of them a stream on the running loop, and a loop whose clock the test moves."""

import asyncio
import heapq
import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from router.net.deadline import Wheel
from router.net.stream import Stream

SOON = 10.0
"""Seconds in which what must happen does happen."""


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection on loopback; the first is non-blocking, the second blocks for at most SOON."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname(), SOON)
        ours, _ = listener.accept()
    ours.setblocking(False)
    for sock in (ours, theirs):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


class CountingStream(Stream):
    """A stream that counts its wake-ups."""

    __slots__ = ("wakeups",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.wakeups = 0

    def _on_readable(self) -> None:
        self.wakeups += 1
        super()._on_readable()


@contextmanager
def connected() -> Iterator[tuple[CountingStream, socket.socket]]:
    """(a stream on the running loop, its peer)."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    ours, theirs = tcp_pair()
    stream = CountingStream(ours, loop, wheel)
    try:
        yield stream, theirs
    finally:
        stream.close()
        theirs.close()
        wheel.close()


def soon() -> float:
    """A deadline that is not meant to pass."""
    return asyncio.get_running_loop().time() + SOON


class HandMovedLoop:
    """The timers of an event loop, with a clock that only `advance` moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._cancelled: set[int] = set()

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object]) -> "HandMovedTimer":
        return self.call_at(self.now + delay, callback)

    def call_at(self, when: float, callback: Callable[[], object]) -> "HandMovedTimer":
        number = next(self._numbers)
        heapq.heappush(self._timers, (when, number, callback))
        return HandMovedTimer(self, number)

    def cancel(self, number: int) -> None:
        self._cancelled.add(number)

    @property
    def timers(self) -> int:
        """How many timers wait."""
        return sum(number not in self._cancelled for _, number, _ in self._timers)

    def advance(self, seconds: float) -> None:
        """Let time pass, and every timer of that time run at its moment."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, number, callback = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            if number not in self._cancelled:
                callback()
        self.now = end

    def as_loop(self) -> asyncio.AbstractEventLoop:
        return cast("asyncio.AbstractEventLoop", self)


class HandMovedTimer:
    """What `call_later` of a hand-moved loop returns."""

    def __init__(self, loop: HandMovedLoop, number: int) -> None:
        self._loop = loop
        self._number = number

    def cancel(self) -> None:
        self._loop.cancel(self._number)
