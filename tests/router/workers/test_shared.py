"""router/workers/shared.py with real processes: they hammer the same counts, and some are killed in the middle."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from router.net.budget import Budget, BudgetLimits, Held
from router.workers.memory import Memory
from router.workers.shared import Shared
from tests.router.workers.conftest import House, written
from tests.router.workers.hammer import ADDRESS, TOGETHER, Hammer


@pytest.fixture
def shared() -> Iterator[Shared]:
    made = Shared.create(TOGETHER + 1)
    yield made
    made.close()


def hammered(shared: Shared, what: str, limit: int, times: int) -> list[object]:
    """What each of the processes has to say after all have hammered at the same time."""
    (descriptor,) = shared.descriptors()
    with ExitStack() as stack:
        hammers = [stack.enter_context(Hammer(descriptor, row, what, limit, times)) for row in range(TOGETHER)]
        for one in hammers:
            one.go()
        return [one.result() for one in hammers]


def most_at_once(spans: list[tuple[int, int]]) -> int:
    """How many of these spans of time lie over each other."""
    moves = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    most = now = 0
    for _, move in moves:
        now += move
        most = max(most, now)
    return most


@pytest.mark.parametrize(("what", "limit"), [("listener", 1), ("total", 2), ("address", 1), ("pulse", 1), ("pulse", 2)])
def test_processes_that_hammer_pass_no_limit(shared: Shared, what: str, limit: int) -> None:
    """R45, R123: at no moment are more inside than may be, somebody is, and in the end all is at zero."""
    spans = [tuple(span) for result in hammered(shared, what, limit, 10_000) for span in result]  # type: ignore[attr-defined]
    assert 0 < most_at_once(spans) <= limit
    assert [shared.pulse(1).in_flight, shared.gauge("listener:tls").open, shared.gauge("total").open] == [0, 0, 0]
    assert len(written(shared._memory)) == TOGETHER  # what they began by, and nothing else


ENTERS: dict[str, Callable[[Shared, int], bool]] = {
    "gauge": lambda shared, most: shared.gauge("one").enter(most),
    "held": lambda shared, most: _watched(shared, most).enter(ADDRESS, most),
    "pulse": lambda shared, most: shared.pulse(1).enter(most),
    "window": lambda shared, most: shared.window("one").count(ADDRESS, 1000.0, 1.0) <= most,
    "all in the window": lambda shared, most: _all_in_the_window(shared) <= most,
}


def _watched(shared: Shared, most: int) -> Held:
    held = shared.held("one")
    held.watch(most)
    return held


def _all_in_the_window(shared: Shared) -> int:
    window = shared.window("one")
    window.count(str(id(shared)), 1000.0, 1.0)
    return window.total


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("kind", ENTERS)
def test_who_comes_in_the_middle_of_an_admission_passes_no_limit(
    house: House, kind: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: everybody has counted himself in and nobody has looked yet. At worst all are refused."""
    inside: list[bool] = []
    waiting = iter(house.workers)

    def settle(self: Memory) -> None:
        if (following := next(waiting, None)) is not None:
            inside.append(ENTERS[kind](following, most))

    monkeypatch.setattr(Memory, "settle", settle)
    inside.append(ENTERS[kind](next(waiting), most))
    assert (len(inside), sum(inside) <= most) == (3, True)


def test_processes_that_come_in_one_second_pass_no_rate(shared: Shared) -> None:
    """R45: of all that come the limit is let in, and none more."""
    admitted = hammered(shared, "rate", 3000, 2000)
    assert sum(admitted) <= 3000  # type: ignore[arg-type]
    assert sum(admitted) >= 3000 - TOGETHER  # type: ignore[arg-type]


def test_processes_that_take_from_one_bucket_get_its_tokens_and_no_more(shared: Shared) -> None:
    """Each token once: what the processes did not get is still there."""
    taken = sum(hammered(shared, "bucket", 6000, 3000))  # type: ignore[arg-type]
    bucket = shared.bucket(1)
    left = sum(bucket.take(6000.0, 1000.0) == 0.0 for _ in range(6001))
    assert taken + left == 6000


def test_what_a_killed_process_held_is_free_as_soon_as_its_row_is_cleared(shared: Shared) -> None:
    """`kill -9`: nobody else's count is touched, and the row serves its successor from zero."""
    (descriptor,) = shared.descriptors()
    mine = Shared.attach([os.dup(descriptor)], TOGETHER)
    limits = BudgetLimits(max_connections=4, per_address=3)
    budget = Budget(limits, None, mine, "listener:tls")
    assert budget.admit(ADDRESS, 0.0) is None
    assert mine.pulse(1).enter(3)
    with Hammer(descriptor, 0, "hold", 3, 2) as one:
        one.go()
        one.said("held")
        assert [budget.admit(ADDRESS, 0.0), mine.pulse(1).enter(3), mine.pulse(1).in_flight] == ["per_address", False, 3]
        one.kill()
        assert budget.admit(ADDRESS, 0.0) == "per_address"
        shared.clear(0)
    assert [budget.open, mine.pulse(1).in_flight, shared.gauge("total").open] == [1, 1, 0]
    assert [budget.admit(ADDRESS, 0.0), budget.admit(ADDRESS, 0.0), mine.pulse(1).enter(2)] == [None, None, True]
    with Hammer(descriptor, 0, "hold", 3, 1) as successor:
        assert [budget.open, mine.pulse(1).in_flight] == [3, 2]
        successor.kill()
    mine.close()


def test_a_lock_is_opened_by_the_death_of_its_holder_and_never_waited_for_without_a_bound(shared: Shared) -> None:
    """Who holds a bucket and is stopped stops nobody: the answer is no, at once for a while; with its death all goes on."""
    (descriptor,) = shared.descriptors()
    with Hammer(descriptor, 0, "lock", 1, 0) as one:
        one.go()
        one.said("held")
        one.process.send_signal(signal.SIGSTOP)
        bucket = shared.bucket(1)
        assert bucket.take(5.0, 1000.0) > 0.0
        assert shared.bucket(2).take(5.0, 1000.0) == 0.0
        one.kill()
        assert bucket.take(5.0, 1000.05) > 0.0  # it was shut a moment ago, and nobody is asked again so soon
        assert bucket.take(5.0, 1000.2) == 0.0


def test_a_process_that_stands_still_with_the_names_is_not_waited_for(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that says so, instead of a worker that hangs."""
    monkeypatch.setattr("router.workers.memory.NAME_SECONDS", 0.01)
    (descriptor,) = shared.descriptors()
    with Hammer(descriptor, 0, "lock", 1 << 20, 0) as one:
        one.go()
        one.said("held")
        with pytest.raises(TimeoutError, match="names of the shared counts"):
            shared.gauge("new")


def test_a_worker_needs_the_one_descriptor(shared: Shared) -> None:
    """And a row that there is."""
    with pytest.raises(ValueError, match="not enough values"):
        Shared.attach([], 0)
