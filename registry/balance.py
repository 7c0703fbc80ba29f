"""Which endpoint takes a request: round-robin among those that the caller's scope and the request's wish
admit.

Promises: a pure choice but for the pool's cursor and the marks; never an endpoint outside the scopes the
decision demands, whatever else is left; missing never equals missing. Refuses to know: dialling, retries, how
the marks are earned, the wording of refusals.

Source: GoRouter's round-robin pool; RFC-0055's scopes, here applied before the choice, so that a route shared
between spaces gives no intermittent refusal; GoRouter's X-CF-App-Instance and X-CF-Process-Instance.
"""

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, assert_never

from identity.caller import Caller
from registry.endpoint import Endpoint, Pool

FAILED_FOR = 30.0  # seconds a failed endpoint is passed over: a quarter of the default stale threshold

_GUID = r"[\da-f]{8}-(?:[\da-f]{4}-){3}[\da-f]{12}"
_APP_INSTANCE = re.compile(rf"({_GUID}):(\d{{1,10}})".encode())
_PROCESS_INSTANCE = re.compile(rf"({_GUID})(?::(\d{{1,10}}))?".encode())


class NoEndpoint(NamedTuple):
    """Why there is none: `scope` (none the caller may reach), `instance` (not the one asked for),
    `overloaded` (all have their fill of requests), `none` (no other left)."""

    reason: Literal["scope", "instance", "overloaded", "none"]


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
    exclude: Container[str] = (),
    *,
    selector: Selector | None = None,
    max_conns: int = 0,
) -> Endpoint | NoEndpoint:
    """The next endpoint for a request, or why there is none.

    `scopes` are those every candidate must share with the caller ("org", "space"); `exclude` holds the
    addresses tried before; `max_conns` bounds an endpoint's requests in flight, 0 = no bound. A TLS endpoint
    silent for its TTL comes after all others; where all that could serve are marked as failed, their marks
    are lifted and one is taken.
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
    return _second_best(pool, candidates, now, exclude, max_conns)


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
    endpoint.pulse.failed_until = now + seconds


def _second_best(
    pool: Pool, candidates: Sequence[Endpoint], now: float, exclude: Container[str], max_conns: int
) -> Endpoint | NoEndpoint:
    """None is fresh, unmarked and free: a marked fresh one, else a silent one, unmarked ones first."""
    untried = [endpoint for endpoint in candidates if endpoint.address not in exclude]
    free = [endpoint for endpoint in untried if not max_conns or endpoint.pulse.in_flight < max_conns]
    if not free:
        return NoEndpoint("overloaded" if untried else "none")
    fresh = [endpoint for endpoint in free if not endpoint.tls or endpoint.pulse.expires > now]
    group = fresh or free
    unmarked = [endpoint for endpoint in group if endpoint.pulse.failed_until <= now]
    if not unmarked:
        for endpoint in group:
            endpoint.pulse.failed_until = 0.0
    chosen = unmarked or group
    at = pool.turn.next % len(chosen)
    pool.turn.next = at + 1
    return chosen[at]
