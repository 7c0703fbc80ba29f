"""A bucket of tokens, spent and refilled."""

from hypothesis import given
from hypothesis import strategies as st

from router.wire.http2_budget import Budget


def test_a_budget_is_spent_to_its_last_token_and_not_beyond() -> None:
    """All at once, or one by one."""
    budget = Budget(3, 0.0)
    assert [budget.spend(1, 0.0) for _ in range(4)] == [True, True, True, False]
    assert not Budget(3, 0.0).spend(4, 0.0)


def test_time_brings_tokens_back_and_never_more_than_there_were() -> None:
    """Two a second, three at most."""
    budget = Budget(3, 2.0)
    assert budget.spend(3, 10.0)
    assert not budget.spend(1, 10.4)
    assert budget.spend(2, 11.5)
    assert budget.spend(3, 1_000.0)
    assert not budget.spend(1, 1_000.0)


def test_useful_work_brings_tokens_back_and_never_more_than_there_were() -> None:
    """As time does."""
    budget = Budget(2, 0.0)
    budget.spend(2, 0.0)
    budget.earn(5)
    assert budget.spend(2, 0.0)
    assert not budget.spend(1, 0.0)


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(0, 2)), max_size=50))
def test_in_any_time_no_more_is_spent_than_was_there_and_came_back(spending: list[tuple[int, float]]) -> None:
    """The promise that a flood's cost is bounded by."""
    budget, now, spent = Budget(10, 1.5), 0.0, 0
    for cost, pause in spending:
        now += pause
        spent += cost if budget.spend(cost, now) else 0
    assert spent <= 10 + 1.5 * now + 1e-6
