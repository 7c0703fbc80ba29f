"""The worker processes: started, kept at their number, replaced when they die or hang, ended.

Promise: `count` of them serve, each in a slot of its own, and one more stands ready with everything loaded, so that a dead one's
place is taken within a moment. Who says nothing for STUCK_SECONDS, or does not begin within START_SECONDS, is killed; where
workers die as soon as they begin, the next ones are started ever later, up to BACKOFF_SECONDS. A slot is given away only when
the process that had it has gone. No more load at a time than there are cores, so that the first ones serve early however many
are wanted. Refuses to know what workers are told (supervisor.py) and what they serve.

Source: pidfd_open(2): the end of a child without a signal handler, which libraries and event loops have opinions about.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from router.observe.log import Logger
from router.workers.channel import Channel
from router.workers.messages import LONGEST_UP, Alive, Down, Ready, Serving, Up, read_up, write_down

STUCK_SECONDS: Final = 10.0
START_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 1.0
YOUNG_SECONDS: Final = 5.0
"""Whoever dies younger than this makes the next one wait."""
FIRST_BACKOFF: Final = 0.2
BACKOFF_SECONDS: Final = 30.0
END_SECONDS: Final = 7.0
"""For a worker to end by itself: its connections have one second, each of its logs two."""

LOADING: Final = max(2, len(os.sched_getaffinity(0)))
"""So many load at a time: more would only make each other late."""
UNSERVED_SECONDS: Final = 5.0
"""So long a slot may be without anybody who serves before others get what comes for it."""
MOST_SAID: Final = 32 * 1024 * 1024
MESSAGE_BYTES: Final = 2048
"""No worker says more between two looks, in bytes; a message counts as so many more than it has, for the work that it makes."""
ENVIRONMENT: Final = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TZDIR", "TMPDIR"})
ENVIRONMENTS: Final = ("PYTHON", "LC_", "LD_", "MALLOC_", "GLIBC_", "OPENSSL_", "SSL_", "UV_", "COVERAGE_")
"""Variables that workers have of the supervisor's, by name and by their names' beginnings: others may hold its secrets, for a
configuration may take any value from one (`env`), or speak for it to the one who started it.
"""

_ROOT: Final = Path(__file__).parents[2]


class Member:
    """One worker process, as the supervisor sees it. `slot` None: it stands ready, or is on its way to."""

    def __init__(self, number: int, process: subprocess.Popen[bytes], now: float) -> None:
        self.number = number
        self.process = process
        self.pidfd = os.pidfd_open(process.pid)
        self.began = self.heard_at = now
        self.slot: int | None = None
        self.ready = self.serving = self.ending = False
        self.said = 0  # bytes since the last look
        self.busy = False  # with something that may take long
        self.asked: set[int] = set()  # of which configurations it has not said yet whether it can have them
        self.why = ""  # it is killed, if it is
        self.channel: Channel | None = None

    def say(self, message: Down, descriptors: Sequence[int] = ()) -> None:
        self.say_bytes(write_down(message), descriptors)

    def say_bytes(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """What `write_down` gave, written once for many."""
        if self.channel is not None:
            self.channel.send(message, descriptors)


class Captain(Protocol):
    """Who tells the workers what to do."""

    def launch(self, member: Member) -> None:
        """A worker has got its slot: tell it all that it needs to serve."""

    def hear(self, member: Member, message: Up) -> bool:
        """What a worker said. False: nobody would say that."""

    def gone(self, member: Member) -> None:
        """A worker with a slot has died."""

    def unserved(self, slot: int) -> None:
        """Nobody serves in this slot, for long, while others do; said again at every look."""


class Fleet:
    """All of them. `preload`: modules that workers will need, beyond those that all need."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, log: Logger, count: int, captain: Captain, preload: Sequence[str] = ()
    ) -> None:
        self._loop = loop
        self._log = log
        self._count = count
        self._captain = captain
        self._preload = preload
        self._numbers = 0
        self._members: dict[int, Member] = {}
        self._young_deaths = 0
        self._spawning: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._look_due = 0.0
        self._served_at: dict[int, float] = {}  # by slot
        self._ending = False
        self._nobody = asyncio.Event()
        self.stuck_seconds = STUCK_SECONDS

    def __iter__(self) -> Iterator[Member]:
        """Those that have a slot."""
        return (member for member in list(self._members.values()) if member.slot is not None)

    @property
    def serving(self) -> int:
        """How many accept connections."""
        return sum(member.serving and not member.ending for member in self)

    def start(self) -> None:
        """All, one after the other; the one that stands ready comes when they serve. Raises OSError."""
        for _ in range(min(self._count, LOADING)):
            self._spawn()
        self._look_later()

    def kill(self, member: Member, why: str) -> None:
        """It will be replaced."""
        if member.process.returncode is None and not member.why:
            member.why = why
            self._log.error("worker-killed", worker=member.number, pid=member.process.pid, reason=why)
            member.process.kill()

    def retire(self) -> None:
        """Nobody is replaced any more: those who are here end by themselves."""
        self._ending = True
        for member in list(self._members.values()):
            member.ending = True
            if member.slot is None and member.process.returncode is None:  # it has nothing that could be lost
                member.why = "it is not needed"
                member.process.kill()

    async def end(self, seconds: float = END_SECONDS) -> None:
        """Nobody is left when this returns: who has not gone in time is killed. Their channels are told nothing here."""
        self.retire()
        for handle in (self._spawning, self._looking):
            if handle is not None:
                handle.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._all_gone()
        for member in self._members.values():
            self.kill(member, "it did not end")
        await self._all_gone()

    async def _all_gone(self) -> None:
        while self._members:
            self._nobody.clear()
            await self._nobody.wait()

    # ---- their lives

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = _started(theirs.fileno(), self._preload)
            except OSError:
                ours.close()
                raise
        self._numbers += 1
        member = self._members[self._numbers] = Member(self._numbers, process, self._loop.time())
        member.channel = Channel(
            ours, self._loop, partial(self._hear, member), partial(self._silent, member), LONGEST_UP, most_descriptors=0
        )
        self._loop.add_reader(member.pidfd, self._died, member)

    def _hear(self, member: Member, body: bytes, _descriptors: Sequence[int]) -> None:
        member.heard_at = self._loop.time()
        member.said += MESSAGE_BYTES + len(body)
        if member.said > MOST_SAID:
            self.kill(member, "it said more than any worker says")
        if member.why:  # it is as good as dead, and its word nobody's
            return
        message = read_up(body)
        match message:
            case None:
                understood = False
            case Ready():
                understood = not member.ready
                member.ready = True
                self._fill()
                if len(self._members) < self._count:
                    self._spawn_soon(0.0)
                if member.slot is None:
                    self._log.info("worker-standing-by", worker=member.number, pid=member.process.pid)
            case Alive():
                understood = True
            case Serving():
                understood = member.slot is not None and not member.serving
                if understood:
                    member.serving = True
                    self._log.info("worker-serving", worker=member.number, pid=member.process.pid, slot=member.slot)
                    understood = self._captain.hear(member, message)
                    self._spawn_soon(0.0)
            case _:
                understood = member.slot is not None and self._captain.hear(member, message)
        if not understood:
            self.kill(member, "it said what no worker says")

    def _silent(self, member: Member) -> None:
        """Its channel is over: it has died, or will, or was lost because it does not read."""
        if not member.ending:
            self._loop.call_later(LOOK_SECONDS, self._kill_if_here, member)

    def _kill_if_here(self, member: Member) -> None:
        if self._members.get(member.number) is member:
            self.kill(member, "it does not listen")

    def _died(self, member: Member) -> None:
        status = member.process.poll()
        if status is None:  # not yet
            return
        self._loop.remove_reader(member.pidfd)
        os.close(member.pidfd)
        if member.channel is not None:
            member.channel.close()
        del self._members[member.number]
        self._nobody.set()
        if member.slot is not None:
            self._captain.gone(member)
        if not self._ending:
            self._say_died(member, status)
            self._fill()
            self._replace(member)

    def _say_died(self, member: Member, status: int) -> None:
        ended = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        self._log.error(
            "worker-died", worker=member.number, pid=member.process.pid, slot=member.slot, status=ended, reason=member.why or None
        )

    def _fill(self) -> None:
        """Give each free slot to one who is ready."""
        if self._ending:
            return
        taken = {member.slot for member in self._members.values()}
        ready = [member for member in self._members.values() if member.ready and member.slot is None]
        for slot in [slot for slot in range(self._count) if slot not in taken]:
            if not ready:
                return
            member = ready.pop(0)
            member.slot = slot
            member.began = member.heard_at = self._loop.time()
            self._captain.launch(member)

    def _replace(self, dead: Member) -> None:
        young = self._loop.time() - dead.began < YOUNG_SECONDS
        self._young_deaths = self._young_deaths + 1 if young else 0
        # The first one to die young may have been killed by hand; a spare has its place already.
        wait = 0.0 if self._young_deaths < 2 else min(FIRST_BACKOFF * 2 ** (self._young_deaths - 2), BACKOFF_SECONDS)
        if wait:
            self._log.error("workers-die-young", deaths=self._young_deaths, next_in_seconds=wait)
        self._spawn_soon(wait)

    def _spawn_soon(self, seconds: float) -> None:
        if self._spawning is None and not self._ending:
            self._spawning = self._loop.call_later(seconds, self._spawn_missing)

    def _spawn_missing(self) -> None:
        self._spawning = None
        if self._ending:
            return
        wanted = self._count + (self.serving == self._count)  # the one that stands ready waits until all others serve
        try:
            while len(self._members) < wanted and sum(not member.ready for member in self._members.values()) < LOADING:
                self._spawn()
        except OSError as error:
            self._log.error("worker-not-started", error=error, next_in_seconds=LOOK_SECONDS)
            self._spawn_soon(LOOK_SECONDS)

    # ---- looking after them

    def _look_later(self) -> None:
        self._look_due = self._loop.time() + LOOK_SECONDS
        self._looking = self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        late = now - self._look_due > LOOK_SECONDS  # we were the ones who stood still: what they said is not read yet
        for member in self._members.values():
            if member.slot is None:
                steady = member.ready
            else:  # it may take long over its first configuration, but not until it has heard that there is one
                steady = (member.serving and not member.busy) or member.heard_at == member.began
            limit = self.stuck_seconds if steady else START_SECONDS
            if not late and not member.ending and now - member.heard_at > limit:
                self.kill(member, f"it was silent for {limit:g} s")
            member.said = 0
        self._look_at_slots(now)
        self._look_later()

    def _look_at_slots(self, now: float) -> None:
        served = {member.slot for member in self if member.serving}
        for slot in range(self._count):
            if slot in served or not served or self._ending:
                self._served_at[slot] = now
            elif now - self._served_at.setdefault(slot, now) > UNSERVED_SECONDS:
                self._captain.unserved(slot)


def _started(descriptor: int, preload: Sequence[str]) -> subprocess.Popen[bytes]:
    """Raises OSError."""
    path = os.pathsep.join(dict.fromkeys(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", "")))))
    flags = [f"-W{option}" for option in sys.warnoptions]
    return subprocess.Popen(  # noqa: S603 - no shell, and nothing of it is anybody else's word
        # -P: what lies in the working directory is none of ours.
        [sys.executable, "-P", *flags, "-m", "router.workers", str(descriptor), *preload],
        stdin=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        env={**_environment(os.environ), "PYTHONPATH": path},
    )


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in own.items() if name in ENVIRONMENT or name.startswith(ENVIRONMENTS)}
