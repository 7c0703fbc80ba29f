"""router/net/doorstep.py: who has shown nothing yet."""

import asyncio

import pytest

from router.net.doorstep import Doorstep


class Somebody:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def interrupt(self, error: BaseException) -> None:
        self.told.append(str(error))


async def test_one_too_many_sheds_the_oldest() -> None:
    """Attack 27: in a callback of the loop, and it holds no place any more."""
    doorstep = Doorstep(asyncio.get_running_loop())
    first, second, third = Somebody(), Somebody(), Somebody()
    assert [doorstep.enter(one, 2) for one in (first, second, third)] == [False, False, True]
    assert (first in doorstep, len(doorstep), first.told) == (False, 2, [])
    await asyncio.sleep(0)
    assert (first.told, second.told, third.told) == (["shed"], [], [])


async def test_who_has_left_makes_room() -> None:
    """Leaving twice is leaving."""
    doorstep = Doorstep(asyncio.get_running_loop())
    first, second = Somebody(), Somebody()
    doorstep.enter(first, 1)
    doorstep.leave(first)
    doorstep.leave(first)
    assert doorstep.enter(second, 1) is False


async def test_who_goes_on_as_another_is_still_counted_and_who_was_shed_does_not_go_on() -> None:
    """A hello has been read, the handshake follows; one that was shed in between must not slip through."""
    doorstep = Doorstep(asyncio.get_running_loop())
    hello, handshake, late = Somebody(), Somebody(), Somebody()
    doorstep.enter(hello, 1)
    doorstep.change(hello, handshake)
    assert (hello in doorstep, handshake in doorstep) == (False, True)
    doorstep.enter(late, 1)
    with pytest.raises(ConnectionAbortedError, match="shed"):
        doorstep.change(handshake, Somebody())


async def test_a_drain_waits_for_nobody() -> None:
    """All at once."""
    doorstep = Doorstep(asyncio.get_running_loop())
    standing = [Somebody() for _ in range(3)]
    for one in standing:
        doorstep.enter(one, 9)
    doorstep.clear()
    await asyncio.sleep(0)
    assert ([one.told for one in standing], len(doorstep)) == ([["draining"]] * 3, 0)
