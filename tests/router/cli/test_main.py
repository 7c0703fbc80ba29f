"""The frame of the command line."""

import subprocess
import sys

import pytest

from router.cli import main
from router.cli.main import COMMANDS


@pytest.mark.parametrize("words", [["--help"], ["check", "--help"], ["routes", "--help"]])
def test_help_is_no_failure(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("usage: vestibule")


@pytest.mark.parametrize("words", [[], ["chek"], ["check"], ["check", "-c"], ["check", "-c", "x", "-o", "xml"]])
def test_a_wrong_call_exits_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "usage:" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    shown = capsys.readouterr().out
    assert [name for name in COMMANDS if name not in shown] == []


def test_help_imports_nothing_heavy() -> None:
    """`--help` answers in under 200 ms: no model, no crypto, no event loop, no command."""
    code = (
        "import sys; from router.cli import main; main(['--help']);"
        "print([m for m in ('pydantic', 'yaml', 'cryptography', 'OpenSSL', 'asyncio', 'router.cli.check')"
        " if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
