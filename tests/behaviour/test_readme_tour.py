"""The promise: the tour in README.md works as written.

Its `sh` blocks run in one bash, in order; what each writes must hold the `text` block after it, in which `…` stands for
anything within a line, and for any lines where it is a line of its own. Ports are replaced by free ones, and reading a log
is repeated until it tells: a person takes a second to type.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from router.demo.process import free_port

ROOT = Path(__file__).parents[2]
TOUR = "## A tour in five minutes"
PORTS = ("4222", "8080", "8081", "8082", "8443", "9000")
FENCED = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "---- end of step"
SECONDS = 50.0
TOOLS = ("bash", "openssl", "curl")

RUNS_ON_THIS_MACHINE = pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason=f"the tour is for people who have {', '.join(TOOLS)}"
)


class Step(NamedTuple):
    """Commands, and what must be seen; empty: the commands succeed."""

    commands: str
    expected: str


def tour() -> list[Step]:
    """The steps of the tour, in order."""
    section = (ROOT / "README.md").read_text().partition(TOUR)[2].partition("\n## ")[0]
    steps: list[Step] = []
    for kind, text in FENCED.findall(section):
        if kind == "sh":
            steps.append(Step(text, ""))
        else:
            assert steps and not steps[-1].expected, f"this text follows no commands: {text}"
            steps[-1] = Step(steps[-1].commands, text)
    return steps


def with_free_ports(steps: list[Step]) -> list[Step]:
    free = {port: str(free_port()) for port in PORTS}

    def change(text: str) -> str:
        return re.sub(r"\b(?:" + "|".join(PORTS) + r")\b", lambda found: free[found[0]], text)

    return [Step(change(commands), change(expected)) for commands, expected in steps]


def script(steps: list[Step]) -> str:
    """The whole tour as one script that says where each step ends, and with which status."""
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


def walk(steps: list[Step], directory: Path) -> tuple[str, str]:
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


def test_the_tour_tries_what_it_promises() -> None:
    """Part 13: an allow with the caller's name, a 403 with its reason, and a 421 are all in it."""
    seen = "\n".join(step.expected for step in tour())
    wanted = ("200 OK", "X-Forwarded-Client-Cert: ", "403 Forbidden", '"trail":', "421 Misdirected Request")
    assert [one for one in wanted if one not in seen] == []


@RUNS_ON_THIS_MACHINE
def test_every_command_of_the_tour_shows_what_the_readme_says(tmp_path: Path) -> None:
    """Part 13: a stranger follows the README to an allow, a 403 with its reason and a 421."""
    steps = with_free_ports(tour())
    output, errors = walk(steps, tmp_path)
    shown = re.split(rf"^{MARK} (\d+)\n", output, flags=re.MULTILINE)
    assert len(steps) == len(shown) // 2, f"the tour ended early:\n{output}\n{errors}"
    for step, seen, status in zip(steps, shown[0::2], shown[1::2], strict=False):
        if step.expected:
            found = re.search(pattern(step.expected), seen, re.MULTILINE)
            assert found, f"{step.commands}\nwrote\n{seen}\nexpected\n{step.expected}"
        else:
            assert status == "0", f"{step.commands}\nended with {status}:\n{seen}\n{errors}"
