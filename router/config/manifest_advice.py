"""What is legal but unwise in manifests beside a configuration: routes and domains that do not meet.

Promises: one warning a finding; changes nothing, raises nothing. Refuses to know what a manifest alone gets wrong
(registry/manifest.py), and what a policy decides: what is enforced where is TABLE of authz/decide.py.

Source: decision 2 (a bare suffix is not claimed), decision 8 (where options are enforced); R251, R275.
"""

from collections.abc import Iterable, Iterator

from authz.decide import TABLE, row_of
from authz.domain import DomainTable
from registry.manifest import ManifestRoute
from registry.message import parse_uri
from registry.problems import Problem, Where, printable
from router.config.legacy import Notice
from router.config.model import Config

_TO_A_DOMAIN = "move the route to a domain with authorization.mode: cf_identity, or remove the option"


def advise_routes(routes: Iterable[ManifestRoute], domains: DomainTable) -> list[Problem]:
    """Warnings at routes: options that nobody enforces, and hosts that just miss a domain."""
    found = ((route, said, remedy) for route in routes for said, remedy in _of_route(route, domains))
    return [Problem(route.file, route.line, route.uri, "", said, remedy) for route, said, remedy in found]


def idle_domains(routes: Iterable[ManifestRoute], config: Config, domains: DomainTable) -> Iterator[Notice]:
    """Domains of `config` that no route is on, at their places."""
    used = {domain.pattern for route in routes if (domain := domains.claim(_host(route))) is not None}
    places: list[tuple[Where, str]] = [
        *((("mtls_domains", index, "domain"), entry.domain) for index, entry in enumerate(config.mtls_domains)),
        *((("domains", index, "domain"), entry.domain) for index, entry in enumerate(config.domains)),
    ]
    for where, pattern in places:
        if pattern not in used:
            said = f"no route of the manifests is on {printable(pattern, 80)}"
            yield Notice(where, said, "name all manifests, or remove the domain")


def _of_route(route: ManifestRoute, domains: DomainTable) -> Iterator[tuple[str, str]]:
    host = _host(route)
    domain = domains.claim(host)
    if domain is None and f"*.{host}" in {one.pattern for one in domains.policies}:
        said = f"{printable(host, 80)} is open: the domain `*.{printable(host, 80)}` claims only what is below it"
        yield said, "give the route a host below the suffix, or the suffix a domain of its own"
    mtls = next((key for key in route.options if key.startswith("mtls_")), None)
    policies = next((key for key in route.options if key.startswith("route_policy_")), None)
    if mtls is not None and TABLE[row_of(domain)]["mtls"] == "not_enforced":
        who = "on no domain, and everybody is let in"
        if domain is not None:
            who = f"on {printable(domain.pattern, 80)} with authorization.mode: none, and every certificate of it is let in"
        yield f"`{printable(mtls, 60)}` has no effect: the host is {who}", _TO_A_DOMAIN
    if policies is not None and (domain is None or not domain.reads_identity):
        where = "on no domain" if domain is None else f"on {printable(domain.pattern, 80)}, which reads no identity"
        yield f"`{printable(policies, 60)}` lets nobody in: the host is {where}", _TO_A_DOMAIN


def _host(route: ManifestRoute) -> str:
    uri = parse_uri(route.uri)
    return route.uri if uri is None else uri.host
