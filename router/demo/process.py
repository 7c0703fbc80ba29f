"""Child processes that never outlive their parent, whatever ends it.

Promises: a child of `spawn` is in a session of its own (the terminal's Ctrl-C reaches only the parent, which
then stops its children in order) and, on Linux, is killed by the kernel when the parent dies
(PR_SET_PDEATHSIG). Refuses to know: what the child is.
"""

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

STOP_SECONDS = 10.0
"""How long `stop` waits after SIGTERM before it kills."""

_PORTS = range(10_000, 32_768)
_START = random.randrange(len(_PORTS))  # noqa: S311 - two programs should not walk side by side
_TURN: Iterator[int] = itertools.cycle((*_PORTS[_START:], *_PORTS[:_START]))

# Runs before the program itself: asks for SIGKILL at the parent's death, and leaves if that came first.
_TETHER = (
    "import ctypes,os,sys;ctypes.CDLL(None).prctl(1,9);"
    "os.getppid()==int(sys.argv[1]) or sys.exit(1);os.execv(sys.argv[2],sys.argv[2:])"
)


def spawn(
    command: Sequence[str],
    *,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | int | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` (its first word an absolute path), from a thread that lives as long as the child."""
    tether = [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid())] if sys.platform == "linux" else []
    return subprocess.Popen(  # noqa: S603 - the command is ours, and no shell reads it
        [*tether, *command],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        env=env,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes], seconds: float = STOP_SECONDS) -> int:
    """End the process: SIGTERM, then SIGKILL after `seconds`. Its exit status; negative for a signal."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def free_port() -> int:
    """A loopback TCP port that was free a moment ago.

    Each call gives another, from below those that Linux lends to clients: none of them takes it before its server does.
    """
    for _ in range(len(_PORTS)):
        port: int = next(_TURN)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")
