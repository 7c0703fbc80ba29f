"""router/workers/shared_counters.py: the counts of a listener over all workers, against plain models."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.net.budget import Budget, BudgetLimits, Total, Window
from router.net.firewall import Firewall, FirewallRules
from router.workers import shared_counters
from router.workers.memory import GAUGES, HELD, SPREAD
from router.workers.shared_counters import _Places
from tests.router.workers.conftest import House, written

ROWS = st.integers(0, 2)
ADDRESSES = st.sampled_from(["a", "b", "2001:db8::1"])
LIMITS = st.builds(BudgetLimits, st.integers(0, 4), st.integers(0, 3))
RATES = st.builds(BudgetLimits, rate=st.integers(0, 5), rate_per_address=st.integers(0, 3))


def budgets(house: House, limits: BudgetLimits, total: int = 0, name: str = "listener:tls") -> list[Budget]:
    return [Budget(limits, Total(total, shared), shared, name) for shared in house.workers]


@given(LIMITS, st.integers(0, 6), st.lists(st.tuples(st.sampled_from(["admit", "leave", "die"]), ROWS, ADDRESSES), max_size=60))
def test_all_workers_together_are_as_one_process(limits: BudgetLimits, most: int, steps: list[tuple[str, int, str]]) -> None:
    """R45, R123: in whatever order they admit, leave and die: no limit is passed, none sheds below it, the end is zero."""
    house = House()
    workers = budgets(house, limits, most)
    held: list[Counter[str]] = [Counter(), Counter(), Counter()]
    for verb, row, address in steps:
        everybody = sum(held, Counter())
        if verb == "admit":
            full = 0 < limits.max_connections <= everybody.total()
            crowded = 0 < most <= everybody.total()
            many = 0 < limits.per_address <= everybody[address]
            expected = "max_connections" if full else "total" if crowded else "per_address" if many else None
            assert expected == workers[row].admit(address, 0.0)
            held[row][address] += expected is None
        elif verb == "leave" and held[row][address]:
            workers[row].leave(address)
            held[row][address] -= 1
        elif verb == "die":
            house.supervisor.clear(row)
            held[row].clear()
            house.workers[row].close()
            house.workers[row] = successor = house.join(row)
            workers[row] = Budget(limits, Total(most, successor), successor, "listener:tls")
        assert {sum(held, Counter()).total()} == {one.open for one in workers}
    for row, mine in enumerate(held):
        for address in mine.elements():
            workers[row].leave(address)
    assert {one.open for one in workers} == {0}
    assert written(house.supervisor._memory) == set()
    house.close()


@given(RATES, st.lists(st.tuples(ROWS, ADDRESSES, st.floats(0, 0.7)), max_size=60))
def test_all_workers_together_are_as_fast_as_one(limits: BudgetLimits, steps: list[tuple[int, str, float]]) -> None:
    """R45: who is refused counts too, and a new second begins for all at once."""
    house = House()
    workers = budgets(house, limits)
    tried: Counter[str] = Counter()
    now, second = 1000.0, 1000
    for row, address, pause in steps:
        now += pause
        if int(now) != second:
            second = int(now)
            tried.clear()
        tried[address] += 1
        fast = 0 < limits.rate < tried.total() or 0 < limits.rate_per_address < tried[address]
        assert workers[row].admit(address, now) == ("rate" if fast else None)
    house.close()


def test_listeners_are_counted_apart(house: House) -> None:
    """R123: what one listener holds takes nothing of another's, but for the total of all."""
    first, second = (budgets(house, BudgetLimits(max_connections=1, per_address=1), 2, name) for name in ("a", "b"))
    assert [first[0].admit("x", 0.0), first[1].admit("x", 0.0)] == [None, "max_connections"]
    assert second[1].admit("x", 0.0) is None
    first[0].leave("x")
    assert [first[2].admit("y", 0.0), first[2].open, second[0].open] == [None, 1, 1]


def test_a_limit_that_comes_with_a_reload_counts_what_is_there(house: House) -> None:
    """What was held before anybody limited it counts for all workers as soon as each has the new configuration."""
    one, two, _ = budgets(house, BudgetLimits())
    assert [one.admit("a", 0.0), one.admit("a", 0.0), two.admit("b", 0.0)] == [None] * 3
    for each in (one, two):
        each.limits = BudgetLimits(per_address=2)
    assert [two.admit("a", 0.0), two.admit("b", 0.0), one.admit("b", 0.0)] == ["per_address", None, "per_address"]
    one.limits = two.limits = BudgetLimits()
    assert two.admit("a", 0.0) is None
    one.limits = two.limits = BudgetLimits(per_address=3)
    assert one.admit("a", 0.0) == "per_address"
    one.leave("a")
    assert two.admit("a", 0.0) is None


def test_clients_that_share_one_place_are_told_apart_by_the_other(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who meets others in both counts as more than it is: never as less."""
    places = {"first": (HELD, HELD + SPREAD), "half": (HELD, HELD + SPREAD + 1), "both": (HELD, HELD + SPREAD)}
    monkeypatch.setattr(shared_counters._Places, "of", lambda self, client: places[client])
    held = [shared.held("one") for shared in house.workers]
    for each in held:
        each.watch(1)
    assert [held[0].enter("first", 1), held[1].enter("half", 1), held[2].enter("both", 1)] == [True, True, False]
    assert not held[1].enter("half", 1)


def test_the_places_of_a_client_are_the_same_in_every_worker_and_nobodys_guess(house: House) -> None:
    """Keyed by chance at the start: nobody can choose addresses that meet another's in both tables."""
    one, two, _ = (_Places(shared._memory, HELD, "listener:tls") for shared in house.workers)
    other = House()
    elsewhere, apart = _Places(other.workers[0]._memory, HELD, "listener:tls"), _Places(house.workers[0]._memory, HELD, "b")
    clients = [f"10.0.{number}.1" for number in range(50)]
    found = [one.of(client) for client in clients]
    assert [two.of(client) for client in clients] == found
    assert len({*found, *map(elsewhere.of, clients), *map(apart.of, clients)}) == 150
    assert all(HELD <= first < HELD + SPREAD <= second < HELD + 2 * SPREAD for first, second in found)
    assert one.of("ü\udcff") != one.of(b"ue")
    other.close()


@given(st.lists(st.tuples(ROWS, ADDRESSES, st.floats(0, 0.6)), max_size=30), st.sampled_from([0.25, 1.0, 60.0]))
def test_windows_count_over_all_workers_and_begin_at_the_same_moment(steps: list[tuple[int, str, float]], seconds: float) -> None:
    """R45: so many in so much time, by client and all together."""
    house = House()
    windows = [shared.window("one") for shared in house.workers]
    tried: Counter[str] = Counter()
    now, number = 5000.0, -1
    for row, client, pause in steps:
        now += pause
        if int(now / seconds) != number:
            number = int(now / seconds)
            tried.clear()
        tried[client] += 1
        assert tried[client] == windows[row].count(client, now, seconds)
        assert tried.total() == windows[row].total
    house.close()


def test_a_worker_whose_clock_is_behind_counts_where_the_others_are(house: House) -> None:
    """Else who looks at the end of a second would not see those who are a millisecond further, and have begun a new count."""
    one, two, _ = (shared.window("one") for shared in house.workers)
    assert [one.count("a", 10.999, 1.0), one.count("a", 11.001, 1.0)] == [1, 1]
    assert [two.count("a", 10.998, 1.0), two.total, one.count("a", 11.002, 1.0)] == [2, 2, 3]
    assert two.count("a", 10.999, 1.0) == 4


def test_what_lies_far_ahead_is_not_believed(house: House) -> None:
    """Windows that a reload made longer have smaller numbers; what stands there is of no window that can be."""
    one, two, _ = (shared.firewall() for shared in house.workers)
    assert [one.count(b"a", 7200.0, 1.0), two.count(b"a", 7200.5, 1.0)] == [1, 2]
    assert [one.count(b"a", 7201.0, 3600.0), two.count(b"a", 7202.0, 3600.0)] == [1, 2]
    assert [one.count(b"a", 7203.0, 1.0), two.count(b"a", 7203.5, 1.0)] == [1, 2]


@pytest.mark.parametrize("limit", [1, 3])
def test_the_firewalls_rate_holds_over_all_workers(house: House, limit: int) -> None:
    """R45: an address has one count, whichever workers its connections reach."""
    walls = [Firewall(FirewallRules(rate_limit=limit), shared) for shared in house.workers]
    answers = [walls[turn % 3].admit("192.0.2.1", 600.0 + turn) is None for turn in range(9)]
    assert answers == [True] * limit + [False] * (9 - limit)
    assert walls[0].admit("192.0.2.2", 609.0) is None
    assert walls[1].admit("192.0.2.1", 660.0) is None


def test_a_count_that_is_full_stays_so(house: House) -> None:
    """The count must never run over into the number of the window."""
    window = house.workers[0].firewall()
    places = window._places.of(b"a")
    memory = house.workers[0]._memory
    for place in places:
        memory.words[place] = 10 << 24 | (1 << 24) - 2
    assert [window.count(b"a", 10.0, 1.0) for _ in range(3)] == [(1 << 24) - 1] * 3


@pytest.mark.parametrize("make", [lambda one: Window(), lambda one: one.window("x")])
def test_windows_of_both_kinds_answer_alike(house: House, make: Callable[..., Window]) -> None:
    """One process or many: the same arithmetic."""
    window = make(house.workers[0])
    assert [window.count("a", 8.0, 1.0), window.count("b", 8.5, 1.0), window.count("a", 8.9, 1.0)] == [1, 1, 2]
    assert window.total == 3
    assert window.count("a", 9.0, 1.0) == 1


def test_a_gauge_without_a_limit_counts_as_well(house: House) -> None:
    """A reload's limit finds the true number."""
    one, two, _ = (shared.gauge("one") for shared in house.workers)
    assert [one.enter(0), two.enter(0), two.enter(2), one.enter(3)] == [True, True, False, True]
    assert [two.open, house.supervisor._memory.sum(GAUGES)] == [3, 3]
