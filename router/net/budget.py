"""How many connections a listener may hold, from whom and how fast; pure arithmetic, bounded memory.

Promise: `admit` answers in constant time with None or the reason for shedding (a bounded set, a metric label). 0 switches a
limit off. The rate limits count new connections in windows of one second; at most MAX_ADDRESSES are remembered, beyond that
new addresses share one count, so a flood of sources can be slowed but never costs memory. An IPv6 client is its /64, in which
it has every address it likes. Refuses to know whether the counts are one process's own or shared with others (`Counters`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from authz.networks import plain_address

MAX_ADDRESSES: Final = 65536
WINDOW_SECONDS: Final = 1.0
SITE_BYTES: Final = 8  # of an IPv6 address

Client: TypeAlias = str | bytes
Shed = Literal["max_connections", "total", "per_address", "rate"]


class Gauge:
    """How many are open now."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open = 0

    @property
    def open(self) -> int:
        return self._open

    def enter(self, most: int) -> bool:
        """One more, unless `most` are open; 0: any number."""
        if 0 < most <= self._open:
            return False
        self._open += 1
        return True

    def leave(self) -> None:
        self._open -= 1


class Held:
    """How many each client holds now."""

    __slots__ = ("_clients",)

    def __init__(self) -> None:
        self._clients: dict[Client, int] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def watch(self, most: int) -> None:
        """From now on no client may have more than so many; 0: any number."""

    def enter(self, client: Client, most: int) -> bool:
        """One more of this client, unless it has `most`; 0: any number."""
        held = self._clients.get(client, 0)
        if 0 < most <= held:
            return False
        self._clients[client] = held + 1
        return True

    def leave(self, client: Client) -> None:
        held = self._clients.get(client, 0)
        if held > 1:
            self._clients[client] = held - 1
        else:
            self._clients.pop(client, None)


class Window:
    """How often each client came in the current window of time. `total`: all together."""

    __slots__ = ("_counts", "_ends", "total")

    def __init__(self) -> None:
        self.total = 0
        self._counts: dict[Client | None, int] = {}
        self._ends = 0.0

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, client: Client, now: float, seconds: float) -> int:
        """Count `client` once more; how often it has come by now. `seconds`: how long a window lasts."""
        if now >= self._ends or now + seconds < self._ends:  # it is over, or windows have become shorter
            self._counts.clear()
            self.total = 0
            self._ends = now + seconds
        at = client if client in self._counts or len(self._counts) < MAX_ADDRESSES else None
        count = self._counts[at] = self._counts.get(at, 0) + 1
        self.total += 1
        return count


class Counters:
    """Gives what is counted with: here in this process's own memory, so that names say nothing. Where counts are shared, all who
    ask for a name share what it names.
    """

    def gauge(self, name: str) -> Gauge:
        del name
        return Gauge()

    def held(self, name: str) -> Held:
        del name
        return Held()

    def window(self, name: str) -> Window:
        """Windows of WINDOW_SECONDS."""
        del name
        return Window()

    def firewall(self) -> Window:
        """Windows as long as the operator likes. Without a total."""
        return Window()


OWN: Final = Counters()


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """Connections in all and of one address; new connections a second, in all and of one address."""

    max_connections: int = 0
    per_address: int = 0
    rate: int = 0
    rate_per_address: int = 0


class Total:
    """What all listeners together have admitted, and may. `limit` 0: any number."""

    __slots__ = ("_gauge", "limit")

    def __init__(self, limit: int = 0, counters: Counters = OWN) -> None:
        self.limit = limit
        self._gauge = counters.gauge("total")

    @property
    def open(self) -> int:
        return self._gauge.open

    def enter(self) -> bool:
        return self._gauge.enter(self.limit)

    def leave(self) -> None:
        self._gauge.leave()


class Budget:
    """What one listener has admitted. `total`: shared with the others; `name`: what its counts are called, where others share
    them.
    """

    def __init__(self, limits: BudgetLimits, total: Total | None = None, counters: Counters = OWN, name: str = "") -> None:
        self._total = Total() if total is None else total
        self._gauge = counters.gauge(name)
        self._held = counters.held(name)
        self._recent = counters.window(name)
        self.limits = limits

    @property
    def limits(self) -> BudgetLimits:
        return self._limits

    @limits.setter
    def limits(self, limits: BudgetLimits) -> None:
        self._limits = limits
        self._held.watch(limits.per_address)

    @property
    def open(self) -> int:
        return self._gauge.open

    def admit(self, address: str, now: float) -> Shed | None:
        """Count a new connection in, unless it is to be shed. `now`: seconds, monotonic."""
        limits = self._limits
        if not self._gauge.enter(limits.max_connections):
            return "max_connections"
        if not self._total.enter():
            self._gauge.leave()
            return "total"
        client = _client(address)
        if (limits.rate or limits.rate_per_address) and self._too_fast(client, now):
            return self._take_back("rate")
        if not self._held.enter(client, limits.per_address):
            return self._take_back("per_address")
        return None

    def leave(self, address: str) -> None:
        """Count an admitted connection out."""
        self._gauge.leave()
        self._total.leave()
        self._held.leave(_client(address))

    def _take_back(self, reason: Shed) -> Shed:
        self._gauge.leave()
        self._total.leave()
        return reason

    def _too_fast(self, client: Client, now: float) -> bool:
        count = self._recent.count(client, now, WINDOW_SECONDS)
        limits = self._limits
        return 0 < limits.rate < self._recent.total or 0 < limits.rate_per_address < count


def _client(address: str) -> Client:
    if ":" not in address:
        return address
    found = plain_address(address)
    return address if found is None else found.packed[:SITE_BYTES]
