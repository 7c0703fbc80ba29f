"""How the demo looks."""

import io

import pytest

from router.demo.calls import CALLS, Outcome
from router.demo.show import WIDTH, Painter, as_json


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def painted(out: io.StringIO) -> str:
    painter = Painter(out)
    painter.heading()
    outcomes = [Outcome(call, call.expected, ("why " * 40,)) for call in CALLS]
    for outcome in outcomes:
        painter.outcome(outcome)
    painter.summary(outcomes)
    return out.getvalue()


def test_no_line_is_longer_than_the_width() -> None:
    """Long details are wrapped; the widest row fits."""
    assert [line for line in painted(io.StringIO()).splitlines() if len(line.rstrip()) > WIDTH] == []


def test_colour_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not where NO_COLOR or a dumb terminal says otherwise."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert ("\x1b[" in painted(Terminal()), "\x1b[" in painted(io.StringIO())) == (True, False)
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b[" not in painted(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in painted(Terminal())


def test_an_unexpected_outcome_stands_out() -> None:
    """WRONG in the row and in the count."""
    out = io.StringIO()
    painter = Painter(out)
    outcomes = [Outcome(CALLS[0], "502"), Outcome(CALLS[1], "403")]
    painter.outcome(outcomes[0])
    painter.summary(outcomes)
    assert ("WRONG: 502" in out.getvalue(), "1 of 2" in out.getvalue()) == (True, True)


def test_json_tells_the_same() -> None:
    """For programs."""
    told = as_json(Outcome(CALLS[1], "403", ("because",)))
    assert (told["caller"], told["seen"], told["as_expected"], told["details"]) == ("reports", "403", True, ["because"])
