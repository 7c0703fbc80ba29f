"""Asking every worker, and waiting until all have answered: what a scrape does, so that it shows what happened before it.

Promises: whoever waits goes on when all that were asked have answered or are gone, and after `seconds` in any case, for one
worker that hangs must not take the metrics of the others away. Those who wait at the same time each ask for themselves.
Refuses to know what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable


class Gathering:
    """Questions by number, and the workers that still owe an answer to each."""

    def __init__(self) -> None:
        self._number = 0
        self._waiting: dict[int, tuple[set[int], asyncio.Event]] = {}

    async def ask(self, workers: Iterable[int], question: Callable[[int, int], None], seconds: float) -> bool:
        """Put `question(worker, number)` to each; say whether all answered in time."""
        self._number += 1
        number, owing, done = self._number, set(workers), asyncio.Event()
        self._waiting[number] = owing, done
        try:
            for worker in tuple(owing):
                question(worker, number)
            if owing:
                async with asyncio.timeout(seconds):
                    await done.wait()
        except TimeoutError:
            return False
        finally:
            del self._waiting[number]
        return True

    def answered(self, worker: int, number: int) -> None:
        """A worker's answer; one that nobody waits for (any longer) is none."""
        if number in self._waiting:
            self._settle(worker, *self._waiting[number])

    def gone(self, worker: int) -> None:
        """A worker that will not answer."""
        for owing, done in self._waiting.values():
            self._settle(worker, owing, done)

    def _settle(self, worker: int, owing: set[int], done: asyncio.Event) -> None:
        owing.discard(worker)
        if not owing:
            done.set()
