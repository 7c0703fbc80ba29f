"""The routes of the L4 door: which backends a connection is passed through to, by its port and the name it asks for.

Promises: frozen; a look-up is pure, and the same for every connection of one generation. An exact name comes before `*.suffix`,
the longest suffix first; a name that L7 terminates on the same port belongs to no L4 route, whatever suffix covers it. Names and
addresses are the configuration's, in their canonical form. Refuses to know: L7's tables, sockets, and what a relay does.

Source: requirements 1, 4, 8, 10, 60, 83; attacks 74 and 75.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from router.limits import FOREVER

SendProxy: TypeAlias = Literal["", "v1", "v2"]


@dataclass(frozen=True, slots=True)
class L4Route:
    """One route. `name` is what logs and metrics call it; `port` the listener's. Deadlines in seconds, FOREVER: none.

    `hosts` are exact names or `*.suffix`; none: raw TCP, everything on the port. `backends`: (name or address, IPv6 without
    brackets; port), in the operator's order. `send_proxy`: which PROXY header goes before the first byte, if any.
    """

    name: str
    port: int
    hosts: tuple[str, ...]
    backends: tuple[tuple[str, int], ...]
    send_proxy: SendProxy = ""
    connect_deadline: float = 5.0
    idle_deadline: float = 3600.0
    total_deadline: float = FOREVER


class L4Table:
    """All L4 routes of one configuration. Raises ValueError where a port has a name, or raw TCP, twice.

    `terminated`: (port, host) of what L7 answers for, which no `*.suffix` here may cover.
    """

    __slots__ = ("_exact", "_raw", "_suffixes", "_terminated", "routes")

    def __init__(self, routes: Iterable[L4Route] = (), terminated: Iterable[tuple[int, str]] = ()) -> None:
        self.routes = tuple(routes)
        self._terminated = frozenset(terminated)
        self._raw: dict[int, L4Route] = {}
        self._exact: dict[tuple[int, str], L4Route] = {}
        self._suffixes: dict[tuple[int, str], L4Route] = {}
        for route in self.routes:
            self._add(route)

    def claim(self, port: int, server_name: str | None) -> L4Route | None:
        """The route of a TLS connection that asks for `server_name` (canonical), None: for nothing."""
        if server_name is None:
            return None
        found = self._exact.get((port, server_name))
        if found is not None or not self._suffixes or (port, server_name) in self._terminated:
            return found
        dot = server_name.find(".", 1)
        while dot > 0:
            found = self._suffixes.get((port, server_name[dot:]))
            if found is not None:
                return found
            dot = server_name.find(".", dot + 1)
        return None

    def raw(self, port: int) -> L4Route | None:
        """The route of every connection of a raw TCP port."""
        return self._raw.get(port)

    def _add(self, route: L4Route) -> None:
        if not route.hosts:
            if route.port in self._raw:
                raise ValueError(f"port {route.port} has two raw TCP routes")
            self._raw[route.port] = route
        for host in route.hosts:
            wild = host.startswith("*.")
            entries, key = (self._suffixes, (route.port, host[1:])) if wild else (self._exact, (route.port, host))
            if key in entries or key in self._terminated:
                raise ValueError(f"port {route.port} has two routes for {host[:80]}")
            entries[key] = route


NO_L4_ROUTES: Final = L4Table()
