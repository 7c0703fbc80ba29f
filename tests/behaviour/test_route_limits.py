"""The promise: a route's own limits hold, for it alone, and only ever lower the operator's; `trim-path` removes just the path."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.behaviour.conftest import ANY, LATER, At
from tests.conftest import OPEN
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import Credential
from tests.support.client import Client, Response, get, render_request
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, wait_until

LATE = 1.5
"""Seconds by which an end may come after its deadline on a busy machine."""
ENDPOINT, BODY = 0.75, 1000


@pytest.fixture(scope="module")
def narrow(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """An operator with low limits of their own."""
    with RouterProcess(
        tmp_path_factory.mktemp("narrow"), nats=nats_server, endpoint_timeout=f"{int(ENDPOINT * 1000)}ms",
        max_request_body_bytes=BODY, backends={"max_conns": 1}, trusted_proxies=[],
    ) as process:  # fmt: skip
        yield process


@pytest.fixture
def narrow_registrar(nats_server: NatsServer, narrow: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, narrow) as made:
        yield made


@pytest.fixture
def host() -> str:
    return unique_host(OPEN)


def refusal(response: Response) -> tuple[int, str | None]:
    return response.status, response.get("x-cf-routererror")


@contextlib.contextmanager
def busy(router: RouterProcess, host: str, backend: EchoBackend) -> Iterator[None]:
    """One request is in flight."""
    go_on = threading.Event()

    def wait(exchange: Exchange) -> None:
        go_on.wait(10)
        exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    backend.script(wait)
    with Client(router.port) as client:
        client.send(render_request(host))
        wait_until(lambda: backend.received, "the request to be in flight")
        try:
            yield
        finally:
            go_on.set()
            client.read_response()


# connection-limit


def test_requests_in_flight_at_an_endpoint(router: RouterProcess, registrar: Registrar, host: str, backend: EchoBackend) -> None:
    """`connection-limit`: beyond it 503 `Connection Limit Reached`, counted; another route to it is not concerned."""
    other = unique_host(OPEN)
    registrar.register(other, backend=backend)
    registrar.register(host, backend=backend, options={"connection-limit": 1})
    exhausted = router.metric("backend_exhausted_conns")
    with busy(router, host, backend):
        assert refusal(get(router.port, host)) == (503, "Connection Limit Reached")
        assert get(router.port, other).status == 200
    assert get(router.port, host).status == 200
    assert router.metric("backend_exhausted_conns") == exhausted + 1


@pytest.mark.parametrize("order", [(1, 5), (5, 1)])
def test_the_lowest_of_several_registrations_holds(
    router: RouterProcess, registrar: Registrar, host: str, backend: EchoBackend, second: EchoBackend, order: tuple[int, int]
) -> None:
    """Whatever their order, and for both endpoints: as with policies, who registers last widens nothing."""
    for one, limit in zip((backend, second), order, strict=True):
        registrar.register(host, backend=one, options={"connection-limit": limit})
    with busy_both(router, host, backend, second):
        assert refusal(get(router.port, host)) == (503, "Connection Limit Reached")


@pytest.fixture
def second() -> Iterator[EchoBackend]:
    with EchoBackend("second") as made:
        yield made


@contextlib.contextmanager
def busy_both(router: RouterProcess, host: str, one: EchoBackend, other: EchoBackend) -> Iterator[None]:
    go_on = threading.Event()

    def wait(exchange: Exchange) -> None:
        go_on.wait(10)
        exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    for backend in (one, other):
        backend.script(wait)
    with Client(router.port) as first, Client(router.port) as second:
        for client in (first, second):
            client.send(render_request(host))
        wait_until(lambda: one.received and other.received, "a request at each")
        try:
            yield
        finally:
            go_on.set()
            for client in (first, second):
                client.read_response()


def test_a_route_does_not_raise_what_the_operator_set(
    narrow: RouterProcess, narrow_registrar: Registrar, host: str, backend: EchoBackend
) -> None:
    """`connection-limit`, `request-timeout-seconds`, `max-request-bytes`: the operator's are lower, and hold."""
    wide = {"connection-limit": 100, "request-timeout-seconds": 60, "max-request-bytes": 10 * BODY}
    narrow_registrar.register(host, backend=backend, options=wide)
    head = render_request(host, method="POST", headers=[("Content-Length", str(BODY + 1))])
    with Client(narrow.port) as client:
        client.send(head)
        assert refusal(client.read_response()) == (413, "request_body_too_large")
    with busy(narrow, host, backend):
        assert refusal(get(narrow.port, host)) == (503, "Connection Limit Reached")
    backend.script(lambda exchange: exchange.recv())
    began = time.monotonic()
    assert refusal(get(narrow.port, host)) == (502, "endpoint_failure (timeout)")
    assert time.monotonic() - began < ENDPOINT + LATE


# request-timeout-seconds


def test_the_time_of_a_request(router: RouterProcess, registrar: Registrar, host: str, backend: EchoBackend) -> None:
    """`request-timeout-seconds`: no response in time is 502, as with `endpoint_timeout`."""
    registrar.register(host, backend=backend, options={"request-timeout-seconds": 0.5})
    backend.script(lambda exchange: exchange.recv())
    began = time.monotonic()
    assert refusal(get(router.port, host)) == (502, "endpoint_failure (timeout)")
    assert 0.5 <= time.monotonic() - began < 0.5 + LATE
    assert get(router.port, host).status == 200


def test_a_response_that_does_not_end_in_time_is_cut_off(
    router: RouterProcess, registrar: Registrar, host: str, backend: EchoBackend
) -> None:
    """`request-timeout-seconds`: to the response's end."""

    def half(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        exchange.recv()

    registrar.register(host, backend=backend, options={"request-timeout-seconds": 0.5})
    backend.script(half)
    with Client(router.port) as client, pytest.raises((EOFError, ConnectionError)):
        client.request(host)


def test_the_time_of_a_dial_counts(router: RouterProcess, registrar: Registrar, host: str) -> None:
    """`request-timeout-seconds`: from dialling on; that the developer was short of time is no mark against the endpoint."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # the kernel keeps one or two that nobody accepts, and answers no more after that
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        registrar.register(host, backend=full.getsockname()[1], options={"request-timeout-seconds": 0.4})
        began = time.monotonic()
        assert refusal(get(router.port, host)) == (502, "endpoint_failure (timeout)")
        assert 0.4 <= time.monotonic() - began < 0.4 + LATE


# max-request-bytes


def test_the_bytes_of_a_body(router: RouterProcess, registrar: Registrar, host: str, backend: EchoBackend) -> None:
    """`max-request-bytes`: so many pass; a greater Content-Length is 413 with no backend contact, a longer stream once seen."""
    registrar.register(host, backend=backend, options={"max-request-bytes": 100})
    assert get(router.port, host, method="POST", body=b"x" * 100).status == 200
    with Client(router.port) as client:
        client.send(render_request(host, method="POST", headers=[("Content-Length", "101")]))
        assert refusal(client.read_response()) == (413, "request_body_too_large")
        assert client.closed_by_server()
    assert len(backend.received) == 1
    with Client(router.port) as client:
        client.send(render_request(host, method="POST", headers=[("Transfer-Encoding", "chunked")]) + b"65\r\n" + b"x" * 101)
        assert refusal(client.read_response()) == (413, "request_body_too_large")
    assert not any(received.complete for received in backend.received[1:])


# rate-limit-rps


def test_the_rate_of_a_route(router: RouterProcess, registrar: Registrar, host: str, backend: EchoBackend) -> None:
    """`rate-limit-rps`: one burst, then 429 with Retry-After and a code, counted; no backend sees it; later 200 again."""
    other = unique_host(OPEN)
    registrar.register(other, backend=backend)
    registrar.register(host, backend=backend, options={"rate-limit-rps": 1})
    limited = router.metric("rate_limited_requests")
    with Client(router.port) as client:
        assert client.request(host).status == 200
        answer = client.request(host)
        assert refusal(answer) == (429, "rate_limit_exceeded")
        assert answer.get("retry-after") == "1"
        assert answer.body.startswith(b"429 Too Many Requests: ")
        assert client.request(other).status == 200
        assert len(backend.received) == 2
        assert router.metric("rate_limited_requests") == limited + 1
        wait_until(lambda: client.request(host).status == 200, "the bucket to fill")


def test_a_burst_is_one_second_of_the_rate(router: RouterProcess, registrar: Registrar, host: str, backend: EchoBackend) -> None:
    """`rate-limit-rps`: and registering again does not fill the bucket."""
    registrar.register(host, backend=backend, options={"rate-limit-rps": 0.02})
    assert [get(router.port, host).status for _ in range(3)] == [200, 429, 429]
    registrar.register(host, backend=backend, options={"rate-limit-rps": 0.03})
    assert get(router.port, host).status == 429
    registrar.register(host, backend=backend)
    assert get(router.port, host).status == 200


def test_who_is_denied_takes_nothing_from_who_is_not(at: At, alice: Credential, bob: Credential) -> None:
    """`rate-limit-rps` is asked last: a stranger gets 403, never 429, and cannot use up an allowed caller's share."""
    place = at(ANY, {"mtls_allowed_apps": "app-a", "rate-limit-rps": 0.02})
    assert [place.call(bob).response.status for _ in range(3)] == [403] * 3
    assert [place.call(alice).response.status for _ in range(2)] == [200, 429]
    assert place.call(bob).response.status == 403


def test_who_is_out_of_every_scope_takes_nothing_either(at: At, alice: Credential, bob: Credential) -> None:
    """`rate-limit-rps`, decision 7: a caller whose space has no endpoint here is denied, and learns nothing of the rate."""
    options = {"route_policy_scope": "space", "route_policy_sources": "cf:any", "rate-limit-rps": 0.02}
    place = at(LATER, options, tags={"organization_id": "org-1", "space_id": "space-1"})
    assert [place.call(bob).response.status for _ in range(3)] == [403] * 3
    assert [place.call(alice).response.status for _ in range(2)] == [200, 429]


# trim-path


def test_the_path_of_the_route_is_removed(router: RouterProcess, registrar: Registrar, host: str, backend: EchoBackend) -> None:
    """`trim-path`: byte for byte otherwise; what was removed is in X-Forwarded-Prefix, whatever the client says there."""
    registrar.register(f"{host}/Api/v1", backend=backend, options={"trim-path": True})
    forged = [("X-Forwarded-Prefix", "//evil.example"), ("X_Forwarded_Prefix", "/x")]
    for sent, expected in (
        ("/api/V1/a%2Fb//c?q=/api/v1", "/a%2Fb//c?q=/api/v1"),
        ("/api/v1", "/"),
        ("/api/v1?q", "/?q"),
        (f"http://{host}/api/v1/x", f"http://{host}/x"),
    ):
        assert get(router.port, host, sent, headers=forged).status == 200
        assert backend.last.request_line == f"GET {expected} HTTP/1.1"
        assert backend.last.all("x-forwarded-prefix") == ["/Api/v1"]
        assert backend.last.all("x_forwarded_prefix") == []


@pytest.mark.parametrize("target", ["/api//evil.example", "/api/../api/x", "/api/%2e%2e/api/x", "/api/x/../../api"])
def test_an_ambiguous_path_is_refused(
    router: RouterProcess, registrar: Registrar, host: str, backend: EchoBackend, target: str
) -> None:
    """`trim-path`, decision 10: 400 where what is left could mean another place, also where only one endpoint trims."""
    registrar.register(f"{host}/api", backend=backend, options={"trim-path": True})
    assert refusal(get(router.port, host, target)) == (400, "malformed_request")
    assert backend.received == []


def test_each_endpoint_has_the_path_that_it_asked_for(
    router: RouterProcess, registrar: Registrar, host: str, backend: EchoBackend, second: EchoBackend
) -> None:
    """`trim-path`: while an app is rolled out, old and new instances both get what they understand."""
    registrar.register(f"{host}/api", backend=backend, options={"trim-path": True})
    registrar.register(f"{host}/api", backend=second)
    for _ in range(4):
        assert get(router.port, host, "/api/x").status == 200
    assert {one.request_line for one in backend.received} == {"GET /x HTTP/1.1"}
    assert {one.request_line for one in second.received} == {"GET /api/x HTTP/1.1"}
    assert second.last.all("x-forwarded-prefix") == []


# Invalid values


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"connection-limit": 0}, "connection-limit"),
        ({"rate-limit-rps": "1/s"}, "rate-limit-rps"),
        ({"trim-path": 1}, "trim-path"),
    ],
)
def test_an_invalid_value_is_left_out_with_one_warning(
    router: RouterProcess, registrar: Registrar, host: str, backend: EchoBackend, options: dict[str, Any], key: str
) -> None:
    """RFC-0027: the operator's default stays in effect, the other options hold, and repeating it says nothing new."""
    for index in range(2):
        registrar.register(f"{host}/api", backend=backend, options={**options, "max-request-bytes": 5}, index=index)
    assert get(router.port, host, "/api/x").status == 200
    assert backend.last.request_line == "GET /api/x HTTP/1.1"
    assert refusal(get(router.port, host, "/api/x", method="POST", body=b"123456")) == (413, "request_body_too_large")
    assert sum("route-option-rejected" in line and host in line and key in line for line in router.events) == 1
