"""router/workers/station.py: what a worker is made of once it knows its configuration."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from registry.endpoint import Endpoint
from router.config.compile_error import CompileError
from router.config.model import Config
from router.demo.process import free_port
from router.net.listener import bind
from router.observe.health import Health
from router.observe.line_lock import LineLock
from router.workers.messages import Apps, Prune, Told, Up
from router.workers.routes import FeedError, RouteFeed
from router.workers.shared import Shared
from router.workers.station import Locks, Station
from tests.router.desk import settings
from tests.router.inspect.shop import said, table_of
from tests.router.test_data_side import passing


class Post:
    """A station, and what it says."""

    def __init__(self, config: Config) -> None:
        self.said: list[Up] = []
        self.locks = Locks(LineLock.create(), LineLock.create())
        self.shared = Shared.create(1)
        self.config = config
        self.station = Station(self.config, 1, asyncio.get_running_loop(), 1, self.locks, self.shared, Health(), self.said.append)


@asynccontextmanager
async def post(config: Config | None = None) -> AsyncIterator[Post]:
    made = Post(settings() if config is None else config)
    try:
        yield made
    finally:
        await made.station.stop()
        made.station.close()
        for lock in made.locks:
            lock.close()
        made.shared.close()


async def test_a_table_is_in_force_as_a_whole() -> None:
    """What cannot be read leaves the one before."""
    async with post() as one:
        live = one.station._live
        assert live is not None
        for piece in RouteFeed().whole(table_of(said("a.example"))):
            one.station.follow(piece)
        assert live.table.lookup("a.example", "/") is not None
        with pytest.raises(FeedError):
            one.station.follow(b"nonsense")
        assert len(live.table) == 1


async def test_a_configuration_that_cannot_be_built_leaves_the_one_in_force() -> None:
    """Nothing was touched."""
    async with post() as one:
        live = one.station._live
        assert live is not None
        before = live.snapshot
        following = one.station.prepare(settings(max_request_headers=7), 2, None)
        assert live.snapshot is before
        broken = one.config.model_copy(update={"client_cert_validation": "request", "client_ca_certs": "none"})
        with pytest.raises(CompileError):
            one.station.prepare(broken, 3, None)
        one.station.adopt(following)
        assert (live.snapshot.generation, live.snapshot.limits.request_fields) == (2, 7)


async def test_what_it_counts_is_told_once() -> None:
    """The next time only what it grew by; that it lives is told in any case."""
    async with post() as one:
        one.station._process.metrics.bad_gateways.inc(3)
        one.station.tell()
        told = [entry for message in one.said if isinstance(message, Told) for entry in message.entries]
        assert ["bad_gateways", [], 3] in told
        one.station.tell()
        one.said.clear()
        one.station.tell()
        assert [type(message) for message in one.said] == [Told]


async def test_apps_that_had_requests_and_endpoints_that_are_not_who_they_said_are_told() -> None:
    """The supervisor knows NATS and the ledger."""
    async with post(settings(publish_active_apps_interval="1s")) as one:
        assert one.station._active is not None
        one.station._active.mark("app-1")
        one.station.tell()
        assert Apps(["app-1"]) in one.said
        one.station._prune("a.example", Endpoint("10.0.0.1", 80, instance_id="id-1"))
        assert one.said[-1] == Prune("a.example", "10.0.0.1:80", "id-1")


async def test_names_of_registrations_are_known_to_its_log() -> None:
    """As the supervisor heard them."""
    async with post() as one:
        one.station.learn([("5b3f1e7c-0000-4000-8000-000000000001", "checkout")])
        assert one.station._live is not None
        assert one.station._live.snapshot.names.get("5b3f1e7c-0000-4000-8000-000000000001") == "checkout"


async def test_without_l7_it_serves_l4_alone() -> None:
    """R61: routes are for others then."""
    async with post(passing(free_port(), 1)) as one:
        assert one.station._live is None
        for piece in RouteFeed().whole(table_of(said("a.example"))):
            one.station.follow(piece)
        one.station.adopt(one.station.prepare(one.config, 2, bind))
        one.station.open()
