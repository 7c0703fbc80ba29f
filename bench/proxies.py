"""What every proxy under test is to the scenarios, and how one waits until it serves.

Refuses to know: which proxies there are, and what is measured.
"""

import contextlib
import http.client
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from bench.client_http1 import tls_context
from bench.load import Target

START_SECONDS = 30.0


class Proxy(Protocol):
    """One proxy. `plain`, `tls` and `mtls` are where it listens, `pids` its first processes (mostly one)."""

    name: str
    plain: Target
    tls: Target
    mtls: Target

    @property
    def pids(self) -> Sequence[int]: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Ports(NamedTuple):
    """Where a peer listens."""

    plain: int
    tls: int
    mtls: int


class Backends(NamedTuple):
    """Where a peer sends what: `/socket` to `sockets`, all else to `pages`."""

    pages: int
    sockets: int


KEPT = 512
"""Idle connections to the backend that every proxy may keep: more than it is asked for at once."""


class StartError(Exception):
    """A proxy did not start; the text holds the end of its log."""


def answers(target: Target) -> bool:
    """Whether a request gets its 200. OSError where nobody listens."""
    with _connect(target) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {target.host}\r\nConnection: close\r\n\r\n".encode())
        return sock.recv(12) == b"HTTP/1.1 200"


def fetch(port: int, path: str) -> tuple[int, str]:
    """Status and text of a page on loopback."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def wait_until(ready: Callable[[], bool], log: Path, processes: "Sequence[subprocess.Popen[bytes]]") -> None:
    """Raises StartError when a process ends or the time is over."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and all(process.poll() is None for process in processes):
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ready():
                return
        time.sleep(0.02)
    written = log.read_text(errors="replace")[-2000:] if log.exists() else ""
    raise StartError(f"a proxy did not start; it wrote: {written!r}")


def _connect(target: Target) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", target.port), 5.0)
    if not target.tls:
        return sock
    return tls_context(str(target.certificate or "")).wrap_socket(sock, server_hostname=target.host)
