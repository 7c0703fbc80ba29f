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
if mode == "beats":
    import threading, time
    def beat():
        while True:
            time.sleep(0.02)
            say("Alive")
    threading.Thread(target=beat, daemon=True).start()
while True:
    body = read(int.from_bytes(read(5)[:4], "big"))
    if b"Open" in body:
        say("Serving")
        if mode == "babbles":
            say("Nonsense")
        if mode == "unasked":
            say("Ready")
        if mode == "twice":
            say("Serving")
        if mode == "floods":
            while True:
                say("Alive")
        if mode == "endless":
            for _ in range(100):
                say("Nonsense")
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
        self.left: set[int] = set()

    def launch(self, member: Member) -> None:
        self.launched.append(member)
        member.say(Open())

    def hear(self, member: Member, message: Up) -> bool:
        self.heard.append(message)
        return True

    def gone(self, member: Member) -> None:
        self.lost.append(member)

    def unserved(self, slot: int) -> None:
        self.left.add(slot)


class Log(RecordingLog):
    def named(self, component: str) -> "Log":
        return self


class Yard:
    """A fleet of small programs; `mode` says what those do that are started from now on."""

    def __init__(self, count: int, mode: str) -> None:
        self.mode = mode
        self.master = Master()
        self.log = Log()
        self.loading: list[int] = []
        self.fleet = Fleet(asyncio.get_running_loop(), cast("Logger", self.log), count, self.master)

    def started(self, descriptor: int, preload: Sequence[str]) -> subprocess.Popen[bytes]:
        self.loading.append(sum(not member.ready for member in self.fleet._members.values()))
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


async def test_few_load_at_a_time_however_many_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one serves as early as if it were alone."""
    monkeypatch.setattr(fleet_module, "LOADING", 1)
    async with yard(monkeypatch, 4) as one:
        await until(lambda: one.fleet.serving == 4 and one.spare, "the workers and the spare")
        assert one.loading == [0] * 5


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


async def test_one_that_says_too_much_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else would be dealt with any more, such as the others' words."""
    monkeypatch.setattr(fleet_module, "MOST_SAID", 100 * fleet_module.MESSAGE_BYTES)
    async with yard(monkeypatch, 1, "floods") as one:
        await until(lambda: one.master.lost, "its end")
        assert one.master.lost[0].why == "it said more than any worker says"
        one.mode = "well"


async def test_one_that_stands_ready_is_kept_while_it_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has nothing to do, and says that it lives."""
    monkeypatch.setattr(fleet_module, "LOOK_SECONDS", 0.05)
    async with yard(monkeypatch, 1, "beats") as one:
        one.fleet.stuck_seconds = 1.0
        spare = await until(lambda: one.spare, "the spare")
        ready_at = spare.heard_at
        await until(lambda: spare.heard_at > ready_at + 2 * one.fleet.stuck_seconds, "word of it after that time")
        assert one.spare is spare
        assert one.log.of("worker-killed") == []


async def test_one_that_stopped_before_it_got_its_slot_does_not_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not even heard that it is to begin: its time is not that of a long beginning."""
    monkeypatch.setattr(fleet_module, "LOOK_SECONDS", 0.05)
    async with yard(monkeypatch, 1, "beats") as one:
        spare = await until(lambda: one.spare, "the spare")
        os.kill(spare.process.pid, signal.SIGSTOP)
        one.fleet.stuck_seconds = 1.0
        (victim,) = one.fleet
        os.kill(victim.process.pid, signal.SIGKILL)
        await until(lambda: spare in one.master.lost, "its end")
        await until(lambda: one.fleet.serving == 1, "the next one")


def test_a_worker_has_no_secret_of_the_environment() -> None:
    """A configuration may take NATS's password from a variable; what Python and its libraries heed is handed on."""
    own = {"NATS_PASSWORD": "secret", "NOTIFY_SOCKET": "@x", "PATH": "/bin", "LC_ALL": "C", "PYTHONHASHSEED": "1"}
    assert fleet_module._environment(own) == {"PATH": "/bin", "LC_ALL": "C", "PYTHONHASHSEED": "1"}


@pytest.mark.parametrize("mode", ["babbles", "unasked", "twice", "endless"])
async def test_one_that_says_what_no_worker_says_is_killed(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """It is not ours any more."""
    async with yard(monkeypatch, 1, mode) as one:
        await until(lambda: one.master.lost, "its end")
        assert one.master.lost[0].why == "it said what no worker says"
        killed = [each["worker"] for each in one.log.of("worker-killed")]
        assert len(killed) == len(set(killed)), "it is said once"
        one.mode = "well"


async def test_a_slot_that_nobody_takes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects there would wait in vain; while another serves, that is not to be."""
    monkeypatch.setattr(fleet_module, "LOOK_SECONDS", 0.05)
    async with yard(monkeypatch) as one:
        spare = await until(lambda: one.spare, "the workers and the spare")
        assert one.master.left == set()
        monkeypatch.setattr(fleet_module, "UNSERVED_SECONDS", 0.2)
        one.mode = "dies"
        victim = next(iter(one.fleet))
        for member in (spare, victim):
            os.kill(member.process.pid, signal.SIGKILL)
        await until(lambda: one.master.left, "word of the slot")
        assert one.master.left == {victim.slot}
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
