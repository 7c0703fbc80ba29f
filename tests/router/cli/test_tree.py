"""Every command in one tree, and what a page about one says."""

import argparse
import sys

import pytest

from router.cli.main import COMMANDS, load
from router.cli.tree import Argument, actions, ordered, pages, whole_tree


def test_the_tree_has_every_command_and_none_besides() -> None:
    """Verbs below their nouns."""
    top = next(action for action in whole_tree()._actions if isinstance(action, argparse._SubParsersAction))
    assert list(top.choices) == list(dict.fromkeys(name.partition(" ")[0] for name in COMMANDS))
    for name in COMMANDS:
        noun, _, verb = name.partition(" ")
        below = [one for one in top.choices[noun]._actions if isinstance(one, argparse._SubParsersAction)]
        assert [verb in one.choices for one in below] == ([True] if verb else [])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_of_itself(name: str) -> None:
    """One line, and its `--help` ends with it."""
    example = load(name).EXAMPLE
    assert f"vestibule {name}" in example
    assert "\n" not in example


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_of_a_command_has_a_help(name: str) -> None:
    """Nobody has to guess."""
    page = next(page for page in pages() if page.name == name)
    assert [one for one in page.arguments if not one.about] == []
    assert page.description.endswith((".", ":"))


def test_a_page_tells_what_the_parser_accepts() -> None:
    page = next(page for page in pages() if page.name == "run")
    config = next(one for one in page.arguments if "-c" in one.flags)
    assert config[:2] == (("-c", "--config"), "FILE")
    assert config.required
    assert page.synopsis.startswith("vestibule run -c FILE")


def test_what_must_be_there_comes_first() -> None:
    flag, needed, word = (
        Argument((("-v",)), "", "", required=False, repeats=False),
        Argument((("-c",)), "FILE", "", required=True, repeats=False),
        Argument((), "WORD", "", required=True, repeats=True),
    )
    assert ordered((flag, needed, word)) == [word, needed, flag]


def test_no_argument_of_any_command_takes_a_secret() -> None:
    """R215: what stands on a command line is read by others; a file that holds a secret may be named."""
    spelled = {option for action in actions(whole_tree()) for option in action.option_strings}
    values = {option for option in spelled if not option.endswith("-file")}
    assert {option for option in values if "pass" in option or "secret" in option or "token" in option} == set()


def test_a_page_is_the_same_whatever_the_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """And on every version of Python: nothing of argparse's layout is in it."""
    before = pages()
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert pages() == before
    assert sys.executable not in str(before)
