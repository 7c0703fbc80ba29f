"""router/net/edges.py: one epoll for many descriptors, on both event loops."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from router.net import edges as module
from router.net.edges import BROKEN, ENDED, READABLE, WRITABLE, Edges
from tests.router.l4.plumbing import reset
from tests.router.net.pairs import tcp_pair
from tests.support.waiting import until


@contextmanager
def watched(said: bytes = b"") -> Iterator[tuple[Edges, socket.socket, socket.socket, list[int]]]:
    """(edges, a socket that they watch, its peer, what was told of it). `said`: by the peer, before."""
    edges = Edges(asyncio.get_running_loop())
    ours, theirs = tcp_pair()
    theirs.sendall(said)
    told: list[int] = []
    edges.watch(ours.fileno(), told.append)
    try:
        yield edges, ours, theirs, told
    finally:
        edges.close()
        ours.close()
        theirs.close()


async def test_what_is_ready_already_is_told_and_then_each_change_once() -> None:
    """No edge twice, however long nobody reads; of room nobody hears who has not asked."""
    with watched(b"x") as (_, _, theirs, told):
        await until(lambda: told, "the first edge")
        assert told == [READABLE & ~ENDED]
        theirs.send(b"y")
        await until(lambda: told[1:], "the bytes")
        await asyncio.sleep(0.05)
        assert told == [READABLE & ~ENDED] * 2
        theirs.shutdown(socket.SHUT_WR)
        await until(lambda: told[2:], "the end")
        assert told[2] & ENDED
        assert not told[2] & BROKEN


async def test_a_reset_is_told_without_anybody_reading() -> None:
    """Neither event loop can tell that."""
    with watched() as (_, _, theirs, told):
        reset(theirs)
        await until(lambda: told, "the reset")
        assert told[-1] & BROKEN


async def test_room_after_a_refused_write_is_told() -> None:
    """The edge that a blocked sender waits for; asked for twice, it comes once."""
    with watched() as (edges, ours, theirs, told):
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(bytes(65536))
        edges.await_room(ours.fileno())
        edges.await_room(ours.fileno())
        theirs.setblocking(False)

        def drained() -> bool:
            try:
                while theirs.recv(1 << 20):
                    pass
            except BlockingIOError:
                return bool(told)
            return True

        await until(drained, "room")
        assert told[0] & WRITABLE


async def test_room_that_is_here_when_it_is_asked_for_is_told() -> None:
    """It came between the refusal and the question."""
    with watched() as (edges, ours, _, told):
        edges.await_room(ours.fileno())
        await until(lambda: told, "the room")
        assert told == [WRITABLE]


async def test_another_handler_takes_over_without_a_new_registration() -> None:
    """One descriptor, one registration, whoever serves it."""
    with watched() as (edges, ours, theirs, told):
        later: list[int] = []
        edges.watch(ours.fileno(), later.append)
        theirs.send(b"x")
        await until(lambda: later, "the bytes")
        assert (len(told), len(edges)) == (0, 1)


async def test_a_forgotten_descriptor_is_told_of_no_more_and_may_be_watched_again() -> None:
    """Given away to somebody who waits in another way."""
    with watched() as (edges, ours, theirs, told):
        edges.forget(ours.fileno())
        edges.forget(ours.fileno())
        theirs.send(b"x")
        await asyncio.sleep(0.05)
        assert (len(told), len(edges)) == (0, 0)
        edges.watch(ours.fileno(), told.append)
        await until(lambda: told, "the bytes")


async def test_a_dropped_descriptor_leaves_the_kernel_by_its_close() -> None:
    """Its number may come again at once."""
    with watched() as (edges, ours, _, told):
        number = ours.fileno()
        edges.drop(number)
        ours.close()
        again, peer = tcp_pair()
        assert number in (again.fileno(), peer.fileno())
        peer.send(b"x")
        edges.watch(again.fileno(), told.append)
        await until(lambda: told, "the first edge of the new one")
        edges.drop(again.fileno())
        again.close()
        peer.close()


async def test_what_was_seen_of_a_closed_descriptor_is_not_told_of_the_next_with_its_number() -> None:
    """A connection that is being made would be taken for one that stands."""
    edges = Edges(asyncio.get_running_loop())
    pairs, (new, its_peer) = [tcp_pair(), tcp_pair()], socket.socketpair()
    numbers = [ours.fileno() for ours, _ in pairs]
    told: list[int] = []

    def replace(mine: int, other: int, events: int) -> None:
        """Both are seen in one turn; whoever is told first puts a new connection in the other's place."""
        edges.forget(numbers[mine])
        edges.drop(numbers[other])
        os.dup2(new.fileno(), numbers[other])
        edges.watch(numbers[other], told.append)
        edges.await_room(numbers[other])
        new.close()

    for mine, (ours, theirs) in enumerate(pairs):
        theirs.send(b"x")
        edges.watch(ours.fileno(), partial(replace, mine, 1 - mine))
    await until(lambda: told, "the new one's first edge")
    await asyncio.sleep(0.02)
    assert told == [WRITABLE]
    edges.close()
    for sock in (its_peer, *(sock for pair in pairs for sock in pair)):
        sock.close()


async def test_who_was_seen_first_is_told_first() -> None:
    """In one turn, in the kernel's order."""
    edges = Edges(asyncio.get_running_loop())
    pairs = [tcp_pair() for _ in range(8)]
    told: list[int] = []

    def tell(number: int, events: int) -> None:
        told.append(number)

    for number, (ours, theirs) in enumerate(pairs):
        edges.watch(ours.fileno(), partial(tell, number))
        theirs.send(b"x")
    await until(lambda: len(told) == len(pairs), "all of them")
    assert told == list(range(len(pairs)))
    edges.close()
    for pair in pairs:
        for sock in pair:
            sock.close()


async def test_a_handler_that_raises_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge comes once: it must not be lost with the batch."""
    monkeypatch.setattr(module, "EVENTS_A_TURN", 8)
    loop = asyncio.get_running_loop()
    complaints: list[str] = []
    loop.set_exception_handler(lambda _, context: complaints.append(str(context.get("exception"))))
    edges = Edges(loop)
    told: list[int] = []

    def fail(events: int) -> None:
        raise ValueError("a fault of ours")

    pairs = [tcp_pair() for _ in range(20)]
    for number, (ours, theirs) in enumerate(pairs):
        theirs.send(b"x")
        edges.watch(ours.fileno(), fail if number % 4 == 0 else told.append)
    await until(lambda: len(told) == 15, "the others")
    assert complaints == ["a fault of ours"] * 5
    edges.close()
    for pair in pairs:
        for sock in pair:
            sock.close()


async def test_what_cannot_be_watched_raises() -> None:
    """A regular file is always ready: epoll refuses it."""
    edges = Edges(asyncio.get_running_loop())
    with open(__file__) as file, pytest.raises(OSError, match="not permitted"):
        edges.watch(file.fileno(), lambda events: None)
    assert len(edges) == 0
    edges.close()


async def test_closing_leaves_no_descriptor_and_may_come_twice() -> None:
    """The last thing a process does with it."""
    before = len(os.listdir("/proc/self/fd"))
    edges = Edges(asyncio.get_running_loop())
    edges.close()
    edges.close()
    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) == before
