"""Active health checks: who among the registered endpoints is asked when, and who is taken out of the choice for it.

Promise: a check only removes. Registration says who may serve; an endpoint of the table that fails `unhealthy_threshold` checks
in a row is not chosen until `healthy_threshold` in a row have passed, and nothing else is changed: no check adds, renews or
prunes a registration, or lifts another mark. Only what is in the table at that moment and on no deny list is asked. At most
SLOTS checks are under way, at most one begins each GAP; the state is two numbers in each endpoint's pulse and goes with it.
Without `backend_health_check.path` nothing runs. Refuses to know: how one is asked (`backend/probe.py`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final, NamedTuple

from registry.endpoint import Endpoint, Pulse, Route
from router.backend.probe import Result, probe, request
from router.config.sections import BackendHealthCheck
from router.live import Live
from router.observe.log import Logger
from router.observe.metrics import Metrics

SLOTS: Final = 64
"""Checks under way: that many silent endpoints hold up no others, and no more descriptors are taken."""
GAP: Final = 0.002
"""Seconds between two beginnings, so that checks never crowd out requests; more endpoints make a round longer."""
JITTER: Final = 0.1
"""Each wait is up to this share shorter or longer, so that routers that began together do not ask together for ever."""
LOOKED_AT_A_TURN: Final = 500
"""Routes walked over before others have the loop."""


class Place(NamedTuple):
    """Where an endpoint stands in the table; the pulse tells it from a successor at its address."""

    host: str
    path: str
    pulse: Pulse


class HealthChecks:
    """All checks of one router. `unhealthy` counts the endpoints of routes that are out because of them; `judged` is called with
    the host of each route of which an endpoint is out, or back, from now on.
    """

    def __init__(self, live: Live, loop: asyncio.AbstractEventLoop, metrics: Metrics, log: Logger) -> None:
        self.unhealthy = 0
        self.judged: Callable[[str], None] = _nobody_asks
        self._live = live
        self._loop = loop
        self._metrics = metrics
        self._log = log
        self._changed = asyncio.Event()
        self._slots = asyncio.Semaphore(SLOTS)
        self._phase = random.random()  # noqa: S311
        self._ever_on = False

    def settings_changed(self) -> None:
        """A new configuration is in force."""
        self._changed.set()

    async def run(self) -> None:
        """Round after round, as the configuration of the moment says; for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                settings = self._settings
                self._ever_on |= settings.on
                targets = await self._targets(settings) if self._ever_on else []
                if not settings.on:
                    self._ever_on = False
                    await self._changed.wait()
                else:
                    await self._round(settings, targets, group)

    @property
    def _settings(self) -> BackendHealthCheck:
        return self._live.snapshot.config.backend_health_check

    async def _targets(self, settings: BackendHealthCheck) -> list[list[Place]]:
        """What to ask, one item an endpoint whatever the number of its routes; what is not asked any more is let back in."""
        found: dict[tuple[str, ...], list[Place]] = {}
        unhealthy = 0
        for number, route in enumerate(self._live.table, 1):
            wanted = settings.wants(route.host)
            for endpoint in route.pool.endpoints:
                pulse = endpoint.pulse
                if wanted:
                    unhealthy += pulse.unhealthy
                    found.setdefault(_identity(endpoint), []).append(Place(route.host, route.path, pulse))
                elif pulse.unhealthy:
                    pulse.lift()
            if number % LOOKED_AT_A_TURN == 0:
                await asyncio.sleep(0)
        self.unhealthy = unhealthy
        targets = list(found.values())
        first = int(self._phase * len(targets))
        return targets[first:] + targets[:first]

    async def _round(self, settings: BackendHealthCheck, targets: list[list[Place]], group: asyncio.TaskGroup) -> None:
        """Ask all, spread over the interval; ends early when the settings change."""
        wait = settings.interval / max(len(targets), 1)
        for places in targets:
            await self._slots.acquire()
            group.create_task(self._check(places, settings))
            if await self._settled(max(wait * random.uniform(1 - JITTER, 1 + JITTER), GAP)):  # noqa: S311
                return
        if not targets:
            await self._settled(wait)

    async def _settled(self, seconds: float) -> bool:
        """Wait; True as soon as the settings may have changed."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _check(self, places: list[Place], settings: BackendHealthCheck) -> None:
        """Ask one endpoint, if it is still there, and take its answer to heart, if it is still asked for."""
        try:
            here = self._here(places)
            if not here:
                return
            route, endpoint = here[0]
            snapshot = self._live.snapshot
            until = self._loop.time() + settings.timeout
            question = request(route.host, settings.path)
            http2 = snapshot.http2.limits if snapshot.http2 is not None else None
            result = await probe(snapshot.dialer, endpoint, question, snapshot.response_limits, until, http2)
        finally:
            self._slots.release()
        self._metrics.backend_health_checks.labels(result.name).inc()
        if result.says_something and self._settings == settings:
            self._judge(here, result, settings)

    def _here(self, places: list[Place]) -> list[tuple[Route, Endpoint]]:
        """Those places where the endpoint still is, and on no deny list."""
        live = self._live
        found = []
        for host, path, pulse in places:
            route = live.table.lookup(host, path or "/")
            if route is None or (route.host, route.path) != (host, path):
                continue
            today = live.snapshot.admitted(route).pool.endpoints
            found += [(route, endpoint) for endpoint in today if endpoint.pulse is pulse]
        return found

    def _judge(self, here: list[tuple[Route, Endpoint]], result: Result, settings: BackendHealthCheck) -> None:
        needed = settings.healthy_threshold if result.passed else settings.unhealthy_threshold
        changed = [(route, endpoint) for route, endpoint in here if endpoint.pulse.checked(passed=result.passed, needed=needed)]
        if not changed:
            return
        self.unhealthy += -len(changed) if result.passed else len(changed)
        for host in {route.host for route, _ in changed}:
            self.judged(host)
        route, endpoint = changed[0]
        shown = {"address": endpoint.address, "app": endpoint.app, "route": route.key, "routes": len(changed)}
        if result.passed:
            self._log.info("backend-healthy", checks=needed, **shown)
        else:
            self._log.warning("backend-unhealthy", checks=needed, result=result.name, detail=result.detail, **shown)


def _identity(endpoint: Endpoint) -> tuple[str, ...]:
    """Who would be asked: one that differs in any of these is another."""
    return endpoint.address, str(endpoint.tls), endpoint.san, endpoint.instance_id, endpoint.app


def _nobody_asks(_: str) -> None:
    """Who serves in this process sees it in the pulses."""
