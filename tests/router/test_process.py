"""router/process.py: what every process of the router has."""

import asyncio
import sys
from typing import Any

import pytest
import uvloop

from router.observe.log import Output
from router.process import Process, loop_factory
from tests.router.desk import settings
from tests.support.waiting import until


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, dict[str, Any]]]:
    heard: list[tuple[int, str, dict[str, Any]]] = []
    monkeypatch.setattr(Output, "emit", lambda _, level, source, event, data: heard.append((level, event, dict(data))))
    return heard


async def test_a_task_that_fails_is_said(said: list[tuple[int, str, dict[str, Any]]]) -> None:
    """No exception is lost."""

    async def fail() -> None:
        raise ValueError("x")

    process = Process(settings(), asyncio.get_running_loop())
    process.spawn(fail())
    await until(lambda: said, "the line")
    assert said == [(3, "task-failed", {"error": "ValueError: x"})]
    process.close()


async def test_tasks_end_with_the_process() -> None:
    """Each is cancelled and seen out."""
    seen: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("out")

    process = Process(settings(), asyncio.get_running_loop())
    process.spawn(wait())
    await asyncio.sleep(0)
    await process.end_tasks()
    assert seen == ["out"]
    process.close()


async def test_the_level_of_the_log_follows_the_configuration(said: list[tuple[int, str, dict[str, Any]]]) -> None:
    """From the next line on."""
    process = Process(settings(), asyncio.get_running_loop())
    process.log.debug("unheard")
    process.adopt(settings(logging={"level": "debug"}))
    process.log.debug("heard")
    assert [event for _, event, _ in said] == ["heard"]
    process.close()


def test_the_loop_is_uvloop_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And asyncio's own where it is not."""
    assert loop_factory() is uvloop.new_event_loop
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory() is asyncio.new_event_loop
