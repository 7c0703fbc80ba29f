"""The proxies under test: Vestibule and its peers, each one process of work on the proxy's core.

A peer is a configuration and a line in PEERS. Promises: `start` returns when a request gets its 200 through every
port. Refuses to know: what is measured.
"""

import contextlib
import http.client
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import yaml

from bench.client import tls_context
from bench.haproxy import haproxy_config, haproxy_version, start_haproxy
from bench.load import Target
from bench.machine import pinned
from bench.nginx import KEPT, Ports, nginx_version, peer_config, start_nginx
from bench.site import EAST, EAST_HOST, OPEN_HOST, ROOT, Site
from router.demo.process import free_port, spawn, stop

START_SECONDS = 30.0


class Proxy(Protocol):
    """One proxy. `plain`, `tls` and `mtls` are where it listens, `pid` its first process."""

    name: str
    plain: Target
    tls: Target
    mtls: Target

    @property
    def pid(self) -> int: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class StartError(Exception):
    """A proxy did not start; the text holds the end of its log."""


class Vestibule:
    """`vestibule run` with access log and metrics on; both domains on one port, told apart by SNI."""

    name = "vestibule"

    def __init__(self, site: Site, **config: Any) -> None:
        self._site = site
        self._directory = site.directory / f"vestibule-{free_port()}"
        self._more = config
        self._process: subprocess.Popen[bytes] | None = None
        port, tls_port, self._status_port, self._routes_port, self._metrics_port = (free_port() for _ in range(5))
        self.plain = Target(port, OPEN_HOST)
        self.tls = Target(tls_port, OPEN_HOST, tls=True)
        self.mtls = Target(tls_port, EAST_HOST, tls=True, certificate=site.caller)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Raises StartError."""
        self._directory.mkdir(exist_ok=True)
        file = self._directory / "router.yml"
        file.write_text(yaml.safe_dump(self._config()))
        log = self._directory / "router.log"
        with log.open("wb") as output, pinned(self._site.cores.proxy):
            command = [sys.executable, "-m", "router", "run", "-c", str(file)]
            self._process = spawn(command, stdout=output, stderr=output, cwd=ROOT)
        _wait(lambda: _healthy(self._status_port), log, self._process)
        self._site.register(self._site.registrations())
        _wait(lambda: all(map(_answers, (self.plain, self.tls, self.mtls))), log, self._process)

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process)
            self._process = None

    def metric(self, name: str) -> float:
        """The sum of one metric's samples."""
        _, page = _fetch(self._metrics_port, "/metrics")
        samples = [line.rpartition(" ")[2] for line in page.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(map(float, samples))

    def _config(self) -> dict[str, Any]:
        files = self._site.directory
        return {
            "port": self.plain.port,
            "enable_ssl": True,
            "ssl_port": self.tls.port,
            "tls_pem": [
                {"cert_chain": str(files / f"{name}.crt"), "private_key": str(files / f"{name}.key")} for name in ("open", "east")
            ],
            "nats": {"hosts": [{"hostname": "127.0.0.1", "port": self._site.nats.port}]},
            "status": {
                "host": "127.0.0.1",
                "port": self._status_port,
                "user": "bench",
                "pass": "bench-status",
                "routes": {"port": self._routes_port},
            },
            "prometheus": {"enabled": True, "port": self._metrics_port},
            "access_log": {"file": str(self._directory / "access.log")},
            "trusted_proxies": [],
            "max_idle_conns": KEPT,
            "max_idle_conns_per_host": KEPT,
            "start_response_delay_interval": "0s",
            "droplet_stale_threshold": "3600s",
            "mtls_domains": [
                {
                    "domain": EAST,
                    "ca_certs": str(files / "east-ca.pem"),
                    "forwarded_client_cert": "sanitize_set",
                    "xfcc": {"format": "raw", "identity_extractor": "cf_ou"},
                    "authorization": {"mode": "cf_identity"},
                }
            ],
            **self._more,
        }


class Peer:
    """One worker, one port for each kind."""

    def __init__(self, name: str, site: Site, launch: "Callable[[Path, Site, Ports], subprocess.Popen[bytes]]") -> None:
        self.name = name
        self._site = site
        self._launch = launch
        self._directory = site.directory / name
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = Ports(free_port(), free_port(), free_port())
        self.plain = Target(self._ports.plain, OPEN_HOST)
        self.tls = Target(self._ports.tls, OPEN_HOST, tls=True)
        self.mtls = Target(self._ports.mtls, EAST_HOST, tls=True, certificate=site.caller)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Raises StartError."""
        self._directory.mkdir(exist_ok=True)
        with pinned(self._site.cores.proxy):
            self._process = self._launch(self._directory, self._site, self._ports)
        log = self._directory / "error.log"
        _wait(lambda: all(map(_answers, (self.plain, self.tls, self.mtls))), log, self._process)

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process)
            self._process = None


def _nginx(directory: Path, site: Site, ports: Ports) -> "subprocess.Popen[bytes]":
    return start_nginx(directory, peer_config(directory, site.directory, site.backends, ports))


def _haproxy(directory: Path, site: Site, ports: Ports) -> "subprocess.Popen[bytes]":
    return start_haproxy(directory, haproxy_config(site.directory, site.backends, ports))


PEERS: dict[str, Callable[[Site], Proxy]] = {
    "nginx": lambda site: Peer("nginx", site, _nginx),
    "haproxy": lambda site: Peer("haproxy", site, _haproxy),
}
"""By the name of the program."""


def versions() -> str:
    """Of the programs that may be peers."""
    return f"nginx {nginx_version()}, haproxy {haproxy_version()}"


def installed(peer: str) -> bool:
    """Whether a peer's program is there."""
    return shutil.which(peer) is not None


def negotiated(target: Target) -> str:
    """Protocol version and cipher that the load generator gets."""
    with _connect(target) as sock:
        assert isinstance(sock, ssl.SSLSocket)
        cipher = sock.cipher()
        return f"{sock.version()} {cipher[0] if cipher else '?'}"


def _connect(target: Target) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", target.port), 5.0)
    if not target.tls:
        return sock
    return tls_context(str(target.certificate or "")).wrap_socket(sock, server_hostname=target.host)


def _answers(target: Target) -> bool:
    with _connect(target) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {target.host}\r\nConnection: close\r\n\r\n".encode())
        return sock.recv(12) == b"HTTP/1.1 200"


def _healthy(port: int) -> bool:
    return _fetch(port, "/health")[0] == 200


def _fetch(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def _wait(ready: Callable[[], bool], log: Path, process: "subprocess.Popen[bytes]") -> None:
    """Raises StartError when the process ends or the time is over."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ready():
                return
        time.sleep(0.02)
    written = log.read_text(errors="replace")[-2000:] if log.exists() else ""
    raise StartError(f"a proxy did not start; it wrote: {written!r}")
