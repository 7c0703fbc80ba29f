"""Random bytes for request ids, drawn from the kernel a few hundred requests at a time.

Promise: every portion is fresh from `os.urandom` and handed out once. A forked child must make its own: a copy would
repeat its parent's.
"""

from __future__ import annotations

from os import urandom
from typing import Final

PORTIONS: Final = 256


class Entropy:
    """Portions of `size` random bytes."""

    __slots__ = ("_at", "_drawn", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._drawn = b""
        self._at = 0

    def take(self) -> bytes:
        """The next portion."""
        at = self._at
        if at == len(self._drawn):
            self._drawn = urandom(self._size * PORTIONS)
            at = 0
        self._at = at + self._size
        return self._drawn[at : self._at]
