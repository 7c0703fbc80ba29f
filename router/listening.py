"""The ports of a process: exactly those that the configuration wants, at the start and after each reload.

Promise: what is new is bound before anything that is there is touched; an error leaves all as it was. A port that stays keeps its
socket and what waits in its backlog, also where it serves another kind from now on; connections are never touched. Sockets that
were passed by systemd are taken by their port. Refuses to know what becomes of a connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import NamedTuple

from router.config.compile_l4 import L4Settings
from router.l4.listeners import ListenerPlan
from router.net.budget import Budget, Total
from router.net.listener import Listener, Serve, bind
from router.observe.metrics import Metrics


class _Place(NamedTuple):
    address: str
    port: int


class Listening:
    """All listeners of a process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, serve: Serve, metrics: Metrics, pause: Callable[[], float]) -> None:
        """`pause`: seconds without accepting after descriptors ran out, today."""
        self._loop = loop
        self._serve = serve
        self._shed = metrics.connections_shed
        self._pause = pause
        self._listeners: dict[_Place, Listener] = {}
        self._budgets: dict[str, Budget] = {}
        self._total = Total()

    def __iter__(self) -> Iterator[Listener]:
        return iter(self._listeners.values())

    @property
    def ports(self) -> list[int]:
        """Each once."""
        return sorted({place.port for place in self._listeners})

    def sync(self, settings: L4Settings, inherited: MutableMapping[int, socket.socket]) -> None:
        """Listen as `settings` say; of `inherited` what is used is taken. Raises OSError, and nothing is changed then."""
        wanted = {_Place(address, plan.port): plan for plan in settings.listeners for address in plan.addresses}
        bound = self._bind(wanted.keys() - self._listeners.keys(), inherited)
        for place in self._listeners.keys() - wanted.keys():
            self._listeners.pop(place).close()
        for place, plan in wanted.items():
            old = self._listeners.get(place)
            if old is None or old.name != plan.name:
                self._listeners[place] = self._made(plan, old.release() if old is not None else bound[place])
        self._budgets = {name: budget for name, budget in self._budgets.items() if any(one.name == name for one in self)}
        for plan in wanted.values():
            self._budgets[plan.name].limits = plan.budget
        self._total.limit = settings.max_total_connections

    def open(self) -> None:
        """Accept, on every port."""
        for listener in self:
            listener.open()

    def close(self) -> None:
        """The kernel refuses new connections from now on."""
        for listener in self:
            listener.close()

    def _bind(self, places: Iterable[_Place], inherited: MutableMapping[int, socket.socket]) -> dict[_Place, socket.socket]:
        bound: dict[_Place, socket.socket] = {}
        try:
            for place in places:
                bound[place] = inherited.pop(place.port) if place.port in inherited else bind(*place)
        except OSError:
            for sock in bound.values():
                sock.close()
            raise
        return bound

    def _made(self, plan: ListenerPlan, sock: socket.socket) -> Listener:
        budget = self._budgets.setdefault(plan.name, Budget(plan.budget, self._total))
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
