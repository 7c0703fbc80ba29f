"""Epoch seconds as text, in the one form that both of GoRouter's logs use: UTC, nine digits, a trailing Z.

Promises: `2006-01-02T15:04:05.000000000Z` for any float that is a time; the date part is computed once a
second.
Refuses to know the clock: the caller brings the time. A float of today resolves to about 0.2 microseconds, so
the last digits of the nine are not information; they keep the shape that parsers of GoRouter's logs expect.
"""

import time


class Timestamps:
    """Renders times that mostly fall in the same second. Not for several threads at once."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def rfc3339(self, epoch: float) -> str:
        """`epoch` seconds as text."""
        second = int(epoch)
        if second != self._second:
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return "%s.%09dZ" % (self._prefix, int((epoch - second) * 1_000_000_000))  # noqa: UP031 - measured faster
