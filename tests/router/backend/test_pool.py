"""router/backend/pool.py: idle backend connections over real TCP, on both event loops."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.endpoint import Endpoint
from router.backend.http1 import Http1Upstream, key_of
from router.backend.pool import IdlePool
from router.net.deadline import TICK, Wheel
from tests.router.backend.parts import endpoint, upstream
from tests.support.waiting import until


@contextmanager
def connections() -> Iterator[Callable[..., tuple[Http1Upstream, socket.socket]]]:
    """Makes upstreams and closes both ends of all of them."""
    made: list[tuple[Http1Upstream, socket.socket]] = []
    wheel = Wheel(asyncio.get_running_loop())

    def make(to: Endpoint | None = None) -> tuple[Http1Upstream, socket.socket]:
        made.append(upstream(to, wheel))
        return made[-1]

    yield make
    for one, peer in made:
        one.close()
        peer.close()
    wheel.close()


async def test_the_most_recently_used_connection_is_taken_first() -> None:
    """Newest first, marked as reused; then there is none."""
    pool = IdlePool(10, 10, 90.0)
    with connections() as make:
        old, new = make()[0], make()[0]
        pool.give(old)
        pool.give(new)
        assert pool.size == 2
        assert pool.take(endpoint()) is new
        assert pool.take(endpoint()) is old
        assert (old.reused, new.reused) == (True, True)
        assert pool.take(endpoint()) is None
        assert pool.size == 0


@pytest.mark.parametrize("other", [{"port": 8081}, {"host": "127.0.0.2"}, {"tls": True}, {"san": "b"}, {"tls": True, "san": "a"}])
async def test_a_connection_is_never_used_for_another_endpoint_or_name(other: dict[str, Any]) -> None:
    """Attack 5: verified for one name is not verified for another."""
    pool = IdlePool(10, 10, 90.0)
    same: dict[str, Any] = {"port": 8080, "san": "a"}
    with connections() as make:
        pool.give(make(endpoint(san="a"))[0])
        assert pool.take(endpoint(**same | other)) is None
        assert pool.take(endpoint(san="a", app="of a later registration")) is not None
        assert key_of(endpoint(san="a")) != key_of(endpoint(**same | other))


@pytest.mark.parametrize(("total", "each", "kept"), [(3, 10, 3), (10, 2, 2), (0, 10, 0), (10, 0, 0), (1, 1, 1)])
async def test_what_is_over_a_bound_is_closed(total: int, each: int, kept: int) -> None:
    """Attack 81: in all and for one endpoint; 0 keeps none."""
    pool = IdlePool(total, each, 90.0)
    with connections() as make:
        given_back = [make()[0] for _ in range(5)]
        for one in given_back:
            pool.give(one)
        assert pool.size == kept
        assert [one.stream.closed for one in given_back] == [False] * kept + [True] * (5 - kept)


async def test_a_connection_with_bytes_left_over_is_closed() -> None:
    """Attack 55: what a backend said beyond its response would be taken for the next one."""
    pool = IdlePool(10, 10, 90.0)
    with connections() as make:
        one, _ = make()
        one.buffer = b"HTTP/1.1 200 OK\r\n"
        pool.give(one)
        assert one.stream.closed
        assert pool.take(endpoint()) is None


@pytest.mark.parametrize(
    "act", [lambda peer: peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n"), lambda peer: peer.close()], ids=["speaks", "ends"]
)
async def test_an_idle_backend_that_speaks_or_ends_is_evicted(act: Callable[[socket.socket], object]) -> None:
    """Attack 55: out of turn it can only say goodbye, and the next request never sees it."""
    pool = IdlePool(10, 10, 90.0)
    with connections() as make:
        (one, peer), (other, _) = make(), make()
        pool.give(one)
        pool.give(other)
        act(peer)
        await until(lambda: pool.size == 1, "the eviction")
        assert one.stream.closed
        assert pool.take(endpoint()) is other


async def test_a_connection_that_spoke_before_it_was_given_back_is_evicted() -> None:
    """The watch begins with a look."""
    pool = IdlePool(10, 10, 90.0)
    with connections() as make:
        one, peer = make()
        peer.sendall(b"early")
        await asyncio.sleep(0.01)
        pool.give(one)
        await until(lambda: pool.size == 0, "the eviction")
        assert one.stream.closed


async def test_a_taken_connection_is_not_watched_any_more() -> None:
    """Its response is for the exchange to read; neither deadline nor bytes close it."""
    pool = IdlePool(10, 10, 0.01)
    with connections() as make:
        one, peer = make()
        pool.give(one)
        assert pool.take(endpoint()) is one
        peer.sendall(b"response")
        await asyncio.sleep(2 * TICK)
        assert not one.stream.closed
        assert await one.stream.recv(one.stream.loop.time() + 5) == b"response"
        pool.give(one)
        assert pool.take(endpoint()) is one


async def test_a_connection_idle_too_long_is_closed() -> None:
    """At the deadline and at most a tick later."""
    pool = IdlePool(10, 10, 0.01)
    with connections() as make:
        one, peer = make()
        pool.give(one)
        await until(lambda: pool.size == 0, "the idle deadline")
        assert one.stream.closed
        assert await asyncio.to_thread(peer.recv, 1) == b""


async def test_dropping_an_endpoint_closes_its_connections_alone() -> None:
    """One that had ended unseen is rarely alone."""
    pool = IdlePool(10, 10, 90.0)
    with connections() as make:
        mine = [make(endpoint(1))[0] for _ in range(3)]
        other, _ = make(endpoint(2))
        for one in (*mine, other):
            pool.give(one)
        pool.drop(endpoint(1))
        pool.drop(endpoint(3))
        assert all(one.stream.closed for one in mine)
        assert pool.size == 1
        pool.close()
        assert other.stream.closed
        assert pool.size == 0


async def test_evicting_twice_counts_once() -> None:
    """A deadline and a goodbye in one turn."""
    pool = IdlePool(10, 10, 90.0)
    with connections() as make:
        one, _ = make()
        pool.give(one)
        pool.evict(one)
        pool.evict(one)
        assert pool.size == 0


class Nothing:
    """Stands for a stream: only told to watch and to close."""

    def __init__(self) -> None:
        self.wheel = self
        self.loop = self
        self.closed = False

    def time(self) -> float:
        return 0.0

    def arm(self, *_: object) -> None: ...
    def forget(self, *_: object) -> None: ...
    def watch(self, *_: object) -> None: ...

    def close(self) -> None:
        self.closed = True


STEPS = st.lists(st.tuples(st.sampled_from(["give", "take", "evict", "drop"]), st.integers(1, 3)), max_size=40)


@given(st.integers(0, 4), st.integers(0, 3), STEPS)
def test_the_bounds_hold_and_nothing_is_lost(total: int, each: int, steps: list[tuple[str, int]]) -> None:
    """Whatever comes and goes: size is the number of open idle connections, within both bounds; the others are closed."""
    pool = IdlePool(total, each, 90.0)
    idle: dict[int, list[Http1Upstream]] = {1: [], 2: [], 3: []}
    for verb, port in steps:
        match verb:
            case "give":
                one = Http1Upstream(Nothing(), endpoint(port))  # type: ignore[arg-type]
                fits = sum(map(len, idle.values())) < total and len(idle[port]) < each
                pool.give(one)
                assert fits != one.stream.closed
                idle[port] += [one] if fits else []
            case "take":
                expected = idle[port].pop() if idle[port] else None
                assert pool.take(endpoint(port)) is expected
            case "evict" if idle[port]:
                one = idle[port].pop(0)
                pool.evict(one)
                assert one.stream.closed
            case "drop":
                pool.drop(endpoint(port))
                assert all(one.stream.closed for one in idle[port])
                idle[port] = []
        assert sum(map(len, idle.values())) == pool.size


async def test_what_is_unwanted_is_swept_out_and_the_rest_stays() -> None:
    """R238: a reload puts idle connections out at once."""
    pool = IdlePool(10, 10, 90.0)
    with connections() as make:
        kept, *gone = make(endpoint(8080))[0], make(endpoint(8081))[0], make(endpoint(8081))[0]
        for one in (kept, *gone):
            pool.give(one)
        pool.sweep(lambda upstream: upstream.endpoint.port == 8081)
        assert [one.stream.closed for one in (kept, *gone)] == [False, True, True]
        assert pool.size == 1
        assert pool.take(endpoint(8081)) is None
        assert pool.take(endpoint(8080)) is kept
