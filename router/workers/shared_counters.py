"""What a listener's limits are kept by, over all workers: how many are open, who holds how many, how often they came.

Promises: whoever wants in is counted in first, then all are counted, and is taken back where they are too many: so a limit is
never passed, whatever happens in which order, and at worst two who come at the same moment for the last place are both refused.
What a dead worker counted is gone as soon as its row is cleared. The memory is fixed: clients are told apart by two keyed
hashes, and one counts as more than it is only where it meets others in both, so a flood of sources is slowed and costs nothing.
Refuses to know what is limited, and to how much (`router/net/budget.py`).

Source: count-min sketch (Cormode, Muthukrishnan 2005); windows as in the one process, but all begin at multiples of their length
on the clock that a machine's processes have in common.
"""

from __future__ import annotations

import hashlib
from typing import Final

from router.net.budget import Client, Gauge, Held, Window
from router.workers.memory import FIREWALL, GAUGES, HELD, RECENT, SPREAD, STRIDE, TOTALS, Memory

_COUNT_BITS: Final = 24
_COUNTS: Final = (1 << _COUNT_BITS) - 1
_NUMBERS: Final = (1 << 38) - 1
_AHEAD_SECONDS: Final = 5.0
"""A worker whose turn of the loop is long believes others about what time it is, but not anything."""
_TURNS: Final = 4


class SharedGauge(Gauge):
    """A named word."""

    __slots__ = ("_at", "_memory")

    def __init__(self, memory: Memory, name: str) -> None:
        self._memory = memory
        self._at = GAUGES + memory.slot(name)

    @property
    def open(self) -> int:
        return self._memory.sum(self._at)

    def enter(self, most: int) -> bool:
        memory = self._memory
        memory.words[memory.own + self._at] += 1
        if not most:
            return True
        memory.settle()
        if memory.sum(self._at) <= most:
            return True
        self.leave()
        return False

    def leave(self) -> None:
        self._memory.words[self._memory.own + self._at] -= 1


class _Places:
    """Where clients are counted in a table."""

    __slots__ = ("_hash", "_table")

    def __init__(self, memory: Memory, table: int, name: str) -> None:
        self._table = table
        self._hash = hashlib.blake2b(name.encode() + b"\0", key=memory.key, digest_size=4)

    def of(self, client: Client) -> tuple[int, int]:
        hashed = self._hash.copy()
        hashed.update(client.encode("utf-8", "surrogateescape") if isinstance(client, str) else client)
        one, two = divmod(int.from_bytes(hashed.digest(), "big"), SPREAD)
        return self._table + one, self._table + SPREAD + two


class SharedHeld(Held):
    """What is held is told to the others only where it is limited; from then on for good."""

    __slots__ = ("_memory", "_places", "_told")

    def __init__(self, memory: Memory, name: str) -> None:
        super().__init__()
        self._memory = memory
        self._places = _Places(memory, HELD, name)
        self._told = False

    def watch(self, most: int) -> None:
        if most and not self._told:
            self._told = True
            for client, held in self._clients.items():
                self._tell(client, held)

    def enter(self, client: Client, most: int) -> bool:
        super().enter(client, 0)
        if not self._told:
            return True
        places = self._tell(client, 1)
        if not most:
            return True
        memory = self._memory
        memory.settle()
        if min(map(memory.sum, places)) <= most:
            return True
        self.leave(client)
        return False

    def leave(self, client: Client) -> None:
        super().leave(client)
        if self._told:
            self._tell(client, -1)

    def _tell(self, client: Client, more: int) -> tuple[int, int]:
        memory, places = self._memory, self._places.of(client)
        for place in places:
            memory.words[memory.own + place] += more
        return places


class SharedWindow(Window):
    """A word holds the number of a window and what this worker counted in it. Who sees a later window than its own goes on to
    that one, so that nobody is let in by a clock that is behind.
    """

    __slots__ = ("_memory", "_places", "_total")

    _total: tuple[int, ...]

    def __init__(self, memory: Memory, name: str | None) -> None:
        """None: the firewall's, of any length and without a total."""
        super().__init__()
        self._memory = memory
        if name is None:
            self._places, self._total = _Places(memory, FIREWALL, ""), ()
        else:
            self._places, self._total = _Places(memory, RECENT, name), (TOTALS + memory.slot(name),)

    def count(self, client: Client, now: float, seconds: float) -> int:
        number = int(now / seconds) & _NUMBERS
        most = number + int(_AHEAD_SECONDS / seconds) + 1
        places = self._places.of(client) + self._total
        counts = [0, 0, 0]
        for _ in range(_TURNS):
            number = max(self._newest(place, number, most) for place in places)
            for place in places:
                self._hit(place, number)
            self._memory.settle()
            counts = [self._counted(place, number) for place in places]
            if all(self._newest(place, number, most) == number for place in places):
                break
        self.total = counts[-1]
        return min(counts[:2])

    def _newest(self, place: int, number: int, most: int) -> int:
        newest = number
        for word in self._memory.words[place::STRIDE]:
            if newest < word >> _COUNT_BITS <= most:
                newest = word >> _COUNT_BITS
        return newest

    def _counted(self, place: int, number: int) -> int:
        return sum(word & _COUNTS for word in self._memory.words[place::STRIDE] if word >> _COUNT_BITS == number)

    def _hit(self, place: int, number: int) -> None:
        memory = self._memory
        at = memory.own + place
        word = memory.words[at]
        count = word & _COUNTS if word >> _COUNT_BITS == number else 0
        memory.words[at] = number << _COUNT_BITS | min(count + 1, _COUNTS)
