"""What a long list of callers costs: a domain and route that admit 25 callers beside a domain that admits 10,000.

Promises: the caller is the last of each list; one router, short alternating slices. A registration is at most 64 KiB, too
little for 10,000 GUIDs: the long list is the domain's. Refuses to know: how a list is kept.
"""

import json
from collections.abc import Iterator, Sequence

from bench.aims import POLICY_RATIO
from bench.core import a_decision
from bench.exchanges import Plan, pairs_of, troubles
from bench.findings import Finding, Report, spread
from bench.proxies import answers
from bench.site import APP, SPACE, Site
from bench.vestibule import Vestibule, strict_domain

COUNTS = FEW, MANY = 25, 10_000


def policy(site: Site, plan: Plan, peers: Sequence[str]) -> Report:
    """Keep-alive over mutual TLS, authorized by domain and route; and the decision itself."""
    domains = [strict_domain(site, f"*.{_suffix(count)}", spaces=[*_others(count), SPACE]) for count in COUNTS]
    router = Vestibule(site, more_domains=domains)
    few, many = (router.mtls._replace(host=f"bench.{_suffix(count)}") for count in COUNTS)
    try:
        router.start()
        site.register(_registration(site, target.host) for target in (few, many))
        router.wait_for(lambda: all(map(answers, (few, many))))
        pairs = pairs_of(plan, router, few, many)
    finally:
        router.stop()
    findings = [
        Finding("policy", f"{FEW:,} GUIDs: CPU a request", spread([one.cpu_us for one, _ in pairs]), "µs"),
        Finding("policy", f"{MANY:,} GUIDs: CPU a request", spread([other.cpu_us for _, other in pairs]), "µs"),
        Finding("policy", "ratio", spread([other.cpu_us / one.cpu_us for one, other in pairs]), "", POLICY_RATIO),
        *_decisions(site),
    ]
    return Report(tuple(findings), tuple(troubles("policy", router.name, [one for pair in pairs for one in pair])))


def _decisions(site: Site) -> Iterator[Finding]:
    for count in COUNTS:
        allow, deny = a_decision(site, count)
        yield Finding("policy", f"{count:,} GUIDs: to allow", allow, "µs")
        yield Finding("policy", f"{count:,} GUIDs: to deny", deny, "µs")


def _suffix(count: int) -> str:
    return f"of-{count}.example"


def _others(count: int) -> list[str]:
    return [f"{number:08x}-5555-4555-8555-555555555555" for number in range(count - 1)]


def _registration(site: Site, host: str) -> bytes:
    """As many apps as GoRouter's limit for options lets a route name."""
    return json.dumps(
        {
            "host": "127.0.0.1",
            "port": site.backends.pages,
            "uris": [host],
            "app": APP,
            "private_instance_id": host,
            "options": {"mtls_allowed_apps": ",".join((*_others(FEW), APP))},
        }
    ).encode()
