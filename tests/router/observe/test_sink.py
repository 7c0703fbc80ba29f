"""router/observe/sink.py: lines are written by a thread, within a bound."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from router.observe.sink import DescriptorTarget, FileTarget, Sink


class HeldTarget:
    """A target that waits for a sign before it writes."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.lines: list[bytes] = []

    def write(self, lines: Sequence[bytes]) -> int:
        """Wait, then keep."""
        assert self.go.wait(10)
        self.lines += lines
        return 0

    def reopen(self) -> Callable[[], None]:
        """Leave a mark where the change-over happened."""
        return lambda: self.lines.append(b"reopened")

    def close(self) -> None:
        """Leave a mark."""
        self.lines.append(b"closed")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe nobody reads."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_lines_arrive_in_order_each_with_its_line_feed(pipe: tuple[int, int]) -> None:
    """Batches become one text."""
    sink = Sink(DescriptorTarget(pipe[1]))
    assert [sink.write(lines) for lines in ([b"a", b"b"], [], [b"c"])] == [0, 0, 0]
    assert sink.close(10)
    assert os.read(pipe[0], 100) == b"a\nb\nc\n"


def test_what_a_slow_target_cannot_take_is_dropped_and_counted() -> None:
    """The caller never waits; a batch is dropped whole."""
    target = HeldTarget()
    sink = Sink(target, max_pending=10)
    assert [sink.write(lines) for lines in ([b"12345"], [b"123", b"456"], [b"67890"])] == [0, 2, 0]
    assert (sink.dropped, sink.pending) == (2, 10)
    target.go.set()
    assert sink.close(10)
    assert target.lines == [b"12345", b"67890", b"closed"]
    assert sink.pending == 0


def test_room_comes_back_once_lines_are_written() -> None:
    """The bound is on what waits, not on what was ever written."""
    target = HeldTarget()
    target.go.set()
    sink = Sink(target, max_pending=10)
    for number in range(100):
        while sink.write([b"%08d" % number]):
            pass
    assert sink.close(10)
    assert [b"%08d" % number for number in range(100)] == target.lines[:-1]


def test_a_full_pipe_does_not_hold_up_the_caller(pipe: tuple[int, int]) -> None:
    """Standard output may be a pipe that nobody reads."""
    sink = Sink(DescriptorTarget(pipe[1]), max_pending=200_000)
    dropped = sum(sink.write([b"x" * 49_999]) for _ in range(20))
    assert dropped == sink.dropped >= 10
    assert not sink.close(0.01)
    received = 0
    while received < (20 - dropped) * 50_000:
        received += len(os.read(pipe[0], 65_536))
    assert sink.close(10)


def test_a_descriptor_made_non_blocking_by_others_loses_nothing(pipe: tuple[int, int]) -> None:
    """Somebody who shares standard output may have changed its mode."""
    os.set_blocking(pipe[1], False)
    sink = Sink(DescriptorTarget(pipe[1]))
    sink.write([b"x" * 299_999])
    received = 0
    while received < 300_000:
        received += len(os.read(pipe[0], 65_536))
    assert sink.close(10)
    assert sink.dropped == 0


def test_a_target_that_fails_is_counted() -> None:
    """A reader that has gone: no exception, but a number."""
    reader, writer = os.pipe()
    os.close(reader)
    sink = Sink(DescriptorTarget(writer))
    sink.write([b"a", b"b"])
    assert sink.close(10)
    os.close(writer)
    assert sink.dropped == 2


def test_reopening_waits_for_the_lines_before_it() -> None:
    """What was accepted before belongs to the old file."""
    target = HeldTarget()
    sink = Sink(target)
    sink.write([b"old"])
    sink.reopen()
    sink.write([b"new"])
    target.go.set()
    assert sink.close(10)
    assert target.lines == [b"old", b"reopened", b"new", b"closed"]


def test_a_rotated_file_is_made_anew(tmp_path: Path) -> None:
    """Rename, reopen: later lines stand in a new file of the old name."""
    path = tmp_path / "access.log"
    sink = Sink(FileTarget(str(path)))
    sink.reopen()
    sink.write([b"one"])
    sink.reopen()
    path.rename(tmp_path / "access.log.1")
    sink.reopen()
    sink.write([b"two"])
    assert sink.close(10)
    assert ((tmp_path / "access.log.1").read_bytes(), path.read_bytes()) == (b"one\n", b"two\n")


def test_a_file_that_cannot_be_reopened_keeps_the_old_one(tmp_path: Path) -> None:
    """The caller hears of it; lines are not lost."""
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = Sink(FileTarget(str(folder / "access.log")))
    folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        sink.reopen()
    sink.write([b"still here"])
    assert sink.close(10)
    assert (tmp_path / "moved" / "access.log").read_bytes() == b"still here\n"


def test_a_descriptor_has_nothing_to_reopen(pipe: tuple[int, int]) -> None:
    """SIGHUP with standard output as the target changes nothing."""
    sink = Sink(DescriptorTarget(pipe[1]))
    sink.reopen()
    sink.write([b"a"])
    sink.reopen()
    assert sink.close(10)
    assert os.read(pipe[0], 10) == b"a\n"
