"""Which endpoint a header's value leads to: Maglev's table, the same on every router that knows the same endpoints.

Promises: a table depends on the endpoints' names alone, whatever their order; each of n names has SIZE / n slots, to within
one; a name that goes gives its slots to the others and moves few of theirs. Nothing is random, and a value of any length
costs a bounded time. Refuses to know: endpoints, their health, headers.

Source: "Maglev: A Fast and Reliable Software Network Load Balancer" (Eisenbud and others, 2016), section 3.4; RFC-0042 and
GoRouter: FNV-1a 64 for names and values, 1801 slots. A GoRouter beside this router makes the same table.
"""

from array import array
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

SIZE: Final = 1801
"""Slots of a table: a prime, so that each name's walk comes to every slot. More names than that have no slot."""

MAX_VALUE: Final = 256
"""Bytes of a header's value that are hashed one by one, in some 30 us. A longer one is digested first; GoRouter's is not."""

_OFFSET: Final = 0xCBF29CE484222325
_PRIME: Final = 0x100000001B3
_MASK: Final = 0xFFFFFFFFFFFFFFFF


class Maglev:
    """The table of one set of names; about 4 KiB, built in some milliseconds."""

    __slots__ = ("names", "slots")

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(sorted(set(names), key=_bytes)[:SIZE])
        self.slots = _fill([fnv1a_64(_bytes(name)) for name in self.names])

    def from_value(self, value: bytes) -> Iterator[str]:
        """The names in the order in which a value asks for them, with repetitions; all SIZE slots."""
        names, slots = self.names, self.slots
        start = slot_of(value)
        for at in range(start, start + len(slots)):
            yield names[slots[at if at < SIZE else at - SIZE]]


def slot_of(value: bytes) -> int:
    """The slot of a header's value."""
    return fnv1a_64(value if len(value) <= MAX_VALUE else blake2b(value, digest_size=16).digest()) % SIZE


def fnv1a_64(data: bytes) -> int:
    """Fowler, Noll and Vo's hash, in the order of xor first, with 64 bits."""
    state = _OFFSET
    for byte in data:
        state = (state ^ byte) * _PRIME & _MASK
    return state


def _bytes(name: str) -> bytes:
    """A name as it is hashed and sorted, whatever a registration put into it."""
    return name.encode("utf-8", "surrogatepass")


def _fill(hashes: list[int]) -> "array[int]":
    """Slot by slot, each name in its turn takes the next free one of its own walk; empty without names."""
    if not hashes:
        return array("H")
    slots = [-1] * SIZE
    walks = [(number, hashed % (SIZE - 1) + 1) for number, hashed in enumerate(hashes)]
    at = [hashed % SIZE for hashed in hashes]
    free = SIZE
    while True:
        for number, skip in walks:
            slot = at[number]
            while slots[slot] >= 0:
                slot = (slot + skip) % SIZE
            slots[slot] = number
            at[number] = slot
            free -= 1
            if not free:
                return array("H", slots)
