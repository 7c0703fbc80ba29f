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
import random
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Final

from authz.decide import unenforced
from registry.active_apps import ActiveApps
from registry.endpoint import Endpoint
from registry.ledger import Change, Ledger, What
from registry.problems import Problem
from registry.subscriber_nats import Subscriber
from registry.table import RouteTable
from router import parts
from router.config.compile import CompileError, compile_config
from router.config.load import load
from router.config.model import Config
from router.connection import Connections
from router.downstream import Downstream
from router.health_checks import HealthChecks
from router.inspect.handlers import inspect_handlers
from router.l7.serve import serve as serve_http
from router.l7.state import Router
from router.live import Live
from router.net import systemd
from router.net.budget import Budget
from router.net.deadline import Wheel
from router.net.listener import Listener, bind
from router.observe.endpoints import Handler, health_handlers, metrics_handlers, routes_handlers
from router.observe.health import Health
from router.observe.log import LEVELS, LibraryHandler, Logger, Output
from router.observe.metrics import Metrics
from router.observe.registry_counts import RegistryCounts
from router.observe.sink import DescriptorTarget, Sink
from router.observe.status import StatusServer, tls_context
from router.observe.tap import Tap
from router.observe.varz import older_handlers

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
        snapshot = compile_config(config, 1, loop, self._wheel)
        self._live = Live(snapshot, RouteTable())
        self._access_log = parts.access_log(config, stdout)
        self._ledger = Ledger(parts.ledger_settings(config), first_turn=lambda: random.randrange(1 << 16))  # noqa: S311
        self._active = ActiveApps() if config.publish_active_apps_interval else None
        self._subscriber = self._make_subscriber(config)
        self._tap = Tap()
        self._health_checks = HealthChecks(self._live, loop, self._metrics, self._log.named("health-check"))
        router = Router(
            self._live,
            loop,
            self._metrics,
            self._log.named("proxy"),
            self._access_log,
            self._health,
            self._prune,
            local_address=socket.gethostname().encode(),
            headers_to_log=tuple(name.lower().encode() for name in config.extra_headers_to_log),
            tap=self._tap,
            active=self._active,
        )

        self._relays = router.relays

        async def serve(downstream: Downstream) -> None:
            await serve_http(downstream, router)

        self._connections = Connections(self._live, serve, self._wheel, loop, self._metrics, self._log.named("connection"))
        router.connect_inside = self._connections.connect_inside
        self._listeners: dict[tuple[str, int], Listener] = {}
        self._status: list[StatusServer] = []
        self._stopping = asyncio.Event()
        self._draining = False
        self._reload_due = self._reloading = False
        self._exit_status = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._warnings = tuple(warnings)
        self._say_warnings(warnings)
        self._set_sources()

    # ---- the life

    async def run(self) -> int:
        """Serve until told to stop; returns the exit status. Raises OSError when a port cannot be had."""
        config = self._live.snapshot.config
        inherited = systemd.inherited_sockets(os.environ)
        self._sync_listeners(config, inherited)
        for sock in inherited.values():  # of ports that the configuration does not want
            sock.close()
        await self._start_status(config)
        for listener in self._listeners.values():
            listener.open()
        self._spawn(self._subscriber.run())
        self._spawn(self._health_checks.run())
        self._spawn(self._become_healthy(config))
        self._handle_signals()
        flusher = self._loop.call_later(FLUSH_SECONDS, self._flush)
        self._log.info(
            "router-started",
            ports=[port for _, port in self._listeners],
            generation=self._live.snapshot.generation,
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
        await self._subscriber.first_connection.wait()
        await asyncio.sleep(config.start_response_delay_interval)
        self._health.started()
        self._log.info("router-healthy", routes=len(self._live.table))
        if config.load_balancer_healthy_threshold:
            await asyncio.sleep(config.load_balancer_healthy_threshold)
            systemd.notify("READY=1")

    async def _close(self) -> None:
        self._health.degrade()
        for listener in self._listeners.values():
            listener.close()
        self._connections.abort()
        await self._connections.wait_closed(self._loop.time() + 1.0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._status:
            await server.close()
        self._live.snapshot.retire()
        self._wheel.close()
        self._log.info("router-stopped", exit_status=self._exit_status)
        self._access_log.close(SINK_SECONDS)
        self._stdout.close(SINK_SECONDS)

    async def _drain(self) -> None:
        """Bad health first, so that balancers turn away; then no new connections; then the requests in flight get their time."""
        limits = self._live.snapshot.limits
        self._health.degrade()
        self._log.info("drain-started", wait=limits.drain_wait, timeout=limits.drain_deadline)
        await asyncio.sleep(limits.drain_wait)
        for listener in self._listeners.values():
            listener.close()
        self._connections.close_idle()
        if not await self._connections.wait_closed(self._loop.time() + limits.drain_deadline) and not await self._end_upgrades():
            self._exit_status = 1
            self._log.error("drain-deadline-passed", connections=len(self._connections))
        self._stopping.set()

    async def _end_upgrades(self) -> bool:
        """The drain's deadline: a connection that has switched to another protocol never ends by itself. True: it was all."""
        relays = list(self._relays)
        if not relays:
            return False
        self._log.info("upgrades-drained", connections=len(relays))
        for relay in relays:
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
        self._log.error("config-reload-failed", reason=why, generation=self._live.snapshot.generation)

    def _adopt(self, config: Config) -> None:
        """Build everything, then swap: nothing of the old configuration is touched before nothing can fail any more."""
        old = self._live.snapshot
        snapshot = compile_config(config, old.generation + 1, self._loop, self._wheel, old)
        self._access_log.reopen()
        if not self._draining:
            self._sync_listeners(config, {})
        self._live.snapshot = snapshot
        self._health_checks.settings_changed()
        self._connections.judge_again()
        old.retire(snapshot)
        if snapshot.idle is old.idle and not snapshot.deny.empty:
            snapshot.idle.sweep(snapshot.bars)
        if snapshot.http2 is not None and not snapshot.deny.empty:
            snapshot.http2.sweep(snapshot.bars)
        for listener in self._listeners.values():
            listener.budget.limits = parts.budget_limits(snapshot.limits)
            listener.open()
        self._output.level = LEVELS[config.logging.level]
        late = parts.needs_restart(old.config, config)
        if late:
            self._log.warning("config-needs-restart", changed=late)
        self._metrics.config_reloads.labels("ok").inc()
        self._log.info("config-reloaded", generation=snapshot.generation)

    # ---- parts

    def _sync_listeners(self, config: Config, inherited: dict[int, socket.socket]) -> None:
        """Listen on exactly the configured ports: the new ones are bound before an old one is closed. Raises OSError."""
        wanted: dict[tuple[str, int], bool] = {}
        if not config.disable_http:
            wanted["http", config.port] = False
        if config.enable_ssl:
            wanted["https", config.ssl_port] = True
        bound: dict[tuple[str, int], Listener] = {}
        try:
            for key, tls in wanted.items():
                if key not in self._listeners:
                    bound[key] = self._make_listener(
                        key[0], inherited.pop(key[1]) if key[1] in inherited else bind("::", key[1]), tls=tls
                    )
        except OSError:
            for listener in bound.values():
                listener.close()
            raise
        for key in self._listeners.keys() - wanted.keys():
            self._listeners.pop(key).close()
        self._listeners.update(bound)

    def _make_listener(self, name: str, sock: socket.socket, *, tls: bool) -> Listener:
        snapshot = self._live.snapshot
        shed = self._metrics.connections_shed
        return Listener(
            name,
            sock,
            tls=tls,
            budget=Budget(parts.budget_limits(snapshot.limits)),
            loop=self._loop,
            serve=self._connections.accept,
            shed=lambda reason: shed.labels(reason).inc(),
            pause_seconds=snapshot.limits.accept_pause,
        )

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
        if status.routes.port:
            handlers = routes_handlers(*credentials, lambda: self._live.table)
            handlers |= inspect_handlers(*credentials, self._live, self._tap, lambda: self._warnings, self._loop.time)
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

    def _make_subscriber(self, config: Config) -> Subscriber:
        return Subscriber(
            parts.subscriber_settings(config),
            parts.nats_settings(config),
            self._ledger,
            log=self._log.named("registry"),
            metrics=RegistryCounts(self._metrics, config.route_latency_metric_muzzle_duration),
            publish=self._publish,
            clock=self._loop.time,
            active=self._active,
        )

    def _publish(self, table: RouteTable, changes: Sequence[Change]) -> None:
        self._live.table = table
        names = self._live.snapshot.names.heard
        for change in changes:
            for event in change.events:
                if names is not None and event.what in (What.REGISTERED, What.UPDATED):
                    names.hear(event.endpoint)
                if event.new_options:
                    self._warn_unenforced(table, event.endpoint, event.key)

    def _warn_unenforced(self, table: RouteTable, endpoint: Endpoint, key: str) -> None:
        """R318: options that their domain does not enforce, once a change."""
        host, _, path = key.partition("/")
        domain = self._live.snapshot.domains.claim(host)
        route = table.lookup(host, f"/{path}")
        warning = unenforced(domain, route.pool.policy) if route is not None and route.key == key else None
        if warning is not None:
            self._log.named("registry").warning("route-options-not-enforced", route=key, app=endpoint.app, warning=warning)

    def _prune(self, key: str, endpoint: Endpoint) -> None:
        """A TLS endpoint that is not who it said leaves the table at once (contract f.2)."""
        change = self._ledger.remove_endpoint(key, endpoint, self._loop.time())
        if change.routing:
            self._log.info("prune-failed-endpoint", route=key, backend=endpoint.address, instance_id=endpoint.instance_id)
            self._subscriber.publish_soon(change)

    def _set_sources(self) -> None:
        metrics, subscriber = self._metrics, self._subscriber
        metrics.total_routes.source = lambda: len(self._live.table)
        metrics.ms_since_last_registry_update.source = lambda: int((self._loop.time() - subscriber.heard_at) * 1000)
        metrics.nats_connected.source = lambda: int(subscriber.connected)
        metrics.buffered_messages.source = lambda: subscriber.buffered
        metrics.total_dropped_messages.source = lambda: subscriber.dropped
        metrics.websocket_open.source = lambda: len(self._relays)
        metrics.connections_open.source = lambda: len(self._connections)
        metrics.access_log_dropped.source = lambda: self._access_log.dropped
        metrics.backends_unhealthy.source = lambda: self._health_checks.unhealthy
        metrics.log_dropped.source = lambda: self._stdout.dropped
        metrics.log_pending_bytes.source = lambda: self._stdout.pending
        metrics.certificate_expiry_seconds.source = lambda: self._live.snapshot.contexts.expiries()

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
