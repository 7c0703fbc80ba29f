"""router/health_checks.py: who is asked when, and what follows from it, in this process with real backends."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from registry.endpoint import Endpoint, Pulse
from router import health_checks
from router.backend.http1 import Http1Upstream
from router.health_checks import GAP, SLOTS, HealthChecks
from router.observe.log import Logger
from tests.router.desk import Desk, desk, settings
from tests.support.backend import EchoBackend
from tests.support.waiting import until

HOST = "app.open.example"
OTHER = "other.open.example"
BAD = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
ON: dict[str, Any] = {"path": "/healthz", "interval": "50ms", "timeout": "1s", "unhealthy_threshold": 2, "healthy_threshold": 2}
Make = Callable[..., EchoBackend]


@contextlib.asynccontextmanager
async def checking(one: Desk) -> AsyncIterator[HealthChecks]:
    checks = HealthChecks(one.live, one.loop, one.metrics, cast("Logger", one.log))
    task = one.loop.create_task(checks.run())
    try:
        yield checks
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def pulse(one: Desk, host: str = HOST, number: int = 0) -> Pulse:
    route = one.live.table.lookup(host, "/")
    assert route is not None
    return route.pool.endpoints[number].pulse


def adopt(one: Desk, checks: HealthChecks, **config: Any) -> None:
    one.adopt(settings(**config))
    checks.settings_changed()


async def test_an_endpoint_goes_and_comes_back_and_the_log_says_so_once(backend: EchoBackend) -> None:
    """R39, R41: out after failures in a row, in after passes in a row; no registration is touched."""
    async with desk(backend_health_check=ON) as one:
        one.register(HOST, backend)
        backend.always(BAD)
        expires = pulse(one).expires
        async with checking(one) as checks:
            await until(lambda: pulse(one).unhealthy, "the endpoint to be out")
            seen = len(backend.received)
            await until(lambda: len(backend.received) > seen + 2, "more checks of it")
            assert checks.unhealthy == 1
            backend.always(None)
            await until(lambda: not pulse(one).unhealthy, "the endpoint to be back")
            assert (checks.unhealthy, pulse(one).expires) == (0, expires)
        (out,), (back,) = one.log.of("backend-unhealthy"), one.log.of("backend-healthy")
        assert (out["address"], out["route"], out["result"], out["detail"]) == (
            f"127.0.0.1:{backend.port}",
            HOST,
            "bad_status",
            "500",
        )
        assert back["address"] == out["address"]
        counts = one.counted("backend_health_checks")
        assert counts['result="bad_status"'] >= 2
        assert counts['result="passed"'] >= 2


async def test_an_app_with_many_routes_is_asked_once_a_round(make_backend: Make) -> None:
    """One check an endpoint, and all its routes follow it; one line in the log."""
    backend = make_backend()
    backend.always(BAD)
    async with desk(backend_health_check={**ON, "unhealthy_threshold": 1}) as one:
        for path in ("", "/a", "/b"):
            one.register(HOST + path, backend, app="app-1", private_instance_id="instance-1")
        async with checking(one) as checks:
            await until(lambda: pulse(one).unhealthy, "the endpoint to be out")
            for path in ("/a", "/b"):
                route = one.live.table.lookup(HOST, path)
                assert route is not None
                assert route.pool.endpoints[0].pulse.unhealthy
            assert checks.unhealthy == 3
        (out,) = one.log.of("backend-unhealthy")
        assert out["routes"] == 3


async def test_who_is_gone_is_not_asked_and_not_brought_back(make_backend: Make) -> None:
    """R42: the control plane has the last word: what it removed is not asked, and no pass puts it into the table."""
    backend, other = make_backend(), make_backend()
    async with desk(backend_health_check=ON) as one:
        one.register(HOST, backend)
        async with checking(one):
            await until(lambda: len(backend.received) > 1, "checks")
            one.ledger.prune(one.loop.time() + 1000)
            one.live.table = one.ledger.publish()
            before = len(backend.received)
            one.register(OTHER, other)
            await until(lambda: len(other.received) > 3, "three more rounds")
            assert len(backend.received) <= before + 1
        assert one.live.table.lookup(HOST, "/") is None


async def test_a_successor_at_the_address_begins_as_healthy(backend: EchoBackend) -> None:
    """R41: registration is readiness; a mark belongs to the instance that earned it."""
    async with desk(backend_health_check={**ON, "hosts": [OTHER]}) as one:
        one.register(HOST, backend, private_instance_id="old")
        assert pulse(one).checked(passed=False, needed=1)
        one.register(HOST, backend, private_instance_id="new")
        assert not pulse(one).unhealthy


async def test_only_chosen_hosts_are_asked_and_denied_ones_never(make_backend: Make) -> None:
    """R40, R237: others see nothing, whether the list comes from `hosts` or from `deny`."""
    asked, other, denied = make_backend(), make_backend(), make_backend()
    section = {**ON, "hosts": [HOST, "denied.open.example"]}
    async with desk(backend_health_check=section, deny={"apps": ["app-9"]}) as one:
        one.register(HOST, asked)
        one.register(OTHER, other)
        one.register("denied.open.example", denied, app="app-9")
        async with checking(one):
            await until(lambda: len(asked.received) > 2, "checks of the chosen one")
    assert (other.connections, denied.connections) == (0, 0)


@pytest.mark.parametrize("section", [{}, {**ON, "hosts": [OTHER]}], ids=["off", "another host"])
async def test_a_reload_that_ends_the_checks_lets_everybody_back_in(backend: EchoBackend, section: dict[str, Any]) -> None:
    """At once: nobody would look after the mark any more."""
    backend.always(BAD)
    async with desk(backend_health_check=ON) as one:
        one.register(HOST, backend)
        async with checking(one) as checks:
            await until(lambda: pulse(one).unhealthy, "the endpoint to be out")
            adopt(one, checks, backend_health_check=section)
            await until(lambda: not pulse(one).unhealthy, "the endpoint to be back")
            assert checks.unhealthy == 0


async def test_a_reload_that_goes_on_with_the_checks_keeps_the_marks(backend: EchoBackend) -> None:
    """Only a check that passes lifts them; a check that was under way with the old settings counts no more."""
    backend.always(BAD)
    async with desk(backend_health_check=ON) as one:
        one.register(HOST, backend)
        async with checking(one) as checks:
            await until(lambda: pulse(one).unhealthy, "the endpoint to be out")
            adopt(one, checks, backend_health_check={**ON, "path": "/other"})
            await until(lambda: b"GET /other " in backend.received[-1].head, "the new check")
            assert pulse(one).unhealthy


async def test_off_costs_nothing(backend: EchoBackend) -> None:
    """Not a walk over the table, not a check; a reload turns it on."""
    async with desk() as one:
        one.register(HOST, backend)
        table = one.live.table
        one.live.table = cast("Any", None)  # nobody looks at it
        async with checking(one) as checks:
            checks.settings_changed()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            one.live.table = table
            assert backend.connections == 0
            adopt(one, checks, backend_health_check=ON)
            await until(lambda: backend.received, "a check")


async def test_checks_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many endpoints are silent: SLOTS at a time; and they are dialled with the deadline of a check."""
    monkeypatch.setattr(health_checks, "GAP", 0.0)
    section = {**ON, "interval": "50ms", "timeout": "10m"}
    async with desk(backend_health_check=section) as one:
        for number in range(SLOTS + 20):
            one.register(f"h{number}.open.example", 1000 + number)
        deadlines: list[float] = []

        async def dial(endpoint: Endpoint, by: float = 0.0, within: float | None = None) -> Http1Upstream:
            deadlines.append(by - one.loop.time())
            await asyncio.Event().wait()
            raise AssertionError

        one.live.snapshot.dialer.dial = dial  # type: ignore[method-assign]
        async with checking(one):
            await until(lambda: len(deadlines) == SLOTS, "all slots to be taken")
            for _ in range(50):
                await asyncio.sleep(0)
        assert len(deadlines) == SLOTS
        assert all(590 < seconds < 600.001 for seconds in deadlines)  # 600, less what a busy machine lost; rounding included


async def test_a_round_takes_its_interval(make_backend: Make) -> None:
    """Spread out, never all at once; GAP bounds the rate where the interval is too short for the endpoints."""
    backends = [make_backend() for _ in range(4)]
    async with desk(backend_health_check={**ON, "interval": "200ms"}) as one:
        for number, backend in enumerate(backends):
            one.register(f"h{number}.open.example", backend)
        started: list[float] = []
        dial = one.live.snapshot.dialer.dial

        async def noted(endpoint: Endpoint, by: float = 0.0, within: float | None = None) -> Http1Upstream:
            started.append(one.loop.time())
            return await dial(endpoint, by, within)

        one.live.snapshot.dialer.dial = noted  # type: ignore[method-assign]
        async with checking(one):
            await until(lambda: len(started) >= 5, "a round and one more")
        assert started[4] - started[0] >= 0.2 * 0.9
        assert min(after - before for before, after in itertools.pairwise(started)) >= max(GAP, 0.05 * 0.9 - 0.02)
