"""How commands show what they found."""

import io
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.cli.files import unreadable
from router.cli.output import MAX_CELL, cell, counted, paint, refuse, render, table, tell


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_each_form_shows_the_same_value() -> None:
    """`-o json` and `-o yaml` are the value, `-o table` is for people."""
    value = {"routes": [{"host": "a.example", "tls": True}]}
    assert json.loads(render("json", value, str)) == value
    assert yaml.safe_load(render("yaml", value, str)) == value
    assert render("table", value, lambda: "for people") == "for people"


def test_one_is_not_many() -> None:
    assert [counted(count, "error") for count in (0, 1, 2)] == ["0 errors", "1 error", "2 errors"]


def test_columns_are_aligned_and_lines_end_without_blanks() -> None:
    assert table(("A", "LONG"), [("xyz", None), (1, True)]) == "A    LONG\nxyz  -\n1    true"


@given(st.text())
def test_no_cell_steers_a_terminal_or_fills_it(text: str) -> None:
    """Whatever an app registered: printable ASCII, bounded."""
    shown = cell(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert 0 < len(shown) <= MAX_CELL


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """no-color.org: any value of NO_COLOR that is not empty."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert paint("good", "green", Terminal()) == "\x1b[32mgood\x1b[0m"
    assert paint("good", "green", io.StringIO()) == "good"
    monkeypatch.setenv("TERM", "dumb")
    assert paint("good", "green", Terminal()) == "good"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("good", "green", Terminal()) == "good"


def test_problems_are_told_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    tell([unreadable("a.yml", FileNotFoundError(2, "No such file")), unreadable("b.yml", ValueError("null byte"))], "error")
    told = capsys.readouterr()
    assert told.out == ""
    assert "a.yml: error: (whole file)\n    value:    No such file\n" in told.err
    assert "b.yml: error: (whole file)\n    value:    not a file name\n" in told.err


def test_what_is_refused_is_told_to_people_and_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    problems = (unreadable("a.yml", FileNotFoundError(2, "No such file")),)
    assert refuse("policy test", "table", problems) == 1
    told = capsys.readouterr()
    assert (told.out, told.err.splitlines()[-1]) == (
        "",
        "vestibule policy test: nothing was done: 1 problem; mend what is said above",
    )
    assert refuse("policy test", "json", problems) == 1
    told = capsys.readouterr()
    assert (json.loads(told.out), told.err) == ({"ok": False, "problems": [problems[0].as_json()]}, "")
