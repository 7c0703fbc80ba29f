"""Passthrough by SNI: bytes, new connections, idle ones; Vestibule with `l7.enabled: false` and HAProxy in turn.

Promises: CPU is that of the proxy's process alone; a ratio is formed within a round. Refuses to know: HTTP.
"""

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from bench.findings import Finding, Report, spread
from bench.l4_haproxy import start_haproxy
from bench.l4_load import HOST
from bench.load import LoadError
from bench.machine import cpu_seconds, pinned, resident_kib
from bench.site import ROOT, Site
from router.demo.process import free_port, spawn, stop

MEBIBYTES, CONNECTIONS, IDLE, WARM = 1024, 5000, 5000, 200
ROUNDS = 5
SETTLE_SECONDS, START_SECONDS = 1.0, 20.0
ANSWERS = {"bulk": MEBIBYTES << 20, "new": 1024, "idle": 0}
"""Bytes of a backend's answer, by kind of load."""


class _Proxy(NamedTuple):
    name: str
    process: "subprocess.Popen[bytes]"
    ports: Mapping[str, int]


def l4(site: Site) -> Report:
    """All three; the aims are those of the issue that brought the L4 door."""
    directory = site.directory / f"l4-{free_port()}"
    directory.mkdir()
    with contextlib.ExitStack() as stack:
        with pinned(site.cores.rest):
            backends = {kind: stack.enter_context(_backend(size)) for kind, size in ANSWERS.items()}
        with pinned(site.cores.proxy):
            proxies = [stack.enter_context(_vestibule(directory, backends))]
            program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
            if program is not None:
                proxies.append(stack.enter_context(_haproxy(program, directory, backends)))
        for proxy in proxies:
            _wait(proxy)
        findings = [
            *_compared(site, proxies, "bulk", "a MiB", MEBIBYTES, 0.5),
            *_compared(site, proxies, "new", "a connection", CONNECTIONS, 1.5),
            *(_idle(site, proxy, 16.0 if proxy is proxies[0] else None) for proxy in proxies),
        ]
    note = f"l4: 1 GiB down one connection; {CONNECTIONS:,} connections with 1 KiB down each; {IDLE:,} idle ones."
    missing = () if program is not None else ("l4: haproxy is not installed, left out.",)
    return Report(tuple(findings), (note, *missing))


def _compared(site: Site, proxies: list[_Proxy], kind: str, what: str, units: int, ratio: float) -> Iterator[Finding]:
    seen: dict[str, list[float]] = {proxy.name: [] for proxy in proxies}
    for proxy in proxies:
        _load(site, proxy, kind)
    for _ in range(ROUNDS):
        for proxy in proxies:
            before = cpu_seconds(proxy.process.pid)
            _load(site, proxy, kind)
            seen[proxy.name].append((cpu_seconds(proxy.process.pid) - before) / units * 1e6)
    for name, figures in seen.items():
        yield Finding(f"l4-{kind}", f"{name}: CPU {what}", spread(figures), "µs")
    ours = seen[proxies[0].name]
    for proxy in proxies[1:]:
        ratios = [mine / theirs for mine, theirs in zip(ours, seen[proxy.name], strict=True)]
        yield Finding(f"l4-{kind}", f"CPU ratio to {proxy.name}", spread(ratios), "", ratio)


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
    return Finding("l4-idle", f"{proxy.name}: a connection", spread([each]), "KiB", aim)


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
def _haproxy(program: str, directory: Path, backends: Mapping[str, int]) -> Iterator[_Proxy]:
    ports = {kind: free_port() for kind in backends}
    process = start_haproxy(program, directory, {ports[kind]: port for kind, port in backends.items()})
    yield from _running("haproxy", process, ports)


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
