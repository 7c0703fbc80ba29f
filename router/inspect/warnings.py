"""What `/warnings` tells: what works today and deserves a look, of the configuration, of every route, of time.

Promises: a pure function of a snapshot, a table, the warnings of the running configuration and two clocks; JSON in pieces, as
policies.py; nothing is told that a secret could be read from. Refuses to know: who may ask, and how the answer is sent.

The shape stands in docs/reference/status.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cryptography import x509

from authz.domain import DomainPolicy, DomainTable
from registry.endpoint import Route
from registry.problems import Problem
from registry.table import RouteTable
from router.config.expiry import SOON
from router.config.model import Config
from router.inspect.policies import compact, joined, rfc3339, route_warnings, subject_text
from router.live import Snapshot
from router.tls.certificates import read_certificates


def render_warnings(
    snapshot: Snapshot, table: RouteTable, config: Sequence[Problem], now: float, now_epoch: float
) -> Iterator[bytes]:
    """The answer, piece by piece; some may be empty. `config`: the warnings that loading the configuration gave; `now` is
    monotonic seconds, as the endpoints' deadlines are.
    """
    problems, ending = [problem.as_json() for problem in config], list(_ending(snapshot, now_epoch))
    yield f'{{"generation":{snapshot.generation},"config":{compact(problems)},"certificates":{compact(ending)},'.encode("ascii")
    served: set[str] = set()
    yield b'"routes":['
    yield from joined(_routes(snapshot.domains, table, served))
    yield b'],"silent_endpoints":['
    yield from joined(silent for route in table for silent in _silent(route, now))
    yield f'],"domains":{compact(list(_domains(snapshot.domains, served)))}}}'.encode("ascii")


def _routes(domains: DomainTable, table: Iterable[Route], served: set[str]) -> Iterator[dict[str, object] | None]:
    """Routes with warnings, None for each without; notes in `served` the domains that have a route."""
    for route in table:
        domain = domains.claim(route.host)
        if domain is not None:
            served.add(domain.pattern)
        yield _route_json(route, domain, list(route_warnings(route, domain, domains)))


def _route_json(route: Route, domain: DomainPolicy | None, warnings: list[str]) -> dict[str, object] | None:
    if not warnings:
        return None
    apps = list(dict.fromkeys(endpoint.app for endpoint in route.pool.endpoints if endpoint.app))
    return {"route": route.key, "domain": None if domain is None else domain.pattern, "apps": apps, "warnings": warnings}


def _silent(route: Route, now: float) -> Iterator[dict[str, object] | None]:
    """Endpoints that were not heard of for their TTL: TLS ones stay all the same, others while NATS is away."""
    for endpoint in route.pool.endpoints:
        if endpoint.pulse.expires > now:
            yield None
        else:
            yield {
                "route": route.key,
                "address": endpoint.address,
                "app": endpoint.app or None,
                "silent_for_seconds": round(now - endpoint.pulse.expires + endpoint.ttl, 3),
            }


def _domains(domains: DomainTable, served: set[str]) -> Iterator[dict[str, object]]:
    for domain in domains.policies:
        if domain.pattern not in served:
            yield {"domain": domain.pattern, "warning": "no route is registered in this domain"}


# ---- certificates


def _ending(snapshot: Snapshot, now_epoch: float) -> Iterator[dict[str, object]]:
    """The certificates and authorities that end within SOON, or have ended, in the order of the configuration's keys."""
    for key, certificate in _certificates(snapshot):
        ends = certificate.not_valid_after_utc
        left = ends.timestamp() - now_epoch
        if left < SOON.total_seconds():
            yield {
                "key": key,
                "subject": subject_text(certificate),
                "not_after": rfc3339(ends),
                "expires_in_seconds": round(left),
            }


def _certificates(snapshot: Snapshot) -> Iterator[tuple[str, x509.Certificate]]:
    """(where the configuration names it, the certificate)."""
    for index, pair in enumerate(snapshot.contexts.certificates):
        for certificate in pair.chain:
            yield f"tls_pem[{index}]", certificate
    for domain in snapshot.domains.policies:
        policy = snapshot.client_policy(domain.pattern)
        for anchor in policy.anchors if policy is not None else ():
            yield f"{domain.dialect}[{domain.pattern}].ca_certs", anchor
    for key, pem in _texts(snapshot.config):
        for certificate in read_certificates(pem) if pem else ():
            yield key, certificate


def _texts(config: Config) -> Iterator[tuple[str, str]]:
    """(key, PEM text) of what is used outside the handshakes of clients in domains."""
    yield "client_ca_certs", config.client_ca_certs
    for index, pem in enumerate(config.ca_certs):
        yield f"ca_certs[{index}]", pem
    yield "backends.cert_chain", config.backends.cert_chain
    yield "status.tls.certificate", config.status.tls.certificate
    yield "prometheus.cert_path", config.prometheus.certificate
    yield "nats.cert_chain", config.nats.cert_chain
    yield "nats.ca_certs", config.nats.ca_certs
