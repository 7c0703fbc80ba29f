"""router/net/arrival.py: an accepted socket, looked at and given away, on both event loops."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from router.net.arrival import Arrival, spelt
from router.net.deadline import Wheel
from router.net.edges import ENDED, Edges, Handler
from router.net.listener import Listener
from tests.router.l4.plumbing import reset
from tests.router.net.pairs import soon, tcp_pair
from tests.support.waiting import until


class CountingEdges(Edges):
    """Counts what it told."""

    told = 0

    def watch(self, fd: int, handler: Handler) -> None:
        def counted(events: int) -> None:
            self.told += 1
            handler(events)

        super().watch(fd, counted)


@contextmanager
def arrived() -> Iterator[tuple[Arrival, socket.socket, CountingEdges]]:
    """(an accepted socket, its peer, the edges)."""
    loop = asyncio.get_running_loop()
    wheel, edges = Wheel(loop), CountingEdges(loop)
    ours, theirs = tcp_pair()
    arrival = Arrival(ours, ("192.0.2.1", 4711), cast("Listener", None), loop, wheel, edges)
    try:
        yield arrival, theirs, edges
    finally:
        arrival.reset()
        ours.close()
        theirs.close()
        edges.close()
        wheel.close()


async def test_what_is_here_already_costs_no_wait_and_is_not_consumed() -> None:
    """Twice the same, and no registration."""
    with arrived() as (arrival, theirs, edges):
        theirs.send(b"hello")
        await until(lambda: arrival.sock.recv(1, socket.MSG_PEEK), "the bytes")
        assert await arrival.peek(soon(), 100, 0) == b"hello"
        assert await arrival.peek(soon(), 3, 0) == b"hel"
        assert len(edges) == 0
        assert arrival.give().recv(100) == b"hello"


async def test_more_than_what_is_known_is_waited_for() -> None:
    """By the kernel's low-water mark: many small pieces wake nobody."""
    with arrived() as (arrival, theirs, edges):
        theirs.send(b"abc")
        assert await arrival.peek(soon(), 100, 0) == b"abc"
        waiting = asyncio.get_running_loop().create_task(arrival.peek(soon(), 1000, 499))
        await asyncio.sleep(0)
        seen = edges.told
        for _ in range(497):
            theirs.send(b".")
            await asyncio.sleep(0)
        data = await waiting
        assert len(data) >= 500
        assert edges.told - seen <= 3
        assert arrival.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


@pytest.mark.parametrize("known", [0, 3])
async def test_an_end_before_more_is_an_empty_answer(known: int) -> None:
    """With bytes in front of it or without, before the wait or in it."""
    with arrived() as (arrival, theirs, _):
        theirs.send(b"abc"[:known])
        waiting = asyncio.get_running_loop().create_task(arrival.peek(soon(), 100, known))
        await asyncio.sleep(0.02)
        theirs.shutdown(socket.SHUT_WR)
        assert await waiting == b""
        assert await arrival.peek(soon(), 100, known) == b""
        assert arrival.told & ENDED


async def test_a_reset_and_a_missed_deadline_raise() -> None:
    """Both end the story of the connection."""
    with arrived() as (arrival, theirs, _):
        with pytest.raises(TimeoutError):
            await arrival.peek(asyncio.get_running_loop().time() + 0.1, 100, 0)
        reset(theirs)
        with pytest.raises(ConnectionResetError):
            await arrival.peek(soon(), 100, 0)


async def test_exactly_what_is_asked_is_consumed() -> None:
    """The first byte behind a PROXY header is the connection's."""
    with arrived() as (arrival, theirs, _):
        theirs.send(b"headerhello")
        assert await arrival.peek(soon(), 100, 0) == b"headerhello"
        arrival.consume(6)
        assert await arrival.peek(soon(), 100, 0) == b"hello"


async def test_an_interruption_is_raised_in_the_wait() -> None:
    """A drain, or a limit that sheds the oldest."""
    with arrived() as (arrival, _, _):
        loop = asyncio.get_running_loop()
        waiting = loop.create_task(arrival.peek(soon(), 100, 0))
        await asyncio.sleep(0.01)
        loop.call_soon(arrival.interrupt, ConnectionAbortedError("shed"))
        with pytest.raises(ConnectionAbortedError, match="shed"):
            await waiting


async def test_a_socket_that_is_detached_is_watched_no_more() -> None:
    """OpenSSL's connections wait on the loop itself."""
    with arrived() as (arrival, theirs, edges):
        theirs.send(b"x")
        await arrival.peek(soon(), 1, 0)
        waiting = asyncio.get_running_loop().create_task(arrival.peek(soon(), 10, 1))
        await asyncio.sleep(0.01)
        theirs.send(b"y")
        await waiting
        assert len(edges) == 1
        sock = arrival.detach()
        assert (len(edges), arrival.closed) == (0, True)
        arrival.reset()
        assert sock.recv(10) == b"xy"


async def test_closing_is_an_end_and_may_come_twice() -> None:
    """Also after it was given away: then it is somebody else's."""
    with arrived() as (arrival, theirs, edges):
        arrival.close()
        arrival.close()
        assert theirs.recv(1) == b""
        assert len(edges) == 0
    with arrived() as (arrival, theirs, _):
        sock = arrival.give()
        arrival.close()
        theirs.send(b"x")
        await until(lambda: sock.recv(1), "the byte")


async def test_resetting_is_heard_and_may_come_twice() -> None:
    """The peer learns at once."""
    with arrived() as (arrival, theirs, edges):
        arrival.reset()
        arrival.reset()
        with pytest.raises(ConnectionResetError):
            theirs.recv(1)
        assert len(edges) == 0


def test_an_ipv6_address_is_spelt_in_brackets() -> None:
    """As everywhere in the logs."""
    assert spelt(("2001:db8::1", 443)) == "[2001:db8::1]:443"
    assert spelt(("192.0.2.1", 443)) == "192.0.2.1:443"
