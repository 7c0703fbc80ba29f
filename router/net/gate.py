"""Readiness without futures: a reusable awaitable that a descriptor's callback opens.

Promise: `await gate` suspends the task until `open()` (returns), `fail(error)` (raises it) or cancellation; one waiter at a
time, and a wait makes no future, no timer and no frame. `open()` and `fail()` resume the task *inside* the event-loop callback
that calls them, which saves a turn of the loop; so they may only be called from such a callback, never from a running task (a
task cannot be entered from another one).

A gate speaks the protocol that `asyncio.Task` expects of anything it waits for (`add_done_callback`, `result`, `cancel`,
`get_loop`, `_asyncio_future_blocking`), so tasks, cancellation and `asyncio.timeout` behave as ever, on asyncio and on
uvloop.

A wake-up may be spurious (a cancelled wait is woken on the next turn): whoever waits tries its operation again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Final, cast

from router.net.deadline import NEVER, Timed

_once: Final = cast("Callable[[tuple[Gate]], Generator[Gate, None, None]]", iter)
"""Yields the gate to the task that drives whoever waits, as a generator would, without a frame."""


class Gate(Timed):
    """One direction of a descriptor: closed until ready, failed, or past its deadline (see `Wheel.arm`)."""

    __slots__ = ("_asyncio_future_blocking", "_error", "_loop", "_wakeup")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.deadline = NEVER  # a call less than `super().__init__`, for each direction of each connection
        self.slot = None
        self._loop = loop
        self._wakeup: Callable[[Any], object] | None = None
        self._error: BaseException | None = None
        self._asyncio_future_blocking = False

    def __await__(self) -> Generator[Gate, None, None]:
        self._asyncio_future_blocking = True
        return _once((self,))

    @property
    def waited(self) -> bool:
        """Is a task suspended here?"""
        return self._wakeup is not None

    def open(self) -> bool:
        """Resume the waiting task now; False where there is none."""
        wakeup = self._wakeup
        if wakeup is None:
            return False
        self._wakeup = None
        wakeup(self)
        return True

    def fail(self, error: BaseException) -> None:
        """Resume the waiting task now by raising `error` in it, if there is one; a cancellation on its way comes first."""
        if self._wakeup is not None:
            if self._error is None:
                self._error = error
            # The task runs inside this call: what it raises leads back to this frame, and must not find itself there. Such a
            # circle would keep a whole connection, 60 KiB of OpenSSL included, until a collection.
            del error
            self.open()

    def expire(self) -> None:
        self.fail(TimeoutError())

    # What asyncio.Task calls.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, fn: Callable[[Any], object], *, context: Context | None = None) -> None:
        self._wakeup = fn

    def result(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback leads to this frame: as in `fail`

    def cancel(self, msg: Any | None = None) -> bool:
        if self._wakeup is None:
            return False
        self._error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self._loop.call_soon(self.open)
        return True
