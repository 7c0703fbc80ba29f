"""The promise: every command behaves as commands do: help with an example, errors with a remedy, output that pipes well."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from router.cli.main import COMMANDS
from tests.support.typed import typed

VESTIBULE = (sys.executable, "-m", "router")


def said(*words: str) -> subprocess.CompletedProcess[str]:
    """What a person sees who types `vestibule` and these words."""
    return subprocess.run([*VESTIBULE, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)


def on_a_terminal(*words: str, **environment: str) -> str:
    """What a command writes to a terminal, which takes a few KiB at a time and so must be read meanwhile."""
    ours, theirs = pty.openpty()
    wanted = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen([*VESTIBULE, *words], stdout=theirs, stderr=theirs, env={**wanted, "TERM": "xterm", **environment}):
        os.close(theirs)
        shown = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    return shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that nobody has the other side open any more
        return b""


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> str:
    file = tmp_path / "router.yml"
    file.write_text("port: 8081\nstatus: {port: 8080, pass: x}\ntrusted_proxies: []\n")
    return str(file)


def test_the_help_of_a_command_ends_with_a_line_to_type() -> None:
    """Whoever has forgotten how it goes copies the last line."""
    done = typed("check", "--help")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("example: vestibule check -c router.yml")


def test_the_help_of_all_commands_lists_each_with_what_it_does() -> None:
    shown = typed("--help").stdout
    assert [name for name, about in COMMANDS.items() if about not in shown or f"\n  {name} " not in shown] == []


def test_the_version_is_one_line() -> None:
    """For a report about what went wrong."""
    done = said("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("vestibule ")


def test_a_misspelt_command_is_named_with_the_one_that_was_meant() -> None:
    """Exit 2; what to do stands last, on standard error."""
    done = said("chekc", "-c", "router.yml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'chekc' is no command; did you mean 'check'?" in done.stderr
    assert done.stderr.endswith("\ntry: vestibule --help\n")


def test_a_command_that_fails_says_what_to_do() -> None:
    """Exit 1; one sentence, no traceback."""
    done = typed("routes", "--url", "http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("vestibule routes: no answer from 127.0.0.1:1: ")
    assert done.stderr.endswith("; is the router running?\n")


def test_a_program_reads_what_a_person_reads(config: str) -> None:
    """`-o json` and `-o yaml` hold the same; both are all that stands on standard output."""
    as_json, as_yaml = (typed("check", "-c", config, "-o", form) for form in ("json", "yaml"))
    assert json.loads(as_json.stdout) == yaml.safe_load(as_yaml.stdout)
    assert json.loads(as_json.stdout)["ok"] is True
    assert said("check", "-c", config).stdout.startswith("good: 0 errors, ")


@pytest.mark.parametrize("words", [("--help",), ("check", "--help"), ("chekc",), ("man",), ("check", "-c", "/nowhere")])
def test_nothing_is_coloured_where_nobody_wants_it(words: tuple[str, ...]) -> None:
    """No escape sequence in a pipe, and none on a terminal with NO_COLOR."""
    done = said(*words)
    assert "\x1b" not in done.stdout + done.stderr
    assert "\x1b" not in on_a_terminal(*words, NO_COLOR="1")


def test_a_reader_that_leaves_early_is_no_reason_to_complain() -> None:
    """`vestibule man | head -1`: no traceback, no message at exit."""
    pipe = subprocess.run(
        ["bash", "-c", '"$@" | head -1', "bash", *VESTIBULE, "completion", "bash"], capture_output=True, text=True
    )
    assert (pipe.stdout.count("\n"), pipe.stderr) == (1, "")


@pytest.mark.parametrize("words", [("check", "-o", "json"), ("man",), ("completion", "bash"), ("--version",)])
def test_a_full_disk_is_one_sentence(words: tuple[str, ...], config: str) -> None:
    """`vestibule check > /dev/full`: exit status 1, since what was asked for is nowhere; no traceback."""
    named = ("-c", config) if words[0] == "check" else ()
    with open("/dev/full", "w") as full:
        done = subprocess.run([*VESTIBULE, *words, *named], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "vestibule: the output could not be written: No space left on device; make room, or send it elsewhere\n"
    )


@pytest.mark.skipif(not shutil.which("man"), reason="asks a real man")
def test_man_shows_the_page(tmp_path: Path) -> None:
    """`vestibule man | man -l -`."""
    page = tmp_path / "vestibule.1"
    page.write_text(said("man").stdout)
    done = subprocess.run(
        ["man", "--warnings", "-P", "cat", "-l", str(page)],
        capture_output=True,
        text=True,
        env={**os.environ, "MANWIDTH": "200", "LC_ALL": "C.UTF-8"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [name for name in COMMANDS if f"\n   {name}\n" not in done.stdout] == []
