"""The promise: a request reaches exactly the endpoints that are registered for its host and path."""

import json
from collections import Counter
from collections.abc import Callable

import pytest

from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.client import Client, Response, get
from tests.support.nats import NatsServer
from tests.support.register import Registrar, message, unique_host
from tests.support.router import RouterProcess, wait_until

APP = "01234567-89ab-4cde-8f01-23456789abcd"
PROCESS = "fedcba98-7654-4321-8fed-cba987654321"
MakeBackend = Callable[..., EchoBackend]


def served_by(response: Response) -> str:
    """The name of the backend that answered."""
    assert response.status == 200, f"{response.status} {response.headers}"
    name: str = json.loads(response.body)["backend"]
    return name


def refusal(response: Response) -> tuple[int, str | None]:
    return response.status, response.get("x-cf-routererror")


UNKNOWN = (404, "unknown_route")


def test_a_route_serves_from_its_registration_to_its_unregistration(
    router: RouterProcess, registrar: Registrar, backend: EchoBackend
) -> None:
    """Contract b.3, b.4: unknown before, served while registered, unknown after; the log names both."""
    host = unique_host(OPEN)
    assert refusal(get(router.port, host)) == UNKNOWN
    body = registrar.register(host, backend=backend)
    assert served_by(get(router.port, host)) == "backend"
    registrar.publish("router.unregister", body)
    assert refusal(get(router.port, host)) == UNKNOWN
    for event in ("route-registered", "endpoint-registered", "endpoint-unregistered", "route-unregistered"):
        router.wait_for_event(lambda line, event=event: event in line and host in line)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "root"), ("/other", "root"), ("/apis", "root"), ("/ap", "root"), ("/api", "api"), ("/api/", "api"),
        ("/api?x=1", "api"), ("/api/v1", "api"), ("/api/v2", "v2"), ("/api/v2/deep/er", "v2"), ("/api/v22", "api"),
        ("/API/V2/x", "v2"), ("/?/api", "root"),
    ],
)  # fmt: skip
def test_the_longest_path_prefix_on_whole_segments_wins(
    router: RouterProcess, registrar: Registrar, make_backend: MakeBackend, path: str, expected: str
) -> None:
    """Contract c: host, host/api and host/api/v2 are three routes; case and query do not count."""
    host = unique_host(OPEN)
    for uri, name in ((host, "root"), (f"{host}/api", "api"), (f"{host}/Api/V2/", "v2")):
        registrar.register(uri, backend=make_backend(name), wait=name == "v2")
    assert served_by(get(router.port, host, path)) == expected


def test_a_path_alone_does_not_serve_its_host(router: RouterProcess, registrar: Registrar, backend: EchoBackend) -> None:
    """Contract c: with only host/api registered, the host's other paths are unknown."""
    host = unique_host(OPEN)
    registrar.register(f"{host}/api", backend=backend)
    assert served_by(get(router.port, host, "/api/x")) == "backend"
    assert refusal(get(router.port, host, "/")) == UNKNOWN
    assert refusal(get(router.port, host, "/apis")) == UNKNOWN


def test_wildcards_fall_back_label_by_label(router: RouterProcess, registrar: Registrar, make_backend: MakeBackend) -> None:
    """Contract c: the exact host first, then `*.` with ever shorter suffixes, each with the whole path."""
    base = unique_host(OPEN)
    for uri, name in (
        (f"exact.a.{base}", "exact"),
        (f"*.a.{base}", "narrow"),
        (f"*.{base}", "wide"),
        (f"*.{base}/deep", "deep"),
    ):
        registrar.register(uri, backend=make_backend(name), wait=name == "deep")
    found = {
        name: served_by(get(router.port, f"{name}{base}", path))
        for name, path in (("exact.a.", "/"), ("b.a.", "/"), ("c.b.a.", "/"), ("b.", "/"), ("x.y.", "/"), ("b2.", "/deep/x"))
    }
    assert found == {"exact.a.": "exact", "b.a.": "narrow", "c.b.a.": "narrow", "b.": "wide", "x.y.": "wide", "b2.": "deep"}
    assert refusal(get(router.port, base)) == UNKNOWN


@pytest.mark.parametrize("spell", [str.upper, str.title, lambda host: host + ".", lambda host: host + ":8080"])
def test_one_host_has_many_spellings(
    router: RouterProcess, registrar: Registrar, backend: EchoBackend, spell: Callable[[str], str]
) -> None:
    """Contract c: case, a port and one final dot do not make another host, neither in a request nor in a registration."""
    host = unique_host(OPEN)
    registrar.register(host, backend=backend)
    assert served_by(get(router.port, spell(host))) == "backend"
    other = unique_host(OPEN)
    registrar.register(other.upper(), backend=backend)
    assert served_by(get(router.port, other)) == "backend"


def test_several_endpoints_take_turns(router: RouterProcess, registrar: Registrar, make_backend: MakeBackend) -> None:
    """Contract f.1: round-robin gives every endpoint the same share, in the same order; each worker goes its own round."""
    host = unique_host(OPEN)
    for number in range(3):
        registrar.register(host, backend=make_backend(str(number)), wait=number == 2)
    with Client(router.port) as client:
        names = [served_by(client.request(host)) for _ in range(12)]
    assert Counter(names) == {"0": 4, "1": 4, "2": 4}
    assert names[:3] * 4 == names


def test_one_registration_serves_all_its_uris_and_one_unregistration_takes_only_those_named(
    router: RouterProcess, registrar: Registrar, backend: EchoBackend
) -> None:
    """Contract b.3, b.4: each uri is a route of its own."""
    one, two, three = (unique_host(OPEN) for _ in range(3))
    registrar.register(one, two, f"{three}/path", backend=backend, private_instance_id="i")
    assert {served_by(get(router.port, host, "/path")) for host in (one, two, three)} == {"backend"}
    registrar.unregister(two, f"{three}/path", backend=backend, private_instance_id="i")
    assert served_by(get(router.port, one)) == "backend"
    assert refusal(get(router.port, two)) == UNKNOWN
    assert refusal(get(router.port, three, "/path")) == UNKNOWN


def test_a_backend_that_left_takes_no_more_requests(
    router: RouterProcess, registrar: Registrar, make_backend: MakeBackend
) -> None:
    """Contract b.4: after one of two endpoints is unregistered, the other gets everything."""
    host, stays, leaves = unique_host(OPEN), make_backend("stays"), make_backend("leaves")
    registrar.register(host, backend=stays, wait=False)
    registrar.register(host, backend=leaves)
    registrar.unregister(host, backend=leaves)
    assert {served_by(get(router.port, host)) for _ in range(4)} == {"stays"}
    assert leaves.received == []


def test_x_cf_app_instance_chooses_one_instance(router: RouterProcess, registrar: Registrar, make_backend: MakeBackend) -> None:
    """Contract c: `guid:index` picks that instance, every time; the backend does not see the header."""
    host = unique_host(OPEN)
    backends = [make_backend(str(index)) for index in range(3)]
    for index, backend in enumerate(backends):
        registrar.register(host, backend=backend, app=APP, index=index, wait=index == 2)
    for index in (2, 0, 2, 1):
        answer = get(router.port, host, headers=[("X-CF-App-Instance", f"{APP}:{index}")])
        assert served_by(answer) == str(index)
    assert backends[2].last.all("x-cf-app-instance") == []
    unknown = get(router.port, host, headers=[("X-CF-App-Instance", f"{APP}:9")])
    assert refusal(unknown) == (400, "unknown_route")
    assert b"Requested instance ('9') with guid" in unknown.body


def test_x_cf_process_instance_chooses_by_the_process_tag(
    router: RouterProcess, registrar: Registrar, make_backend: MakeBackend
) -> None:
    """Contract c: `guid` picks any instance of the process, `guid:index` that one."""
    host, tags = unique_host(OPEN), {"process_id": PROCESS}
    registrar.register(host, backend=make_backend("web"), tags={"process_id": APP}, wait=False)
    for index in range(2):
        registrar.register(host, backend=make_backend(str(index)), tags=tags, index=index, wait=index == 1)

    def ask(value: str) -> Response:
        return get(router.port, host, headers=[("X-CF-Process-Instance", value)])

    assert {served_by(ask(PROCESS)) for _ in range(4)} == {"0", "1"}
    assert {served_by(ask(f"{PROCESS}:1")) for _ in range(3)} == {"1"}
    assert refusal(ask(f"{PROCESS}:7")) == (400, "unknown_route")


@pytest.mark.parametrize("name", ["X-CF-App-Instance", "X-CF-Process-Instance"])
@pytest.mark.parametrize("value", ["x", f"{APP}:", f"{APP}:x", f"{APP}:1:2", APP.upper() + ":0", f" {APP}:0;", ""])
def test_a_malformed_instance_header_is_refused(
    router: RouterProcess, registrar: Registrar, backend: EchoBackend, name: str, value: str
) -> None:
    """Contract c, d: a malformed wish is 400 with the header's own error, never a random instance."""
    host = unique_host(OPEN)
    registrar.register(host, backend=backend, app=APP)
    expected = f"invalid_cf_{'app' if 'App' in name else 'process'}_instance_header"
    assert refusal(get(router.port, host, headers=[(name, value)])) == (400, expected)
    assert backend.received == []


def test_a_route_service_is_refused_and_not_bypassed(router: RouterProcess, registrar: Registrar, backend: EchoBackend) -> None:
    """Contract d: a route with a route_service_url is 502 route_service_unsupported; its backend sees nothing."""
    host = unique_host(OPEN)
    registrar.register(host, backend=backend, route_service_url="https://service.example")
    assert refusal(get(router.port, host)) == (502, "route_service_unsupported")
    assert backend.received == []


def test_routes_shows_what_was_registered(router: RouterProcess, registrar: Registrar, backend: EchoBackend) -> None:
    """Contract h: /routes has GoRouter's fields for each endpoint."""
    host = unique_host(OPEN)
    registrar.register(f"{host}/Path", backend=backend, private_instance_id="i-1", tags={"a": "b"}, availability_zone="z1")
    assert router.routes()[f"{host}/path"] == [
        {
            "address": backend.address, "availability_zone": "z1", "protocol": "http1", "tls": False, "ttl": 120,
            "tags": {"a": "b"}, "private_instance_id": "i-1", "load_balancing_algorithm": "round-robin",
        }
    ]  # fmt: skip


def test_a_route_whose_last_endpoint_left_says_503_for_a_while(
    make_router: MakeRouter, nats_server: NatsServer, make_registrar: Callable[..., Registrar], backend: EchoBackend
) -> None:
    """Contract b.4: with empty_pool_timeout a known route without endpoints is 503 no_endpoints, and 404 afterwards."""
    router = make_router(empty_pool_timeout="3s", prune_stale_droplets_interval="100ms")
    registrar, host = make_registrar(nats_server, router), unique_host(OPEN)
    registrar.register(host, backend=backend)
    registrar.unregister(host, backend=backend)
    assert refusal(get(router.port, host)) == (503, "no_endpoints")
    wait_until(lambda: refusal(get(router.port, host)) == UNKNOWN, "the route to be forgotten")


SEGMENTS = ["", "ours", "theirs"]


@pytest.mark.parametrize(
    ("mode", "served"),
    [("all", SEGMENTS), ("segments", ["ours"]), ("shared-and-segments", ["", "ours"])],
)
def test_a_router_carries_only_its_shard(
    make_router: MakeRouter, nats_server: NatsServer, backend: EchoBackend, mode: str, served: list[str]
) -> None:
    """Contract b.6: by mode only the segments of this router, also those without one, or all; nothing else is served."""
    router = make_router(routing_table_sharding_mode=mode, isolation_segments=["ours"])
    hosts = {segment: unique_host(OPEN) for segment in SEGMENTS}
    # The marker of a Registrar has no segment: this one's messages are followed by a route of ours instead.
    marker = unique_host("marker.invalid")
    with Registrar(nats_server.port, router) as registrar:
        for segment, host in hosts.items():
            registrar.register(host, backend=backend, isolation_segment=segment, wait=False)
        registrar.register(marker, backend=backend, isolation_segment="ours", wait=False)
        wait_until(lambda: marker in router.routes(), "the router to take in the marker")
    found = [segment for segment, host in hosts.items() if get(router.port, host).status == 200]
    assert found == served


def test_an_unregistration_of_another_shard_is_ignored(
    make_router: MakeRouter, nats_server: NatsServer, backend: EchoBackend
) -> None:
    """Contract b.6: a foreign segment can neither add to our routes nor take from them."""
    router = make_router(routing_table_sharding_mode="segments", isolation_segments=["ours"])
    host, marker = unique_host(OPEN), unique_host("marker.invalid")
    with Registrar(nats_server.port, router) as registrar:
        ours = message(host, backend=backend, isolation_segment="ours")
        registrar.publish("router.register", ours, wait=False)
        registrar.publish("router.unregister", {**ours, "isolation_segment": "theirs"}, wait=False)
        registrar.register(marker, backend=backend, isolation_segment="ours", wait=False)
        wait_until(lambda: marker in router.routes(), "the router to take in the marker")
    assert served_by(get(router.port, host)) == "backend"


def test_heartbeats_publish_no_new_table(router: RouterProcess, registrar: Registrar, backend: EchoBackend) -> None:
    """Equal registrations count as unmodified, are not logged and leave the route as it is."""
    host = unique_host(OPEN)
    body = registrar.register(host, backend=backend)
    router.wait_for_event(lambda line: "endpoint-registered" in line and host in line)
    before = router.metric("registry_message", action="unmodified")
    for _ in range(20):
        registrar.publish("router.register", body, wait=False)
    registrar.settle()
    assert router.metric("registry_message", action="unmodified") == before + 20
    assert sum("endpoint-registered" in line and host in line for line in router.events) == 1
