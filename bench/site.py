"""What stands around the proxies under test: certificates, hosts, a backend, NATS.

Promises: everything is gone when `site` is left. Refuses to know: which proxies are tested.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import nats

from bench import nginx
from bench.machine import Cores, pinned
from bench.proxies import Backends
from router.demo.certificates import Authority
from router.demo.nats_server import NatsServer
from router.demo.process import free_port, spawn

OPEN_HOST, EAST, EAST_HOST = "bench.open.example", "*.east.example", "bench.east.example"
APP = "11111111-1111-4111-8111-111111111111"
"""The caller that the routes of EAST_HOST allow; its space is SPACE."""
SPACE = "space"
BULK, SOCKET = "/bulk", "/socket"
"""What is served beside the page: 10 MiB, and WebSockets."""

ROOT = Path(__file__).parents[1]


class Site(NamedTuple):
    """Where things are. Files: open.crt, open.key, east.crt, east.key, east-ca.pem, caller.pem."""

    directory: Path
    cores: Cores
    nats: NatsServer
    backends: Backends
    backend: str
    """What serves the pages."""

    @property
    def caller(self) -> Path:
        """The certificate and key of APP."""
        return self.directory / "caller.pem"

    def registrations(self) -> list[bytes]:
        """What the backends' app would send: open routes, and some of the mTLS domain with their list."""
        common = {"host": "127.0.0.1", "app": APP, "private_instance_id": "bench-0", "private_instance_index": "0"}
        listed: dict[str, object] = {"options": {"mtls_allowed_apps": APP}}
        return [
            json.dumps({**common, "uris": [host + path], "port": port, **more}).encode()
            for path, port in ((SOCKET, self.backends.sockets), ("", self.backends.pages))
            for host, more in ((OPEN_HOST, {}), (EAST_HOST, listed))
        ]

    def register(self, messages: Iterable[bytes]) -> None:
        """Publish registrations."""
        asyncio.run(_publish(self.nats.url, messages))


@contextlib.contextmanager
def site(placed: Cores) -> Iterator[Site]:
    """Start it. FileNotFoundError where nats-server is missing."""
    with TemporaryDirectory(prefix="vestibule-bench-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        _write_certificates(directory)
        with pinned(placed.rest):
            server = NatsServer(directory / "nats")
            stack.callback(server.kill)
            server.start()
            sockets = _start_ours(stack)
            pages, what = _start_pages(directory / "backend", sockets, stack)
        yield Site(directory, placed, server, Backends(pages, sockets), what)


def _start_ours(stack: contextlib.ExitStack) -> int:
    port = free_port()
    _end_with(stack, spawn([sys.executable, "-m", "bench.backend", str(port)], cwd=ROOT))
    return port


def _start_pages(directory: Path, ours: int, stack: contextlib.ExitStack) -> tuple[int, str]:
    if nginx.version() is None:
        return ours, "a small one of ours: nginx is not installed"
    directory.mkdir()
    port = free_port()
    _end_with(stack, nginx.start(directory, nginx.backend_config(directory, port)))
    return port, "nginx"


def _end_with(stack: contextlib.ExitStack, process: "subprocess.Popen[bytes]") -> None:
    stack.callback(process.wait)
    stack.callback(process.kill)


def _write_certificates(directory: Path) -> None:
    public, east = Authority("bench"), Authority("east")
    open_, strict = public.issue_server("localhost", "*.open.example"), public.issue_server(EAST)
    caller = east.issue_instance("caller-0", app=APP, space=SPACE, org="org")
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
