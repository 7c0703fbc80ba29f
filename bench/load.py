"""Load on one port for some seconds, by wrk where it is installed and serves, else by our own generator.

Promises: what is returned was counted by the generator itself; `began` is called after the connections of our own generator
stand and before its first request. Errors are never hidden: they are in the result. Refuses to know: CPU and proxies.
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from bench.client import Mode, Order
from bench.machine import pinned

ROOT = Path(__file__).parents[1]

_WRK_DONE = re.compile(r"([0-9]+) requests in ([0-9.]+)(ms|s|m),")
_WRK_BAD = re.compile(r"Non-2xx or 3xx responses: ([0-9]+)|Socket errors: connect ([0-9]+), read ([0-9]+), write ([0-9]+)")


class Target(NamedTuple):
    """Where requests go. `certificate`: PEM file of the client's certificate and key, None for none."""

    port: int
    host: str
    tls: bool = False
    certificate: Path | None = None
    path: str = "/"


class Load(NamedTuple):
    """What the generator counted."""

    requests: int
    seconds: float
    errors: int
    why: str = ""


class LoadError(Exception):
    """The generator could not do its work."""


def wrk() -> str | None:
    """The path of wrk, if it is installed."""
    return shutil.which("wrk")


def by_wrk(program: str, target: Target, connections: int, seconds: float, core: int | None) -> Load:
    """Keep-alive requests without a client certificate. wrk takes its SNI from the URL: it says `localhost`."""
    scheme = "https" if target.tls else "http"
    command = [program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-H", f"Host: {target.host}"]
    with pinned(core):
        ended = subprocess.run(
            [*command, f"{scheme}://localhost:{target.port}{target.path}"],
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=False,
        )
    found = _WRK_DONE.search(ended.stdout)
    if found is None:
        raise LoadError(f"wrk said {(ended.stdout + ended.stderr)[:300]!r}")
    unit = {"ms": 0.001, "s": 1.0, "m": 60.0}[found[3]]
    errors = sum(int(count) for bad in _WRK_BAD.finditer(ended.stdout) for count in bad.groups() if count)
    return Load(int(found[1]), float(found[2]) * unit, errors)


def by_client(mode: Mode, target: Target, connections: int, seconds: float, core: int | None, began: Callable[[], None]) -> Load:
    """Requests by our own generator."""
    with client(mode, target, connections, seconds, core) as process:
        began()
        answer = _say(process, "go")
    return Load(answer["requests"], answer["seconds"], answer["errors"], answer["why"])


@contextlib.contextmanager
def client(mode: Mode, target: Target, connections: int, seconds: float, core: int | None) -> Iterator["subprocess.Popen[str]"]:
    """Our own generator, its connections up; it is gone afterwards."""
    certificate = str(target.certificate or "")
    order = Order(mode, target.port, target.host, target.path, target.tls, certificate, connections, seconds)
    with pinned(core):
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.client", json.dumps(asdict(order))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise LoadError(f"the load generator could not connect to {target}")
        yield process
    finally:
        process.kill()
        process.communicate()


def _say(process: "subprocess.Popen[str]", word: str) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise LoadError("the load generator ended early")
    answer: dict[str, Any] = json.loads(line)
    return answer
