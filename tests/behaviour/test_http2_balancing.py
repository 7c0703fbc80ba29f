"""Endpoints that are reached over HTTP/2 are chosen as all others: whoever shares a connection has a turn of its own."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.behaviour.conftest import LATER, At
from tests.support.certs import Credential
from tests.support.client import Tls
from tests.support.http2_backend import Http2Backend, Stream
from tests.support.http2_client import Answer, Http2Client
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, wait_until

MIB = 1 << 20


class Fleet:
    """One host, backends of HTTP/2 that answer with their number, and one connection of a client."""

    def __init__(self, router: RouterProcess, registrar: Registrar, count: int, options: dict[str, Any] | None = None) -> None:
        self.host = unique_host("open.example")
        self.router = router
        self.backends = [Http2Backend(str(number)) for number in range(count)]
        said = [
            registrar.register(self.host, backend=each, protocol="http2", index=number, options=options)
            for number, each in enumerate(self.backends)
        ]
        self.app, self.instances = said[0]["app"], [one["private_instance_id"] for one in said]
        for each in self.backends:
            each.each(lambda stream: stream.respond(stream.connection.backend.name.encode()))
        self.client = Http2Client(router.ssl_port, Tls(self.host))

    def ask(self, **headers: str) -> Answer:
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return self.client.request(self.host, headers=fields)

    def spread(self, times: int, **headers: str) -> dict[bytes, int]:
        """How often each answered."""
        return dict(Counter(self.ask(**headers).body for _ in range(times)))

    @contextmanager
    def busy(self, number: int) -> Iterator[None]:
        """One request waits at this backend."""
        go_on = threading.Event()

        def wait(stream: Stream) -> None:
            go_on.wait(10)
            stream.respond(b"late")

        backend = self.backends[number]
        backend.next(wait)
        before = len(backend.requests)
        held = self.client.open(self.host, headers=[("cookie", f"JSESSIONID=x; __VCAP_ID__={self.instances[number]}")])
        wait_until(lambda: len(backend.requests) > before, "the request at the backend")
        try:
            yield
        finally:
            go_on.set()
            assert self.client.response(held).body == b"late"

    def close(self) -> None:
        self.client.close()
        for each in self.backends:
            each.stop()


@pytest.fixture
def fleet(router: RouterProcess, registrar: Registrar, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    made = Fleet(router, registrar, *request.param)
    yield made
    made.close()


@pytest.mark.parametrize("fleet", [(3,)], indirect=True)
def test_each_has_its_turn(fleet: Fleet) -> None:
    """Contract f.1: streams are what is balanced; each endpoint has one connection."""
    assert fleet.spread(12) == {b"0": 4, b"1": 4, b"2": 4}
    assert [each.connections for each in fleet.backends] == [1, 1, 1]


@pytest.mark.parametrize("fleet", [(3, {"loadbalancing": "least-connection"})], indirect=True)
def test_streams_count_as_what_keeps_an_endpoint_busy(fleet: Fleet) -> None:
    """Contract f.1: `least-connection`: one stream in flight, and the others are the least busy."""
    with fleet.busy(1):
        assert set(fleet.spread(20)) == {b"0", b"2"}
    assert set(fleet.spread(40)) == {b"0", b"1", b"2"}


@pytest.mark.parametrize("fleet", [(2, {"connection-limit": 1})], indirect=True)
def test_a_full_endpoint_is_passed_over(fleet: Fleet) -> None:
    """Contract f.1: limits are of requests in flight, not of connections; 503 where all are full."""
    with fleet.busy(0):
        assert fleet.spread(3) == {b"1": 3}
        with fleet.busy(1):
            assert fleet.ask().refusal == (503, "Connection Limit Reached")
    assert fleet.spread(4) == {b"0": 2, b"1": 2}


@pytest.mark.parametrize("fleet", [(3, {"loadbalancing": "hash", "hash_header": "X-Tenant"})], indirect=True)
def test_a_hash_keeps_a_tenant_at_its_endpoint(fleet: Fleet) -> None:
    """Contract f.1: many tenants on one connection, each where it belongs."""
    leads = [set(fleet.spread(2, x_tenant=str(tenant))) for tenant in range(24)]
    assert all(len(lead) == 1 for lead in leads)
    assert set.union(*leads) == {b"0", b"1", b"2"}


@pytest.mark.parametrize("fleet", [(3,)], indirect=True)
def test_a_session_stays_where_it_began(fleet: Fleet) -> None:
    """Contract f.5: the cookies come and go over HTTP/2 on both sides."""
    for each in fleet.backends:
        each.each(
            lambda stream: stream.respond(stream.connection.backend.name.encode(), headers=[("set-cookie", "JSESSIONID=s")])
        )
    begun = fleet.ask()
    name, value = begun.all("set-cookie")[1].partition(";")[0].split("=")
    assert (name, value) == ("__VCAP_ID__", fleet.instances[int(begun.body)])
    assert fleet.spread(6, cookie=f"JSESSIONID=s; __VCAP_ID__={value}") == {begun.body: 6}


@pytest.mark.parametrize("loadbalancing", ["round-robin", "least-connection", "hash"])
def test_no_choice_leaves_the_callers_scope(at: At, alice: Credential, loadbalancing: str) -> None:
    """Decision 7: of a route that two spaces share, only the caller's own; when that is gone, nobody else's."""
    hashed = {"hash_header": "X-Tenant"} if loadbalancing == "hash" else {}
    options = {"route_policy_scope": "space", "route_policy_sources": "cf:any", "loadbalancing": loadbalancing, **hashed}
    tags = {"organization_id": "org-1", "space_id": "space-1"}
    with Http2Backend("own") as own, Http2Backend("other") as other:
        place = at(LATER, options, backend=own, protocol="http2", tags=tags)
        place.register(options, backend=other, protocol="http2", tags={**tags, "space_id": "space-9"}, index=1)
        with Http2Client(place.router.ssl_port, Tls(place.host, alice)) as client:
            answers = [client.request(place.host, headers=[("x-tenant", str(tenant))]).status for tenant in range(8)]
            assert answers == [200] * 8
            own.stop()
            assert client.request(place.host).status == 502
        assert other.requests == []


@pytest.mark.parametrize("fleet", [(2,)], indirect=True)
def test_a_slow_backend_holds_back_its_own_client_alone(fleet: Fleet) -> None:
    """An upload stops at the window of a backend that does not read; another on the same connection of the client is whole."""
    stuck, quick = fleet.backends
    stuck.reading = False
    stuck.next(lambda stream: None)
    held, passed = (f"JSESSIONID=x; __VCAP_ID__={instance}" for instance in fleet.instances)
    upload, sent = fleet.client.open(fleet.host, method="POST", headers=[("cookie", held)], end=False), 0
    while room := fleet.client.room(upload):
        fleet.client.connection.send_data(upload, bytes(room))
        sent += room
        fleet.client.ping()
    assert sent < MIB
    quick.next(lambda stream: stream.respond(b"%d" % len(stream.wait())))
    answer = fleet.client.request(fleet.host, method="POST", headers=[("cookie", passed)], body=bytes(4 * MIB))
    assert (answer.status, answer.body) == (200, b"%d" % (4 * MIB))
    assert sent + fleet.client.room(upload) < MIB
    fleet.client.reset(upload)
    wait_until(lambda: stuck.requests[0].reset_code is not None, "the upload to be cancelled")


@pytest.mark.parametrize("fleet", [(3,)], indirect=True)
def test_an_instance_that_is_asked_for_is_the_one(fleet: Fleet) -> None:
    """Contract c: X-CF-App-Instance leads to its endpoint, and nowhere where there is none."""
    assert fleet.spread(4, x_cf_app_instance=f"{fleet.app}:2") == {b"2": 4}
    assert fleet.ask(x_cf_app_instance=f"{fleet.app}:7").refusal == (400, "unknown_route")
