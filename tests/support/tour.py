"""A page that is to be typed: its `sh` blocks run in one bash, in order, as a person would type them.

What each block writes must hold the `text` block after it, in which `…` stands for anything within a line, and for any lines
where it is a line of its own. Ports are replaced by free ones, and reading a log is repeated until it tells: a person takes a
second to type.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from router.demo.process import free_port

FENCED = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "---- end of step"
SECONDS = 50.0
TOOLS = ("bash", "openssl", "curl")

RUNS_ON_THIS_MACHINE = pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason=f"the page is for people who have {', '.join(TOOLS)}"
)


class Step(NamedTuple):
    """Commands, and what must be seen; empty: the commands succeed."""

    commands: str
    expected: str


def steps_of(text: str) -> list[Step]:
    """The steps of a page, or of a part of it, in order."""
    steps: list[Step] = []
    for kind, block in FENCED.findall(text):
        if kind == "sh":
            steps.append(Step(block, ""))
        else:
            assert steps and not steps[-1].expected, f"this text follows no commands: {block}"
            steps[-1] = Step(steps[-1].commands, block)
    return steps


def with_free_ports(steps: Sequence[Step], ports: Sequence[str]) -> list[Step]:
    """The same with other ports, so that several can run at a time."""
    free = {port: str(free_port()) for port in ports}

    def change(text: str) -> str:
        return re.sub(r"\b(?:" + "|".join(ports) + r")\b", lambda found: free[found[0]], text)

    return [Step(change(commands), change(expected)) for commands, expected in steps]


def script(steps: Sequence[Step]) -> str:
    """The whole page as one script that says where each step ends, and with which status."""
    parts = ["trap 'kill $(jobs -p) 2> /dev/null' EXIT"]
    for commands, _ in steps:
        patient = re.sub(r"^(grep .*)$", r"for _ in $(seq 100); do \1 && break; sleep 0.1; done", commands, flags=re.MULTILINE)
        parts += [patient.rstrip(), f'echo; echo "{MARK} $?"']
    return "\n".join([*parts, "wait", ""])


def pattern(expected: str) -> str:
    """What to look for: a regular expression of `expected`."""
    lines = []
    for line in expected.splitlines():
        if line == "…":
            lines.append("(?:.*\n)*?")
        else:
            fitting = re.sub(r"(?:\\ )+", " +", re.escape(line)).replace("…", ".*")
            lines.append(fitting + ".*\n")
    return "^" + "".join(lines)


def walk(steps: Sequence[Step], directory: Path) -> tuple[str, str]:
    """Run them all in a directory that looks like the project's; what they wrote."""
    (directory / ".venv").symlink_to(sys.prefix)
    walker = subprocess.Popen(
        ["bash", "-c", script(steps)],
        cwd=directory,
        env={**os.environ, "TMPDIR": str(directory)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, errors = walker.communicate(timeout=SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(walker.pid, signal.SIGKILL)
    return output.decode().replace("\r\n", "\n"), errors.decode()


def assert_shows(steps: Sequence[Step], directory: Path) -> None:
    """Every step shows what the page says; one without a text ends with status 0."""
    output, errors = walk(steps, directory)
    shown = re.split(rf"^{MARK} (\d+)\n", output, flags=re.MULTILINE)
    assert len(steps) == len(shown) // 2, f"it ended early:\n{output}\n{errors}"
    for step, seen, status in zip(steps, shown[0::2], shown[1::2], strict=False):
        if step.expected:
            found = re.search(pattern(step.expected), seen, re.MULTILINE)
            assert found, f"{step.commands}\nwrote\n{seen}\nexpected\n{step.expected}\n{errors[-3000:]}"
        else:
            assert status == "0", f"{step.commands}\nended with {status}:\n{seen}\n{errors}"
