"""A supervisor by hand, over a worker in the test's own process."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from registry.table import RouteTable
from router.config.model import Config
from router.demo.process import free_port
from router.listening import Place
from router.net.listener import bind
from router.observe.line_lock import LineLock
from router.workers.channel import Channel
from router.workers.messages import (
    LONGEST_UP,
    Adopt,
    Begin,
    Down,
    HealthIs,
    Open,
    Prepare,
    Prepared,
    Routes,
    Serving,
    Sockets,
    Up,
    read_up,
    write_down,
)  # fmt: skip
from router.workers.routes import RouteFeed
from router.workers.shared import Shared
from router.workers.worker import Worker
from tests.router.desk import settings
from tests.support.waiting import until

T = TypeVar("T", bound=Up)


class Boss:
    """One end of the pair; the worker is at the other."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        self.heard: list[Up] = []
        self.lost = False
        self.port = free_port()
        self.locks = LineLock.create(), LineLock.create()
        self.shared = Shared.create(1)
        self.channel = Channel(ours, loop, self._hear, self._lose, LONGEST_UP)
        self.worker = Worker(theirs, loop)
        self.work = loop.create_task(self.worker.run())

    def _hear(self, body: bytes, descriptors: list[int]) -> None:
        message = read_up(body)
        assert message is not None
        self.heard.append(message)

    def _lose(self) -> None:
        self.lost = True

    def say(self, message: Down, *descriptors: int) -> None:
        self.channel.send(write_down(message), descriptors)

    async def answer(self, kind: type[T], fits: Callable[[T], bool] = lambda _: True) -> T:
        found = await until(lambda: [one for one in self.heard if isinstance(one, kind) and fits(one)], str(kind))
        return found[0]

    def begin(self, successor: str = "\0nobody.is.there") -> None:
        self.say(Begin(1, 0, successor), *(lock.descriptor for lock in self.locks), *self.shared.descriptors())

    def give(self, *ports: int) -> None:
        """A listening socket for each port."""
        made = [bind("::", port) for port in ports]
        self.say(Sockets(tuple(Place("::", port) for port in ports)), *(sock.fileno() for sock in made))
        for sock in made:
            sock.close()

    def config(self, **more: Any) -> Config:
        return settings(port=self.port, enable_ssl=False, tls_pem=[], **more)

    def tell(self, table: RouteTable) -> None:
        for piece in RouteFeed().whole(table):
            self.say(Routes(piece))

    async def launch(self, config: Config, table: RouteTable = RouteTable(), successor: str = "\0nobody.is.there") -> None:  # noqa: B008
        """Everything that a worker needs to serve."""
        self.begin(successor)
        self.give(*_ports(config))
        self.say(Prepare(1, config, True))
        self.say(Adopt(1))
        self.say(HealthIs(1))
        self.tell(table)
        self.say(Open())
        assert await self.answer(Prepared) == Prepared(1, "")
        await self.answer(Serving)

    async def ended(self) -> int:
        async with asyncio.timeout(10):
            return await self.work


def _ports(config: Config) -> Iterator[int]:
    if config.l7.enabled:
        yield config.port
    yield from (listener.port for listener in config.listeners)


@asynccontextmanager
async def boss() -> AsyncIterator[Boss]:
    made = Boss()
    try:
        yield made
    finally:
        made.worker._ended.set()
        with contextlib.suppress(Exception):
            await made.ended()
        made.channel.close()
        made.shared.close()
        for lock in made.locks:
            lock.close()
        asyncio.get_running_loop().remove_signal_handler(15)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
