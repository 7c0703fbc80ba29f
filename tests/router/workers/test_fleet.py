"""router/workers/fleet.py: worker processes, here small ones that know no more than how to speak."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from router.observe.log import Logger
from router.workers import fleet as fleet_module
from router.workers.fleet import Fleet, Member
from router.workers.messages import Answered, Ask, End, Open, Serving, Up
from tests.support.recorder import RecordingLog
from tests.support.waiting import until

PROGRAM = """
import json, os, pickle, socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
mode = sys.argv[2]
def say(*message):
    body = json.dumps(message).encode()
    sock.sendall(len(body).to_bytes(4, "big") + b"\\0" + body)
def read(size):
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            sys.exit(0)
        data += piece
    return data
if mode == "dies":
    sys.exit(3)
say("Ready")
while True:
    body = read(int.from_bytes(read(5)[:4], "big"))
    if b"Open" in body:
        say("Serving")
        if mode == "babbles":
            say("Nonsense")
        if mode == "unasked":
            say("Ready")
    elif b"End" in body and mode != "stays":
        sys.exit(0)
    elif b"Ask" in body:
        say("Answered", 7)
"""


class Master:
    """The fleet's captain: opens whoever is launched, and keeps what he hears."""

    def __init__(self) -> None:
        self.launched: list[Member] = []
        self.heard: list[Up] = []
        self.lost: list[Member] = []

    def launch(self, member: Member) -> None:
        self.launched.append(member)
        member.say(Open())

    def hear(self, member: Member, message: Up) -> bool:
        self.heard.append(message)
        return True

    def gone(self, member: Member) -> None:
        self.lost.append(member)


class Log(RecordingLog):
    def named(self, component: str) -> "Log":
        return self


class Yard:
    """A fleet of small programs; `mode` says what those do that are started from now on."""

    def __init__(self, count: int, mode: str) -> None:
        self.mode = mode
        self.master = Master()
        self.log = Log()
        self.fleet = Fleet(asyncio.get_running_loop(), cast("Logger", self.log), count, self.master)

    def started(self, descriptor: int, preload: Sequence[str]) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-I", "-S", "-c", PROGRAM, str(descriptor), self.mode]
        return subprocess.Popen(words, pass_fds=(descriptor,))

    @property
    def pids(self) -> list[int]:
        return [member.process.pid for member in self.fleet._members.values()]

    @property
    def spare(self) -> Member | None:
        return next((one for one in self.fleet._members.values() if one.ready and one.slot is None), None)


@asynccontextmanager
async def yard(monkeypatch: pytest.MonkeyPatch, count: int = 2, mode: str = "well") -> AsyncIterator[Yard]:
    made = Yard(count, mode)
    monkeypatch.setattr(fleet_module, "_started", made.started)
    made.fleet.start()
    try:
        yield made
    finally:
        for member in made.fleet:
            member.say(End())
        await made.fleet.end(2.0)
    assert made.pids == []


async def test_as_many_serve_as_are_wanted_and_one_stands_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a slot of its own."""
    async with yard(monkeypatch) as one:
        await until(lambda: one.fleet.serving == 2 and one.spare, "the workers and the spare")
        assert {member.slot for member in one.fleet} == {0, 1}
        assert len(one.pids) == 3
        assert one.master.heard.count(Serving()) == 2


async def test_a_killed_one_is_replaced_by_the_one_that_stands_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """In its slot, when it has gone; and then another one stands ready."""
    async with yard(monkeypatch) as one:
        await until(lambda: one.fleet.serving == 2 and one.spare, "the workers and the spare")
        spare, victim = one.spare, next(iter(one.fleet))
        assert spare is not None
        os.kill(victim.process.pid, signal.SIGKILL)
        await until(lambda: spare.serving, "the replacement")
        assert (spare.slot, one.master.lost) == (victim.slot, [victim])
        await until(lambda: one.spare, "the next spare")


async def test_one_that_is_silent_for_too_long_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be stuck in a loop of its own."""
    async with yard(monkeypatch, 1) as one:
        one.fleet.stuck_seconds = 0.0
        await until(lambda: one.fleet.serving == 1, "the worker")
        (stuck,) = one.fleet
        await until(lambda: stuck in one.master.lost, "its end")
        assert stuck.why.startswith("it was silent")


@pytest.mark.parametrize("mode", ["babbles", "unasked"])
async def test_one_that_says_what_no_worker_says_is_killed(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """It is not ours any more."""
    async with yard(monkeypatch, 1, mode) as one:
        await until(lambda: one.master.lost, "its end")
        assert one.master.lost[0].why == "it said what no worker says"
        one.mode = "well"


@pytest.mark.parametrize("mode", ["dies", "babbles"])
async def test_what_dies_as_soon_as_it_begins_is_started_ever_later(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """A crash loop costs little, and is said; so is one of those that are killed for what they say."""
    async with yard(monkeypatch, 1, mode) as one:
        waits = await until(
            lambda: waits if len(waits := [each["next_in_seconds"] for each in one.log.of("workers-die-young")]) > 1 else None,
            "two delays",
        )
        assert waits[:2] == [0.2, 0.4]
        one.mode = "well"


async def test_what_is_told_and_heard_goes_between_the_right_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question to one member is answered by it."""
    async with yard(monkeypatch, 1) as one:
        await until(lambda: one.fleet.serving == 1, "the worker")
        next(iter(one.fleet)).say(Ask(7))
        await until(lambda: Answered(7) in one.master.heard, "the answer")


async def test_who_does_not_end_in_time_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is left, whatever they do."""
    made = Yard(1, "stays")
    monkeypatch.setattr(fleet_module, "_started", made.started)
    made.fleet.start()
    await until(lambda: made.fleet.serving == 1, "the worker")
    for member in made.fleet:
        member.say(End())
    await made.fleet.end(0.05)
    assert made.pids == []
    assert [each["reason"] for each in made.log.of("worker-killed")] == ["it did not end"]


async def test_nobody_is_replaced_once_they_retire(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that stands ready goes at once: it has nothing to lose."""
    async with yard(monkeypatch, 1) as one:
        await until(lambda: one.fleet.serving == 1 and one.spare, "the worker and the spare")
        one.fleet.retire()
        await until(lambda: len(one.pids) == 1, "the end of the spare")
        (worker,) = one.fleet
        os.kill(worker.process.pid, signal.SIGKILL)
        await until(lambda: not one.pids, "the end of the worker")
        assert one.fleet.serving == 0
