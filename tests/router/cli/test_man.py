"""The manual page."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.cli import main
from router.cli.main import COMMANDS
from router.cli.man import plain, render

MACROS = {".TH", ".SH", ".SS", ".PP", ".TP", ".nf", ".fi", ".nh", ".ad"}


def shown(page: str) -> str:
    """What groff makes of a page, without its overstrikes; any warning of its fails."""
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-P-cbou"], input=page, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_every_line_is_text_or_a_known_request() -> None:
    """The structure, wherever roff is not there to judge."""
    lines = render().splitlines()
    assert {line.split()[0] for line in lines if line.startswith((".", "'"))} == MACROS
    assert lines[0].startswith(".TH VESTIBULE 1 ")
    headings = [line.removeprefix(".SH ") for line in lines if line.startswith(".SH ")]
    assert headings[:4] == ["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS"]
    assert [line.removeprefix(".SS ").replace("\\-", "-") for line in lines if line.startswith(".SS ")] == list(COMMANDS)


@pytest.mark.skipif(not shutil.which("groff"), reason="asks a real groff")
def test_groff_renders_it_without_a_warning() -> None:
    """Every option can be copied from what is shown."""
    text = shown(render())
    assert "-o table|json|yaml, --output table|json|yaml" in text
    assert 'eval "$(vestibule completion bash)"' in text


@given(st.text(max_size=60))
def test_no_text_becomes_a_request_or_an_escape(text: str) -> None:
    """Leading dots and quotes, backslashes, hyphens: all are shown as they are."""
    line = plain(text)
    assert "\n" not in line
    assert not line.startswith((".", "'"))
    assert line.isascii()
    assert re.sub(r"\\(?:\(rs|\(aq|\(ga|\(ha|\(ti|\(dq|-|&|\[u[0-9A-F]{4,6}\])", "", line).count("\\") == 0


@pytest.mark.skipif(not shutil.which("groff"), reason="asks a real groff")
@pytest.mark.parametrize("text", [".br", "'br", r"C:\new \fB", "--a-b", '"x"', "`a` ~ ^"])
def test_groff_shows_what_was_meant(text: str) -> None:
    assert text in shown(f".TH X 1\n.SH Y\n{plain(text)}\n")


def test_the_command_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["man"]) == 0
    assert capsys.readouterr().out == render()
