"""How a wrong call is answered."""

import pytest

from router.cli import main
from router.cli.wrong_call import did_you_mean, spellings


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "vestibule: error: which command? run, check, "),
        (["chekc", "-c", "x"], "vestibule: error: 'chekc' is no command; did you mean 'check'?"),
        (["teleport"], "vestibule: error: 'teleport' is no command\n"),
        (["-c", "x", "run"], "vestibule: error: '-c' is not understood"),
        (["check", "--confg", "x", "-c", "y"], "vestibule check: error: '--confg' is not understood; did you mean '--config'?"),
        (["check"], "vestibule check: error: there is nothing to check; name a configuration with -c FILE, or "),
        (["tap"], "vestibule tap: error: everything at once is too much; give --host, "),
        (["emit", "-m", "x", "--instance", "a:1"], "vestibule emit: error: where is NATS? give --nats URL, "),
        (["policy", "diff", "x"], "vestibule policy diff: error: there is nothing to compare with; name "),
        (["explain", "--host", "h"], "vestibule explain: error: which route? give one of them: "),
        (["run"], "vestibule run: error: the following arguments are required: -c/--config"),
        (["check", "-c", "x", "-o", "xml"], "vestibule check: error: argument -o/--output: invalid choice: 'xml' (choose from "),
    ],
)
def test_what_was_wrong_and_what_is_near(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2; usage first, a command to type last; nothing on standard output."""
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("usage: vestibule")
    assert said in shown.err
    assert shown.err.endswith(f"\ntry: {said.partition(':')[0]} --help\n")


def test_help_says_which_options_may_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    """Once each."""
    for words in (["check", "--help"], ["policy", "diff", "--help"]):
        assert main(words) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "a manifest.yml; may be repeated -" in shown
        assert "may be repeated; may be" not in shown


def test_a_word_that_would_steer_the_terminal_is_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that was pasted from somewhere does no harm."""
    assert main(["\x1b[2J" + "x" * 5000]) == 2
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert len(shown) < 500


def test_a_command_is_found_by_other_spellings_of_it() -> None:
    """By its last word alone, and joined by a hyphen."""
    meant = spellings(["check", "policy test", "policy diff"])
    assert did_you_mean("diff", meant) == "; did you mean 'policy diff'?"
    assert did_you_mean("policy-test", meant) == "; did you mean 'policy test'?"
    assert did_you_mean("polcy test", meant) == "; did you mean 'policy test'?"
    assert did_you_mean("zzz", meant) == ""
