"""Load on one port for some seconds, by wrk where it is installed and serves, else by our own generator.

Promises: what is returned was counted by the generator itself; `began` is called after the connections of our own generator
stand and before its first request; every generator is given one TLS 1.3 cipher, since proxies differ in what they would choose.
Errors are never hidden: they are in the result. Refuses to know: CPU and proxies.
"""

import contextlib
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

from bench.machine import pinned, program
from bench.order import Done, Mode, Order, read_done
from bench.waits import Waits, quantile

ROOT = Path(__file__).parents[1]
CIPHER = "TLS_AES_256_GCM_SHA384"
_CIPHER_CONFIG = f"""openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = cipher
[cipher]
Ciphersuites = {CIPHER}
"""
MOST_PROCESSES = 4
"""Of our own generator; there is one less than cores beside the proxy's, and at least one."""

_WRK_DONE = re.compile(r"([0-9]+) requests in ([0-9.]+)(ms|s|m),")
_WRK_BAD = re.compile(r"Non-2xx or 3xx responses: ([0-9]+)|Socket errors: connect ([0-9]+), read ([0-9]+), write ([0-9]+)")
_WRK_WAIT = re.compile(r"\n +(50|99)% +([0-9.]+)(us|ms|s|m)\n")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class Target(NamedTuple):
    """Where requests go. `certificate`: PEM file of the client's certificate and key, None for none."""

    port: int
    host: str
    tls: bool = False
    certificate: Path | None = None
    path: str = "/"


class Load(NamedTuple):
    """What the generator counted. `p50` and `p99` are seconds, NaN where it does not say; `received`: bytes of answers, 0
    likewise; `late`: as in Done.
    """

    requests: int
    seconds: float
    errors: int
    why: str = ""
    p50: float = math.nan
    p99: float = math.nan
    received: int = 0
    late: float = 0.0


class LoadError(Exception):
    """The generator could not do its work."""


class Client(NamedTuple):
    """Our own generator, its connections up."""

    processes: "Sequence[subprocess.Popen[str]]"

    def go(self) -> list[Done]:
        """Let it begin, and wait for the end. LoadError where that does not come."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [read_done(_line(process)) for process in self.processes]


def wrk() -> str | None:
    """The path of wrk, if it is installed."""
    return program("wrk")


def by_wrk(path: str, target: Target, connections: int, seconds: float, cores: Collection[int]) -> Load:
    """Keep-alive requests without a client certificate. wrk takes its SNI from the URL: it says `localhost`."""
    scheme = "https" if target.tls else "http"
    command = [path, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-H", f"Host: {target.host}"]
    with pinned(cores), one_cipher() as environment:
        ended = subprocess.run(
            [*command, f"{scheme}://localhost:{target.port}{target.path}"],
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=False,
            env=environment,
        )
    found = _WRK_DONE.search(ended.stdout)
    if found is None:
        raise LoadError(f"wrk said {(ended.stdout + ended.stderr)[:300]!r}")
    errors = sum(int(count) for bad in _WRK_BAD.finditer(ended.stdout) for count in bad.groups() if count)
    waits = {wait[1]: float(wait[2]) * _UNITS[wait[3]] for wait in _WRK_WAIT.finditer(ended.stdout)}
    return Load(
        int(found[1]),
        float(found[2]) * _UNITS[found[3]],
        errors,
        p50=waits.get("50", math.nan),
        p99=waits.get("99", math.nan),
    )


def by_client(order: Order, cores: Collection[int], began: Callable[[], None] = lambda: None) -> Load:
    """Requests by our own generator."""
    with client(order, cores) as running:
        began()
        done = running.go()
    waits = sum((each.waits for each in done), Waits())
    return Load(
        sum(each.requests for each in done),
        max(each.seconds for each in done),
        sum(each.errors for each in done),
        next((each.why for each in done if each.why), ""),
        quantile(waits, 0.50),
        quantile(waits, 0.99),
        sum(each.received for each in done),
        max(each.late for each in done),
    )


def ordered(mode: Mode, target: Target, connections: int, seconds: float, *, rate: float = 0.0, streams: int = 1) -> Order:
    """What our own generator is to do."""
    certificate = str(target.certificate or "")
    return Order(mode, target.port, target.host, target.path, target.tls, certificate, connections, seconds, rate, streams)


def spoken(target: Target, cores: Collection[int]) -> str:
    """TLS version and cipher that the load generator gets."""
    with client(ordered("idle", target, 1, 0.0), cores) as running:
        return running.go()[0].spoken


@contextlib.contextmanager
def client(order: Order, cores: Collection[int]) -> Iterator[Client]:
    """Our own generator, its connections shared by several processes where there are cores for them; gone afterwards."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(pinned(cores))
        environment = stack.enter_context(one_cipher())
        processes = [stack.enter_context(_process(part, environment)) for part in shared(order, len(cores))]
        for process in processes:
            if _line(process) != "ready":
                raise LoadError(f"the load generator could not connect to {order.host} at port {order.port}")
        yield Client(processes)


def shared(order: Order, cores: int) -> list[Order]:
    """The order's parts, one a process. What holds connections or a pace is not parted."""
    parts = min(MOST_PROCESSES, max(1, cores - 1), order.connections)
    if order.mode not in ("keep", "new", "http2"):
        parts = 1
    counts = [order.connections // parts + (number < order.connections % parts) for number in range(parts)]
    return [replace(order, connections=count) for count in counts]


@contextlib.contextmanager
def one_cipher() -> Iterator[dict[str, str]]:
    """An environment in which OpenSSL offers one cipher of TLS 1.3 only: Python cannot say so itself before 3.15."""
    with NamedTemporaryFile("w", prefix="vestibule-bench-", suffix=".cnf") as file:
        file.write(_CIPHER_CONFIG)
        file.flush()
        yield {**os.environ, "OPENSSL_CONF": file.name}


@contextlib.contextmanager
def _process(order: Order, environment: dict[str, str]) -> "Iterator[subprocess.Popen[str]]":
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.client", order.line()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise LoadError("the load generator ended early")
    return line.rstrip("\n")
