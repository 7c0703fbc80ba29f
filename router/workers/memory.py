"""Memory that the processes of a router share: a row of words for each worker, and a few cells in common.

Promises: a word is written by the one worker whose row it is in, and read by all; what a worker's row holds vanishes with one
`clear`, whatever the worker was about when it died. Nobody can cut the memory off under the others. Pages that nobody uses do not
exist, so the sizes below are bounds and not costs. A lock is the kernel's, who opens it when its holder dies, and is never waited
for without a bound. Refuses to know what is counted.

A worker is trusted with no more than the counts: it can spoil limits, and nothing else.

Source: memfd_create(2), madvise(2) MADV_REMOVE, fcntl(2) F_ADD_SEALS and record locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import secrets
import threading
import time
from typing import Final

WORD: Final = 8
NAMES: Final = 4096
"""Listeners, and what else is counted by its name."""
SPREAD: Final = 65536
"""Places of a table for one hash of two: of the addresses of clients, who are not known beforehand."""
CELLS: Final = 1 << 22
"""Endpoints of routes."""
BUCKETS: Final = 1 << 20
"""Routes with a rate."""
MOST_ROWS: Final = 512

GAUGES: Final = 0  # where a part of a row begins, in words
TOTALS: Final = GAUGES + NAMES
HELD: Final = TOTALS + NAMES
RECENT: Final = HELD + 2 * SPREAD
FIREWALL: Final = RECENT + 2 * SPREAD
IN_FLIGHT: Final = FIREWALL + 2 * SPREAD
STRIDE: Final = IN_FLIGHT + CELLS

LOCK_SECONDS: Final = 0.01
"""A lock is held for microseconds; a holder that was stopped in the middle must not stop the others."""
NAME_SECONDS: Final = 1.0

_MAGIC: Final = 0x76657374_00000001
_HEADER: Final = 512  # words: what it is, the number of rows, the key
_KEY: Final = slice(2 * WORD, 4 * WORD)
_DIRECTORY: Final = _HEADER
_BUCKETS_AT: Final = 8192  # words; all parts begin at a multiple of the largest page that a kernel has, 64 KiB
ROWS_AT: Final = _BUCKETS_AT + 2 * BUCKETS
_LOCK_OF_NAMES: Final = BUCKETS


class Memory:
    """One file in memory, mapped by every process of the router."""

    def __init__(self, descriptor: int, row: int | None) -> None:
        """Takes the descriptor over. `row`: that of the worker; None: who only reads. Raises ValueError, OSError."""
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, 0)
        self._bytes = memoryview(self._map)
        common = self._bytes[: ROWS_AT * WORD]
        self._common = common.cast("q")
        self.rows = self._common[1]
        if self._common[0] != _MAGIC or (row is not None and not 0 <= row < self.rows):
            raise ValueError(f"no shared memory with a row {row}")
        self.key = bytes(self._bytes[_KEY])
        self.words = self._bytes[ROWS_AT * WORD :].cast("q")
        self.own = len(self.words) if row is None else row * STRIDE  # who has no row has no word to write
        self.buckets = common[_BUCKETS_AT * WORD :].cast("d")
        self._barrier = threading.Lock()

    @classmethod
    def create(cls, rows: int) -> Memory:
        """All zeros. Raises OSError."""
        if not 0 < rows <= MOST_ROWS:
            raise ValueError(f"{rows} rows; 1 to {MOST_ROWS} can be had")
        descriptor = os.memfd_create("vestibule-counts", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, (ROWS_AT + rows * STRIDE) * WORD)
        os.pwrite(descriptor, _MAGIC.to_bytes(WORD, "little") + rows.to_bytes(WORD, "little") + secrets.token_bytes(16), 0)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return cls(descriptor, None)

    def clear(self, row: int) -> None:
        """What the worker of this row has counted is gone, and its pages with it. It must be dead."""
        self._map.madvise(mmap.MADV_REMOVE, (ROWS_AT + row * STRIDE) * WORD, STRIDE * WORD)

    def close(self) -> None:
        """Only the processes that still have it keep it alive."""
        for view in (self.words, self.buckets, self._common, self._bytes):
            view.release()
        os.close(self.descriptor)
        with contextlib.suppress(BufferError):  # a part of it is in somebody's hand: then it goes with him
            self._map.close()

    def sum(self, at: int) -> int:
        """A word of all rows together."""
        return sum(self.words[at::STRIDE])

    def settle(self) -> None:
        """What this process wrote is seen by the others before it reads what they wrote: a locked instruction lies between.

        Without it two processors can each hold a write back, and both read what was before. (Some ARM processors may still, for
        nanoseconds; then one more than the limit is let in.)
        """
        self._barrier.acquire()
        self._barrier.release()

    def lock(self, number: int, seconds: float = LOCK_SECONDS) -> bool:
        """Hold the lock of a bucket against the other processes; False: it was not to be had in time."""
        until = 0.0
        while True:
            try:
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except OSError:
                now = time.monotonic()
                until = until or now + seconds
                if now >= until:
                    return False
                os.sched_yield()
            else:
                return True

    def unlock(self, number: int) -> None:
        fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, number)

    def slot(self, name: str) -> int:
        """The number of a name, the same in every process and for good. Raises OSError when there is none left.

        After so many names one of which nothing is open gives its number to the next.
        """
        digest = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=WORD).digest(), "little", signed=True) or 1
        if not self.lock(_LOCK_OF_NAMES, NAME_SECONDS):
            raise TimeoutError("the names of the shared counts are locked by a process that does not go on")
        try:
            return self._slot(digest)
        finally:
            self.unlock(_LOCK_OF_NAMES)

    def _slot(self, digest: int) -> int:
        known = self._common[_DIRECTORY : _DIRECTORY + NAMES].tolist()
        if digest in known:
            return known.index(digest)
        found = known.index(0) if 0 in known else next((at for at in range(NAMES) if not self.sum(GAUGES + at)), None)
        if found is None:
            raise OSError(f"more than {NAMES} listeners are counted")
        self._common[_DIRECTORY + found] = digest
        return found
