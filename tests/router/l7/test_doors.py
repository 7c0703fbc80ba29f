"""router/l7/doors.py: what stands between a request and its route, in this process, on both event loops."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.router.desk import EAST, desk, in_thread, settings
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import Client, Tls
from tests.support.router import mtls_domain

HOST = "app.open.example"
CALLED = f"app.{EAST}"
EAST_CA = authority("east instance identity")
APP = "11111111-1111-1111-1111-111111111111"
Make = Callable[..., EchoBackend]


def as_app(app: str = "app-1", host: str = CALLED) -> Tls:
    return Tls(sni=host, credential=EAST_CA.issue_instance(app, "space-1", "org-1"))


async def test_the_first_door_is_asked_before_any_route_is_looked_up(backend: EchoBackend) -> None:
    """Decision 3: 421 for a registered and an unregistered host alike, so that nobody learns which routes exist."""
    async with desk() as one:
        one.register(CALLED, backend, options={"mtls_allow_any": True})
        known, unknown = await one.get(CALLED), await one.get(f"nobody.{EAST}")
        assert (known.status, unknown.status) == (421, 421)
        assert known.get("x-cf-routererror") == unknown.get("x-cf-routererror") == "mtls_domain_mismatch"
        assert backend.received == []


async def test_a_decision_is_remembered_only_as_long_as_policy_and_configuration_stand(backend: EchoBackend) -> None:
    """Decision 6: on one connection, each request is judged by the snapshots of its moment."""
    async with desk() as one:
        one.register(CALLED, backend, options={"mtls_allowed_apps": "app-1"})
        with await in_thread(Client, one.port(tls=True), as_app()) as client:
            assert (await in_thread(client.request, CALLED)).status == 200
            assert (await in_thread(client.request, CALLED)).status == 200
            assert len(one.seen[0].decisions) == 1
            one.register(CALLED, backend, options={"mtls_allowed_apps": "app-2"})
            assert (await in_thread(client.request, CALLED)).status == 403
            one.register(CALLED, backend, options={"mtls_allowed_apps": "app-1"})
            assert (await in_thread(client.request, CALLED)).status == 200
            one.adopt(settings(mtls_domains=[mtls_domain(f"*.{EAST}", EAST_CA, orgs=["another"])]))
            assert (await in_thread(client.request, CALLED)).status == 403
        assert len(backend.received) == 3


async def test_what_the_lists_say_of_a_host_is_remembered_for_the_connection(backend: EchoBackend) -> None:
    """Free where they are empty; one look a request where they are not; forgotten with the configuration."""
    async with desk() as one:
        one.register(HOST, backend)
        with await in_thread(Client, one.port()) as client:
            assert (await in_thread(client.request, HOST)).status == 200
            assert one.seen[0].listed == {}
            one.adopt(settings(deny={"hosts": [HOST]}))
            assert (await in_thread(client.request, HOST)).status == 403
            assert {host: check.rule for host, check in one.seen[0].listed.items() if check} == {HOST: "deny:hosts"}
            one.adopt(settings())
            assert (await in_thread(client.request, HOST)).status == 200
            assert one.seen[0].listed == {}


@pytest.mark.parametrize(
    ("registration", "request_fields", "status", "error"),
    [
        ({"index": 0}, [("X-Cf-App-Instance", "nonsense")], 400, "invalid_cf_app_instance_header"),
        ({"app": APP}, [("X-Cf-App-Instance", f"{APP}:7")], 400, "unknown_route"),
        ({}, [("X-Cf-Process-Instance", "nonsense")], 400, "invalid_cf_process_instance_header"),
        ({"route_service_url": "https://service.example"}, [], 502, None),
    ],
    ids=["app instance", "unknown instance", "process instance", "route service"],
)  # fmt: skip
async def test_what_is_refused_before_a_choice(
    backend: EchoBackend, registration: dict[str, Any], request_fields: list[tuple[str, str]], status: int, error: str | None
) -> None:
    """The backend sees nothing of it."""
    async with desk() as one:
        one.register(HOST, backend, **registration)
        response = await one.get(HOST, headers=request_fields)
        assert response.status == status, response
        assert error is None or response.get("x-cf-routererror") == error
        assert backend.received == []


async def test_another_spelling_of_a_narrower_route_is_ambiguous(make_backend: Make) -> None:
    """Decision 10: 400 where the raw path and its normal form select different routes; elsewhere it goes on byte for byte."""
    wide, narrow = make_backend("wide"), make_backend("narrow")
    async with desk() as one:
        one.register(HOST, wide)
        one.register(f"{HOST}/admin", narrow)
        assert (await one.get(HOST, "/%61dmin/x")).status == 400
        assert (await one.get(HOST, "/x/../admin")).status == 400
        assert wide.received == narrow.received == []
        assert (await one.get(HOST, "/%62")).status == 200
        assert wide.last.request_line == "GET /%62 HTTP/1.1"


async def test_a_body_over_its_bound_is_refused_unread(backend: EchoBackend) -> None:
    """413 by the stated length, before the backend hears of it."""
    async with desk(max_request_body_bytes=4) as one:
        one.register(HOST, backend)
        response = await one.get(HOST, method="POST", body=b"12345")
        assert (response.status, response.get("x-cf-routererror")) == (413, "request_body_too_large")
        assert backend.received == []
