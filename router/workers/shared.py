"""Limits that hold over all workers, by memory that they share.

The supervisor:

    shared = Shared.create(rows)            # as many rows as workers can live at one time, those that drain included
    send(shared.descriptors())              # to each worker, with the number of its row, that no other living worker has
    shared.clear(row)                       # a worker is dead: before its row is given to another
    number = shared.cells.take()            # for a new endpoint of a route; shared.buckets.take() for a route with a rate
    shared.cells.release(number)            # it is gone from the table
    shared.in_flight(number)                # what all workers have at it

A worker:

    shared = Shared.attach(descriptors, row)
    Listening(..., counters=shared), L4Live(..., counters=shared)    # it is the `Counters` of router/net/budget.py
    shared.pulse(number), shared.bucket(number)                      # in place of Pulse(), Bucket(); 0 gives these

Promises: no limit is passed by all workers together; a dead worker's share is gone with `clear`; nothing here waits longer than
LOCK_SECONDS. What is a worker's own and stays so: the doorstep (`max_handshakes`: hellos, PROXY headers and handshakes under
way), whose bound is against memory, and the sparse lines of the log.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from registry.bucket import Bucket
from registry.endpoint import Pulse
from router.net.budget import Counters
from router.workers.memory import BUCKETS, CELLS, IN_FLIGHT, STRIDE, Memory
from router.workers.shared_cells import Cells, SharedBucket, SharedPulse
from router.workers.shared_counters import SharedGauge, SharedHeld, SharedWindow


class Shared(Counters):
    """One process's view of it."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.cells = Cells(CELLS, self._nobody_is_in, time.monotonic)
        self.buckets = Cells(BUCKETS, self._emptied, time.monotonic)

    @classmethod
    def create(cls, rows: int) -> Shared:
        """For the supervisor, who counts nothing itself. Raises OSError."""
        return cls(Memory.create(rows))

    @classmethod
    def attach(cls, descriptors: Sequence[int], row: int) -> Shared:
        """For the worker with this row; the descriptors are its own from now on. Raises OSError, ValueError."""
        (descriptor,) = descriptors
        return cls(Memory(descriptor, row))

    def descriptors(self) -> list[int]:
        """What a worker needs to attach."""
        return [self._memory.descriptor]

    def clear(self, row: int) -> None:
        """The worker of this row is dead, and what it held is free."""
        self._memory.clear(row)

    def close(self) -> None:
        """Nothing that came from here is used any more."""
        self._memory.close()

    def gauge(self, name: str) -> SharedGauge:
        return SharedGauge(self._memory, name)

    def held(self, name: str) -> SharedHeld:
        return SharedHeld(self._memory, name)

    def window(self, name: str) -> SharedWindow:
        return SharedWindow(self._memory, name)

    def firewall(self) -> SharedWindow:
        return SharedWindow(self._memory, None)

    def pulse(self, number: int, expires: float = math.inf) -> Pulse:
        """`expires`: monotonic seconds."""
        return SharedPulse(self._memory, number, expires) if number else Pulse(expires)

    def in_flight(self, number: int) -> int:
        """Requests that all workers have at an endpoint; 0 where it has no cell."""
        return self._memory.sum(IN_FLIGHT + number)

    def bucket(self, number: int) -> Bucket:
        return SharedBucket(self._memory, number) if number else Bucket()

    def _nobody_is_in(self, number: int) -> bool:
        return not any(self._memory.words[IN_FLIGHT + number :: STRIDE])

    def _emptied(self, number: int) -> bool:
        self._memory.buckets[2 * number] = self._memory.buckets[2 * number + 1] = 0.0
        return True
