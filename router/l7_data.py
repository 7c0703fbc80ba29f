"""The data side of L7 in one process: everything that HTTP connections need, built in one place and nowhere else.

Promise: `data_side.py` makes one where `l7.enabled` is true, and imports this module only then; nothing that L4 uses imports it.
Refuses to know where the snapshots come from, listeners, signals, and the L4 door.
"""

from __future__ import annotations

import socket

from router.config.model import Config
from router.downstream import Downstream
from router.l7.serve import serve as serve_http
from router.l7.state import Router
from router.l7_door import L7Door
from router.l7_seam import L7Seam
from router.net.doorstep import Doorstep
from router.net.relay import Relay
from router.observe.access_log import AccessLog
from router.observe.health import Health
from router.process import Process


class L7Data:
    """What HTTP needs. `door`: what `connection.py` knows of it; `relays`: upgraded connections, which may never end."""

    def __init__(
        self, config: Config, process: Process, seam: L7Seam, doorstep: Doorstep, access_log: AccessLog, health: Health
    ) -> None:
        loop, metrics, log = process.loop, process.metrics, process.log
        router = Router(
            seam.live,
            loop,
            metrics,
            log.named("proxy"),
            access_log,
            health,
            seam.prune,
            local_address=socket.gethostname().encode(),
            headers_to_log=tuple(name.lower().encode() for name in config.extra_headers_to_log),
            tap=seam.tap,
            active=seam.active,
        )
        self._live = seam.live
        self.relays: set[Relay] = router.relays

        async def serve(downstream: Downstream) -> None:
            await serve_http(downstream, router)

        self.door = L7Door(seam.live, serve, doorstep, process.wheel, loop, metrics, log.named("connection"))
        router.connect_inside = self.door.connect_inside
        metrics.websocket_open.source = lambda: len(self.relays)

    def adopted(self) -> None:
        """A new configuration is in force."""
        self.door.judge_again()

    def close(self) -> None:
        """Idle backend connections go."""
        self._live.snapshot.retire()
