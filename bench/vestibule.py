"""Vestibule as it is measured: `vestibule run` with access log and metrics on, both domains on one port, told apart by SNI.

Promises: `start` returns when a request gets its 200 through every port. Refuses to know: what is measured.
"""

import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import yaml

from bench.load import Target
from bench.machine import pinned
from bench.proxies import KEPT, answers, fetch, wait_until
from bench.site import EAST, EAST_HOST, OPEN_HOST, ROOT, Site
from router.demo.process import free_port, spawn, stop


def strict_domain(site: Site, pattern: str, **lists: list[str]) -> dict[str, Any]:
    """A domain that demands identity of the callers of site; `lists` are its own `orgs` or `spaces`."""
    return {
        "domain": pattern,
        "ca_certs": str(site.directory / "east-ca.pem"),
        "forwarded_client_cert": "sanitize_set",
        "xfcc": {"format": "raw", "identity_extractor": "cf_ou"},
        "authorization": {"mode": "cf_identity", "config": lists},
    }


class Vestibule:
    """One router. `cores`: where it runs, those of the site unless given; other keywords: top-level keys of its configuration,
    but for `more_domains`, which stand beside its own.
    """

    def __init__(
        self, site: Site, *, cores: Iterable[int] | None = None, more_domains: Sequence[Any] = (), **config: Any
    ) -> None:
        self.name = "vestibule"
        self._site = site
        self._cores = tuple(site.cores.proxy if cores is None else cores)
        self._directory = site.directory / f"vestibule-{free_port()}"
        self._log = self._directory / "router.log"
        self._domains = more_domains
        self._more = config
        self._process: subprocess.Popen[bytes] | None = None
        port, tls_port, self._status_port, self._routes_port, self._metrics_port = (free_port() for _ in range(5))
        self.plain = Target(port, OPEN_HOST)
        self.tls = Target(tls_port, OPEN_HOST, tls=True)
        self.mtls = Target(tls_port, EAST_HOST, tls=True, certificate=site.caller)

    @property
    def pids(self) -> tuple[int, ...]:
        assert self._process is not None
        return (self._process.pid,)

    def start(self) -> None:
        """Raises StartError."""
        self._directory.mkdir(exist_ok=True)
        file = self._directory / "router.yml"
        file.write_text(yaml.safe_dump(self._config()))
        with self._log.open("wb") as output, pinned(self._cores):
            command = [sys.executable, "-m", "router", "run", "-c", str(file)]
            self._process = spawn(command, stdout=output, stderr=output, cwd=ROOT)
        self.wait_for(lambda: fetch(self._status_port, "/health")[0] == 200)
        self._site.register(self._site.registrations())
        self.wait_for(lambda: all(map(answers, (self.plain, self.tls, self.mtls))))

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Until it is true. StartError where that takes too long, or the router ends."""
        assert self._process is not None
        wait_until(ready, self._log, [self._process])

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process)
            self._process = None

    def metric(self, name: str) -> float:
        """The sum of one metric's samples."""
        _, page = fetch(self._metrics_port, "/metrics")
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
            "mtls_domains": [strict_domain(self._site, EAST), *self._domains],
            **self._more,
        }
