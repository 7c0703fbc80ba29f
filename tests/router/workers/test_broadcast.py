"""router/workers/broadcast.py: the routes on their way to the workers."""

import asyncio

import pytest

from registry.table import RouteTable
from router.config.compile import compile_config
from router.live import Live
from router.net.deadline import Wheel
from router.workers.broadcast import Broadcast
from router.workers.messages import Names
from router.workers.routes import RouteFeed
from tests.router.desk import settings
from tests.router.inspect.shop import said, table_of
from tests.router.workers.crew import Listening


class Studio:
    """A table, and who is told of it."""

    def __init__(self, *hosts: str) -> None:
        loop = asyncio.get_running_loop()
        snapshot = compile_config(settings(), 1, loop, Wheel(loop))
        self.live = Live(snapshot, table_of(*map(said, hosts)))
        self.now = 0.0
        self.broadcast = Broadcast(self.live, RouteFeed(), lambda: self.now)

    def publish(self, table: RouteTable) -> None:
        self.live.table = table
        self.broadcast.published()

    def add(self, host: str) -> None:
        (route,) = table_of(said(host))
        self.publish(self.live.table.changed({(route.host, route.path): route}))


async def test_who_begins_has_the_whole_table_and_then_every_change() -> None:
    """In the order in which they were published."""
    studio, one = Studio("a.example", "b.example"), Listening(1)
    await studio.broadcast.follow(one)
    assert {route.key for route in one.table()} == {"a.example", "b.example"}
    studio.add("c.example")
    assert one.table().lookup("c.example", "/") is not None


async def test_a_table_that_is_published_while_another_is_told_is_not_missed() -> None:
    """Who begins hears the difference at the end."""
    studio, one = Studio("a.example"), Listening(1)
    following = asyncio.get_running_loop().create_task(studio.broadcast.follow(one))
    await asyncio.sleep(0)
    studio.add("b.example")
    await following
    assert {route.key for route in one.table()} == {"a.example", "b.example"}
    studio.add("c.example")
    assert len(one.table()) == 3


async def test_who_is_gone_is_told_nothing() -> None:
    """Nor begins one that died on the way."""
    studio, one, other = Studio("a.example"), Listening(1), Listening(2)
    await studio.broadcast.follow(one)
    following = asyncio.get_running_loop().create_task(studio.broadcast.follow(other))
    await asyncio.sleep(0)
    studio.broadcast.leave(one)
    studio.broadcast.leave(other)
    await following
    one.table()
    other.table()
    studio.add("b.example")
    assert one.ear.heard == other.ear.heard == []


async def test_endpoints_that_fall_silent_or_ill_are_told() -> None:
    """A worker has no registrations to see it by."""
    studio, one = Studio("a.example"), Listening(1)
    await studio.broadcast.follow(one)
    (route,) = studio.live.table
    route.pool.endpoints[0].pulse.checked(passed=False, needed=1)
    studio.broadcast.judged("another.example")
    studio.broadcast.judged("a.example")
    found = one.table().lookup("a.example", "/")
    assert found is not None
    assert found.pool.endpoints[0].pulse.unhealthy


async def test_names_of_registrations_are_told() -> None:
    """Whole to who begins, and then what is new."""
    studio, one = Studio("a.example"), Listening(1)
    heard = studio.live.snapshot.names.heard
    assert heard is not None
    heard.put("guid-1", "one")
    await studio.broadcast.follow(one)
    assert [("guid-1", "one")] in [message.named for message in one.ear.heard if isinstance(message, Names)]
    studio.broadcast._look()
    one.ear.heard.clear()
    heard.put("guid-2", "two")
    studio.broadcast._look()
    assert [message.named for message in one.ear.heard if isinstance(message, Names)] == [[("guid-2", "two")]]


@pytest.mark.parametrize("routes", [0, 3000])
async def test_every_endpoint_is_looked_at_in_turn(routes: int) -> None:
    """However many there are."""
    studio, one = Studio(*(f"h{number}.example" for number in range(routes or 1))), Listening(1)
    await studio.broadcast.follow(one)
    for route in studio.live.table:
        route.pool.endpoints[0].pulse.checked(passed=False, needed=1)
    for _ in range(8):
        studio.broadcast._look()
    assert all(route.pool.endpoints[0].pulse.unhealthy for route in one.table())
