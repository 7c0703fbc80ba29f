"""Tests of router/workers/open_routes.py: few routes are open at a time, and none is closed that knows something."""

from collections.abc import Mapping

import pytest

from authz.policy import NO_POLICY
from registry.bucket import Bucket
from registry.endpoint import Pool, Pulse, Route
from registry.hostname import Host
from registry.table import HostRoutes
from router.workers.open_routes import SILENT, OpenRoutes, PackedPaths, PackedShard
from router.workers.packed_route import Makers, pack_route
from tests.registry.parts import endpoint


def packed(host: str, path: str = "", *, limited: bool = False) -> bytes:
    return pack_route(Route(host + path, Host(host), path, Pool((endpoint(),), NO_POLICY, bucket=Bucket() if limited else None)))


class Desk:
    """A shard of twenty hosts, of which two are open at a time, and two more that were before."""

    def __init__(self, *, limited: bool = False) -> None:
        self.now = 0.0
        self.open = OpenRoutes(Makers(), lambda: self.now, 2)
        self.packed = {f"h{number}": packed(f"h{number}", limited=limited) for number in range(20)}
        self.shard = PackedShard(self.packed, self.open)

    def route(self, host: str) -> Route:
        route = self.shard[host].root
        assert route is not None
        return route

    def pulse(self, host: str) -> Pulse:
        return self.route(host).pool.endpoints[0].pulse

    def ask_others(self) -> None:
        for number in range(10, 20):
            self.route(f"h{number}")


def test_what_is_asked_for_again_is_the_same_value() -> None:
    """Also where others were asked for meanwhile, but not too many."""
    desk = Desk()
    first = desk.route("h1")
    desk.route("h2")
    desk.route("h3")
    assert desk.route("h1") is first
    assert len(desk.open) == 3
    desk.route("h4")
    desk.route("h5")
    assert desk.route("h1") is first


def test_no_more_are_open_than_a_bounded_number() -> None:
    """A worker's memory does not grow with what was ever asked for."""
    desk = Desk()
    first = desk.route("h1")
    desk.ask_others()
    assert len(desk.open) <= 4
    assert desk.route("h1") is not first
    assert desk.route("h1") == first


@pytest.mark.parametrize("what", ["in flight", "failed"])
def test_an_endpoint_that_is_busy_or_marked_is_not_closed(what: str) -> None:
    """Its count and its mark would be lost; when it is neither any more, it is closed."""
    desk = Desk()
    pulse = desk.pulse("h1")
    if what == "failed":
        pulse.failed_until = 5.0
    else:
        pulse.in_flight = 1
    desk.ask_others()
    assert desk.pulse("h1") is pulse
    pulse.in_flight, desk.now = 0, 5.0
    desk.ask_others()
    assert desk.pulse("h1") is not pulse


def test_many_busy_ones_leave_room_for_others() -> None:
    """Closing is looked for once in so many openings, however many stay open."""
    desk = Desk()
    kept = {}
    for host in ("h1", "h2", "h3", "h4", "h5", "h6"):
        kept[host] = desk.pulse(host)
        kept[host].in_flight = 1
    desk.ask_others()
    assert {host: desk.pulse(host) for host in kept} == kept
    assert len(desk.open) <= 6 + 4


def test_a_rate_goes_on_over_a_route_that_was_closed() -> None:
    """Else asking for enough other routes would fill it again."""
    desk = Desk(limited=True)
    bucket = desk.route("h1").pool.bucket
    desk.ask_others()
    assert desk.route("h1").pool.bucket is bucket
    desk.ask_others()
    assert desk.open.keys() >= {"h1"}
    desk.open.drop("h1")
    assert desk.route("h1").pool.bucket is not bucket


def test_a_rate_that_all_workers_share_is_found_by_its_number() -> None:
    """Not by what a closed route had: it may have lost its rate and got another meanwhile."""
    made: dict[int, Bucket] = {}
    opened = OpenRoutes(Makers(bucket=lambda number: made.setdefault(number, Bucket())), lambda: 0.0, 1)

    def ask(host: str, number: int) -> Bucket | None:
        limited = Route(host, Host(host), "", Pool((endpoint(),), NO_POLICY, bucket=Bucket()))
        shard = PackedShard({host: pack_route(limited, lambda cell: number if isinstance(cell, Bucket) else 0)}, opened)
        root = shard[host].root
        return None if root is None else root.pool.bucket

    assert ask("h1", 3) is made[3]
    for other in range(10, 20):
        ask(f"h{other}", other)
    assert opened.keys() >= {"h1"}
    assert ask("h1", 4) is made[4]


def test_what_was_said_of_an_endpoint_holds_when_its_route_is_opened_again() -> None:
    """A silent endpoint stays silent, open or not, until another word comes."""
    desk = Desk()
    desk.open.flag("h1", {"10.0.0.1:8080": SILENT})
    assert desk.pulse("h1").expires < 0
    desk.ask_others()
    assert desk.pulse("h1").expires < 0
    desk.open.flag("h1", {})
    assert desk.pulse("h1").expires > 0


def test_a_shard_is_a_mapping() -> None:
    """What a table does with a shard works here: it can be copied, walked, and asked for what it has not."""
    desk = Desk()
    shard: Mapping[str, HostRoutes] = desk.shard
    assert {host: routes.root for host, routes in dict(shard).items()} == {host: desk.route(host) for host in desk.packed}
    assert (len(shard), shard.get("none"), "none" in shard, "h1" in shard) == (20, None, False, True)
    with pytest.raises(KeyError):
        shard["none"]


def test_paths_are_opened_one_by_one() -> None:
    """A host of thousands of paths costs what is asked for of it."""
    open_routes = OpenRoutes(Makers(), lambda: 0.0, 100)
    paths = {path: packed("a.b", path) for path in ("/x", "/x/y", "/z")}
    shard = PackedShard({"a.b": PackedPaths(packed("a.b"), paths, 2), "c.d": PackedPaths(None, paths, 2)}, open_routes)
    found = shard["a.b"].longest("/X/y/z")
    assert found is not None
    assert (found.key, len(open_routes)) == ("a.b/x/y", 2)
    assert shard["a.b"].longest("/X/y/z") is found
    assert shard["c.d"].longest("/q") is None
    assert {route.path for route in shard["c.d"].routes()} == {"/x", "/x/y", "/z"}
    assert len(shard["c.d"].paths) == 3
    assert shard["a.b"].paths["/z"] is shard["a.b"].longest("/z")
