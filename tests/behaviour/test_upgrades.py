"""The promise: WebSocket and other upgrades over HTTP/1.1 pass both doors like any request, and nothing is relayed before the
backend has agreed to just what was asked.
"""

import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import EAST, OPEN
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import CA, Credential, authority
from tests.support.client import Client, Tls
from tests.support.failing import Mute
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain
from tests.support.site import Site, site
from tests.support.websocket import (
    KEY,
    Reader,
    accept_of,
    echo,
    frame,
    open_websocket,
    opening,
    read_frame,
    server,
    switching,
)


@pytest.fixture(scope="module")
def gate(nats_server: NatsServer, east_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """Its log is JSON, its endpoint deadline and its dial deadline for upgrades are short."""
    directory = tmp_path_factory.mktemp("gate")
    with RouterProcess(
        directory, nats=nats_server, mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)], ca_certs=[authority("backends").pem],
        access_log={"file": str(directory / "access.log"), "format": "json"},
        endpoint_timeout="600ms", websocket_dial_timeout="300ms",
    ) as process:  # fmt: skip
        yield process


@pytest.fixture(scope="module")
def gate_registrar(nats_server: NatsServer, gate: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, gate) as made:
        yield made


@pytest.fixture
def patient(gate: RouterProcess) -> Iterator[RouterProcess]:
    """The same, whose deadline of an endpoint is far off: on a busy machine it could pass together with that of the dial."""
    with gate.restored():
        assert gate.reload(endpoint_timeout="30s") == {'result="ok"': 1}
        yield gate


@pytest.fixture
def place(gate: RouterProcess, gate_registrar: Registrar) -> Iterator[Site]:
    with site(gate, gate_registrar) as made:
        yield made


@pytest.fixture(scope="module")
def caller(east_ca: CA) -> Credential:
    return east_ca.issue_instance("app-a", "space-1", "org-1")


def say(client: Client, text: bytes) -> bytes:
    """A masked frame there, and the payload that comes back."""
    client.send(frame(text, masked=True))
    return read_frame(Reader(client.recv))


def record_of(place: Site) -> dict[str, Any]:
    """The line of the access log about a place."""
    line: dict[str, Any] = json.loads(place.router.wait_for_log(place.host))
    return line


# The handshake


@pytest.mark.parametrize(
    "connection",
    [("Connection: Upgrade",), ("Connection: keep-alive, Upgrade",), ("Connection: keep-alive", "connection: upgrade")],
    ids=["alone", "listed", "repeated"],
)
def test_a_websocket_passes_whatever_the_form_of_its_connection_field(place: Site, connection: tuple[str, ...]) -> None:
    """R37: the fields of the upgrade are preserved and bytes flow both ways; Contract d: comma-separated and repeated too."""
    place.backend.script(echo)
    with place.client() as client:
        client.send(opening(place.host).replace(b"Connection: Upgrade", "\r\n".join(connection).encode()))
        response = client.read_response()
        assert (response.status, response.get("sec-websocket-accept")) == (101, accept_of(KEY))
        assert (response.get("connection"), response.get("upgrade")) == ("Upgrade", "websocket")
        assert [say(client, text) for text in (b"one", b"x" * 70_000, b"bye")] == [b"one", b"x" * 70_000, b"bye"]
        assert client.closed_by_server()
    (seen,) = place.backend.received
    assert (seen.get("connection"), seen.get("upgrade")) == ("Upgrade", "websocket")
    assert (seen.get("sec-websocket-key"), seen.get("sec-websocket-version")) == (KEY, "13")
    assert seen.get("x-forwarded-for") == "127.0.0.1"


def test_a_websocket_passes_both_doors_over_mtls_to_a_backend_over_tls(
    gate: RouterProcess, gate_registrar: Registrar, caller: Credential, make_backend: Callable[..., EchoBackend]
) -> None:
    """R37: TLS on both sides; the backend is told who is calling, and whom the route does not name gets a 403."""
    backend = make_backend(credential=authority("backends").issue_server("app.internal"))
    host = unique_host(EAST)
    gate_registrar.register(
        host, backend=backend, server_cert_domain_san="app.internal", options={"mtls_allowed_apps": "app-a"}
    )  # fmt: skip
    backend.always(echo)
    with Client(gate.ssl_port, Tls(host, caller)) as client:
        open_websocket(client, host)
        assert [say(client, text) for text in (b"one", b"x" * 70_000, b"bye")] == [b"one", b"x" * 70_000, b"bye"]
        assert client.closed_by_server()
    assert "app:app-a" in (backend.received[0].get("x-forwarded-client-cert") or "")
    stranger = authority("east instance identity").issue_instance("app-b", "space-1", "org-1")
    with Client(gate.ssl_port, Tls(host, stranger)) as client:
        client.send(opening(host) + frame(b"early", masked=True))
        assert client.read_response().status == 403
    assert len(backend.received) == 1


def test_bytes_behind_the_heads_are_relayed_once_and_in_order(place: Site) -> None:
    """R37: the client's frames that came with its request, and the backend's that came with its 101."""
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def after(exchange: Exchange) -> None:
        read = Reader(exchange.recv)
        heard.put(read_frame(read) + read_frame(read))
        exchange.close()

    place.backend.script(server(after, first=frame(b"hello") + frame(b"again")))
    with place.client() as client:
        client.send(opening(place.host) + frame(b"early ", masked=True))
        assert client.read_response().status == 101
        read = Reader(client.recv)
        assert (read_frame(read), read_frame(read)) == (b"hello", b"again")
        client.send(frame(b"late", masked=True))
        assert heard.get(timeout=10) == b"early late"


@pytest.mark.parametrize(
    ("asked", "answered"), [("foo/1", "foo/1"), ("foo/2, bar", "bar"), ("h2c, Foo/1", "foo/1"), ("websocket, foo/1", "foo/1")]
)
def test_any_other_protocol_passes_too(place: Site, asked: str, answered: str) -> None:
    """R37: the backend takes one of the protocols that were asked for, and its bytes are not looked at."""

    def agree(exchange: Exchange) -> None:
        exchange.send(switching("", protocol=answered) + b"\x00\xff not HTTP")
        exchange.send(exchange.recv()[::-1])
        exchange.close()

    place.backend.script(agree)
    request = f"POST / HTTP/1.1\r\nHost: {place.host}\r\nConnection: upgrade\r\nUpgrade: {asked}\r\n\r\n"
    with place.client() as client:
        client.send(request.encode())
        response = client.read_response()
        assert (response.status, response.get("upgrade")) == (101, answered)
        assert Reader(client.recv)(len(b"\x00\xff not HTTP")) == b"\x00\xff not HTTP"
        client.send(b"abc\r\n\r\n")
        assert client.read_all() == b"\n\r\n\rcba"
    told = place.backend.last.get("upgrade")
    assert told == ", ".join(each for each in asked.split(", ") if each not in ("h2c", "websocket"))


@pytest.mark.parametrize(
    "request_lines",
    [
        ("GET / HTTP/1.0", "Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}"),
        ("GET / HTTP/1.1", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}"),
        ("GET / HTTP/1.1", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}"),
        ("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"),
        ("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: short"),
        ("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", *(f"Sec-WebSocket-Key: {KEY}",) * 2),
        ("POST / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}"),
        ("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}", "Content-Length: 4"),
        ("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: h2c"),
        ("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: HTTP/2.0"),
        ("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: TLS/1.2"),
        ("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: a b"),
        ("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: "),
    ],
    ids=[
        "HTTP/1.0", "not named in Connection", "no protocol", "no key", "bad key", "two keys", "POST", "a body", "h2c", "HTTP/2",
        "TLS", "no token", "empty",
    ],
)  # fmt: skip
def test_what_is_no_upgrade_is_an_ordinary_request(place: Site, request_lines: tuple[str, ...]) -> None:
    """R37: the backend is not told of it, so it cannot agree; RFC 9113 section 3.1, RFC 6455 section 4.1."""
    body = "body" if "Content-Length: 4" in request_lines else ""
    lines = [request_lines[0], f"Host: {place.host}", *request_lines[1:]]
    with place.client() as client:
        client.send("\r\n".join([*lines, "", body]).encode())
        assert client.read_response().status == 200
    seen = place.seen()
    assert seen.all("upgrade") == seen.all("connection") == []


def test_a_websocket_is_sticky_like_any_request(
    gate: RouterProcess, gate_registrar: Registrar, make_backend: Callable[..., EchoBackend]
) -> None:
    """Contract f.5: the 101 of an app that sets its session cookie names the instance, and the next upgrade goes there."""
    host = unique_host(OPEN)
    backends = [make_backend(str(number)) for number in range(3)]
    for number, backend in enumerate(backends):
        gate_registrar.register(host, backend=backend, index=number)
        backend.always(
            lambda exchange: exchange.send(
                switching(exchange.request.get("sec-websocket-key") or "", "Set-Cookie: JSESSIONID=session-1")
            )
        )  # fmt: skip

    def cookies(*more: str) -> list[str]:
        with Client(gate.port) as client:
            return open_websocket(client, host, "/", *more).all("set-cookie")

    pin = next(one for one in cookies() if one.startswith("__VCAP_ID__=")).partition(";")[0]
    for _ in range(5):
        cookies(f"Cookie: JSESSIONID=session-1; {pin}")
    assert sorted(len(backend.received) for backend in backends) == [0, 0, 6]


# A backend that does not agree


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
    ],
    ids=["426", "200", "403 after 100"],
)
def test_another_answer_stays_an_ordinary_response(place: Site, answer: bytes) -> None:
    """Contract d: anything but 101 is HTTP: both connections go on, and the next bytes are judged as a request."""
    failures = place.router.metric("websocket_failures")
    place.backend.script(answer)
    with place.client() as client:
        client.send(opening(place.host) + b"GET /next HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
        assert client.read_response().body == b"no"
        assert client.read_response().status == 200
        assert client.request(place.host, "/third").status == 200
    place.backend.wait_for(3)
    assert [one.request_line for one in place.backend.received[1:]] == ["GET /next HTTP/1.1", "GET /third HTTP/1.1"]
    assert {one.connection for one in place.backend.received} == {1}
    assert place.router.metric("websocket_failures") == failures + 1


def test_a_backend_that_fails_is_a_bad_gateway(place: Site) -> None:
    """Contract d: 502 and the metric for failures, not a connection that just ends."""
    failures = place.router.metric("websocket_failures")
    place.backend.stop_listening()
    with place.client() as client:
        client.send(opening(place.host))
        response = client.read_response()
        assert (response.status, response.get("x-cf-routererror")) == (502, "endpoint_failure (dial failed)")
    assert place.router.metric("websocket_failures") == failures + 1


def test_an_upgrade_has_a_dial_deadline_of_its_own(patient: RouterProcess, gate_registrar: Registrar) -> None:
    """Contract f.3, websocket_dial_timeout: an endpoint that does not take the connection costs no more than this."""
    host = unique_host(OPEN)
    with Mute(full=True) as mute, Client(patient.port) as client:
        gate_registrar.register(host, backend=mute.port)
        client.send(opening(host))
        response = client.read_response()
        assert (response.status, response.get("x-cf-routererror")) == (502, "endpoint_failure (dial timeout)")
    line = json.loads(patient.wait_for_log(host))
    assert 0.3 <= line["response_time"] < 3


def test_a_route_service_takes_no_upgrade(gate: RouterProcess, gate_registrar: Registrar, backend: EchoBackend) -> None:
    """Contract d: 503 route_service_unsupported; the service is not bypassed."""
    host = unique_host(OPEN)
    gate_registrar.register(host, backend=backend, route_service_url="https://service.example")
    with Client(gate.port) as client:
        client.send(opening(host))
        response = client.read_response()
        assert (response.status, response.get("x-cf-routererror")) == (503, "route_service_unsupported")
    assert backend.received == []


# The end


def test_half_of_a_plain_connection_may_end(place: Site) -> None:
    """R37: a client that has said all still hears the rest, and so does a backend."""
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def after(exchange: Exchange) -> None:
        data = b""
        while piece := exchange.recv():
            data += piece
        exchange.send(b"after your end")
        heard.put(data)
        exchange.close()

    place.backend.script(server(after))
    with place.client() as client:
        open_websocket(client, place.host)
        client.send(b"all I have")
        client.half_close()
        assert client.read_all() == b"after your end"
    assert heard.get(timeout=10) == b"all I have"

    def end_first(exchange: Exchange) -> None:
        exchange.send(b"my last")
        exchange.half_close()
        heard.put(exchange.recv())
        exchange.close()

    place.backend.script(server(end_first))
    with place.client() as client:
        open_websocket(client, place.host)
        assert client.read_all() == b"my last"
        client.send(b"I still talk")
        assert heard.get(timeout=10) == b"I still talk"


def test_a_close_notify_ends_both_ways(place: Site) -> None:
    """R37: what TLS said before its end arrives; a backend that ignores the end is not listened to for long."""
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    released = threading.Event()

    def after(exchange: Exchange) -> None:
        data = b""
        while piece := exchange.recv():
            data += piece
        heard.put(data)
        released.wait(10)

    place.backend.script(server(after))
    with place.client(Tls(place.host)) as client:
        open_websocket(client, place.host)
        client.send(b"goodbye")
        client.half_close()
        assert heard.get(timeout=10) == b"goodbye"
        assert client.closed_by_server()
        released.set()
    assert record_of(place)["bytes_in"] == len(b"goodbye")


def test_one_record_at_the_end_has_the_bytes_of_both_ways(place: Site) -> None:
    """Contract d: status 101; the endpoint deadline (600 ms here) does not hold for what was upgraded."""
    upgrades = place.router.metric("websocket_upgrades")
    open_now = place.router.metric("websocket_open")
    released = threading.Event()

    def after(exchange: Exchange) -> None:
        Reader(exchange.recv)(7)
        released.wait(10)
        exchange.send(b"twelve bytes")
        exchange.close()

    place.backend.script(server(after, first=b"abc"))
    with place.client() as client:
        open_websocket(client, place.host, "/chat?token=x")
        client.send(b"7 bytes")
        assert Reader(client.recv)(3) == b"abc"
        assert place.router.metric("websocket_open") == open_now + 1
        threading.Timer(0.9, released.set).start()
        assert client.read_all() == b"twelve bytes"
        client.close()
    record = record_of(place)
    assert (record["status"], record["bytes_in"], record["bytes_out"]) == (101, 7, 15)
    assert (record["method"], record["uri"], record["x_cf_routererror"]) == ("GET", "/chat", None)
    assert record["response_time"] > 0.8
    assert record["gorouter_time"] < 0.5
    assert place.router.metric("websocket_upgrades") == upgrades + 1
    assert place.router.metric("websocket_open") == open_now
