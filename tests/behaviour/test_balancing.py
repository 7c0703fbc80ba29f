"""The choice among a route's endpoints: by turns, the least busy, a header's hash, the zone (contract f.1, RFC-0042)."""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.behaviour.conftest import LATER, At
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import Credential
from tests.support.client import Client, Response, render_request
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, wait_until

HASH = {"loadbalancing": "hash", "hash_header": "X-Tenant"}
LEAST = {"loadbalancing": "least-connection"}
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
APP = "0a0a0a0a-1111-4111-8111-0a0a0a0a0a0a"
MAX_CONNS = 3


@pytest.fixture(scope="module")
def zoned(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """A router in z1 that prefers its zone, lets an endpoint have three requests in flight and is least-connection."""
    with RouterProcess(
        tmp_path_factory.mktemp("zoned"), nats=nats_server, zone="z1", balancing_algorithm_az_preference="locally-optimistic",
        balancing_algorithm="least-connection", backends={"max_conns": MAX_CONNS},
    ) as process:  # fmt: skip
        yield process


@pytest.fixture(scope="module")
def zoned_registrar(nats_server: NatsServer, zoned: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, zoned) as made:
        yield made


class Group:
    """One host with several backends, and who answers."""

    def __init__(
        self, router: RouterProcess, registrar: Registrar, make: Callable[..., EchoBackend], *more: dict[str, Any]
    ) -> None:
        self.router = router
        self.registrar = registrar
        self.host = unique_host("open.example")
        self.backends = [make(f"number {number}") for number in range(len(more))]
        for number, fields in enumerate(more):
            self.register(number, **fields)

    def register(self, number: int, **fields: Any) -> None:
        said = {"app": APP, "private_instance_id": f"instance-{number}", **fields}
        self.registrar.register(self.host, backend=self.backends[number], index=number, **said)

    def ask(self, client: Client, tenant: str | None = None) -> int:
        """The number of the backend that answers; its status where it is none."""
        before = [len(backend.received) for backend in self.backends]
        response = client.request(self.host, headers=[] if tenant is None else [("X-Tenant", tenant)])
        grown = [n for n, backend in enumerate(self.backends) if len(backend.received) > before[n]]
        return grown[0] if grown else response.status

    def spread(self, times: int, tenant: str | None = None) -> dict[int, int]:
        """How often each answered."""
        with Client(self.router.port) as client:
            return dict(Counter(self.ask(client, tenant) for _ in range(times)))

    def leads(self, tenants: int) -> dict[str, int]:
        """Who answers each tenant."""
        with Client(self.router.port) as client:
            return {str(tenant): self.ask(client, str(tenant)) for tenant in range(tenants)}

    @contextmanager
    def held(self, number: int, count: int) -> Iterator[list[Client]]:
        """`count` requests that wait for their response at this backend, whoever they would have gone to."""
        go_on = threading.Event()

        def wait(exchange: Exchange) -> None:
            go_on.wait(10)
            exchange.send(NO_CONTENT)

        backend, clients = self.backends[number], [Client(self.router.port) for _ in range(count)]
        headers = [("X-CF-App-Instance", f"{APP}:{number}")]
        backend.script(*[wait] * count)
        before = len(backend.received)
        try:
            for client in clients:
                client.send(render_request(self.host, headers=headers))
            wait_until(lambda: len(backend.received) == before + count, "the requests to be in flight")
            yield clients
        finally:
            go_on.set()
            for client in clients:
                assert client.read_response().status == 204
                client.close()


@pytest.fixture
def group(router: RouterProcess, registrar: Registrar, make_backend: Callable[..., EchoBackend]) -> Callable[..., Group]:
    """A group on the shared router, whose algorithm is round-robin; one backend for each argument."""
    return lambda *more: Group(router, registrar, make_backend, *more)


@pytest.fixture
def zones(zoned: RouterProcess, zoned_registrar: Registrar, make_backend: Callable[..., EchoBackend]) -> Callable[..., Group]:
    """A group on the router that prefers z1; one backend for each zone."""
    return lambda *zones, **more: Group(
        zoned, zoned_registrar, make_backend, *({"availability_zone": zone, **more} for zone in zones)
    )


def test_round_robin_gives_each_its_turn(group: Callable[..., Group]) -> None:
    """Contract f.1: over all requests of the pool."""
    assert group({}, {}, {}).spread(12) == {0: 4, 1: 4, 2: 4}


def test_least_connection_of_a_route_overrides_the_routers_algorithm(group: Callable[..., Group]) -> None:
    """Contract f.1: per route by `loadbalancing`; the busy one gets nothing while another is idle."""
    made = group({"options": LEAST}, {"options": LEAST}, {"options": LEAST})
    with made.held(1, 1):
        assert set(made.spread(20)) == {0, 2}
    assert set(made.spread(40)) == {0, 1, 2}


def test_who_cannot_be_reached_is_busy_while_it_is_tried(group: Callable[..., Group]) -> None:
    """Contract f.1: nobody is through to it, so it would seem the least busy of all, and would get every request."""
    made = group({"options": LEAST})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        made.registrar.register(made.host, backend=port, port=0, tls_port=port, app=APP, index=7, options=LEAST)
        with Client(made.router.port) as client:
            client.send(render_request(made.host, headers=[("X-CF-App-Instance", f"{APP}:7")]))
            dialled, _ = silent.accept()
            with dialled:
                assert made.spread(12) == {0: 12}
                silent.setblocking(False)
                with pytest.raises(BlockingIOError):
                    silent.accept()


def test_the_last_registration_decides_the_algorithm(group: Callable[..., Group]) -> None:
    """Contract b.3: round-robin again by an option, on a route that was least-connection."""
    made = group({"options": LEAST}, {"options": LEAST})
    with made.held(0, 1):
        assert made.spread(6) == {1: 6}
    made.register(1, options={"loadbalancing": "round-robin"})
    with made.held(0, 1):
        assert made.spread(6) == {0: 3, 1: 3}


def test_round_robin_of_a_route_overrides_a_least_connection_router(zones: Callable[..., Group]) -> None:
    """Contract f.1: in both directions."""
    made = zones("z1", "z1", options={"loadbalancing": "round-robin"})
    with made.held(0, 1):
        assert made.spread(6) == {0: 3, 1: 3}


def test_a_hash_keeps_a_tenant_at_its_endpoint(group: Callable[..., Group]) -> None:
    """Contract f.1, RFC-0042: the same value, the same endpoint; many values, all endpoints."""
    made = group(*[{"options": HASH}] * 4)
    leads = made.leads(40)
    assert set(leads.values()) == {0, 1, 2, 3}
    assert made.leads(40) == leads
    assert set(made.spread(8)) == {0, 1, 2, 3}


def test_two_routers_lead_a_tenant_to_the_same_endpoint(
    group: Callable[..., Group], zoned: RouterProcess, zoned_registrar: Registrar
) -> None:
    """RFC-0042: nothing of the table is a router's own, nor is it the zone's."""
    made = group(*[{"options": HASH}] * 3)
    leads = made.leads(24)
    zoned_registrar.settle()
    made.router = zoned
    assert made.leads(24) == leads


def test_a_restarted_endpoint_does_not_move_the_others_tenants(group: Callable[..., Group]) -> None:
    """Contract f.1: who goes leaves its tenants to the others, who comes back under its name gets them again."""
    made = group(*[{"options": HASH}] * 4)
    before = made.leads(40)
    made.registrar.unregister(made.host, backend=made.backends[2], index=2, app=APP, private_instance_id="instance-2")
    without = made.leads(40)
    assert set(without.values()) == {0, 1, 3}
    moved = [tenant for tenant, was in before.items() if was != 2 and without[tenant] != was]
    assert len(moved) <= 5
    made.register(2, options=HASH)
    assert made.leads(40) == before


def test_a_tenant_whose_endpoint_fails_goes_to_the_next(group: Callable[..., Group]) -> None:
    """Contract f.1: the retry finds another, and the mark keeps it there; the others' tenants stay."""
    made = group(*[{"options": HASH}] * 3)
    before = made.leads(24)
    made.backends[0].stop()
    assert {tenant for tenant, now in made.leads(24).items() if now != before[tenant]} == {
        t for t, was in before.items() if was == 0
    }


def test_hash_balance_sends_the_surplus_of_a_tenant_elsewhere(group: Callable[..., Group]) -> None:
    """Contract f.1: above `hash_balance` times the average of requests in flight, the next of the table."""
    made = group(*[{"options": {**HASH, "hash_balance": 1.5}}] * 3)
    (own,) = made.spread(3, "loud")
    with made.held(own, 2):
        away = made.spread(5, "loud")
        assert own not in away
        assert len(away) == 1
    assert made.spread(3, "loud") == {own: 3}


def test_a_full_endpoint_of_a_hash_is_passed_over(zones: Callable[..., Group]) -> None:
    """Contract f.1, `backends.max_conns`; without the header the router's own algorithm decides, here the least busy."""
    made = zones("z1", "z1", options=HASH)
    (own,) = made.spread(2, "loud")
    with made.held(own, MAX_CONNS):
        assert made.spread(3, "loud") == {1 - own: 3}
        assert made.spread(3) == {1 - own: 3}
        with made.held(1 - own, MAX_CONNS):
            assert made.spread(1, "loud") == {503: 1}
            assert refusal(made) == (503, "Connection Limit Reached")
    assert made.spread(3, "loud") == {own: 3}


def refusal(made: Group) -> tuple[int, str | None]:
    with Client(made.router.port) as client:
        response: Response = client.request(made.host)
        return response.status, response.get("x-cf-routererror")


def test_a_first_attempt_stays_in_the_zone(zones: Callable[..., Group]) -> None:
    """Contract f.1: `locally-optimistic`."""
    assert set(zones("z2", "z1", "z1", None).spread(24)) == {1, 2}


def test_without_an_endpoint_in_the_zone_all_take_part(zones: Callable[..., Group]) -> None:
    """Contract f.1."""
    assert set(zones("z2", "z3", None).spread(40)) == {0, 1, 2}


def test_a_retry_leaves_the_zone(zones: Callable[..., Group]) -> None:
    """Contract f.1: and so do the requests that follow, as long as the zone's own are marked."""
    made = zones("z1", "z2")
    made.backends[0].stop()
    assert made.spread(3) == {1: 3}


def test_a_zone_that_is_full_is_left(zones: Callable[..., Group]) -> None:
    """Contract f.1: only who can serve counts."""
    made = zones("z1", "z2")
    with made.held(0, MAX_CONNS):
        assert made.spread(3) == {1: 3}
    assert made.spread(3) == {0: 3}


def test_a_reload_changes_the_preference(zones: Callable[..., Group]) -> None:
    """`zone` and the preference are asked at each request."""
    made = zones("z1", "z2")
    assert made.spread(4) == {0: 4}
    try:
        made.router.reload(zone="z2")
        assert made.spread(4) == {1: 4}
        made.router.reload(balancing_algorithm_az_preference="none")
        assert set(made.spread(40)) == {0, 1}
    finally:
        made.router.reload(zone="z1", balancing_algorithm_az_preference="locally-optimistic")


@pytest.mark.parametrize("options", [LEAST, HASH])
def test_no_algorithm_leaves_the_callers_scope(
    at: At, alice: Credential, second_backend: EchoBackend, options: dict[str, Any]
) -> None:
    """Decision 7: of a route shared by two spaces, only the caller's own, whatever the hash or the load."""
    scoped = {"route_policy_scope": "space", "route_policy_sources": "cf:any", **options}
    place = at(LATER, scoped, tags={"organization_id": "org-1", "space_id": "space-1"})
    place.register(scoped, backend=second_backend, tags={"organization_id": "org-1", "space_id": "space-9"}, index=1)
    answers = [place.call(alice, headers=[("X-Tenant", str(tenant))]).response.status for tenant in range(12)]
    assert answers == [200] * 12
    assert second_backend.received == []
