"""Cells for what routes count over all workers: an endpoint's requests in flight, a route's rate.

Promises: the supervisor numbers the cells (`Cells`), and a cell that was released is given to nobody before its old owner's last
request has ended and nobody can begin another; 0 is no cell. A place at an endpoint is taken first and counted then, so that no
limit is passed; where a bucket's lock is not to be had in time, the answer is no. Refuses to know what a limit is.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final

from registry.bucket import Bucket
from registry.endpoint import Pulse
from router.workers.memory import IN_FLIGHT, STRIDE, Memory

QUARANTINE_SECONDS: Final = 60.0
"""A worker learns of a new table within milliseconds; one that is this far behind has long been replaced."""
_LOOKS: Final = 8
_SHUT_SECONDS: Final = 0.1
"""For so long nobody asks again for a lock that was not to be had."""


class Cells:
    """Numbers from 1, given once at a time."""

    def __init__(self, count: int, at_rest: Callable[[int], bool], clock: Callable[[], float]) -> None:
        """`at_rest`: is nothing counted in a cell any more? Then it is all zeros."""
        self._count = count
        self._at_rest = at_rest
        self._clock = clock
        self._fresh = 1
        self._released: deque[tuple[float, int]] = deque()

    def take(self) -> int:
        """A cell that is all zeros; 0 when there is none."""
        released, now = self._released, self._clock()
        for _ in range(_LOOKS):
            if not released or released[0][0] > now:
                break
            _, number = released.popleft()
            if self._at_rest(number):
                return number
            released.append((now + QUARANTINE_SECONDS, number))
        if self._fresh >= self._count:
            return 0
        self._fresh += 1
        return self._fresh - 1

    def release(self, number: int) -> None:
        """Its owner is gone from the table."""
        if number:
            self._released.append((self._clock() + QUARANTINE_SECONDS, number))


class SharedPulse(Pulse):
    """Liveness is each worker's own business, requests in flight are everybody's."""

    __slots__ = ("_at", "_memory")

    def __init__(self, memory: Memory, number: int, expires: float = math.inf) -> None:
        self._memory = memory
        self._at = IN_FLIGHT + number
        self.expires = expires
        self.lift()

    @property
    def in_flight(self) -> int:
        return sum(self._memory.words[self._at :: STRIDE])

    @in_flight.setter
    def in_flight(self, value: int) -> None:
        memory = self._memory
        memory.words[memory.own + self._at] += value - self.in_flight

    def enter(self, most: int) -> bool:
        memory, at = self._memory, self._at
        memory.words[memory.own + at] += 1
        if not most:
            return True
        memory.settle()
        if sum(memory.words[at::STRIDE]) <= most:
            return True
        self.leave()
        return False

    def leave(self) -> None:
        memory = self._memory
        memory.words[memory.own + self._at] -= 1


class SharedBucket(Bucket):
    """A bucket from which all workers take. A cell of zeros is one that was empty when the machine started."""

    __slots__ = ("_memory", "_number", "_shut_until")

    def __init__(self, memory: Memory, number: int) -> None:
        super().__init__()
        self._memory = memory
        self._number = number
        self._shut_until = 0.0

    def take(self, rate: float, now: float) -> float:
        memory, number = self._memory, self._number
        if now < self._shut_until or not memory.lock(number):
            self._shut_until = max(self._shut_until, now + _SHUT_SECONDS)
            return max(_SHUT_SECONDS, 1.0 / rate)
        cells, at = memory.buckets, 2 * number
        try:
            self._at, self._tokens = cells[at], cells[at + 1]
            wait = super().take(rate, now)
            cells[at] = self._at  # the time first: a death in between costs a token and gives none
            cells[at + 1] = self._tokens
        finally:
            memory.unlock(number)
        return wait
