"""The promise: every bound and deadline that an operator can set has its effect, exactly there and nowhere below."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import authority
from tests.support.client import Client, Response, Tls, get, render_request
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, wait_until

HEAD_BYTES, FIELDS, BODY_BYTES = 2000, 20, 1000
RESPONSE_HEAD_BYTES, RESPONSE_FIELDS = 3000, 30
READ_HEADER, IDLE, STALL, ENDPOINT = 0.5, 0.75, 0.5, 0.75
LATE = 1.5
"""Seconds by which the end may come after its deadline on a busy machine."""


@pytest.fixture(scope="module")
def tight(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """A router with small bounds."""
    with RouterProcess(
        tmp_path_factory.mktemp("tight"), nats=nats_server,
        max_request_header_bytes=HEAD_BYTES, max_request_headers=FIELDS, max_request_body_bytes=BODY_BYTES,
        max_response_header_bytes=RESPONSE_HEAD_BYTES, max_response_headers=RESPONSE_FIELDS,
        read_header_timeout=f"{READ_HEADER}s", frontend_idle_timeout=f"{IDLE}s", client_stall_timeout=f"{STALL}s",
        endpoint_timeout=f"{ENDPOINT}s", endpoint_dial_timeout="500ms", tls_handshake_timeout="500ms",
        backends={"max_conns": 1, "max_attempts": 2}, max_route_options_size=40, skip_ssl_validation=False,
        ca_certs=[authority("backends").pem],
    ) as process:  # fmt: skip
        yield process


@pytest.fixture(scope="module")
def tight_registrar(nats_server: NatsServer, tight: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, tight) as made:
        yield made


@pytest.fixture
def host(tight_registrar: Registrar, backend: EchoBackend) -> str:
    name = unique_host(OPEN)
    tight_registrar.register(name, backend=backend)
    return name


@pytest.fixture
def patient(tight: RouterProcess) -> Iterator[RouterProcess]:
    """The same, whose deadline of an endpoint is far off: on a busy machine it could pass together with a shorter one."""
    with tight.restored():
        assert tight.reload(endpoint_timeout="30s") == {'result="ok"': 1}
        yield tight


def refusal(response: Response) -> tuple[int, str | None]:
    return response.status, response.get("x-cf-routererror")


def exchange(port: int, data: bytes) -> tuple[Response, bool]:
    """The answer to these bytes, and whether the connection was closed after it."""
    with Client(port) as client:
        client.send(data)
        response = client.read_response()
        return response, response.get("connection") == "close" and client.closed_by_server()


# Requests


def test_the_bytes_of_a_head(tight: RouterProcess, host: str, backend: EchoBackend) -> None:
    """R43, max_request_header_bytes: a head of that size passes, one byte more is 431 and a close."""
    bare = len(render_request(host, headers=[("X-Fill", "")]))
    fits = render_request(host, headers=[("X-Fill", "a" * (HEAD_BYTES - bare))])
    assert len(fits) == HEAD_BYTES
    assert exchange(tight.port, fits)[0].status == 200
    response, closed = exchange(tight.port, fits.replace(b"a", b"aa", 1))
    assert (refusal(response), closed) == ((431, "max-request-size-exceeded"), True)
    assert len(backend.received) == 1


def test_the_fields_of_a_head(tight: RouterProcess, host: str, backend: EchoBackend) -> None:
    """R43, max_request_headers: so many fields pass, one more is 431 and a close."""
    more = [(f"X-{number}", "1") for number in range(FIELDS - 1)]  # with Host
    assert get(tight.port, host, headers=more).status == 200
    response, closed = exchange(tight.port, render_request(host, headers=[*more, ("X-Last", "1")]))
    assert (refusal(response), closed) == ((431, "max-request-size-exceeded"), True)
    assert len(backend.received) == 1


def test_a_stated_body_length(tight: RouterProcess, host: str, backend: EchoBackend) -> None:
    """R44, max_request_body_bytes: so many bytes pass, a greater Content-Length is 413 before any backend contact."""
    assert get(tight.port, host, method="POST", body=b"x" * BODY_BYTES).status == 200
    head = render_request(host, method="POST", headers=[("Content-Length", str(BODY_BYTES + 1))])
    response, closed = exchange(tight.port, head)
    assert (refusal(response), closed) == ((413, "request_body_too_large"), True)
    assert len(backend.received) == 1


def test_a_chunked_body(tight: RouterProcess, host: str, backend: EchoBackend) -> None:
    """R44, max_request_body_bytes: a chunked body is 413 as soon as it is longer; the backend never has it whole."""
    chunked = [("Transfer-Encoding", "chunked")]
    fits = b"%x\r\n%b\r\n0\r\n\r\n" % (BODY_BYTES, b"x" * BODY_BYTES)
    assert get(tight.port, host, method="POST", headers=chunked, body=fits).status == 200
    head = render_request(host, method="POST", headers=chunked)
    response, closed = exchange(tight.port, head + b"%x\r\n%b\r\n" % (BODY_BYTES + 1, b"x" * (BODY_BYTES + 1)))
    assert (refusal(response), closed) == ((413, "request_body_too_large"), True)
    assert [received.complete for received in backend.received] in ([True], [True, False])


def test_the_time_of_a_head(tight: RouterProcess, host: str) -> None:
    """read_header_timeout: a head begun and not ended gets 408 at its deadline, on a used connection too."""
    with Client(tight.port) as client:
        assert client.request(host).status == 200
        began = time.monotonic()
        client.send(b"GET / HTTP/1.1\r\nHo")
        assert refusal(client.read_response()) == (408, "request_timeout")
        assert READ_HEADER <= time.monotonic() - began < READ_HEADER + LATE
        assert client.closed_by_server()


def test_the_time_between_requests(tight: RouterProcess, host: str) -> None:
    """frontend_idle_timeout: a connection without a request ends without a word; each request starts it anew."""
    with Client(tight.port) as client:
        for _ in range(3):
            assert client.request(host).status == 200
            time.sleep(IDLE / 2)
        began = time.monotonic()
        assert client.request(host).status == 200
        assert client.read_all() == b""
        assert IDLE <= time.monotonic() - began < IDLE + LATE


def test_the_time_between_bytes_of_a_body(tight: RouterProcess, host: str, backend: EchoBackend) -> None:
    """client_stall_timeout: a body may be slow but not stop: 408 and a close, and no whole request."""
    with Client(tight.port) as client:
        client.send(render_request(host, method="POST", headers=[("Content-Length", "10")]))
        client.send(b"half")
        began = time.monotonic()
        assert refusal(client.read_response()) == (408, "request_timeout")
        assert time.monotonic() - began < STALL + LATE
        assert client.closed_by_server()
    assert not any(received.complete for received in backend.received)


# Responses and backends


def test_the_time_of_a_backend(tight: RouterProcess, host: str, backend: EchoBackend) -> None:
    """Contract f.3, endpoint_timeout: no response in time is 502, and the connection can go on."""
    backend.script(lambda exchange: exchange.recv())
    with Client(tight.port) as client:
        began = time.monotonic()
        assert refusal(client.request(host)) == (502, "endpoint_failure (timeout)")
        assert ENDPOINT <= time.monotonic() - began < ENDPOINT + LATE
        assert client.request(host).status == 200


def test_the_time_of_a_response_body(tight: RouterProcess, host: str, backend: EchoBackend) -> None:
    """Contract f.3, endpoint_timeout: a response that has begun and does not end in time is cut off."""

    def half(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        exchange.recv()

    backend.script(half)
    with Client(tight.port) as client, pytest.raises((EOFError, ConnectionError)):
        client.request(host)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([b"X-Fill: " + b"a" * 2000], 200),
        ([b"X-Fill: " + b"a" * RESPONSE_HEAD_BYTES], 502),
        ([b"X-%d: 1" % number for number in range(RESPONSE_FIELDS - 1)], 200),
        ([b"X-%d: 1" % number for number in range(RESPONSE_FIELDS)], 502),
    ],
    ids=["bytes within", "bytes beyond", "fields within", "fields beyond"],
)
def test_the_head_of_a_response(tight: RouterProcess, host: str, backend: EchoBackend, fields: list[bytes], status: int) -> None:
    """Contract d, max_response_header_bytes and max_response_headers: a larger head is 502, not passed on in part."""
    backend.script(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"\r\n".join(fields) + b"\r\n\r\n")
    assert get(tight.port, host).status == status


def test_requests_in_flight_at_an_endpoint(tight: RouterProcess, host: str, backend: EchoBackend) -> None:
    """Contract d, backends.max_conns: beyond it 503 `Connection Limit Reached`, counted; free again with the response."""
    go_on = threading.Event()

    def wait(exchange: Exchange) -> None:
        go_on.wait(ENDPOINT)
        exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    backend.script(wait)
    exhausted = tight.metric("backend_exhausted_conns")
    with Client(tight.port) as client:
        client.send(render_request(host))
        wait_until(lambda: backend.received, "the request to be in flight")
        assert refusal(get(tight.port, host)) == (503, "Connection Limit Reached")
        go_on.set()
        assert client.read_response().status == 204
    assert get(tight.port, host).status == 200
    assert tight.metric("backend_exhausted_conns") == exhausted + 1


def test_attempts(tight: RouterProcess, tight_registrar: Registrar) -> None:
    """Contract f.2, backends.max_attempts: so many endpoints are tried, not more."""
    host = unique_host(OPEN)
    dead = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
    ports = [one.getsockname()[1] for one in dead]
    for one in dead:
        one.close()
    for port in ports:
        tight_registrar.register(host, backend=port, wait=port == ports[-1])
    assert refusal(get(tight.port, host)) == (502, "endpoint_failure (dial failed)")

    def failed() -> int:
        return sum("backend-endpoint-failed" in line and host in line for line in tight.events)

    wait_until(lambda: failed() == 2, "both attempts in the log")


def test_the_time_of_a_dial(patient: RouterProcess, tight_registrar: Registrar) -> None:
    """Contract f.3, endpoint_dial_timeout: an endpoint that does not take the connection costs no more than this."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # the kernel keeps one or two that nobody accepts, and answers no more after that
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        host = unique_host(OPEN)
        tight_registrar.register(host, backend=full.getsockname()[1])
        began = time.monotonic()
        assert refusal(get(patient.port, host)) == (502, "endpoint_failure (dial timeout)")
        assert 0.5 <= time.monotonic() - began < 0.5 + LATE


def test_the_time_of_a_backend_handshake(patient: RouterProcess, tight_registrar: Registrar) -> None:
    """Contract f.3, tls_handshake_timeout: a TLS endpoint that says nothing is given up."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        host = unique_host(OPEN)
        tight_registrar.register(host, backend=9, port=0, tls_port=mute.getsockname()[1], server_cert_domain_san="x")
        assert refusal(get(patient.port, host)) == (502, "endpoint_failure (TLS handshake timeout)")


def test_the_size_of_route_options(tight: RouterProcess, tight_registrar: Registrar, backend: EchoBackend) -> None:
    """R257, max_route_options_size: a larger map is rejected as a whole and counted; on an open domain the route serves."""
    host = unique_host(OPEN)
    before = tight.metric("route_options_rejected")
    tight_registrar.register(host, backend=backend, options={"loadbalancing": "round-robin", "x": "y" * 40})
    assert tight.metric("route_options_rejected") == before + 1
    assert get(tight.port, host).status == 200


@pytest.mark.parametrize(
    ("settings", "connections"),
    [({}, 1), ({"disable_keep_alives": True}, 3), ({"max_idle_conns": 0}, 3), ({"max_idle_conns_per_host": 0}, 3)],
    ids=["default", "disable_keep_alives", "max_idle_conns", "max_idle_conns_per_host"],
)
def test_idle_backend_connections(
    make_router: MakeRouter, nats_server: NatsServer, backend: EchoBackend, settings: dict[str, object], connections: int
) -> None:
    """Contract f.4: backend connections are kept for the next request, unless the operator wants none kept."""
    router, host = make_router(**settings), unique_host(OPEN)  # type: ignore[arg-type]
    with Registrar(nats_server.port, router) as registrar:
        registrar.register(host, backend=backend)
    with Client(router.port) as client:
        assert [client.request(host).status for _ in range(3)] == [200] * 3
    assert backend.connections == connections


# Connections


def is_shed(router: RouterProcess, address: str = "127.0.0.1") -> bool:
    """Whether a new connection from an address is reset before its request is answered."""
    try:
        with socket.create_connection(("127.0.0.1", router.port), 5, source_address=(address, 0)) as one:
            one.sendall(b"GET / HTTP/1.1\r\nHost: nobody.invalid\r\nConnection: close\r\n\r\n")
            return one.recv(9) == b""
    except ConnectionError:
        return True


@contextlib.contextmanager
def held(router: RouterProcess, count: int, port: int | None = None) -> Iterator[list[socket.socket]]:
    """So many open connections that the router has accepted."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", port or router.port), 5)) for _ in range(count)]
        wait_until(lambda: router.metric("connections_open") >= count, "the router to accept them")
        yield sockets


def test_connections_of_a_listener(make_router: MakeRouter) -> None:
    """max_connections: what is more is reset and counted; the other listener has its own count."""
    router = make_router(max_connections=4)
    with held(router, 4) as sockets:
        assert is_shed(router)
        assert router.metric("connections_shed", reason="max_connections") == 1
        assert get(router.ssl_port, "nobody.invalid", tls=Tls("nobody.invalid")).status == 404
        sockets[0].close()
        wait_until(lambda: not is_shed(router), "a place to be free again")


def test_connections_of_an_address(make_router: MakeRouter) -> None:
    """max_connections_per_address: one address cannot take the places of the others."""
    router = make_router(max_connections_per_address=3)
    with held(router, 3):
        assert is_shed(router)
        assert not is_shed(router, "127.0.0.2")
        assert router.metric("connections_shed", reason="per_address") == 1
    wait_until(lambda: not is_shed(router), "a place to be free again")


@pytest.mark.parametrize("key", ["connection_rate", "connection_rate_per_address"])
def test_the_rate_of_new_connections(make_router: MakeRouter, key: str) -> None:
    """More new connections a second, in all or from one address, are reset; the next second is a new one."""
    router = make_router(**{key: 5})  # type: ignore[arg-type]
    shed = [is_shed(router) for _ in range(14)]
    # The crowd may fall into two windows of one second.
    assert 4 <= sum(shed) <= 9
    assert router.metric("connections_shed", reason="rate") == sum(shed)
    assert is_shed(router, "127.0.0.2") == (key == "connection_rate")
    wait_until(lambda: not is_shed(router), "the next second")


def test_handshakes_in_flight(make_router: MakeRouter) -> None:
    """Attack 27, max_handshakes: the oldest unfinished handshake gives way to a new one; established connections stay."""
    router = make_router(max_handshakes=4, workers=0)  # each worker has its own
    with Client(router.ssl_port, Tls("nobody.invalid")) as established:
        assert established.request("nobody.invalid").status == 404
        with held(router, 4, router.ssl_port) as sockets:
            assert get(router.ssl_port, "nobody.invalid", tls=Tls("nobody.invalid")).status == 404
            with contextlib.suppress(ConnectionError):
                assert sockets[0].recv(1) == b""
            sockets[3].setblocking(False)
            with pytest.raises(BlockingIOError):
                sockets[3].recv(1)
        assert router.metric("connections_shed", reason="max_handshakes") == 1
        assert established.request("nobody.invalid").status == 404
