"""Who has connected and not yet shown what they want: a hello, a PROXY header or a handshake is still due.

Promise: at most so many stand here as the caller allows; one more, and the oldest is shed: a client that means it is done in
milliseconds. Refuses to know what they have to show.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Waiting(Protocol):
    """Something that can be told, inside its wait, to go."""

    def interrupt(self, error: BaseException) -> None:
        """Only from a callback of the event loop."""


class Doorstep:
    """All connections of a process in that state."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._standing: dict[Waiting, None] = {}

    def __len__(self) -> int:
        return len(self._standing)

    def __contains__(self, one: Waiting) -> bool:
        return one in self._standing

    def enter(self, one: Waiting, most: int) -> bool:
        """Let `one` stand here; True: the oldest had to go for it."""
        full = len(self._standing) >= most
        if full:
            self._shed(next(iter(self._standing)), "shed")
        self._standing[one] = None
        return full

    def leave(self, one: Waiting) -> None:
        """It has shown what it wants, or is gone. Safe twice."""
        self._standing.pop(one, None)

    def change(self, old: Waiting, new: Waiting) -> None:
        """`old` goes on as `new`. Raises ConnectionAbortedError where it has been shed meanwhile and does not know it yet."""
        if old not in self._standing:
            raise ConnectionAbortedError("shed")
        del self._standing[old]
        self._standing[new] = None

    def clear(self) -> None:
        """A drain: nobody is waited for any more."""
        for one in list(self._standing):
            self._shed(one, "draining")

    def _shed(self, one: Waiting, why: str) -> None:
        del self._standing[one]
        self._loop.call_soon(one.interrupt, ConnectionAbortedError(why))
