"""Passthrough by SNI: bytes, new connections, idle ones; Vestibule with `l7.enabled: false`, HAProxy and Envoy in turn.

Promises: CPU is that of the proxy's process alone; a ratio is formed within a round. Refuses to know: HTTP.
"""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from bench.aims import CPU_RATIO, L4_IDLE_KIB
from bench.exchanges import Plan
from bench.findings import Finding, Report, ratios, spread
from bench.l4_load import HOST
from bench.l4_peers import STARTS
from bench.load import LoadError
from bench.machine import cpu_seconds, pinned, resident_kib
from bench.site import ROOT, Site
from router.demo.process import free_port, spawn, stop

MEBIBYTES, CONNECTIONS, IDLE, WARM = 1024, 5000, 5000, 200
SETTLE_SECONDS, START_SECONDS = 1.0, 20.0
ANSWERS = {"bulk": MEBIBYTES << 20, "new": 1024, "idle": 0}
"""Bytes of a backend's answer, by kind of load."""


class _Proxy(NamedTuple):
    name: str
    process: "subprocess.Popen[bytes]"
    ports: Mapping[str, int]


def l4(site: Site, plan: Plan, peers: Sequence[str]) -> Report:
    """All three."""
    directory = site.directory / f"l4-{free_port()}"
    with contextlib.ExitStack() as stack:
        with pinned(site.cores.rest):
            backends = {kind: stack.enter_context(_backend(size)) for kind, size in ANSWERS.items()}
        with pinned(site.cores.proxy):
            proxies = [stack.enter_context(_vestibule(directory / "vestibule", backends))]
            proxies += [stack.enter_context(_peer(name, directory / name, backends)) for name in peers if name in STARTS]
        for proxy in proxies:
            _wait(proxy)
        findings = [
            *_compared(site, plan, proxies, "bulk", "MiB", MEBIBYTES),
            *_compared(site, plan, proxies, "new", "connection", CONNECTIONS),
            *(_idle(site, proxy, L4_IDLE_KIB if proxy is proxies[0] else None) for proxy in proxies),
        ]
    note = f"l4: 1 GiB down one connection; {CONNECTIONS:,} connections with 1 KiB down each; {IDLE:,} idle ones."
    return Report(tuple(findings), (note,))


class _Cost(NamedTuple):
    """Of one load."""

    cpu_us: float
    rate: float


def _compared(site: Site, plan: Plan, proxies: list[_Proxy], kind: str, what: str, units: int) -> Iterator[Finding]:
    scenario = f"l4-{kind}"
    seen: dict[str, list[_Cost]] = {proxy.name: [] for proxy in proxies}
    for proxy in proxies:
        _load(site, proxy, kind)
    for _ in range(plan.rounds):
        for proxy in proxies:
            seen[proxy.name].append(_cost(site, proxy, kind, units))
    for name, costs in seen.items():
        yield Finding(scenario, f"CPU a {what}", spread([cost.cpu_us for cost in costs]), "µs", who=name)
        yield Finding(
            scenario,
            f"{what} a second" if what == "MiB" else f"{what}s a second",
            spread([cost.rate for cost in costs]),
            "",
            who=name,
        )
    for name, ratio in ratios({name: [cost.cpu_us for cost in costs] for name, costs in seen.items()}):
        yield Finding(scenario, "CPU ratio to", ratio, "", CPU_RATIO.get((scenario, name)), who=name)


def _cost(site: Site, proxy: _Proxy, kind: str, units: int) -> _Cost:
    cpu, started = cpu_seconds(proxy.process.pid), time.perf_counter()
    _load(site, proxy, kind)
    return _Cost((cpu_seconds(proxy.process.pid) - cpu) / units * 1e6, units / (time.perf_counter() - started))


def _load(site: Site, proxy: _Proxy, kind: str) -> None:
    count = [str(CONNECTIONS)] if kind == "new" else []
    wanted = CONNECTIONS if kind == "new" else ANSWERS["bulk"]
    command = [sys.executable, "-m", "bench.l4_load", kind, str(proxy.ports[kind]), *count]
    with pinned(site.cores.rest):
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    if done.stdout.strip() != str(wanted):
        raise LoadError(
            f"{proxy.name}, {kind}: expected {wanted}, the load generator said {(done.stdout + done.stderr)[-300:]!r}"
        )


def _idle(site: Site, proxy: _Proxy, aim: float | None) -> Finding:
    _hold(site, proxy, WARM)
    before = resident_kib(proxy.process.pid)
    each = (_hold(site, proxy, IDLE) - before) / IDLE
    return Finding("l4-idle", "a connection", spread([each]), "KiB", aim, who=proxy.name)


def _hold(site: Site, proxy: _Proxy, count: int) -> int:
    """Resident KiB while so many are idle."""
    command = [sys.executable, "-m", "bench.l4_load", "idle", str(proxy.ports["idle"]), str(count)]
    with pinned(site.cores.rest), subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise LoadError(f"{proxy.name}: {count} idle connections could not be held")
        time.sleep(SETTLE_SECONDS)
        return resident_kib(proxy.process.pid)


@contextlib.contextmanager
def _backend(size: int) -> Iterator[int]:
    port = free_port()
    process = spawn([sys.executable, "-m", "bench.l4_load", "backend", str(port), str(size)], cwd=ROOT)
    try:
        yield port
    finally:
        stop(process)


@contextlib.contextmanager
def _vestibule(directory: Path, backends: Mapping[str, int]) -> Iterator[_Proxy]:
    ports = {kind: free_port() for kind in backends}
    directory.mkdir(parents=True)
    listeners = [
        {"port": ports[kind], "kind": "tls", "routes": [{"hostname": HOST, "backend": f"127.0.0.1:{port}"}]}
        for kind, port in backends.items()
    ]
    status = {"host": "127.0.0.1", "port": free_port(), "user": "bench", "pass": "bench-status"}
    config = {"l7": {"enabled": False}, "listeners": listeners, "status": status, "trusted_proxies": []}
    config["access_log"] = {"file": str(directory / "access.log")}
    file = directory / "router.yml"
    file.write_text(yaml.safe_dump(config))
    with (directory / "router.log").open("wb") as output:
        process = spawn([sys.executable, "-m", "router", "run", "-c", str(file)], stdout=output, stderr=output, cwd=ROOT)
    yield from _running("vestibule", process, ports)


@contextlib.contextmanager
def _peer(name: str, directory: Path, backends: Mapping[str, int]) -> Iterator[_Proxy]:
    ports = {kind: free_port() for kind in backends}
    directory.mkdir(parents=True)
    process = STARTS[name](directory, {ports[kind]: port for kind, port in backends.items()})
    yield from _running(name, process, ports)


def _running(name: str, process: "subprocess.Popen[bytes]", ports: Mapping[str, int]) -> Iterator[_Proxy]:
    try:
        yield _Proxy(name, process, ports)
    finally:
        stop(process)


def _wait(proxy: _Proxy) -> None:
    """Until every port is open. LoadError where that does not happen."""
    end = time.monotonic() + START_SECONDS
    for port in proxy.ports.values():
        while not _is_open(port):
            if time.monotonic() > end or proxy.process.poll() is not None:
                raise LoadError(f"{proxy.name} did not start")
            time.sleep(0.02)


def _is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5.0).close()
    except OSError:
        return False
    return True
