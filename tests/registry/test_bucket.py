"""Tests of registry/bucket.py: a rate that holds over any stretch of time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.bucket import Bucket


@pytest.mark.parametrize(("rate", "burst"), [(10.0, 10), (1.0, 1), (0.5, 1), (2.5, 2)])
def test_a_bucket_is_full_at_first_and_holds_a_second(rate: float, burst: int) -> None:
    bucket = Bucket()
    assert [bucket.take(rate, 5.0) == 0.0 for _ in range(burst + 2)] == [True] * burst + [False, False]


def test_it_says_how_long_to_wait_and_keeps_its_word() -> None:
    bucket = Bucket()
    assert bucket.take(0.5, 100.0) == 0.0
    assert bucket.take(0.5, 100.0) == pytest.approx(2.0)
    assert bucket.take(0.5, 101.0) == pytest.approx(1.0)
    assert bucket.take(0.5, 102.0) == 0.0


def test_a_long_silence_gives_no_more_than_one_burst() -> None:
    bucket = Bucket()
    bucket.take(3.0, 0.0)
    assert sum(bucket.take(3.0, 10_000.0) == 0.0 for _ in range(10)) == 3


def test_a_lower_rate_holds_at_once() -> None:
    """What was saved under the higher one is gone."""
    bucket = Bucket()
    bucket.take(1000.0, 0.0)
    assert sum(bucket.take(2.0, 0.0) == 0.0 for _ in range(10)) == 2


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = Bucket()
    bucket.take(1.0, 10.0)
    assert bucket.take(1.0, 9.0) > 0.0


@given(st.floats(0.01, 1e6), st.lists(st.floats(0.0, 10.0), min_size=1, max_size=60))
def test_never_more_than_the_rate_and_a_burst(rate: float, pauses: list[float]) -> None:
    bucket, now, taken = Bucket(), 0.0, 0
    for pause in pauses:
        now += pause
        wait = bucket.take(rate, now)
        assert wait >= 0.0
        taken += wait == 0.0
    assert taken <= max(rate, 1.0) + rate * now + 1e-3
