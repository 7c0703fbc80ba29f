"""router/l7/service_leg.py: what changes while a route service is being asked, in this process, on both event loops."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from registry.endpoint import Endpoint
from router.backend.http1 import Http1Upstream
from router.faults import Fault
from tests.router.desk import EAST, Desk, desk, settings
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import Tls
from tests.support.route_service import SECRET, SERVICES, RouteService

HOST = "app.open.example"
CALLED = f"app.{EAST}"
EAST_CA = authority("east instance identity")
AS_APP = Tls(CALLED, EAST_CA.issue_instance("app-1", "space-1", "org-1"))
ENABLED: dict[str, Any] = {
    "route_services_secret": SECRET,
    "route_services": {"egress_blocklist": [], "max_attempts": 3},
    "ca_certs": [SERVICES.pem],
}
Change = Callable[[Desk, EchoBackend, RouteService], object]


@pytest.fixture
def service() -> Iterator[RouteService]:
    """Answers by itself."""
    with RouteService() as made:
        yield made


def while_dialling(one: Desk, happens: Callable[[], object], *, fails: Fault | None = None, times: int = 1) -> list[str]:
    """Something happens while the service is dialled, and perhaps the dial fails; the addresses that were."""
    services = one.live.snapshot.route_services
    assert services is not None
    dial, dialled = services.dialer.dial, list[str]()

    async def dial_and(endpoint: Endpoint, by: float = math.inf, within: float | None = None) -> Http1Upstream:
        dialled.append(endpoint.address)
        if len(dialled) <= times:
            happens()
            if fails is not None:
                raise fails
        return await dial(endpoint, by, within)

    services.dialer.dial = dial_and  # type: ignore[method-assign]
    return dialled


def _unbind(one: Desk, backend: EchoBackend, service: RouteService) -> None:
    one.register(CALLED, backend, options={"mtls_allowed_apps": "app-1"})


def _deny(one: Desk, backend: EchoBackend, service: RouteService) -> None:
    one.register(CALLED, backend, options={"mtls_allowed_apps": "app-2"}, route_service_url=service.address_url)


def _out_of_scope(one: Desk, backend: EchoBackend, service: RouteService) -> None:
    options = {"route_policy_scope": "space", "route_policy_sources": "cf:any"}
    tags = {"space_id": "space-2"}
    one.register(CALLED, backend, options=options, tags=tags, route_service_url=service.address_url)


def _disable(one: Desk, backend: EchoBackend, service: RouteService) -> None:
    one.adopt(settings())


def _reload(one: Desk, backend: EchoBackend, service: RouteService) -> None:
    one.adopt(settings(**ENABLED))


def _other_policy(one: Desk, backend: EchoBackend, service: RouteService) -> None:
    options = {"mtls_allowed_apps": "app-1,app-2"}
    one.register(CALLED, backend, options=options, route_service_url=service.address_url)


@pytest.mark.parametrize("fails", [None, Fault("dial_failed", "test")], ids=["dialled", "failed"])
@pytest.mark.parametrize(
    ("change", "status", "asked"),
    [
        (_unbind, 200, "app"),
        (_deny, 403, ""),
        (_out_of_scope, 403, ""),
        (_disable, 502, ""),
        (_reload, 200, "service"),
        (_other_policy, 200, "service"),
    ],
)
async def test_the_doors_are_asked_again_after_a_dial(
    backend: EchoBackend, service: RouteService, change: Change, status: int, asked: str, fails: Fault | None
) -> None:
    """Whoever is denied, unbound or reconfigured meanwhile: the service hears nothing that the policy of now does not let it."""
    async with desk(**ENABLED) as one:
        one.register(CALLED, backend, options={"mtls_allowed_apps": "app-1"}, route_service_url=service.address_url)
        dialled = while_dialling(one, lambda: change(one, backend, service), fails=fails)
        assert (await one.get(CALLED, tls=AS_APP)).status == status
        assert len(dialled) >= 1
        assert (len(backend.received), len(service.received)) == (asked == "app", asked == "service")


async def test_a_service_is_tried_as_often_as_the_operator_says(backend: EchoBackend, service: RouteService) -> None:
    """`route_services.max_attempts`; and what failed is logged under its own name, not held against the app."""
    async with desk(**ENABLED) as one:
        one.register(HOST, backend, route_service_url=service.address_url)
        dialled = while_dialling(one, lambda: None, fails=Fault("dial_failed", "test"), times=2)
        assert (await one.get(HOST)).status == 200
        assert len(dialled) == 3
        assert len(one.log.of("route-service-connection-failed")) == 2
        dialled.clear()
        services = one.live.snapshot.route_services
        assert services is not None
        services.idle.close()
        while_dialling(one, lambda: None, fails=Fault("tls_untrusted", "test"), times=9)
        assert (await one.get(HOST)).status == 526
        assert len(one.log.of("route-service-connection-failed")) == 5
        assert one.counted("responses_route_services") == {'status_group="2xx"': 1, 'status_group="xxx"': 1}
        assert (one.pruned, one.log.of("backend-endpoint-failed")) == ([], [])
        assert one.ledger.publish().lookup(HOST, "/") is not None


async def test_what_is_blocked_is_tried_once(backend: EchoBackend, service: RouteService) -> None:
    """502, and no attempt is repeated: the address does not become another."""
    async with desk(route_services_secret=SECRET, ca_certs=[SERVICES.pem]) as one:
        one.register(HOST, backend, route_service_url=service.address_url)
        dialled = while_dialling(one, lambda: None)
        answer = await one.get(HOST)
        assert (answer.status, answer.get("x-cf-routererror")) == (502, "endpoint_failure (address not allowed)")
        assert (len(dialled), service.connections) == (1, 0)


async def test_a_route_that_flaps_ends(backend: EchoBackend, service: RouteService) -> None:
    """Reconfigured during every dial: the request is not held for ever."""
    async with desk(**ENABLED) as one:
        one.register(HOST, backend, route_service_url=service.address_url)

        def again() -> None:
            one.adopt(settings(**ENABLED))
            dialled.append("")
            while_dialling(one, again)

        dialled: list[str] = []
        while_dialling(one, again)
        answer = await one.get(HOST)
        assert (answer.status, answer.get("x-cf-routererror")) == (503, "no_endpoints")
        assert len(dialled) == 3
        assert service.received == backend.received == []


async def test_a_request_that_was_sent_is_not_sent_again(backend: EchoBackend, service: RouteService) -> None:
    """The resend rule holds for services: a POST that reached one and was not answered is 502."""
    async with desk(**ENABLED) as one:
        one.register(HOST, backend, route_service_url=service.address_url)
        service.script(lambda exchange: exchange.reset())
        assert (await one.get(HOST, method="POST", body=b"once")).status == 502
        assert len(service.received) == 1


async def test_idle_connections_to_services_are_kept_apart_and_end_with_their_settings(
    backend: EchoBackend, service: RouteService
) -> None:
    """A reload that changes nothing of them keeps them; another secret, or none, ends them."""
    async with desk(**ENABLED) as one:
        one.register(HOST, backend, route_service_url=service.address_url)
        for _ in range(2):
            assert (await one.get(HOST)).status == 200
        snapshot = one.live.snapshot
        assert snapshot.route_services is not None
        assert (snapshot.route_services.idle.size, snapshot.idle.size) == (1, 0)
        one.adopt(settings(**ENABLED))
        same = one.live.snapshot.route_services
        assert same is not None
        assert same.idle is snapshot.route_services.idle
        assert same.seal is snapshot.route_services.seal
        one.adopt(settings(**ENABLED | {"route_services_secret": "another"}))
        other = one.live.snapshot.route_services
        assert other is not None
        assert other.idle is not same.idle
        one.live.snapshot.retire()
        snapshot.retire(one.live.snapshot)
        assert same.idle.size == 0
