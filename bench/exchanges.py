"""Requests through Vestibule and its peers in turn: plain, tls, mtls, http2, new-mtls, authorized-extra.

Promises: the proxies take turns (A B A B), so that a slow minute of the machine meets them all; a ratio is formed within a
round; CPU is that of the proxy's processes alone. A request that fails is told in the notes, and one that was not answered by
anybody ends the scenario.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.findings import Finding, Report, spread
from bench.h2load import by_streams
from bench.load import Load, LoadError, Target, by_client, by_wrk, wrk
from bench.machine import Cores, busy_seconds, cpu_seconds
from bench.proxies import Proxy, negotiated

CONNECTIONS, NEW_AT_ONCE = 64, 16
HTTP2_CONNECTIONS, HTTP2_STREAMS = 16, 16
GOROUTER_HTTP2 = 227 / 18
"""GoRouter's CPU a request in `http2`, in nginx's, as measured with both in the same minutes: GoRouter itself is not run here."""
WARM_SECONDS = 1.0
SLICES = 4
"""Into how many a round is cut where the difference of two figures is wanted: what disturbs one then meets both."""
FULL = 0.93
"""A core that is busy for this share of the time limits the run."""


class Round(NamedTuple):
    """One proxy under load once. `proxy_share` and the others: of one core's time."""

    cpu_us: float
    rate: float
    errors: int
    why: str
    proxy_share: float
    proxy_core: float
    rest_core: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    rounds: int
    seconds: float
    cores: Cores


def plain(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """HTTP/1.1 keep-alive without TLS."""
    return _compare("plain", plan, proxies, lambda proxy: proxy.plain, _keep, ratio=2.0)


def tls(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """HTTP/1.1 keep-alive over TLS, no client certificate."""
    return _compare("tls", plan, proxies, lambda proxy: proxy.tls, _keep)


def mtls(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """HTTP/1.1 keep-alive over mutual TLS; Vestibule decides on every request, nginx only verifies."""
    return _compare("mtls", plan, proxies, lambda proxy: proxy.mtls, _keep, ratio=2.0, cpu_us=60.0)


def http2(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """HTTP/2 over TLS, many streams a connection, to the same HTTP/1.1 backend; the aim is 0.6 of what GoRouter takes."""
    return _compare("http2", plan, proxies, lambda proxy: proxy.tls, _streams, ratio=0.6 * GOROUTER_HTTP2)


def new_mtls(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """A new mutual TLS connection for every request."""
    return _compare("new-mtls", plan, proxies, lambda proxy: proxy.mtls, _new, ratio=1.0)


def authorized_extra(plan: Plan, proxies: Sequence[Proxy]) -> Report:
    """What authorization adds: Vestibule's mTLS-authorized requests against its plain TLS ones, by the same generator."""
    vestibule = proxies[0]
    _load(_keep_ours, vestibule.mtls, plan, WARM_SECONDS)
    short = Plan(plan.rounds * SLICES, max(1.0, plan.seconds / SLICES), plan.cores)
    pairs = []
    for _ in range(short.rounds):
        open_ = _round(_keep_ours, vestibule, vestibule.tls, short)
        pairs.append((_round(_keep_ours, vestibule, vestibule.mtls, short), open_))
    extra = spread([authorized.cpu_us - open_.cpu_us for authorized, open_ in pairs])
    findings = (
        Finding("authorized-extra", "over plain TLS", spread([open_.cpu_us for _, open_ in pairs]), "µs"),
        Finding("authorized-extra", "mTLS and authorized", spread([authorized.cpu_us for authorized, _ in pairs]), "µs"),
        Finding("authorized-extra", "difference", extra, "µs", 5.0),
    )
    note = f"authorized-extra: the median of {len(pairs)} differences of large numbers; trust it as far as their spread allows."
    return Report(findings, (note, *_troubles("authorized-extra", vestibule.name, [one for pair in pairs for one in pair])))


Loader = Callable[[Target, Plan, float, Callable[[], None]], Load]


def _keep(target: Target, plan: Plan, seconds: float, began: Callable[[], None]) -> Load:
    """wrk where it can do it: it costs the machine least."""
    program = wrk() if target.certificate is None else None
    if program is None:
        return _keep_ours(target, plan, seconds, began)
    began()
    return by_wrk(program, target, CONNECTIONS, seconds, plan.cores.rest)


def _keep_ours(target: Target, plan: Plan, seconds: float, began: Callable[[], None]) -> Load:
    return by_client("keep", target, CONNECTIONS, seconds, plan.cores.rest, began)


def _new(target: Target, plan: Plan, seconds: float, began: Callable[[], None]) -> Load:
    return by_client("new", target, NEW_AT_ONCE, seconds, plan.cores.rest, began)


def _streams(target: Target, plan: Plan, seconds: float, began: Callable[[], None]) -> Load:
    began()
    return by_streams(target, HTTP2_CONNECTIONS, HTTP2_STREAMS, seconds, plan.cores.rest)


def _compare(
    scenario: str,
    plan: Plan,
    proxies: Sequence[Proxy],
    where: Callable[[Proxy], Target],
    loader: Loader,
    *,
    ratio: float | None = None,
    cpu_us: float | None = None,
) -> Report:
    """CPU a request of each, requests a second, and ratios; the first proxy is Vestibule."""
    rounds, ours = take_turns(plan, proxies, where, loader), proxies[0].name
    findings = []
    for name, seen in rounds.items():
        aim = cpu_us if name == ours else None
        findings.append(Finding(scenario, f"{name}: CPU a request", spread([one.cpu_us for one in seen]), "µs", aim))
        findings.append(Finding(scenario, f"{name}: requests a second", spread([one.rate for one in seen]), ""))
    for name in (proxy.name for proxy in proxies[1:]):
        ratios = [mine.cpu_us / theirs.cpu_us for mine, theirs in zip(rounds[ours], rounds[name], strict=True)]
        findings.append(Finding(scenario, f"CPU ratio to {name}", spread(ratios), "", ratio if name == "nginx" else None))
    notes = [_spoken(scenario, proxies, where)] if where(proxies[0]).tls else []
    return Report(tuple(findings), (*notes, *remarks(scenario, rounds)))


def take_turns(plan: Plan, proxies: Sequence[Proxy], where: Callable[[Proxy], Target], loader: Loader) -> dict[str, list[Round]]:
    """Every proxy in turn, as often as the plan says, by name."""
    for proxy in proxies:
        _load(loader, where(proxy), plan, WARM_SECONDS)
    rounds: dict[str, list[Round]] = {proxy.name: [] for proxy in proxies}
    for _ in range(plan.rounds):
        for proxy in proxies:
            rounds[proxy.name].append(_round(loader, proxy, where(proxy), plan))
    return rounds


def remarks(scenario: str, rounds: Mapping[str, Sequence[Round]]) -> list[str]:
    """What limited each, and what went wrong."""
    return [
        note
        for name, seen in rounds.items()
        for note in (f"{scenario}, {name}: {_limit(seen)}.", *_troubles(scenario, name, seen))
    ]


def _round(loader: Loader, proxy: Proxy, target: Target, plan: Plan) -> Round:
    """One proxy under load, its CPU taken from the generator's first request to its last."""
    before: list[float] = []

    def began() -> None:
        before.extend(_clocks(proxy.pid, plan.cores))

    load = _load(loader, target, plan, plan.seconds, began)
    cpu, proxy_core, rest_core, elapsed = (
        after - start for after, start in zip(_clocks(proxy.pid, plan.cores), before, strict=True)
    )
    return Round(
        cpu_us=cpu / load.requests * 1e6,
        rate=load.requests / load.seconds,
        errors=load.errors,
        why=load.why,
        proxy_share=cpu / elapsed,
        proxy_core=proxy_core / elapsed,
        rest_core=rest_core / elapsed,
    )


def _load(loader: Loader, target: Target, plan: Plan, seconds: float, began: Callable[[], None] = lambda: None) -> Load:
    load = loader(target, plan, seconds, began)
    if not load.requests:
        raise LoadError(f"no request was answered by {target}: {load.why or f'{load.errors} errors'}")
    return load


def _clocks(pid: int, cores: Cores) -> tuple[float, float, float, float]:
    return cpu_seconds(pid), busy_seconds(cores.proxy), busy_seconds(cores.rest), time.perf_counter()


def _limit(seen: Sequence[Round]) -> str:
    """What kept the rate from being higher, as far as the cores tell, and who else was there."""
    share = spread([one.proxy_share for one in seen]).median
    core, rest = spread([one.proxy_core for one in seen]).median, spread([one.rest_core for one in seen]).median
    if share >= FULL:
        text = f"limited by the proxy (it had {share:.0%} of its core)"
    elif rest >= FULL:
        text = f"limited by the load generator's and backend's core ({rest:.0%} busy; the proxy had {share:.0%} of its own)"
    elif core >= FULL:
        text = f"limited by the proxy's core, which others shared (the proxy had {share:.0%} of it)"
    else:
        text = f"limited by neither core (proxy {share:.0%}, the other {rest:.0%} busy)"
    others = core - share
    return f"{text}; other work took {others:.0%} of the proxy's core" if others > 0.05 else text


def _troubles(scenario: str, name: str, seen: Sequence[Round]) -> list[str]:
    errors = sum(one.errors for one in seen)
    why = next((one.why for one in seen if one.why), "")
    return [f"{scenario}, {name}: {errors} ERRORS; the first: {why or 'see wrk'}."] if errors else []


def _spoken(scenario: str, proxies: Sequence[Proxy], where: Callable[[Proxy], Target]) -> str:
    spoken = {proxy.name: negotiated(where(proxy)) for proxy in proxies}
    if len(set(spoken.values())) == 1:
        return f"{scenario}: all speak {next(iter(spoken.values()))}."
    return f"{scenario}: NOT THE SAME TLS: {', '.join(f'{name} {what}' for name, what in spoken.items())}."
