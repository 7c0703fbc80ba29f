"""The control side of L7: what is registered, who is healthy, and what the operator may look at.

Promise: one a router, in the process that the operator started, whether connections are served there or in workers; imported
only where `l7.enabled` is true. A reload is prepared as a whole before any of it takes effect. Refuses to know connections.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Sequence
from operator import attrgetter

from authz.decide import unenforced
from registry.active_apps import ActiveApps
from registry.endpoint import Endpoint, Pulse
from registry.ledger import Change, Ledger, What
from registry.problems import Problem
from registry.subscriber_nats import Subscriber
from registry.table import RouteTable
from router import parts
from router.config.compile import compile_config
from router.config.compile_l4 import held_hosts, static_routes
from router.config.model import Config
from router.health_checks import HealthChecks
from router.inspect.handlers import inspect_handlers
from router.l7_seam import L7Seam
from router.live import Live, Snapshot
from router.observe.endpoints import Handler, routes_handlers
from router.observe.registry_counts import RegistryCounts
from router.observe.tap import Tap
from router.process import Process


class L7Control:
    """The registry, the checks of backends, the two snapshots. `published` is called after each change of the routes;
    `in_flight` says how many requests an endpoint has.
    """

    def __init__(self, config: Config, process: Process) -> None:
        """Raises CompileError when the configuration cannot be built."""
        self._process = process
        self._clock = process.loop.time
        self._log = process.log
        self.live = Live(compile_config(config, 1, process.loop, process.wheel), RouteTable())
        self.published: Callable[[], None] = _nobody
        self.in_flight: Callable[[Pulse], int] = attrgetter("in_flight")
        self._ledger = Ledger(parts.ledger_settings(config), first_turn=lambda: random.randrange(256))  # noqa: S311
        self._active = ActiveApps() if config.publish_active_apps_interval else None
        self._subscriber = self._make_subscriber(config)
        self._hold(config)
        self.live.table = self._ledger.publish()
        self._tap = Tap()
        self.health_checks = HealthChecks(self.live, process.loop, process.metrics, process.log.named("health-check"))
        self._set_sources()

    @property
    def seam(self) -> L7Seam:
        """What the data side is given of this."""
        return L7Seam(self.live, self._prune, self._tap, self._active)

    def work(self) -> tuple[Coroutine[None, None, None], ...]:
        """What runs as long as the process."""
        return self._subscriber.run(), self.health_checks.run()

    async def ready(self) -> None:
        """The first connection to NATS stands."""
        await self._subscriber.first_connection.wait()

    def handlers(self, credentials: tuple[str, str], warnings: Callable[[], Sequence[Problem]]) -> dict[str, Handler]:
        """What the port of the route table answers."""
        handlers = routes_handlers(*credentials, lambda: self.live.table)
        return handlers | inspect_handlers(
            *credentials, self.live, self._tap, warnings, self._clock, in_flight=lambda pulse: self.in_flight(pulse)
        )

    def prepare(self, config: Config) -> Snapshot:
        """The next configuration, built but not in force. Raises CompileError."""
        old = self.live.snapshot
        return compile_config(config, old.generation + 1, self._process.loop, self._process.wheel, old)

    def adopt(self, snapshot: Snapshot) -> None:
        """From now on; nothing here can fail."""
        self.live.adopt(snapshot)
        held = self._hold(snapshot.config)
        if held.routing:
            self._subscriber.publish_soon(held)
        self.health_checks.settings_changed()

    # ---- the registry

    def _hold(self, config: Config) -> Change:
        """The hosts of static routes belong to the operator, whoever registers them."""
        return self._ledger.hold(held_hosts(static_routes(config)), self._clock())

    def _make_subscriber(self, config: Config) -> Subscriber:
        return Subscriber(
            parts.subscriber_settings(config),
            parts.nats_settings(config),
            self._ledger,
            log=self._log.named("registry"),
            metrics=RegistryCounts(self._process.metrics, config.route_latency_metric_muzzle_duration),
            publish=self._publish,
            clock=self._clock,
            active=self._active,
        )

    def _publish(self, table: RouteTable, changes: Sequence[Change]) -> None:
        self.live.table = table
        self.published()
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
        change = self._ledger.remove_endpoint(key, endpoint, self._clock())
        if change.routing:
            self._log.info("prune-failed-endpoint", route=key, backend=endpoint.address, instance_id=endpoint.instance_id)
            self._subscriber.publish_soon(change)

    def _set_sources(self) -> None:
        metrics, subscriber = self._process.metrics, self._subscriber
        metrics.total_routes.source = lambda: len(self.live.table)
        metrics.ms_since_last_registry_update.source = lambda: int((self._clock() - subscriber.heard_at) * 1000)
        metrics.nats_connected.source = lambda: int(subscriber.connected)
        metrics.buffered_messages.source = lambda: subscriber.buffered
        metrics.total_dropped_messages.source = lambda: subscriber.dropped
        metrics.backends_unhealthy.source = lambda: self.health_checks.unhealthy
        metrics.certificate_expiry_seconds.source = lambda: self.live.snapshot.contexts.expiries()


def _nobody() -> None:
    """Who serves in this process sees the table itself."""
