"""router/l4/pipes.py: pipes on loan."""

import contextlib
import os

import pytest

from router.l4 import pipes as module
from router.l4.pipes import MAX_KEPT, Pipe, Pipes
from tests.router.l4.plumbing import descriptors


def borrowed(pipes: Pipes) -> Pipe:
    pipe = pipes.borrow()
    assert pipe is not None
    return pipe


def test_a_pipe_that_comes_back_empty_is_lent_again() -> None:
    """Opening one costs three system calls."""
    pipes = Pipes()
    pipe = borrowed(pipes)
    pipes.give_back(pipe)
    assert borrowed(pipes) == pipe
    assert pipes.lent == 1
    pipes.discard(pipe)


def test_a_pipe_with_bytes_in_it_is_closed() -> None:
    """They are of no use to anybody, least of all to the next relay."""
    pipes = Pipes()
    before = descriptors()
    pipe = borrowed(pipes)
    os.write(pipe.sink, b"somebody else's")
    pipes.discard(pipe)
    assert (descriptors(), pipes.lent) == (before, 0)
    pipes.discard(borrowed(pipes))


def test_no_more_are_lent_than_the_limit() -> None:
    """Stalled relays cannot take all of the kernel's memory for pipes."""
    pipes = Pipes(2)
    lent = [borrowed(pipes), borrowed(pipes)]
    assert pipes.borrow() is None
    pipes.discard(lent.pop())
    lent.append(borrowed(pipes))
    for pipe in lent:
        pipes.discard(pipe)


def test_few_are_kept_and_none_after_the_end() -> None:
    """The kernel shrinks the pipes of a user who has many."""
    before = descriptors()
    pipes = Pipes()
    lent = [borrowed(pipes) for _ in range(MAX_KEPT + 5)]
    for pipe in lent:
        pipes.give_back(pipe)
    assert descriptors() == before + 2 * MAX_KEPT
    pipes.close()
    assert descriptors() == before


def test_where_splice_is_missing_or_the_system_gives_none_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the bytes go through the process."""

    def fail() -> Pipe:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(module, "_new", fail)
    assert Pipes().borrow() is None
    assert Pipes().lent == 0
    monkeypatch.undo()
    monkeypatch.delattr(os, "splice")
    assert Pipes().borrow() is None


def test_neither_end_waits() -> None:
    """A full pipe, or an empty one, must not hold up the event loop."""
    pipes = Pipes()
    pipe = borrowed(pipes)
    with pytest.raises(BlockingIOError):
        os.read(pipe.source, 1)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe.sink, bytes(65536))
    pipes.discard(pipe)
