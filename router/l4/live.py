"""What is in force for new connections, whichever door they take: listeners, L4 routes, firewall, limits.

Promise: replaced as a whole by one `adopt`, between two connections; those that run keep what they began with. The counts of the
firewall and of each client outlive it. Refuses to know L7's snapshot (`router/live.py`), which L4 must not load.
"""

from __future__ import annotations

from collections.abc import Mapping

from authz.networks import Networks
from router.config.compile_l4 import L4Settings
from router.l4.listeners import ListenerPlan
from router.l4.routes import L4Table
from router.limits import Limits
from router.net.budget import OWN, Budget, Counters
from router.net.firewall import Blocked, Firewall


class L4Live:
    """The settings of the moment."""

    __slots__ = ("_clients", "_counters", "_firewall", "_static", "limits", "plans", "table")

    def __init__(self, settings: L4Settings, limits: Limits, counters: Counters = OWN) -> None:
        self._counters = counters
        self._firewall = Firewall(counters=counters)
        self._clients: dict[str, Budget] = {}
        self.adopt(settings, limits)

    def adopt(self, settings: L4Settings, limits: Limits) -> None:
        """From now on."""
        self.limits = limits
        self.table: L4Table = settings.table
        self.plans: Mapping[str, ListenerPlan] = {plan.name: plan for plan in settings.listeners}
        self._clients = {name: self._clients.get(name) or self._budget(plan) for name, plan in self.plans.items()}
        for name, budget in self._clients.items():
            budget.limits = self.plans[name].clients
        self._static: dict[str, set[int]] = {}
        for route in settings.static:
            self._static.setdefault(route.host, set()).add(route.port)
        self._firewall.rules = settings.firewall

    def _budget(self, plan: ListenerPlan) -> Budget:
        return Budget(plan.clients, counters=self._counters, name=f"clients:{plan.name}")

    def judge(self, address: str, now: float, allowed: Networks) -> Blocked | None:
        """May a client with this real address connect? `now` in seconds, monotonic."""
        return self._firewall.admit(address, now, allowed)

    def clients(self, plan: ListenerPlan) -> Budget:
        """What the listener holds of each client, where a PROXY header tells who that is."""
        return self._clients[plan.name]

    def terminates(self, port: int, name: str) -> bool | None:
        """Has L7 a static route of this name on this port? None: it has none of this name on any."""
        ports = self._static.get(name)
        return None if ports is None else port in ports
