"""`python -m bench [SCENARIO...] [--peers NAMES] [--seconds N] [--rounds N] [--json]`.

Exit status: 0 when everything was measured, whatever the verdicts; 1 when something could not be; 2 for wrong usage.
"""

import argparse
import contextlib
import datetime as dt
import sys
from collections.abc import Callable, Sequence

from bench import core, exchanges
from bench.bulk import bulk
from bench.exchanges import Plan
from bench.findings import Report, as_json, table
from bench.idle import idle, websockets
from bench.l4 import l4
from bench.load import LoadError, wrk
from bench.machine import facts, raise_descriptor_limit
from bench.proxies import PEERS, Proxy, StartError, Vestibule, installed, versions
from bench.site import Site, site

WITH_PROXIES: dict[str, Callable[[Plan, Sequence[Proxy]], Report]] = {
    "plain": exchanges.plain,
    "tls": exchanges.tls,
    "mtls": exchanges.mtls,
    "http2": exchanges.http2,
    "new-mtls": exchanges.new_mtls,
    "authorized-extra": exchanges.authorized_extra,
    "idle": lambda plan, proxies: idle(plan.cores, proxies),
    "websockets": lambda plan, proxies: websockets(plan.cores, proxies),
    "bulk": bulk,
}
ALONE: dict[str, Callable[[Site], Report]] = {
    "decide": core.decisions,
    "heartbeat": core.heartbeats,
    "routes": core.routes,
    "l4": l4,
}
SCENARIOS = (*WITH_PROXIES, *ALONE)


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    options = _parse(arguments)
    if not sys.platform.startswith("linux"):
        print("bench: needs Linux: CPU time is read from /proc", file=sys.stderr)
        return 1
    raise_descriptor_limit()
    wanted: list[str] = options.scenarios or list(SCENARIOS)
    peers: list[str] = [name for name in options.peers.split(",") if name]
    try:
        with site() as around:
            about = _about(around, peers, options)
            reports = _measure(around, wanted, [name for name in peers if installed(name)], options)
    except (FileNotFoundError, StartError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print((as_json if options.json else table)(about, reports))
    return 0 if all(report.findings for report in reports) else 1


def _measure(around: Site, wanted: Sequence[str], peers: Sequence[str], options: argparse.Namespace) -> list[Report]:
    plan = Plan(options.rounds, options.seconds, around.cores)
    reports = []
    with contextlib.ExitStack() as stack:
        proxies: list[Proxy] = []
        if not WITH_PROXIES.keys().isdisjoint(wanted):
            proxies = [Vestibule(around), *(PEERS[name](around) for name in peers)]
            for proxy in proxies:
                stack.callback(proxy.stop)
                proxy.start()
        for name in wanted:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            try:
                reports.append(WITH_PROXIES[name](plan, proxies) if name in WITH_PROXIES else ALONE[name](around))
            except (LoadError, StartError) as error:
                reports.append(Report((), (f"{name}: NOT MEASURED: {error}",)))
    return reports


def _about(around: Site, peers: Sequence[str], options: argparse.Namespace) -> list[str]:
    there = ", ".join(name if installed(name) else f"{name} (not installed, left out)" for name in peers) or "none"
    generator = (
        "wrk (plain, tls), h2load (http2, bulk) and our own" if wrk() else "our own (wrk is not installed), h2load (http2, bulk)"
    )
    return [
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, {options.rounds} rounds of {options.seconds:g} s, median of the rounds",
        *facts(around.cores),
        f"peers: {there}; {versions()}; backend: {around.backend}, 1 KiB; load: {generator}",
    ]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What Vestibule costs, beside others in the same run.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)} (default: all)")
    parser.add_argument(
        "--peers", default=",".join(PEERS), help="comma-separated; those not installed are left out (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of load a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds a scenario (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    for name in options.scenarios:
        if name not in SCENARIOS:
            parser.error(f"scenario {name!r}: expected one of {', '.join(SCENARIOS)}")
    for name in filter(None, options.peers.split(",")):
        if name not in PEERS:
            parser.error(f"--peers {name!r}: expected {', '.join(PEERS)}")
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
