"""The promise: every metric stands at the endpoint under GoRouter's name, and moves when its event happens."""

import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import EAST, OPEN, MakeRouter
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import CA, authority
from tests.support.client import Alert, Client, Tls, expect_alert, get, render_request
from tests.support.nats import NatsServer
from tests.support.register import Registrar, message, unique_host
from tests.support.router import RouterProcess, wait_until

PAGE = Path(__file__).parents[2] / "docs/reference/metrics.md"
GOROUTER = {
    "registry_message": "counter", "unregistry_message": "counter", "routes_pruned": "counter", "total_requests": "counter",
    "rejected_requests": "counter", "bad_gateways": "counter", "empty_content_length_header": "counter",
    "backend_invalid_id": "counter", "backend_invalid_tls_cert": "counter", "backend_tls_handshake_failed": "counter",
    "backend_exhausted_conns": "counter", "websocket_upgrades": "counter", "websocket_failures": "counter",
    "responses": "counter", "responses_route_services": "counter", "total_routes": "gauge",
    "ms_since_last_registry_update": "gauge", "file_descriptors": "gauge", "buffered_messages": "gauge",
    "total_dropped_messages": "gauge", "route_lookup_time": "histogram", "gorouter_time": "histogram",
    "route_registration_latency": "histogram", "latency": "histogram",
}  # fmt: skip


def types_of(page: str) -> dict[str, str]:
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))


def test_every_name_stands_at_the_endpoint(router: RouterProcess) -> None:
    """R49, contract h: GoRouter's metrics under their very names and types, without `_total`, and ours of the reference."""
    types = types_of(router.metrics())
    assert types | GOROUTER == types
    documented = set(re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram)", PAGE.read_text(), re.MULTILINE))
    assert documented - {"http_latency_seconds"} == {name for name in types if not name.startswith(("process_", "python_"))}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes"} <= types.keys()


class Watched:
    """How much a metric grew since the start of the test."""

    def __init__(self, router: RouterProcess) -> None:
        self._router = router
        self._before = router.metrics()

    def grew(self, name: str, **labels: str) -> float:
        return self._router.metric(name, **labels) - _sum(self._before, name, labels)


def _sum(page: str, name: str, labels: dict[str, str]) -> float:
    total = 0.0
    for line in page.splitlines():
        if re.match(re.escape(name) + r"[{ ]", line) and all(f'{key}="{value}"' in line for key, value in labels.items()):
            total += float(line.rpartition(" ")[2])
    return total


@pytest.fixture
def host(router: RouterProcess, registrar: Registrar, backend: EchoBackend) -> str:
    name = unique_host(OPEN)
    registrar.register(name, backend=backend)
    return name


@pytest.fixture
def watched(router: RouterProcess, host: str) -> Watched:
    return Watched(router)


def test_a_good_exchange(router: RouterProcess, host: str, watched: Watched) -> None:
    """R49: requests, responses, bytes and times of a request that was served."""
    answer = get(router.port, host, method="POST", body=b"x" * 1000)
    assert watched.grew("total_requests", component="route-emitter") == 1
    assert watched.grew("responses", status_group="2xx") == 1
    assert watched.grew("rejected_requests") == 0
    assert watched.grew("client_bytes", direction="in") == 1000
    assert watched.grew("client_bytes", direction="out") == len(answer.body)
    assert watched.grew("route_lookup_time_count") == 1
    assert watched.grew("gorouter_time_count") == 1
    assert watched.grew("latency_count", component="route-emitter") == 1
    assert watched.grew("backend_dial_seconds_count") == 1
    assert watched.grew("connections_accepted", listener="http") == 1


@pytest.mark.parametrize("status", [201, 304, 404, 503])
def test_responses_by_their_group(router: RouterProcess, host: str, backend: EchoBackend, watched: Watched, status: int) -> None:
    """R49: a backend's status counts in its group, and is no rejection of ours."""
    backend.script(b"HTTP/1.1 %d Said\r\nContent-Length: 0\r\n\r\n" % status)
    assert get(router.port, host).status == status
    assert watched.grew("responses", status_group=f"{status // 100}xx") == 1
    assert watched.grew("rejected_requests") == 0


def test_refusals(router: RouterProcess, watched: Watched) -> None:
    """R49: an unknown route and a malformed head are rejected requests; the reason is a bounded label."""
    get(router.port, "nobody.invalid")
    with Client(router.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert client.read_response().status == 400
    assert watched.grew("rejected_requests") == 2
    assert watched.grew("responses", status_group="4xx") == 2
    assert watched.grew("malformed_requests") == 1


def test_an_empty_content_length(router: RouterProcess, host: str, watched: Watched) -> None:
    """Contract h: GoRouter's count of requests with an empty Content-Length, which are refused here."""
    with Client(router.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: %b\r\nContent-Length: \r\n\r\n" % host.encode())
        assert client.read_response().status == 400
    assert watched.grew("empty_content_length_header") == 1


def test_bad_gateways(router: RouterProcess, registrar: Registrar, watched: Watched) -> None:
    """Contract h: a 502 of ours counts as a bad gateway."""
    dead = unique_host(OPEN)
    registrar.register(dead, backend=9)
    get(router.port, dead)
    assert watched.grew("bad_gateways") == 1
    assert watched.grew("responses", status_group="5xx") == 1


def test_registrations(router: RouterProcess, registrar: Registrar, backend: EchoBackend, watched: Watched) -> None:
    """R49: what each message did, by component; routes in the table; how long a change took to get here."""
    name = unique_host(OPEN)
    body = message(name, backend=backend, tags={"component": "my-emitter"}, endpoint_updated_at_ns=time.time_ns())
    registrar.publish("router.register", body)
    assert watched.grew("registry_message", component="my-emitter", action="added") == 1
    assert watched.grew("routes_registered") >= 1
    assert name in router.routes()
    wait_until(lambda: router.metric("total_routes") == len(router.routes()), "other tests' routes to be gone from both")
    assert watched.grew("route_registration_latency_count") == 1
    registrar.publish("router.register", {**body, "app": "another"})
    assert watched.grew("registry_message", component="my-emitter", action="updated") == 1
    registrar.publish("router.register", {**body, "app": "another"})
    assert watched.grew("registry_message", action="unmodified") >= 1
    registrar.publish("router.unregister", body)
    assert watched.grew("unregistry_message", component="my-emitter") == 1
    assert watched.grew("routes_unregistered") >= 1
    since = router.metric("ms_since_last_registry_update")
    assert since < 5000
    assert since == int(since)


def test_dropped_messages_and_options(
    router: RouterProcess, registrar: Registrar, backend: EchoBackend, watched: Watched
) -> None:
    """Messages and options that were not applied, each under its reason."""
    registrar.publish_raw("router.register", b"no json")
    registrar.register(unique_host(OPEN), backend=backend, options={"mtls_allowed_apps": {"nested": 1}})
    assert watched.grew("nats_messages_dropped", reason="not_json") == 1
    assert watched.grew("route_options_rejected") == 1


def test_the_doors(router: RouterProcess, registrar: Registrar, backend: EchoBackend, east_ca: CA, west_ca: CA) -> None:
    """R52: handshakes, decisions and misdirected requests, by domain, with bounded reasons."""
    name, domain = unique_host(EAST), f"*.{EAST}"
    registrar.register(name, backend=backend, options={"mtls_allowed_apps": "app-1"})
    watched = Watched(router)
    mine, other = east_ca.issue_instance("app-1"), east_ca.issue_instance("app-2")
    assert get(router.ssl_port, name, tls=Tls(name, credential=mine)).status == 200
    assert get(router.ssl_port, name, tls=Tls(name, credential=other)).status == 403
    assert get(router.port, name).status == 421
    assert expect_alert(router.ssl_port, Tls(name, credential=west_ca.issue_instance("app-1"))) == Alert.UNKNOWN_CA
    assert expect_alert(router.ssl_port, Tls(name)) == Alert.CERTIFICATE_REQUIRED
    assert watched.grew("tls_handshakes", domain=domain, result="ok") == 2
    assert watched.grew("tls_handshakes", domain=domain) == 4
    assert watched.grew("mtls_decisions", domain=domain, result="allowed") == 1
    assert watched.grew("mtls_decisions", domain=domain, result="deny") == 2
    assert watched.grew("mtls_misdirected", domain=domain) == 1
    assert watched.grew("connections_accepted", listener="https") == 4
    assert watched.grew("connections_refused") == 2
    labels = "".join(line for line in router.metrics().splitlines() if line.startswith(("mtls_", "tls_")))
    assert "app-1" not in labels
    assert name not in labels


@pytest.mark.parametrize(
    ("metric", "authority_name", "status"),
    [("backend_invalid_id", "backends", 503), ("backend_invalid_tls_cert", "strangers", 526)],
)
def test_backend_identity(
    make_router: MakeRouter, nats_server: NatsServer, make_backend: Callable[..., EchoBackend], metric: str,
    authority_name: str, status: int,
) -> None:  # fmt: skip
    """Contract h: GoRouter's counts of backends that are not who they should be."""
    router, name = make_router(ca_certs=[authority("backends").pem]), unique_host(OPEN)
    backend = make_backend("odd", credential=authority(authority_name).issue_server("another.internal"))
    with Registrar(nats_server.port, router) as registrar:
        registrar.register(name, backend=backend, server_cert_domain_san="right.internal")
    assert get(router.port, name).status == status
    assert router.metric(metric) == 1
    assert backend.received == []


def test_a_backend_without_tls(router: RouterProcess, registrar: Registrar, watched: Watched) -> None:
    """Contract d, h: what answers a ClientHello with anything but TLS is 525, counted as a failed backend handshake."""

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    name = unique_host(OPEN)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        registrar.register(name, backend=9, port=0, tls_port=listener.getsockname()[1], server_cert_domain_san="x")
        assert get(router.port, name).status == 525
        thread.join()
    assert watched.grew("backend_tls_handshake_failed") == 1


def test_no_endpoint_to_choose(router: RouterProcess, registrar: Registrar, backend: EchoBackend, watched: Watched) -> None:
    """Backend-selection errors by reason."""
    app = "01234567-89ab-4cde-8f01-23456789abcd"
    name = unique_host(OPEN)
    registrar.register(name, backend=backend, app=app)
    assert get(router.port, name, headers=[("X-CF-App-Instance", f"{app}:5")]).status == 400
    assert watched.grew("backend_selection_errors", reason="instance") == 1


def test_open_connections_and_descriptors(make_router: MakeRouter) -> None:
    """Contract h: gauges follow what is open; of several processes the fullest one's descriptors would be shown."""
    router = make_router(workers=0)
    before, descriptors = router.metric("connections_open"), router.metric("file_descriptors")
    with Client(router.port), Client(router.port):
        wait_until(lambda: router.metric("connections_open") >= before + 2, "the connections to be seen")
        assert router.metric("file_descriptors") >= descriptors + 2
    wait_until(lambda: router.metric("connections_open") <= before, "the connections to be gone")


def test_certificates_tell_when_they_end(router: RouterProcess) -> None:
    """R63: certificate_expiry_seconds by name, in epoch seconds."""
    values = router.metric_values("certificate_expiry_seconds")
    assert len(values) >= 1
    assert all(time.time() < value < time.time() + 100 * 86400 for value in values.values())


def test_latency_by_app_only_where_asked_for(
    make_router: MakeRouter, nats_server: NatsServer, backend: EchoBackend, router: RouterProcess
) -> None:
    """Contract h: http_latency_seconds{source_id} exists with per_app_prometheus_http_metrics_reporting, and only then."""
    assert "http_latency_seconds" not in types_of(router.metrics())
    own, name = make_router(per_app_prometheus_http_metrics_reporting=True), unique_host(OPEN)
    with Registrar(nats_server.port, own) as registrar:
        registrar.register(name, backend=backend, app="app-of-mine")
    assert get(own.port, name).status == 200
    assert own.metric("http_latency_seconds_count", source_id="app-of-mine") == 1


def test_a_lost_client_counts_as_no_status_of_a_backend(
    router: RouterProcess, host: str, backend: EchoBackend, watched: Watched
) -> None:
    """Contract h: a client that left is a 4xx (499), not a bad gateway."""

    def wait(exchange: Exchange) -> None:
        exchange.recv()

    backend.script(wait)
    with Client(router.port) as client:
        client.send(render_request(host))
        wait_until(lambda: backend.received, "the request")
        client.reset()
    wait_until(lambda: watched.grew("responses", status_group="4xx") == 1, "the exchange to end")
    assert watched.grew("bad_gateways") == 0


def test_metrics_addr_is_another_name_for_the_endpoint(make_router: MakeRouter) -> None:
    """`metrics.{addr,path}` serves the same page."""
    router = make_router(start=False)
    router.start()
    port = router.metrics_port
    router.stop()
    other = make_router(prometheus=None, metrics={"addr": f"127.0.0.1:{port}", "path": "/my-metrics"})
    assert b"total_routes" in other.fetch(port, "/my-metrics").body
    assert other.fetch(port, "/metrics").status == 404


def test_the_endpoint_can_demand_a_certificate(make_router: MakeRouter) -> None:
    """Contract g.1: cert_path, key_path and ca_path: HTTPS, for scrapers of that authority only."""
    ca = authority("scrapers")
    chain, key = ca.issue_server("localhost").files()
    router = make_router(start=False)
    router.start()
    port = router.metrics_port
    router.stop()
    pems = {"cert_path": str(chain), "key_path": str(key), "ca_path": str(ca.file)}
    make_router(prometheus={"enabled": True, "port": port, **pems})
    answer = get(port, "localhost", "/metrics", tls=Tls(credential=ca.issue_instance("scraper"), trust=ca))
    assert answer.status == 200
    assert expect_alert(port, Tls(trust=ca)) in (None, Alert.CERTIFICATE_REQUIRED)  # closed, whatever it says
