"""router/workers/memory.py: words that processes share, and what they cannot do to each other."""

import os
from collections.abc import Iterator

import pytest

from router.workers import memory as module
from router.workers.memory import GAUGES, NAMES, STRIDE, Memory


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory.create(3)
    yield made
    made.close()


def joined(memory: Memory, row: int) -> Memory:
    return Memory(os.dup(memory.descriptor), row)


def test_a_word_is_its_rows_own_and_all_are_summed(memory: Memory) -> None:
    """Nobody writes what another writes, so nothing is lost without a lock."""
    rows = [joined(memory, row) for row in range(3)]
    for value, one in enumerate(rows, 1):
        one.words[one.own + 5] += value
    assert [one.sum(5) for one in (memory, *rows)] == [6, 6, 6, 6]
    assert memory.sum(6) == 0
    for one in rows:
        one.close()


def test_a_cleared_row_is_all_zeros_and_the_others_stay(memory: Memory) -> None:
    """What a worker held vanishes with it: the first word of its row, the last one, and no other's."""
    rows = [joined(memory, row) for row in range(3)]
    for one in rows:
        one.words[one.own] = one.words[one.own + STRIDE - 1] = 7
    memory.clear(1)
    assert (memory.sum(0), memory.sum(STRIDE - 1)) == (14, 14)
    assert rows[1].words[rows[1].own] == 0
    for one in rows:
        one.close()


def test_what_nobody_uses_costs_nothing(memory: Memory) -> None:
    """The bounds are wide because the pages behind them come with their first use, and go with `clear`."""
    assert os.fstat(memory.descriptor).st_blocks * 512 < 100_000 < os.fstat(memory.descriptor).st_size
    one = joined(memory, 0)
    for at in range(0, STRIDE, STRIDE // 50):
        one.words[one.own + at] = 1
    before = os.fstat(memory.descriptor).st_blocks
    memory.clear(0)
    assert os.fstat(memory.descriptor).st_blocks < before
    one.close()


def test_nobody_can_cut_it_off(memory: Memory) -> None:
    """A worker faces clients: what it can do to others with the descriptor must not be a SIGBUS for all of them."""
    for size in (0, os.fstat(memory.descriptor).st_size * 2):
        with pytest.raises(PermissionError):
            os.ftruncate(memory.descriptor, size)


def test_who_has_no_row_cannot_write_one(memory: Memory) -> None:
    """The supervisor only reads; a mistake of its own is an error and not a wrong count."""
    with pytest.raises(IndexError):
        memory.words[memory.own] = 1


def test_a_descriptor_of_something_else_and_a_row_that_is_not_there_are_refused(memory: Memory) -> None:
    other = os.memfd_create("other")
    os.ftruncate(other, os.fstat(memory.descriptor).st_size)
    with pytest.raises(ValueError, match="no shared memory with a row 0"):
        Memory(other, 0)
    with pytest.raises(ValueError, match="no shared memory with a row 3"):
        joined(memory, 3)
    with pytest.raises(ValueError, match="0 rows; 1 to 512 can be had"):
        Memory.create(0)
    os.close(other)


def test_a_name_has_one_number_in_every_process(memory: Memory) -> None:
    """Whoever asks first; no two names have the same."""
    one, two = joined(memory, 0), joined(memory, 1)
    assert [one.slot("a"), two.slot("b"), two.slot("a"), one.slot("c"), two.slot("c")] == [0, 1, 0, 2, 2]
    one.close()
    two.close()


def test_a_name_of_which_nothing_is_open_makes_room_when_there_is_no_more(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reloads with ever new listeners end nowhere; what is counted is never mixed up."""
    monkeypatch.setattr(module, "NAMES", 3)
    one = joined(memory, 0)
    for name in "abc":
        one.words[one.own + GAUGES + one.slot(name)] = 1
    with pytest.raises(OSError, match="more than 3 listeners"):
        one.slot("d")
    one.words[one.own + GAUGES + 1] = 0
    assert [one.slot("d"), one.slot("c"), one.slot("d")] == [1, 2, 1]
    assert NAMES > 1000
    one.close()


def test_what_is_in_use_elsewhere_survives_a_close(memory: Memory) -> None:
    """The memory lives as long as one process has it."""
    one, two = joined(memory, 0), joined(memory, 1)
    one.words[one.own] = 4
    kept = one.words
    one.close()
    assert two.sum(0) == 4
    with pytest.raises(ValueError, match="released"):
        kept[0]
    two.close()
