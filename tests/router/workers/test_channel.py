"""router/workers/channel.py: whole messages over a pair of sockets, on both event loops."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from router.workers.channel import MAX_DESCRIPTORS, Channel
from tests.support.waiting import until

LONGEST = 1 << 20


class End:
    """One end, and what it heard."""

    def __init__(self, sock: socket.socket, backlog: int = 1 << 22, most_descriptors: int = MAX_DESCRIPTORS) -> None:
        self.heard: list[bytes] = []
        self.descriptors: list[int] = []
        self.losses = 0
        self.channel = Channel(sock, asyncio.get_running_loop(), self._hear, self._lose, LONGEST, backlog, most_descriptors)

    def _hear(self, body: bytes, descriptors: list[int]) -> None:
        self.heard.append(body)
        self.descriptors += descriptors

    def _lose(self) -> None:
        self.losses += 1

    def close(self) -> None:
        self.channel.close()
        for descriptor in self.descriptors:
            os.close(descriptor)


@asynccontextmanager
async def pair(backlog: int = 1 << 22) -> AsyncIterator[tuple[End, End]]:
    ours, theirs = socket.socketpair()
    one, other = End(ours, backlog), End(theirs)
    try:
        yield one, other
    finally:
        one.close()
        other.close()


async def test_messages_arrive_whole_and_in_order() -> None:
    """Whatever their size, and however the kernel parts them."""
    said = [b"", b"a", b"x" * LONGEST, b"end"]
    async with pair() as (one, other):
        for body in said:
            one.channel.send(body)
        await until(lambda: len(other.heard) == len(said), "the messages")
        assert said == other.heard
        other.channel.send(b"back")
        await until(lambda: one.heard, "the answer")
        await one.channel.drained()


async def test_descriptors_come_with_their_message() -> None:
    """They are the same files; nobody's child inherits them; the sender keeps its own."""
    async with pair() as (one, other):
        reader, writer = os.pipe()
        one.channel.send(b"before" * 1000)
        one.channel.send(b"take", [reader, writer])
        one.channel.send(b"after")
        await until(lambda: len(other.heard) == 3, "the messages")
        assert [len(other.heard[0]), other.heard[1], other.heard[2]] == [6000, b"take", b"after"]
        theirs_reader, theirs_writer = other.descriptors
        assert not os.get_inheritable(theirs_reader)
        os.write(theirs_writer, b"x")
        assert os.read(reader, 1) == b"x"
        os.close(reader)
        os.close(writer)


async def test_many_descriptors_come_in_one_message() -> None:
    """As many as are promised."""
    async with pair() as (one, other):
        one.channel.send(b"many", [0] * MAX_DESCRIPTORS)
        await until(lambda: other.heard, "the message")
        assert len(other.descriptors) == MAX_DESCRIPTORS


async def test_the_end_of_the_other_is_told_once() -> None:
    """Whoever sends afterwards does no harm."""
    async with pair() as (one, other):
        other.channel.close()
        await until(lambda: one.losses, "the loss")
        one.channel.send(b"late")
        await asyncio.sleep(0)
        assert (one.losses, one.channel.closed) == (1, True)
        assert other.losses == 0


async def test_who_does_not_read_is_lost_at_the_bound() -> None:
    """Memory for one that hangs is bounded."""
    ours, theirs = socket.socketpair()
    one = End(ours, 1 << 20)
    with theirs:
        for _ in range(20):
            one.channel.send(b"x" * (1 << 18))
        await until(lambda: one.losses, "the loss")
    one.close()


@pytest.mark.parametrize("sent", [(LONGEST + 1).to_bytes(4, "big") + b"\0", b"\0\0\0\0\1", b"\xff" * 100])
async def test_what_cannot_be_a_message_ends_the_channel(sent: bytes) -> None:
    """Too long, or with descriptors that did not come."""
    ours, theirs = socket.socketpair()
    one = End(ours)
    with theirs:
        theirs.send(sent)
        await until(lambda: one.losses, "the end")
    assert one.heard == []


@pytest.mark.parametrize("number", [1, 3])
async def test_descriptors_that_nobody_asked_for_end_the_channel(number: int) -> None:
    """They would be held here, one by one, until there are none left for anything else."""
    ours, theirs = socket.socketpair()
    one = End(ours, most_descriptors=0)
    before = len(os.listdir("/proc/self/fd"))
    with theirs:
        socket.send_fds(theirs, [b"\0\0\0\1\0x"], [theirs.fileno()] * number)
        await until(lambda: one.losses, "the end of the channel")
        assert one.heard == []
        assert len(os.listdir("/proc/self/fd")) < before
    one.close()


async def test_what_fails_is_not_heard_again() -> None:
    """One message that its receiver stumbles over must not come back with every other."""
    heard: list[bytes] = []

    def stumble(body: bytes, descriptors: list[int]) -> None:
        heard.append(body)
        if body == b"bad":
            raise RuntimeError("it stumbles")

    loop = asyncio.get_running_loop()
    said: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: said.append(context))
    ours, theirs = socket.socketpair()
    one, other = Channel(ours, loop, stumble, lambda: None, LONGEST), End(theirs)
    for body in (b"good", b"bad"):
        other.channel.send(body)
    await until(lambda: said, "the failure")
    other.channel.send(b"next")
    await until(lambda: b"next" in heard, "the next message")
    assert heard == [b"good", b"bad", b"next"]
    one.close()
    other.close()
