"""A route as bytes: what a supervisor tells its workers of it, and what a worker keeps of a route that nobody asks for.

Promises: a route unpacked equals the one that was packed, field by field; what one route says several times is written once;
what stayed the same keeps its cells (Pulse, Turn, Bucket) and its policy's identity. Bytes come from a supervisor of the same
FORMAT, and from nobody else: whoever could write them could do more. Refuses to know how they travel (routes.py), and where a
cell counts: that is the factory's word.

Source: Python's marshal, which writes an object that it meets again as a number.
"""

import marshal
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final
from zlib import crc32

from authz.policy import NO_POLICY, Callers, InvalidOptions, MtlsOptions, NoOptions, PoolPolicy, RoutePolicies, RoutePolicy
from registry.bucket import Bucket
from registry.endpoint import DEFAULT_BALANCING, Balancing, Endpoint, Pool, Pulse, Route, Tags, Turn
from registry.hostname import Host
from registry.options import NO_OPTIONS, OptionWarning, RouteOptions
from registry.route_limits import RouteLimits, Wishes

NO_CELL: Final = 0
"""The number of an endpoint or a bucket that has none: its worker counts alone."""

_CELLS = (Pulse, Turn, Bucket)
_SHAPES: Final[tuple[type, ...]] = (
    RouteOptions, RoutePolicy, PoolPolicy, NoOptions, MtlsOptions, RoutePolicies, InvalidOptions, Callers,
    Wishes, RouteLimits, OptionWarning, Balancing,
)  # fmt: skip
"""Values that are packed field by field, by their place here."""


def _names_of(shape: type) -> tuple[str, ...]:
    """The fields that make a value of this class."""
    named: tuple[str, ...] | None = getattr(shape, "_fields", None)
    return named if named is not None else tuple(field.name for field in fields(shape) if field.init)


def _getter(shape: type) -> Callable[[Any], tuple[Any, ...]]:
    """All of these fields of a value."""
    names = _names_of(shape)
    return attrgetter(*names) if len(names) > 1 else lambda value: tuple(getattr(value, name) for name in names)


_FIELDS: Final = {shape: (number, _getter(shape)) for number, shape in enumerate(_SHAPES)}
_PLAIN: Final = frozenset({str, int, float, bool, frozenset, type(None)})
FORMAT: Final = crc32(repr((sys.version_info[:2], [_names_of(shape) for shape in (Route, Pool, Endpoint, *_SHAPES)])).encode())
"""Of what the bytes are made. A worker that was started from other files than its supervisor has another one."""

_KNOWN_TAGS: Final = (
    "app_id", "app_name", "component", "deployment", "index", "instance_id", "ip", "isolation_segment", "job",
    "organization_id", "organization_name", "origin", "process_id", "process_instance_id", "process_type", "source_id",
    "space_id", "space_name",
)  # fmt: skip
"""What Cloud Foundry calls its tags: a letter each."""
_LETTERS: Final = {name: chr(ord("A") + number) for number, name in enumerate(_KNOWN_TAGS)}

_USUAL_TTL: Final = 120.0
_USUAL: Final = ("http1", "", "", _USUAL_TTL, "")  # protocol, isolation segment, route service, ttl, PROXY header


@dataclass(frozen=True, slots=True)
class Makers:
    """How a worker makes the cells of what it unpacks; a pulse and a bucket by the number that the supervisor gave them."""

    pulse: Callable[[int], Pulse] = lambda _: Pulse()
    bucket: Callable[[int], Bucket] = lambda _: Bucket()
    turn: Callable[[], int] = int  # where a route's round-robin begins


NumberOf = Callable[[Pulse | Bucket], int]


def no_number(_: Pulse | Bucket) -> int:
    """Where nothing is counted over several workers."""
    return NO_CELL


_Wire = Any
"""What marshal can write."""


def pack_route(route: Route, number_of: NumberOf = no_number) -> bytes:
    """The route's pool; its host and its path are the reader's to know."""
    pool, packer = route.pool, _Packer()
    endpoints = tuple(packer.endpoint(endpoint, number_of) for endpoint in pool.endpoints)
    bucket = pool.bucket
    return marshal.dumps(
        (
            endpoints,
            tuple(packer.options),
            None if pool.policy is NO_POLICY else packer.value(pool.policy),
            None if pool.balancing == DEFAULT_BALANCING else packer.value(pool.balancing),
            packer.text(pool.route_service_url),
            None if pool.context_path == route.path else pool.context_path,
            packer.value(pool.limits),
            pool.session_cookie,
            None if bucket is None else number_of(bucket),
        )
    )


class _Packer:
    """One route's: what it meets again is the same object, which marshal writes as a number."""

    __slots__ = ("_numbers", "_packed", "_texts", "options")

    def __init__(self) -> None:
        self.options: list[_Wire] = []
        self._numbers: dict[int, int] = {}  # of the options met, by identity
        self._texts: dict[str, str] = {}
        self._packed: dict[int, _Wire] = {}  # by identity

    def text(self, text: str) -> str:
        return self._texts.setdefault(text, text)

    def endpoint(self, one: Endpoint, number_of: NumberOf) -> _Wire:
        text = self._texts.setdefault
        names, values = one.tags.columns()
        unusual = one.protocol, one.isolation_segment, one.route_service_url, one.ttl, one.send_proxy
        return (
            text(one.host, one.host),
            one.port,
            one.tls,
            text(one.app, one.app),
            text(one.instance_id, one.instance_id),
            text(one.instance_index, one.instance_index),
            text(one.san, one.san),
            _letters(names),
            tuple([text(value, value) for value in values]),
            text(one.availability_zone, one.availability_zone),
            one.updated_at_ns or None,
            None if one.options is NO_OPTIONS else self._number(one.options),
            number_of(one.pulse),
            None if unusual == _USUAL else unusual,
        )

    def _number(self, options: RouteOptions) -> int:
        """The place of options among the route's."""
        number = self._numbers.get(id(options))
        if number is None:
            number = self._numbers[id(options)] = len(self.options)
            self.options.append(self.value(options))
        return number

    def value(self, value: object) -> _Wire:
        """Of one of _SHAPES a list, of a tuple a tuple; anything else is as it is. What is one object stays one."""
        if type(value) in _PLAIN:
            return value
        shape = _FIELDS.get(type(value))
        if shape is None:
            return tuple(map(self.value, value)) if isinstance(value, tuple) else value
        known = self._packed.get(id(value))
        if known is None:
            number, fields_of = shape
            known = self._packed[id(value)] = [number, *map(self.value, fields_of(value))]
        return known


def unpack_route(
    host: str, path: str, packed: bytes, makers: Makers, before: Route | None = None, renewed: Collection[str] = ()
) -> Route:
    """The route, with the cells of what it was before; endpoints at `renewed` addresses are others than before.

    New pulses are fresh for ever: who is silent is said apart. Raises ValueError, TypeError, EOFError or the like for what no
    `pack_route` made.
    """
    endpoints, options, policy, balancing, service, context, limits, cookie, bucket = marshal.loads(packed)  # noqa: S302
    reader = _Reader()
    known = {one.address: one for one in before.pool.endpoints} if before is not None else {}
    of_route = [reader.value(one) for one in options]
    pool = Pool(
        tuple([_endpoint(one, of_route, known, renewed, makers) for one in endpoints]),
        NO_POLICY if policy is None else _same_policy(reader.value(policy), before),
        DEFAULT_BALANCING if balancing is None else reader.value(balancing),
        service,
        path if context is None else context,
        limits=reader.value(limits),
        session_cookie=cookie,
        turn=before.pool.turn if before is not None else Turn(makers.turn()),
        bucket=None if bucket is None else _bucket(bucket, before, makers),
    )
    return Route(host + path if path else host, Host(host), path, pool)


class _Reader:
    """One route's: what was written once becomes one value."""

    __slots__ = ("_read",)

    def __init__(self) -> None:
        self._read: dict[int, object] = {}

    def value(self, packed: _Wire) -> Any:
        if isinstance(packed, tuple):
            return tuple(map(self.value, packed))
        if not isinstance(packed, list):
            return packed
        known = self._read.get(id(packed))
        if known is None:
            number, *parts = packed
            known = self._read[id(packed)] = _SHAPES[number](*map(self.value, parts))
        return known


def _endpoint(
    packed: Sequence[_Wire], options: list[RouteOptions], known: Mapping[str, Endpoint], renewed: Collection[str], makers: Makers
) -> Endpoint:
    host, port, tls, app, instance, index, san, names, values, zone, updated, chosen, number, unusual = packed
    unusual_: _Wire = _USUAL if unusual is None else unusual
    protocol, segment, service, ttl, send_proxy = unusual_
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    before = None if address in renewed else known.get(address)
    same = before is not None and (before.instance_id, before.tls, before.san) == (instance, tls, san)
    return Endpoint(
        host, port, tls, app, instance, index, san, protocol, Tags(_tag_names(names), values), zone, segment, service, ttl,
        updated or 0, NO_OPTIONS if chosen is None else options[chosen], send_proxy,
        before.pulse if before is not None and same else _fresh(makers.pulse(number)),
    )  # fmt: skip


def _fresh(pulse: Pulse) -> Pulse:
    pulse.expires = math.inf
    return pulse


def _same_policy(policy: PoolPolicy, before: Route | None) -> PoolPolicy:
    """The policy itself that the route had before, where it says the same: whoever remembers its decisions goes on."""
    if before is None:
        return policy
    had = before.pool.policy
    return had if (had.parts, had.warnings) == (policy.parts, policy.warnings) else policy


def _bucket(number: int, before: Route | None, makers: Makers) -> Bucket:
    """The one that the route had, unless it has a number: that may be another by now, and says by itself whose bucket it is."""
    had = before.pool.bucket if before is not None else None
    return makers.bucket(number) if had is None or number != NO_CELL else had


@lru_cache(maxsize=256)
def _letters(names: tuple[str, ...]) -> str | tuple[str, ...]:
    """The names of an endpoint's tags, a letter each where all are known."""
    return "".join(_LETTERS[name] for name in names) if _LETTERS.keys() >= set(names) else names


@lru_cache(maxsize=256)
def _tag_names(packed: str | tuple[str, ...]) -> tuple[str, ...]:
    """One tuple for all that have the same names."""
    return tuple(_KNOWN_TAGS[ord(letter) - ord("A")] for letter in packed) if isinstance(packed, str) else packed
