"""What a long list of callers costs: a route that 25 apps may call beside one that 10,000 may.

Promises: the caller is the last of each list; one router, short alternating slices. Refuses to know: how a list is kept.
"""

import json
from collections.abc import Sequence

from bench.aims import POLICY_RATIO
from bench.core import a_decision
from bench.exchanges import Plan, pairs_of
from bench.findings import Finding, Report, spread
from bench.proxies import answers
from bench.site import APP, Site
from bench.vestibule import Vestibule

FEW, MANY = 25, 10_000
MAX_OPTIONS = 1 << 20
"""Of a route's options in bytes: GoRouter's own limit is 1,024, which 25 GUIDs fill."""


def policy(site: Site, plan: Plan, peers: Sequence[str]) -> Report:
    """Keep-alive over mutual TLS, authorized; and the decision itself."""
    router = Vestibule(site, max_route_options_size=MAX_OPTIONS)
    try:
        router.start()
        few, many = (router.mtls._replace(host=_host(count)) for count in (FEW, MANY))
        site.register(_registration(site, count) for count in (FEW, MANY))
        router.wait_for(lambda: all(map(answers, (few, many))))
        pairs = pairs_of(plan, router, few, many)
    finally:
        router.stop()
    findings = [
        Finding("policy", f"{FEW:,} GUIDs: CPU a request", spread([one.cpu_us for one, _ in pairs]), "µs"),
        Finding("policy", f"{MANY:,} GUIDs: CPU a request", spread([other.cpu_us for _, other in pairs]), "µs"),
        Finding("policy", "ratio", spread([other.cpu_us / one.cpu_us for one, other in pairs]), "", POLICY_RATIO),
    ]
    for count in (FEW, MANY):
        allow, deny = a_decision(site, count)
        findings.append(Finding("policy", f"{count:,} GUIDs: to allow", allow, "µs"))
        findings.append(Finding("policy", f"{count:,} GUIDs: to deny", deny, "µs"))
    errors = sum(one.load.errors for pair in pairs for one in pair)
    return Report(tuple(findings), (f"policy: {errors} ERRORS.",) if errors else ())


def _host(count: int) -> str:
    return f"policy-{count}.east.example"


def _registration(site: Site, count: int) -> bytes:
    others = (f"{number:08x}-5555-4555-8555-555555555555" for number in range(count - 1))
    return json.dumps(
        {
            "host": "127.0.0.1",
            "port": site.backends.pages,
            "uris": [_host(count)],
            "app": APP,
            "private_instance_id": f"policy-{count}",
            "options": {"mtls_allowed_apps": ",".join((*others, APP))},
        }
    ).encode()
