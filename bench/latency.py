"""Waits at a fixed rate, far below what any proxy can do: what a caller feels.

Promises: a request's wait counts from when it was due (no coordinated omission); the proxies take turns, and a ratio is formed
within a round. Refuses to know: throughput.
"""

from collections.abc import Callable, Sequence

from bench.aims import LATENCY_RATIO
from bench.exchanges import Plan, take_turns, troubles
from bench.findings import Finding, Report, ratios, spread
from bench.load import Load, Target, by_client, ordered
from bench.proxies import Proxy

RATE, CONNECTIONS = 500.0, 64


def latency(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """TLS, keep-alive, 500 requests a second."""
    rounds = take_turns(plan, proxies, lambda proxy: proxy.tls, paced)
    findings = []
    for name, seen in rounds.items():
        for what, times in (("p50", [one.load.p50 for one in seen]), ("p99", [one.load.p99 for one in seen])):
            findings.append(Finding("latency", what, spread([time * 1e6 for time in times]), "µs", who=name))
    for name, ratio in ratios({name: [one.load.p99 for one in seen] for name, seen in rounds.items()}):
        findings.append(Finding("latency", "p99 ratio to", ratio, "", LATENCY_RATIO.get(name), who=name))
    late = spread([one.load.late * 1e6 for seen in rounds.values() for one in seen])
    note = (
        f"latency: 99 % of the requests left within {late.median:.0f} µs of their time, in the worst round {late.greatest:.0f}."
    )
    return Report(
        tuple(findings), (note, *(trouble for name, seen in rounds.items() for trouble in troubles("latency", name, seen)))
    )


def paced(target: Target, plan: Plan, seconds: float, began: Callable[[], None]) -> Load:
    """The loader."""
    return by_client(ordered("paced", target, CONNECTIONS, seconds, rate=RATE), plan.cores.rest, began)
