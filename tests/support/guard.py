"""No process of a router outlives the tests, whatever ends them: a guard in a session of its own kills the groups it was told of.

Workers survive the death of their supervisor by design, so the kernel cannot be asked to end them with it.
"""

import atexit
import contextlib
import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

_GUARD = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
groups = set()
for line in sys.stdin:
    word, group = line.split()
    (groups.add if word == "watch" else groups.discard)(int(group))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


_watched: set[int] = set()


@functools.cache
def _guard() -> subprocess.Popen[str]:
    """Ends when the tests do: its input is over then."""
    guard = subprocess.Popen([sys.executable, "-I", "-S", "-c", _GUARD], stdin=subprocess.PIPE, start_new_session=True, text=True)
    assert guard.stdin is not None
    guard.stdin.writelines(f"watch {group}\n" for group in _watched)
    return guard


@atexit.register
def _dismiss() -> None:
    if _guard.cache_info().currsize:
        _guard().communicate()


def _tell(word: str, group: int) -> None:
    guard = _guard()
    if guard.poll() is not None:  # somebody killed it: the next one knows what it knew
        _guard.cache_clear()
        guard = _guard()
    assert guard.stdin is not None
    guard.stdin.write(f"{word} {group}\n")
    guard.stdin.flush()


def watch_group(group: int) -> None:
    """From now on this process group ends with the tests, at the latest."""
    _watched.add(group)
    _tell("watch", group)


def end_group(group: int) -> None:
    """Kill what is left of a process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    _watched.discard(group)
    _tell("forget", group)


def alive_in(group: int) -> list[int]:
    """The ids of a process group's members; those that are dead and only not yet buried are none."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, its_group = (entry / "stat").read_text().rpartition(") ")[2].split()[:3]
                if int(its_group) == group and state not in "ZX":
                    found.append(int(entry.name))
    return sorted(found)
