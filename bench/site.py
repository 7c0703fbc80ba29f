"""What stands around the proxies under test: certificates, hosts, a backend, NATS.

Promises: everything is gone when `site` is left. Refuses to know: which proxies are tested.
"""

import asyncio
import contextlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import nats

from bench.machine import Cores, cores, pinned
from bench.nginx import backend_config, start_nginx
from router.demo.certificates import Authority
from router.demo.nats_server import NatsServer
from router.demo.process import free_port, spawn

OPEN_HOST, EAST, EAST_HOST = "bench.open.example", "*.east.example", "bench.east.example"
APP = "11111111-1111-4111-8111-111111111111"
"""The caller that the route of EAST_HOST allows."""

ROOT = Path(__file__).parents[1]


class Site(NamedTuple):
    """Where things are. Files: open.crt, open.key, east.crt, east.key, east-ca.pem, caller.pem."""

    directory: Path
    cores: Cores
    nats: NatsServer
    backend_port: int
    backend: str

    @property
    def caller(self) -> Path:
        """The certificate and key of APP."""
        return self.directory / "caller.pem"

    def registrations(self) -> list[bytes]:
        """What the backend's app would send: an open route, and one of the mTLS domain with its list."""
        common = {"host": "127.0.0.1", "port": self.backend_port, "private_instance_id": "bench-0", "private_instance_index": "0"}
        routes: tuple[tuple[str, dict[str, object]], ...] = (
            (OPEN_HOST, {}),
            (EAST_HOST, {"options": {"mtls_allowed_apps": APP}}),
        )
        return [json.dumps({**common, "uris": [host], "app": APP, **more}).encode() for host, more in routes]

    def register(self, messages: Iterable[bytes]) -> None:
        """Publish registrations."""
        asyncio.run(_publish(self.nats.url, messages))


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """Start it. FileNotFoundError where nats-server is missing."""
    placed = cores()
    with TemporaryDirectory(prefix="vestibule-bench-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        _write_certificates(directory)
        with pinned(placed.rest):
            server = NatsServer(directory / "nats")
            stack.callback(server.kill)
            server.start()
            port, what = _start_backend(directory / "backend", stack)
        yield Site(directory, placed, server, port, what)


def _start_backend(directory: Path, stack: contextlib.ExitStack) -> tuple[int, str]:
    directory.mkdir()
    port = free_port()
    if shutil.which("nginx"):
        process = start_nginx(directory, backend_config(directory, port))
        what = "nginx"
    else:
        process = spawn([sys.executable, "-m", "bench.backend", str(port)], cwd=ROOT)
        what = "a small one of ours: nginx is not installed"
    stack.callback(process.wait)
    stack.callback(process.kill)
    return port, what


def _write_certificates(directory: Path) -> None:
    public, east = Authority("bench"), Authority("east")
    open_, strict = public.issue_server("localhost", "*.open.example"), public.issue_server(EAST)
    caller = east.issue_instance("caller-0", app=APP, space="space", org="org")
    files = {
        "open.crt": open_.certificate,
        "open.key": open_.key,
        "east.crt": strict.certificate,
        "east.key": strict.key,
        "east-ca.pem": east.pem,
        "caller.pem": caller.certificate + caller.key,
    }
    for name, text in files.items():
        (directory / name).touch(0o600)
        (directory / name).write_text(text)


async def _publish(url: str, messages: Iterable[bytes]) -> None:
    client = await nats.connect(url, allow_reconnect=False)
    for number, message in enumerate(messages):
        await client.publish("router.register", message)
        if number % 1000 == 999:
            await client.flush(timeout=60)
    await client.flush(timeout=60)
    await client.close()
