"""router/app.py: the life of a router process: start, reload, drain, stop; here in the test's own process."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from router.app import App, OneProcess
from router.config.compile_l4 import compile_l4
from router.config.load import load
from router.listening import Listening
from router.live import Live
from router.net.listener import bind
from router.observe.log import Output
from tests.conftest import OPEN, MakeRouter
from tests.router.desk import in_thread
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import Client, get
from tests.support.nats import NatsConnection, NatsServer
from tests.support.register import message
from tests.support.router import RouterProcess, tls_pem
from tests.support.waiting import until

HOST = f"app.{OPEN}"


SAID: list[dict[str, Any]] = []
"""What the app under test has logged."""


@pytest.fixture(autouse=True)
def _ear(monkeypatch: pytest.MonkeyPatch) -> None:
    SAID.clear()

    def hear(_: Output, level: int, source: str, event: str, data: Mapping[str, Any]) -> None:
        SAID.append({"event": event, **data})

    monkeypatch.setattr(Output, "emit", hear)


class Life:
    """An app, its configuration as `RouterProcess` writes it, and what it said."""

    def __init__(self, process: RouterProcess) -> None:
        process.directory.mkdir(parents=True, exist_ok=True)
        process._choose_ports()
        process.write_config()
        self.process = process
        loaded = load(process.config_file)
        assert loaded.config is not None, loaded.problems
        self.app = App(process.config_file, loaded.config, loaded.warnings, asyncio.get_running_loop())
        self.work = asyncio.get_running_loop().create_task(self.app.run())

    def events(self, name: str) -> list[dict[str, Any]]:
        return [event for event in SAID if event["event"] == name]

    async def heard(self, name: str, times: int = 1) -> dict[str, Any]:
        await until(lambda: len(self.events(name)) >= times or self.work.done(), f"the event {name}")
        return self.events(name)[times - 1]

    def signal(self, number: signal.Signals) -> None:
        os.kill(os.getpid(), number)

    async def reload(self, **changes: Any) -> None:
        self.process.write_config(**changes)
        before = len(self.events("config-reloaded")) + len(self.events("config-reload-failed"))
        self.signal(signal.SIGHUP)
        await until(lambda: len(self.events("config-reloaded")) + len(self.events("config-reload-failed")) > before, "the reload")

    async def ended(self) -> int:
        async with asyncio.timeout(10):
            return await self.work


@asynccontextmanager
async def alive(make_router: MakeRouter, wait_for: str = "router-healthy", **config: Any) -> AsyncIterator[Life]:
    """A running app; stopped at the end, without a task that failed."""
    life = Life(make_router(start=False, **config))
    try:
        await life.heard(wait_for)
        yield life
    finally:
        if not life.work.done():
            life.signal(signal.SIGTERM)
        await life.ended()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)
    assert life.events("task-failed") == []


def live(life: Life) -> Live:
    assert life.app._l7 is not None
    return life.app._l7.live


def listening(life: Life) -> Listening:
    assert isinstance(life.app._plane, OneProcess)
    return life.app._plane.data.listening


async def register(life: Life, backend: EchoBackend, nats_port: int) -> None:
    def publish() -> None:
        with NatsConnection(nats_port) as nats:
            nats.publish("router.register", json.dumps(message(HOST, backend=backend)).encode())

    await in_thread(publish)
    await until(lambda: live(life).table.lookup(HOST, "/"), "the route")


async def test_a_router_starts_serves_and_stops(make_router: MakeRouter, backend: EchoBackend, nats_server: NatsServer) -> None:
    """Routes from NATS, health, metrics and the access log; SIGTERM ends it with 0."""
    async with alive(make_router) as life:
        await register(life, backend, nats_server.port)
        process = life.process
        assert (await in_thread(get, process.port, HOST)).status == 200
        assert await in_thread(process.health) == 200
        assert HOST in await in_thread(process.routes)
        assert await in_thread(process.metric, "total_routes") >= 1
        assert await in_thread(process.metric, "connections_open") >= 0
        await until(lambda: any(HOST in line for line in process.access_log), "the access log")
    assert await life.ended() == 0
    assert life.events("router-stopped") == [{"event": "router-stopped", "exit_status": 0}]


async def test_a_port_that_is_taken_is_an_error_before_anything_listens(make_router: MakeRouter) -> None:
    """`run` raises OSError, and leaves no socket behind."""
    process = make_router(start=False)
    life = Life(process)
    life.work.cancel()
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::", 0))
        taken.listen()
        config = live(life).snapshot.config.model_copy(update={"ssl_port": taken.getsockname()[1]})
        with pytest.raises(OSError, match="in use"):
            listening(life).prepare(compile_l4(config), bind)
    assert list(listening(life)) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", process.port))
    life.app._plane.close()
    life.app._process.close()


async def test_a_reload_takes_whole_effect_and_keeps_connections(
    make_router: MakeRouter, backend: EchoBackend, nats_server: NatsServer
) -> None:
    """SIGHUP: a new generation for the next request, on the same connection; ports come and go."""
    async with alive(make_router) as life:
        await register(life, backend, nats_server.port)
        with await in_thread(Client, life.process.port) as client:
            assert (await in_thread(client.request, HOST)).status == 200
            old_tls = life.process.ssl_port
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                new_tls = free.getsockname()[1]
            await life.reload(ssl_port=new_tls, max_request_header_bytes=2048)
            assert live(life).snapshot.generation == 2
            big = [("X-Big", "x" * 3000)]
            assert (await in_thread(lambda: client.request(HOST, headers=big))).status == 431
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", old_tls))
        socket.create_connection(("127.0.0.1", new_tls)).close()
        assert life.events("config-reloaded")[-1]["generation"] == 2


@pytest.mark.parametrize(
    "changes",
    [{"prot": 1}, {"tls_pem": [tls_pem(authority("server").issue_server("a.example")) | {"private_key": "none"}]}],
    ids=["unknown key", "key"],
)
async def test_a_reload_that_fails_changes_nothing(make_router: MakeRouter, changes: dict[str, Any]) -> None:
    """Attack 25: the old configuration stays, loudly."""
    async with alive(make_router) as life:
        before = live(life).snapshot
        await life.reload(**changes)
        assert live(life).snapshot is before
        assert life.events("config-reload-failed")
        assert life.events("config-problem")
        assert await in_thread(life.process.metric_values, "config_reloads") == {'result="error"': 1}


async def test_a_reload_to_a_port_that_is_taken_changes_nothing(make_router: MakeRouter) -> None:
    """The old ports stay open."""
    async with alive(make_router) as life:
        before = live(life).snapshot
        with socket.socket(socket.AF_INET6) as taken:
            taken.bind(("::", 0))
            taken.listen()
            await life.reload(port=taken.getsockname()[1])
        assert live(life).snapshot is before
        (failed,) = life.events("config-reload-failed")
        assert "in use" in failed["reason"]
        socket.create_connection(("127.0.0.1", life.process.port)).close()


async def test_a_drain_refuses_newcomers_and_lets_requests_finish(
    make_router: MakeRouter, backend: EchoBackend, nats_server: NatsServer
) -> None:
    """Attack 82: bad health first, then no new connections; the request in flight gets its answer; exit status 0."""
    async with alive(make_router) as life:
        await register(life, backend, nats_server.port)
        drained = asyncio.Event()

        def slow(exchange: Any) -> None:
            life.app._loop.call_soon_threadsafe(life.signal, signal.SIGUSR1)
            asyncio.run_coroutine_threadsafe(drained.wait(), life.app._loop).result(10)
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        backend.script(slow)
        answer = asyncio.get_running_loop().create_task(in_thread(get, life.process.port, HOST))
        await life.heard("drain-started")
        await until(lambda: all(one.sock.fileno() < 0 for one in listening(life)), "the closed ports")
        assert await in_thread(life.process.health) == 503
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", life.process.port))
        drained.set()
        response = await answer
        assert (response.status, response.get("connection")) == (200, "close")
        assert await life.ended() == 0


async def test_a_drain_that_takes_too_long_ends_with_1(
    make_router: MakeRouter, backend: EchoBackend, nats_server: NatsServer
) -> None:
    """The deadline is kept, and the exit status says so."""
    async with alive(make_router, drain_timeout="10ms") as life:
        await register(life, backend, nats_server.port)
        backend.script(lambda exchange: exchange.recv())
        asking = asyncio.get_running_loop().create_task(in_thread(_ask, life.process.port))
        await until(lambda: backend.received, "the request at the backend")
        life.signal(signal.SIGUSR1)
        life.signal(signal.SIGUSR1)
        assert await life.ended() == 1
        assert len(life.events("drain-started")) == 1
        assert life.events("drain-deadline-passed")
        await asking


def _ask(port: int) -> None:
    try:
        get(port, HOST)
    except (EOFError, ConnectionError):
        return


async def test_health_is_bad_until_nats_was_heard(make_router: MakeRouter, make_nats: Callable[[], NatsServer]) -> None:
    """The table needs the first connection before traffic may come."""
    server = make_nats()
    server.stop()
    async with alive(make_router, wait_for="router-started", nats=server) as life:
        assert await in_thread(life.process.health) == 503
        await in_thread(server.start)
        await life.heard("router-healthy")
        assert await in_thread(life.process.health) == 200


def test_warnings_of_the_file_are_said_at_the_start(make_router: MakeRouter) -> None:
    """What the operator should know stands in the log."""
    process = make_router(trusted_proxies=None)
    assert "config-warning" in process.stdout
    assert Path(process.directory / "access.log").exists()
