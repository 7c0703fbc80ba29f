"""The composition root of the router's process: builds every part, starts it, reloads it, drains it.

Promise: `App.run` returns 0 after a drain or a stop and 1 when the drain deadline was passed; it raises only before anything
listens (a port that is taken). A reload either takes whole effect for new requests and handshakes, or none, and says so
loudly; connections are kept. Who serves them is a `Plane`: this process itself, or workers (`router/workers`); all that is said
here holds for both.

Signals, as GoRouter's: SIGUSR1 drains, SIGTERM and SIGINT stop at once, SIGHUP reloads.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from registry.problems import Problem
from router import parts
from router.config.compile_error import CompileError
from router.config.load import load
from router.config.model import Config
from router.data_side import DataSide, Prepared
from router.limits import Limits
from router.listening import take_or_bind
from router.net import systemd
from router.net.listener import bind
from router.observe.endpoints import Handler, health_handlers, metrics_handlers
from router.observe.health import Health
from router.observe.line_lock import LineLock
from router.observe.status import StatusServer, tls_context
from router.observe.varz import older_handlers
from router.process import Process

if TYPE_CHECKING:
    from router.l7_control import L7Control


class Plane(Protocol):
    """Who accepts connections and serves them."""

    @property
    def ports(self) -> list[int]:
        """Each once."""

    async def start(self, inherited: MutableMapping[int, socket.socket]) -> None:
        """Listen; of `inherited` what is used is taken. Raises OSError and CompileError."""

    def open(self) -> None:
        """Accept."""

    async def prepare(self, config: Config, *, ports: bool) -> None:
        """All of the next configuration that can fail; `ports` False: they stay as they are. Raises OSError, CompileError."""

    def adopt(self) -> None:
        """What was prepared is in force, as it is here already. Cannot fail."""

    def render(self) -> bytes | Awaitable[bytes]:
        """What a scrape reads."""

    async def drain(self, seconds: float) -> bool:
        """No new connections; those that are open get this long. True: all have ended."""

    async def stop(self) -> None:
        """Every connection ends now."""

    def close(self) -> None:
        """The last step of all."""


class OneProcess:
    """This very process does."""

    def __init__(self, config: Config, process: Process, health: Health, l7: L7Control | None) -> None:
        """Raises OSError when the access log cannot be opened."""
        self._metrics = process.metrics
        self._config = config
        self.data = DataSide(config, process, health, l7.seam if l7 is not None else None)
        self._prepared: Prepared | None = None

    @property
    def ports(self) -> list[int]:
        return self.data.listening.ports

    async def start(self, inherited: MutableMapping[int, socket.socket]) -> None:
        self.data.adopt(self.data.prepare(self._config, take_or_bind(inherited)))

    def open(self) -> None:
        self.data.listening.open()

    async def prepare(self, config: Config, *, ports: bool) -> None:
        self._prepared = self.data.prepare(config, bind if ports else None)

    def adopt(self) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is None:
            return
        self.data.adopt(prepared)
        if prepared.sockets is not None:
            self.open()

    def render(self) -> bytes:
        return self._metrics.render()

    async def drain(self, seconds: float) -> bool:
        return await self.data.drain(seconds)

    async def stop(self) -> None:
        await self.data.stop()

    def close(self) -> None:
        self.data.close()


MakePlane = Callable[[Config, Process, Health, "L7Control | None"], Plane]


class App:
    """One router."""

    def __init__(
        self,
        path: Path,
        config: Config,
        warnings: Sequence[Problem],
        loop: asyncio.AbstractEventLoop,
        make_plane: MakePlane = OneProcess,
    ) -> None:
        """Raises CompileError when the configuration cannot be built, OSError when the access log cannot be opened."""
        self._path = path
        self._loop = loop
        self._process = Process(config, loop, LineLock.create() if config.worker_count else None)
        self._log = self._process.log
        self._metrics = self._process.metrics
        self._health = Health()
        self._config = config
        self._generation = 1
        self._l7 = self._make_l7(config) if config.l7.enabled else None
        self._plane = make_plane(config, self._process, self._health, self._l7)
        self._status: list[StatusServer] = []
        self._stopping = asyncio.Event()
        self._draining = False
        self._reload_due = self._reloading = False
        self._exit_status = 0
        self._warnings = tuple(warnings)
        self._say_warnings(warnings)

    def _make_l7(self, config: Config) -> L7Control:
        """The one place from which the control side of L7 is loaded. Raises CompileError."""
        from router.l7_control import L7Control

        return L7Control(config, self._process)

    # ---- the life

    async def run(self) -> int:
        """Serve until told to stop; returns the exit status. Raises OSError when a port cannot be had."""
        config = self._config
        try:
            await self._listen(config)
        except BaseException:
            await self._plane.stop()
            raise
        self._plane.open()
        for work in self._l7.work() if self._l7 is not None else ():
            self._process.spawn(work)
        self._process.spawn(self._become_healthy(config))
        self._handle_signals()
        self._log.info("router-started", ports=self._plane.ports, generation=self._generation)
        if not config.load_balancer_healthy_threshold:
            systemd.notify("READY=1")
        try:
            await self._stopping.wait()
        finally:
            systemd.notify("STOPPING=1")
            await self._close()
        return self._exit_status

    async def _listen(self, config: Config) -> None:
        """Every port. Raises OSError."""
        inherited = systemd.inherited_sockets(os.environ)
        await self._plane.start(inherited)
        for sock in inherited.values():  # of ports that the configuration does not want
            sock.close()
        await self._start_status(config)

    async def _become_healthy(self, config: Config) -> None:
        """The table needs the first connection and a round of registrations before traffic may come."""
        if self._l7 is not None:
            await self._l7.ready()
            await asyncio.sleep(config.start_response_delay_interval)
        self._health.started()
        self._log.info("router-healthy", routes=int(self._metrics.total_routes.source()))
        if config.load_balancer_healthy_threshold:
            await asyncio.sleep(config.load_balancer_healthy_threshold)
            systemd.notify("READY=1")

    async def _close(self) -> None:
        self._health.degrade()
        await self._plane.stop()
        await self._process.end_tasks()
        for server in self._status:
            await server.close()
        self._log.info("router-stopped", exit_status=self._exit_status)
        self._plane.close()
        self._process.close()

    async def _drain(self) -> None:
        """Bad health first, so that balancers turn away; then no new connections; then the requests in flight get their time."""
        limits = Limits.from_config(self._config)
        self._health.degrade()
        self._log.info("drain-started", wait=limits.drain_wait, timeout=limits.drain_deadline)
        await asyncio.sleep(limits.drain_wait)
        if not await self._plane.drain(limits.drain_deadline):
            self._exit_status = 1
        self._stopping.set()

    # ---- signals

    def _handle_signals(self) -> None:
        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self._stopping.set,
            signal.SIGINT: self._stopping.set,
            signal.SIGUSR1: self._start_drain,
            signal.SIGHUP: self._start_reload,
        }
        for number, handler in handlers.items():
            self._loop.add_signal_handler(number, handler)

    def _start_drain(self) -> None:
        if not self._draining:
            self._draining = True
            self._process.spawn(self._drain())

    def _start_reload(self) -> None:
        self._reload_due = True
        if not self._reloading:
            self._reloading = True
            self._process.spawn(self._reload_while_due())

    async def _reload_while_due(self) -> None:
        """One at a time, so that an older file never overtakes a newer one."""
        try:
            while self._reload_due:
                self._reload_due = False
                await self._reload()
        finally:
            self._reloading = False

    async def _reload(self) -> None:
        """The file again, through the same funnel as at the start; on any error the old configuration stays."""
        systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            loaded = await self._loop.run_in_executor(None, load, self._path)
            if loaded.config is None:
                for problem in loaded.problems:
                    self._log.error("config-problem", **problem.as_json())
                self._reload_failed("the configuration has problems")
                return
            self._say_warnings(loaded.warnings)
            await self._adopt(loaded.config)
            self._warnings = tuple(loaded.warnings)
        except (CompileError, OSError) as error:
            self._reload_failed(str(error))
        except Exception as error:
            self._reload_failed(f"{type(error).__name__}: {error}")
            raise
        finally:
            systemd.notify("READY=1")

    def _reload_failed(self, why: str) -> None:
        self._metrics.config_reloads.labels("error").inc()
        self._log.error("config-reload-failed", reason=why, generation=self._generation)

    async def _adopt(self, config: Config) -> None:
        """Build everything, then swap: nothing of the old configuration is touched before nothing can fail any more."""
        old = self._config
        snapshot = self._l7.prepare(config) if self._l7 is not None else None
        await self._plane.prepare(config, ports=not self._draining)
        self._config, self._generation = config, self._generation + 1
        if self._l7 is not None and snapshot is not None:
            self._l7.adopt(snapshot)
        self._plane.adopt()
        self._process.adopt(config)
        late = parts.needs_restart(old, config)
        if late:
            self._log.warning("config-needs-restart", changed=late)
        self._metrics.config_reloads.labels("ok").inc()
        self._log.info("config-reloaded", generation=self._generation)

    # ---- parts

    async def _start_status(self, config: Config) -> None:
        """Health, the route table and the metrics, each on its own port. Raises OSError."""
        status = config.status
        credentials = status.user, status.password.get_secret_value()
        health = health_handlers(self._health)
        if status.enable_deprecated_varz_healthz_endpoints:
            started = self._loop.time()
            health |= older_handlers(credentials, self._health, self._metrics, config.index, lambda: self._loop.time() - started)
        if status.enable_nontls_health_checks and status.port:
            await self._serve_status(health, status.host, status.port)
        if status.tls.certificate:
            await self._serve_status(
                health,
                status.host,
                status.tls.port,
                status.tls.certificate,
                status.tls.key.get_secret_value(),
            )
        if status.routes.port and self._l7 is not None:
            handlers = self._l7.handlers(credentials, lambda: self._warnings)
            await self._serve_status(handlers, "127.0.0.1", status.routes.port)
        address = config.metrics_address
        if address is not None:
            prometheus = config.prometheus
            await self._serve_status(
                metrics_handlers(self._plane.render, config.metrics.path), *address,
                prometheus.certificate, prometheus.private_key.get_secret_value(), prometheus.client_ca,
            )  # fmt: skip

    async def _serve_status(
        self,
        handlers: dict[str, Handler],
        host: str,
        port: int,
        certificate: str = "",
        key: str = "",
        client_ca: str = "",
    ) -> None:
        context = None
        if certificate:
            context = tls_context(certificate.encode(), key.encode(), client_ca.encode() if client_ca else None)
        server = StatusServer(handlers)
        await server.start(host, port, context)
        self._status.append(server)

    def _say_warnings(self, warnings: Sequence[Problem]) -> None:
        for warning in warnings:
            self._log.warning("config-warning", **warning.as_json())
