"""What routes and endpoints take: resident memory of a process that holds nothing else.

Usage: `python -m bench.simulation_memory ROUTES ENDPOINTS OPTIONS` prints the bytes by which it grew. Promises: the growth is of
ledger and table, messages come and go as in the router. Refuses to know the rest of a router.
"""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from bench.simulation_apps import Platform, said
from bench.simulation_supervisor import PAGE_KIB
from registry.ledger import Ledger, LedgerSettings
from registry.message import RegistryMessage, parse_message
from router.process import tune_collector

ROUTES = 20_000
MORE = 9
"""Endpoints of a route beside the first, to tell what one takes."""


class Weights(NamedTuple):
    """Bytes of a route with its first endpoint, and of each endpoint more."""

    route: float
    endpoint: float


def weights(options: int) -> Weights:
    """Measured in processes of their own."""
    first = _grown(ROUTES, 1, options) / ROUTES
    few = ROUTES // 10
    return Weights(first, (_grown(few, 1 + MORE, options) - _grown(few, 1, options)) / few / MORE)


def _grown(routes: int, endpoints: int, options: int) -> int:
    command = [sys.executable, "-m", "bench.simulation_memory", str(routes), str(endpoints), str(options)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB * 1024


def main() -> None:
    """Fill a ledger; print what it took."""
    routes, endpoints, options = map(int, sys.argv[1:])
    platform = Platform(routes, routes, 20.0, options)
    ledger = Ledger(LedgerSettings())
    tune_collector()
    before = _resident()
    for life in range(endpoints):
        for number in range(routes):
            data = said(platform, number, life)
            message = parse_message(data)
            assert isinstance(message, RegistryMessage)
            ledger.register(message, data, 0.0)
            if number % 1000 == 0:
                ledger.publish()
    assert len(ledger.publish()) == routes
    print(_resident() - before)


if __name__ == "__main__":
    main()
