"""Where log lines go: a queue with a bound, and a thread that may wait for the disk or the pipe so that
nobody else does.

Promises: `write` never blocks and never raises; lines beyond the bound are dropped and counted, whole batches
at a time; what was accepted is written in order; `reopen` changes the file between two batches, or raises and
keeps the old one; lines of several processes stay whole where all of them write with the same lock (line_lock.py).
Refuses to know what a line means. A thread and not a non-blocking descriptor: O_NONBLOCK would change the
standard output for every process that shares it.
"""

import os
import select
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Protocol

from router.observe.line_lock import LineLock

MAX_PENDING_BYTES = 4 * 1024 * 1024
"""Bytes that wait for a slow target before lines are dropped: some 10,000 access-log lines."""


class Target(Protocol):
    """The end of a sink, used by its thread alone; each call may block."""

    def write(self, lines: Sequence[bytes]) -> int:
        """Write lines (without their line feed); return how many of them were lost. Never raises."""

    def reopen(self) -> Callable[[], None]:
        """Open anew, on the caller's thread; raise OSError if that fails; return the step that changes
        over."""

    def close(self) -> None:
        """Release what this target opened."""


class DescriptorTarget:
    """A descriptor that somebody else owns, such as standard output: nothing to reopen, nothing to close."""

    def __init__(self, descriptor: int, lock: LineLock | None = None) -> None:
        self._descriptor = descriptor
        self._lock = lock

    def write(self, lines: Sequence[bytes]) -> int:
        """As Target.write."""
        return _write_all(self._descriptor, lines, self._lock)

    def reopen(self) -> Callable[[], None]:
        """As Target.reopen."""
        return _nothing

    def close(self) -> None:
        """As Target.close."""


class FileTarget:
    """A file, appended to, mode 0640 when it is made. Raises OSError at once if it cannot be opened."""

    def __init__(self, path: str, lock: LineLock | None = None) -> None:
        self._path = path
        self._lock = lock
        self._descriptor = self._open()

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def write(self, lines: Sequence[bytes]) -> int:
        """As Target.write."""
        return _write_all(self._descriptor, lines, self._lock)

    def reopen(self) -> Callable[[], None]:
        """As Target.reopen; for log rotation."""
        fresh = self._open()

        def change_over() -> None:
            os.close(self._descriptor)
            self._descriptor = fresh

        return change_over

    def close(self) -> None:
        """As Target.close."""
        os.close(self._descriptor)


class Sink:
    """Takes lines from one thread (the event loop's) and writes them from another, which starts with the
    first line."""

    def __init__(self, target: Target, max_pending: int = MAX_PENDING_BYTES) -> None:
        self._target = target
        self._max_pending = max_pending
        self._queue: SimpleQueue[Sequence[bytes] | Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        # Two counters with one writer each, so that neither needs a lock: pending is their difference.
        self._accepted = 0
        self._done = 0
        self._refused = 0
        self._lost = 0

    @property
    def dropped(self) -> int:
        """Lines that never reached the target, since the start."""
        return self._refused + self._lost

    @property
    def pending(self) -> int:
        """Bytes that were accepted and have not reached the target."""
        return self._accepted - self._done

    def write(self, lines: Sequence[bytes]) -> int:
        """Accept a batch of lines without their line feeds; return how many were dropped: none of them, or
        all."""
        if not lines:
            return 0
        size = sum(map(len, lines))
        if self.pending + size > self._max_pending:
            self._refused += len(lines)
            return len(lines)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log-sink", daemon=True)
            self._thread.start()
        self._accepted += size
        self._queue.put(lines)
        return 0

    def reopen(self) -> None:
        """Open the target anew behind the lines already accepted. Raises OSError and keeps the old one."""
        change_over = self._target.reopen()
        if self._thread is None:
            change_over()
        else:
            self._queue.put(change_over)

    def close(self, timeout: float) -> bool:
        """Write what was accepted, for at most `timeout` seconds; say whether all of it was written."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout)
            if self._thread.is_alive():
                return False
            self._thread = None
        self._target.close()
        return True

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if callable(item):
                item()
                continue
            self._lost += self._target.write(item)
            self._done += sum(map(len, item))


def _write_all(descriptor: int, lines: Sequence[bytes], lock: LineLock | None) -> int:
    """One write call where the kernel takes it whole. A batch cut by an error counts as lost whole."""
    text = b"\n".join(lines) + b"\n"
    if lock is None:
        return 0 if _write(descriptor, text) == len(text) else len(lines)
    try:
        unfinished = lock.hold()
    except OSError:
        return len(lines)
    if unfinished:  # somebody was killed within a line: ours must not become its end
        text = b"\n" + text
    written = 0
    try:
        written = _write(descriptor, text)
    finally:
        lock.release(finished=written == len(text) or (written == 0 and not unfinished))
    return 0 if written == len(text) else len(lines)


def _write(descriptor: int, text: bytes) -> int:
    """How many bytes of a text an error left written: all, where there was none."""
    rest = memoryview(text)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # somebody who shares the descriptor made it non-blocking
            _wait_writable(descriptor)
        except OSError:
            break
    return len(text) - len(rest)


def _wait_writable(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll()


def _nothing() -> None:
    """The change-over of a target that has nothing to change."""
