"""router/l4/dial.py: new backend connections, on both event loops."""

import asyncio
import socket
from typing import Any

import pytest

from router.l4 import dial as module
from router.l4.dial import DialError, dial
from router.net.edges import READABLE
from tests.router.l4.plumbing import descriptors, plumbing
from tests.router.net.pairs import soon
from tests.support.failing import Mute


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET, "localhost")]
)
async def test_a_backend_is_reached_by_address_or_name(family: int, host: str) -> None:
    """R10: IPv6 literals too. The socket does not wait, and is watched already."""
    with (
        socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family) as server,
        plumbing() as around,
    ):
        dialed = await dial(around, host, server.getsockname()[1], soon())
        accepted, _ = server.accept()
        assert dialed.sock.getblocking() is False
        assert len(around.edges) == 1
        around.edges.drop(dialed.sock.fileno())
        dialed.sock.close()
        accepted.close()


async def test_a_backend_that_speaks_first_is_not_overheard() -> None:
    """What the edges told while the connection was made is handed on."""
    with socket.create_server(("127.0.0.1", 0)) as server, plumbing() as around:
        dialing = asyncio.get_running_loop().create_task(dial(around, "127.0.0.1", server.getsockname()[1], soon()))
        await asyncio.sleep(0)  # the kernel has connected, the task does not know yet
        accepted, _ = server.accept()
        accepted.send(b"220 ready")
        dialed = await dialing
        assert dialed.told & READABLE
        assert dialed.sock.recv(100) == b"220 ready"
        around.edges.drop(dialed.sock.fileno())
        dialed.sock.close()
        accepted.close()


async def test_a_refused_connection_says_so_and_leaves_nothing() -> None:
    """No descriptor, no registration, no deadline."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with plumbing() as around:
        before = descriptors()
        with pytest.raises(DialError) as failed:
            await dial(around, "127.0.0.1", port, soon())
        assert (failed.value.reason, failed.value.detail) == ("dial_failed", "ECONNREFUSED")
        assert (descriptors(), len(around.edges)) == (before, 0)


async def test_a_backend_that_does_not_answer_costs_its_deadline() -> None:
    """Its backlog is full: the kernel says nothing at all."""
    with Mute(full=True) as mute, plumbing() as around:
        before = descriptors()
        started = around.loop.time()
        with pytest.raises(DialError) as failed:
            await dial(around, "127.0.0.1", mute.port, started + 0.3)
        assert failed.value.reason == "dial_timeout"
        assert 0.3 <= around.loop.time() - started < 2
        assert (descriptors(), len(around.edges)) == (before, 0)


async def test_a_name_that_nobody_knows_is_no_fault_of_a_backend() -> None:
    """R10: the reason is its own."""
    with plumbing() as around:
        with pytest.raises(DialError) as failed:
            await dial(around, "no-such-host.invalid", 1, soon())
        assert failed.value.reason == "name_not_found"
        with pytest.raises(DialError) as failed:
            await dial(around, "a" * 70 + ".invalid", 1, soon())
        assert failed.value.reason == "name_not_found"


async def test_a_slow_look_up_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread may go on; nobody waits for it."""

    async def slow(*_: Any, **__: Any) -> list[Any]:
        await asyncio.sleep(60)
        return []

    with plumbing() as around:
        monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", slow)
        if not isinstance(around.loop, asyncio.BaseEventLoop):
            return  # uvloop's cannot be replaced
        with pytest.raises(DialError) as failed:
            await dial(around, "slow.invalid", 1, around.loop.time() + 0.1)
        assert failed.value.reason == "dial_timeout"


async def test_without_descriptors_the_reason_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing about a backend."""

    async def none_left(*_: object) -> int:
        raise OSError(99, "Cannot assign requested address")

    with plumbing() as around:
        monkeypatch.setattr(module, "_connect", none_left)
        with pytest.raises(DialError) as failed:
            await dial(around, "127.0.0.1", 1, soon())
        assert (failed.value.reason, failed.value.detail) == ("out_of_descriptors", "EADDRNOTAVAIL")


async def test_a_cancelled_dial_leaves_nothing() -> None:
    """A drain does not wait for backends."""
    with Mute(full=True) as mute, plumbing() as around:
        before = descriptors()
        dialing = asyncio.get_running_loop().create_task(dial(around, "127.0.0.1", mute.port, soon()))
        await asyncio.sleep(0.01)
        dialing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialing
        assert (descriptors(), len(around.edges)) == (before, 0)
