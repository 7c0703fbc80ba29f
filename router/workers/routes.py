"""How routes reach the workers: the supervisor's RouteFeed says what its table has, a worker's RouteReplica makes it so.

    whole      the table in pieces, for a worker that knows nothing (or that is to begin anew)
    change     what one generation has else than another, for all that have the other: the same bytes for each of them
    liveness   which endpoints became silent or fresh, unhealthy or healthy since the last time

Promises: a replica answers every lookup as the feed's table did; it takes a message as a whole or, where the message is not one
that a feed of the same FORMAT would send to it now, not at all (FeedError). A change costs what it changes: shards, hosts and
routes that stayed are known by identity. Refuses to know processes and pipes, and how a cell is shared.

Messages are Python's marshal: from a supervisor to its own workers and never the other way.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress
from operator import is_not
from typing import Final, Protocol

from registry.bucket import Bucket
from registry.endpoint import Endpoint, Pulse, Route
from registry.table import SHARDS, HostRoutes, RouteTable, Shard, shard_of
from router.workers.open_routes import OPEN, SILENT, UNHEALTHY, Flags, OpenRoute, OpenRoutes, Packed, PackedPaths, PackedShard
from router.workers.packed_route import FORMAT, NO_CELL, Makers, NumberOf, pack_route

PIECE: Final = 1 << 18
"""Bytes of a piece of a whole table, about: some milliseconds to make. A route of thousands of endpoints may exceed it."""

_WHOLE, _CHANGE, _LIVENESS = "whole", "change", "liveness"

_Record = tuple[str, str, bytes | None, tuple[str, ...], Flags]
"""A route: host, path, what it is now (None: it is gone), addresses of new instances, what was said against its endpoints."""

_Flip = tuple[str, str, str, int]
"""An endpoint: host and path of its route, its address, what speaks against it."""

_NO_ROUTES = HostRoutes(None, {}, 0)


class FeedError(Exception):
    """A message that cannot be applied; the replica is as it was before."""


class Cells(Protocol):
    """The numbers of cells in shared memory."""

    def take(self) -> int:
        """A number that nobody has, or NO_CELL where all are taken."""

    def release(self, number: int) -> None:
        """The number's owner is in no table any more."""


class RouteFeed:
    """The supervisor's side, one for all workers. Without `endpoints` or `buckets` these have no numbers.

    Every table that is published goes through `change` with the one before it; a worker that got an older one by `whole` gets
    another `change` from that one. What is in the newest table has numbers, and nothing else keeps any.
    """

    def __init__(self, endpoints: Cells | None = None, buckets: Cells | None = None) -> None:
        self._pulses = _Numbers(endpoints)
        self._buckets = _Numbers(buckets)
        self._newest = -1  # the last generation whose cells have numbers
        self._said: dict[Pulse, _Flip] = {}  # of those that something speaks against

    def whole(self, table: RouteTable) -> Iterator[bytes]:
        """All of a table, piece by piece; at least one. The table may be followed by others meanwhile."""
        self._begin(table)
        pieces = self._pieces(table)
        number, piece = 0, next(pieces)
        for following in pieces:
            yield marshal.dumps((_WHOLE, FORMAT, number, table.generation, piece, None))
            number, piece = number + 1, following
        yield marshal.dumps((_WHOLE, FORMAT, number, table.generation, piece, list(self._said.values())))

    def change(self, before: RouteTable, after: RouteTable) -> bytes | None:
        """What is to be said to those who have `before`; None where the two are one."""
        if before is after:
            return None
        self._begin(before)
        number_of = self._number if after.generation >= self._newest else self.known_number
        self._newest = max(self._newest, after.generation)
        records = [
            self._record(host, path, was, now, number_of)
            for shards in compress(zip(before.shards, after.shards, strict=True), map(is_not, before.shards, after.shards))
            for host, had, has in _changed_hosts(*shards)
            for path, was, now in _changed_routes(had, has)
        ]
        return marshal.dumps((_CHANGE, before.generation, after.generation, records))

    def liveness(self, table: RouteTable, now: float, part: int = 0, parts: int = 1) -> bytes | None:
        """What endpoints became since this was said last; None where there is nothing to say. It looks at every route of the
        `part`th of so many parts of the table, in some 10 ms for 100,000 of them.
        """
        flips = []
        for routes in (routes for shard in table.shards[part::parts] for routes in shard.values()):
            for route in routes.routes() if routes.depth or routes.root is None else (routes.root,):
                for endpoint in route.pool.endpoints:
                    pulse = endpoint.pulse
                    if pulse.expires > now and not pulse.unhealthy and not (self._said and pulse in self._said):
                        continue  # nearly all of them
                    flip = self._flip(route, endpoint, now)
                    if flip is not None:
                        flips.append(flip)
        return marshal.dumps((_LIVENESS, flips)) if flips else None

    def _flip(self, route: Route, endpoint: Endpoint, now: float) -> _Flip | None:
        pulse = endpoint.pulse
        flags = (SILENT if endpoint.tls and pulse.expires <= now else 0) | (UNHEALTHY if pulse.unhealthy else 0)
        said = self._said.get(pulse)
        if flags == (said[3] if said is not None else 0):
            return None
        flip = (route.host, route.path, endpoint.address, flags)
        if flags:
            self._said[pulse] = flip
        else:
            del self._said[pulse]
        return flip

    def _pieces(self, table: RouteTable) -> Iterator[list[_Record]]:
        records, size = [], 0
        for route in table:
            record = self._record(route.host, route.path, None, route, self.known_number)
            records.append(record)
            size += len(record[2] or b"") + len(route.key)
            if size >= PIECE:
                yield records
                records, size = [], 0
        yield records

    def _record(self, host: str, path: str, before: Route | None, after: Route | None, number_of: NumberOf) -> _Record:
        """One route, and the end of what it had before and has no more."""
        renewed: tuple[str, ...] = ()
        if before is not None:
            had = {one.address: one.pulse for one in before.pool.endpoints}
            has = {one.address: one.pulse for one in after.pool.endpoints} if after is not None else {}
            renewed = tuple([address for address in has if address in had and had[address] is not has[address]])
            self._release(before, after, set(had.values()) - set(has.values()))
        if after is None:
            return host, path, None, (), {}
        flags = {}
        if self._said:
            flags = {one.address: self._said[one.pulse][3] for one in after.pool.endpoints if one.pulse in self._said}
        return host, path, pack_route(after, number_of), renewed, flags

    def _release(self, before: Route, after: Route | None, gone: Iterable[Pulse]) -> None:
        for pulse in gone:
            self._said.pop(pulse, None)
            self._pulses.release(pulse)
        bucket = before.pool.bucket
        if bucket is not None and (after is None or after.pool.bucket is not bucket):
            self._buckets.release(bucket)

    def _begin(self, table: RouteTable) -> None:
        """Number what is in the first table; from then on every change numbers what it brings."""
        if self._newest < 0:
            self._newest = table.generation
            for route in table if self._pulses.wanted or self._buckets.wanted else ():
                for cell in (route.pool.bucket, *(one.pulse for one in route.pool.endpoints)):
                    if cell is not None:
                        self._number(cell)

    def _number(self, cell: Pulse | Bucket) -> int:
        return (self._buckets if isinstance(cell, Bucket) else self._pulses).of(cell)

    def known_number(self, cell: Pulse | Bucket) -> int:
        """Of what an older table has, and no newer one, there is none any more."""
        return (self._buckets if isinstance(cell, Bucket) else self._pulses).known(cell)


class _Numbers:
    """Which cell has which number, for as long as a table has the cell."""

    __slots__ = ("_cells", "_numbers")

    def __init__(self, cells: Cells | None) -> None:
        self._cells = cells
        self._numbers: dict[Pulse | Bucket, int] = {}

    @property
    def wanted(self) -> bool:
        return self._cells is not None

    def known(self, cell: Pulse | Bucket) -> int:
        return self._numbers.get(cell, NO_CELL)

    def of(self, cell: Pulse | Bucket) -> int:
        if self._cells is None:
            return NO_CELL
        number = self._numbers.get(cell)
        if number is None:
            number = self._numbers[cell] = self._cells.take()
        return number

    def release(self, cell: Pulse | Bucket) -> None:
        number = self._numbers.pop(cell, NO_CELL)
        if number != NO_CELL and self._cells is not None:
            self._cells.release(number)


def _changed_hosts(before: Shard, after: Shard) -> Iterator[tuple[str, HostRoutes, HostRoutes]]:
    for host, routes in after.items():
        had = before.get(host, _NO_ROUTES)
        if had is not routes:
            yield host, had, routes
    for host, routes in before.items():
        if host not in after:
            yield host, routes, _NO_ROUTES


def _changed_routes(before: HostRoutes, after: HostRoutes) -> Iterator[tuple[str, Route | None, Route | None]]:
    if before.root is not after.root:
        yield "", before.root, after.root
    if before.paths is not after.paths:
        for path, route in after.paths.items():
            was = before.paths.get(path)
            if was is not route:
                yield path, was, route
        for path, route in before.paths.items():
            if path not in after.paths:
                yield path, route, None


class RouteReplica:
    """A worker's side. `clock`: monotonic seconds; `size`: see OPEN."""

    def __init__(self, makers: Makers, clock: Callable[[], float], size: int = OPEN) -> None:
        self._open = OpenRoutes(makers, clock, size)
        self._table = _Draft(()).table(0, self._open)
        self._unfinished: _Draft | None = None

    @property
    def table(self) -> RouteTable:
        """The generation applied last; empty at first."""
        return self._table

    def apply(self, message: bytes) -> RouteTable | None:
        """The next generation; None where a message was no end of one. Raises FeedError."""
        try:
            match marshal.loads(message):  # noqa: S302 - from the supervisor, which can do more than this
                case ("whole", format_, int(number), int(generation), list(records), flips):
                    return self._piece(format_, number, generation, records, flips)
                case ("change", int(before), int(after), list(records)):
                    return self._change(before, after, records)
                case ("liveness", list(flips)):
                    self._flips(flips)
                    return None
                case _:
                    raise FeedError("the supervisor sent routes in no known form")
        except (ValueError, TypeError, EOFError, LookupError, AttributeError) as malformed:
            raise FeedError(f"the supervisor sent routes that cannot be read: {malformed!r:.200}") from malformed

    def _piece(
        self, format_: object, number: int, generation: int, records: list[_Record], flips: list[_Flip] | None
    ) -> RouteTable | None:
        """Gather the pieces; at the last one all of them are the table."""
        if format_ != FORMAT:
            raise FeedError("the supervisor runs other code than this worker: it must be restarted")
        draft = _Draft(()) if number == 0 else self._unfinished
        self._unfinished = None
        if draft is None or number != draft.pieces:
            raise FeedError(f"piece {number} of the route table came out of turn")
        draft.add(records)
        if flips is None:
            self._unfinished = draft
            return None
        flags = _by_route(flips)
        table = draft.table(generation, self._open)
        keys = self._open.keys()
        following = {key: self._following(draft, key) for key in keys}
        for key in keys:
            if draft.packed(key) is None:
                self._open.drop(key)
            else:
                self._open.follow(key, following[key], {})
        for key in flags:
            self._open.flag(key, flags[key])
        self._table = table
        return table

    def _following(self, draft: _Draft, key: str) -> OpenRoute | None:
        packed = draft.packed(key)
        return None if packed is None else self._open.following(*_place(key), packed, ())

    def _change(self, before: int, after: int, records: list[_Record]) -> RouteTable:
        if before != self._table.generation:
            raise FeedError(f"a change of generation {before} came, but the routes here are generation {self._table.generation}")
        draft = _Draft(self._table.shards, self._table.size)
        draft.add(records)
        following = [
            None if packed is None else self._open.following(host, path, packed, renewed)
            for host, path, packed, renewed, _ in records
        ]
        table = draft.table(after, self._open)
        for (host, path, packed, _, flags), one in zip(records, following, strict=True):
            if packed is None:
                self._open.drop(host + path)
            else:
                self._open.follow(host + path, one, flags)
        self._table = table
        return table

    def _flips(self, flips: list[_Flip]) -> None:
        for key, flags in _by_route(flips).items():
            both = {**self._open.flags(key), **flags}
            self._open.flag(key, {address: said for address, said in both.items() if said})


class _Draft:
    """A table in the making: shards of another one, and those that it has else."""

    __slots__ = ("_copied", "_shards", "_size", "pieces")

    def __init__(self, shards: Sequence[Shard], size: int = 0) -> None:
        self.pieces = 0
        self._shards = shards
        self._copied: dict[int, dict[str, Packed]] = {}
        self._size = size

    def add(self, records: Iterable[_Record]) -> None:
        """Make each of these routes so."""
        hosts: dict[str, dict[str, bytes | None]] = {}
        for host, path, packed, renewed, flags in records:
            _check(host, path, packed, renewed, flags)
            hosts.setdefault(host, {})[path] = packed
        for host, routes in hosts.items():
            self._put(self._own(shard_of(host)), host, routes)
        self.pieces += 1

    def table(self, generation: int, open_routes: OpenRoutes) -> RouteTable:
        shards = list(self._shards or (PackedShard({}, open_routes),) * SHARDS)
        for at, packed in self._copied.items():
            shards[at] = PackedShard(packed, open_routes)
        return RouteTable(generation, self._size, tuple(shards))

    def packed(self, key: str) -> bytes | None:
        """What this draft, begun from nothing, says of a route."""
        host, path = _place(key)
        routes = self._copied.get(shard_of(host), {}).get(host)
        if isinstance(routes, PackedPaths):
            return routes.paths.get(path) if path else routes.root
        return routes if not path else None

    def _own(self, at: int) -> dict[str, Packed]:
        shard = self._copied.get(at)
        if shard is None:
            before = self._shards[at] if self._shards else None
            shard = self._copied[at] = dict(before.packed) if isinstance(before, PackedShard) else {}
        return shard

    def _put(self, shard: dict[str, Packed], host: str, routes: Mapping[str, bytes | None]) -> None:
        had = shard.get(host)
        before = had if isinstance(had, PackedPaths) else PackedPaths(had, {}, 0)
        paths = {path: packed for path, packed in {**before.paths, **routes}.items() if path and packed is not None}
        root = routes.get("", before.root)
        if paths:
            depth = max([before.depth, *(path.count("/") for path in routes)])
            shard[host] = PackedPaths(root, paths, depth)
        elif root is not None:
            shard[host] = root
        else:
            shard.pop(host, None)
        self._size += len(paths) + (root is not None) - len(before.paths) - (before.root is not None)


def _check(host: object, path: object, packed: object, renewed: object, flags: object) -> None:
    """Raise TypeError for what is no record, so that nothing fails once the routes are being replaced."""
    texts = type(host) is str and type(path) is str and (packed is None or type(packed) is bytes)
    if not (texts and type(renewed) is tuple and type(flags) is dict):
        raise TypeError("a route is host, path, bytes or None, addresses and flags")
    if flags and not all(type(said) is int for said in flags.values()):
        raise TypeError("the flags of an endpoint are a number")


def _place(key: str) -> tuple[str, str]:
    host, slash, rest = key.partition("/")
    return host, slash + rest


def _by_route(flips: Iterable[_Flip]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for host, path, address, flags in flips:
        found.setdefault(host + path, {})[address] = int(flags)
    return found
