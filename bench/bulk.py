"""One large response after the other over TLS, by HTTP/1.1 and by HTTP/2: throughput, and CPU a megabyte.

Promises: the proxies take turns; 1 MB is 10^6 bytes; one connection, and a client whose HTTP/2 windows are as large as may be, so
that the proxy sets the pace. Refuses to know: bodies that a client sends.
"""

from collections.abc import Callable, Mapping, Sequence

from bench.exchanges import Plan, Round, remarks, take_turns
from bench.findings import Finding, Report, spread
from bench.h2load import Version, by_body
from bench.load import Load, Target
from bench.nginx import BULK_BYTES
from bench.proxies import Proxy
from bench.site import BULK

MEGABYTES = BULK_BYTES // 10**6
VERSIONS: tuple[Version, ...] = ("http/1.1", "h2")


def bulk(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """1 GiB a response. The aim is a third of nginx's throughput."""
    findings: list[Finding] = []
    notes: list[str] = []
    for version in VERSIONS:
        rounds = take_turns(plan, proxies, lambda proxy: proxy.tls._replace(path=BULK), _loader(version))
        findings += _findings(version, proxies[0].name, rounds)
        notes += remarks(f"bulk {version}", rounds)
    return Report(tuple(findings), tuple(notes))


def _loader(version: Version) -> Callable[[Target, Plan, float, Callable[[], None]], Load]:
    """Each megabyte counts as a request, so that what is a request elsewhere is a megabyte here."""

    def load(target: Target, plan: Plan, seconds: float, began: Callable[[], None]) -> Load:
        began()
        read = by_body(version, target, plan.cores.rest)
        return read._replace(requests=read.requests * MEGABYTES)

    return load


def _findings(version: Version, ours: str, rounds: Mapping[str, Sequence[Round]]) -> list[Finding]:
    findings = []
    for name, seen in rounds.items():
        findings.append(Finding("bulk", f"{name}: {version}, MB a second", spread([one.rate for one in seen]), ""))
        findings.append(Finding("bulk", f"{name}: {version}, CPU a MB", spread([one.cpu_us for one in seen]), "µs"))
    for name in (name for name in rounds if name != ours):
        shares = [mine.rate / theirs.rate for mine, theirs in zip(rounds[ours], rounds[name], strict=True)]
        least = 1 / 3 if name == "nginx" else None
        findings.append(Finding("bulk", f"{version}, share of {name}'s throughput", spread(shares), "", at_least=least))
    return findings
