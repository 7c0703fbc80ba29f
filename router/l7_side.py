"""The L7 side of a router process: everything that HTTP needs, built in one place and nowhere else.

Promise: `app.py` makes one where `l7.enabled` is true, and imports this module only then; nothing that L4 uses imports it. A
reload is prepared as a whole before any of it takes effect. Refuses to know listeners, signals, and the L4 door.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Coroutine, Sequence

from authz.decide import unenforced
from registry.active_apps import ActiveApps
from registry.endpoint import Endpoint
from registry.ledger import Change, Ledger, What
from registry.problems import Problem
from registry.subscriber_nats import Subscriber
from registry.table import RouteTable
from router import parts
from router.config.compile import compile_config
from router.config.compile_l4 import held_hosts, static_routes
from router.config.model import Config
from router.downstream import Downstream
from router.health_checks import HealthChecks
from router.inspect.handlers import inspect_handlers
from router.l7.serve import serve as serve_http
from router.l7.state import Router
from router.l7_door import L7Door
from router.live import Live, Snapshot
from router.net.deadline import Wheel
from router.net.doorstep import Doorstep
from router.net.relay import Relay
from router.observe.access_log import AccessLog
from router.observe.endpoints import Handler, routes_handlers
from router.observe.health import Health
from router.observe.log import Logger
from router.observe.metrics import Metrics
from router.observe.registry_counts import RegistryCounts
from router.observe.tap import Tap


class L7Side:
    """What HTTP needs. `door`: what `connection.py` knows of it; `relays`: upgraded connections, which may never end."""

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        wheel: Wheel,
        doorstep: Doorstep,
        metrics: Metrics,
        log: Logger,
        access_log: AccessLog,
        health: Health,
    ) -> None:
        """Raises CompileError when the configuration cannot be built."""
        self._loop = loop
        self._wheel = wheel
        self._metrics = metrics
        self._log = log
        self.live = Live(compile_config(config, 1, loop, wheel), RouteTable())
        self._ledger = Ledger(parts.ledger_settings(config), first_turn=lambda: random.randrange(256))  # noqa: S311
        self._active = ActiveApps() if config.publish_active_apps_interval else None
        self._subscriber = self._make_subscriber(config)
        self._hold(config)
        self.live.table = self._ledger.publish()
        self._tap = Tap()
        self._health_checks = HealthChecks(self.live, loop, metrics, log.named("health-check"))
        router = Router(
            self.live,
            loop,
            metrics,
            log.named("proxy"),
            access_log,
            health,
            self._prune,
            local_address=socket.gethostname().encode(),
            headers_to_log=tuple(name.lower().encode() for name in config.extra_headers_to_log),
            tap=self._tap,
            active=self._active,
        )
        self.relays: set[Relay] = router.relays

        async def serve(downstream: Downstream) -> None:
            await serve_http(downstream, router)

        self.door = L7Door(self.live, serve, doorstep, wheel, loop, metrics, log.named("connection"))
        router.connect_inside = self.door.connect_inside
        self._set_sources()

    def work(self) -> tuple[Coroutine[None, None, None], ...]:
        """What runs as long as the process."""
        return self._subscriber.run(), self._health_checks.run()

    async def ready(self) -> None:
        """The first connection to NATS stands."""
        await self._subscriber.first_connection.wait()

    def handlers(self, credentials: tuple[str, str], warnings: Callable[[], Sequence[Problem]]) -> dict[str, Handler]:
        """What the port of the route table answers."""
        handlers = routes_handlers(*credentials, lambda: self.live.table)
        return handlers | inspect_handlers(*credentials, self.live, self._tap, warnings, self._loop.time)

    def prepare(self, config: Config) -> Snapshot:
        """The next configuration, built but not in force. Raises CompileError."""
        old = self.live.snapshot
        return compile_config(config, old.generation + 1, self._loop, self._wheel, old)

    def adopt(self, snapshot: Snapshot) -> None:
        """From now on; nothing here can fail."""
        old = self.live.snapshot
        self.live.snapshot = snapshot
        held = self._hold(snapshot.config)
        if held.routing:
            self._subscriber.publish_soon(held)
        self._health_checks.settings_changed()
        self.door.judge_again()
        old.retire(snapshot)
        if snapshot.idle is old.idle and not snapshot.deny.empty:
            snapshot.idle.sweep(snapshot.bars)
        if snapshot.http2 is not None and not snapshot.deny.empty:
            snapshot.http2.sweep(snapshot.bars)

    def close(self) -> None:
        """Idle backend connections go."""
        self.live.snapshot.retire()

    # ---- the registry

    def _hold(self, config: Config) -> Change:
        """The hosts of static routes belong to the operator, whoever registers them."""
        return self._ledger.hold(held_hosts(static_routes(config)), self._loop.time())

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
        self.live.table = table
        names = self.live.snapshot.names.heard
        for change in changes:
            for event in change.events:
                if names is not None and event.what in (What.REGISTERED, What.UPDATED):
                    names.hear(event.endpoint)
                if event.new_options:
                    self._warn_unenforced(table, event.endpoint, event.key)

    def _warn_unenforced(self, table: RouteTable, endpoint: Endpoint, key: str) -> None:
        """R318: options that their domain does not enforce, once a change."""
        host, _, path = key.partition("/")
        domain = self.live.snapshot.domains.claim(host)
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
        metrics.total_routes.source = lambda: len(self.live.table)
        metrics.ms_since_last_registry_update.source = lambda: int((self._loop.time() - subscriber.heard_at) * 1000)
        metrics.nats_connected.source = lambda: int(subscriber.connected)
        metrics.buffered_messages.source = lambda: subscriber.buffered
        metrics.total_dropped_messages.source = lambda: subscriber.dropped
        metrics.websocket_open.source = lambda: len(self.relays)
        metrics.backends_unhealthy.source = lambda: self._health_checks.unhealthy
        metrics.certificate_expiry_seconds.source = lambda: self.live.snapshot.contexts.expiries()
