"""A large table: what 100,000 or 1,000,000 routes take of a real router, and what 12,500 heartbeats a second do to it.

Promises: every registration comes over a real NATS and is one that Diego's route-emitter would send; that all were applied is
checked. Refuses to know: how the table is built.
"""

import contextlib
import itertools
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from bench.aims import LOOKUP_US, PUBLISH_MS, REGISTRATION_US, ROUTER_MIB, STORM_P99_RATIO, STORM_SHARE, WORKER_MIB
from bench.core import a_lookup, publications
from bench.exchanges import Plan, Round, load, under_load
from bench.findings import Finding, Report, Spread, spread
from bench.latency import RATE, paced
from bench.load import LoadError
from bench.machine import cpu_seconds, family, pinned, resident_of
from bench.proxies import StartError
from bench.registrar import instances
from bench.site import ROOT, Site
from bench.vestibule import Vestibule

ROUTES, MILLION = 100_000, 1_000_000
INSTANCES, INTERVAL_SECONDS = 250_000, 20
STORM_RATE = INSTANCES // INTERVAL_SECONDS
BATCH = 100_000
"""Registered at once, then waited for: NATS lets nobody wait for what a listener cannot take."""
FILL_SECONDS = 600.0
SETTLE_SECONDS = 2.0
CAUGHT_UP_SECONDS = 10.0


class _Filled(NamedTuple):
    """A router that holds all routes: its first process, the largest of the others (0: there is none), CPU and seconds."""

    first_mib: float
    worker_mib: float
    cpu_us: float
    seconds: float


def routes(site: Site, plan: Plan, peers: Sequence[str]) -> Report:
    """100,000 routes: memory of a router that heard them over NATS; lookup and publication in this process."""
    filled = _measure_fill(site, ROUTES)
    findings = [
        Finding("routes", f"resident with {ROUTES:,}", spread([filled.first_mib]), "MiB", ROUTER_MIB),
        Finding("routes", "a registration", spread([filled.cpu_us]), "µs", REGISTRATION_US),
        *_with_workers(site),
    ]
    lookup, published = a_lookup(site, ROUTES), publications(site, ROUTES)
    findings += [
        Finding("routes", "a lookup", lookup, "µs", LOOKUP_US),
        Finding("routes", "a change published in", published, "ms", PUBLISH_MS),
    ]
    notes = (
        f"routes: the real router heard them over NATS and had all in its table after {filled.seconds:.1f} s.",
        "routes: the time of a change includes that for which the subscriber gathers more.",
    )
    return Report(tuple(findings), notes)


def routes_million(site: Site, plan: Plan, peers: Sequence[str]) -> Report:
    """1,000,000 routes: memory and CPU."""
    filled = _measure_fill(site, MILLION)
    return Report(
        (
            Finding("routes-million", f"resident with {MILLION:,}", spread([filled.first_mib]), "MiB"),
            Finding("routes-million", "a registration", spread([filled.cpu_us]), "µs"),
        ),
        (f"routes-million: all were in the table after {filled.seconds:.1f} s.",),
    )


def storm(site: Site, plan: Plan, peers: Sequence[str]) -> Report:
    """250,000 instances that repeat themselves every 20 s, with and without, in turn; requests at a fixed rate meanwhile."""
    router = Vestibule(site, logging={"level": "warn"})
    pairs, sent, before = [], 0, 0.0
    try:
        router.start()
        fill(site, router, instances(ROUTES, INSTANCES), INSTANCES)
        with _beats(site) as beats:
            load(paced, router.tls, plan, plan.warm)
            before = _heard(router)
            for _ in range(plan.rounds):
                calm = under_load(paced, router, router.tls, plan)
                beats.begin()
                pairs.append((calm, under_load(paced, router, router.tls, plan)))
                sent += beats.end()
        lost = _lost(router, before, sent)
    finally:
        router.stop()
    return _storm_report(pairs, sent, lost)


def _storm_report(pairs: Sequence[tuple[Round, Round]], sent: int, lost: int) -> Report:
    share = _percent([storm.proxy_share - calm.proxy_share for calm, storm in pairs])
    ratio = spread([storm.load.p99 / calm.load.p99 for calm, storm in pairs])
    findings = (
        Finding("storm", f"CPU of {STORM_RATE:,} a second", share, "%", STORM_SHARE * 100),
        Finding("storm", "CPU share without", _percent([calm.proxy_share for calm, _ in pairs]), "%"),
        Finding("storm", "CPU share with", _percent([storm.proxy_share for _, storm in pairs]), "%"),
        Finding("storm", f"p99 at {RATE:.0f}/s without", spread([calm.load.p99 * 1000 for calm, _ in pairs]), "ms"),
        Finding("storm", f"p99 at {RATE:.0f}/s with", spread([storm.load.p99 * 1000 for _, storm in pairs]), "ms"),
        Finding("storm", "p99 with to without", ratio, "", STORM_P99_RATIO),
    )
    applied = f"{lost:,} of them NOT APPLIED" if lost else "all applied"
    note = f"storm: {INSTANCES:,} instances of {ROUTES:,} routes; {sent:,} heartbeats sent, {applied}."
    errors = sum(one.load.errors for pair in pairs for one in pair)
    return Report(findings, (note, *([f"storm: {errors} ERRORS."] if errors else [])))


def fill(site: Site, router: Vestibule, messages: Iterable[bytes], count: int) -> None:
    """Register so many instances, and wait for the last. StartError where that takes too long."""
    wanted, end = router.metric("routes_registered"), time.monotonic() + FILL_SECONDS
    iterator = iter(messages)
    while batch := list(itertools.islice(iterator, BATCH)):
        wanted += len(batch)
        with pinned(site.cores.rest):
            site.register(batch)
        while (there := router.metric("routes_registered")) < wanted:
            if time.monotonic() > end:
                raise StartError(f"the router has {there:,.0f} endpoints, expected {wanted:,.0f} (of {count:,})")
            time.sleep(0.3)


def _measure_fill(site: Site, count: int, config: Mapping[str, Any] = MappingProxyType({})) -> _Filled:
    router = Vestibule(site, logging={"level": "warn"}, **config)
    try:
        router.start()
        started, cpu = time.monotonic(), cpu_seconds(*router.pids)
        fill(site, router, instances(count, count), count)
        seconds, cpu_us = time.monotonic() - started, (cpu_seconds(*router.pids) - cpu) / count * 1e6
        time.sleep(SETTLE_SECONDS)
        first, *others = family(router.pids[0])
        return _Filled(resident_of(first) / 1024, max(map(resident_of, others), default=0) / 1024, cpu_us, seconds)
    finally:
        router.stop()


def _with_workers(site: Site) -> Iterator[Finding]:
    """The same with two workers: what the supervisor holds, and the larger worker."""
    filled = _measure_fill(site, ROUTES, {"workers": 2})
    yield Finding("routes", f"a supervisor with {ROUTES:,}", spread([filled.first_mib]), "MiB", ROUTER_MIB)
    yield Finding("routes", f"a worker with {ROUTES:,}", spread([filled.worker_mib]), "MiB", WORKER_MIB)


class _Beating(NamedTuple):
    """The process of bench.registrar."""

    process: "subprocess.Popen[str]"

    def begin(self) -> None:
        self._say("go")

    def end(self) -> int:
        """How many messages it sent."""
        self._say("stop")
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise LoadError("the source of heartbeats ended early")
        return int(line)

    def _say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def _beats(site: Site) -> Iterator[_Beating]:
    command = [sys.executable, "-m", "bench.registrar", *map(str, (site.nats.port, ROUTES, INSTANCES, STORM_RATE))]
    with pinned(site.cores.rest):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise StartError("the source of heartbeats did not start")
        yield _Beating(process)
    finally:
        process.kill()
        process.communicate()


def _heard(router: Vestibule) -> float:
    return router.metric("registry_message")


def _lost(router: Vestibule, before: float, sent: int) -> int:
    """Heartbeats that the router had not applied some time after the last."""
    end = time.monotonic() + CAUGHT_UP_SECONDS
    while _heard(router) - before < sent and time.monotonic() < end:
        time.sleep(0.1)
    return max(0, sent - round(_heard(router) - before))


def _percent(shares: Sequence[float]) -> Spread:
    return spread([share * 100 for share in shares])
