"""Endpoints registered with `protocol: http2`: by ALPN over TLS, by prior knowledge without, else over HTTP/1.1."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from h2.errors import ErrorCodes

from tests.support.backend import EchoBackend
from tests.support.certs import CA, authority
from tests.support.client import Client, Response
from tests.support.failing import Mute
from tests.support.http2_backend import Http2Backend, Stream, in_order
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, lone, wait_until
from tests.support.websocket import open_websocket, server

NAME = "instance-guid"

Register = Callable[..., "Place"]


@pytest.fixture(scope="module")
def backend_ca() -> CA:
    return authority("backends")


@pytest.fixture(scope="module")
def speaking(nats_server: NatsServer, backend_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    with RouterProcess(
        tmp_path_factory.mktemp("http2"), nats=nats_server, workers=lone(), ca_certs=[backend_ca.pem],
        droplet_stale_threshold="10s", prune_stale_droplets_interval="1h",
    ) as process:  # fmt: skip
        yield process


@pytest.fixture(scope="module")
def speaking_registrar(nats_server: NatsServer, speaking: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, speaking) as made:
        yield made


class Place:
    """A registered host, and requests to it."""

    def __init__(self, router: RouterProcess, registrar: Registrar) -> None:
        self.router = router
        self.registrar = registrar
        self.host = unique_host("open.example")
        self._count = 0

    def add(self, backend: EchoBackend, **registration: Any) -> "Place":
        self._count += 1
        if backend.tls:
            registration.setdefault("server_cert_domain_san", NAME)
        self.registrar.register(self.host, backend=backend, index=self._count, **{"protocol": "http2", **registration})
        return self

    def ask(self, target: str = "/", **request: Any) -> Response:
        with Client(self.router.port) as client:
            return client.request(self.host, target, **request)

    def ask_at_once(self, count: int) -> list[Response]:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda number: self.ask(f"/{number}"), range(count)))


@pytest.fixture
def place(speaking: RouterProcess, speaking_registrar: Registrar) -> Place:
    return Place(speaking, speaking_registrar)


@pytest.fixture(params=["h2c", "tls"])
def http2(request: pytest.FixtureRequest, backend_ca: CA) -> Iterator[Http2Backend]:
    """A backend of either kind."""
    with Http2Backend(credential=backend_ca.issue_server(NAME) if request.param == "tls" else None) as made:
        yield made


@pytest.fixture
def h2c() -> Iterator[Http2Backend]:
    with Http2Backend() as made:
        yield made


def account(response: Response) -> dict[str, list[str]]:
    """What the echo says that it was sent."""
    assert response.status == 200, response
    found: dict[str, list[str]] = {}
    for name, value in json.loads(response.body)["headers"]:
        found.setdefault(name, []).append(value)
    return found


def test_an_endpoint_of_http2_is_reached_over_it(place: Place, http2: Http2Backend) -> None:
    """R38, R102, K12: h2 by ALPN over TLS, h2c without; the request is HTTP/2's, and is marked as every other."""
    place.add(http2)
    seen = account(place.ask("/a/b?c=d", headers=[("X-Own", "1"), ("TE", "trailers"), ("Connection", "X-Gone"), ("X-Gone", "1")]))
    assert (seen[":method"], seen[":path"], seen[":authority"]) == (["GET"], ["/a/b?c=d"], [place.host])
    assert seen[":scheme"] == ["https" if http2.tls else "http"]
    assert (seen["x-own"], seen["x-forwarded-for"], seen["te"]) == (["1"], ["127.0.0.1"], ["trailers"])
    assert not seen.keys() & {"host", "connection", "transfer-encoding", "x-gone", "keep-alive"}


def test_many_requests_share_one_connection(place: Place, http2: Http2Backend) -> None:
    """A burst of clients is one dial and one connection with many streams, which is kept."""
    place.add(http2)
    meet = threading.Barrier(20, timeout=10)

    def together(stream: Stream) -> None:
        meet.wait()
        stream.respond(stream.path.encode())

    http2.each(together)
    answers = place.ask_at_once(20)
    assert sorted((answer.status, answer.body) for answer in answers) == sorted((200, b"/%d" % number) for number in range(20))
    http2.each(None)
    assert place.ask().status == 200
    assert http2.connections == 1
    assert http2.links[0].most == 20


def test_a_backends_limit_of_streams_is_kept(place: Place) -> None:
    """SETTINGS_MAX_CONCURRENT_STREAMS: the rest goes over other connections."""
    with Http2Backend(streams=3) as backend:
        place.add(backend)
        meet = threading.Barrier(8, timeout=10)
        backend.each(in_order(lambda _: meet.wait(), Stream.respond))
        assert [answer.status for answer in place.ask_at_once(8)] == [200] * 8
        assert max(link.most for link in backend.links) <= 3
        assert backend.connections >= 3


def test_bodies_pass_both_ways(place: Place, http2: Http2Backend) -> None:
    """A whole one, a chunked one with trailers, and a long answer."""
    place.add(http2)
    body = bytes(range(256)) * 8000
    assert json.loads(place.ask(method="POST", body=body).body)["length"] == len(body)
    assert http2.requests[0].body == body
    assert http2.requests[0].all("content-length") == [str(len(body))]
    with Client(place.router.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: %b\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" % place.host.encode())
        client.send(b"5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n")
        assert json.loads(client.read_response().body)["trailers"] == [["x-sum", "5"]]
    http2.next(lambda stream: stream.respond(body))
    assert place.ask().body == body


def test_interim_responses_and_trailers_reach_the_client(place: Place, http2: Http2Backend) -> None:
    """103, then a body of no stated length, which is chunked for HTTP/1.1, and its trailers."""
    place.add(http2)

    def step(stream: Stream) -> None:
        stream.head(103, [("link", "</a.css>")])
        stream.head(200, [("content-type", "application/grpc")])
        stream.data(b"some")
        stream.data(b"thing")
        stream.end([("grpc-status", "0"), ("set-cookie", "no=1")])

    http2.next(step)
    answer = place.ask(headers=[("TE", "trailers")])
    assert (answer.status, answer.interim, answer.body) == (200, [103], b"something")
    assert answer.trailers == [("grpc-status", "0")]


@pytest.mark.parametrize(
    ("method", "status", "headers"),
    [("HEAD", 200, [("content-length", "10")]), ("GET", 204, []), ("GET", 304, [("content-length", "10")])],
)
def test_a_response_without_a_body_has_none(
    place: Place, h2c: Http2Backend, method: str, status: int, headers: list[tuple[str, str]]
) -> None:
    """Whatever its length says; the client's connection and the backend's go on."""
    place.add(h2c)
    h2c.next(
        lambda stream: stream.head(status, headers, end=True), in_order(lambda stream: stream.head(status, headers), Stream.end)
    )
    with Client(place.router.port) as client:
        for _ in range(2):
            answer = client.request(place.host, method=method)
            assert (answer.status, answer.body) == (status, b"")
        assert client.request(place.host).status == 200
    assert h2c.connections == 1


def test_a_slow_reader_holds_back_only_its_own_stream(place: Place, h2c: Http2Backend) -> None:
    """The backend stops sending to the one who does not read; others on the connection are served."""
    place.add(h2c)
    sent = [0]

    def endless(stream: Stream) -> None:
        stream.head()
        while True:
            stream.data(b"z" * 16384)
            sent[0] += 16384

    h2c.next(endless)
    with Client(place.router.port) as slow:
        slow.send(b"GET /slow HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
        wait_until(lambda: sent[0] > 500_000, "the slow client's buffers to fill")

        def stands() -> bool:
            before = sent[0]
            assert place.ask().status == 200
            return sent[0] == before

        wait_until(stands, "the backend to be held back")
        assert sent[0] < 20_000_000
        h2c.next(lambda stream: stream.respond(b"q" * 2_000_000))
        assert len(place.ask().body) == 2_000_000
    wait_until(lambda: h2c.requests[0].reset_code == ErrorCodes.CANCEL, "the abandoned stream to be cancelled")
    assert h2c.connections == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refused_stream_is_asked_again_whatever_its_method(place: Place, h2c: Http2Backend, method: str) -> None:
    """RFC 9113 section 8.7: nothing was processed, so nothing can happen twice."""
    place.add(h2c)
    h2c.next(lambda stream: stream.reset(ErrorCodes.REFUSED_STREAM))
    assert place.ask(method=method, body=b"once" if method == "POST" else b"").status == 200
    assert [stream.reset_code for stream in h2c.requests] == [None, None]
    h2c.each(lambda stream: stream.reset(ErrorCodes.REFUSED_STREAM))
    refused = place.ask(method=method)
    assert (refused.status, refused.get("x-cf-routererror")) == (502, "endpoint_failure (stream refused)")
    assert len(h2c.requests) == 5


def test_goaway_ends_what_is_under_way_and_moves_the_rest(place: Place, h2c: Http2Backend) -> None:
    """As gRPC servers do at the end of a connection's age: no client sees it, not even with a POST."""
    place.add(h2c)
    assert place.ask().status == 200
    arrived = threading.Event()

    def leave(stream: Stream) -> None:
        arrived.wait(10)
        stream.connection.send_raw(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + stream.number.to_bytes(4) + bytes(4))
        stream.respond(b"late")

    h2c.next(leave, lambda stream: arrived.set())
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(place.ask)
        h2c.wait_for_requests(2)
        second = pool.submit(lambda: place.ask("/moved", method="POST", body=b"once"))
        assert first.result().body == b"late"
        assert second.result().status == 200
    assert h2c.connections == 2
    assert [(stream.path, stream.connection.number) for stream in h2c.requests[2:]] == [("/moved", 1), ("/moved", 2)]
    wait_until(lambda: h2c.links[0].gone, "the first connection to end")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (ErrorCodes.INTERNAL_ERROR, "endpoint_failure (stream reset)"),
        (ErrorCodes.ENHANCE_YOUR_CALM, "endpoint_failure (stream reset)"),
        (ErrorCodes.PROTOCOL_ERROR, "endpoint_failure (stream reset)"),
    ],
)
def test_a_reset_stream_is_a_bad_gateway_and_is_not_asked_again(
    place: Place, h2c: Http2Backend, code: ErrorCodes, error: str
) -> None:
    """Attack 57: the backend had the request; it stays the chosen one, and its connection is used on."""
    place.add(h2c)
    h2c.next(lambda stream: stream.reset(code))
    with Client(place.router.port) as client:
        answer = client.request(place.host)
        assert (answer.status, answer.get("x-cf-routererror")) == (502, error)
        assert client.request(place.host).status == 200
    assert len(h2c.requests) == 2
    assert h2c.connections == 1


def test_a_response_that_breaks_off_is_no_whole_one(place: Place, h2c: Http2Backend) -> None:
    """The client's connection ends; the others' streams do not."""
    place.add(h2c)

    def step(stream: Stream) -> None:
        stream.head(200, [("content-length", "100")])
        stream.data(b"some")
        stream.reset(ErrorCodes.INTERNAL_ERROR)

    h2c.next(step)
    with Client(place.router.port) as client:
        client.send(b"GET /broken HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
        with pytest.raises((EOFError, ConnectionError)):
            client.read_response()
    assert '"endpoint_failure (response cut short)"' in place.router.wait_for_log("/broken")
    assert place.ask().status == 200
    assert h2c.connections == 1


def test_an_idle_connection_that_ended_is_no_clients_error(place: Place, h2c: Http2Backend) -> None:
    """Seen at once, so that the next request, of any method, has a new one."""
    place.add(h2c)
    for _ in range(3):
        assert place.ask(method="POST", body=b"x").status == 200
        h2c.close_connections()
        wait_until(lambda: all(link.gone for link in h2c.links), "the connection to end")


def test_a_connection_that_ends_under_a_request_is_asked_again_where_that_is_safe(place: Place, h2c: Http2Backend) -> None:
    """As over HTTP/1.1: an idempotent request on a connection that was used before; never a POST."""
    place.add(h2c)
    assert place.ask().status == 200
    h2c.next(lambda stream: stream.connection.close())
    assert place.ask().status == 200
    h2c.next(lambda stream: stream.connection.close())
    answer = place.ask(method="POST", body=b"x")
    assert answer.status == 502
    assert [dict(stream.headers)[":method"] for stream in h2c.requests] == ["GET", "GET", "GET", "POST"]


@pytest.mark.parametrize("tls", [False, True])
def test_a_backend_of_http1_is_spoken_to_in_it(place: Place, backend_ca: CA, tls: bool) -> None:
    """R36, contract f.6: by ALPN; without TLS by its answer to the preface, before which no request leaves."""
    with EchoBackend(credential=backend_ca.issue_server(NAME) if tls else None) as backend:
        place.add(backend)
        for number in range(3):
            assert place.ask(f"/{number}", method="POST", body=b"x").status == 200
        asked = [one.request_line for one in backend.received if one.request_line.startswith("POST")]
        assert asked == [f"POST /{number} HTTP/1.1" for number in range(3)]
        assert backend.connections == (1 if tls else 2)


def test_a_request_that_asks_for_an_upgrade_goes_over_http1(place: Place) -> None:
    """WebSockets are HTTP/1.1's; nothing of HTTP/2 is tried with them."""
    with EchoBackend() as backend:
        place.add(backend)
        backend.script(server(lambda exchange: exchange.close()))
        with Client(place.router.port) as client:
            assert open_websocket(client, place.host).status == 101
        assert [one.request_line for one in backend.received] == ["GET / HTTP/1.1"]


def test_the_access_log_tells_of_a_request_over_http2_as_of_any_other(place: Place, h2c: Http2Backend) -> None:
    """Status, endpoint, bytes."""
    place.add(h2c)
    h2c.next(lambda stream: stream.respond(b"12345", 201))
    place.ask("/logged", method="POST", body=b"123")
    line = place.router.wait_for_log("/logged")
    assert '"POST /logged HTTP/1.1" 201 3 5 "-" "-" "127.0.0.1:' in line
    assert f'"{h2c.address}"' in line


def test_an_endpoint_that_cannot_be_reached_is_passed_over(place: Place, h2c: Http2Backend) -> None:
    """Contract f.2: a dial that fails marks it, and the request goes to the next."""
    with Http2Backend() as gone:
        place.add(gone)
    place.add(h2c)
    assert [place.ask(method="POST", body=b"x").status for _ in range(6)] == [200] * 6
    assert len(h2c.requests) == 6


def test_a_response_that_does_not_come_is_a_timeout(place: Place, h2c: Http2Backend) -> None:
    """The stream is given up, and requests go on."""
    place.add(h2c, options={"request-timeout-seconds": 1})
    h2c.next(lambda stream: None)
    answer = place.ask()
    assert (answer.status, answer.get("x-cf-routererror")) == (502, "endpoint_failure (timeout)")
    wait_until(lambda: h2c.requests[0].reset_code == ErrorCodes.CANCEL, "the stream to be cancelled")
    assert place.ask().status == 200


def test_a_client_that_leaves_takes_its_stream_along(place: Place, h2c: Http2Backend) -> None:
    """Nobody is marked for it, and the connection stays."""
    place.add(h2c)
    h2c.next(lambda stream: None)
    with Client(place.router.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
        h2c.wait_for_requests()
    wait_until(lambda: h2c.requests[0].reset_code == ErrorCodes.CANCEL, "the stream to be cancelled")
    assert place.ask().status == 200
    assert h2c.connections == 1


def test_an_early_answer_is_passed_on(place: Place, h2c: Http2Backend) -> None:
    """Before the request's end; then the client's connection ends, for nobody reads the rest."""
    place.add(h2c)
    h2c.next(lambda stream: stream.respond(b"too much", 413))
    with Client(place.router.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: %b\r\nContent-Length: 1000000\r\n\r\nstart" % place.host.encode())
        answer = client.read_response()
        assert (answer.status, answer.body, answer.get("connection")) == (413, b"too much", "close")
    assert place.ask().status == 200


def test_who_does_not_say_what_it_speaks_is_a_dial_that_failed(
    nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No request leaves before the backend's SETTINGS; the wait for them has a handshake's deadline."""
    with (
        RouterProcess(tmp_path_factory.mktemp("mute"), nats=nats_server, tls_handshake_timeout="300ms") as process,
        Registrar(nats_server.port, process) as registrar,
        Mute() as mute,
    ):
        host = unique_host("open.example")
        registrar.register(host, backend=mute.port, protocol="http2")
        with Client(process.port) as client:
            answer = client.request(host)
        assert (answer.status, answer.get("x-cf-routererror")) == (502, "endpoint_failure (dial timeout)")


def test_http2_can_be_turned_off_and_on(
    nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory, h2c: Http2Backend
) -> None:
    """Contract b.2: without `enable_http2` such an endpoint is one of HTTP/1.1, from the reload on; what is under way goes on."""
    with (
        RouterProcess(tmp_path_factory.mktemp("off"), nats=nats_server) as process,
        Registrar(nats_server.port, process) as registrar,
        EchoBackend() as old,
    ):
        place = Place(process, registrar).add(h2c)
        under_way, go_on = threading.Event(), threading.Event()
        h2c.next(in_order(lambda _: under_way.set(), lambda _: go_on.wait(10), lambda stream: stream.respond(b"late")))
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(place.ask)
            assert under_way.wait(10)
            process.reload(enable_http2=False)
            go_on.set()
            assert late.result().body == b"late"
        wait_until(lambda: h2c.links[0].gone, "the connection to end with its last stream")
        assert h2c.links[0].goaway == ErrorCodes.NO_ERROR
        one = Place(process, registrar).add(old)
        assert one.ask().status == 200
        assert [each.request_line for each in old.received] == ["GET / HTTP/1.1"]
        process.reload(enable_http2=True)
        assert place.ask().status == 200
        assert h2c.connections == 2


def test_a_deny_list_ends_connections_to_whom_it_names(
    nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory, h2c: Http2Backend
) -> None:
    """R238: kept ones too, at the reload."""
    with (
        RouterProcess(tmp_path_factory.mktemp("denied"), nats=nats_server) as process,
        Registrar(nats_server.port, process) as registrar,
    ):
        place = Place(process, registrar).add(h2c)
        assert place.ask().status == 200
        process.reload(deny={"backend_networks": ["127.0.0.0/8"]})
        wait_until(lambda: h2c.links[0].gone, "the connection to end")
        assert place.ask().status == 403
        assert len(h2c.requests) == 1


def test_health_checks_go_over_http2_too(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    """R40: a GET as requests go; a gRPC server, which resets it, is as well as one that answers 200, and one of 503 is not."""
    section = {"path": "/healthz", "interval": "60ms", "unhealthy_threshold": 2, "healthy_threshold": 1}
    with (
        RouterProcess(tmp_path_factory.mktemp("checked"), nats=nats_server, backend_health_check=section) as process,
        Registrar(nats_server.port, process) as registrar,
        Http2Backend("well") as well,
        Http2Backend("grpc") as grpc,
        Http2Backend("sick") as sick,
    ):

        def answers(status: int) -> Callable[[Stream], object]:
            return lambda stream: stream.respond(
                stream.connection.backend.name.encode(), status if stream.path == "/healthz" else 200
            )

        well.each(answers(200))
        sick.each(answers(503))
        grpc.each(lambda stream: stream.reset() if stream.path == "/healthz" else stream.respond(b"grpc"))
        place = Place(process, registrar).add(well).add(grpc).add(sick)
        process.wait_for_event(lambda line: "backend-unhealthy" in line and sick.address in line)
        assert {place.ask().body for _ in range(12)} == {b"well", b"grpc"}
        wait_until(lambda: process.metric("backends_unhealthy") == 1, "the registrar's marker to be gone")
