"""router/net/relay.py: two connections joined, over real TCP on both event loops."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest

from router.net import relay as module
from router.net.channel import Channel
from router.net.deadline import Wheel
from router.net.relay import Relay
from router.net.stream import Stream
from tests.router.net.pairs import SOON, tcp_pair


class Deaf(Stream):
    """A stream whose peer does not listen any more once it has ended, as in TLS."""

    half_closes: ClassVar[bool] = False


class Joint:
    """A relay with both peers in the test's hands."""

    def __init__(self, idle: float = SOON, stall: float = SOON, kind: type[Stream] = Stream) -> None:
        self.loop = asyncio.get_running_loop()
        self.wheel = Wheel(self.loop)
        (down, self.client), (up, self.backend) = tcp_pair(), tcp_pair()
        self.down, self.up = Channel(kind(down, self.loop, self.wheel)), Channel(Stream(up, self.loop, self.wheel))
        self.relay = Relay(self.down, self.up, idle, stall)

    def start(self) -> "asyncio.Task[str]":
        return self.loop.create_task(self.relay.run())

    async def read(self, sock: socket.socket, size: int) -> bytes:
        """Exactly so many bytes, or those before the end."""
        data = b""
        while len(data) < size:
            more = await self.loop.run_in_executor(None, sock.recv, size - len(data))
            if not more:
                break
            data += more
        return data


@contextmanager
def joint(idle: float = SOON, stall: float = SOON, kind: type[Stream] = Stream) -> Iterator[Joint]:
    made = Joint(idle, stall, kind)
    try:
        yield made
    finally:
        made.relay.end("ended")
        made.client.close()
        made.backend.close()
        made.wheel.close()


async def test_bytes_pass_both_ways_those_read_too_far_first() -> None:
    """Once, in order, and counted."""
    with joint() as one:
        one.down.buffer, one.up.buffer = b"early ", b"first "
        running = one.start()
        one.client.sendall(b"late")
        one.backend.sendall(b"second")
        assert await one.read(one.backend, 10) == b"early late"
        assert await one.read(one.client, 12) == b"first second"
        one.client.shutdown(socket.SHUT_WR)
        assert await one.read(one.backend, 1) == b""
        one.backend.sendall(b" more")
        assert await one.read(one.client, 5) == b" more"
        one.backend.close()
        assert await running == "ended"
        assert (one.relay.from_client, one.relay.from_backend) == (10, 17)
        assert one.down.stream.closed
        assert one.up.stream.closed


async def test_megabytes_pass_whole() -> None:
    """With both sides talking at once."""
    data = bytes(range(256)) * 8192
    with joint() as one:
        running = one.start()
        sending = [one.loop.run_in_executor(None, sock.sendall, data) for sock in (one.client, one.backend)]
        heard = await asyncio.gather(one.read(one.backend, len(data)), one.read(one.client, len(data)), *sending)
        assert heard[0] == heard[1] == data
        one.client.close()
        one.backend.close()
        await running


async def test_a_deaf_end_bounds_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said before it arrives; then the other side has a moment."""
    monkeypatch.setattr(module, "HALF_CLOSED_SECONDS", 0.3)
    with joint(kind=Deaf) as one:
        running = one.start()
        one.client.sendall(b"goodbye")
        one.client.shutdown(socket.SHUT_WR)
        assert await one.read(one.backend, 8) == b"goodbye"
        one.backend.sendall(b"bye")
        assert await one.read(one.client, 3) == b"bye"
        assert await asyncio.wait_for(running, SOON) == "ended"


async def test_a_reset_resets_the_other_side() -> None:
    """Nothing that was cut short looks whole."""
    with joint() as one:
        running = one.start()
        one.backend.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        one.backend.close()
        assert await running == "broken"
        with pytest.raises(ConnectionResetError):
            await one.read(one.client, 1)


async def test_silence_ends_it_and_either_side_keeps_it() -> None:
    """`idle` counts from the last byte of any side."""
    with joint(idle=0.6) as one:
        running = one.start()
        for _ in range(4):
            one.client.sendall(b"x")
            await asyncio.sleep(0.25)
        assert not running.done()
        assert await running == "idle"
        assert one.relay.from_client == 4


async def test_a_client_that_takes_nothing_ends_it() -> None:
    """`stall`, whatever it says itself meanwhile; what waits is one receive, the rest stays with its sender."""
    with joint(stall=0.3) as one:
        one.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        running = one.start()
        one.backend.setblocking(False)
        sent = 0
        while not running.done():
            one.client.sendall(b"ping")
            try:
                sent += one.backend.send(bytes(65536))
            except BlockingIOError:
                await asyncio.sleep(0.02)
            except OSError:
                break
            await asyncio.sleep(0)
        assert await running == "stalled"
        assert sent < 64 << 20


@pytest.mark.parametrize("ending", ["denied", "drained"])
async def test_whoever_ends_it_says_why_and_the_first_word_stands(ending: module.Ending) -> None:
    """From a callback of the loop as well."""
    with joint() as one:
        running = one.start()
        await asyncio.sleep(0)
        one.loop.call_soon(one.relay.end, ending)
        assert await running == ending
        one.relay.end("idle")
        assert one.relay.ending == ending
        assert await one.read(one.client, 1) == b""


async def test_a_cancelled_relay_leaves_nothing_behind() -> None:
    """Both sides are closed when the task has ended, and both directions are."""
    with joint() as one:
        running = one.start()
        await asyncio.sleep(0.05)
        before = len(asyncio.all_tasks())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert one.down.stream.closed
        assert one.up.stream.closed
        assert len(asyncio.all_tasks()) == before - 2
