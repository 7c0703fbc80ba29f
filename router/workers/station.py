"""What a worker is made of once it knows its configuration: both doors, the two snapshots, and what it tells of itself.

Promise: built whole or not at all; `prepare` builds the next configuration without touching what is in force. Refuses to know
when it is told what (worker.py).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from registry.active_apps import ActiveApps
from registry.endpoint import Endpoint
from router.config.model import Config
from router.data_side import DataSide
from router.data_side import Prepared as DataPrepared
from router.listening import Take
from router.observe.health import Health
from router.observe.line_lock import LineLock
from router.process import Process
from router.workers.active_apps import APPS_A_MESSAGE
from router.workers.heard_names import Named, learn
from router.workers.merge import Growth
from router.workers.messages import Apps, Prune, Tapped, Told, Up
from router.workers.packed_route import Makers
from router.workers.routes import RouteReplica
from router.workers.shared import Shared
from router.workers.tap_pipe import Asked, WorkerTap

if TYPE_CHECKING:
    from router.l7_seam import L7Seam
    from router.live import Live, Snapshot

Say = Callable[[Up], None]


class Locks(NamedTuple):
    """Who writes a line: one at a time of all processes, for each place where lines go."""

    stdout: LineLock
    access_log: LineLock


class Next(NamedTuple):
    """A configuration that can be adopted. `snapshot` None: L7 is switched off."""

    generation: int
    snapshot: Snapshot | None
    data: DataPrepared


class Station:
    """One worker's. `log`: its component log; `spawn`: starts what runs beside the rest, until it stops."""

    def __init__(
        self, config: Config, generation: int, loop: asyncio.AbstractEventLoop, worker: int, locks: Locks, shared: Shared,
        health: Health, say: Say,
    ) -> None:  # fmt: skip
        """Raises CompileError and OSError."""
        self._say = say
        self._shared = shared
        self._process = Process(config, loop, locks.stdout, worker)
        self.log = self._process.log
        self.spawn = self._process.spawn
        self._growth = Growth(self._process.metrics)
        self._active = ActiveApps() if config.publish_active_apps_interval else None
        self._tap = WorkerTap(lambda event: say(Tapped(event)), loop.time)
        makers = Makers(shared.pulse, shared.bucket, lambda: random.randrange(1 << 16))  # noqa: S311
        self._replica = RouteReplica(makers, loop.time)
        self._live: Live | None = None
        seam = self._make_seam(config, generation) if config.l7.enabled else None
        self._data = DataSide(config, self._process, health, seam, shared, locks.access_log)

    def _make_seam(self, config: Config, generation: int) -> L7Seam:
        """The one place from which L7 is loaded here. Raises CompileError."""
        from router.config.compile import compile_config
        from router.l7_seam import L7Seam
        from router.live import Live

        snapshot = compile_config(config, generation, self._process.loop, self._process.wheel)
        self._live = Live(snapshot, self._replica.table)
        return L7Seam(self._live, self._prune, self._tap, self._active)

    def _prune(self, key: str, endpoint: Endpoint) -> None:
        self._say(Prune(key, endpoint.address, endpoint.instance_id))

    def prepare(self, config: Config, generation: int, take: Take | None) -> Next:
        """The next configuration, not in force. Raises CompileError and OSError."""
        snapshot = None
        if self._live is not None:
            from router.config.compile import compile_config

            before = self._live.snapshot
            snapshot = compile_config(config, generation, self._process.loop, self._process.wheel, before)
        return Next(generation, snapshot, self._data.prepare(config, take))

    def adopt(self, following: Next) -> None:
        """From now on."""
        if self._live is not None and following.snapshot is not None:
            self._live.adopt(following.snapshot)
        self._data.adopt(following.data)
        self._process.adopt(following.data.config)

    def open(self) -> None:
        """Accept, on every port."""
        self._data.listening.open()

    def follow(self, routes: bytes) -> None:
        """A piece or a change of the table. Raises FeedError."""
        table = self._replica.apply(routes)
        if table is not None and self._live is not None:
            self._live.table = table

    def learn(self, named: Named) -> None:
        """Names, for the log."""
        if self._live is not None and self._live.snapshot.names.heard is not None:
            learn(self._live.snapshot.names.heard, named)

    def seek(self, asked: Iterable[Asked]) -> None:
        """What the tap's streams look for."""
        self._tap.seek(asked)

    def tell(self) -> None:
        """What the numbers grew by, and which apps had requests: one message at least."""
        told = False
        for entries in self._growth.take():
            self._say(Told(entries))
            told = True
        if not told:
            self._say(Told([]))
        for apps in self._active.lists(APPS_A_MESSAGE) if self._active is not None else ():
            self._say(Apps(apps))

    @property
    def drain_seconds(self) -> float:
        """How long a drain may take, by the configuration in force."""
        return self._data.limits.drain_deadline

    async def drain(self, seconds: float) -> bool:
        """See DataSide.drain."""
        return await self._data.drain(seconds)

    async def stop(self) -> None:
        """Every connection ends now."""
        await self._data.stop()
        await self._process.end_tasks()

    def close(self) -> None:
        """The last lines are written, or their time is over."""
        self._data.close()
        self._process.close()
