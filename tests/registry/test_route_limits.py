"""Tests of registry/route_limits.py: what a route asks beyond its callers, and what of it holds."""

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.route_limits import LIMIT_OPTIONS, NO_LIMITS, NO_WISHES, RouteLimits, Scalar, Wishes, lowest, read_wishes

VALUES = st.booleans() | st.integers() | st.floats() | st.text(max_size=24) | st.sampled_from(["10", "0.5", "true", "1e3"])
LIMITS = st.builds(
    RouteLimits,
    st.integers(1, 100), st.floats(0.1, 100.0), st.integers(1, 100), st.floats(0.1, 100.0), st.booleans(),
)  # fmt: skip


def read(pairs: dict[str, Scalar]) -> tuple[Wishes, list[tuple[str, str]]]:
    wrong: list[tuple[str, str]] = []
    return read_wishes(pairs, lambda key, in_effect: wrong.append((key, in_effect))), wrong


def test_options_of_others_are_no_wishes() -> None:
    """The very constant: a route that asks for nothing costs nothing."""
    assert read({"loadbalancing": "hash", "x": 1})[0] is NO_WISHES


def test_every_option_is_read() -> None:
    """R322: RFC-0027's examples, and the limits beside them."""
    asked: dict[str, Scalar] = {
        "connection-limit": 7, "request-timeout-seconds": 1.5, "max-request-bytes": 2048, "rate-limit-rps": 20,
        "trim-path": True, "session-cookie": "SID",
    }  # fmt: skip
    assert asked.keys() == LIMIT_OPTIONS.keys()
    assert read(asked) == (Wishes(RouteLimits(7, 1.5, 2048, 20.0, True), "SID"), [])


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("connection-limit", [1, "1", 1_000_000], [0, -1, 1_000_001, 1.5, "1.0", "", True, "+1", "1_0", "\u0661", 10**40]),
        ("max-request-bytes", [1, "4096", 2**50], [0, -1, 2**50 + 1, 1.0, "1k", False, "9" * 30]),
        ("request-timeout-seconds", [0.1, 1, "2.5", 86_400], [0, 0.05, 86_401, "1e2", "2s", True, math.nan, math.inf, "nan", ""]),
        ("rate-limit-rps", [0.01, 1, "100", 1_000_000], [0, 0.001, 1_000_001, -3, "-3", "inf", True, math.nan]),
        ("trim-path", [True, False, "true", "false"], [1, 0, "yes", "True", ""]),
        (
            "session-cookie",
            ["SID", "x" * 64, "a!#$"],
            ["", "x" * 65, "a b", "a=b", "a;b", "ä", "a\n", "__VCAP_ID__", "__VCAP_ID_META__", 7, True],
        ),
    ],
)
def test_a_value_is_good_or_left_out(key: str, good: list[Scalar], bad: list[Scalar]) -> None:
    """RFC-0027: one invalid value is left out, with one word on what holds instead; the bounds themselves are good."""
    assert [value for value in good if read({key: value})[1]] == []
    assert [value for value in bad if read({key: value}) != (NO_WISHES, [(key, LIMIT_OPTIONS[key].in_effect)])] == []


def test_a_bad_option_leaves_the_others() -> None:
    wishes, wrong = read({"connection-limit": "many", "rate-limit-rps": 5})
    assert wishes.limits == RouteLimits(rate=5.0)
    assert [key for key, _ in wrong] == ["connection-limit"]


def test_a_path_that_stays_is_no_limit() -> None:
    """`trim-path: false` says what holds anyway."""
    assert read({"trim-path": False}) == (NO_WISHES, [])


def test_nobody_asking_is_no_limits() -> None:
    assert lowest([]) is None
    assert lowest([None, None]) is None


def test_the_lowest_of_each_holds() -> None:
    one, other = RouteLimits(connections=5, seconds=9.0, rate=3.0), RouteLimits(connections=7, body_bytes=10, trims=True)
    for order in permutations([one, None, other]):
        assert lowest(order) == RouteLimits(5, 9.0, 10, 3.0, True)


@given(st.lists(LIMITS | st.none(), max_size=5))
def test_the_order_never_matters_and_nobody_raises_a_limit(several: list[RouteLimits | None]) -> None:
    found = lowest(several)
    assert found == lowest(several[::-1])
    for one in several:
        if one is not None:
            assert found is not None
            assert found.connections <= one.connections
            assert found.seconds <= one.seconds
            assert found.body_bytes <= one.body_bytes
            assert found.rate <= one.rate


@given(st.dictionaries(st.sampled_from([*LIMIT_OPTIONS, "x"]), VALUES))
def test_any_scalars_give_wishes(pairs: dict[str, Scalar]) -> None:
    """Never raises, and each value is used or named."""
    wishes, wrong = read(pairs)
    limits = wishes.limits or NO_LIMITS
    assert {key for key, _ in wrong} <= pairs.keys()
    assert limits.connections >= 1
    assert limits.seconds >= 0.1
    assert limits.body_bytes >= 1
    assert limits.rate >= 0.01
