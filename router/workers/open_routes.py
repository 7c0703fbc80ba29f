"""A worker's routing table: every route as bytes, and as a value only those that requests ask for.

Promises: the shards of a RouteTable whose lookups, in packed shards, give what they give in the supervisor's; a route asked for
again is the same value, with the same cells, for as long as it is open; of those open, the ones not asked for lately are closed
beyond OPEN, but never one with a request in flight, a mark, or a rate to keep. Bytes need no attention of the garbage
collector, so 100,000 routes cost a worker no pauses. Refuses to know how routes come (routes.py).

A closed route forgets where its round-robin stood. Whoever still holds its endpoints goes on with them.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from registry.bucket import Bucket
from registry.endpoint import Pulse, Route
from registry.table import HostRoutes
from router.workers.packed_route import NO_CELL, Makers, unpack_route

OPEN: Final = 4096
"""Routes asked for lately; as many again that were before. Some 2 KiB each."""

SILENT: Final = 1
UNHEALTHY: Final = 2

Flags = Mapping[str, int]
"""By address: what speaks against an endpoint, SILENT or UNHEALTHY or both."""

_NO_PATHS: Mapping[str, Route] = {}
_NO_FLAGS: Flags = {}


class PackedPaths(NamedTuple):
    """A host that has routes with paths; see HostRoutes."""

    root: bytes | None
    paths: Mapping[str, bytes]
    depth: int


Packed = bytes | PackedPaths
"""The routes of one host: most have one, without a path."""


class OpenRoute(NamedTuple):
    """A route that was asked for, beside the bytes that it was made of."""

    packed: bytes
    alone: HostRoutes  # the route as the only one of its host

    @property
    def route(self) -> Route:
        route = self.alone.root
        assert route is not None
        return route


class OpenRoutes:
    """Those of all generations of one worker's table. `clock`: monotonic seconds, as pulses use them."""

    __slots__ = ("_buckets", "_clock", "_earlier", "_flags", "_lately", "_makers", "_room", "_size")

    def __init__(self, makers: Makers, clock: Callable[[], float], size: int = OPEN) -> None:
        self._makers = makers
        self._clock = clock
        self._size = self._room = size
        self._lately: dict[str, OpenRoute] = {}  # by key
        self._earlier: dict[str, OpenRoute] = {}
        self._flags: dict[str, Flags] = {}  # by key; of all routes, open or not
        self._buckets: dict[str, Bucket] = {}  # of closed routes

    def __len__(self) -> int:
        return len(self._lately) + len(self._earlier)

    def alone(self, host: str, packed: bytes) -> HostRoutes:
        """The one route of a host."""
        known = self._lately.get(host)
        if known is not None and known.packed is packed:
            return known.alone
        return self._opened(host, "", packed).alone

    def route(self, host: str, path: str, packed: bytes) -> Route:
        """The route that these bytes are, open from now on."""
        known = self._lately.get(host + path)
        return known.route if known is not None and known.packed is packed else self._opened(host, path, packed).route

    def _opened(self, host: str, path: str, packed: bytes) -> OpenRoute:
        key = host + path
        known = self._known(key)
        if known is None or known.packed is not packed:
            known = self._unpacked(host, path, packed, known)
            _tell(known.route, self.flags(key))
        if len(self._lately) >= self._room:
            self._close_some()
        self._earlier.pop(key, None)
        self._lately[key] = known
        return known

    def _unpacked(
        self, host: str, path: str, packed: bytes, before: OpenRoute | None, renewed: Collection[str] = ()
    ) -> OpenRoute:
        makers, kept = self._makers, self._buckets.get(host + path)
        if kept is not None:
            makers = replace(makers, bucket=lambda number: kept if number == NO_CELL else self._makers.bucket(number))
        route = unpack_route(host, path, packed, makers, None if before is None else before.route, renewed)
        return OpenRoute(packed, HostRoutes(route, _NO_PATHS, 0))

    def _close_some(self) -> None:
        """Close what was not asked for since the last time, where nothing is lost with it."""
        now = self._clock()
        busy = {}
        for key, known in self._earlier.items():
            bucket = known.route.pool.bucket
            if any(_is_busy(endpoint.pulse, now) for endpoint in known.route.pool.endpoints):
                busy[key] = known
            elif bucket is not None:
                self._buckets[key] = bucket
        self._earlier, self._lately = self._lately, busy
        self._room = self._size + len(busy)

    # ---- the next generation

    def keys(self) -> set[str]:
        """Of the routes that something is remembered of."""
        return {*self._lately, *self._earlier, *self._buckets, *self._flags}

    def following(self, host: str, path: str, packed: bytes, renewed: Collection[str]) -> OpenRoute | None:
        """What an open route becomes in the next generation; None for one that is not open. Changes nothing."""
        known = self._known(host + path)
        return None if known is None else self._unpacked(host, path, packed, known, renewed)

    def follow(self, key: str, following: OpenRoute | None, flags: Flags) -> None:
        """A route of the next generation, as `following` gave it; nothing can fail."""
        if following is not None:
            (self._lately if key in self._lately else self._earlier)[key] = following
        self.flag(key, flags)

    def drop(self, key: str) -> None:
        """A route that the next generation does not have."""
        for each in (self._lately, self._earlier, self._buckets, self._flags):
            each.pop(key, None)

    def flag(self, key: str, flags: Flags) -> None:
        """What speaks against the endpoints of a route from now on; nothing against those that are not named."""
        if flags:
            self._flags[key] = flags
        else:
            self._flags.pop(key, None)
        known = self._known(key)
        if known is not None:
            _tell(known.route, flags)

    def flags(self, key: str) -> Flags:
        return self._flags.get(key, _NO_FLAGS)

    def _known(self, key: str) -> OpenRoute | None:
        return self._lately.get(key) or self._earlier.get(key)


class PackedShard(Mapping[str, HostRoutes]):
    """One shard: the routes of its hosts are opened when they are looked at. Never changes, as far as anybody can tell."""

    __slots__ = ("_open", "packed")

    def __init__(self, packed: Mapping[str, Packed], open_routes: OpenRoutes) -> None:
        self.packed = packed
        self._open = open_routes

    def get(self, host: str, default: Any = None) -> Any:
        packed = self.packed.get(host)
        return default if packed is None else self._opened(host, packed)

    def __getitem__(self, host: str) -> HostRoutes:
        return self._opened(host, self.packed[host])

    def __iter__(self) -> Iterator[str]:
        return iter(self.packed)

    def __len__(self) -> int:
        return len(self.packed)

    def _opened(self, host: str, packed: Packed) -> HostRoutes:
        if isinstance(packed, bytes):
            return self._open.alone(host, packed)
        root = None if packed.root is None else self._open.route(host, "", packed.root)
        return HostRoutes(root, _Paths(host, packed.paths, self._open), packed.depth)


class _Paths(Mapping[str, Route]):
    """The routes of one host by path, opened when they are looked at."""

    __slots__ = ("_host", "_open", "_packed")

    def __init__(self, host: str, packed: Mapping[str, bytes], open_routes: OpenRoutes) -> None:
        self._host = host
        self._packed = packed
        self._open = open_routes

    def __getitem__(self, path: str) -> Route:
        return self._open.route(self._host, path, self._packed[path])

    def get(self, path: str, default: Any = None) -> Any:
        packed = self._packed.get(path)
        return default if packed is None else self._open.route(self._host, path, packed)

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


def _is_busy(pulse: Pulse, now: float) -> bool:
    """Whether an endpoint of this worker's own knows what a new one would not."""
    return pulse.in_flight > 0 or (pulse.failed_until > now and not pulse.unhealthy)


def _tell(route: Route, flags: Flags) -> None:
    for endpoint in route.pool.endpoints:
        pulse, said = endpoint.pulse, flags.get(endpoint.address, 0)
        pulse.expires = -math.inf if said & SILENT else math.inf
        if said & UNHEALTHY:
            pulse.unhealthy, pulse.failed_until = True, math.inf
        elif pulse.unhealthy:
            pulse.lift()
