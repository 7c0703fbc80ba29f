"""Pipes to splice through, lent only while bytes are in them.

Promise: at most `limit` are out at a time; `borrow` answers None beyond that and where the system gives none: the bytes then go
through the process, which costs more and holds less. Few are kept between loans, since the kernel shrinks the pipes of a user
who has many. A pipe comes back empty or is closed. Source: splice(2), pipe(7).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Final, NamedTuple

PIPE_BYTES: Final = 1 << 18
"""Asked for; a user with many pipes gets less, which costs system calls and nothing else."""
MAX_LENT: Final = 256
"""With PIPE_BYTES the 64 MiB that Linux lets a user have in pipes before it shrinks them (`pipe-user-pages-soft`)."""
MAX_KEPT: Final = 8


class Pipe(NamedTuple):
    """Both ends, non-blocking."""

    source: int
    sink: int


class Pipes:
    """The pipes of one event loop."""

    def __init__(self, limit: int = MAX_LENT) -> None:
        """`limit` 0: none at all, every relay goes without."""
        self._limit = limit if hasattr(os, "splice") else 0
        self._kept: list[Pipe] = []
        self.lent = 0

    def borrow(self) -> Pipe | None:
        """An empty pipe, or None where none is to be had."""
        if self.lent >= self._limit:
            return None
        try:
            pipe = self._kept.pop() if self._kept else _new()
        except OSError:
            return None
        self.lent += 1
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """It is empty again."""
        self.lent -= 1
        if len(self._kept) < MAX_KEPT:
            self._kept.append(pipe)
        else:
            _close(pipe)

    def discard(self, pipe: Pipe) -> None:
        """Bytes are left in it that nobody wants any more."""
        self.lent -= 1
        _close(pipe)

    def close(self) -> None:
        """The kept ones go; those that are lent go with their relays."""
        while self._kept:
            _close(self._kept.pop())


def _new() -> Pipe:
    pipe = Pipe(*os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe.sink, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return pipe


def _close(pipe: Pipe) -> None:
    os.close(pipe.source)
    os.close(pipe.sink)
