"""`async def` tests run on a real event loop, once on asyncio's and once on uvloop's, each within TEST_SECONDS."""

import asyncio
import inspect
from collections.abc import Callable
from typing import cast

import pytest
import uvloop

TEST_SECONDS = 20.0

_LOOPS = [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(uvloop.new_event_loop, id="uvloop")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("loop_factory")
        metafunc.parametrize("loop_factory", _LOOPS)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine function; all others are pytest's."""
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.function).parameters}

    async def bounded() -> None:
        async with asyncio.timeout(TEST_SECONDS):
            await pyfuncitem.obj(**arguments)

    factory = cast("Callable[[], asyncio.AbstractEventLoop]", pyfuncitem.callspec.params["loop_factory"])
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(bounded())
    return True
