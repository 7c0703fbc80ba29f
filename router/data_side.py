"""The data side of a process: what accepts connections and serves them, built in one place and nowhere else.

Promise: `prepare` builds everything that can fail and touches nothing that is in force; `adopt` cannot fail. Connections are
kept. The same in the one process of a small router and in each worker of a large one. Refuses to know where routes and
configurations come from, signals, and the status ports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from router import parts
from router.config.compile_l4 import L4Settings, compile_l4
from router.config.model import Config
from router.connection import Connections
from router.l4.live import L4Live
from router.l4.passthrough import L4Door
from router.l4.pipes import Pipes
from router.l4.relay import Plumbing
from router.limits import Limits
from router.listening import Listening, Sockets, Take
from router.net.budget import OWN, Counters
from router.net.doorstep import Doorstep
from router.net.edges import Edges
from router.observe.health import Health
from router.observe.line_lock import LineLock
from router.process import SINK_SECONDS, Process

if TYPE_CHECKING:
    from router.l7_data import L7Data
    from router.l7_seam import L7Seam

FLUSH_SECONDS: Final = 0.1
DRAINED_SECONDS: Final = 1.0
ABORT_SECONDS: Final = 1.0


class Prepared(NamedTuple):
    """A configuration that can be adopted. `sockets` None: the ports stay as they are."""

    config: Config
    settings: L4Settings
    sockets: Sockets | None


class DataSide:
    """Both doors of one process, its ports and its access log."""

    def __init__(
        self,
        config: Config,
        process: Process,
        health: Health,
        seam: L7Seam | None,
        counters: Counters = OWN,
        lock: LineLock | None = None,
    ) -> None:
        """Raises OSError when the access log cannot be opened. `seam` None: L7 is switched off. `counters`: what limits are kept
        by; `lock`: what those who write the access log have in common.
        """
        loop, wheel, metrics, log = process.loop, process.wheel, process.metrics, process.log
        self._loop = loop
        self._log = log
        self._l7_enabled = config.l7.enabled
        self._access_log = parts.access_log(config, process.stdout, lock)
        self._edges = Edges(loop)
        self._pipes = Pipes()
        self._live = L4Live(compile_l4(config), Limits.from_config(config), counters)
        plumbing = Plumbing(loop, wheel, self._edges, self._pipes)
        self._l4 = L4Door(plumbing, metrics, self._access_log, log.named("l4"))
        doorstep = Doorstep(loop)
        self._l7 = self._make_l7(config, process, seam, doorstep, health) if seam is not None else None
        door = self._l7.door if self._l7 is not None else None
        self._connections = Connections(
            self._live, self._l4, door, doorstep, self._edges, wheel, loop, metrics, log.named("connection")
        )
        self.listening = Listening(loop, self._connections.accept, metrics, lambda: self._live.limits.accept_pause, counters)
        self._flusher = loop.call_later(FLUSH_SECONDS, self._flush)
        metrics.connections_open.source = lambda: len(self._connections)
        metrics.l4_open.source = lambda: len(self._l4.passages)
        metrics.access_log_dropped.source = lambda: self._access_log.dropped

    def _make_l7(self, config: Config, process: Process, seam: L7Seam, doorstep: Doorstep, health: Health) -> L7Data:
        """The one place from which the doors of L7 are loaded."""
        from router.l7_data import L7Data

        return L7Data(config, process, seam, doorstep, self._access_log, health)

    @property
    def limits(self) -> Limits:
        """Those in force."""
        return self._live.limits

    def prepare(self, config: Config, take: Take | None) -> Prepared:
        """What the next configuration needs of this process. `take` None: the ports stay as they are. Raises OSError."""
        l7 = config.l7.model_copy(update={"enabled": self._l7_enabled})  # a change of it needs a restart
        settings = compile_l4(config.model_copy(update={"l7": l7}))
        self._access_log.reopen()
        return Prepared(config, settings, self.listening.prepare(settings, take) if take is not None else None)

    def adopt(self, prepared: Prepared) -> None:
        """From now on; nothing here can fail. L7's snapshot is in force already."""
        if prepared.sockets is not None:
            self.listening.adopt(prepared.settings, prepared.sockets)
        self._live.adopt(prepared.settings, Limits.from_config(prepared.config))
        if self._l7 is not None:
            self._l7.adopted()

    async def drain(self, seconds: float) -> bool:
        """No new connections; what is under way gets this long. True: all of it has ended."""
        self.listening.finish()
        self._connections.close_idle()
        if await self._connections.wait_closed(self._loop.time() + seconds) or await self._end_relays():
            return True
        self._log.error("drain-deadline-passed", connections=len(self._connections))
        return False

    async def _end_relays(self) -> bool:
        """The drain's deadline: what is passed through, or has switched to another protocol, may never end by itself.

        True: it was all.
        """
        upgrades = list(self._l7.relays) if self._l7 is not None else []
        passed_through = list(self._l4.passages)
        if not upgrades and not passed_through:
            return False
        self._log.info("relays-drained", upgrades=len(upgrades), passed_through=len(passed_through))
        for upgrade in upgrades:
            upgrade.end("drained")
        for passage in passed_through:
            passage.end("drained")
        return await self._connections.wait_closed(self._loop.time() + DRAINED_SECONDS)

    async def stop(self) -> None:
        """Every connection ends now."""
        self.listening.close()
        self._connections.abort()
        await self._connections.wait_closed(self._loop.time() + ABORT_SECONDS)
        if self._l7 is not None:
            self._l7.close()
        self._edges.close()
        self._pipes.close()

    def close(self) -> None:
        """The last line of the access log is written, or its time is over."""
        self._flusher.cancel()
        self._access_log.close(SINK_SECONDS)

    def _flush(self) -> None:
        self._access_log.flush()
        self._flusher = self._loop.call_later(FLUSH_SECONDS, self._flush)
