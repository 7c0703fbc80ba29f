"""router/workers/shared_cells.py: requests in flight and rates of routes over all workers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.bucket import Bucket
from router.workers.memory import IN_FLIGHT
from router.workers.shared_cells import QUARANTINE_SECONDS, Cells, SharedBucket, SharedPulse
from tests.router.workers.conftest import House

STEPS = st.lists(st.tuples(st.sampled_from(["enter", "leave", "die"]), st.integers(0, 2)), max_size=60)


@given(STEPS, st.integers(0, 4))
def test_requests_in_flight_never_pass_the_limit_and_end_at_zero(steps: list[tuple[str, int]], most: int) -> None:
    """Contract d, backends.max_conns: an endpoint's places are those of all workers; a dead worker's are free."""
    house = House()
    pulses = [shared.pulse(3) for shared in house.workers]
    held = [0, 0, 0]
    for verb, row in steps:
        if verb == "enter":
            expected = not most or sum(held) < most
            assert expected is pulses[row].enter(most)
            held[row] += expected
        elif verb == "leave" and held[row]:
            pulses[row].leave()
            held[row] -= 1
        elif verb == "die":
            house.supervisor.clear(row)
            held[row] = 0
        assert {sum(held)} == {pulse.in_flight for pulse in (*pulses, house.supervisor.pulse(3))}
    for row, count in enumerate(held):
        for _ in range(count):
            pulses[row].leave()
    assert pulses[0].in_flight == 0
    assert pulses[0].enter(1)
    house.close()


def test_a_pulse_that_is_made_later_sees_what_is_there(house: House) -> None:
    """A new worker learns of an endpoint at which others have requests."""
    one, two, _ = house.workers
    assert one.pulse(1).enter(5)
    late = two.pulse(1)
    assert (late.in_flight, late.failed_until, late.unhealthy, late.row, late.expires) == (1, 0.0, False, 0, float("inf"))
    late.in_flight = 4
    assert (late.in_flight, one.pulse(1).in_flight, one.pulse(2).in_flight) == (4, 4, 0)
    assert [house.supervisor.in_flight(number) for number in (0, 1, 2)] == [0, 4, 0]


def test_liveness_is_each_workers_own(house: House) -> None:
    """What one worker found out by its own attempts it keeps to itself, as each router does."""
    one, two, _ = (shared.pulse(1) for shared in house.workers)
    assert one.checked(passed=False, needed=1)
    assert (one.unhealthy, two.unhealthy) == (True, False)
    one.lift()
    assert one.failed_until == 0.0


def test_without_a_cell_each_worker_counts_for_itself(house: House) -> None:
    """0 is no cell."""
    one, two, _ = house.workers
    assert one.pulse(0).enter(1)
    assert two.pulse(0).in_flight == 0
    assert type(one.bucket(0)) is Bucket


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_released_cell_is_nobodys_until_its_quarantine_is_over_and_it_is_at_rest() -> None:
    """A new endpoint must not begin with an old one's requests."""
    clock, busy = Clock(), {1}
    cells = Cells(4, lambda number: number not in busy, clock)
    assert [cells.take() for _ in range(4)] == [1, 2, 3, 0]
    for number in (1, 2, 0):
        cells.release(number)
    assert cells.take() == 0
    clock.now += QUARANTINE_SECONDS
    assert [cells.take(), cells.take()] == [2, 0]
    clock.now += QUARANTINE_SECONDS
    assert cells.take() == 0
    busy.clear()
    clock.now += QUARANTINE_SECONDS
    assert [cells.take(), cells.take()] == [1, 0]


def test_a_cell_in_which_somebody_is_stays_with_him(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor's cells look at what the workers count, even where the counts of two rows cancel out."""
    monkeypatch.setattr("router.workers.shared_cells.QUARANTINE_SECONDS", 0.0)
    supervisor, one = house.supervisor, house.workers[0]
    number = supervisor.cells.take()
    pulse = one.pulse(number)
    pulse.enter(0)
    house.workers[1].pulse(number).leave()
    assert pulse.in_flight == 0
    supervisor.cells.release(number)
    assert supervisor.cells.take() == number + 1
    house.workers[1].pulse(number).enter(0)
    pulse.leave()
    assert supervisor.cells.take() == number
    assert not any(supervisor._memory.words[IN_FLIGHT + number :: len(supervisor._memory.words) // 3])


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(-0.2, 2.0)), min_size=1, max_size=60), st.floats(0.5, 20.0), st.booleans())
def test_a_bucket_of_all_workers_is_as_one(steps: list[tuple[int, float]], rate: float, skewed: bool) -> None:
    """The same answers as one process gives, and with clocks that are apart never more than the rate and a burst."""
    house = House()
    buckets, alone = [shared.bucket(2) for shared in house.workers], Bucket()
    first = now = last = 1000.0
    taken = 0
    for row, pause in steps:
        now += max(pause, 0.0)
        mine = now + (pause if skewed else 0.0)
        last = max(last, mine)
        wait = buckets[row].take(rate, mine)
        assert wait == alone.take(rate, mine)
        taken += wait == 0.0
    assert taken <= max(rate, 1.0) + rate * (last - first) + 1e-3
    house.close()


def test_a_bucket_of_another_route_begins_full(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gets the cell next owes nothing for the last one."""
    monkeypatch.setattr("router.workers.shared_cells.QUARANTINE_SECONDS", 0.0)
    cells, one = house.supervisor.buckets, house.workers[0]
    number = cells.take()
    assert [one.bucket(number).take(1.0, 1000.0), one.bucket(number).take(1.0, 1000.0)] == [0.0, 1.0]
    cells.release(number)
    assert cells.take() == number
    assert one.bucket(number).take(1.0, 1000.0) == 0.0


def test_a_pulse_and_a_bucket_stay_small() -> None:
    """A worker has one for every endpoint."""
    assert not any("__dict__" in dir(kind) for kind in (SharedPulse, SharedBucket))
