"""router/l7/tunnel.py: an upgraded connection under the policy of the day, in this process, on both event loops."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from authz.decision import Allow
from authz.policy import NO_POLICY
from registry.table import RouteTable
from router.l7 import tunnel
from tests.router.desk import EAST, Desk, desk, in_thread, settings
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import Client, Tls
from tests.support.router import mtls_domain
from tests.support.waiting import until
from tests.support.websocket import echo, frame, open_websocket

HOST = "app.open.example"
CALLED = f"app.{EAST}"
EAST_CA = authority("east instance identity")
SPACE = {"route_policy_scope": "space", "route_policy_sources": "cf:any"}
Change = Callable[[Desk, EchoBackend], object]


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "CHECK_SECONDS", 0.01)


@pytest.fixture
def clients() -> Iterator[list[Client]]:
    made: list[Client] = []
    yield made
    for client in made:
        client.close()


async def websocket(one: Desk, clients: list[Client], host: str) -> Client:
    """An upgraded connection; to CALLED as app-1 of space-1."""
    tls = Tls(sni=host, credential=EAST_CA.issue_instance("app-1", "space-1", "org-1")) if host == CALLED else None
    client = cast("Client", await in_thread(one.client, tls))
    clients.append(client)
    await in_thread(open_websocket, client, host)
    await until(lambda: bool(one.router.relays), "the relay")
    return client


def judged(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What each judgement from now on came to."""
    found: list[object] = []
    judge = tunnel.judge_today

    def judge_and_note(*arguments: Any) -> object:
        found.append(judge(*arguments))
        return found[-1]

    monkeypatch.setattr(tunnel, "judge_today", judge_and_note)
    return found


async def test_what_did_not_change_is_judged_once(
    backend: EchoBackend, clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards a check is two comparisons, until there is another snapshot or table."""
    found = judged(monkeypatch)
    async with desk() as one:
        one.register(HOST, backend)
        backend.always(echo)
        await websocket(one, clients, HOST)
        await until(lambda: len(found) == 1, "the first judgement")
        ticks = one.loop.time() + 0.8
        await until(lambda: one.loop.time() > ticks, "some ticks of the wheel")
        assert len(found) == 1
        one.register("other.open.example", backend)
        await until(lambda: len(found) == 2, "the judgement by the new table")
        one.adopt(settings())
        await until(lambda: len(found) == 3, "the judgement by the new snapshot")
        assert one.router.relays


@pytest.mark.parametrize(
    ("change", "label"),
    [
        (lambda one, backend: one.register(CALLED, backend, options={"mtls_allowed_apps": "app-2"}), "route_not_listed"),
        (lambda one, backend: one.register(CALLED, backend), "route_no_options"),
        (lambda one, backend: one.adopt(settings(mtls_domains=[])), "policy_changed"),
        (lambda one, backend: one.adopt(settings(deny={"hosts": [CALLED]})), "deny_hosts"),
        (lambda one, backend: one.adopt(settings(deny={"orgs": ["org-1"]})), "deny_orgs"),
        (lambda one, backend: one.register(CALLED, backend, options=SPACE, tags={"space_id": "space-2"}), "domain_scope"),
        (lambda one, backend: one.adopt(settings(deny={"apps": ["target"]})), "deny_apps"),
    ],
    ids=["list", "no options", "domain gone", "host", "org", "scope", "backend's app"],
)
async def test_a_denial_of_today_cuts(backend: EchoBackend, clients: list[Client], change: Change, label: str) -> None:
    """Attack 26: logged with its trail, counted by its reason, and in the record."""
    async with desk() as one:
        one.register(CALLED, backend, app="target", options={"mtls_allowed_apps": "app-1"})
        backend.always(echo)
        client = await websocket(one, clients, CALLED)
        change(one, backend)
        assert await in_thread(client.closed_by_server)
        await one.idle()
        (record,) = one.records.records
        assert (record.status, bool(record.mtls_denied_reason)) == (101, True)
        assert record.router_error in ("mtls_authorization_denied", "mtls_domain_mismatch")
        assert one.counted("websocket_terminated") == {f'reason="{label}"': 1}
        (line,) = one.log.of("upgrade-cut")
        assert cast("Any", line["trail"])[-1]["passed"] is False


@pytest.mark.parametrize(
    "change",
    [
        lambda one, backend: one.register(CALLED, backend, app="target", options={"mtls_allow_any": True}),
        lambda one, backend: one.register(CALLED, backend, app="target", options=SPACE, tags={"space_id": "space-1"}),
        lambda one, backend: one.adopt(settings(deny={"apps": ["app-2"], "backend_networks": ["10.0.0.0/8"]})),
        lambda one, backend: one.adopt(
            settings(
                mtls_domains=[
                    mtls_domain(
                        f"*.{EAST}", EAST_CA,
                        authorization={"mode": "cf_identity", "report_only": True, "config": {"orgs": ["org-2"]}},
                    )
                ]
            )
        ),
    ],
    ids=["wider list", "own scope", "lists of others", "report only"],
)  # fmt: skip
async def test_a_change_that_denies_nothing_cuts_nobody(
    backend: EchoBackend, clients: list[Client], monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    """Judged by it, and left alone."""
    async with desk() as one:
        one.register(CALLED, backend, app="target", options={"mtls_allowed_apps": "app-1"})
        backend.always(echo)
        client = await websocket(one, clients, CALLED)
        found = judged(monkeypatch)
        change(one, backend)
        await until(lambda: bool(found), "the judgement")
        await in_thread(client.send, frame(b"hello", masked=True))
        assert await in_thread(client.recv) == frame(b"hello")


@pytest.mark.parametrize("host", [HOST, CALLED])
@pytest.mark.parametrize("known", [True, False])
async def test_a_route_without_endpoints_denies_nobody(
    backend: EchoBackend, clients: list[Client], monkeypatch: pytest.MonkeyPatch, host: str, known: bool
) -> None:
    """They may be shutting down, whether the route stays known (`empty_pool_timeout`) or not."""
    found = judged(monkeypatch)
    async with desk() as one:
        one.register(host, backend, options={"mtls_allow_any": True})
        backend.always(echo)
        await websocket(one, clients, host)
        route = one.live.table.lookup(host, "/")
        assert route is not None
        await until(lambda: bool(found), "the first judgement")
        found.clear()
        emptied = replace(route, pool=replace(route.pool, endpoints=(), policy=NO_POLICY))
        one.live.table = cast("RouteTable", SimpleNamespace(lookup=lambda *_: emptied)) if known else RouteTable()
        await until(lambda: bool(found), "the judgement")
        assert isinstance(found[-1], Allow)
        assert one.router.relays


async def test_a_boundary_holds_where_nobody_is_registered_any_more(backend: EchoBackend, clients: list[Client]) -> None:
    """Attack 26: an app that leaves its route does not take its callers out of the operator's reach."""
    async with desk() as one:
        one.register(CALLED, backend, options={"mtls_allowed_apps": "app-1"})
        backend.always(echo)
        client = await websocket(one, clients, CALLED)
        one.live.table = RouteTable()
        one.adopt(settings(mtls_domains=[mtls_domain(f"*.{EAST}", EAST_CA, orgs=["org-2"])]))
        assert await in_thread(client.closed_by_server)
        await one.idle()
        assert one.counted("websocket_terminated") == {'reason="domain_orgs"': 1}


async def test_a_connection_is_judged_by_the_route_that_let_it_in(
    backend: EchoBackend, clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a nearer one that takes its requests now; a change of its own still cuts."""
    found = judged(monkeypatch)
    async with desk() as one:
        one.register(f"*.{EAST}", backend, options={"mtls_allowed_apps": "app-1"})
        backend.always(echo)
        client = await websocket(one, clients, CALLED)
        await until(lambda: bool(found), "the first judgement")
        one.register(CALLED, backend, options={"mtls_allowed_apps": "app-2"})
        await until(lambda: len(found) > 1, "the judgement by the new table")
        await in_thread(client.send, frame(b"hello", masked=True))
        assert await in_thread(client.recv) == frame(b"hello")
        one.register(f"*.{EAST}", backend, options={"mtls_allowed_apps": "app-2"})
        assert await in_thread(client.closed_by_server)


async def test_a_relay_that_is_over_is_forgotten(backend: EchoBackend, clients: list[Client]) -> None:
    """By the router and by the wheel; the record has the bytes."""
    async with desk() as one:
        one.register(HOST, backend)
        backend.always(echo)
        client = await websocket(one, clients, HOST)
        await in_thread(client.send, frame(b"bye", masked=True))
        assert await in_thread(client.read_all) == frame(b"bye")
        client.close()
        await one.idle()
        assert one.router.relays == set()
        (record,) = one.records.records
        assert (record.bytes_in, record.bytes_out) == (len(frame(b"bye", masked=True)), len(frame(b"bye")))
        assert one.counted("websocket_terminated") == {}
