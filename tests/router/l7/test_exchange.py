"""router/l7/exchange.py: the story of a request, in this process, on both event loops."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from registry.endpoint import Endpoint
from router.backend.http1 import Http1Upstream
from router.faults import Fault, Kind
from tests.router.desk import EAST, Desk, desk, in_thread, settings
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import Client, Response, Tls, render_request
from tests.support.failing import Mute

HOST = "app.open.example"
CALLED = f"app.{EAST}"
EAST_CA = authority("east instance identity")
Make = Callable[..., EchoBackend]


def as_app(app: str = "app-1", host: str = CALLED) -> Tls:
    return Tls(sni=host, credential=EAST_CA.issue_instance(app, "space-1", "org-1"))


async def test_a_retry_is_admitted_anew(make_backend: Make) -> None:
    """Every attempt asks again, under the policy of its moment: revoked in between, the second endpoint sees nothing."""
    first, second = make_backend("first"), make_backend("second")
    async with desk() as one:
        one.register(CALLED, first, options={"mtls_allowed_apps": "app-1"})
        first.stop()
        one.register(CALLED, second, options={"mtls_allowed_apps": "app-1"})
        one.router.prune = lambda key, endpoint: None
        revoke = one.log.sparse

        def revoke_on_failure(event: str, level: int = 2, /, **data: Any) -> None:
            revoke(event, level, **data)
            if event == "backend-endpoint-failed":
                one.register(CALLED, second, options={"mtls_allowed_apps": "another"})

        one.log.sparse = revoke_on_failure  # type: ignore[method-assign]
        statuses = [(await one.get(CALLED, tls=as_app())).status for _ in range(2)]
        assert 403 in statuses
        assert "backend-endpoint-failed" in one.log.names
        assert len(second.received) == statuses.count(200)


def during_the_first_dial(one: Desk, happens: Callable[[], None]) -> list[str]:
    """Something happens while the next endpoint is dialled; the addresses that were."""
    dialer, dialled = one.live.snapshot.dialer, list[str]()
    dial = dialer.dial

    async def dial_and(endpoint: Endpoint, by: float = math.inf, within: float | None = None) -> Http1Upstream:
        upstream = await dial(endpoint, by, within)
        dialled.append(endpoint.address)
        if len(dialled) == 1:
            happens()
        return upstream

    dialer.dial = dial_and  # type: ignore[method-assign]
    return dialled


async def test_an_endpoint_that_is_being_dialled_is_busy(backend: EchoBackend) -> None:
    """`connection-limit`: two requests at once do not both find the only place free while the connection is made."""
    async with desk() as one:
        one.register(HOST, backend, options={"connection-limit": 1})
        seen: list[Response] = []
        dialer = one.live.snapshot.dialer
        dial = dialer.dial

        async def dial_slowly(endpoint: Endpoint, by: float = math.inf, within: float | None = None) -> Http1Upstream:
            if not seen:
                seen.append(await one.get(HOST))
            return await dial(endpoint, by, within)

        dialer.dial = dial_slowly  # type: ignore[method-assign]
        assert (await one.get(HOST)).status == 200
        assert (seen[0].status, seen[0].get("x-cf-routererror")) == (503, "Connection Limit Reached")
        assert (await one.get(HOST)).status == 200


async def test_a_request_that_is_tried_again_takes_one_of_the_rate(make_backend: Make) -> None:
    """`rate-limit-rps` counts requests, not attempts."""
    async with desk() as one:
        for name in ("dead", "alive"):
            made = make_backend(name)
            one.register(HOST, made, options={"rate-limit-rps": 1})
            if name == "dead":
                made.stop()
        assert (await one.get(HOST)).status == 200
        answer = await one.get(HOST)
        assert (answer.status, answer.get("retry-after")) == (429, "1")
        assert one.counted("rate_limited_requests") == {"": 1.0}


async def test_a_permit_that_was_revoked_during_the_dial_is_none(backend: EchoBackend) -> None:
    """Attack 26: seconds may have gone by since the decision; no byte leaves under a policy of the past."""
    async with desk() as one:
        one.register(HOST, backend)
        nobody = {"route_policy_scope": "any", "route_policy_sources": "cf:any"}
        during_the_first_dial(one, lambda: one.register(HOST, backend, options=nobody))
        assert (await one.get(HOST)).status == 403
        assert [record.status for record in one.records.records] == [403]
    assert backend.received == []


@pytest.mark.parametrize(
    ("address", "lists", "dials"),
    [
        ("127.0.0.1", {"backend_networks": ["127.0.0.0/8"]}, 1),
        ("127.0.0.1", {"apps": ["app-9"]}, 1),
        ("127.0.0.1", {"hosts": [HOST]}, 1),
        ("localhost", {"backend_networks": ["127.0.0.0/8", "::1"]}, 1),
    ],
)
async def test_who_is_put_out_during_the_dial_is_out(
    backend: EchoBackend, address: str, lists: dict[str, list[str]], dials: int
) -> None:
    """R237, R238: the connection that was made meanwhile is not used, whatever name it was made by; no byte leaves."""
    async with desk() as one:
        one.register(HOST, backend, host=address, app="app-9")
        dialled = during_the_first_dial(one, lambda: one.adopt(settings(deny=lists)))
        answer = await one.get(HOST)
        assert (answer.status, answer.get("x-cf-routererror")) == (403, "access_denied")
        assert len(dialled) == dials
        assert one.live.snapshot.idle.size == 0
    assert backend.received == []


async def test_lists_that_do_not_concern_a_route_cost_no_dial(backend: EchoBackend) -> None:
    """R238: a reload during the dial that puts others out changes nothing for this one."""
    async with desk() as one:
        one.register(HOST, backend)
        others = {"orgs": ["org-9"], "backend_networks": ["10.0.0.0/8"]}
        dialled = during_the_first_dial(one, lambda: one.adopt(settings(deny=others)))
        assert (await one.get(HOST)).status == 200
        assert len(dialled) == 1
    assert backend.connections == 1


async def test_a_name_that_leads_to_a_denied_address_is_no_attempt(make_backend: Make) -> None:
    """R238: the first endpoint's name leads astray, and the second serves although one attempt is all there is."""
    bad, good = make_backend("bad"), make_backend("good", host="127.0.0.2")
    async with desk(deny={"backend_networks": ["127.0.0.1", "::1"]}, backends={"max_attempts": 1}) as one:
        one.register(HOST, bad, host="localhost")
        one.register(HOST, good, index=1)
        assert (await one.get(HOST)).status == 200
        assert [event["error"] for event in one.log.of("backend-endpoint-failed")] == ["dial_denied"]
    assert (bad.connections, len(good.received)) == (0, 1)


async def test_a_route_whose_only_name_leads_to_a_denied_address_is_denied(backend: EchoBackend) -> None:
    """R238: a 403 with the list's rule, not a failure of the backend, and counted as a decision."""
    async with desk(deny={"backend_networks": ["127.0.0.1", "::1"]}) as one:
        one.register(CALLED, backend, host="localhost", options={"mtls_allow_any": True})
        answer = await one.get(CALLED, tls=as_app())
        assert (answer.status, answer.get("x-cf-routererror"), answer.body) == (403, "mtls_authorization_denied", b"Forbidden")
        (record,) = one.records.records
        assert (record.mtls_auth, record.mtls_rule) == ("denied", "deny:backend_networks")
        counts = one.counted("mtls_decisions")
        assert counts[f'domain="*.{EAST}",result="deny",reason="deny_backend_networks"'] == 1
    assert backend.connections == 0


@pytest.mark.parametrize(("change", "dials"), [({}, 1), ({"max_idle_conns": 7}, 2)])
async def test_a_reload_during_the_dial_costs_at_most_another_dial(
    backend: EchoBackend, change: dict[str, Any], dials: int
) -> None:
    """The connection is used where today's settings would have made it too; else the endpoint is dialled by those of today."""
    async with desk() as one:
        one.register(HOST, backend)
        dialled = during_the_first_dial(one, lambda: one.adopt(settings(**change)))
        assert (await one.get(HOST)).status == 200
        assert len(dialled) == 1  # by the old settings
        assert backend.connections == dials
        assert len(backend.received) == 1


async def test_an_endpoint_that_was_replaced_during_the_dial_is_not_asked(make_backend: Make) -> None:
    """Its address may be another app's by now."""
    gone, here = make_backend("gone"), make_backend("here")
    async with desk() as one:
        one.register(HOST, gone)

        def replace() -> None:
            one.ledger.prune(one.loop.time() + 1000)
            one.register(HOST, here)

        during_the_first_dial(one, replace)
        assert (await one.get(HOST)).status == 200
    assert (len(gone.received), len(here.received)) == (0, 1)


async def test_the_next_endpoint_is_tried_and_a_failed_one_marked(make_backend: Make) -> None:
    """Attack 57: a dial that fails sent nothing; both attempts are in the record."""
    gone, good = make_backend("gone"), make_backend("good")
    async with desk() as one:
        for backend in (gone, good):
            one.register(HOST, backend)
        gone.stop()
        for _ in range(4):
            assert (await one.get(HOST, method="POST", body=b"once")).status == 200
        assert [request.body for request in good.received] == [b"once"] * 4
        assert sum(record.failed_attempts for record in one.records.records) == 1
        route = one.live.table.lookup(HOST, "/")
        assert route is not None
        marked = [endpoint.port for endpoint in route.pool.endpoints if endpoint.pulse.failed_until > one.loop.time()]
        assert marked == [gone.port]


async def test_attempts_are_bounded(make_backend: Make) -> None:
    """`backends.max_attempts`: then 502, with the reason of the last."""
    backends = [make_backend(str(number)) for number in range(4)]
    async with desk(backends={"max_attempts": 2}) as one:
        for backend in backends:
            one.register(HOST, backend)
            backend.stop()
        response = await one.get(HOST)
        assert (response.status, response.get("x-cf-routererror")) == (502, "endpoint_failure (dial failed)")
        assert one.records.records[-1].failed_attempts == 2


async def test_no_attempt_begins_after_the_time_for_retries(make_backend: Make) -> None:
    """`backends.retry_timeout`: the good endpoint is not asked any more, and the fault that came last is the answer."""
    backend = make_backend()
    timeouts = {"endpoint_dial_timeout": "60ms", "backends": {"retry_timeout": "50ms"}}
    with Mute(full=True) as mute:
        async with desk(**timeouts) as one:
            one.register(HOST, mute.port)
            one.register(HOST, backend)
            answers = [await one.get(HOST) for _ in range(2)]
            told = sorted((answer.status, answer.get("x-cf-routererror")) for answer in answers)
            assert told == [(200, None), (502, "endpoint_failure (dial timeout)")]
            (failed,) = one.log.of("backend-endpoint-failed")
    assert failed["attempt"] == 1


async def test_an_endpoint_that_registers_during_an_attempt_is_the_next(make_backend: Make) -> None:
    """Contract f.2: attempts end when every endpoint was tried, and those count that came meanwhile; none is tried twice."""
    gone, new = make_backend("gone"), make_backend("new")
    gone.stop()
    async with desk() as one:
        one.register(HOST, gone)
        say = one.log.sparse

        def register_on_failure(event: str, level: int = 2, /, **data: Any) -> None:
            say(event, level, **data)
            one.register(HOST, new)

        one.log.sparse = register_on_failure  # type: ignore[method-assign]
        assert (await one.get(HOST)).status == 200
        assert [record.failed_attempts for record in one.records.records] == [1]
    assert len(new.received) == 1


async def test_one_endpoint_is_tried_once_whatever_is_left_of_the_attempts(backend: EchoBackend) -> None:
    """Contract f.2: more attempts than endpoints, and the next one was tried already."""
    backend.stop()
    async with desk(backends={"max_attempts": 9}) as one:
        one.register(HOST, backend)
        assert (await one.get(HOST)).status == 502
        assert one.records.records[-1].failed_attempts == 1


@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["close", "reset"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("kind", ["dial_failed", "tls_name_mismatch"])
async def test_a_client_that_leaves_during_a_dial_is_held_against_nobody(
    make_backend: Make, leave: Callable[[Client], None], tls: bool, kind: Kind
) -> None:
    """Contract f.2, attack 56: no mark, no pruning and no other attempt once nobody waits for the answer; 499 in the record."""
    async with desk() as one:
        for each in (make_backend(), make_backend()):
            one.register(HOST, each, port=0, tls_port=each.port, server_cert_domain_san="app.internal")
        client = await in_thread(one.client, Tls(sni=HOST) if tls else None)
        dialled = list[str]()

        async def dial(endpoint: Endpoint, by: float = math.inf, within: float | None = None) -> Http1Upstream:
            dialled.append(endpoint.address)
            leave(client)
            while not one.seen[0].stream.hung_up():
                await asyncio.sleep(0)
            raise Fault(kind)

        one.live.snapshot.dialer.dial = dial  # type: ignore[method-assign]
        await in_thread(client.send, render_request(HOST))
        await one.idle()
        assert [record.status for record in one.records.records] == [499]
        route = one.live.table.lookup(HOST, "/")
        assert route is not None
        assert [endpoint.pulse.failed_until for endpoint in route.pool.endpoints] == [0.0, 0.0]
        assert (len(dialled), one.pruned) == (1, [])


async def test_a_backend_that_closed_idle_connections_costs_no_attempt(backend: EchoBackend) -> None:
    """The request is sent again on a new connection, and nobody notices."""
    async with desk(backends={"max_attempts": 1}) as one:
        one.register(HOST, backend)
        with one.client() as client:
            assert (await in_thread(client.request, HOST)).status == 200
            backend.script(lambda exchange: exchange.close())
            assert (await in_thread(client.request, HOST)).status == 200
        assert one.records.records[-1].failed_attempts <= 1


async def test_a_post_on_a_connection_that_dies_is_not_sent_again(backend: EchoBackend) -> None:
    """Attack 57: the backend may have done it."""
    async with desk() as one:
        one.register(HOST, backend)
        with one.client() as client:
            assert (await in_thread(client.request, HOST)).status == 200
            backend.script(lambda exchange: exchange.close())
            response = await in_thread(lambda: client.request(HOST, method="POST", body=b"x"))
        assert response.status == 502
        assert len(backend.received) == 2


APP = "11111111-1111-1111-1111-111111111111"


async def test_health_is_asked_by_the_agent_of_the_balancer() -> None:
    """`healthcheck_user_agent`: the router answers by itself, before anybody's policy."""
    async with desk(healthcheck_user_agent="HTTP-Monitor/1.1") as one:
        agent = [("User-Agent", "HTTP-Monitor/1.1")]
        assert (await one.get(CALLED, headers=agent)).status == 200
        one.health.degrade()
        assert (await one.get(CALLED, headers=agent)).status == 503


async def test_a_tls_endpoint_that_is_somebody_else_is_pruned(make_backend: Make) -> None:
    """Contract f.2: it leaves the table at once, under its route."""
    backend = make_backend(credential=authority("backends").issue_server("another.internal"))
    async with desk(ca_certs=[authority("backends").pem]) as one:
        one.register(HOST, backend, server_cert_domain_san="app.internal")
        assert (await one.get(HOST)).status == 503
        assert [(key, endpoint.port) for key, endpoint in one.pruned] == [(HOST, backend.port)]


async def test_a_grpc_caller_is_refused_in_its_own_words(backend: EchoBackend) -> None:
    """R120: trailers only, so that its library shows code and request id; the operator's page is for people."""
    async with desk(html_error_template_file="<h1>{{.Status}}</h1>") as one:
        one.register(CALLED, backend, options={"mtls_allowed_apps": "app-2"})
        asked = [("Content-Type", "application/grpc+proto"), ("TE", "trailers")]
        answer = await one.get(CALLED, "/a.B/C", tls=as_app(), method="POST", headers=asked, body=b"\0\0\0\0\0")
        assert (answer.status, answer.body, answer.get("content-type")) == (403, b"", "application/grpc")
        assert (answer.get("grpc-status"), answer.get("grpc-message")) == ("7", "mtls_authorization_denied: Forbidden")
        assert answer.get("x-cf-routererror") == "mtls_authorization_denied"
        assert answer.get("x-vcap-request-id")
        assert (await one.get(CALLED, "/a.B/C", tls=as_app())).body == b"<h1>403</h1>"
        assert one.records.records[0].router_error == "mtls_authorization_denied"
    assert backend.received == []
