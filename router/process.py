"""What every process of the router has, whatever it serves: its loop, clock, log, numbers and tasks.

Promise: a task that fails is logged and never lost; `close` writes what was logged, for a bounded time. Refuses to know what the
process is for.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine
from typing import Final

from router.config.model import Config
from router.net.deadline import Wheel
from router.observe.line_lock import LineLock
from router.observe.log import LEVELS, LibraryHandler, Logger, Output
from router.observe.metrics import Metrics
from router.observe.sink import DescriptorTarget, Sink

SINK_SECONDS: Final = 2.0

GC_ALLOCATIONS: Final = 50_000
"""Net allocations between two collections: a request leaves no cycles behind, so looking often finds nothing."""


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def tune_collector() -> None:
    """What lives as long as the process need not be looked at again; short-lived values die by their count. The collector works
    from here on: whoever starts a process disables it, since what is imported and built stays."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(GC_ALLOCATIONS, 20, 50)


class Process:
    """This one. `stdout` is the component log's sink, and the access log's where it has no other."""

    def __init__(
        self, config: Config, loop: asyncio.AbstractEventLoop, lock: LineLock | None = None, worker: int | None = None
    ) -> None:
        """`lock`: who else writes to the same output has it too; `worker`: the number that the log's lines are to bear."""
        self.lock = lock
        self.loop = loop
        self.wheel = Wheel(loop)
        self.stdout = Sink(DescriptorTarget(1, lock))
        level, form = LEVELS[config.logging.level], config.logging.format.timestamp
        self._output = Output(self.stdout, level, form, worker=worker)
        self.log = Logger(self._output)
        logging.getLogger().handlers[:] = [LibraryHandler(self.log)]
        self.metrics = Metrics(config.prometheus.meters.bounds(), per_app=config.per_app_prometheus_http_metrics_reporting)
        self._tasks: set[asyncio.Task[None]] = set()
        self.metrics.log_dropped.source = lambda: self.stdout.dropped
        self.metrics.log_pending_bytes.source = lambda: self.stdout.pending

    def adopt(self, config: Config) -> None:
        """The log's level is of the moment."""
        self._output.level = LEVELS[config.logging.level]

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run `work` until it ends, or the process."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def end_tasks(self) -> None:
        """Cancel what still runs, and see it out."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        """The last line is written, or its time is over."""
        self.wheel.close()
        self.stdout.close(SINK_SECONDS)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("task-failed", error=f"{type(error).__name__}: {error}")
