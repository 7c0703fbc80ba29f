"""What routes and endpoints take: resident memory of processes that hold nothing else.

Usage: `python -m bench.simulation_memory ROUTES ENDPOINTS OPTIONS` prints the bytes by which two processes grew, one that has
ledger and table, and one that was told the table as a worker is. Promises: messages come and go as in the router. Refuses to know
the rest of a router.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import IO, NamedTuple

from bench.simulation_apps import Platform, said
from bench.simulation_supervisor import PAGE_KIB
from registry.ledger import Ledger, LedgerSettings
from registry.message import RegistryMessage, parse_message
from registry.table import RouteTable
from router.process import tune_collector
from router.workers.packed_route import Makers
from router.workers.routes import RouteFeed, RouteReplica

ROUTES = 20_000
MORE = 9
"""Endpoints of a route beside the first, to tell what one takes."""


class Weights(NamedTuple):
    """Bytes of a route with its first endpoint, and of each endpoint more; `in_worker`: of that route in a worker."""

    route: float
    endpoint: float
    in_worker: float


def weights(options: int) -> Weights:
    """Measured in processes of their own."""
    first, told = _grown(ROUTES, 1, options)
    few = ROUTES // 10
    endpoint = (_grown(few, 1 + MORE, options)[0] - _grown(few, 1, options)[0]) / few / MORE
    return Weights(first / ROUTES, endpoint, told / ROUTES)


def _grown(routes: int, endpoints: int, options: int) -> tuple[int, int]:
    """Bytes: where the table was made, and where it was told."""
    command = [sys.executable, "-m", "bench.simulation_memory", str(routes), str(endpoints), str(options)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout
    made, told = map(int, shown.split())
    return made, told


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB * 1024


def _filled(routes: int, endpoints: int, options: int) -> RouteTable:
    platform, ledger = Platform(routes, routes, 20.0, options), Ledger(LedgerSettings())
    for life in range(endpoints):
        for number in range(routes):
            data = said(platform, number, life)
            message = parse_message(data)
            assert isinstance(message, RegistryMessage)
            ledger.register(message, data, 0.0)
            if number % 1000 == 0:
                ledger.publish()
    return ledger.publish()


def _listen(pieces: IO[bytes]) -> None:
    """Be a worker that is told its routes, each piece after its length; print what they took."""
    replica = RouteReplica(Makers(), time.monotonic)
    tune_collector()
    before = _resident()
    while length := pieces.read(4):
        replica.apply(pieces.read(int.from_bytes(length, "big")))
    print(len(replica.table), _resident() - before)


def _told(table: RouteTable) -> int:
    """By how many bytes a process grows that is told this table."""
    command = [sys.executable, "-m", "bench.simulation_memory"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        for piece in RouteFeed().whole(table):
            worker.stdin.write(len(piece).to_bytes(4, "big") + piece)
        worker.stdin.close()
        routes, grown = map(int, worker.stdout.read().split())
    assert routes == len(table)
    return grown


def main() -> None:
    """Fill a table and tell it; print what it took. Without arguments: be told."""
    if len(sys.argv) == 1:
        _listen(sys.stdin.buffer)
        return
    routes, endpoints, options = map(int, sys.argv[1:])
    tune_collector()
    before = _resident()
    table = _filled(routes, endpoints, options)
    made = _resident() - before
    assert len(table) == routes
    print(made, _told(table))


if __name__ == "__main__":
    main()
