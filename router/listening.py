"""The ports of a process: exactly those that the configuration wants, at the start and after each reload.

Promise: what is new is had before anything that is there is touched; an error leaves all as it was. A port that stays keeps its
socket and what waits in its backlog, also where it serves another kind from now on; connections are never touched. Refuses to
know where new sockets come from, and what becomes of a connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import NamedTuple, TypeAlias

from router.config.compile_l4 import L4Settings
from router.l4.listeners import ListenerPlan
from router.net.budget import OWN, Budget, Counters, Total
from router.net.listener import Listener, Serve, bind
from router.observe.metrics import Metrics


class Place(NamedTuple):
    """Where a socket listens. An address of `::` means every one, IPv4 too."""

    address: str
    port: int


Take: TypeAlias = Callable[[str, int], socket.socket]
"""Gives the listening socket of an address and a port. Raises OSError."""
Sockets: TypeAlias = Mapping[Place, socket.socket]


def take_or_bind(inherited: MutableMapping[int, socket.socket]) -> Take:
    """Sockets that were passed by systemd are taken by their port, others made."""
    return lambda address, port: inherited.pop(port) if port in inherited else bind(address, port)


def places(settings: L4Settings) -> dict[Place, ListenerPlan]:
    """Where `settings` listen, and for what."""
    return {Place(address, plan.port): plan for plan in settings.listeners for address in plan.addresses}


class Listening:
    """All listeners of a process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        serve: Serve,
        metrics: Metrics,
        pause: Callable[[], float],
        counters: Counters = OWN,
    ) -> None:
        """`pause`: seconds without accepting after descriptors ran out, today. `counters`: what the limits are kept by."""
        self._loop = loop
        self._serve = serve
        self._shed = metrics.connections_shed
        self._pause = pause
        self._listeners: dict[Place, Listener] = {}
        self._budgets: dict[str, Budget] = {}
        self._counters = counters
        self._total = Total(counters=counters)

    def __iter__(self) -> Iterator[Listener]:
        return iter(self._listeners.values())

    @property
    def ports(self) -> list[int]:
        """Each once."""
        return sorted({place.port for place in self._listeners})

    def prepare(self, settings: L4Settings, take: Take) -> Sockets:
        """The sockets that `settings` want and that are not here. Raises OSError, and none is left open then."""
        had: dict[Place, socket.socket] = {}
        try:
            for place in places(settings).keys() - self._listeners.keys():
                had[place] = take(*place)
        except OSError:
            for sock in had.values():
                sock.close()
            raise
        return had

    def adopt(self, settings: L4Settings, had: Sockets) -> None:
        """Listen as `settings` say, with what was `had` for them."""
        wanted = places(settings)
        for place in self._listeners.keys() - wanted.keys():
            self._listeners.pop(place).close()
        for place, plan in wanted.items():
            old = self._listeners.get(place)
            if old is None or old.name != plan.name:
                self._listeners[place] = self._made(plan, old.release() if old is not None else had[place])
        self._budgets = {name: budget for name, budget in self._budgets.items() if any(one.name == name for one in self)}
        for plan in wanted.values():
            self._budgets[plan.name].limits = plan.budget
        self._total.limit = settings.max_total_connections

    def open(self) -> None:
        """Accept, on every port."""
        for listener in self:
            listener.open()

    def finish(self) -> None:
        """As `close`, but who waits to be accepted is, now."""
        for listener in self:
            listener.finish()

    def close(self) -> None:
        """The kernel refuses new connections from now on."""
        for listener in self:
            listener.close()

    def _made(self, plan: ListenerPlan, sock: socket.socket) -> Listener:
        budget = self._budgets.setdefault(plan.name, Budget(plan.budget, self._total, self._counters, f"listener:{plan.name}"))
        return Listener(
            plan.name,
            sock,
            tls=plan.kind in ("tls", "ssl_port"),
            budget=budget,
            loop=self._loop,
            serve=self._serve,
            shed=lambda reason: self._shed.labels(reason).inc(),
            pause_seconds=self._pause(),
        )
