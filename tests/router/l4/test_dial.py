"""router/l4/dial.py: new backend connections, on both event loops."""

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from router.l4.dial import Dial, DialError, Opening
from router.l4.relay import Plumbing
from router.net.edges import READABLE
from tests.router.l4.plumbing import descriptors, plumbing
from tests.router.net.pairs import soon
from tests.support.failing import Mute

HELLO = b"hello"


class Attempt:
    """One dial, and what it came to."""

    def __init__(self, around: Plumbing, opening: Opening = lambda _: HELLO) -> None:
        self._over: asyncio.Future[DialError | None] = around.loop.create_future()
        self.dial = Dial(around, opening, lambda _, error: self._over.set_result(error))

    async def to(self, host: str, port: int, until: float) -> None:
        """Raises DialError."""
        if not self.dial.begin(host, port, until):
            error = await self._over
            if error is not None:
                raise error


@contextmanager
def listening(family: int = socket.AF_INET) -> Iterator[tuple[socket.socket, int]]:
    with socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family) as server:
        server.settimeout(10)
        yield server, server.getsockname()[1]


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET, "localhost")]
)
async def test_a_backend_is_reached_by_address_or_name(family: int, host: str) -> None:
    """R10: IPv6 literals too. The socket does not wait, is watched already, and has taken the first bytes."""
    with listening(family) as (server, port), plumbing() as around:
        one = Attempt(around)
        await one.to(host, port, soon())
        accepted, _ = server.accept()
        with accepted, closing(one.dial.give()) as sock:
            assert accepted.recv(100) == HELLO
            assert (one.dial.taken, sock.getblocking(), len(around.edges)) == (len(HELLO), False, 1)
            around.edges.drop(sock.fileno())


@pytest.mark.parametrize("refusal", [BlockingIOError(), OSError(errno.ENOTCONN, "getpeername")], ids=["send", "getpeername"])
async def test_a_connection_that_takes_its_time_is_waited_for(refusal: OSError) -> None:
    """A backend that is not nearby: the kernel takes nothing before it has answered."""
    with listening() as (server, port), plumbing() as around:
        said = iter((refusal, HELLO))

        def opening(_: object) -> bytes:
            match next(said):
                case bytes(hello):
                    return hello
                case OSError() as error:
                    raise error

        one = Attempt(around, opening)
        assert one.dial.begin("127.0.0.1", port, soon()) is False
        accepted, _ = server.accept()
        accepted.send(b"220")
        assert await one._over is None
        assert one.dial.slot is None
        with accepted, closing(one.dial.give()) as sock:
            assert accepted.recv(100) == HELLO
            around.edges.drop(sock.fileno())


async def test_a_backend_that_speaks_first_is_not_overheard() -> None:
    """What the edges told while the connection was made is handed on."""
    with listening() as (server, port), plumbing() as around:
        stands = False

        def opening(_: object) -> bytes:
            if not stands:
                raise BlockingIOError
            return HELLO

        one = Attempt(around, opening)
        assert one.dial.begin("127.0.0.1", port, soon()) is False
        accepted, _ = server.accept()
        accepted.send(b"220 ready")
        stands = True
        assert await one._over is None
        with accepted, closing(one.dial.give()) as sock:
            assert one.dial.told & READABLE
            assert sock.recv(100) == b"220 ready"
            around.edges.drop(sock.fileno())


async def test_a_refused_connection_says_so_and_leaves_nothing() -> None:
    """No descriptor, no registration, no deadline."""
    with listening() as (_, port):
        pass
    with plumbing() as around:
        before = descriptors()
        with pytest.raises(DialError) as failed:
            await Attempt(around).to("127.0.0.1", port, soon())
        assert (failed.value.reason, failed.value.detail) == ("dial_failed", "ECONNREFUSED")
        assert (descriptors(), len(around.edges)) == (before, 0)


async def test_a_backend_that_does_not_answer_costs_its_deadline() -> None:
    """Its backlog is full: the kernel says nothing at all."""
    with Mute(full=True) as mute, plumbing() as around:
        before = descriptors()
        started = around.loop.time()
        with pytest.raises(DialError) as failed:
            await Attempt(around).to("127.0.0.1", mute.port, started + 0.3)
        assert failed.value.reason == "dial_timeout"
        assert 0.3 <= around.loop.time() - started < 2
        assert (descriptors(), len(around.edges)) == (before, 0)


async def test_a_name_that_nobody_knows_is_no_fault_of_a_backend() -> None:
    """R10: the reason is its own."""
    with plumbing() as around:
        with pytest.raises(DialError) as failed:
            await Attempt(around).to("no-such-host.invalid", 1, soon())
        assert failed.value.reason == "name_not_found"
        with pytest.raises(DialError) as failed:
            await Attempt(around).to("a" * 70 + ".invalid", 1, soon())
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
            await Attempt(around).to("slow.invalid", 1, around.loop.time() + 0.1)
        assert failed.value.reason == "dial_timeout"


async def test_a_look_up_that_fails_for_our_own_reasons_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing about a backend, nor about its name."""

    async def none_left(*_: Any, **__: Any) -> list[Any]:
        raise OSError(errno.EMFILE, "Too many open files")

    with plumbing() as around:
        monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", none_left)
        if not isinstance(around.loop, asyncio.BaseEventLoop):
            return  # uvloop's cannot be replaced
        with pytest.raises(DialError) as failed:
            await Attempt(around).to("backend.invalid", 1, soon())
        assert (failed.value.reason, failed.value.detail) == ("out_of_descriptors", "EMFILE")


async def test_without_local_ports_the_reason_is_ours() -> None:
    """It says nothing about a backend."""

    def opening(_: object) -> bytes:
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    with listening() as (_, port), plumbing() as around:
        before = descriptors()
        with pytest.raises(DialError) as failed:
            await Attempt(around, opening).to("127.0.0.1", port, soon())
        assert (failed.value.reason, failed.value.detail) == ("out_of_descriptors", "EADDRNOTAVAIL")
        assert (descriptors(), len(around.edges)) == (before, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_dial_that_is_given_up_leaves_nothing(host: str) -> None:
    """A drain does not wait for backends."""
    with Mute(full=True) as mute, plumbing() as around:
        before = descriptors()
        one = Attempt(around)
        assert one.dial.begin(host, mute.port, soon()) is False
        one.dial.end()
        one.dial.end()
        await asyncio.sleep(0.01)
        assert not one._over.done()
        assert (descriptors(), len(around.edges), one.dial.slot) == (before, 0, None)
