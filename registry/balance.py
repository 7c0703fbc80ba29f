"""Which endpoint takes a request: by turns, the least busy one or by a hash, among those that the caller's
scope and the request's wish admit; where its cookies name one, that one.

Promises: a pure choice but for the pool's turn and the marks; never an endpoint outside the scopes the
decision demands, whatever the algorithm and whatever else is left; missing never equals missing; no algorithm
finds none while one can serve. Refuses to know: dialling, retries, how the marks are earned, the wording of
refusals.

Source: GoRouter's pools and RFC-0042's hash; RFC-0055's scopes, here applied before the choice, so that a
route shared between spaces gives no intermittent refusal; GoRouter's X-CF-App-Instance, X-CF-Process-Instance
and sticky sessions.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, assert_never

from identity.caller import Caller
from registry.endpoint import Endpoint, Pool

FAILED_FOR = 30.0  # seconds a failed endpoint is passed over: a quarter of the default stale threshold

_DRAW_FACTOR: Final = 6364136223846793005  # Knuth's, for a period of 2**64
_DRAW_MASK: Final = 0xFFFFFFFFFFFFFFFF

_GUID = r"[\da-f]{8}-(?:[\da-f]{4}-){3}[\da-f]{12}"
_APP_INSTANCE = re.compile(rf"({_GUID}):(\d{{1,10}})".encode())
_PROCESS_INSTANCE = re.compile(rf"({_GUID})(?::(\d{{1,10}}))?".encode())


class NoEndpoint(NamedTuple):
    """Why there is none: `scope` (none the caller may reach), `instance` (not the one asked for),
    `overloaded` (all have their fill of requests), `unhealthy` (all fail the operator's checks), `none` (no other left)."""

    reason: Literal["scope", "instance", "overloaded", "unhealthy", "none"]


@dataclass(frozen=True, slots=True)
class Selector:
    """One instance (or, without an index, any instance of one process) that a request asked for by header."""

    kind: Literal["app", "process"]
    guid: str
    index: str | None

    def admits(self, endpoint: Endpoint) -> bool:
        """Whether this is an instance asked for."""
        if self.index is not None and endpoint.instance_index != self.index:
            return False
        match self.kind:
            case "app":
                return endpoint.app == self.guid
            case "process":
                return endpoint.tags.get("process_id") == self.guid
        assert_never(self.kind)


class Pin(NamedTuple):
    """The instance that a client's cookie names, by its id or its address; `binding`: this one or none."""

    instance: str
    binding: bool = False


def parse_app_instance(value: bytes) -> Selector | None:
    """X-CF-App-Instance, `guid:index` with a lower-case GUID; None when malformed."""
    found = _APP_INSTANCE.fullmatch(value)
    return Selector("app", found[1].decode(), found[2].decode()) if found else None


def parse_process_instance(value: bytes) -> Selector | None:
    """X-CF-Process-Instance, `guid` or `guid:index` with a lower-case GUID; None when malformed."""
    found = _PROCESS_INSTANCE.fullmatch(value)
    return Selector("process", found[1].decode(), found[2].decode() if found[2] else None) if found else None


def choose(
    pool: Pool,
    scopes: frozenset[str],
    caller: Caller | None,
    now: float,
    exclude: Collection[str] = (),
    *,
    selector: Selector | None = None,
    max_conns: int = 0,
    zone: str = "",
    fields: Iterable[tuple[bytes, bytes]] = (),
    preferred: Pin | None = None,
) -> Endpoint | NoEndpoint:
    """The next endpoint for a request, or why there is none.

    `scopes` are those every candidate must share with the caller ("org", "space"); `exclude` holds the
    addresses tried before; `max_conns` bounds an endpoint's requests in flight, 0 = no bound; `zone` is the
    availability zone that a first attempt prefers, unless a hash decides; `fields` are the request's, in lower
    case, for the header of a hash. A TLS endpoint silent for its TTL comes after all others; where all that
    could serve are marked as failed, their marks are lifted and one is taken; an unhealthy one never is. A `preferred`
    one comes before all algorithms, but only if it is among those that scopes and selector admit.
    """
    candidates: Sequence[Endpoint] = pool.endpoints
    if scopes:
        candidates = [endpoint for endpoint in candidates if in_scope(endpoint, scopes, caller)]
        if not candidates and pool.endpoints:
            return NoEndpoint("scope")
    if selector is not None:
        candidates = [endpoint for endpoint in candidates if selector.admits(endpoint)]
        if not candidates:
            return NoEndpoint("scope" if any(map(selector.admits, pool.endpoints)) else "instance")
    if preferred is not None and (found := _preferred(candidates, preferred, now, exclude, max_conns)) is not None:
        return found
    if zone or pool.balancing.algorithm != "round-robin":
        able = _able(candidates, now, exclude, max_conns)
        return able if isinstance(able, NoEndpoint) else _by_algorithm(pool, able, "" if exclude else zone, fields)
    count = len(candidates)
    start = pool.turn.next
    for step in range(start, start + count):
        endpoint = candidates[step % count]
        pulse = endpoint.pulse
        if (
            pulse.failed_until <= now
            and (not endpoint.tls or pulse.expires > now)
            and (not max_conns or pulse.in_flight < max_conns)
            and endpoint.address not in exclude
        ):
            pool.turn.next = (step + 1) % count
            return endpoint
    able = _second_best(candidates, now, exclude, max_conns)
    return able if isinstance(able, NoEndpoint) else _next(pool, able)


def in_scope(endpoint: Endpoint, scopes: frozenset[str], caller: Caller | None) -> bool:
    """Whether endpoint and caller share every scope; what is unknown or missing is not shared."""
    if caller is None:
        return False
    shared = {"org": ("organization_id", caller.org), "space": ("space_id", caller.space)}
    for scope in scopes:
        tag, value = shared.get(scope, ("", None))
        if not value or endpoint.tags.get(tag) != value:
            return False
    return True


def mark_failed(endpoint: Endpoint, now: float, seconds: float = FAILED_FOR) -> None:
    """Pass the endpoint over for `seconds`, as long as another can be chosen."""
    pulse = endpoint.pulse
    pulse.failed_until = max(pulse.failed_until, now + seconds)


def _preferred(
    candidates: Sequence[Endpoint], pin: Pin, now: float, exclude: Collection[str], max_conns: int
) -> Endpoint | NoEndpoint | None:
    """The pinned endpoint; None where any other will do: it is gone, tried, marked as failed or has its fill. One that is
    silent for its TTL is asked all the same: its session is nowhere else, and a dial that fails says so.
    """
    named = [
        each
        for each in candidates
        if pin.instance in (each.instance_id, each.address) and each.address not in exclude and not each.pulse.unhealthy
    ]
    for endpoint in named:
        pulse = endpoint.pulse
        if (not max_conns or pulse.in_flight < max_conns) and (pin.binding or pulse.failed_until <= now):
            return endpoint
    if not pin.binding:
        return None
    return NoEndpoint("overloaded" if named else "none")


def _able(
    candidates: Sequence[Endpoint], now: float, exclude: Collection[str], max_conns: int
) -> Sequence[Endpoint] | NoEndpoint:
    """All that are fresh, unmarked, free and not tried; where there is none, the second best."""
    able = [
        endpoint
        for endpoint in candidates
        if (pulse := endpoint.pulse).failed_until <= now
        and (not endpoint.tls or pulse.expires > now)
        and (not max_conns or pulse.in_flight < max_conns)
        and endpoint.address not in exclude
    ]
    return able or _second_best(candidates, now, exclude, max_conns)


def _second_best(
    candidates: Sequence[Endpoint], now: float, exclude: Collection[str], max_conns: int
) -> Sequence[Endpoint] | NoEndpoint:
    """None is fresh, unmarked and free: the marked fresh ones, else the silent ones, unmarked ones first."""
    untried = [endpoint for endpoint in candidates if endpoint.address not in exclude]
    well = [endpoint for endpoint in untried if not endpoint.pulse.unhealthy]
    free = [endpoint for endpoint in well if not max_conns or endpoint.pulse.in_flight < max_conns]
    if not free:
        return NoEndpoint("overloaded" if well else "unhealthy" if untried else "none")
    fresh = [endpoint for endpoint in free if not endpoint.tls or endpoint.pulse.expires > now]
    group = fresh or free
    unmarked = [endpoint for endpoint in group if endpoint.pulse.failed_until <= now]
    if not unmarked:
        for endpoint in group:
            endpoint.pulse.failed_until = 0.0
    return unmarked or group


def _by_algorithm(pool: Pool, able: Sequence[Endpoint], zone: str, fields: Iterable[tuple[bytes, bytes]]) -> Endpoint:
    """One of `able`: by the hash of a header that came, else of the zone's as long as there are some."""
    algorithm, hash_header, _, otherwise = pool.balancing
    if algorithm == "hash":
        value = _first(fields, hash_header)
        if value:
            return _by_hash(pool, able, value)
        algorithm = otherwise
    if zone:
        able = [endpoint for endpoint in able if endpoint.availability_zone == zone] or able
    return _least_busy(pool, able) if algorithm == "least-connection" else _next(pool, able)


def _next(pool: Pool, able: Sequence[Endpoint]) -> Endpoint:
    """The next in turn."""
    at = pool.turn.next % len(able)
    pool.turn.next = at + 1
    return able[at]


def _least_busy(pool: Pool, able: Sequence[Endpoint]) -> Endpoint:
    """One drawn from those with the fewest requests in flight: by turns would favour whoever stands in front, because who is
    among the least changes with each request.
    """
    fewest = min(endpoint.pulse.in_flight for endpoint in able)
    least = [endpoint for endpoint in able if endpoint.pulse.in_flight == fewest]
    pool.turn.next = drawn = (pool.turn.next * _DRAW_FACTOR + 1) & _DRAW_MASK
    return least[(drawn >> 32) % len(least)]


def _by_hash(pool: Pool, able: Sequence[Endpoint], value: bytes) -> Endpoint:
    """The value's own endpoint; where it is not able, or has more than `hash_balance` times the average of requests in flight,
    the next of the table. Somebody has no more than the average, so the fewest in flight only serves where the table is too
    small to hold it.
    """
    balance = pool.balancing.hash_balance
    fair = balance * sum(endpoint.pulse.in_flight for endpoint in able) / len(able)
    known = {endpoint.name: endpoint for endpoint in able if not balance or endpoint.pulse.in_flight <= fair}
    names = pool.turn.table(pool.endpoints).from_value(value)
    return next((known[name] for name in names if name in known), None) or _least_busy(pool, able)


def _first(fields: Iterable[tuple[bytes, bytes]], name: str) -> bytes:
    """The first value of a header, empty where it is absent."""
    wanted = name.lower().encode()
    return next((value for field, value in fields if field == wanted), b"")
