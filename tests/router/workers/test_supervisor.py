"""router/workers/supervisor.py: what workers are told and heard; real ones are in tests/behaviour/test_workers*.py."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from registry.endpoint import Endpoint
from router.config.model import Config
from router.demo.process import free_port
from router.l7_control import L7Control
from router.observe.health import Health
from router.observe.line_lock import LineLock
from router.process import Process
from router.workers.fleet import Fleet, Member
from router.workers.messages import (
    Adopt,
    Answered,
    Apps,
    Ask,
    Begin,
    Discard,
    Drain,
    Drained,
    HealthIs,
    Open,
    Prepare,
    Prepared,
    Prune,
    Routes,
    Seek,
    Serving,
    Sockets,
    Told,
)  # fmt: skip
from router.workers.shared import Shared
from router.workers.supervisor import Supervisor
from tests.router.desk import settings
from tests.router.inspect.shop import said, table_of
from tests.router.workers.crew import Listening
from tests.support.waiting import until


class Crew:
    """In the place of the fleet: members without processes."""

    def __init__(self, count: int) -> None:
        self.members = [Listening(number) for number in range(count)]
        self.killed: list[str] = []
        self.serving = 0
        self.retired = False

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members)

    def start(self) -> None:
        pass

    def kill(self, member: Member, why: str) -> None:
        self.killed.append(why)

    def retire(self) -> None:
        self.retired = True

    async def end(self) -> None:
        self.members.clear()


class Office:
    """A supervisor over a crew of two."""

    def __init__(self, folder: Path) -> None:
        loop = asyncio.get_running_loop()
        self.config = settings(port=free_port(), ssl_port=free_port(), workers=2)
        self.process = Process(self.config, loop, LineLock.create())
        self.health = Health()
        self.l7 = L7Control(self.config, self.process)
        self.supervisor = Supervisor(folder / "router.yml", self.config, self.process, self.health, self.l7)
        self.crew = Crew(2)
        self.supervisor._fleet = cast("Fleet", self.crew)

    @property
    def one(self) -> Listening:
        return self.crew.members[0]

    def told(self, number: int) -> list[type]:
        return [type(message) for message in self.crew.members[number].ear.heard]

    def forget(self) -> None:
        for member in self.crew.members:
            member.ear.heard.clear()

    async def start(self) -> None:
        starting = self.process.loop.create_task(self.supervisor.start({}))
        await asyncio.sleep(0.01)
        for member in self.crew.members:
            self.supervisor.launch(member)
            self.supervisor.hear(member, Prepared(1, ""))
        await starting
        await until(lambda: len(self.supervisor._told) == 2, "the routes to be told")

    async def prepare(self, config: Config, *answers: str) -> None:
        preparing = self.process.loop.create_task(self.supervisor.prepare(config, ports=True))
        await asyncio.sleep(0.01)
        generation = self.supervisor._preparing.number
        for member, why in zip(self.crew.members, answers, strict=False):
            self.supervisor.hear(member, Prepared(generation, why))
        await preparing


@asynccontextmanager
async def office(folder: Path) -> AsyncIterator[Office]:
    made = Office(folder)
    try:
        yield made
    finally:
        await made.supervisor.stop()
        await made.process.end_tasks()
        for work in made.l7.work():
            work.close()
        made.supervisor.close()
        made.process.close()


async def test_who_begins_is_told_everything_before_it_may_accept(tmp_path: Path) -> None:
    """In this order, for a worker does what it is told as it is told."""
    async with office(tmp_path) as one:
        await one.start()
        one.supervisor.open()
        wanted = [Begin, Sockets, Prepare, Adopt, HealthIs, Seek, Routes, Open]
        assert wanted == one.told(0) == one.told(1)


async def test_ports_listen_for_whoever_serves(tmp_path: Path) -> None:
    """From the start for one; for the others when they are told to accept, and then on the ports of a reload too."""

    def listening(one: Office, slot: int) -> set[int]:
        socks = one.supervisor._ports.of(slot).values()
        return {sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for sock in socks}

    async with office(tmp_path) as one:
        await one.start()
        assert (listening(one, 0), listening(one, 1)) == ({1}, {0})
        one.supervisor.open()
        assert (listening(one, 0), listening(one, 1)) == ({1}, {1})
        await one.prepare(one.config.model_copy(update={"port": free_port()}), "", "")
        one.supervisor.adopt()
        assert (listening(one, 0), listening(one, 1)) == ({1}, {1})


async def test_a_scrape_asks_everybody_who_may_serve_already(tmp_path: Path) -> None:
    """Whoever has been told to accept may have served before the supervisor hears that it does."""
    async with office(tmp_path) as one:
        await one.start()
        one.supervisor.open()
        one.forget()
        scrape = one.process.loop.create_task(one.supervisor.render())
        await asyncio.sleep(0.01)
        assert [Ask] == one.told(0) == one.told(1)
        for member in one.crew.members:
            (asked,) = member.ear.heard
            assert isinstance(asked, Ask)
            one.supervisor.hear(member, Answered(asked.number))
        assert b"workers_serving" in await scrape


async def test_workers_are_told_no_secret_of_the_supervisors(tmp_path: Path) -> None:
    """A worker faces clients."""
    async with office(tmp_path) as one:
        await one.start()
        (prepare,) = [message for message in one.one.ear.heard if isinstance(message, Prepare)]
        assert prepare.config.nats == settings(nats={}).nats
        assert prepare.config.tls_pem == one.config.tls_pem


async def test_what_one_worker_cannot_have_none_gets(tmp_path: Path) -> None:
    """The reason is the reload's; new ports are closed."""
    async with office(tmp_path) as one:
        await one.start()
        one.forget()
        new = one.config.model_copy(update={"port": free_port()})
        with pytest.raises(OSError, match="no such thing"):
            await one.prepare(new, "", "no such thing")
        assert [Sockets, Prepare, Discard] == one.told(0) == one.told(1)
        assert new.port not in one.supervisor.ports


async def test_what_all_can_have_is_adopted_by_all(tmp_path: Path) -> None:
    """Ports that are wanted no more are closed here too."""
    async with office(tmp_path) as one:
        await one.start()
        one.forget()
        new = one.config.model_copy(update={"port": free_port()})
        await one.prepare(new, "", "")
        one.supervisor.adopt()
        assert [Sockets, Prepare, Adopt] == one.told(0) == one.told(1)
        assert one.supervisor.ports == sorted((new.port, new.ssl_port))


async def test_one_that_began_meanwhile_is_told_what_it_missed(tmp_path: Path) -> None:
    """It prepared and adopted what was in force then."""
    async with office(tmp_path) as one:
        await one.start()
        await one.prepare(one.config, "", "")
        late = Listening(7)
        late.slot = 1
        one.crew.members.append(late)
        one.supervisor.adopt()
        assert [type(message) for message in late.ear.heard] == [Prepare, Adopt]
        assert [message.generation for message in late.ear.heard if isinstance(message, Prepare | Adopt)] == [2, 2]


async def test_one_that_dies_on_the_way_holds_up_nobody(tmp_path: Path) -> None:
    """Its replacement begins with what is in force by then."""
    async with office(tmp_path) as one:
        await one.start()
        preparing = one.process.loop.create_task(one.supervisor.prepare(one.config, ports=True))
        await asyncio.sleep(0.01)
        dead = one.crew.members.pop()
        one.supervisor.gone(dead)
        one.supervisor.hear(one.one, Prepared(one.supervisor._preparing.number, ""))
        await preparing


async def test_what_a_dead_worker_held_is_free_before_it_has_a_successor(tmp_path: Path) -> None:
    """R123: where workers die as soon as they begin, the next one may be long in coming."""
    async with office(tmp_path) as one:
        (descriptor,) = one.supervisor._shared.descriptors()
        for member in one.crew.members:
            counting = Shared.attach([os.dup(descriptor)], member.slot or 0)
            counting.gauge("total").enter(0)
            counting.close()
        assert one.supervisor._shared.gauge("total").open == 2
        one.supervisor.gone(one.one)
        assert one.supervisor._shared.gauge("total").open == 1


async def test_the_first_worker_that_cannot_serve_is_an_error_of_the_start(tmp_path: Path) -> None:
    """As it is where one process does all."""
    async with office(tmp_path) as one:
        starting = one.process.loop.create_task(one.supervisor.start({}))
        await asyncio.sleep(0.01)
        one.supervisor.launch(one.one)
        one.supervisor.hear(one.one, Prepared(1, "no log"))
        with pytest.raises(OSError, match="no log"):
            await starting


async def test_a_drain_is_whole_where_every_workers_is(tmp_path: Path) -> None:
    """Nobody is replaced meanwhile."""
    async with office(tmp_path) as one:
        await one.start()
        for answers in ([True, True], [True, False]):
            draining = one.process.loop.create_task(one.supervisor.drain(5.0))
            await asyncio.sleep(0)
            for member, whole in zip(one.crew.members, answers, strict=True):
                one.supervisor.hear(member, Drained(whole))
            assert await draining is all(answers)
        assert one.crew.retired
        assert Drain in one.told(0)
        assert one.supervisor.ports == []


async def test_only_an_endpoint_that_is_there_is_pruned(tmp_path: Path) -> None:
    """By its route, address and instance; what a worker makes up is nothing."""
    async with office(tmp_path) as one:
        taken: list[tuple[str, str]] = []

        def prune(key: str, endpoint: Endpoint) -> None:
            taken.append((key, endpoint.address))

        one.l7._prune = prune  # type: ignore[method-assign]
        one.l7.live.table = table = table_of(said("a.example/path"))
        (endpoint,) = next(iter(table)).pool.endpoints
        for key, address, instance in (
            ("a.example", endpoint.address, endpoint.instance_id),
            ("a.example/path", "10.9.9.9:1", endpoint.instance_id),
            ("a.example/path", endpoint.address, "another"),
            ("", "", ""),
        ):
            one.supervisor.hear(one.one, Prune(key, address, instance))
        assert taken == []
        one.supervisor.hear(one.one, Prune("a.example/path", endpoint.address, endpoint.instance_id))
        assert taken == [("a.example/path", endpoint.address)]


@pytest.mark.parametrize(("message", "believed"), [(Told([]), True), (Serving(), True), (Apps(["app"]), False)])
async def test_what_a_worker_would_not_say_is_not_believed(tmp_path: Path, message: Any, *, believed: bool) -> None:
    """Apps are told only where they are wanted."""
    async with office(tmp_path) as one:
        assert one.supervisor.hear(one.one, message) is believed


async def test_nobody_says_unasked_what_it_can_have(tmp_path: Path) -> None:
    """Nor twice: each time would be a line in the log."""
    async with office(tmp_path) as one:
        await one.start()
        for generation in (1, 2, -1):
            assert one.supervisor.hear(one.one, Prepared(generation, "why")) is False


async def test_one_that_dies_while_it_is_told_the_routes_is_forgotten(tmp_path: Path) -> None:
    """Nothing of it is kept."""
    async with office(tmp_path) as one:
        await one.start()
        late = Listening(7)
        late.slot = 1
        one.crew.members.append(late)
        one.supervisor.launch(late)
        one.crew.members.remove(late)
        one.supervisor.gone(late)
        await until(lambda: late.ear.held, "the routes to be told")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert late not in one.supervisor._told


async def test_the_router_is_healthy_only_while_a_worker_serves(tmp_path: Path) -> None:
    """And every worker knows its state."""
    async with office(tmp_path) as one:
        one.health.started()
        assert not one.health.good
        assert one.told(0) == one.told(1) == [HealthIs]
        one.crew.serving = 1
        assert one.health.good
