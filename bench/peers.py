"""The peers: other proxies, each one process of work (GoRouter: two) on the proxy's core.

A peer is a configuration, a start, and a line in PEERS. Promises: `start` returns when a request gets its 200 through every
port. Refuses to know: what is measured.
"""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import caddy, envoy, gorouter, haproxy, nginx
from bench.load import Target
from bench.machine import pinned
from bench.proxies import Backends, Ports, Proxy, answers, wait_until
from bench.site import EAST_HOST, OPEN_HOST, Site
from router.demo.process import free_port, stop


class Kind(NamedTuple):
    """One kind of peer. `missing`: what to say where it is not there."""

    version: Callable[[], str | None]
    launch: "Callable[[Path, Site, Ports], Sequence[subprocess.Popen[bytes]]]"
    missing: str
    hears_nats: bool = False


class Peer:
    """One port for each kind of connection."""

    def __init__(self, name: str, kind: Kind, site: Site) -> None:
        self.name = name
        self._kind = kind
        self._site = site
        self._directory = site.directory / name
        self._processes: Sequence[subprocess.Popen[bytes]] = ()
        self._ports = Ports(free_port(), free_port(), free_port())
        self.plain = Target(self._ports.plain, OPEN_HOST)
        self.tls = Target(self._ports.tls, OPEN_HOST, tls=True)
        self.mtls = Target(self._ports.mtls, EAST_HOST, tls=True, certificate=site.caller)

    @property
    def pids(self) -> Sequence[int]:
        return [process.pid for process in self._processes]

    def start(self) -> None:
        """Raises StartError."""
        self._directory.mkdir(exist_ok=True)
        with pinned(self._site.cores.proxy):
            self._processes = self._kind.launch(self._directory, self._site, self._ports)
        wait_until(self._serves, self._directory / "error.log", self._processes)

    def stop(self) -> None:
        for process in self._processes:
            stop(process)
        self._processes = ()

    def _serves(self) -> bool:
        if self._kind.hears_nats:  # said again until it listens
            self._site.register(self._site.registrations())
        return all(map(answers, (self.plain, self.tls, self.mtls)))


def _static(
    start: "Callable[[Path, str], subprocess.Popen[bytes]]", config: Callable[[Path, Path, Backends, Ports], str]
) -> "Callable[[Path, Site, Ports], Sequence[subprocess.Popen[bytes]]]":
    """A peer that is told its backend in a file."""
    return lambda directory, site, ports: [start(directory, config(directory, site.directory, site.backends, ports))]


def _gorouters(directory: Path, site: Site, ports: Ports) -> "Sequence[subprocess.Popen[bytes]]":
    return gorouter.start(directory, gorouter.configs(directory, site.directory, site.nats.port, ports))


KINDS: dict[str, Kind] = {
    "nginx": Kind(nginx.version, _static(nginx.start, nginx.peer_config), "Debian: nginx"),
    "haproxy": Kind(haproxy.version, _static(haproxy.start, haproxy.config), "Debian: haproxy"),
    "envoy": Kind(envoy.version, _static(envoy.start, envoy.config), "make bench installs it"),
    "caddy": Kind(caddy.version, _static(caddy.start, caddy.config), "make bench installs it"),
    "gorouter": Kind(gorouter.version, _gorouters, f"set {gorouter.VARIABLE} to its program", hears_nats=True),
}
"""By the name of the program."""


def peer(name: str, site: Site) -> Proxy:
    """One of KINDS."""
    return Peer(name, KINDS[name], site)


def installed(name: str) -> bool:
    """Whether a peer's program is there."""
    return KINDS[name].version() is not None


def described(name: str) -> str:
    """Its name and version, or how to get it."""
    version = KINDS[name].version()
    return f"{name} {version}" if version is not None else f"{name} (not installed, left out; {KINDS[name].missing})"
