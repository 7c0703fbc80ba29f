"""The part of a router that hears registrations, alone in a process: NATS client, ledger and table, as the router builds them.

Usage: `python -m bench.simulation_supervisor PORT`; a line on stdin is answered by a line of JSON, the state since the last one.
Promises: what it measures costs next to nothing; the time to publish is from the sender's clock reading in the message to the
table that has it. Refuses to know what is simulated.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from registry.connect_nats import NatsSettings
from registry.intake import IntakeLimits
from registry.ledger import Change, Ledger, LedgerSettings, What
from registry.subscriber_nats import Subscriber, SubscriberSettings
from registry.table import RouteTable
from router.observe.log import LEVELS, Logger, Output
from router.observe.metrics import Metrics
from router.observe.registry_counts import RegistryCounts
from router.observe.sink import DescriptorTarget, Sink
from router.process import tune_collector

PAGE_KIB = 4
WATCH_SECONDS = 0.02
LATENCIES = 50_000
"""Of a sample, at most."""
_TIMED = (What.REGISTERED, What.UPDATED)


class _Counts(RegistryCounts):
    """Counts as the router does, and messages that were dealt with."""

    messages = 0

    def registry_message(self, component: str, action: str) -> None:
        self.messages += 1 if action == "unmodified" else 0
        super().registry_message(component, action)

    def registered_at(self, updated_at_ns: int) -> None:
        self.messages += 1
        super().registered_at(updated_at_ns)

    def unregistry_message(self, component: str) -> None:
        self.messages += 1
        super().unregistry_message(component)


class Supervisor:
    """Registrations in, tables out."""

    def __init__(self, port: int, clock: asyncio.AbstractEventLoop) -> None:
        log = Logger(Output(Sink(DescriptorTarget(2)), LEVELS["error"], "rfc3339"))
        self._ledger = Ledger(LedgerSettings(), first_turn=lambda: random.randrange(256))
        self._latencies: list[float] = []
        self._longest_turn = 0.0
        self._counts = _Counts(Metrics(per_app=False))
        self._subscriber = Subscriber(
            SubscriberSettings(max_options=IntakeLimits().max_options * 8),
            NatsSettings((("127.0.0.1", port),)),
            self._ledger,
            log=log,
            metrics=self._counts,
            publish=self._published,
            clock=clock.time,
        )

    async def run(self) -> None:
        """Until stdin ends."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        subscriber = loop.create_task(self._subscriber.run())
        watch = loop.create_task(self._watch(loop))
        while await reader.readline():
            print(json.dumps(self._sample()), flush=True)
        subscriber.cancel()
        watch.cancel()

    def _published(self, table: RouteTable, changes: Sequence[Change]) -> None:
        now = time.time_ns()
        for change in changes:
            for event in change.events:
                if event.what in _TIMED and event.endpoint.updated_at_ns and len(self._latencies) < LATENCIES:
                    self._latencies.append((now - event.endpoint.updated_at_ns) / 1e6)

    async def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """How long the loop had no time for anything else."""
        while True:
            before = loop.time()
            await asyncio.sleep(WATCH_SECONDS)
            self._longest_turn = max(self._longest_turn, loop.time() - before - WATCH_SECONDS)

    def _sample(self) -> dict[str, object]:
        latencies, self._latencies = sorted(self._latencies), []
        longest, self._longest_turn = self._longest_turn, 0.0
        return {
            "cpu": time.process_time(),
            "rss_mib": int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB / 1024,
            "routes": len(self._ledger.table),
            "heard": self._counts.messages,
            "waiting": self._subscriber.buffered,
            "dropped": self._subscriber.dropped,
            "connected": self._subscriber.connected,
            "latencies": latencies[:: max(1, len(latencies) // 200)],
            "longest_turn_ms": longest * 1000,
        }


def main() -> None:
    """As `vestibule run` sets its process up."""

    async def run() -> None:
        supervisor = Supervisor(int(sys.argv[1]), asyncio.get_running_loop())
        tune_collector()
        await supervisor.run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


if __name__ == "__main__":
    main()
