"""A process of its own that counts in shared memory: `python -m tests.router.workers.hammer DESCRIPTOR ROW WHAT LIMIT TIMES`.

It says `ready`, waits for a line, does WHAT so many times and prints the result as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import IO, Any, cast

from router.net.budget import Budget, BudgetLimits, Total
from router.workers.memory import Memory
from router.workers.shared import Shared

TOGETHER = 3
"""So many hammer at the same time."""
ADDRESS = "192.0.2.7"


class Hammer:
    """Such a process, as the test sees it."""

    def __init__(self, descriptor: int, row: int, what: str, limit: int, times: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.router.workers.hammer", *map(str, (descriptor, row)), what, *map(str, (limit, times))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[descriptor], text=True,
        )  # fmt: skip
        self.said("ready")

    def said(self, what: str) -> None:
        assert what == cast("IO[str]", self.process.stdout).readline().strip()

    def go(self) -> None:
        stdin = cast("IO[str]", self.process.stdin)
        stdin.write("go\n")
        stdin.flush()

    def result(self) -> Any:
        stdout, _ = self.process.communicate()
        assert self.process.returncode == 0
        return json.loads(stdout)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Hammer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()


def _listener(shared: Shared, limit: int, times: int) -> list[tuple[int, int]]:
    """From when to when each admitted connection was open."""
    budget = Budget(BudgetLimits(max_connections=limit), None, shared, "listener:tls")
    return _held(lambda: budget.admit(ADDRESS, 0.0) is None, lambda: budget.leave(ADDRESS), times)


def _total(shared: Shared, limit: int, times: int) -> list[tuple[int, int]]:
    budget = Budget(BudgetLimits(), Total(limit, shared), shared, f"listener:{os.getpid()}")
    return _held(lambda: budget.admit(ADDRESS, 0.0) is None, lambda: budget.leave(ADDRESS), times)


def _address(shared: Shared, limit: int, times: int) -> list[tuple[int, int]]:
    budget = Budget(BudgetLimits(per_address=limit), None, shared, "listener:tls")
    return _held(lambda: budget.admit(ADDRESS, 0.0) is None, lambda: budget.leave(ADDRESS), times)


def _pulse(shared: Shared, limit: int, times: int) -> list[tuple[int, int]]:
    pulse = shared.pulse(1)
    return _held(lambda: pulse.enter(limit), pulse.leave, times)


def _held(enter: Callable[[], bool], leave: Callable[[], None], times: int) -> list[tuple[int, int]]:
    found = []
    for turn in range(times):
        if enter():
            began = ended = time.monotonic_ns()
            for _ in range(turn % 16):  # not always as long, so that the others come at every moment
                ended = time.monotonic_ns()
            found.append((began, ended))
            leave()
    return found


def _rate(shared: Shared, limit: int, times: int) -> int:
    """How many were admitted in one second."""
    budget = Budget(BudgetLimits(rate=limit), None, shared, "listener:tls")
    return sum(budget.admit(f"198.51.100.{turn % 250}", 1000.5) is None for turn in range(times))


def _bucket(shared: Shared, limit: int, times: int) -> int:
    bucket = shared.bucket(1)
    return sum(bucket.take(float(limit), 1000.0) == 0.0 for _ in range(times))


def _hold(shared: Shared, limit: int, times: int) -> None:
    """Until it is killed."""
    budget = Budget(BudgetLimits(per_address=limit), Total(0, shared), shared, "listener:tls")
    pulse = shared.pulse(1)
    for _ in range(times):
        assert pulse.enter(limit)
        assert budget.admit(ADDRESS, 0.0) is None
    print("held", flush=True)
    sys.stdin.read()


def _lock(shared: Shared, limit: int, times: int) -> None:
    """Until it is killed. `limit`: the number of the bucket."""
    memory: Memory = shared._memory
    assert memory.lock(limit)
    print("held", flush=True)
    sys.stdin.read()


WHAT: dict[str, Callable[[Shared, int, int], Any]] = {
    "listener": _listener, "total": _total, "address": _address, "pulse": _pulse, "rate": _rate, "bucket": _bucket,
    "hold": _hold, "lock": _lock,
}  # fmt: skip


def together(shared: Shared) -> None:
    """All begin in the same microsecond, so that they are in each other's way."""
    start = shared.gauge("start")
    start.enter(0)
    while start.open < TOGETHER:
        pass


if __name__ == "__main__":
    descriptor, row, what, limit, times = sys.argv[1:]
    shared = Shared.attach([int(descriptor)], int(row))
    print("ready", flush=True)
    sys.stdin.readline()
    if what not in ("hold", "lock"):
        together(shared)
    print(json.dumps(WHAT[what](shared, int(limit), int(times))))
