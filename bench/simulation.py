"""`python -m bench scale [--routes N] [--instances N] [--interval S] [--options BYTES] [--plot FILE] [--json]`: a large platform.

A real NATS server; in one process all that a router does with registrations, in another everything that a platform says. The
platform starts, rests, restarts instances by turns, loses NATS, and gets it back. Printed: what each of these costs the router.

Promises: a process of its own for the router, on a core of its own where there are two; one sample a second. Refuses to know
requests: none are sent.
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.machine import cores, facts, pinned
from bench.plot import Line, Panel, Phase, plot
from bench.simulation_apps import Apps, Platform, bandwidth
from bench.simulation_memory import Weights, weights
from router.demo.nats_server import NatsServer

ROOT = Path(__file__).parents[1]
AT_REST, ROLLING, OUTAGE, AFTER = 20.0, 30.0, 15.0, 30.0
RESTARTS = 1000
"""Of so many instances one is restarted each second."""
FILL_SECONDS = 900.0
SIZES = (0, 64, 512, 1024, 4096)
INTERVALS = (10.0, 20.0, 30.0, 40.0, 60.0)
HEAD = ("phase", "s", "router's CPU", "a message", "time to publish, ms", "longest turn, ms", "resident", "NATS in", "lost")


@dataclass(slots=True)
class Sample:
    """One second."""

    at: float
    phase: str
    cpu: float  # seconds a second
    heard: float  # messages a second that were dealt with
    sent: float  # bytes a second
    state: dict[str, Any]


@dataclass(slots=True)
class Run:
    """What was seen."""

    platform: Platform
    samples: list[Sample] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    filled: float = 0.0

    @property
    def lacking(self) -> int:
        """Routes that were not in the table at the end of its start, or are not now."""
        ends = [samples[-1] for samples in (self.of("start"), self.samples) if samples]
        return self.platform.full - min((end.state["routes"] for end in ends), default=0)

    def of(self, phase: str) -> list[Sample]:
        """The samples of a phase."""
        return [sample for sample in self.samples if sample.phase == phase]


def main(arguments: Sequence[str]) -> int:
    """Simulate, print, write the plot; 1 where routes were lacking."""
    options = _parse(arguments)
    platform = Platform(options.routes, options.instances, options.interval, options.options)
    placed = cores()
    with TemporaryDirectory(prefix="vestibule-scale-") as directory:
        server = NatsServer(Path(directory) / "nats")
        with pinned(placed.rest):
            server.start()
            try:
                run = asyncio.run(_simulate(platform, server, placed.proxy))
            finally:
                server.kill()
    grown = weights(platform.options)
    about = [f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, {_described(platform)}", *facts(placed)]
    print(_as_json(about, run, grown) if options.json else _as_text(about, run, grown))
    if options.plot:
        file = Path(options.plot)
        file.write_text(_plot(run))
        file.with_name(f"{file.stem}-nats{file.suffix}").write_text(_bandwidth_plot(platform))
    return 1 if run.lacking else 0


async def _simulate(platform: Platform, server: NatsServer, core: Collection[int]) -> Run:
    run = Run(platform)
    with pinned(core):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.simulation_supervisor", str(server.port),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
    watch = _Watch(run, child)
    await watch.ask()
    apps = Apps(platform, server.url)
    await apps.connect()
    async with _at_work(apps.run()):
        watch.began = time.monotonic()
        await watch.phase("start", apps, FILL_SECONDS, lambda state: state["routes"] == platform.full and not state["waiting"])
        run.filled = run.phases[-1].end
        await watch.phase("at rest", apps, AT_REST)
        apps.restarts_a_second = platform.instances / RESTARTS
        await watch.phase("rolling restart", apps, ROLLING)
        apps.restarts_a_second = 0.0
        server.kill()
        await apps.disconnect()
        await watch.phase("NATS away", apps, OUTAGE)
        server.start()
        await apps.connect()
        await watch.phase("NATS back", apps, AFTER)
    await apps.disconnect()
    assert child.stdin is not None
    child.stdin.close()
    await child.wait()
    return run


class _Watch:
    """Asks the router's process once a second."""

    def __init__(self, run: Run, child: asyncio.subprocess.Process) -> None:
        self._run = run
        self._child = child
        self.began = time.monotonic()

    async def ask(self) -> dict[str, Any]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(b"\n")
        return dict(json.loads(await self._child.stdout.readline()))

    async def phase(
        self, name: str, apps: Apps, seconds: float, until: Callable[[dict[str, Any]], bool] = lambda _: False
    ) -> None:
        """Sample for so long, or until it is so."""
        print(f"{name} ...", file=sys.stderr, flush=True)
        started = before = time.monotonic()
        last, sent = await self.ask(), apps.sent_bytes
        while before - started < seconds:
            await asyncio.sleep(1.0)
            state, now = await self.ask(), time.monotonic()
            took = now - before
            cpu, heard = state["cpu"] - last["cpu"], state["heard"] - last["heard"]
            sample = Sample(now - self.began, name, cpu / took, heard / took, (apps.sent_bytes - sent) / took, state)
            self._run.samples.append(sample)
            last, sent, before = state, apps.sent_bytes, now
            if until(state):
                break
        self._run.phases.append(Phase(name, started - self.began, before - self.began))


@contextlib.asynccontextmanager
async def _at_work(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


# ---- what is shown


def _as_text(about: Sequence[str], run: Run, grown: Weights) -> str:
    rows: list[tuple[str, ...]] = [HEAD]
    rows += [_row(run, phase) for phase in run.phases]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    whole = f"all {run.platform.full:,} routes in the table after {run.filled:.0f} s, and at the end"
    facts_ = [
        f"{run.lacking:,} of {run.platform.full:,} routes were LACKING after the start or at the end" if run.lacking else whole,
        f"memory: {grown.route:,.0f} bytes a route with one endpoint, {grown.endpoint:,.0f} each endpoint more",
        f"in a worker: {grown.in_worker:,.0f} bytes that route",
    ]
    return "\n".join([*about, "", *lines, "", *facts_, "", *_bandwidths(run.platform)])


def _row(run: Run, phase: Phase) -> tuple[str, ...]:
    samples = run.of(phase.name)
    latencies = sorted(each for sample in samples for each in sample.state["latencies"])
    cpu = [100 * sample.cpu for sample in samples]
    heard = sum(sample.heard for sample in samples)
    dropped = samples[-1].state["dropped"] - next((s.state["dropped"] for s in reversed(run.samples) if s.at <= phase.start), 0)
    return (
        phase.name,
        f"{phase.end - phase.start:.0f}",
        f"{statistics.median(cpu):.0f} % (most {max(cpu):.0f} %)",
        f"{1e6 * sum(s.cpu for s in samples) / heard:.0f} µs" if heard >= 1 else "",
        f"{_share(latencies, 0.5):.1f}, p99 {_share(latencies, 0.99):.0f}" if latencies else "",
        f"{max(sample.state['longest_turn_ms'] for sample in samples):.0f}",
        f"{samples[-1].state['rss_mib']:,.0f} MiB",
        f"{statistics.median(sample.sent for sample in samples) / 1e6:.1f} MB/s",
        f"{dropped:,}",
    )


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _bandwidths(platform: Platform) -> list[str]:
    """What NATS gives to each router, MB a second."""
    head = [f"{interval:g} s" for interval in INTERVALS]
    lines = [f"| options | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for size in SIZES:
        rates = [bandwidth(platform._replace(options=size, interval=interval)) / 1e6 for interval in INTERVALS]
        lines.append(f"| {size or 'none'} | {' | '.join(f'{rate:.1f}' for rate in rates)} |")
    return lines


def _as_json(about: Sequence[str], run: Run, grown: Weights) -> str:
    samples = [
        {
            "at": one.at,
            "phase": one.phase,
            "cpu_share": one.cpu,
            "messages_a_second": one.heard,
            "sent_bytes_a_second": one.sent,
            **one.state,
        }
        for one in run.samples
    ]
    return json.dumps({"machine": list(about), "memory": grown._asdict(), "samples": samples}, indent=2)


def _plot(run: Run) -> str:
    timed = [(sample, sorted(sample.state["latencies"])) for sample in run.samples if sample.state["latencies"]]
    panels = [
        Panel("routes in the table, thousands", [Line("routes", [(s.at, s.state["routes"] / 1000) for s in run.samples])]),
        Panel("CPU of the router's process, % of a core", [Line("CPU", [(s.at, 100 * s.cpu) for s in run.samples])]),
        Panel("registrations into NATS, MB a second", [Line("NATS", [(s.at, s.sent / 1e6) for s in run.samples])]),
        Panel("resident memory, MiB", [Line("resident", [(s.at, s.state["rss_mib"]) for s in run.samples])]),
    ]
    if timed:
        lines = [
            Line("median", [(sample.at, _share(seen, 0.5)) for sample, seen in timed]),
            Line("p99", [(sample.at, _share(seen, 0.99)) for sample, seen in timed]),
        ]
        panels.insert(2, Panel("from an instance's word to the published table, ms", lines, logarithmic=True))
    return plot(_described(run.platform), "seconds", panels, run.phases)


def _bandwidth_plot(platform: Platform) -> str:
    def line(size: int) -> Line:
        points = [(each, bandwidth(platform._replace(options=size, interval=each)) / 1e6) for each in INTERVALS]
        return Line(f"{size} bytes" if size else "no options", points)

    title = f"What NATS gives to each router: {platform.instances:,} instances, by the size of their options"
    return plot(
        title,
        "seconds between two words of an instance",
        [Panel("MB a second", [line(size) for size in SIZES], logarithmic=True)],
    )


def _described(platform: Platform) -> str:
    return (
        f"{platform.routes:,} routes, {platform.instances:,} instances, heard every {platform.interval:g} s "
        f"({platform.rate:,.0f} messages/s), {platform.options} bytes of options"
    )


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench scale", description="A large platform, and what it costs a router.")
    parser.add_argument("--routes", type=int, default=100_000, help="default: %(default)s; 1,000,000 take some 4 GiB")
    parser.add_argument("--instances", type=int, default=25_000, help="each with its share of the routes (default: %(default)s)")
    parser.add_argument("--interval", type=float, default=20.0, help="seconds between two words of one (default: %(default)s)")
    parser.add_argument("--options", type=int, default=64, help="bytes of options of each (default: %(default)s)")
    parser.add_argument("--plot", metavar="FILE.svg", help="write the run as a plot, and the bandwidths as FILE-nats.svg")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    if not 0 < options.instances <= min(options.routes, 1 << 24) or options.interval <= 0 or options.options < 0:
        parser.error("expected: 0 < --instances <= --routes, --interval above 0, --options not below 0")
    if options.routes // options.instances > 100:
        parser.error("a message names at most 100 routes: give more --instances")
    return options
