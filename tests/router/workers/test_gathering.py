"""router/workers/gathering.py: a question to all, and the wait for the last answer."""

import asyncio

from router.workers.gathering import Gathering


async def test_whoever_asks_goes_on_when_the_last_has_answered_or_is_gone() -> None:
    """Two at once, each with a number of its own."""
    gathering, asked = Gathering(), list[tuple[int, int]]()
    loop = asyncio.get_running_loop()
    first, second = (
        loop.create_task(gathering.ask({1, 2, 3}, lambda worker, number: asked.append((worker, number)), 60)) for _ in range(2)
    )
    await asyncio.sleep(0)
    assert sorted(asked) == [(worker, number) for worker in (1, 2, 3) for number in (1, 2)]
    for worker in (1, 2):
        gathering.answered(worker, 1)
    gathering.answered(1, 2)
    gathering.answered(1, 99)
    gathering.gone(3)
    assert await first is True
    assert not second.done()
    gathering.answered(2, 2)
    assert await second is True
    gathering.answered(2, 2)


async def test_an_answer_during_the_question_counts() -> None:
    """A worker may answer before the next is asked, and there may be none at all."""
    gathering = Gathering()
    assert await gathering.ask({1}, gathering.answered, 60) is True
    assert await gathering.ask((), gathering.answered, 60) is True


async def test_a_worker_that_hangs_is_not_waited_for() -> None:
    """The others' answers are enough."""
    gathering = Gathering()
    assert await gathering.ask({1}, lambda worker, number: None, 0) is False
