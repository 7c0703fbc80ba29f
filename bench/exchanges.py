"""Requests through Vestibule and its peers in turn: plain, tls, mtls, http2, new-tls, new-mtls, authorized-extra.

Promises: the proxies take turns (A B A B), so that a slow minute of the machine meets them all; a ratio is formed within a
round; CPU is that of the proxy's processes alone. A request that fails is told in the notes, and one that was not answered by
anybody ends the scenario.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from bench.aims import AUTHORIZED_EXTRA_US, CPU_RATIO
from bench.findings import Finding, Report, ratios, spread
from bench.h2load import by_h2load, h2load
from bench.load import Load, LoadError, Target, by_client, by_wrk, ordered, spoken, wrk
from bench.machine import Cores, busy_seconds, cpu_seconds, own_seconds
from bench.proxies import Proxy

CONNECTIONS, NEW_AT_ONCE = 64, 16
HTTP2_CONNECTIONS, HTTP2_STREAMS = 16, 16
WARM_SECONDS = 1.0
SLICES = 4
"""Into how many a round is cut where the difference of two figures is wanted: what disturbs one then meets both."""
STRANGE, MOSTLY_STRANGE = 0.05, 0.5
"""Work of others on a core is told from the first share on; from the second on it is what limits a run."""
FULL = 0.93
"""A core that is busy for this share of the time limits the run."""


class Round(NamedTuple):
    """One proxy under load once. `proxy_share` and the others: of one core's time."""

    load: Load
    cpu: float
    """Seconds."""
    proxy_share: float
    proxy_core: float
    rest_core: float
    ours: float
    """What load generator, backend and NATS took of the rest."""

    @property
    def cpu_us(self) -> float:
        """A request."""
        return self.cpu / self.load.requests * 1e6

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.load.requests / self.load.seconds


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    rounds: int
    seconds: float
    cores: Cores

    @property
    def warm(self) -> float:
        """Seconds before the first round."""
        return min(WARM_SECONDS, self.seconds)

    def sliced(self) -> "Plan":
        """As much, in shorter rounds."""
        return Plan(self.rounds * SLICES, max(min(1.0, self.seconds), self.seconds / SLICES), self.cores)


Loader = Callable[[Target, Plan, float, Callable[[], None]], Load]


def plain(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """HTTP/1.1 keep-alive without TLS."""
    return _compare("plain", plan, proxies, lambda proxy: proxy.plain, keep)


def tls(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """HTTP/1.1 keep-alive over TLS, no client certificate."""
    return _compare("tls", plan, proxies, lambda proxy: proxy.tls, keep)


def mtls(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """HTTP/1.1 keep-alive over mutual TLS; Vestibule decides on every request, the others only verify."""
    return _compare("mtls", plan, proxies, lambda proxy: proxy.mtls, keep)


def http2(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """HTTP/2 over TLS, many streams a connection, to the same HTTP/1.1 backend."""
    return _compare("http2", plan, proxies, lambda proxy: proxy.tls, _streams)


def new_tls(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """A new TLS connection for every request, none resumed."""
    return _compare("new-tls", plan, proxies, lambda proxy: proxy.tls, _new)


def new_mtls(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """A new mutual TLS connection for every request."""
    return _compare("new-mtls", plan, proxies, lambda proxy: proxy.mtls, _new)


def authorized_extra(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """What authorization adds: Vestibule's mTLS-authorized requests against its plain TLS ones, by the same generator."""
    vestibule = proxies[0]
    pairs = pairs_of(plan, vestibule, vestibule.tls, vestibule.mtls)
    extra = spread([authorized.cpu_us - open_.cpu_us for open_, authorized in pairs])
    findings = (
        Finding("authorized-extra", "over plain TLS", spread([open_.cpu_us for open_, _ in pairs]), "µs"),
        Finding("authorized-extra", "mTLS and authorized", spread([authorized.cpu_us for _, authorized in pairs]), "µs"),
        Finding("authorized-extra", "difference", extra, "µs", AUTHORIZED_EXTRA_US),
    )
    note = f"authorized-extra: the median of {len(pairs)} differences of large numbers; trust it as far as their spread allows."
    return Report(findings, (note, *troubles("authorized-extra", vestibule.name, [one for pair in pairs for one in pair])))


def pairs_of(plan: Plan, proxy: Proxy, one: Target, other: Target) -> list[tuple[Round, Round]]:
    """Two targets of one proxy in short alternating slices, keep-alive, by our own generator."""
    load(keep_ours, other, plan, plan.warm)
    short = plan.sliced()
    return [(under_load(keep_ours, proxy, one, short), under_load(keep_ours, proxy, other, short)) for _ in range(short.rounds)]


def keep(target: Target, plan: Plan, seconds: float, began: Callable[[], None]) -> Load:
    """wrk where it can do it: it costs the machine least."""
    program = wrk() if target.certificate is None else None
    if program is None:
        return keep_ours(target, plan, seconds, began)
    began()
    return by_wrk(program, target, CONNECTIONS, seconds, plan.cores.rest)


def keep_ours(target: Target, plan: Plan, seconds: float, began: Callable[[], None]) -> Load:
    """Requests by our own generator."""
    return by_client(ordered("keep", target, CONNECTIONS, seconds), plan.cores.rest, began)


def _new(target: Target, plan: Plan, seconds: float, began: Callable[[], None]) -> Load:
    return by_client(ordered("new", target, NEW_AT_ONCE, seconds), plan.cores.rest, began)


def _streams(target: Target, plan: Plan, seconds: float, began: Callable[[], None]) -> Load:
    program = h2load()
    if program is None:
        return by_client(ordered("http2", target, HTTP2_CONNECTIONS, seconds, streams=HTTP2_STREAMS), plan.cores.rest, began)
    began()
    return by_h2load(program, "h2", target, HTTP2_CONNECTIONS, HTTP2_STREAMS, seconds, plan.cores.rest)


def _compare(scenario: str, plan: Plan, proxies: Sequence[Proxy], where: Callable[[Proxy], Target], loader: Loader) -> Report:
    """CPU a request of each, requests a second, waits, and ratios; the first proxy is Vestibule."""
    rounds = take_turns(plan, proxies, where, loader)
    findings: list[Finding] = []
    for name, seen in rounds.items():
        findings.append(Finding(scenario, "CPU a request", spread([one.cpu_us for one in seen]), "µs", who=name))
        findings.append(Finding(scenario, "requests a second", spread([one.rate for one in seen]), "", who=name))
        findings += waits(scenario, name, seen)
    findings += cpu_ratios(scenario, rounds)
    notes = [_spoken(scenario, plan, proxies, where)] if where(proxies[0]).tls else []
    return Report(tuple(findings), (*notes, *remarks(scenario, rounds)))


def cpu_ratios(scenario: str, rounds: Mapping[str, Sequence[Round]]) -> Iterator[Finding]:
    """Vestibule's CPU a request to that of each peer, held against the aims."""
    cpu = {name: [one.cpu_us for one in seen] for name, seen in rounds.items()}
    for name, seen in ratios(cpu):
        yield Finding(scenario, "CPU ratio to", seen, "", CPU_RATIO.get((scenario, name)), who=name)


def waits(scenario: str, name: str, seen: Sequence[Round]) -> Iterator[Finding]:
    """Percentiles, where the generator says them."""
    for what, times in (("p50", [one.load.p50 for one in seen]), ("p99", [one.load.p99 for one in seen])):
        if not any(map(math.isnan, times)):
            yield Finding(scenario, what, spread([time * 1000 for time in times]), "ms", who=name)


def take_turns(plan: Plan, proxies: Sequence[Proxy], where: Callable[[Proxy], Target], loader: Loader) -> dict[str, list[Round]]:
    """Every proxy in turn, as often as the plan says, by name."""
    for proxy in proxies:
        load(loader, where(proxy), plan, plan.warm)
    rounds: dict[str, list[Round]] = {proxy.name: [] for proxy in proxies}
    for _ in range(plan.rounds):
        for proxy in proxies:
            rounds[proxy.name].append(under_load(loader, proxy, where(proxy), plan))
    return rounds


def remarks(scenario: str, rounds: Mapping[str, Sequence[Round]]) -> list[str]:
    """What limited each, and what went wrong."""
    return [
        note
        for name, seen in rounds.items()
        for note in (f"{scenario}, {name}: {_limit(seen)}.", *troubles(scenario, name, seen))
    ]


def under_load(loader: Loader, proxy: Proxy, target: Target, plan: Plan) -> Round:
    """One proxy under load, its CPU taken from the generator's first request to its last."""
    before: list[float] = []

    def began() -> None:
        before.extend(_clocks(proxy, plan.cores))

    done = load(loader, target, plan, plan.seconds, began)
    spent = (after - start for after, start in zip(_clocks(proxy, plan.cores), before, strict=True))
    cpu, own, proxy_core, rest_core, elapsed = spent
    ours = (own - cpu) / elapsed / max(1, len(plan.cores.rest))
    return Round(done, cpu, cpu / elapsed, proxy_core / elapsed, rest_core / elapsed, ours)


def load(loader: Loader, target: Target, plan: Plan, seconds: float, began: Callable[[], None] = lambda: None) -> Load:
    """Load that somebody answered. LoadError otherwise."""
    done = loader(target, plan, seconds, began)
    if not done.requests:
        raise LoadError(f"no request was answered by {target}: {done.why or f'{done.errors} errors'}")
    return done


def _clocks(proxy: Proxy, cores: Cores) -> tuple[float, float, float, float, float]:
    cpu, own = cpu_seconds(*proxy.pids), own_seconds()
    return cpu, own, busy_seconds(cores.proxy), busy_seconds(cores.rest), time.perf_counter()


def _limit(seen: Sequence[Round]) -> str:
    """What kept the rate from being higher, as far as the cores tell, and who else was there."""
    share = median([one.proxy_share for one in seen])
    core, rest = median([one.proxy_core for one in seen]), median([one.rest_core for one in seen])
    others = {"the proxy's core": core - share, "the other": rest - median([one.ours for one in seen])}
    if share >= FULL:
        text = f"limited by the proxy (it had {share:.0%} of its core)"
    elif max(others.values()) >= MOSTLY_STRANGE:
        text = f"limited by work that is not ours (the proxy had {share:.0%} of its core)"
    elif rest >= FULL:
        text = f"limited by the load generator's and backend's core ({rest:.0%} busy; the proxy had {share:.0%} of its own)"
    elif core >= FULL:
        text = f"limited by the proxy's core, which others shared (the proxy had {share:.0%} of it)"
    else:
        text = f"limited by neither core (proxy {share:.0%}, the other {rest:.0%} busy)"
    took = " and ".join(f"{part:.0%} of {where}" for where, part in others.items() if part > STRANGE)
    return f"{text}; work that is not ours took {took}" if took else text


def troubles(scenario: str, name: str, seen: Sequence[Round]) -> list[str]:
    """Requests that failed."""
    errors = sum(one.load.errors for one in seen)
    why = next((one.load.why for one in seen if one.load.why), "")
    return [f"{scenario}, {name}: {errors} ERRORS; the first: {why or 'see wrk'}."] if errors else []


def _spoken(scenario: str, plan: Plan, proxies: Sequence[Proxy], where: Callable[[Proxy], Target]) -> str:
    said = {proxy.name: spoken(where(proxy), plan.cores.rest) for proxy in proxies}
    if len(set(said.values())) == 1:
        return f"{scenario}: all speak {next(iter(said.values()))}."
    return f"{scenario}: NOT THE SAME TLS: {', '.join(f'{name} {what}' for name, what in said.items())}."
