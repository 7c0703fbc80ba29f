"""Shared memory for tests: a supervisor's view, and workers' views in this same process."""

import os
from collections.abc import Iterator

import pytest

from router.workers.memory import IN_FLIGHT, ROWS_AT, STRIDE, Memory
from router.workers.shared import Shared


class House:
    """A supervisor with rows for so many workers."""

    def __init__(self, rows: int = 3) -> None:
        self.supervisor = Shared.create(rows)
        self.workers = [self.join(row) for row in range(rows)]

    def join(self, row: int) -> Shared:
        (descriptor,) = self.supervisor.descriptors()
        return Shared.attach([os.dup(descriptor)], row)

    def close(self) -> None:
        for shared in (*self.workers, self.supervisor):
            shared.close()


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()


def written(memory: Memory) -> set[int]:
    """All words of all rows, but those for endpoints, that are not zero; pages that do not exist are passed over."""
    found: set[int] = set()
    for row in range(memory.rows):
        at = 8 * (ROWS_AT + row * STRIDE)
        end = at + 8 * IN_FLIGHT
        while at < end:
            try:
                at = os.lseek(memory.descriptor, at, os.SEEK_DATA)
            except OSError:
                return found
            page = memoryview(os.pread(memory.descriptor, 4096, at)).cast("q")
            found |= {at + 8 * index for index, word in enumerate(page) if word and at < end}
            at += 4096
    return found
