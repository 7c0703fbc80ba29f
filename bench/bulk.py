"""Large responses over TLS, by HTTP/1.1 and by HTTP/2: throughput, and CPU a megabyte.

Promises: the proxies take turns; 10 MiB a response, a few connections at once, 1 MB is 10^6 bytes as the client counted them; the
client's HTTP/2 windows are as large as may be, so that the proxy sets the pace. Refuses to know: bodies that a client sends.
"""

from collections.abc import Callable, Mapping, Sequence

from bench.exchanges import Loader, Plan, Round, cpu_ratios, remarks, take_turns
from bench.findings import Finding, Report, ratios, spread
from bench.h2load import Version, by_h2load, h2load
from bench.load import Load, Target, by_client, ordered
from bench.order import Mode
from bench.proxies import Proxy
from bench.site import BULK

CONNECTIONS = 4
VERSIONS: dict[Version, Mode] = {"http/1.1": "keep", "h2": "http2"}


def bulk(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """Both versions of HTTP."""
    findings: list[Finding] = []
    notes: list[str] = []
    for version in VERSIONS:
        rounds = take_turns(plan, proxies, lambda proxy: proxy.tls._replace(path=BULK), _loader(version))
        findings += _findings(f"bulk {version}", rounds)
        notes += remarks(f"bulk {version}", rounds)
    return Report(tuple(findings), tuple(notes))


def _loader(version: Version) -> Loader:
    """Each megabyte counts as a request, so that what is a request elsewhere is a megabyte here."""

    def load(target: Target, plan: Plan, seconds: float, began: Callable[[], None]) -> Load:
        program = h2load()
        if program is None:
            read = by_client(ordered(VERSIONS[version], target, CONNECTIONS, seconds), plan.cores.rest, began)
        else:
            began()
            read = by_h2load(program, version, target, CONNECTIONS, 1, seconds, plan.cores.rest)
        return read._replace(requests=read.received // 10**6)

    return load


def _findings(scenario: str, rounds: Mapping[str, Sequence[Round]]) -> list[Finding]:
    findings = []
    for name, seen in rounds.items():
        findings.append(Finding(scenario, "MB a second", spread([one.rate for one in seen]), "", who=name))
        findings.append(Finding(scenario, "CPU a MB", spread([one.cpu_us for one in seen]), "µs", who=name))
    findings += cpu_ratios(scenario, rounds)
    rates = {name: [one.rate for one in seen] for name, seen in rounds.items()}
    findings += [Finding(scenario, "throughput ratio to", seen, "", who=name) for name, seen in ratios(rates)]
    return findings
