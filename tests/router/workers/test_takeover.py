"""Tests of router/workers/takeover.py: orphans and their next supervisor find each other, and nobody else."""

import asyncio
import contextlib
import errno
import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

from router.observe.log import Logger
from router.workers import takeover
from router.workers.takeover import Rendezvous, rendezvous_name, successor
from tests.support.recorder import RecordingLog

_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    return f"\0vestibule-test.{os.getpid()}.{next(_numbers)}"


class Meeting:
    """A supervisor and its orphans on one loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.log = RecordingLog()
        self._opened: list[Rendezvous] = []
        self._orphans: list[asyncio.Task[socket.socket]] = []

    def supervisor(self) -> Rendezvous:
        made = Rendezvous(self.loop, cast("Logger", self.log))
        self._opened.append(made)
        return made

    def orphan(self, name: str) -> "asyncio.Task[socket.socket]":
        task = self.loop.create_task(successor(name, self.loop, cast("Logger", self.log)))
        self._orphans.append(task)
        return task

    async def end(self) -> None:
        for rendezvous in self._opened:
            rendezvous.close()
        for orphan in self._orphans:
            orphan.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await orphan).close()


class Exhausted:
    """A listener of a process that has no descriptors, twice."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real
        self._calls = 0

    def fileno(self) -> int:
        return self._real.fileno()

    def accept(self) -> tuple[socket.socket, object]:
        self._calls += 1
        if self._calls < 3:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return self._real.accept()

    def close(self) -> None:
        self._real.close()


@contextlib.asynccontextmanager
async def meeting() -> AsyncIterator[Meeting]:
    made = Meeting()
    try:
        yield made
    finally:
        await made.end()


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(takeover, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def another_uid(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, everybody else is of another user."""
    real = os.geteuid()
    return lambda: monkeypatch.setattr(os, "geteuid", lambda: real + 1)


async def test_orphans_wait_for_a_supervisor_and_drain_when_it_says_so(name: str) -> None:
    """One that serves is told about; each goes when the next one serves, and not before."""
    async with meeting() as here:
        orphans = [here.orphan(name), here.orphan(name)]
        supervisor = here.supervisor()
        assert supervisor.claim(name)
        assert await supervisor.found(10)
        await until(lambda: len(supervisor.orphans) == 2)
        assert supervisor.orphans == [os.getpid()] * 2
        assert not any(orphan.done() for orphan in orphans)
        supervisor.dismiss()
        ended = await asyncio.gather(*orphans)
        assert len(supervisor.orphans) == 2, "they drain still"
        for connection in ended:
            connection.close()
        await until(lambda: not supervisor.orphans)
        assert here.log.names.count("orphan-gone") == 2


async def test_an_orphan_that_comes_after_the_dismissal_is_dismissed_too(name: str) -> None:
    """Who asked late must not serve an old table for ever."""
    async with meeting() as here:
        supervisor = here.supervisor()
        assert supervisor.claim(name)
        supervisor.dismiss()
        (await here.orphan(name)).close()


async def test_without_orphans_nobody_is_waited_for_longer_than_said(name: str) -> None:
    """A start after a stop is not held up."""
    async with meeting() as here:
        supervisor = here.supervisor()
        assert supervisor.claim(name)
        assert not await supervisor.found(0.01)
        assert supervisor.orphans == []


async def test_a_supervisor_that_dies_before_it_serves_leaves_the_orphans_to_the_next(name: str) -> None:
    """They were not told to drain: they go on, and ask again."""
    async with meeting() as here:
        first, second = here.supervisor(), here.supervisor()
        orphan = here.orphan(name)
        assert first.claim(name)
        assert await first.found(10)
        first.close()
        assert second.claim(name)
        assert await second.found(10)
        assert not orphan.done()
        second.dismiss()
        (await orphan).close()


async def test_a_claimed_name_is_logged_and_the_supervisor_goes_on_without_it(name: str) -> None:
    """A local stranger who takes the name stops no start, and not silently."""
    async with meeting() as here:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.bind(name)
            stranger.listen()
            supervisor = here.supervisor()
            assert not supervisor.claim(name)
            assert not await supervisor.found(5)
            supervisor.dismiss()
            (said,) = here.log.of("takeover-impossible")
            assert said == {
                "name": name[1:],
                "error": os.strerror(errno.EADDRINUSE),
                "held_by": f"process {os.getpid()} of uid {os.geteuid()}",
            }


async def test_a_name_that_is_held_by_somebody_deaf_is_logged_too(name: str) -> None:
    """Bound, but nobody listens."""
    async with meeting() as here:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.bind(name)
            assert not here.supervisor().claim(name)
            assert [said["held_by"] for said in here.log.of("takeover-impossible")] == [""]


async def test_a_worker_heeds_no_strangers_word(name: str, another_uid: Callable[[], None]) -> None:
    """A stranger under the name who says to drain is logged once and not believed."""
    async with meeting() as here:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.bind(name)
            stranger.listen()
            stranger.setblocking(False)
            another_uid()
            orphan = here.orphan(name)
            for _ in range(3):
                caller, _address = await here.loop.sock_accept(stranger)
                with contextlib.suppress(OSError):
                    caller.send(b"D")
                caller.close()
            assert not orphan.done()
        assert len(here.log.of("takeover-name-is-a-strangers")) == 1


async def test_a_supervisor_turns_a_stranger_away(name: str, another_uid: Callable[[], None]) -> None:
    """Whoever is of another user is no orphan."""
    async with meeting() as here:
        supervisor = here.supervisor()
        assert supervisor.claim(name)
        another_uid()
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.setblocking(False)
            stranger.connect(name)
            assert await here.loop.sock_recv(stranger, 1) == b""
        assert supervisor.orphans == []
        assert not await supervisor.found(0)
        assert here.log.names == ["takeover-turned-away"]


async def test_no_more_than_a_bounded_number_waits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is turned away and asks again."""
    monkeypatch.setattr(takeover, "MAX_ORPHANS", 1)
    async with meeting() as here:
        supervisor = here.supervisor()
        assert supervisor.claim(name)
        orphans = [here.orphan(name), here.orphan(name)]
        await until(lambda: "takeover-turned-away" in here.log.names)
        assert len(supervisor.orphans) == 1
        supervisor.dismiss()
        (await next(asyncio.as_completed(orphans))).close()
        for connection in await asyncio.gather(*orphans):
            connection.close()


async def test_without_descriptors_it_waits_and_accepts_later(name: str) -> None:
    """An orphan that cannot be taken now is taken as soon as it can be; the loop does not spin meanwhile."""
    async with meeting() as here:
        supervisor = here.supervisor()
        assert supervisor.claim(name)
        real = supervisor._listener
        assert real is not None

        here.loop.remove_reader(real)
        supervisor._listener = cast("socket.socket", Exhausted(real))
        here.loop.add_reader(real, supervisor._accept)
        here.orphan(name)
        assert await supervisor.found(10)
        assert here.log.names.count("takeover-not-accepting") == 2


@contextlib.asynccontextmanager
async def one_found(here: Meeting, name: str) -> AsyncIterator[tuple[Rendezvous, socket.socket]]:
    """A supervisor, and the other end of the one orphan that it found."""
    supervisor = here.supervisor()
    assert supervisor.claim(name)
    with socket.socket(socket.AF_UNIX) as orphan:
        orphan.setblocking(False)
        orphan.connect(name)
        await until(lambda: len(supervisor.orphans) == 1)
        yield supervisor, orphan


async def test_what_an_orphan_says_ends_it_and_nothing_else(name: str) -> None:
    """It has nothing to say."""
    async with meeting() as here, one_found(here, name) as (supervisor, orphan):
        orphan.send(b"x")
        await until(lambda: not supervisor.orphans)


async def test_one_that_has_gone_is_forgotten_when_it_is_told(name: str) -> None:
    """Telling a process that has just ended fails, and that is all."""
    async with meeting() as here:
        async with one_found(here, name) as (supervisor, _):
            pass
        supervisor.dismiss()
        assert supervisor.orphans == []


def test_a_name_is_of_one_user_and_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the file is spelled; abstract, so that no file is left behind."""
    config, link = tmp_path / "router.yml", tmp_path / "link.yml"
    config.touch()
    link.symlink_to(config)
    name = rendezvous_name(config)
    assert name == rendezvous_name(link)
    assert name.startswith("\0")
    assert len(name) < 108
    assert name != rendezvous_name(tmp_path / "other.yml")
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert name != rendezvous_name(config)
