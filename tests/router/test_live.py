"""router/live.py: the snapshots in force."""

import asyncio
import dataclasses

import pytest

from router.live import Live, Snapshot
from tests.router.desk import EAST, desk, settings
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import authority
from tests.support.router import mtls_domain


async def test_a_snapshot_cannot_be_edited() -> None:
    """It is replaced by one assignment."""
    async with desk() as one:
        with pytest.raises(dataclasses.FrozenInstanceError):
            one.live.snapshot.generation = 2  # type: ignore[misc]


async def test_what_is_in_force_is_two_references() -> None:
    """Nothing else can be put there."""
    assert Live.__slots__ == ("snapshot", "table")
    async with desk() as one, desk() as other:
        first: Snapshot = one.live.snapshot
        one.live.snapshot = other.live.snapshot
        assert first.generation == 1
        one.live.snapshot = first


async def test_the_policy_of_today_and_the_xfcc_of_a_domain() -> None:
    """None stands for open hosts; a domain that is gone has no policy."""
    domains = [mtls_domain(f"*.{EAST}", authority("east instance identity"))]
    async with desk(mtls_domains=domains, forwarded_client_cert="always_forward") as one:
        snapshot = one.live.snapshot
        domain = snapshot.domains.claim(f"a.{EAST}")
        policy = snapshot.client_policy(f"*.{EAST}")
        assert policy is not None
        assert domain is not None
        assert policy.fingerprint == domain.client_policy
        assert snapshot.client_policy(None) == snapshot.contexts.default_policy
        assert snapshot.client_policy("*.gone.example") is None
        assert snapshot.xfcc_for(domain) == ("sanitize_set", "envoy")
        assert snapshot.xfcc_for(None) == ("always_forward", "raw")


async def test_an_exchange_in_progress_keeps_what_it_took(backend: EchoBackend) -> None:
    """A reload while the backend works: the answer is that of the old snapshot, the next exchange belongs to the new one."""
    async with desk() as one:
        one.register("app.open.example", backend)

        async def reload() -> None:
            one.adopt(settings())

        def reload_first(exchange: Exchange) -> None:
            asyncio.run_coroutine_threadsafe(reload(), one.loop).result(5)
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        backend.script(reload_first)
        assert (await one.get("app.open.example")).status == 200
        assert (await one.get("app.open.example")).status == 200
        assert [record.generation for record in one.records.records] == [1, 2]


async def test_routes_and_idle_connections_are_sifted_by_the_lists(backend: EchoBackend) -> None:
    """R238: nothing is asked where they are empty; else owners, addresses, and who was really reached."""
    async with desk() as one:
        one.register("app.open.example", backend, app="app-9", host="localhost")
        route = one.live.table.lookup("app.open.example", "/")
        assert route is not None
        assert one.live.snapshot.admitted(route) is route
        upstream = await one.live.snapshot.dialer.dial(route.pool.endpoints[0])
        assert not one.live.snapshot.bars(upstream)
        for lists, left, kept in (
            ({"apps": ["app-9"]}, 0, False),
            ({"backend_networks": ["127.0.0.0/8", "::1"]}, 1, False),
            ({"apps": ["app-8"], "backend_networks": ["10.0.0.1"]}, 1, True),
        ):
            one.adopt(settings(deny=lists))
            assert len(one.live.snapshot.admitted(route).pool.endpoints) == left
            assert one.live.snapshot.bars(upstream) is not kept
        upstream.close()
