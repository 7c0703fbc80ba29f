"""router/cli/watch.py: a view, again and again."""

import argparse
import io
from collections.abc import Callable, Iterator

import pytest

from router.cli.watch import add_watch, watch


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made; Ctrl-C comes in the third."""
    made: list[float] = []

    def pause(seconds: float) -> None:
        made.append(seconds)
        if len(made) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("router.cli.watch.time.sleep", pause)
    return made


def views(*texts: str | ValueError) -> Callable[[], str]:
    """These, one after the other."""
    left: Iterator[str | ValueError] = iter(texts)

    def view() -> str:
        text = next(left)
        if isinstance(text, ValueError):
            raise text
        return text

    return view


def test_elsewhere_a_separator_stands_between_the_views(turns: list[float]) -> None:
    out = io.StringIO()
    watch(0.5, views("one", "two", "three"), out)
    assert out.getvalue() == "one\n---\ntwo\n---\nthree\n"
    assert turns == [0.5] * 3


def test_on_a_terminal_each_view_replaces_the_one_before(turns: list[float]) -> None:
    out = Terminal()
    watch(2, views("one", "two", "three"), out)
    assert out.getvalue() == "".join(f"\x1b[H\x1b[2J{text}\n" for text in ("one", "two", "three"))


def test_a_long_view_is_cut_to_the_terminal(turns: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "5")
    out = Terminal()
    watch(2, views(*["\n".join("abcdefgh")] * 3), out)
    assert out.getvalue().splitlines()[-4:] == ["\x1b[H\x1b[2Ja", "b", "c", "... and 5 lines more"]


def test_what_goes_wrong_later_is_shown_and_the_next_view_comes(turns: list[float]) -> None:
    """A router that is started anew is seen again."""
    out = io.StringIO()
    watch(2, views("one", ValueError("gone"), "three"), out)
    assert out.getvalue() == "one\n---\ngone\n---\nthree\n"


def test_what_goes_wrong_at_first_is_raised(turns: list[float]) -> None:
    with pytest.raises(ValueError, match="gone"):
        watch(2, views(ValueError("gone")), io.StringIO())


@pytest.mark.parametrize(("words", "seconds"), [([], None), (["--watch"], 2.0), (["--watch", "0.5"], 0.5)])
def test_the_seconds_need_not_be_said(words: list[str], seconds: float | None) -> None:
    parser = argparse.ArgumentParser()
    add_watch(parser)
    assert parser.parse_args(words).watch == seconds


@pytest.mark.parametrize("text", ["0", "-1", "x", "nan", "inf", "1e9"])
def test_seconds_are_bounded(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_watch(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--watch={text}"])
    assert "is no number of seconds from 0.1 to 86400" in capsys.readouterr().err
