"""Waiting for what must happen, on an event loop: asked every few milliseconds, with a deadline."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def until(probe: Callable[[], T | None], what: str, deadline: float = 10.0) -> T:
    """The first truthy value of `probe`; AssertionError after `deadline` seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline
    while not (value := probe()):
        assert loop.time() < end, f"waited {deadline} s in vain for {what}"
        await asyncio.sleep(0.005)
    return value


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run `work` beside the test and cancel it at the end; an exception of its own fails the test."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
