"""What the registry counts, written into the metrics; children of usual label values are looked up once.

An emitter's `component` tag is its own word: the vectors' bound on children keeps it from growing anything.
"""

from __future__ import annotations

import time

from router.observe.metrics import Metrics


class RegistryCounts:
    """The registry's side of `Metrics`."""

    def __init__(self, metrics: Metrics, muzzle: float = 0.0) -> None:
        self._metrics = metrics
        self._unmuzzled = time.monotonic() + muzzle
        self._heartbeat = metrics.registry_message.labels("", "unmodified")

    def registry_message(self, component: str, action: str) -> None:
        if not component and action == "unmodified":
            self._heartbeat.value += 1
            return
        self._metrics.registry_message.labels(component, action).inc()
        if action == "added":
            self._metrics.routes_registered.inc()

    def unregistry_message(self, component: str) -> None:
        self._metrics.unregistry_message.labels(component).inc()
        self._metrics.routes_unregistered.inc()

    def message_dropped(self, reason: str) -> None:
        self._metrics.nats_messages_dropped.labels(reason).inc()

    def routes_pruned(self, count: int) -> None:
        self._metrics.routes_pruned.inc(count)

    def route_options_rejected(self, reason: str) -> None:
        self._metrics.route_options_rejected.labels(reason).inc()

    def registered_at(self, updated_at_ns: int) -> None:
        """Milliseconds from the platform's change to ours; a clock ahead of ours counts as none. Not in the first `muzzle`
        seconds: what is heard for the first time then was changed long ago.
        """
        if updated_at_ns > 0 and time.monotonic() >= self._unmuzzled:
            self._metrics.route_registration_latency.observe(max(0.0, (time.time_ns() - updated_at_ns) / 1e6))
