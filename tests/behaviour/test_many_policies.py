"""Very many policies: two thousand routes, each with a list as long as the limit permits."""

import json

from tests.behaviour.conftest import ANY
from tests.conftest import MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import CA
from tests.support.client import Client, Tls
from tests.support.nats import NatsServer
from tests.support.register import Registrar, message
from tests.support.router import mtls_domain

ROUTES, LISTED = 2000, 25


def listed(route: int) -> str:
    """The callers of one route: GUIDs of their own, the last of which is caller-<route>."""
    return ",".join([f"{route:08x}-1111-4111-8111-{entry:012x}" for entry in range(LISTED - 1)] + [f"caller-{route}"])


def test_thousands_of_routes_with_long_lists_register_and_decide(
    make_router: MakeRouter, nats_server: NatsServer, east_ca: CA, backend: EchoBackend
) -> None:
    """R280, R284: 2,000 routes x 25 GUIDs are taken in, repeated as heartbeats, and each decides by its own list."""
    router = make_router(mtls_domains=[mtls_domain(ANY, east_ca)])
    host = "route-{}" + ANY[1:]
    bodies = [
        json.dumps(
            message(host.format(route), backend=backend, app=f"app-{route}", options={"mtls_allowed_apps": listed(route)})
        ).encode()
        for route in range(ROUTES)
    ]
    assert max(len(json.loads(body)["options"]["mtls_allowed_apps"]) for body in bodies) > 880
    with Registrar(nats_server.port, router) as registrar:
        for _ in range(2):
            for body in bodies:
                registrar.publish_raw("router.register", body, wait=False)
        registrar.settle()
    table = router.routes()
    assert sum(name.endswith(ANY[1:]) for name in table) == ROUTES
    assert router.metric("registry_message", action="added") >= ROUTES
    assert router.metric("registry_message", action="unmodified") >= ROUTES
    for route in (0, 1, 999, ROUTES - 1):
        caller = east_ca.issue_instance(f"caller-{route}")
        with Client(router.ssl_port, Tls(host.format(route), caller)) as client:
            assert client.request(host.format(route)).status == 200
            assert client.request(host.format((route + 1) % ROUTES)).status == 403
    assert len(backend.received) == 4
