"""Who may write into a log that several processes share: one at a time, a whole batch at a time.

Promises: the kernel gives the lock back when its holder dies, however it dies; the next holder learns that a line may have been
left half written, and ends it. `hold` waits, so it is for a sink's thread and never for the event loop's.
Refuses to know what is written, and where.

The lock is `flock` on a file in memory, which every process opens anew: a lock of an inherited description would be held by all
of them at once. Not `fcntl`'s: two such locks in two threads look like a deadlock to the kernel where there is none. Not on the
log itself: standard output may be a socket, or another user's pipe, and then cannot be opened anew.
"""

import fcntl
import mmap
import os
from typing import Self


def make_line_lock() -> int:
    """A descriptor that `LineLock` takes, here and in the processes that inherit it."""
    descriptor = os.memfd_create("line-lock", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, 1)
    return descriptor


class LineLock:
    """One process's hand on the lock behind `descriptor`, which stays the caller's. Raises OSError if it cannot be opened."""

    __slots__ = ("_descriptor", "_unfinished")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        self._unfinished = mmap.mmap(self._descriptor, 1)

    @classmethod
    def create(cls) -> Self:
        """The first process's hand on a new one. Raises OSError."""
        descriptor = make_line_lock()
        try:
            return cls(descriptor)
        finally:
            os.close(descriptor)

    @property
    def descriptor(self) -> int:
        """What another process needs to have a hand on it too."""
        return self._descriptor

    def hold(self) -> bool:
        """Wait for the lock; say whether the last holder may have left a line unfinished. Raises OSError."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        unfinished = self._unfinished[0] != 0
        self._unfinished[0] = 1
        return unfinished

    def release(self, *, finished: bool) -> None:
        """Let the next one write; `finished`: the last byte that was written ended a line."""
        if finished:
            self._unfinished[0] = 0
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give up the lock for good."""
        self._unfinished.close()
        os.close(self._descriptor)
