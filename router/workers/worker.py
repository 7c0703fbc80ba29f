"""A worker: serves connections under a supervisor's word.

Promise: it does what it is told in the order in which it is told; what it cannot have it says, and keeps what it had. Without
its supervisor it goes on with the configuration and the routes that it has, until a successor sends it away; before it has ever
served it ends instead. SIGTERM ends it; the signals that are the supervisor's to understand are not heard here.
Refuses to know NATS, status ports, and other workers.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
from collections.abc import Sequence
from typing import Final, assert_never

from router.config.compile_error import CompileError
from router.listening import Place
from router.observe.health import Health, HealthState
from router.observe.line_lock import LineLock
from router.process import loop_factory, tune_collector
from router.workers.channel import Channel
from router.workers.messages import (
    LONGEST_DOWN,
    MAX_WHY,
    Adopt,
    Alive,
    Answered,
    Ask,
    Begin,
    Discard,
    Down,
    Drain,
    Drained,
    End,
    HealthIs,
    Names,
    Open,
    Prepare,
    Prepared,
    Ready,
    Routes,
    Seek,
    Serving,
    Sockets,
    Up,
    read_down,
    write_up,
)  # fmt: skip
from router.workers.shared import Shared
from router.workers.station import Locks, Next, Station
from router.workers.takeover import successor

BEAT_SECONDS: Final = 1.0
"""So often the supervisor hears from it, at least; also while it stands by."""


class Worker:
    """One. `sock` is its end of the pair."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._channel = Channel(sock, loop, self._received, self._lost, LONGEST_DOWN)
        self._sockets: dict[Place, socket.socket] = {}
        self._health = Health()
        self._successor = ""
        self._ended = asyncio.Event()
        self._exit_status = 0
        self._common: tuple[int, Locks, Shared] | None = None
        self._station: Station | None = None
        self._next: Next | None = None
        self._serving = self._draining = False
        self._beat: asyncio.TimerHandle | None = None

    async def run(self) -> int:
        """Serve until told to end; the exit status."""
        self._loop.add_signal_handler(signal.SIGTERM, self._ended.set)
        self._say(Ready())
        self._keep_telling()
        await self._ended.wait()
        if self._beat is not None:
            self._beat.cancel()
        if self._station is not None:
            await self._station.stop()
        self._channel.close()
        for sock in self._sockets.values():
            sock.close()
        if self._station is not None:
            self._station.close()
        return self._exit_status

    # ---- what it is told

    def _received(self, body: bytes, descriptors: list[int]) -> None:
        try:
            self._do(read_down(body), descriptors)
        except Exception as error:
            self._fail(error)
            raise

    def _fail(self, error: Exception) -> None:
        """A worker that is not what its supervisor thinks must not go on serving."""
        if self._station is not None:
            self._station.log.error("worker-failed", error=error)
        self._exit_status = 1
        self._ended.set()

    def _do(self, message: Down, descriptors: Sequence[int]) -> None:
        match message:
            case Begin():
                self._take_up(message, descriptors)
            case Sockets(places):
                self._sockets |= {place: socket.socket(fileno=each) for place, each in zip(places, descriptors, strict=True)}
            case Prepare():
                self._prepare(message)
            case Ask(number):
                self._tell()
                self._say(Answered(number))
            case HealthIs(state):
                self._health.reach(HealthState(state))
            case End():
                self._ended.set()
            case _:
                self._do_at(self._station, message)

    def _do_at(self, station: Station | None, message: Adopt | Discard | Routes | Names | Seek | Open | Drain) -> None:
        if station is None:  # it could not have its first configuration, said so, and is on its way out
            return
        match message:
            case Adopt(generation):
                self._adopt(station, generation)
            case Discard():
                self._discard()
            case Routes(data):
                station.follow(data)
            case Names(named):
                station.learn(named)
            case Seek(asked):
                station.seek(asked)
            case Open():
                self._open(station)
            case Drain(seconds):
                station.spawn(self._drain(station, seconds))
            case _:
                assert_never(message)

    def _take_up(self, begin: Begin, descriptors: Sequence[int]) -> None:
        self._say(Alive())  # what follows may take long
        stdout, access_log, shared = descriptors
        locks = Locks(LineLock(stdout), LineLock(access_log))  # opened anew: else all would hold them at once
        os.close(stdout)
        os.close(access_log)
        self._successor = begin.successor
        self._common = begin.worker, locks, Shared.attach([shared], begin.row)

    def _prepare(self, message: Prepare) -> None:
        generation, config, ports = message
        try:
            if self._station is None:
                assert self._common is not None, "Begin comes first"
                self._station = Station(config, generation, self._loop, *self._common, self._health, self._say)
            self._next = self._station.prepare(config, generation, self._take if ports else None)
        except (CompileError, OSError) as error:
            self._say(Prepared(generation, f"{error}"[:MAX_WHY] or type(error).__name__))
            if self._station is None or not self._serving:
                self._exit_status = 1
                self._loop.call_soon(self._ended.set)
        else:
            self._say(Prepared(generation, ""))

    def _take(self, address: str, port: int) -> socket.socket:
        """The socket that came for a place."""
        try:
            return self._sockets.pop(Place(address, port))
        except KeyError:
            raise OSError(f"the supervisor sent no socket for {address} port {port}") from None

    def _adopt(self, station: Station, generation: int) -> None:
        following, self._next = self._next, None
        if following is None or following.generation != generation:
            raise RuntimeError(f"generation {generation} is to be adopted, and was not prepared")
        station.adopt(following)
        if self._serving and not self._draining:
            station.open()

    def _discard(self) -> None:
        """What was taken for it is closed; the supervisor keeps its own."""
        following, self._next = self._next, None
        if following is not None:
            for sock in (following.data.sockets or {}).values():
                sock.close()
        for place in list(self._sockets):
            self._sockets.pop(place).close()

    def _open(self, station: Station) -> None:
        if self._draining:
            return
        station.open()
        self._serving = True
        tune_collector()
        self._say(Serving())
        self._tell()

    async def _drain(self, station: Station, seconds: float) -> None:
        self._draining = True
        self._health.degrade()
        whole = await station.drain(seconds)
        self._exit_status = 0 if whole else 1
        self._say(Drained(whole))
        self._ended.set()

    # ---- what it says

    def _say(self, message: Up) -> None:
        self._channel.send(write_up(message))

    def _tell(self) -> None:
        if self._station is not None:
            self._station.tell()

    def _keep_telling(self) -> None:
        if self._serving:
            self._tell()
        else:
            self._say(Alive())
        self._beat = self._loop.call_later(BEAT_SECONDS, self._keep_telling)

    # ---- without a supervisor

    def _lost(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
        if not self._serving or self._station is None:
            self._ended.set()
        elif not self._draining:
            self._station.log.warning("supervisor-lost", doing="serving on with the last routes until a successor comes")
            self._station.spawn(self._await_successor(self._station))

    async def _await_successor(self, station: Station) -> None:
        with await successor(self._successor, self._loop, station.log):  # until it is closed, the successor knows of us
            station.log.info("worker-relieved")
            await self._drain(station, station.drain_seconds)


def main(arguments: Sequence[str]) -> int:
    """`arguments`: the number of the descriptor, then modules to load before there is anything to do."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    descriptor, *preload = arguments
    for name in preload:
        importlib.import_module(name)

    async def run() -> int:
        with socket.socket(fileno=int(descriptor)) as sock:
            return await Worker(sock, asyncio.get_running_loop()).run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(run())
