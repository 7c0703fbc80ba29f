"""The composition root: builds every part, starts it, reloads it, drains it. Nothing else constructs.

Promise: `App.run` returns 0 after a drain or a stop and 1 when the drain deadline was passed; it raises only before anything
listens (a port that is taken). A reload either takes whole effect for new requests and handshakes, or none, and says so
loudly; connections are kept.

Signals, as GoRouter's: SIGUSR1 drains, SIGTERM and SIGINT stop at once, SIGHUP reloads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from registry.problems import Problem
from router import parts
from router.config.compile_error import CompileError
from router.config.compile_l4 import compile_l4
from router.config.load import load
from router.config.model import Config
from router.connection import Connections
from router.l4.live import L4Live
from router.l4.passthrough import L4Door
from router.l4.pipes import Pipes
from router.l4.relay import Plumbing
from router.limits import Limits
from router.listening import Listening
from router.net import systemd
from router.net.deadline import Wheel
from router.net.doorstep import Doorstep
from router.net.edges import Edges
from router.observe.endpoints import Handler, health_handlers, metrics_handlers
from router.observe.health import Health
from router.observe.log import LEVELS, LibraryHandler, Logger, Output
from router.observe.metrics import Metrics
from router.observe.sink import DescriptorTarget, Sink
from router.observe.status import StatusServer, tls_context
from router.observe.varz import older_handlers

if TYPE_CHECKING:
    from router.l7_side import L7Side

FLUSH_SECONDS: Final = 0.1
SINK_SECONDS: Final = 2.0
DRAINED_SECONDS: Final = 1.0


class App:
    """One router process."""

    def __init__(self, path: Path, config: Config, warnings: Sequence[Problem], loop: asyncio.AbstractEventLoop) -> None:
        """Raises CompileError when the configuration cannot be built, OSError when the access log cannot be opened."""
        self._path = path
        self._loop = loop
        self._wheel = Wheel(loop)
        stdout = Sink(DescriptorTarget(1))
        self._stdout = stdout
        self._output = Output(stdout, LEVELS[config.logging.level], config.logging.format.timestamp)
        self._log = Logger(self._output)
        logging.getLogger().handlers[:] = [LibraryHandler(self._log)]
        self._metrics = Metrics(config.prometheus.meters.bounds(), per_app=config.per_app_prometheus_http_metrics_reporting)
        self._health = Health()
        self._config = config
        self._generation = 1
        self._access_log = parts.access_log(config, stdout)
        self._edges = Edges(loop)
        self._pipes = Pipes()
        self._settings = compile_l4(config)
        self._l4_live = L4Live(self._settings, Limits.from_config(config))
        plumbing = Plumbing(loop, self._wheel, self._edges, self._pipes)
        self._l4 = L4Door(plumbing, self._metrics, self._access_log, self._log.named("l4"))
        doorstep = Doorstep(loop)
        self._l7 = self._make_l7(config, doorstep) if config.l7.enabled else None
        self._connections = Connections(
            self._l4_live,
            self._l4,
            self._l7.door if self._l7 is not None else None,
            doorstep,
            self._edges,
            self._wheel,
            loop,
            self._metrics,
            self._log.named("connection"),
        )
        self._listening = Listening(loop, self._connections.accept, self._metrics, lambda: self._l4_live.limits.accept_pause)
        self._status: list[StatusServer] = []
        self._stopping = asyncio.Event()
        self._draining = False
        self._reload_due = self._reloading = False
        self._exit_status = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._warnings = tuple(warnings)
        self._say_warnings(warnings)
        self._set_sources()

    def _make_l7(self, config: Config, doorstep: Doorstep) -> L7Side:
        """The one place from which L7 is loaded. Raises CompileError."""
        from router.l7_side import L7Side

        return L7Side(config, self._loop, self._wheel, doorstep, self._metrics, self._log, self._access_log, self._health)

    # ---- the life

    async def run(self) -> int:
        """Serve until told to stop; returns the exit status. Raises OSError when a port cannot be had."""
        config = self._config
        inherited = systemd.inherited_sockets(os.environ)
        self._listening.sync(self._settings, inherited)
        for sock in inherited.values():  # of ports that the configuration does not want
            sock.close()
        await self._start_status(config)
        self._listening.open()
        for work in self._l7.work() if self._l7 is not None else ():
            self._spawn(work)
        self._spawn(self._become_healthy(config))
        self._handle_signals()
        flusher = self._loop.call_later(FLUSH_SECONDS, self._flush)
        self._log.info(
            "router-started",
            ports=self._listening.ports,
            generation=self._generation,
        )
        if not config.load_balancer_healthy_threshold:
            systemd.notify("READY=1")
        try:
            await self._stopping.wait()
        finally:
            systemd.notify("STOPPING=1")
            await self._close()
            flusher.cancel()
        return self._exit_status

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
        self._listening.close()
        self._connections.abort()
        await self._connections.wait_closed(self._loop.time() + 1.0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._status:
            await server.close()
        if self._l7 is not None:
            self._l7.close()
        self._edges.close()
        self._pipes.close()
        self._wheel.close()
        self._log.info("router-stopped", exit_status=self._exit_status)
        self._access_log.close(SINK_SECONDS)
        self._stdout.close(SINK_SECONDS)

    async def _drain(self) -> None:
        """Bad health first, so that balancers turn away; then no new connections; then the requests in flight get their time."""
        limits = self._l4_live.limits
        self._health.degrade()
        self._log.info("drain-started", wait=limits.drain_wait, timeout=limits.drain_deadline)
        await asyncio.sleep(limits.drain_wait)
        self._listening.close()
        self._connections.close_idle()
        if not await self._connections.wait_closed(self._loop.time() + limits.drain_deadline) and not await self._end_relays():
            self._exit_status = 1
            self._log.error("drain-deadline-passed", connections=len(self._connections))
        self._stopping.set()

    async def _end_relays(self) -> bool:
        """The drain's deadline: what is passed through, or has switched to another protocol, may never end by itself.

        True: it was all.
        """
        upgrades = list(self._l7.relays) if self._l7 is not None else []
        passed_through = list(self._l4.relays)
        if not upgrades and not passed_through:
            return False
        self._log.info("relays-drained", upgrades=len(upgrades), passed_through=len(passed_through))
        for upgrade in upgrades:
            upgrade.end("drained")
        for relay in passed_through:
            relay.end("drained")
        return await self._connections.wait_closed(self._loop.time() + DRAINED_SECONDS)

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
            self._spawn(self._drain())

    def _start_reload(self) -> None:
        self._reload_due = True
        if not self._reloading:
            self._reloading = True
            self._spawn(self._reload_while_due())

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
            self._adopt(loaded.config)
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

    def _adopt(self, config: Config) -> None:
        """Build everything, then swap: nothing of the old configuration is touched before nothing can fail any more."""
        old = self._config
        snapshot = self._l7.prepare(config) if self._l7 is not None else None
        settings = compile_l4(config if config.l7.enabled == old.l7.enabled else config.model_copy(update={"l7": old.l7}))
        self._access_log.reopen()
        if not self._draining:
            self._listening.sync(settings, {})
        self._config, self._generation = config, self._generation + 1
        self._l4_live.adopt(settings, Limits.from_config(config))
        if self._l7 is not None and snapshot is not None:
            self._l7.adopt(snapshot)
        if not self._draining:
            self._listening.open()
        self._output.level = LEVELS[config.logging.level]
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
                metrics_handlers(self._metrics, config.metrics.path), *address,
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

    def _set_sources(self) -> None:
        metrics = self._metrics
        metrics.connections_open.source = lambda: len(self._connections)
        metrics.l4_open.source = lambda: len(self._l4.relays)
        metrics.access_log_dropped.source = lambda: self._access_log.dropped
        metrics.log_dropped.source = lambda: self._stdout.dropped
        metrics.log_pending_bytes.source = lambda: self._stdout.pending

    def _flush(self) -> None:
        self._access_log.flush()
        if not self._stopping.is_set():
            self._loop.call_later(FLUSH_SECONDS, self._flush)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("task-failed", error=f"{type(error).__name__}: {error}")

    def _say_warnings(self, warnings: Sequence[Problem]) -> None:
        for warning in warnings:
            self._log.warning("config-warning", **warning.as_json())
