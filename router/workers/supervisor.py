"""The plane of a router with workers: what the process that was started tells them, and hears from them.

    configuration   prepared by all, then adopted by all; what one cannot have, none gets
    routes          whole to a worker that begins, then each change to all of them
    limits          in memory that all share (shared.py)
    numbers         asked for at each scrape, and told by each worker every second (merge.py)

Promise: what a worker is told is one sequence, so that it never serves a request under something older than what it began with.
Nothing here waits for a worker that does not read: it is killed, and replaced. Where workers of a supervisor that has died still
serve, these ones take over once the router is healthy, and not before.
Refuses to know how processes are kept (fleet.py), and which routes there are.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Collection, Iterable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from router.config.compile_l4 import L4Settings, compile_l4
from router.config.model import Config
from router.listening import Place, places
from router.observe.health import Health, HealthState
from router.observe.line_lock import LineLock
from router.process import Process
from router.workers import active_apps, tap_pipe
from router.workers.channel import MAX_DESCRIPTORS
from router.workers.disclosure import for_worker
from router.workers.fleet import Fleet, Member
from router.workers.gathering import Gathering
from router.workers.merge import Merged
from router.workers.messages import (
    Adopt,
    Answered,
    Apps,
    Ask,
    Begin,
    Discard,
    Drain,
    Drained,
    End,
    HealthIs,
    Open,
    Prepare,
    Prepared,
    Prune,
    Seek,
    Serving,
    Sockets,
    Tapped,
    Told,
    Up,
)  # fmt: skip
from router.workers.ports import Bound, Ports, discard
from router.workers.roll import Roll
from router.workers.shared import Shared
from router.workers.takeover import Rendezvous, rendezvous_name

if TYPE_CHECKING:
    from router.l7_control import L7Control
    from router.workers.broadcast import Broadcast

PREPARE_SECONDS: Final = 60.0
ASK_SECONDS: Final = 2.0
"""A scrape waits so long for a worker that hangs."""
DRAIN_GRACE: Final = 3.0
ORPHAN_SECONDS: Final = 1.0
"""Within this time each worker without a supervisor has found us."""
L7_MODULES: Final = ("router.l7_data", "router.config.compile")


class _Next(NamedTuple):
    """A configuration that all have prepared. `bound` None: the ports stay as they are."""

    generation: int
    config: Config
    wanted: Collection[Place]
    bound: Bound | None


class Supervisor:
    """The plane: a `Plane` to the app, a `Captain` to the fleet."""

    def __init__(self, path: Path, config: Config, process: Process, health: Health, l7: L7Control | None) -> None:
        """`path`: the configuration's, by which a successor is known. Raises OSError."""
        self._loop = process.loop
        self._log = process.log.named("workers")
        self._process = process
        self._health = health
        self._l7 = l7
        self._config = config
        self._count = config.worker_count
        self._generation = self._prepared = 1
        self._next: _Next | None = None
        self._accepting = False
        self._slots_used: set[int] = set()
        self._told: set[Member] = set()  # who has all that it needs to accept
        self._begun = asyncio.Event()  # the first worker has said whether it can have the configuration
        self._refused = ""
        self._preparing = Roll(())
        self._drained = Roll(())
        self._meeting = rendezvous_name(path)
        self._rendezvous = Rendezvous(self._loop, self._log)
        self._taking_over = False
        self._healthy = asyncio.Event()
        self._all_serve = asyncio.Event()
        self._ports = Ports(self._count)
        self._access_log_lock = LineLock.create()
        self._shared = Shared.create(self._count)
        self._merged = Merged(process.metrics)
        self._gathering = Gathering()
        self._broadcast = self._make_broadcast(l7) if l7 is not None else None
        self._fleet = Fleet(self._loop, self._log, self._count, self, L7_MODULES if l7 is not None else ())
        health.serves = lambda: self._fleet.serving > 0
        health.moved = self._health_moved
        process.metrics.workers_serving.source = lambda: self._fleet.serving

    def _make_broadcast(self, l7: L7Control) -> Broadcast:
        """The one place from which what workers need for L7 is loaded here."""
        from router.workers.broadcast import Broadcast
        from router.workers.routes import RouteFeed

        feed = RouteFeed(self._shared.cells, self._shared.buckets)
        broadcast = Broadcast(l7.live, feed, self._loop.time)
        l7.published = broadcast.published
        l7.health_checks.judged = broadcast.judged
        l7.in_flight = lambda pulse: self._shared.in_flight(feed.known_number(pulse))
        l7.seam.tap.changed = lambda: self._tell_sought(self._fleet)
        return broadcast

    # ---- Plane

    @property
    def ports(self) -> list[int]:
        return self._ports.numbers

    async def start(self, inherited: MutableMapping[int, socket.socket]) -> None:
        self._rendezvous.claim(self._meeting)
        wanted = places(self._settings(self._config))
        self._ports.adopt(wanted, await self._bind(wanted, inherited))
        self._fleet.start()
        if self._broadcast is not None:
            self._process.spawn(self._broadcast.run())
        await self._all_prepared()

    async def _all_prepared(self) -> None:
        """What one cannot have, is an error of the start. Raises OSError."""
        try:
            async with asyncio.timeout(PREPARE_SECONDS):
                await self._begun.wait()
        except TimeoutError:
            raise OSError(f"no worker was ready to serve within {PREPARE_SECONDS:g} s") from None
        if self._refused:
            raise OSError(self._refused)

    async def _bind(self, wanted: Collection[Place], inherited: MutableMapping[int, socket.socket]) -> Bound:
        try:
            return self._ports.prepare(wanted, inherited)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not await self._rendezvous.found(ORPHAN_SECONDS):
                raise
        self._taking_over = True
        return self._ports.prepare(wanted, inherited, over=True)

    def open(self) -> None:
        self._process.spawn(self._take_over())
        if not self._taking_over:
            self._accept()

    def _accept(self) -> None:
        self._accepting = True
        for member in self._told:
            self._let_accept(member)

    def _let_accept(self, member: Member) -> None:
        self._ports.listen(member.slot or 0)
        member.say(Open())

    async def _take_over(self) -> None:
        """Workers without a supervisor serve on until these know the routes, and serve."""
        if self._taking_over:
            await self._healthy.wait()
            self._accept()
        await self._all_serve.wait()
        self._rendezvous.dismiss()

    async def prepare(self, config: Config, *, ports: bool) -> None:
        self._prepared += 1
        generation = self._prepared
        wanted = places(self._settings(config))
        bound = self._ports.prepare(wanted, {}) if ports else None
        members = list(self._fleet)
        roll = self._preparing = Roll(members, generation)
        for member in members:
            member.busy = True
            self._send(member, generation, config, bound)
        await roll.complete(PREPARE_SECONDS)
        for member in members:
            member.busy = False
            if member.number in roll.owing:
                self._fleet.kill(member, f"it did not prepare a configuration within {PREPARE_SECONDS:g} s")
        why = next(filter(None, roll.said.values()), "")
        if why:
            for member in members:
                member.say(Discard(generation))
            discard(bound or {})
            raise OSError(why)
        self._next = _Next(generation, config, wanted, bound)

    def adopt(self) -> None:
        following, self._next = self._next, None
        if following is None:
            return
        self._generation, self._config = following.generation, following.config
        for member in self._fleet:
            if self._preparing.said.get(member.number) is None:  # it began meanwhile, with what was in force
                self._send(member, following.generation, following.config, following.bound)
            member.say(Adopt(following.generation))
        if following.bound is not None:
            self._ports.adopt(following.wanted, following.bound)
            for member in self._told if self._accepting else ():
                self._ports.listen(member.slot or 0)

    async def drain(self, seconds: float) -> bool:
        self._ports.close()
        self._fleet.retire()
        members = list(self._fleet)
        roll = self._drained = Roll(members)
        for member in members:
            member.say(Drain(seconds))
        await roll.complete(seconds + DRAIN_GRACE)
        return not roll.owing and not any(roll.said.values())

    async def stop(self) -> None:
        self._rendezvous.close()
        self._ports.close()
        for member in self._fleet:
            member.say(End())
        await self._fleet.end()

    def close(self) -> None:
        self._shared.close()
        self._access_log_lock.close()

    async def render(self) -> bytes:
        """A scrape: what happened before it is in it, also where one serves whose word that it does is still on its way."""
        told = {member.number: member for member in self._told}
        await self._gathering.ask(told, lambda worker, number: told[worker].say(Ask(number)), ASK_SECONDS)
        return self._merged.render()

    # ---- Captain

    def launch(self, member: Member) -> None:
        slot = member.slot or 0
        if slot in self._slots_used:
            self._process.metrics.workers_replaced.inc()
        self._slots_used.add(slot)
        member.say(Begin(member.number, slot, self._meeting), self._common())
        self._send(member, self._generation, self._config, {place: [sock] for place, sock in self._ports.of(slot).items()})
        member.say(Adopt(self._generation))
        member.say(HealthIs(self._health.state))
        self._tell_sought((member,))
        self._process.spawn(self._tell_routes(member))

    async def _tell_routes(self, member: Member) -> None:
        if self._broadcast is not None:
            await self._broadcast.follow(member)
        if member not in self._fleet:  # it has died meanwhile
            return
        self._told.add(member)
        if self._accepting:
            self._let_accept(member)

    def hear(self, member: Member, message: Up) -> bool:
        match message:
            case Told(entries):
                self._merged.take(member.number, entries)
            case Answered(number):
                self._gathering.answered(member.number, number)
            case Prepared(generation, why):
                return self._hear_prepared(member, generation, why)
            case Drained(whole):
                self._drained.answer(member, "" if whole else "its deadline passed")
            case Serving():
                if self._accepting:
                    self._ports.listen(member.slot or 0)  # a look may have come between
                if self._fleet.serving == self._count:
                    self._all_serve.set()
            case Prune(key, address, instance_id):
                self._prune(key, address, instance_id)
            case Apps(apps):
                return self._l7 is not None and self._l7.seam.active is not None and active_apps.hear(self._l7.seam.active, apps)
            case Tapped(event):
                return self._l7 is not None and tap_pipe.hear(self._l7.seam.tap, event)
            case _:
                pass
        return True

    def gone(self, member: Member) -> None:
        self._shared.clear(member.slot or 0)
        self._told.discard(member)
        self._preparing.gone(member)
        self._drained.gone(member)
        self._gathering.gone(member.number)
        self._merged.forget(member.number)
        if self._broadcast is not None:
            self._broadcast.leave(member)

    def unserved(self, slot: int) -> None:
        """Who connects must not wait for nobody, while others would serve him."""
        if self._accepting:
            self._ports.rest(slot)

    def _hear_prepared(self, member: Member, generation: int, why: str) -> bool:
        """False: nobody asked, or it has said so before."""
        if generation not in member.asked:
            return False
        member.asked.remove(generation)
        if why:
            self._log.error("worker-cannot-serve", worker=member.number, generation=generation, reason=why)
        if generation == self._preparing.number:
            self._preparing.answer(member, why)
        if not self._begun.is_set():
            self._refused = why
            self._begun.set()
        return True

    def _prune(self, key: str, address: str, instance_id: str) -> None:
        """Only an endpoint that is there, and speaks TLS, goes."""
        if self._l7 is None:
            return
        host, slash, path = key.partition("/")
        route = self._l7.live.table.lookup(host, f"{slash}{path}" or "/")
        for endpoint in route.pool.endpoints if route is not None and route.key == key else ():
            if (endpoint.address, endpoint.instance_id) == (address, instance_id):
                self._l7.seam.prune(key, endpoint)
                return

    # ---- parts

    def _settings(self, config: Config) -> L4Settings:
        l7 = config.l7.model_copy(update={"enabled": self._l7 is not None})  # a change of it needs a restart
        return compile_l4(config.model_copy(update={"l7": l7}))

    def _common(self) -> list[int]:
        """What all processes of this router share."""
        stdout = self._process.lock
        assert stdout is not None
        return [stdout.descriptor, self._access_log_lock.descriptor, *self._shared.descriptors()]

    def _send(self, member: Member, generation: int, config: Config, bound: Bound | None) -> None:
        """A configuration, with the sockets that it needs; what it had it keeps."""
        slot = member.slot or 0
        socks = [(place, each[slot % len(each)]) for place, each in (bound or {}).items()]
        for start in range(0, len(socks), MAX_DESCRIPTORS):
            part = socks[start : start + MAX_DESCRIPTORS]
            member.say(Sockets(tuple(place for place, _ in part)), [sock.fileno() for _, sock in part])
        member.asked.add(generation)
        member.say(Prepare(generation, for_worker(config), bound is not None))

    def _tell_sought(self, members: Iterable[Member]) -> None:
        """What the tap's streams look for."""
        if self._l7 is not None:
            asked = tap_pipe.asked(self._l7.seam.tap)
            for member in members:
                member.say(Seek(asked))

    def _health_moved(self) -> None:
        if self._health.state is HealthState.HEALTHY:
            self._healthy.set()
        for member in self._fleet:
            member.say(HealthIs(self._health.state))
