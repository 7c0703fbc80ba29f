"""router/backend/http2_pool.py: who shares a connection, who waits, and what is kept, with real backends on both event loops."""

import asyncio
from ipaddress import ip_network
from typing import Any

import pytest
from h2.errors import ErrorCodes

from authz.deny import NO_DENY, DenyLists
from registry.endpoint import Endpoint
from router.backend.dial import Dialer
from router.backend.http1 import Http1Upstream
from router.backend.http2_pool import Http2Pool
from router.backend.http2_round_trip import Http2RoundTrip
from router.backend.pool import IdlePool
from router.faults import Fault
from router.limits import Limits
from router.wire.http1 import HeadLimits
from tests.router.backend.parts import endpoint
from tests.router.backend.test_dial import BACKENDS, dialer
from tests.router.net.pairs import soon
from tests.support.backend import EchoBackend
from tests.support.failing import Mute
from tests.support.http2_backend import Http2Backend
from tests.support.waiting import until


def pool_of(total: int = 10, each: int = 10, seconds: float = 90.0) -> Http2Pool:
    return Http2Pool(IdlePool(total, each, seconds), Limits().http2_backends(), asyncio.get_running_loop())


def to(backend: EchoBackend, **fields: Any) -> Endpoint:
    return endpoint(backend.port, **{"tls": backend.tls, "san": "app" if backend.tls else "", "protocol": "http2", **fields})


async def join(pool: Http2Pool, endpoint: Endpoint, by: Dialer | None = None) -> Http2RoundTrip:
    trip = pool.take(endpoint, NO_DENY) or await pool.join(endpoint, by or dialer(), soon())
    assert trip is not None
    return trip


async def ask(trip: Http2RoundTrip) -> int:
    trip.start(b"GET", b"/", [(b"Host", b"a.example")], 0, b"")
    head = await trip.read_head(soon(), b"GET", HeadLimits(4096, 20))
    trip.close()
    return head.status


async def test_requests_at_the_same_time_wait_for_one_dial_and_share_its_connection() -> None:
    """Attack 81: a burst is one connection; afterwards it is there at once."""
    with Http2Backend() as backend:
        pool = pool_of()
        trips = await asyncio.gather(*[join(pool, to(backend)) for _ in range(50)])
        assert [trip.reused for trip in trips] == [False] * 50
        assert await asyncio.gather(*map(ask, trips)) == [200] * 50
        assert pool.resting == 1
        assert (await join(pool, to(backend))).reused
        pool.close()
    assert backend.connections == 1


async def test_no_more_streams_than_the_backend_allows() -> None:
    """Others get a connection of their own; what is free is taken first."""
    with Http2Backend(streams=2) as backend:
        pool = pool_of()
        trips = await asyncio.gather(*[join(pool, to(backend)) for _ in range(5)])
        assert await asyncio.gather(*map(ask, trips)) == [200] * 5
        assert max(link.most for link in backend.links) <= 2
        assert 3 <= backend.connections <= 5
        pool.close()


async def test_at_the_most_connections_a_request_waits_for_a_stream() -> None:
    """By its own deadline; the next that is free is its."""
    with Http2Backend(streams=1) as backend:
        pool = pool_of(each=1)
        first = await join(pool, to(backend))
        with pytest.raises(Fault) as raised:
            await pool.join(to(backend), dialer(), asyncio.get_running_loop().time() + 0.05)
        assert raised.value.kind == "endpoint_timeout"
        waiting = asyncio.get_running_loop().create_task(join(pool, to(backend)))
        await asyncio.sleep(0)
        assert await ask(first) == 200
        assert await ask(await waiting) == 200
        assert backend.connections == 1
        pool.close()


async def test_whoever_stops_waiting_gives_back_what_it_got() -> None:
    """Cancelled in the same turn in which its stream came."""
    with Http2Backend(streams=1) as backend:
        pool = pool_of(each=1)
        first = await join(pool, to(backend))
        waiting = asyncio.get_running_loop().create_task(join(pool, to(backend)))
        await asyncio.sleep(0)
        first.close()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await ask(await join(pool, to(backend))) == 200
        pool.close()


async def test_a_dial_that_fails_is_each_waiters_own_fault() -> None:
    """Nobody waits on; the next request dials again."""
    pool = pool_of()
    with Mute() as mute:
        closed = endpoint(mute.port, protocol="http2")
    found = await asyncio.gather(*[join(pool, closed) for _ in range(3)], return_exceptions=True)
    assert [fault.kind for fault in found if isinstance(fault, Fault)] == ["dial_failed"] * 3
    assert len({id(fault) for fault in found}) == 3


@pytest.mark.parametrize("tls", [False, True])
async def test_a_backend_of_http1_is_spoken_to_in_it(tls: bool) -> None:
    """None for all who waited, and for a minute; over TLS the connection it chose is kept."""
    with EchoBackend(credential=BACKENDS.issue_server("app") if tls else None) as backend:
        pool = pool_of()
        found = await asyncio.gather(*[pool.join(to(backend), dialer(), soon()) for _ in range(3)])
        assert found == [None] * 3
        assert pool.speaks_only_http1(to(backend))
        assert not pool.speaks_only_http1(to(backend, san="other"))
        assert pool.idle.size == int(tls)
        pool.idle.close()


async def test_a_backend_that_asks_for_http1_is_spoken_to_in_it() -> None:
    """HTTP_1_1_REQUIRED: the next request goes so, and this one may."""
    with Http2Backend() as backend:
        backend.each(lambda stream: stream.reset(ErrorCodes.HTTP_1_1_REQUIRED))
        pool = pool_of()
        with pytest.raises(Fault) as raised:
            await ask(await join(pool, to(backend)))
        assert raised.value.kind == "stream_refused"
        assert pool.speaks_only_http1(to(backend))


@pytest.mark.parametrize("other", [{"san": "b"}, {"tls": True, "san": "app"}, {"host": "localhost"}])
async def test_a_connection_is_never_shared_with_another_endpoint_or_name(other: dict[str, Any]) -> None:
    """Attack 5: verified for one name is not verified for another."""
    with Http2Backend() as backend:
        pool = pool_of()
        await ask(await join(pool, to(backend)))
        assert pool.take(to(backend, **other), NO_DENY) is None
        assert pool.take(to(backend, app="of a later registration"), NO_DENY) is not None
        pool.close()


async def test_an_idle_connection_ends_in_its_time() -> None:
    """And not while a stream is on it."""
    with Http2Backend() as backend:
        pool = pool_of(seconds=0.3)
        trip = await join(pool, to(backend))
        await ask(await join(pool, to(backend)))
        assert pool.resting == 0
        trip.close()
        assert pool.resting == 1
        await until(lambda: backend.links[0].gone, "the connection to end")
        assert backend.links[0].goaway == ErrorCodes.NO_ERROR
        assert pool.resting == 0
        assert pool.take(to(backend), NO_DENY) is None


@pytest.mark.parametrize(("total", "each", "kept"), [(1, 5, 1), (0, 5, 0), (5, 0, 0)])
async def test_idle_connections_have_the_bounds_of_all_others(total: int, each: int, kept: int) -> None:
    """Attack 81: in all; 0 for one endpoint: a connection for each request."""
    with Http2Backend() as one, Http2Backend() as other:
        pool = pool_of(total, each)
        trips = [await join(pool, to(backend)) for backend in (one, other)]
        assert [await ask(trip) for trip in trips] == [200, 200]
        assert pool.resting == kept
        pool.close()


async def test_one_request_a_connection_where_none_is_kept() -> None:
    """`disable_keep_alives`."""
    with Http2Backend() as backend:
        pool = pool_of(0, 0)
        for _ in range(3):
            assert await ask(await join(pool, to(backend))) == 200
        assert backend.connections == 3


async def test_a_connection_that_said_goaway_takes_no_new_streams() -> None:
    """The next request has another one."""
    with Http2Backend() as backend:
        pool = pool_of()
        trip = await join(pool, to(backend))
        backend.links[0].send_raw(b"\x00\x00\x08\x07" + bytes(5) + (2**31 - 1).to_bytes(4) + bytes(4))
        await until(lambda: not trip._connection.accepts, "the goodbye to arrive")
        assert await ask(await join(pool, to(backend))) == 200
        assert await ask_late(trip) == "ConnectionResetError"
        trip.close()
        await until(lambda: backend.links[0].gone, "the first connection to end")
        assert backend.connections == 2
        pool.close()


async def ask_late(trip: Http2RoundTrip) -> str:
    try:
        trip.start(b"GET", b"/", [], 0, b"")
    except OSError as error:
        return type(error).__name__
    return ""


async def test_what_is_unwanted_takes_no_new_streams() -> None:
    """A deny list, or a reload: what is under way goes on."""

    def unwanted(upstream: Http1Upstream) -> bool:
        return upstream.endpoint.san == "bad"

    with Http2Backend() as backend:
        pool = pool_of()
        good, bad = to(backend), to(backend, san="bad")
        busy = await join(pool, bad)
        await ask(await join(pool, good))
        pool.sweep(unwanted)
        assert pool.take(good, NO_DENY) is not None
        assert pool.take(bad, NO_DENY) is None
        assert await ask(busy) == 200
        await until(lambda: any(link.gone for link in backend.links), "the unwanted one to end")
        pool.close()


async def test_a_connection_to_an_address_that_is_denied_now_is_not_given_out() -> None:
    """R238: asked again wherever the lists are others."""
    with Http2Backend() as backend:
        pool = pool_of()
        await ask(await join(pool, to(backend)))
        assert pool.take(to(backend), DenyLists(networks=(ip_network("127.0.0.0/8"),))) is None
        assert pool.resting == 0


async def test_a_backend_that_allows_no_streams_is_a_refusal() -> None:
    """Attack 55: not a dial after the other."""
    with Http2Backend(streams=0) as backend:
        pool = pool_of()
        with pytest.raises(Fault) as raised:
            await join(pool, to(backend))
        assert raised.value.kind == "stream_refused"
        assert backend.connections == 1


async def test_what_is_known_of_endpoints_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 81: those without a connection are forgotten."""
    monkeypatch.setattr("router.backend.http2_pool.PLACES", 5)
    pool = pool_of()
    with Mute() as mute:
        port = mute.port
    for number in range(20):
        with pytest.raises(Fault):
            await join(pool, endpoint(port, san=f"n{number}", protocol="http2"))
    assert len(pool._places) <= 5
