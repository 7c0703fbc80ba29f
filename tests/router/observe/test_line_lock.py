"""router/observe/line_lock.py: lines of several processes stay whole in what they share.

Real processes, each with a sink of its own, as workers are: they write lines far longer than a pipe takes at once.
"""

import array
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import termios
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from router.observe.line_lock import LineLock, make_line_lock
from router.observe.sink import DescriptorTarget, FileTarget, Sink

ROOT = Path(__file__).parents[3]
WIDTH = 50_000
"""Bytes of a line: a pipe takes 4,096 of them without interruption."""
LINES = 60

WRITER = """
import sys
from router.observe.line_lock import LineLock
from router.observe.sink import DescriptorTarget, FileTarget, Sink
target, lock, name, width, lines = sys.argv[1:]
lock = LineLock(int(lock))
sink = Sink(FileTarget(target, lock) if "/" in target else DescriptorTarget(int(target), lock))
sys.stdin.readline()
for number in range(int(lines)):
    while sink.write([(name * int(width)).encode()] * (number % 3 + 1)):
        pass
print("accepted" if sink.close(60) else "left")
"""
"""A process that writes batches of one letter; it begins when it is told."""


class Writers:
    """Processes that share one lock and one target."""

    def __init__(self, target: str | int, names: str, lines: int = LINES, width: int = WIDTH) -> None:
        self._lock = make_line_lock()
        self.lock = LineLock(self._lock)
        shared = (self._lock, target) if isinstance(target, int) else (self._lock,)
        self.processes = {
            name: subprocess.Popen(
                [sys.executable, "-c", WRITER, str(target), str(self._lock), name, str(width), str(lines)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, pass_fds=shared,
            )
            for name in names
        }  # fmt: skip

    def __enter__(self) -> "Writers":
        return self

    def begin(self, names: str) -> None:
        for name in names:
            stdin = self.processes[name].stdin
            assert stdin is not None
            stdin.write(b"\n")
            stdin.flush()

    def end(self, names: str) -> None:
        for name in names:
            assert self.processes[name].communicate(timeout=60)[0] == b"accepted\n"

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
            process.communicate()
        self.lock.close()
        os.close(self._lock)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def read_all(reader: int) -> bytes:
    with open(reader, "rb", closefd=False) as file:
        return file.read()


def whole(text: bytes, width: int = WIDTH) -> Counter[str]:
    """How many lines of each letter there are; every line must be one letter, `width` times."""
    lines = text.removesuffix(b"\n").split(b"\n")
    assert {(len(line), len(set(line))) for line in lines} == {(width, 1)}
    return Counter(chr(line[0]) for line in lines)


def test_three_processes_share_a_pipe_and_every_line_is_whole(pipe: tuple[int, int]) -> None:
    """Lines longer than what a pipe takes at once never mix, and none is lost."""
    reader, writer = pipe
    with Writers(writer, "abc", lines=12) as writers:
        os.close(writer)
        writers.begin("abc")
        text = read_all(reader)
        writers.end("abc")
    assert whole(text) == {"a": 24, "b": 24, "c": 24}


def test_three_processes_share_a_file(tmp_path: Path) -> None:
    """An access log of several workers."""
    path = tmp_path / "access.log"
    with Writers(str(path), "abc", lines=12) as writers:
        writers.begin("abc")
        writers.end("abc")
    assert whole(path.read_bytes()) == {"a": 24, "b": 24, "c": 24}


def full(writer: int) -> bool:
    """Whether whoever writes into the pipe now has to wait: less than a page is free."""
    waiting = array.array("i", [0])
    fcntl.ioctl(writer, termios.FIONREAD, waiting)
    return waiting[0] > fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ) - 4096


def test_a_process_that_is_killed_within_a_line_takes_no_other_line_along(pipe: tuple[int, int]) -> None:
    """kill -9 while its line waits in a pipe that nobody reads: the lock is free at once, and its half line ends where it is."""
    reader, writer = pipe
    width = 2 * fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    with Writers(writer, "abc", lines=3, width=width) as writers:
        writers.begin("a")
        while not full(writer):
            assert writers.processes["a"].poll() is None
        writers.begin("bc")
        os.kill(writers.processes["a"].pid, signal.SIGKILL)
        writers.processes["a"].wait(10)
        os.close(writer)
        half, _, rest = read_all(reader).partition(b"\n")
        writers.end("bc")
    assert set(half) == {ord("a")}
    assert 0 < len(half) < width
    assert whole(rest, width) == {"b": 6, "c": 6}


def test_a_rotated_file_loses_no_line(tmp_path: Path) -> None:
    """SIGHUP: each process opens the file anew when it comes to it; a line is whole in the old file or in the new one."""
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    with ExitStack() as stack:
        descriptor = make_line_lock()
        stack.callback(os.close, descriptor)
        sinks = []
        for _ in "ab":
            lock = LineLock(descriptor)
            stack.callback(lock.close)
            sinks.append(Sink(FileTarget(str(path), lock)))
        for name, sink in zip(b"ab", sinks, strict=True):
            sink.write([bytes([name]) * WIDTH])
        path.rename(old)
        for name, sink in zip(b"ab", sinks, strict=True):
            sink.write([bytes([name]) * WIDTH])
            sink.reopen()
            sink.write([bytes([name]) * WIDTH])
        assert all(sink.close(10) for sink in sinks)
    assert whole(old.read_bytes()) == {"a": 2, "b": 2}
    assert whole(path.read_bytes()) == {"a": 1, "b": 1}


def test_what_an_error_cuts_is_ended_by_the_next(tmp_path: Path) -> None:
    """A line that the disk took in part is not the beginning of another's; what it took nothing of leaves no trace."""
    descriptor = make_line_lock()
    lock, other = LineLock(descriptor), LineLock(descriptor)
    assert lock.hold() is False
    lock.release(finished=False)
    path = tmp_path / "access.log"
    path.write_bytes(b"hal")
    target = FileTarget(str(path), other)
    assert target.write([b"whole"]) == 0
    assert target.write([b"next"]) == 0
    assert path.read_bytes() == b"hal\nwhole\nnext\n"
    target.close()
    with open(os.devnull, "rb") as unwritable:
        assert DescriptorTarget(unwritable.fileno(), lock).write([b"lost", b"too"]) == 2
    assert other.hold() is False
    other.close()
    lock.close()
    os.close(descriptor)


def test_whoever_logs_does_not_wait_for_whoever_writes(pipe: tuple[int, int]) -> None:
    """The lock is held elsewhere, for as long as it likes: `write` and `close` return, and the lines come when it is free."""
    reader, writer = pipe
    descriptor = make_line_lock()
    held, lock = LineLock(descriptor), LineLock(descriptor)
    held.hold()
    sink = Sink(DescriptorTarget(writer, lock), max_pending=8)
    assert [sink.write([line]) for line in (b"first", b"too long", b"2nd")] == [0, 1, 0]
    assert sink.close(0) is False
    held.release(finished=True)
    assert sink.close(10) is True
    assert os.read(reader, 100) == b"first\n2nd\n"
    for each in (held, lock):
        each.close()
    os.close(descriptor)


def test_a_lock_that_cannot_be_had_loses_the_lines_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sink's thread must live on."""
    descriptor = make_line_lock()
    lock = LineLock(descriptor)

    def fail(*_: object) -> None:
        raise OSError("no locks")

    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", fail)
        assert DescriptorTarget(1, lock).write([b"a", b"b"]) == 2
    lock.close()
    os.close(descriptor)
