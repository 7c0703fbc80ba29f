"""How many connections a listener may hold, from whom and how fast; pure arithmetic, bounded memory.

Promise: `admit` answers in constant time with None or the reason for shedding (a bounded set, a metric label). 0 switches a
limit off. The rate limits count new connections in windows of one second; at most MAX_ADDRESSES are remembered, beyond that
new addresses share one count, so a flood of sources can be slowed but never costs memory. An IPv6 client is its /64, in which
it has every address it likes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from authz.networks import plain_address

MAX_ADDRESSES: Final = 65536
WINDOW_SECONDS: Final = 1.0
SITE_BYTES: Final = 8  # of an IPv6 address

Key = TypeVar("Key")
Shed = Literal["max_connections", "total", "per_address", "rate"]


class Window(Generic[Key]):
    """How often each key came in the current window of time. `total`: all together."""

    __slots__ = ("_counts", "_ends", "total")

    def __init__(self) -> None:
        self.total = 0
        self._counts: dict[Key | None, int] = {}
        self._ends = 0.0

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, key: Key, now: float, seconds: float) -> int:
        """Count `key` once more; how often it has come by now. `seconds`: how long a window lasts."""
        if now >= self._ends or now + seconds < self._ends:  # it is over, or windows have become shorter
            self._counts.clear()
            self.total = 0
            self._ends = now + seconds
        at = key if key in self._counts or len(self._counts) < MAX_ADDRESSES else None
        count = self._counts[at] = self._counts.get(at, 0) + 1
        self.total += 1
        return count


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """Connections in all and of one address; new connections a second, in all and of one address."""

    max_connections: int = 0
    per_address: int = 0
    rate: int = 0
    rate_per_address: int = 0


class Total:
    """What all listeners together have admitted, and may. `limit` 0: any number."""

    __slots__ = ("limit", "open")

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.open = 0


class Budget:
    """What one listener has admitted. `total`: shared with the others."""

    def __init__(self, limits: BudgetLimits, total: Total | None = None) -> None:
        self.limits = limits
        self._total = Total() if total is None else total
        self.open = 0
        self._held: dict[str | bytes, int] = {}
        self._recent: Window[str | bytes] = Window()

    def admit(self, address: str, now: float) -> Shed | None:
        """Count a new connection in, unless it is to be shed. `now`: seconds, monotonic."""
        limits = self.limits
        if limits.max_connections and self.open >= limits.max_connections:
            return "max_connections"
        total = self._total
        if total.limit and total.open >= total.limit:
            return "total"
        client = _client(address)
        if (limits.rate or limits.rate_per_address) and self._too_fast(client, now):
            return "rate"
        held = self._held.get(client, 0)
        if limits.per_address and held >= limits.per_address:
            return "per_address"
        self._held[client] = held + 1
        self.open += 1
        total.open += 1
        return None

    def leave(self, address: str) -> None:
        """Count an admitted connection out."""
        self.open -= 1
        self._total.open -= 1
        client = _client(address)
        held = self._held.get(client, 0)
        if held > 1:
            self._held[client] = held - 1
        else:
            self._held.pop(client, None)

    def _too_fast(self, client: str | bytes, now: float) -> bool:
        count = self._recent.count(client, now, WINDOW_SECONDS)
        limits = self.limits
        return 0 < limits.rate < self._recent.total or 0 < limits.rate_per_address < count


def _client(address: str) -> str | bytes:
    if ":" not in address:
        return address
    found = plain_address(address)
    return address if found is None else found.packed[:SITE_BYTES]
