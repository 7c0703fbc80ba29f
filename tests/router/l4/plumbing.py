"""A relay's surroundings on the running loop, and both of its peers in a test's hands."""

import asyncio
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from router.l4.pipes import MAX_LENT, Pipes
from router.l4.relay import Plumbing, SocketRelay
from router.net.deadline import NEVER, Wheel
from router.net.edges import Edges
from tests.router.net.pairs import SOON, tcp_pair


@contextmanager
def plumbing(lent: int = MAX_LENT) -> Iterator[Plumbing]:
    """`lent`: how many pipes may be out at a time."""
    loop = asyncio.get_running_loop()
    wheel, edges, pipes = Wheel(loop), Edges(loop), Pipes(lent)
    try:
        yield Plumbing(loop, wheel, edges, pipes)
    finally:
        edges.close()
        pipes.close()
        wheel.close()


class Joint:
    """A relay between two sockets; `client` and `backend` are their peers, which block for at most SOON."""

    def __init__(self, around: Plumbing, idle: float = SOON, total: float = NEVER, *, narrow: bool = False) -> None:
        """`narrow`: the kernel holds little, so that a stall is near."""
        self.around = around
        self.loop = around.loop
        (down, self.client), (up, self.backend) = tcp_pair(), tcp_pair()
        for sock in (down, self.client, up, self.backend) if narrow else ():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self._over: asyncio.Future[str] = self.loop.create_future()
        self.relay = SocketRelay(down, up, around, idle, total, lambda _, ending: self._over.set_result(ending))

    def start(self, said: int = 0, client_told: int = 0, backend_told: int = 0) -> "asyncio.Future[str]":
        """How it ends."""
        self.loop.call_soon(self.relay.begin, said, client_told, backend_told)
        return self._over

    async def read(self, sock: socket.socket, size: int) -> bytes:
        """Exactly so many bytes, or those before the end."""
        data = bytearray()
        while len(data) < size:
            more = await self.loop.run_in_executor(None, sock.recv, size - len(data))
            if not more:
                break
            data += more
        return bytes(data)


@contextmanager
def joint(idle: float = SOON, total: float = NEVER, lent: int = MAX_LENT, *, narrow: bool = False) -> Iterator[Joint]:
    with plumbing(lent) as around:
        made = Joint(around, idle, total, narrow=narrow)
        try:
            yield made
        finally:
            made.relay.end("drained")
            made.client.close()
            made.backend.close()


def reset(sock: socket.socket) -> None:
    """Close with a TCP reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def descriptors() -> int:
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))
