"""router/inspect/reading.py: a walk through a file that notes everything that is wrong."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.findings import MAX_FINDINGS
from router.inspect.reading import Reading


def read(text: str) -> Reading:
    return Reading(text.encode(), "file.yml")


def test_a_problem_names_file_line_path_and_value() -> None:
    reading = read("a: 1\nb: [x, y]\n")
    reading.wrong(("b", 1), "y", "z", "write z")
    (problem,) = reading.problems
    assert problem.as_json() == {
        "file": "file.yml",
        "line": 2,
        "path": "b[1]",
        "value": "'y'",
        "expected": "z",
        "remedy": "write z",
    }


def test_flaws_of_the_yaml_itself_are_problems() -> None:
    assert [problem.line for problem in read("a: 1\na: 2\n").problems] == [2]


def test_an_unknown_key_is_a_problem_with_the_nearest_known_one() -> None:
    reading = read("nmae: x\nother: 1\nname: y\n")
    assert reading.mapping((), reading.tree, ("name", "host")) == {"name": "y"}
    assert [(problem.line, problem.remedy) for problem in reading.problems] == [(1, "did you mean `name`?"), (2, "remove it")]


def test_a_number_is_text_as_it_is_spelled() -> None:
    """A GUID of digits keeps its zeros."""
    reading = read("a: 0.10\nb: 007\nc: 7\n")
    assert isinstance(reading.tree, dict)
    assert [reading.text((key,), reading.tree[key], "text") for key in "abc"] == ["0.10", "007", "7"]
    assert reading.problems == ()


@pytest.mark.parametrize(
    "take",
    [
        lambda reading: reading.mapping(("a",), None, ("name",)),
        lambda reading: list(reading.items(("a",), {}, "things")) or None,
        lambda reading: list(reading.named(("a",), (), "things")) or None,
        lambda reading: reading.text(("a",), "", "text"),
        lambda reading: reading.text(("a",), "x" * 1025, "text"),
        lambda reading: reading.text(("a",), True, "text"),
        lambda reading: reading.word(("a",), "maybe", ("allow", "deny")),
        lambda reading: reading.flag(("a",), "yes") or None,
    ],
)
def test_a_value_of_another_kind_is_a_problem_and_nothing(take: Callable[[Reading], object]) -> None:
    reading = read("a: 1\n")
    assert take(reading) is None
    assert [problem.line for problem in reading.problems] == [1]


def test_the_number_of_problems_is_bounded() -> None:
    reading = read("\n".join(f"k{number}: 1" for number in range(2 * MAX_FINDINGS)))
    reading.mapping((), reading.tree, ("name",))
    assert len(reading.problems) == MAX_FINDINGS


@given(st.binary(max_size=200))
def test_whatever_the_bytes_are_nothing_is_raised(data: bytes) -> None:
    reading = Reading(data, "file.yml")
    reading.mapping((), reading.tree, ("a",))
    assert all(problem.expected.isprintable() for problem in reading.problems)
