"""The routing table of one generation: frozen, cheap to look up in, cheap to follow with the next one.

Promises: a lookup costs a bounded number of dictionary accesses; a table never changes, so that an exchange
can keep the one it started with; the next generation shares every shard in which no host changed. Refuses to
know: how routes come and go (ledger.py), policies, endpoints' health.

Source: GoRouter's route lookup (registry and its trie). A host's shard comes from the high bits of its hash:
inside a shard's dictionary the low bits place the entries, and they must stay spread.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from registry.endpoint import Endpoint, Pool, Route

MAX_PATH = 1024
"""Characters of a registered path, at most (`registry/message.py`): longer prefixes of a request's are not tried."""

SHARDS = 1024
"""Of every table."""
_SHIFT = 20


_NO_PATHS: Mapping[str, Route] = {}


class HostRoutes(NamedTuple):
    """The routes of one host (or `*.suffix`): the one without a path, and the others by path.

    No path has more than `depth` segments. Most hosts have one route and share the empty mapping.
    """

    root: Route | None
    paths: Mapping[str, Route]
    depth: int

    def longest(self, path: str) -> Route | None:
        """The longest registered prefix of `path` in whole segments; one with endpoints goes first."""
        root = self.root
        if not self.depth:
            return root
        if len(path) > MAX_PATH:  # cut at the last slash that a registered path could end before
            path = path[: path.rfind("/", 0, MAX_PATH + 1)]
        rest = "/".join(path.lower().split("/", self.depth + 1)[: self.depth + 1])
        empty: Route | None = None
        while rest:
            route = self.paths.get(rest)
            if route is not None:
                if route.pool.endpoints:
                    return route
                empty = empty or route
            rest = rest[: max(rest.rfind("/"), 0)]
        return root if root is not None and (empty is None or root.pool.endpoints) else empty

    def routes(self) -> Iterator[Route]:
        """All of them."""
        if self.root is not None:
            yield self.root
        yield from self.paths.values()


Shard = Mapping[str, HostRoutes]

_NOTHING = HostRoutes(None, _NO_PATHS, 0)


@dataclass(frozen=True, slots=True, eq=False)
class RouteTable:
    """All routes at one moment. `len` counts routes; iteration is over all of them, in no promised order."""

    generation: int = 0
    size: int = 0
    shards: tuple[Shard, ...] = ({},) * SHARDS

    def lookup(self, host: str, path: str) -> Route | None:
        """The route for a canonical host and a path without its query, or None.

        The exact host first; then `*.` before ever shorter suffixes (`a.b.c`: `*.b.c`, `*.c`), each with the
        whole path. Paths match without regard to case. A route that is only there to answer 503 has an empty
        pool.
        """
        shards = self.shards
        routes = shards[hash(host) >> _SHIFT & SHARDS - 1].get(host)
        found = routes.longest(path) if routes is not None else None
        dot = -1
        while found is None:
            dot = host.find(".", dot + 1)
            if dot < 0:
                return None
            pattern = "*" + host[dot:]
            routes = shards[hash(pattern) >> _SHIFT & SHARDS - 1].get(pattern)
            if routes is not None:
                found = routes.longest(path)
        return found

    def exact(self, host: str, path: str) -> Route | None:
        """The route that is registered under just this canonical host (or `*.suffix`) and lower-case path."""
        routes = self.shards[shard_of(host)].get(host)
        if routes is None:
            return None
        return routes.paths.get(path) if path else routes.root

    def of_host(self, host: str) -> Iterator[Route]:
        """The routes of one host (or `*.suffix`), whatever their paths."""
        return self.shards[shard_of(host)].get(host, _NOTHING).routes()

    def part(self, number: int, of: int) -> Iterator[Route]:
        """The routes of one of so many parts, about equally large; a route is in the same part of every generation."""
        return (route for shard in self.shards[number::of] for host in shard.values() for route in host.routes())

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Route]:
        return self.part(0, 1)

    def changed(self, routes: Mapping[tuple[str, str], Route | None]) -> "RouteTable":
        """The next generation, in which each (host, path) of `routes` has that route, or none."""
        touched: dict[str, dict[str, Route | None]] = {}
        for (host, path), route in routes.items():
            touched.setdefault(host, {})[path] = route
        shards = list(self.shards)
        copied: dict[int, dict[str, HostRoutes]] = {}
        size = self.size
        for host, paths in touched.items():
            at = shard_of(host)
            if at not in copied:
                shards[at] = copied[at] = dict(shards[at])
            size += _replace(copied[at], host, paths)
        return RouteTable(self.generation + 1, size, tuple(shards))


def shard_of(host: str) -> int:
    """The shard that has a host's routes, if there are any."""
    return hash(host) >> _SHIFT & SHARDS - 1


def _replace(shard: dict[str, HostRoutes], host: str, changes: Mapping[str, Route | None]) -> int:
    """Put one host's changed paths into a shard that no table holds yet; return by how many routes it grew.

    The depth only grows while the host has paths: finding it anew would cost a walk over all of them.
    """
    before = shard.get(host, _NOTHING)
    root, paths, depth = before.root, dict(before.paths), before.depth
    for path, route in changes.items():
        if not path:
            root = route
        elif route is None:
            paths.pop(path, None)
        else:
            paths[path] = route
            depth = max(depth, path.count("/"))
    if root is None and not paths:
        shard.pop(host, None)
    else:
        shard[host] = HostRoutes(root, paths or _NO_PATHS, depth if paths else 0)
    return len(paths) + (root is not None) - len(before.paths) - (before.root is not None)


def endpoint_json(endpoint: Endpoint, pool: Pool) -> dict[str, object]:
    """One endpoint as GoRouter's `/routes` shows it: its order, without what it leaves out when empty."""
    shown: dict[str, object] = {
        "address": endpoint.address,
        "availability_zone": endpoint.availability_zone,
        "protocol": endpoint.protocol,
        "tls": endpoint.tls,
        "ttl": int(endpoint.ttl),
        "tags": dict(endpoint.tags),
    }
    optional: dict[str, object] = {
        "route_service_url": pool.route_service_url,
        "isolation_segment": endpoint.isolation_segment,
        "private_instance_id": endpoint.instance_id,
        "server_cert_domain_san": endpoint.san,
        "load_balancing_algorithm": pool.balancing.algorithm,
        "hash_header": pool.balancing.hash_header,
        "hash_balance": pool.balancing.hash_balance,
    }
    return shown | {name: value for name, value in optional.items() if value}
