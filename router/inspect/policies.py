"""What `/policies` tells: every domain and every route with what is demanded of a caller, who owns it, and how its endpoints are.

Promises: a pure function of a snapshot, a table and two clocks; JSON in pieces, so that a large table is neither built whole nor
holds up the requests that share the loop; what TABLE of authz/decide.py enforces, never a second opinion; no key, certificate
or secret. Refuses to know: who may ask, and how the answer is sent.

The shape stands in docs/reference/status.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final, Literal, NamedTuple, TypeAlias

from cryptography import x509

from authz.decide import TABLE, Outcome, Row, row_of, unenforced
from authz.deny import NO_DENY, DenyLists, denied_host
from authz.domain import DomainPolicy, DomainTable
from authz.policy import Callers, MtlsOptions, Part, RoutePolicies
from registry.endpoint import Endpoint, Pulse, Route
from registry.hostname import Host, covers
from registry.options import OptionWarning
from registry.sieve import barred
from registry.table import RouteTable
from router.live import Snapshot
from router.tls.certificates import UNREADABLE

Effect = Literal["forward", "not_enforced", "enforce", "deny"]

InFlight: TypeAlias = Callable[[Pulse], int]
OWN: Final[InFlight] = attrgetter("in_flight")
"""Where one process has them all."""

BYTES_A_PIECE: Final = 16 * 1024
LOOKED_AT_A_PIECE: Final = 500
MAX_SUBJECT: Final = 256

_EFFECTS: Final[tuple[Effect, ...]] = ("forward", "not_enforced", "enforce", "deny")
"""The weakest first: of a route's parts the strongest counts."""
_NOBODY: Final = Callers()


class Wanted(NamedTuple):
    """Which routes are asked for; None: any. `host` may be `*.suffix`; `app` is one that has an endpoint of the route; `domain`
    is the pattern of the domain that claims it.
    """

    host: Host | None = None
    app: str | None = None
    domain: str | None = None

    def fits(self, route: Route, domain: DomainPolicy | None) -> bool:
        if self.host is not None and not covers(self.host, route.host):
            return False
        if self.domain is not None and (domain is None or domain.pattern != self.domain):
            return False
        return self.app is None or any(endpoint.app == self.app for endpoint in route.pool.endpoints)


ALL: Final = Wanted()


def render_policies(
    snapshot: Snapshot, table: RouteTable, now: float, wanted: Wanted = ALL, in_flight: InFlight = OWN
) -> Iterator[bytes]:
    """The answer, piece by piece; some may be empty. `now` is monotonic seconds, as the endpoints' deadlines are; `in_flight`
    says how many requests an endpoint has.
    """
    domains = [domain_json(snapshot, domain) for domain in snapshot.domains.policies if wanted.domain in (None, domain.pattern)]
    deny = compact(deny_json(snapshot.deny))
    yield f'{{"generation":{snapshot.generation},"deny":{deny},"domains":{compact(domains)},"routes":['.encode("ascii")
    yield from joined(_routes(snapshot, table, now, wanted, in_flight))
    yield b"]}"


def _routes(
    snapshot: Snapshot, table: Iterable[Route], now: float, wanted: Wanted, in_flight: InFlight
) -> Iterator[dict[str, object] | None]:
    """The routes that are wanted; None for each that is not."""
    domains = snapshot.domains
    for route in table:
        domain = domains.claim(route.host)
        fits = wanted.fits(route, domain)
        yield route_json(route, domain, domains, now, snapshot.deny, in_flight) if fits else None


def joined(items: Iterable[dict[str, object] | None]) -> Iterator[bytes]:
    """JSON items with commas between, in pieces of BYTES_A_PIECE and an item at most, or of what LOOKED_AT_A_PIECE have."""
    found: list[str] = []
    comma, size = "", 0
    for number, item in enumerate(items, 1):
        if item is not None:
            found.append(comma + compact(item))
            comma = ","
            size += len(found[-1])
        if size >= BYTES_A_PIECE or number % LOOKED_AT_A_PIECE == 0:
            yield "".join(found).encode("ascii")
            found.clear()
            size = 0
    yield "".join(found).encode("ascii")


def compact(value: object) -> str:
    """JSON in ASCII, without blanks."""
    return json.dumps(value, separators=(",", ":"))


# ---- the operator's own


def deny_json(lists: DenyLists) -> dict[str, object]:
    """The deny lists, as the configuration's key `deny` has them."""
    return {
        "apps": sorted(lists.apps),
        "spaces": sorted(lists.spaces),
        "orgs": sorted(lists.orgs),
        "hosts": sorted(lists.hosts),
        "backend_networks": [str(network) for network in lists.networks],
    }


def domain_json(snapshot: Snapshot, domain: DomainPolicy) -> dict[str, object]:
    """One domain, with its authorities by subject and expiry."""
    policy = snapshot.client_policy(domain.pattern)
    return {
        "domain": domain.pattern,
        "dialect": domain.dialect,
        "mode": domain.mode,
        "identity_extractor": domain.identity_extractor,
        "orgs": _listed(domain.orgs),
        "spaces": _listed(domain.spaces),
        "report_only": domain.report_only,
        "forwarded_client_cert": domain.xfcc_mode,
        "xfcc_format": domain.xfcc_format,
        "client_policy": domain.client_policy,
        "authorities": [
            {"subject": subject_text(anchor), "not_after": rfc3339(anchor.not_valid_after_utc)}
            for anchor in (policy.anchors if policy is not None else ())
        ],
    }


def subject_text(certificate: x509.Certificate) -> str:
    """The subject as RFC 4514 writes it, at most MAX_SUBJECT characters."""
    try:
        return certificate.subject.rfc4514_string()[:MAX_SUBJECT]
    except UNREADABLE:
        return "(unreadable)"


def rfc3339(moment: datetime) -> str:
    """Seconds are enough for a certificate's end."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _listed(guids: Iterable[str] | None) -> list[str] | None:
    return None if guids is None else sorted(guids)


# ---- routes


def route_json(
    route: Route,
    domain: DomainPolicy | None,
    domains: DomainTable,
    now: float,
    deny: DenyLists = NO_DENY,
    in_flight: InFlight = OWN,
) -> dict[str, object]:
    """One route: what its callers meet, whose it is, where it leads."""
    pool = route.pool
    row = row_of(domain)
    denied = denied_host(deny, route.host)
    return {
        "route": route.key,
        "host": route.host,
        "path": route.path,
        "domain": None if domain is None else domain.pattern,
        "row": row,
        "effect": effect(row, pool.policy.parts),
        "report_only": domain is not None and domain.report_only,
        "denied": None if denied is None else denied.detail,
        "policy": [part_json(part, TABLE[row][part.column]) for part in pool.policy.parts],
        "warnings": list(route_warnings(route, domain, domains)),
        "owners": _distinct(map(_owner_json, pool.endpoints)),
        "load_balancing_algorithm": pool.balancing.algorithm,
        "route_service_url": pool.route_service_url or None,
        "endpoints": [_endpoint_json(endpoint, now, deny, in_flight) for endpoint in pool.endpoints],
    }


def effect(row: Row, parts: Iterable[Part]) -> Effect:
    """What all parts together do to a caller: `deny` is everybody, whoever calls."""
    effects = [_effect(TABLE[row][part.column], part) for part in parts]
    return max(effects, key=_EFFECTS.index, default="forward")


def _effect(outcome: Outcome, part: Part) -> Effect:
    hopeless = isinstance(part, MtlsOptions | RoutePolicies) and part.callers.nobody
    unscoped = isinstance(part, RoutePolicies) and part.scope == "unknown"
    return "deny" if outcome == "enforce" and (hopeless or unscoped) else outcome


def part_json(part: Part, outcome: Outcome) -> dict[str, object]:
    """One policy of the route; all of them must admit a caller. Dialects that have no scope, or no lists, show none."""
    callers = part.callers if isinstance(part, MtlsOptions | RoutePolicies) else _NOBODY
    return {
        "options": part.column,
        "outcome": outcome,
        "scope": part.scope if isinstance(part, RoutePolicies) else None,
        "any": callers.any,
        "apps": sorted(callers.apps),
        "spaces": sorted(callers.spaces),
        "orgs": sorted(callers.orgs),
        "named": list(part.named) if isinstance(part, MtlsOptions) else [],
    }


def route_warnings(route: Route, domain: DomainPolicy | None, domains: DomainTable) -> Iterator[str]:
    """What is legal and yet unlikely to be meant, a sentence each, none twice."""
    pool = route.pool
    found = dict.fromkeys(pool.policy.warnings)
    ignored = unenforced(domain, pool.policy)
    if ignored is not None:
        found[ignored] = None
    for endpoint in pool.endpoints:
        found.update(dict.fromkeys(map(_option_sentence, endpoint.options.warnings)))
    if domain is None and any(each.pattern == f"*.{route.host}" for each in domains.policies):
        found[f"*.{route.host} does not claim its bare suffix: {route.host} is open to everybody"] = None
    yield from found


def _option_sentence(warning: OptionWarning) -> str:
    return f"option {warning.key or 'map'} is {warning.value} ({warning.reason}); in effect: {warning.in_effect}"


def _owner_json(endpoint: Endpoint) -> dict[str, object]:
    """Whose endpoint it is, as its registration says: names are for people, nothing is decided by them."""
    tags = endpoint.tags
    return {
        "app": endpoint.app or tags.get("app_id") or None,
        "app_name": tags.get("app_name") or None,
        "space": tags.get("space_id") or None,
        "space_name": tags.get("space_name") or None,
        "org": tags.get("organization_id") or None,
        "org_name": tags.get("organization_name") or None,
    }


def _distinct(items: Iterable[dict[str, object]]) -> list[dict[str, object]]:
    return list({tuple(item.values()): item for item in items}.values())


def _endpoint_json(endpoint: Endpoint, now: float, deny: DenyLists, in_flight: InFlight) -> dict[str, object]:
    pulse = endpoint.pulse
    left = pulse.expires - now
    denied = barred(deny, endpoint)
    return {
        "address": endpoint.address,
        "app": endpoint.app or None,
        "instance_id": endpoint.instance_id or None,
        "instance_index": endpoint.instance_index or None,
        "tls": endpoint.tls,
        "server_cert_domain_san": endpoint.san or None,
        "protocol": endpoint.protocol,
        "availability_zone": endpoint.availability_zone or None,
        "isolation_segment": endpoint.isolation_segment or None,
        "tags": dict(endpoint.tags),
        "ttl_seconds": endpoint.ttl,
        "age_seconds": round(max(endpoint.ttl - left, 0.0), 3),
        "expires_in_seconds": round(left, 3),
        "in_flight": in_flight(pulse),
        "failed": pulse.failed_until > now and not pulse.unhealthy,
        "healthy": not pulse.unhealthy,
        "denied": None if denied is None else denied.detail,
    }
