"""router/l7/state.py: what an exchange leaves behind."""

import json

import pytest

from registry.hostname import Host
from router.observe.tap import TapFilter
from tests.router.desk import EAST, desk, in_thread
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import Tls

HOST = "app.open.example"
CALLED = f"app.{EAST}"


async def test_an_exchange_leaves_one_record_that_tells_of_both_sides(backend: EchoBackend) -> None:
    """What the client asked, what it got, who answered, how long it took."""
    async with desk() as one:
        one.register(HOST, backend, app="app-guid", index=3)
        response = await one.get(
            HOST, "/a?b=c", method="POST", body=b"hello", headers=[("User-Agent", "test"), ("Referer", "http://x/")]
        )
        await one.idle()
        (record,) = one.records.records
        assert (record.host, record.method, record.uri, record.proto) == (HOST.encode(), b"POST", b"/a?b=c", b"HTTP/1.1")
        assert (record.status, record.bytes_in, record.bytes_out) == (200, 5, len(response.body))
        assert (record.user_agent, record.referer) == (b"test", b"http://x/")
        assert (record.app_id, record.app_index, record.backend_addr) == ("app-guid", "3", backend.address)
        assert (record.generation, record.failed_attempts, record.router_error) == (1, 0, "")
        assert record.vcap_request_id.decode() == response.get("x-vcap-request-id")
        assert record.mtls_auth is None
        assert 0 <= record.response_time < 10


async def test_the_record_names_the_caller_and_what_was_decided(backend: EchoBackend) -> None:
    """Also where it was denied."""
    async with desk() as one:
        one.register(CALLED, backend, options={"mtls_allowed_apps": "app-1"})
        for app, status, auth in (("app-1", 200, "allowed"), ("app-2", 403, "denied")):
            credential = authority("east instance identity").issue_instance(app, "space-1", "org-1")
            assert (await one.get(CALLED, tls=Tls(sni=CALLED, credential=credential))).status == status
            record = one.records.records[-1]
            assert (record.caller_cf_app, record.caller_cf_space, record.caller_cf_org) == (app, "space-1", "org-1")
            assert (record.tls_sni, record.mtls_auth) == (CALLED, auth)
            assert bool(record.mtls_denied_reason) == (status == 403)


@pytest.mark.parametrize(
    ("host", "status", "error"), [("nobody.example", 404, "unknown_route"), (CALLED, 421, "mtls_domain_mismatch")]
)
async def test_a_refused_exchange_leaves_one_record_too(host: str, status: int, error: str) -> None:
    """With its code, and no endpoint."""
    async with desk() as one:
        response = await one.get(host)
        assert (response.status, response.get("x-cf-routererror")) == (status, error)
        await one.idle()
        (record,) = one.records.records
        assert (record.status, record.router_error, record.backend_addr) == (status, error, "")


async def test_who_taps_hears_the_exchange_with_the_trail_of_its_decision(backend: EchoBackend) -> None:
    """Allowed, denied and misdirected; nobody is told where nobody listens."""
    async with desk() as one:
        one.register(CALLED, backend, options={"mtls_allowed_apps": "app-1"})
        listener = one.router.tap.subscribe(TapFilter(Host(CALLED)))
        assert listener is not None
        await anext(listener)
        expected = {"app-1": (200, True, "route:mtls_allowed_apps"), "app-2": (403, False, "route:mtls_allowed_apps")}
        for app, told in expected.items():
            credential = authority("east instance identity").issue_instance(app, "space-1", "org-1")
            await one.get(CALLED, "/secret?token=x", tls=Tls(sni=CALLED, credential=credential))
            event = json.loads((await anext(listener)).partition(b"data: ")[2])
            last = event["trail"][-1]
            assert (event["status"], last["passed"], last["rule"]) == told
            assert (event["path"], event["caller"]["app"]) == ("/secret", app)
        await one.get(CALLED)
        event = json.loads((await anext(listener)).partition(b"data: ")[2])
        assert (event["status"], [check["layer"] for check in event["trail"]]) == (421, ["binding"])
        await one.get(HOST)
        listener.close()
        await one.get(CALLED)
        assert [piece async for piece in listener] == []


async def test_the_numbers_are_counted(backend: EchoBackend) -> None:
    """Responses by class, bytes, requests by component."""
    async with desk() as one:
        one.register(HOST, backend)
        with one.client() as client:
            for _ in range(2):
                await in_thread(lambda: client.request(HOST, method="POST", body=b"12345"))
        await one.idle()
        assert sum(one.counted("total_requests").values()) == 2
        assert one.metrics.bytes_in.value == 10
        assert one.metrics.bytes_out.value == sum(record.bytes_out for record in one.records.records) > 0
