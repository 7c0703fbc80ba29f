"""router/net/budget.py: who is admitted, against a plain model of the rules."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.net import budget
from router.net.budget import Budget, BudgetLimits, Total, Window

ADDRESSES = st.sampled_from(["a", "b", "c"])
LIMITS = st.builds(BudgetLimits, st.integers(0, 4), st.integers(0, 3), st.integers(0, 5), st.integers(0, 3))
STEPS = st.lists(st.tuples(st.sampled_from(["admit", "leave"]), ADDRESSES, st.floats(0, 0.7)), max_size=60)


@given(LIMITS, STEPS)
def test_no_limit_is_ever_passed_and_none_sheds_below_it(limits: BudgetLimits, steps: list[tuple[str, str, float]]) -> None:
    """Whatever comes and goes: counts are true, a limit of 0 is none, and each shedding has the limit's reason."""
    one = Budget(limits)
    held: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    now, window_ends = 0.0, 0.0
    for verb, address, pause in steps:
        now += pause
        if verb == "leave":
            if held[address]:
                one.leave(address)
                held[address] -= 1
            continue
        full = 0 < limits.max_connections <= held.total()
        if not full and now >= window_ends:
            tried.clear()
            window_ends = now + 1.0
        tried[address] += not full
        fast = 0 < limits.rate < tried.total() or 0 < limits.rate_per_address < tried[address]
        crowded = 0 < limits.per_address <= held[address]
        expected = "max_connections" if full else "rate" if fast else "per_address" if crowded else None
        assert expected == one.admit(address, now)
        held[address] += expected is None
        assert held.total() == one.open


def test_an_address_that_has_left_is_not_remembered() -> None:
    """Memory is bounded by what is open."""
    one = Budget(BudgetLimits(per_address=1))
    for number in range(100):
        assert one.admit(f"10.0.0.{number}", 0.0) is None
        assert one.admit(f"10.0.0.{number}", 0.0) == "per_address"
        one.leave(f"10.0.0.{number}")
    assert len(one._held) == 0
    assert one.open == 0


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ("2001:db8::2", "per_address"),
        ("2001:db8:0:0:ffff::2", "per_address"),
        ("2001:db8:0:1::1", None),
        ("fe80::1%eth0", None),
        ("192.0.2.1", None),
        ("no:address", None),
    ],
)
def test_an_ipv6_client_is_its_64(second: str, expected: str | None) -> None:
    """R45, attack 76: else one host would be as many clients as it has addresses; who leaves makes room for the neighbour."""
    one = Budget(BudgetLimits(per_address=1))
    assert one.admit("2001:db8::1", 0.0) is None
    assert expected == one.admit(second, 0.0)
    if expected is None:
        one.leave(second)
    one.leave("2001:db8::1")
    assert one.admit(second, 0.0) is None
    assert len(one._held) == 1


def test_a_flood_of_addresses_shares_one_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 76: beyond the bound, new addresses cost no memory and are slowed together; known ones keep their own count."""
    monkeypatch.setattr(budget, "MAX_ADDRESSES", 3)
    one = Budget(BudgetLimits(rate_per_address=2))
    answers = [one.admit(f"10.0.0.{number}", 0.0) for number in range(10)]
    assert answers == [None] * 5 + ["rate"] * 5
    assert one.admit("10.0.0.0", 0.0) is None
    assert len(one._recent) == 4
    assert one.admit("10.0.0.9", 1.0) is None


@given(st.lists(st.tuples(st.sampled_from(["admit", "leave"]), st.booleans(), ADDRESSES), max_size=40), st.integers(0, 4))
def test_listeners_share_one_total(steps: list[tuple[str, bool, str]], limit: int) -> None:
    """R123: together never more than the limit, each within its own, and what leaves makes room for either."""
    total = Total(limit)
    listeners = Budget(BudgetLimits(max_connections=3), total), Budget(BudgetLimits(), total)
    held: list[Counter[str]] = [Counter(), Counter()]
    for verb, second, address in steps:
        one, mine = listeners[second], held[second]
        if verb == "leave":
            if mine[address]:
                one.leave(address)
                mine[address] -= 1
            continue
        open_now = held[0].total() + held[1].total()
        full = not second and mine.total() >= 3
        expected = "max_connections" if full else "total" if 0 < limit <= open_now else None
        assert expected == one.admit(address, 0.0)
        mine[address] += expected is None
    assert total.open == held[0].total() + held[1].total()


def test_limits_can_change_while_connections_are_open() -> None:
    """A reload's limits count for the next connection; what is open stays and is counted out."""
    one = Budget(BudgetLimits(max_connections=2))
    assert [one.admit("a", 0.0), one.admit("a", 0.0), one.admit("a", 0.0)] == [None, None, "max_connections"]
    one.limits = BudgetLimits(max_connections=1)
    one.leave("a")
    assert one.admit("a", 0.0) == "max_connections"
    one.leave("a")
    assert one.admit("a", 0.0) is None


@given(st.lists(st.tuples(ADDRESSES, st.floats(0, 20)), max_size=40), st.sampled_from([1.0, 10.0]))
def test_a_window_counts_since_it_began_and_begins_anew_when_it_is_over(steps: list[tuple[str, float]], seconds: float) -> None:
    """R45: so many in so much time, by key and all together."""
    window = Window()
    tried: Counter[str] = Counter()
    now, ends = 0.0, 0.0
    for key, pause in steps:
        now += pause
        if now >= ends:
            tried.clear()
            ends = now + seconds
        tried[key] += 1
        assert tried[key] == window.count(key, now, seconds)
        assert (tried.total(), len(tried)) == (window.total, len(window))


def test_a_window_that_was_made_shorter_is_over_at_once() -> None:
    """A reload from an hour to a minute must not wait for the hour's end."""
    window = Window()
    assert [window.count("a", 0.0, 3600.0), window.count("a", 1.0, 3600.0), window.count("a", 2.0, 60.0)] == [1, 2, 1]
    assert [window.count("a", 61.0, 60.0), window.count("a", 62.0, 60.0)] == [2, 1]
