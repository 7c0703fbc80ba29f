"""docs/requirements.md, kept true: every requirement and decision has a row, and each file it names says that it proves it."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/requirements.md"
REQUIRED = [
    *range(244, 258), *range(260, 272), 273, *range(278, 282), 284, *range(303, 306), *range(310, 320), 321, 328, 329,
]  # fmt: skip
"""What must be proved before the two doors count as built."""
DECISIONS = 14

ROW = re.compile(r"^\| (R?)(\d+) \| (.+) \| (.+) \|$", re.MULTILINE)
LINK = re.compile(r"\[([\w.]+)\]\(\.\./(tests/[\w/.]+)\)")
DECISION = re.compile(r"\b[Dd]ecisions? (\d+(?:(?:,| and) \d+)*)")


@cache
def table(letter: str) -> dict[int, tuple[str, list[Path]]]:
    """Number -> (what it says, the files it names); `R` for requirements, nothing for decisions."""
    rows = [(int(number), said, files) for kind, number, said, files in ROW.findall(PAGE.read_text()) if kind == letter]
    assert len(rows) == len({number for number, _, _ in rows}), "a number has two rows"
    return {number: (said, [ROOT / path for _, path in LINK.findall(files)]) for number, said, files in rows}


@cache
def docstrings(file: Path) -> tuple[str, ...]:
    """What the tests of a file promise."""
    nodes = ast.walk(ast.parse(file.read_text()))
    tests = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name.startswith("test_")]
    return tuple(text for test in tests if (text := ast.get_docstring(test)))


def test_every_requirement_has_one_row() -> None:
    """The page is whole and says something of each."""
    assert list(table("R")) == REQUIRED
    assert [number for number, (said, files) in table("R").items() if len(said) < 20 or len(files) != 1] == []


@pytest.mark.parametrize("number", REQUIRED)
def test_the_file_of_a_requirement_has_a_test_that_names_it(number: int) -> None:
    """The number stands in the docstring of a test of that file."""
    _, files = table("R")[number]
    for file in files:
        assert file.exists(), file
        assert any(re.search(rf"\bR{number}\b", text) for text in docstrings(file)), f"{file.name} names no R{number}"


def test_every_decision_has_one_row_and_a_guard() -> None:
    """1 to 14, each with a file of tests."""
    assert list(table("")) == list(range(1, DECISIONS + 1))
    assert [number for number, (_, files) in table("").items() if not files or not all(file.exists() for file in files)] == []


@pytest.mark.parametrize("number", range(1, DECISIONS + 1))
def test_a_behaviour_test_that_guards_a_decision_names_it(number: int) -> None:
    """So that whoever breaks one reads which it was."""
    _, files = table("")[number]
    for file in files:
        if file.parent.name == "behaviour":
            named = {int(one) for text in docstrings(file) for some in DECISION.findall(text) for one in re.findall(r"\d+", some)}
            assert number in named, f"{file.name} names no decision {number}"
