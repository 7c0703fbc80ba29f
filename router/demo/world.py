"""Everything the demo needs, started in order and gone without a trace afterwards.

Promises: on leaving, however it is left, every process has ended and no file remains. Refuses to know: which calls are
made in this world.
"""

import asyncio
import base64
import contextlib
import http.client
import json
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import yaml

from registry.connect_nats import NatsSettings
from router.demo.app import SampleApp
from router.demo.certificates import Authority, Pair
from router.demo.nats_server import NatsServer
from router.demo.process import free_port, spawn, stop

START_SECONDS = 10.0
PORT_ATTEMPTS = 3

OPEN, EAST, WEST = "apps.example", "apps.mtls.east.internal", "apps.mtls.west.internal"
HELLO, ORDERS, DRAFT, STOCK = f"hello.{OPEN}", f"orders.{EAST}", f"draft.{EAST}", f"stock.{WEST}"

APPS = (
    SampleApp("hello", {HELLO: None}),
    SampleApp("orders", {ORDERS: {"mtls_allowed_apps": "billing"}, DRAFT: None}),
    SampleApp("stock", {STOCK: {"mtls_allowed_spaces": "logistics"}}),
)


class World(NamedTuple):
    """Where things are. Callers' certificates with their keys are `<caller>.pem` in `directory`."""

    directory: Path
    port: int

    @property
    def authority(self) -> Path:
        """The authority of the router's own certificate."""
        return self.directory / "router-ca.pem"

    def caller(self, name: str) -> Path:
        """A caller's certificate and key in one file."""
        return self.directory / f"{name}.pem"

    def access_log(self) -> list[dict[str, Any]]:
        """What the router wrote of each request so far."""
        return _json_lines(self.directory / "access.log")

    def events(self) -> list[dict[str, Any]]:
        """The router's component log so far."""
        return _json_lines(self.directory / "router.log")


class DemoError(Exception):
    """The world could not be started; the text says why."""


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    """NATS, certificates, apps and router. DemoError or FileNotFoundError where one of them does not start."""
    with TemporaryDirectory(prefix="vestibule-demo-") as name, contextlib.ExitStack() as processes:
        directory = Path(name)
        nats = NatsServer(directory / "nats")
        processes.callback(nats.kill)
        nats.start()
        _write_certificates(directory)
        async with _apps(NatsSettings((("127.0.0.1", nats.port),))):
            router = _Router(directory, nats.port)
            processes.callback(router.stop)
            await router.start()
            yield World(directory, router.port)


@contextlib.asynccontextmanager
async def _apps(nats: NatsSettings) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(app.run(nats), name=app.name) for app in APPS]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Router:
    """`vestibule run` on free ports."""

    def __init__(self, directory: Path, nats_port: int) -> None:
        self._directory = directory
        self._nats_port = nats_port
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = self._status_port = self._routes_port = 0

    async def start(self) -> None:
        """Start and wait until every app's routes are in the table."""
        for _ in range(PORT_ATTEMPTS):
            self._launch()
            if await self._is_ready():
                return
            self.stop()
            if "error loading config" in self._log().lower():  # another port would not help
                break
        raise DemoError(f"the router did not start; its log ends:\n{self._log()[-3000:]}")

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process)
            self._process = None

    def _launch(self) -> None:
        self.port, plain, self._status_port, self._routes_port = (free_port() for _ in range(4))
        file = self._directory / "router.yml"
        file.write_text(yaml.safe_dump(self._config(plain), sort_keys=False))
        with (self._directory / "router.log").open("wb") as log:
            command = [sys.executable, "-m", "router", "run", "-c", str(file)]
            self._process = spawn(command, stdout=log, stderr=subprocess.STDOUT)

    def _config(self, plain_port: int) -> dict[str, Any]:
        return {
            "port": plain_port,
            "enable_ssl": True,
            "ssl_port": self.port,
            "tls_pem": [{"cert_chain": "router.crt", "private_key": "router.key"}],
            "nats": {"hosts": [{"hostname": "127.0.0.1", "port": self._nats_port}]},
            "status": {
                "host": "127.0.0.1",
                "port": self._status_port,
                "user": "demo",
                "pass": self._password,
                "routes": {"port": self._routes_port},
            },
            "access_log": {"file": str(self._directory / "access.log"), "format": "json"},
            "start_response_delay_interval": "0s",
            "mtls_domains": [_mtls_domain(EAST, "east-ca.pem"), _mtls_domain(WEST, "west-ca.pem")],
        }

    async def _is_ready(self) -> bool:
        wanted = {uri for app in APPS for uri in app.routes}
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._process is not None and self._process.poll() is None:
            if wanted <= await asyncio.to_thread(self._routes):
                return True
            await asyncio.sleep(0.02)
        return False

    def _routes(self) -> set[str]:
        """The uris in the table of a healthy router; empty while it is not."""
        token = base64.b64encode(f"demo:{self._password}".encode()).decode()
        try:
            if _fetch(self._status_port, "/health", {}) is None:
                return set()
            return set(json.loads(_fetch(self._routes_port, "/routes", {"Authorization": f"Basic {token}"}) or "{}"))
        except (OSError, http.client.HTTPException):
            return set()

    def _log(self) -> str:
        return (self._directory / "router.log").read_text(errors="replace")


def _write_certificates(directory: Path) -> None:
    public, east, west = Authority("demo router authority"), Authority("east foundation"), Authority("west foundation")
    router = public.issue_server("localhost", f"*.{OPEN}", f"*.{EAST}", f"*.{WEST}")
    callers: dict[str, Pair] = {
        "billing": east.issue_instance("billing-0", app="billing", space="finance", org="acme"),
        "reports": east.issue_instance("reports-0", app="reports", space="finance", org="acme"),
        "warehouse": west.issue_instance("warehouse-0", app="warehouse", space="logistics", org="acme"),
    }
    files = {
        "router-ca.pem": public.pem,
        "east-ca.pem": east.pem,
        "west-ca.pem": west.pem,
        "router.crt": router.certificate,
        "router.key": router.key,
        **{f"{name}.pem": pair.certificate + pair.key for name, pair in callers.items()},
    }
    for name, text in files.items():
        (directory / name).write_text(text)


def _mtls_domain(suffix: str, authority: str) -> dict[str, Any]:
    return {
        "domain": f"*.{suffix}",
        "ca_certs": authority,
        "forwarded_client_cert": "sanitize_set",
        "xfcc": {"format": "envoy", "identity_extractor": "cf_ou"},
        "authorization": {"mode": "cf_identity"},
    }


def _fetch(port: int, path: str, headers: dict[str, str]) -> str | None:
    """The body of a 200, or None."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read().decode()
        return body if response.status == 200 else None
    finally:
        connection.close()


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines that are JSON objects."""
    found = []
    for line in path.read_text(errors="replace").split("\n")[:-1] if path.exists() else ():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return [record for record in found if isinstance(record, dict)]
