"""`python -m bench [SCENARIO...] [--peers NAMES] [--seconds N] [--rounds N] [--json | --markdown]`.

Exit status: 0 when everything was measured, whatever the verdicts; 1 when something could not be; 2 for wrong usage.
"""

import argparse
import datetime as dt
import subprocess
import sys
from collections.abc import Callable, Sequence

from bench import core, exchanges, scale, simulation
from bench.bulk import bulk
from bench.exchanges import Plan
from bench.findings import Report, as_json, table
from bench.h2load import h2load
from bench.idle import idle, websockets
from bench.l4 import l4
from bench.latency import latency
from bench.load import LoadError, wrk
from bench.machine import cores, facts, raise_descriptor_limit
from bench.markdown import markdown
from bench.peers import KINDS, described, installed, peer
from bench.policy import policy
from bench.proxies import Proxy, StartError
from bench.site import Site, site
from bench.vestibule import Vestibule
from bench.workers import workers

WITH_PROXIES: dict[str, Callable[[Plan, Sequence[Proxy]], Report]] = {
    "plain": exchanges.plain,
    "tls": exchanges.tls,
    "mtls": exchanges.mtls,
    "http2": exchanges.http2,
    "new-tls": exchanges.new_tls,
    "new-mtls": exchanges.new_mtls,
    "authorized-extra": exchanges.authorized_extra,
    "latency": latency,
    "bulk": bulk,
    "idle": lambda plan, proxies: idle(plan.cores, proxies),
    "websockets": lambda plan, proxies: websockets(plan.cores, proxies),
}
"""Vestibule, first, and all peers run meanwhile."""

ALONE: dict[str, Callable[[Site, Plan, Sequence[str]], Report]] = {
    "l4": l4,
    "policy": policy,
    "decide": core.decisions,
    "heartbeat": core.heartbeats,
    "routes": scale.routes,
    "routes-million": scale.routes_million,
    "storm": scale.storm,
    "workers": workers,
}
"""They start what they need; the strings are the peers' names."""

SCENARIOS = (*WITH_PROXIES, *ALONE)
BY_NAME_ONLY = ("routes-million",)
"""Not measured unless asked for."""


class Fleet:
    """Vestibule and its peers, up only while a scenario wants them: what registers a million routes is heard by all."""

    def __init__(self, around: Site, peers: Sequence[str]) -> None:
        self._around = around
        self._peers = peers
        self._proxies: list[Proxy] = []

    def up(self) -> Sequence[Proxy]:
        """Start them if need be. Raises StartError."""
        if not self._proxies:
            self._proxies = [Vestibule(self._around), *(peer(name, self._around) for name in self._peers)]
            for proxy in self._proxies:
                proxy.start()
        return self._proxies

    def down(self) -> None:
        """Stop them; their ports are given up, somebody may take them meanwhile."""
        for proxy in self._proxies:
            proxy.stop()
        self._proxies = []


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    if arguments and arguments[0] == "scale":  # no peers, no rounds, and options of its own
        return simulation.main(arguments[1:])
    options = _parse(arguments)
    if not sys.platform.startswith("linux"):
        print("bench: needs Linux: CPU time is read from /proc", file=sys.stderr)
        return 1
    raise_descriptor_limit()
    wanted: list[str] = options.scenarios or [name for name in SCENARIOS if name not in BY_NAME_ONLY]
    peers = [name for name in options.peers.split(",") if name]
    try:
        with site(cores()) as around:
            about = _about(around, peers, options)
            reports = _measure(around, wanted, [name for name in peers if installed(name)], options)
    except (FileNotFoundError, StartError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    show = as_json if options.json else markdown if options.markdown else table
    print(show(about, reports))
    return 0 if all(report.findings for report in reports) else 1


def _measure(around: Site, wanted: Sequence[str], peers: Sequence[str], options: argparse.Namespace) -> list[Report]:
    plan = Plan(options.rounds, options.seconds, around.cores)
    fleet = Fleet(around, peers)
    reports = []
    try:
        for name in wanted:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            try:
                if name in WITH_PROXIES:
                    reports.append(WITH_PROXIES[name](plan, fleet.up()))
                else:
                    fleet.down()
                    reports.append(ALONE[name](around, plan, peers))
            except (LoadError, StartError, OSError, subprocess.SubprocessError) as error:  # the other scenarios are measured
                reports.append(Report((), (f"{name}: NOT MEASURED: {error}",)))
            except KeyboardInterrupt:
                reports.append(Report((), (f"{name}: NOT MEASURED, nor what comes after it: interrupted",)))
                break
    finally:
        fleet.down()
    return reports


def _about(around: Site, peers: Sequence[str], options: argparse.Namespace) -> list[str]:
    there = ", ".join(map(described, peers)) or "none"
    generators = (
        "wrk (plain, tls)" if wrk() else "wrk is not installed",
        "h2load (http2, bulk)" if h2load() else "h2load is not installed",
        "our own for the rest",
    )
    return [
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, {options.rounds} rounds of {options.seconds:g} s, median of the rounds",
        *facts(around.cores),
        f"peers: {there}",
        f"backend: {around.backend}, 1 KiB; load: {', '.join(generators)}",
    ]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What Vestibule costs, beside others in the same run.")
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar="SCENARIO",
        help=f"of {', '.join(SCENARIOS)} (default: all but {', '.join(BY_NAME_ONLY)})",
    )
    parser.add_argument(
        "--peers", default=",".join(KINDS), help="comma-separated; those not installed are left out (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of load a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds a scenario (default: %(default)s)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--markdown", action="store_true", help="for docs/performance.md: a column a proxy")
    options = parser.parse_args(arguments)
    for name in options.scenarios:
        if name not in SCENARIOS:
            parser.error(f"scenario {name!r}: expected one of {', '.join(SCENARIOS)}")
    for name in filter(None, options.peers.split(",")):
        if name not in KINDS:
            parser.error(f"--peers {name!r}: expected {', '.join(KINDS)}")
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds must be at least 1, --seconds more than 0")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
