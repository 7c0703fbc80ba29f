"""router/net/gate.py: readiness without futures, under real tasks on both event loops."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from router.net.deadline import NEVER
from router.net.gate import Gate


def gate() -> Gate:
    return Gate(asyncio.get_running_loop())


async def waiting(one: Gate) -> None:
    """Return when a task is suspended at the gate."""
    while not one.waited:
        await asyncio.sleep(0)


def in_one_turn(*calls: Callable[[], object]) -> None:
    for call in calls:
        asyncio.get_running_loop().call_soon(call)


async def test_an_opened_gate_resumes_its_task_inside_the_callback_that_opens_it() -> None:
    """Opening saves a turn of the loop: the task goes on before `open` returns."""
    one, order = gate(), []

    async def wait() -> None:
        await one
        order.append("task")

    def ready() -> None:
        one.open()
        order.append("callback")

    task = asyncio.get_running_loop().create_task(wait())
    await waiting(one)
    asyncio.get_running_loop().call_soon(ready)
    await task
    assert order == ["task", "callback"]
    assert not one.waited


async def test_a_failed_gate_raises_in_its_task() -> None:
    """`fail` raises that very error, once."""
    one, error = gate(), OSError("gone")
    task = asyncio.get_running_loop().create_task(_wait(one))
    await waiting(one)
    asyncio.get_running_loop().call_soon(one.fail, error)
    with pytest.raises(OSError, match="gone") as raised:
        await task
    assert raised.value is error
    again = asyncio.get_running_loop().create_task(_wait(one))
    await waiting(one)
    asyncio.get_running_loop().call_soon(one.open)
    await again


async def test_an_expired_gate_raises_a_timeout() -> None:
    """What the wheel calls is a TimeoutError for who waits, and nothing where nobody does."""
    one = gate()
    one.expire()
    task = asyncio.get_running_loop().create_task(_wait(one))
    await waiting(one)
    asyncio.get_running_loop().call_soon(one.expire)
    with pytest.raises(TimeoutError):
        await task


async def test_opening_or_failing_an_unwaited_gate_leaves_no_trace() -> None:
    """Readiness is not remembered: who comes later tries its operation first, then waits."""
    one = gate()
    one.open()
    one.fail(OSError("nobody hears this"))
    task = asyncio.get_running_loop().create_task(_wait(one))
    await waiting(one)
    assert not task.done()
    asyncio.get_running_loop().call_soon(one.open)
    await task


async def test_a_cancelled_task_leaves_the_gate_and_can_come_back() -> None:
    """Cancellation arrives with its message, and the gate serves the next wait."""
    one = gate()
    task = asyncio.get_running_loop().create_task(_wait(one))
    await waiting(one)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError) as raised:
        await task
    assert raised.value.args == ("enough",)
    assert not one.waited
    again = asyncio.get_running_loop().create_task(_wait(one))
    await waiting(one)
    asyncio.get_running_loop().call_soon(one.open)
    await again


async def test_a_timeout_of_asyncio_works_at_a_gate() -> None:
    """`asyncio.timeout` cancels and converts as at any future."""
    one = gate()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await one
    assert not one.waited


async def test_a_task_group_cancels_a_task_that_waits_at_a_gate() -> None:
    """A failing neighbour ends the wait."""
    one = gate()

    async def fail() -> None:
        await waiting(one)
        raise ValueError("the neighbour")

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_wait(one))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as raised:
        await both()
    assert str(raised.value.exceptions[0]) == "the neighbour"
    assert not one.waited


async def test_a_cancellation_on_its_way_wins_over_readiness() -> None:
    """Cancelled and opened in one turn: the task is cancelled."""
    one = gate()
    task = asyncio.get_running_loop().create_task(_wait(one))
    await waiting(one)
    in_one_turn(task.cancel, one.open)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_on_its_way_wins_over_a_failure() -> None:
    """Cancelled and failed in one turn: a cancellation is never lost, as at a future."""
    one = gate()
    task = asyncio.get_running_loop().create_task(_wait(one))
    await waiting(one)
    in_one_turn(task.cancel, one.expire)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_wake_up_may_be_spurious_and_does_no_harm() -> None:
    """A wait that follows a cancelled one in the same turn is woken once for nothing; it tries again and waits on."""
    one, ready, tries = gate(), False, 0

    async def wait() -> None:
        nonlocal tries
        with contextlib.suppress(asyncio.CancelledError):
            await one
        while not ready:
            tries += 1
            await one

    task = asyncio.get_running_loop().create_task(wait())
    await waiting(one)
    in_one_turn(task.cancel, one.open)
    await waiting(one)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert tries == 2
    assert one.waited
    ready = True
    asyncio.get_running_loop().call_soon(one.open)
    await task


async def test_a_gate_is_what_a_task_expects() -> None:
    """It names its loop, and there is nothing to cancel at a gate without a waiter."""
    one = gate()
    assert asyncio.get_running_loop() is one.get_loop()
    assert not one.cancel()
    assert one.deadline == NEVER


async def _wait(one: Gate) -> None:
    await one
