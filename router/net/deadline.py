"""A coarse timer wheel: every wait on the data path has a deadline, and none costs a timer.

Promise: `expire()` of an armed object is called once, at its deadline or at most one tick (0.25 s) later, never earlier.
Arming costs an attribute and, only when the new deadline is earlier than the slot it already sits in, one set insertion;
moving a deadline later is free, because a slot that comes up early puts the object back. `forget` drops the last reference,
so closed connections leave nothing behind.

Times are seconds of the event loop's clock (`loop.time()`).
"""

from __future__ import annotations

import asyncio

TICK = 0.25
NEVER = float("inf")


class Timed:
    """Something with a deadline; `expire` is called by the wheel, from a callback of the event loop."""

    __slots__ = ("deadline", "slot")

    def __init__(self) -> None:
        self.deadline = NEVER
        self.slot: int | None = None

    def expire(self) -> None:
        raise AssertionError("a Timed object says what its expiry means")


class Wheel:
    """All deadlines of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, set[Timed]] = {}
        self._done = int(loop.time() / TICK)
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, timed: Timed, deadline: float) -> None:
        """Let `timed` expire at `deadline`; replaces the deadline it had."""
        later = deadline >= timed.deadline
        timed.deadline = deadline
        if deadline == NEVER or (later and timed.slot is not None):
            return
        slot = int(deadline / TICK) + 1
        if timed.slot is None or slot < timed.slot:
            self._move(timed, slot)

    def forget(self, timed: Timed) -> None:
        """`timed` never expires, and the wheel keeps no reference to it."""
        timed.deadline = NEVER
        if timed.slot is not None:
            self._leave(timed, timed.slot)
            timed.slot = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._slots.clear()

    def _move(self, timed: Timed, slot: int) -> None:
        if timed.slot is not None:
            self._leave(timed, timed.slot)
        slot = max(slot, self._done + 1)
        timed.slot = slot
        self._slots.setdefault(slot, set()).add(timed)
        self._wind()

    def _wind(self) -> None:
        """Turn again when the next slot comes up, as long as anything waits: off their beat, expiry would come two ticks late."""
        if self._timer is None and self._slots:
            self._timer = self._loop.call_at((int(self._loop.time() / TICK) + 1) * TICK, self._turn)

    def _leave(self, timed: Timed, slot: int) -> None:
        members = self._slots.get(slot)
        if members is not None:
            members.discard(timed)
            if not members:
                del self._slots[slot]

    def _turn(self) -> None:
        """Take every slot that has come up: expire what is due, put back what was moved to later."""
        self._timer = None
        now = self._loop.time()
        upto = int(now / TICK)
        due = [slot for slot in self._slots if slot <= upto]
        self._done = upto
        for slot in due:
            for timed in self._slots.pop(slot, ()):
                if timed.slot != slot:
                    continue
                timed.slot = None
                if timed.deadline <= now:
                    timed.deadline = NEVER
                    timed.expire()
                elif timed.deadline < NEVER:
                    self._move(timed, int(timed.deadline / TICK) + 1)
        self._wind()
