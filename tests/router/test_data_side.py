"""router/data_side.py: what accepts connections and serves them, in one process."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from router.config.model import Config
from router.data_side import DataSide
from router.demo.process import free_port
from router.net.listener import bind
from router.observe.health import Health
from router.process import Process
from tests.router.config.support import config as config_of
from tests.support.waiting import until


def passing(port: int, backend: int, **more: Any) -> Config:
    """L4 alone: everything that comes to `port` goes to `backend`."""
    route = {"mode": "l4", "backend": f"127.0.0.1:{backend}"}
    listener = {"port": port, "kind": "tcp", "address": "127.0.0.1", "routes": [route]}
    return config_of({"l7": {"enabled": False}, "listeners": [listener], **more})


@asynccontextmanager
async def side(config: Config) -> AsyncIterator[DataSide]:
    process = Process(config, asyncio.get_running_loop())
    made = DataSide(config, process, Health(), None)
    made.adopt(made.prepare(config, bind))
    made.listening.open()
    try:
        yield made
    finally:
        await made.stop()
        made.close()
        process.close()


async def test_a_prepared_configuration_listens_only_when_adopted() -> None:
    """Whatever fails in between, the ports are the old ones; afterwards they are exactly the new ones."""
    old, new = free_port(), free_port()
    async with side(passing(old, 1)) as one:
        prepared = one.prepare(passing(new, 1), bind)
        assert one.listening.ports == [old]
        one.adopt(prepared)
        assert one.listening.ports == [new]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", old))


async def test_the_ports_may_stay_as_they_are() -> None:
    """A router that drains opens none."""
    old, new = free_port(), free_port()
    async with side(passing(old, 1)) as one:
        one.adopt(one.prepare(passing(new, 1), None))
        assert one.listening.ports == [old]


async def test_a_drain_ends_with_the_last_connection_or_with_its_time() -> None:
    """True where nothing was left; what is passed through is ended at the deadline."""
    port, backend = free_port(), bind("127.0.0.1", 0)
    with backend:
        async with side(passing(port, backend.getsockname()[1])) as one:
            assert await one.drain(5.0)
        async with side(passing(port, backend.getsockname()[1])) as one:
            with socket.create_connection(("127.0.0.1", port)):
                await until(lambda: one._l4.passages, "the connection")
                assert await one.drain(0.01)
                assert not one._l4.passages
