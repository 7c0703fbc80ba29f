"""Child processes that never outlive their parent."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from router.demo import process as module
from router.demo.process import free_port, spawn, stop
from tests.support.router import wait_until

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]


def up(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    assert process.stdout is not None
    with process.stdout as out:
        assert out.readline() == b"up\n"
    return process


def test_stop_ends_a_process_by_sigterm() -> None:
    """The exit status tells the signal."""
    assert stop(up(spawn(SLEEP, stdout=subprocess.PIPE))) == -signal.SIGTERM


def test_stop_kills_what_does_not_listen() -> None:
    """After the time it was given."""
    assert stop(up(spawn(STUBBORN, stdout=subprocess.PIPE)), seconds=0.05) == -signal.SIGKILL


def test_stop_of_an_ended_process_tells_its_status() -> None:
    """No signal is sent then."""
    process = spawn([sys.executable, "-c", "raise SystemExit(3)"])
    process.wait(20)
    assert stop(process) == 3


def test_a_child_has_a_session_of_its_own() -> None:
    """The terminal's Ctrl-C does not reach it."""
    process = up(spawn(SLEEP, stdout=subprocess.PIPE))
    assert os.getsid(process.pid) == process.pid
    stop(process)


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_a_child_dies_with_its_parent() -> None:
    """Whatever kills the parent, the kernel kills the child."""
    code = (
        "import sys, time; from router.demo.process import spawn; "
        f"print(spawn({SLEEP!r}, stdout=-3).pid, flush=True); time.sleep(60)"
    )
    parent = spawn(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert parent.stdout is not None
    with parent.stdout as out:
        child = int(out.readline())
    assert Path(f"/proc/{child}").exists()
    parent.kill()
    parent.wait()
    wait_until(lambda: _is_gone(child), "the child's end")


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_free_port_is_not_one_that_linux_lends_to_clients() -> None:
    """It is a loopback port of this moment, another at each call."""
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20
    assert all(10_000 <= port < 32_768 for port in ports)


def test_a_port_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is given."""
    taken, following = free_port(), free_port()
    with socket.create_server(("127.0.0.1", taken)):
        monkeypatch.setattr(module, "_TURN", iter([taken, following]))
        assert free_port() == following
