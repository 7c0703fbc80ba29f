"""The promise: over HTTP/2 a client gets what it gets over HTTP/1.1, many times at once on one connection."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.conftest import ALWAYS, ANY, FORWARD, OPEN, ORGS, RAW, REPORT, SPACES, UNENFORCED, At, json_log
from tests.behaviour.place import Place
from tests.conftest import MakeRouter
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import CA, Credential
from tests.support.client import Client, Tls, curl
from tests.support.http2_client import Code, FrameClient, Http2Client, data_frame, headers_frame, raw_frame
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, wait_until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MIB = 1 << 20


def connect(place: Place, caller: Credential | None = None, **how: Any) -> Http2Client:
    return Http2Client(place.router.ssl_port, Tls(place.host, caller), **how)


@pytest.fixture
def place(at: At) -> Place:
    return at(OPEN)


@pytest.fixture
def backend(place: Place) -> EchoBackend:
    return place.backends[0]


# What is agreed


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([b"h2", b"http/1.1"], b"h2"),
        ([b"h2"], b"h2"),
        ([b"http/1.1"], b"http/1.1"),
        ([b"spdy/3", b"http/1.1"], b"http/1.1"),
        ([], b""),
    ],
    ids=str,
)
@pytest.mark.parametrize("domain", [OPEN, ANY])
def test_alpn_chooses_what_the_client_has(at: At, alice: Credential, domain: str, offered: list[bytes], chosen: bytes) -> None:
    """R25, R104, K13: `enable_http2` is on unless the operator says otherwise: h2 for who speaks it; others go on as before."""
    place = at(domain, {"mtls_allow_any": True})
    with Client(place.router.ssl_port, Tls(place.host, alice, alpn=offered)) as client:
        assert client.tls is not None
        assert client.tls.get_alpn_proto_negotiated() == chosen
        if chosen != b"h2":
            assert client.request(place.host).status == 200


def test_http2_is_not_offered_where_it_is_switched_off(make_router: MakeRouter, east_ca: CA) -> None:
    """R25: `enable_http2: false`: HTTP/1.1, whatever the client prefers."""
    router = make_router(enable_http2=False)
    with Client(router.ssl_port, Tls("x.open.example", alpn=[b"h2", b"http/1.1"])) as client:
        assert client.tls is not None
        assert client.tls.get_alpn_proto_negotiated() == b"http/1.1"
        assert client.request("nobody.open.example").status == 404


def test_the_settings_say_what_is_allowed(place: Place) -> None:
    """RFC 9113 section 6.5.2: streams at a time, the size of a head, and that nothing is pushed or tunnelled."""
    with connect(place) as client:
        client.ping()
        settings = client.connection.remote_settings
        assert 100 <= settings.max_concurrent_streams <= 1_000
        assert settings.max_header_list_size == 65_536
        assert settings.enable_connect_protocol == 0
        assert settings.max_frame_size == 16_384


# As over HTTP/1.1

VOLATILE = {
    "x-vcap-request-id", "x-request-id", "x-request-start", "x-b3-traceid", "x-b3-spanid", "b3", "traceparent", "tracestate",
    "date",
}  # fmt: skip
"""Fields with a value of each request's own."""


def steady(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in pairs if name not in VOLATILE)


CALLERS = ["alice", "bob", "carol", "nameless"]


@pytest.mark.parametrize("domain", [ANY, ORGS, SPACES, REPORT, UNENFORCED, RAW, FORWARD, ALWAYS, OPEN])
def test_decisions_and_fields_are_those_of_http_1_1(at: At, request: pytest.FixtureRequest, domain: str) -> None:
    """For each caller: the same status, code, body, response fields and log as over HTTP/1.1, and the backend
    gets the same fields, X-Forwarded-Client-Cert among them.
    """
    place = at(domain, {"mtls_allowed_apps": "app-a,app-b"} if domain != OPEN else None)
    backend = place.backends[0]
    sent = [("accept", "*/*"), ("x-forwarded-client-cert", "forged"), ("cookie", "a=b"), ("x-custom", "kept"), ("x-two", "1")]
    for name in CALLERS:
        caller: Credential = request.getfixturevalue(name)
        old = place.call(caller, headers=sent)
        with connect(place, caller) as client:
            target = f"/second{old.target}"
            new = client.request(place.host, target, headers=sent)
        assert (*new.refusal, new.body.replace(b"/second", b"")[-20:]) == (*old.refusal[:2], old.response.body[-20:])
        names = [steady([pair for pair in each if pair[0] != "content-length"]) for each in (new.headers, old.response.headers)]
        assert names[0] == names[1]
        seen = [one for one in backend.received if one.request_line == f"GET {target} HTTP/1.1"]
        assert [steady(one.headers) for one in seen] == [steady(one.headers) for one in old.received]
        record = json.loads(place.router.wait_for_log(f'"uri":"{target}"'))
        for key in ("status", "mtls_auth", "mtls_rule", "mtls_denied_reason", "x_cf_routererror", "method", "host", "bytes_in"):
            assert record.get(key) == old.record.get(key), key


def test_the_access_log_names_the_version(place: Place) -> None:
    """Contract e: the record of each stream says HTTP/2.0 and has the bytes of both bodies."""
    with connect(place) as client:
        answer = client.request(place.host, "/logged", method="POST", body=b"x" * 1_000)
    line = place.router.wait_for_log(lambda line: place.host in line and '"/logged"' in line)
    record = json.loads(line)
    assert "HTTP/2.0" in line
    assert (record["bytes_in"], record["bytes_out"], record["status"]) == (1_000, len(answer.body), 200)


@pytest.mark.parametrize(
    ("host", "status", "code"),
    [("nowhere.open.example", 404, "unknown_route"), ("x.any.test", 421, "mtls_domain_mismatch")],
)
def test_the_answers_of_the_router_are_those_of_http_1_1(place: Place, host: str, status: int, code: str) -> None:
    """The same head and body, without what belongs to a connection; HEAD has no body."""
    with connect(place) as client, place.connect() as older:
        old = older.request(host)
        new = client.request(host)
        assert (*new.refusal, new.body) == (status, code, old.body)
        hop = ("connection", "keep-alive", "transfer-encoding")
        assert steady(new.headers) == steady([pair for pair in old.headers if pair[0] not in hop])
        assert client.request(host, method="HEAD").body == b""


def test_cookie_crumbs_are_one_field_again(place: Place) -> None:
    """RFC 9113 section 8.2.3: an HTTP/1.1 backend gets one Cookie."""
    with connect(place) as client:
        crumbs = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]
        assert client.request(place.host, headers=crumbs).status == 200
    assert place.backends[0].last.all("cookie") == ["a=1; b=2; c=3"]


def test_fields_of_a_backends_connection_stay_there(place: Place, backend: EchoBackend) -> None:
    """RFC 9113 section 8.2.2: Connection, Keep-Alive, Upgrade and the like do not come over HTTP/2; names are in lower case."""
    backend.script(
        b"HTTP/1.1 200 Fine\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nUpgrade: h2c\r\n"
        b"Proxy-Connection: keep-alive\r\nX-CAPITAL: Kept\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    )
    with connect(place) as client:
        answer = client.request(place.host)
    assert (answer.status, answer.body, answer.get("x-capital"), answer.all("set-cookie")) == (200, b"ok", "Kept", ["a=1", "b=2"])
    gone = {"connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection", "x-hop"}
    assert gone & {name for name, _ in answer.headers} == set()


@pytest.mark.parametrize(
    ("method", "answer", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", "12345"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nContent-Length: 12345\r\nETag: "x"\r\n\r\n', "12345"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "0"),
    ],
)
def test_a_response_without_a_body_ends_with_its_head(
    place: Place, backend: EchoBackend, method: str, answer: bytes, length: str | None
) -> None:
    """HEAD, 204, 304 and a length of 0: a length that is only said stays, and the stream ends."""
    backend.script(answer)
    with connect(place) as client:
        got = client.request(place.host, method=method)
        assert (got.body, got.get("content-length"), got.ended) == (b"", length, True)
        assert client.request(place.host).status == 200
    assert len({one.connection for one in backend.received}) == 1


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_the_framing_of_a_request_is_that_of_its_stream(place: Place, backend: EchoBackend, method: str) -> None:
    """Without a body there is no framing but perhaps a length of 0; a body without a length is chunked, or counted if whole."""
    with connect(place) as client:
        assert client.request(place.host, method=method).status == 200
        assert client.request(place.host, method=method, body=b"12345").status == 200
        with_length = [("content-length", "5")]
        assert client.request(place.host, method=method, body=b"12345", headers=with_length).status == 200
    bare, open_ended, counted = backend.received
    assert (bare.all("transfer-encoding"), bare.body) == ([], b"")
    assert bare.get("content-length") in (None, "0")
    assert (open_ended.all("content-length"), open_ended.all("transfer-encoding")) in (([], ["chunked"]), (["5"], []))
    assert open_ended.body == b"12345"
    assert (counted.all("content-length"), counted.all("transfer-encoding"), counted.body) == (["5"], [], b"12345")


# Many streams


def test_many_streams_run_side_by_side(place: Place, backend: EchoBackend) -> None:
    """Eighty requests are at the backend before the first is answered, and each stream gets its own answer."""
    together = threading.Barrier(80, timeout=10)

    def answer(exchange: Exchange) -> None:
        together.wait()
        words = exchange.request.request_line.encode()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(words), words))

    backend.always(answer)
    with connect(place) as client:
        streams = {client.open(place.host, f"/{number}"): number for number in range(80)}
        for stream, number in streams.items():
            assert client.response(stream).body == b"GET /%d HTTP/1.1" % number
    assert backend.connections == 80


def test_a_connection_carries_many_requests_one_after_the_other(place: Place, backend: EchoBackend) -> None:
    """Streams end and are forgotten; the backend's connection is used again."""
    with connect(place) as client:
        for number in range(300):
            assert client.request(place.host, f"/{number}").status == 200
    assert backend.connections == 1


@pytest.mark.parametrize("encoded", ["x-static: 1", "x-{number}: {number}"], ids=["the same", "different"])
def test_heads_may_be_compressed_in_any_way(place: Place, backend: EchoBackend, encoded: str) -> None:
    """Fields that come again by their index, and tables that fill up and forget, arrive as they were meant."""
    with connect(place) as client:
        for number in range(200):
            name, _, value = encoded.format(number=number).partition(": ")
            assert client.request(place.host, headers=[(name, value * 50)]).status == 200
            assert backend.last.get(name) == value * 50


def test_streams_to_several_routes_share_a_connection(at: At) -> None:
    """Each stream has its own route, backend and fault."""
    first, second = at(OPEN), at(OPEN)
    second.backends[0].always(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    with connect(first) as client:
        streams = [client.open(host) for host in (first.host, second.host, "nowhere.open.example")]
        assert [client.response(stream).status for stream in streams] == [200, 503, 404]


# Bodies


@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
def test_large_bodies_pass_both_ways(place: Place, backend: EchoBackend, length: bool) -> None:
    """Five MiB there and back, byte for byte, through windows of 64 KiB."""
    data = bytes(range(256)) * (5 * MIB // 256)

    def echo(exchange: Exchange) -> None:
        body = exchange.read_body()
        framing = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        exchange.send(b"HTTP/1.1 200 OK\r\n" + (framing if length else chunks))

    backend.script(echo)
    with connect(place) as client:
        headers = [("content-length", str(len(data)))] if length else []
        answer = client.request(place.host, method="POST", body=data, headers=headers)
        assert answer.get("content-length") == (str(len(data)) if length else None)
        assert answer.body == data


def test_bodies_of_many_streams_share_the_windows(place: Place, backend: EchoBackend) -> None:
    """Twenty uploads and twenty downloads of 300 KB at the same time: each whole."""
    data = bytes(range(256)) * 1_200

    def echo(exchange: Exchange) -> None:
        body = exchange.read_body()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    backend.always(echo)
    with connect(place) as client:
        streams = [client.open(place.host, method="POST", end=False) for _ in range(20)]
        for at in range(0, len(data), 60_000):
            for stream in streams:
                client.send(stream, data[at : at + 60_000], end=at + 60_000 >= len(data))
        assert all(client.response(stream).body == data for stream in streams)


def test_pieces_pass_as_they_come(place: Place, backend: EchoBackend) -> None:
    """A conversation: each piece of the request is at the backend, and each piece of the answer here, before the next is sent."""

    def converse(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while b"end" not in (data := exchange.recv()):
            exchange.send(b"%x\r\n%b\r\n" % (len(data), data))
        exchange.send(b"0\r\n\r\n")

    backend.script(converse)
    with connect(place) as client:
        stream = client.open(place.host, method="POST", headers=[("content-length", "13")], end=False)
        client.wait(lambda: client.answer(stream).status, "the head, before any of the body")
        for word in (b"first", b"other"):
            client.send(stream, word)
            client.wait(lambda: client.answer(stream).body.endswith(word), "the echo of a piece")  # noqa: B023
        client.send(stream, b"end", end=True)
        assert client.response(stream).ended


def test_an_early_answer_ends_the_request(place: Place, backend: EchoBackend) -> None:
    """RFC 9113 section 8.1: a final response before the body's end is passed on whole, then NO_ERROR asks for no more; the
    connection goes on, and the backend's is not used again.
    """
    backend.script(lambda exchange: exchange.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"))
    with connect(place) as client:
        stream = client.open(place.host, "/early", method="POST", headers=[("content-length", "1000000")], end=False)
        client.send(stream, b"x" * 1_000)
        answer = client.answer(stream)
        client.wait(lambda: answer.ended, "the early answer")
        assert (answer.status, answer.body) == (413, b"no")
        client.wait(lambda: answer.reset is not None, "the request to be ended")
        assert answer.reset in (Code.NO_ERROR, Code.CANCEL)
        assert client.request(place.host, "/next").status == 200
    early, following = backend.received
    assert early.connection != following.connection


def test_the_backend_decides_whether_a_body_is_sent(place: Place, backend: EchoBackend) -> None:
    """Expect: 100-continue goes to the backend, and its 100 to the client."""
    with connect(place) as client:
        expecting = [("expect", "100-continue"), ("content-length", "5")]
        stream = client.open(place.host, method="POST", headers=expecting, end=False)
        client.wait(lambda: client.answer(stream).interim, "100")
        assert [status for status, _ in client.answer(stream).interim] == [100]
        client.send(stream, b"hello", end=True)
        assert client.response(stream).status == 200
    assert backend.last.body == b"hello"
    assert backend.last.get("expect") == "100-continue"


def test_interim_responses_pass(place: Place, backend: EchoBackend) -> None:
    """103 and its fields come before the final head; names in lower case, nothing of the connection."""
    backend.script(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: close\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK)
    with connect(place) as client:
        answer = client.request(place.host)
    assert [status for status, _ in answer.interim] == [103, 102]
    names = [[name for name, _ in fields if name not in VOLATILE] for _, fields in answer.interim]
    assert names == [["link"], []]
    assert (answer.status, answer.body) == (200, b"ok")


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ],
    ids=["length", "chunked", "a broken chunk"],
)
def test_half_an_answer_does_not_pass_for_a_whole_one(place: Place, backend: EchoBackend, broken: bytes) -> None:
    """The stream is reset where the backend's answer ends early; the others go on."""

    def leave(exchange: Exchange) -> None:
        exchange.send(broken)
        exchange.close()

    backend.script(leave)
    with connect(place) as client:
        answer = client.request(place.host)
        if answer.status == 200:
            assert answer.reset not in (None, Code.NO_ERROR)
        else:  # the fault showed before the head had left
            assert answer.status == 502
        assert client.request(place.host).status == 200
        assert client.goodbye is None


def test_an_answer_without_a_length_ends_where_its_connection_does(place: Place, backend: EchoBackend) -> None:
    """An HTTP/1.0 backend says neither length nor chunks: its end is the stream's end."""

    def leave(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        exchange.close()

    backend.script(leave)
    with connect(place) as client:
        answer = client.request(place.host)
        assert (answer.body, answer.ended, answer.reset) == (b"all of it", True, None)


# Whoever leaves, whoever is slow


def test_a_reset_cancels_at_the_backend(place: Place, backend: EchoBackend) -> None:
    """The backend's connection ends at once, nothing is held against the endpoint, and the log says 499."""
    gone = threading.Event()

    def wait(exchange: Exchange) -> None:
        assert exchange.recv() == b""
        gone.set()

    backend.script(wait)
    with connect(place) as client:
        stream = client.open(place.host, "/cancelled")
        wait_until(lambda: backend.received, "the request at the backend")
        client.reset(stream)
        assert gone.wait(10)
        assert client.request(place.host).status == 200
    record = json.loads(place.router.wait_for_log(lambda line: place.host in line and "/cancelled" in line))
    assert record["status"] == 499


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_connection_that_ends_cancels_all_its_streams(place: Place, backend: EchoBackend, how: str) -> None:
    """Ten requests of a client that leaves: ten backend connections end."""
    backend.always(lambda exchange: exchange.recv())
    client = connect(place)
    for _ in range(10):
        client.open(place.host)
    wait_until(lambda: len(backend.received) == 10, "the requests at the backend")
    if how == "close":
        client.close()
    else:
        client.abandon()
    wait_until(lambda: backend.open_connections == 0, "the backend to be let go")


def test_a_slow_reader_holds_back_its_own_backend_alone(place: Place, backend: EchoBackend) -> None:
    """Flow control end to end: a stream whose window is shut stops its backend's answer after bounded bytes; a stream beside it,
    on the same connection, passes 4 MiB meanwhile.
    """
    sent = 0
    whole = 64 * MIB

    def endless(exchange: Exchange) -> None:
        nonlocal sent
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % whole)
        for _ in range(whole // 65_536):
            exchange.send(bytes(65_536))
            sent += 65_536

    def four(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4 * MIB) + bytes(4 * MIB))

    before = place.router.resident_kib()
    with connect(place, credit=False) as client:
        client.connection.increment_flow_control_window(2**30)
        client.flush()
        backend.script(endless)
        slow = client.open(place.host)
        client.wait(lambda: len(client.answer(slow).body) == 65_535, "a full window")
        backend.script(four)
        quick = client.open(place.host)
        client.connection.increment_flow_control_window(2**30, quick)
        client.flush()
        assert len(client.response(quick).body) == 4 * MIB
        assert len(client.answer(slow).body) == 65_535
        assert sent < 32 * MIB
        assert place.router.resident_kib() - before < 16 * 1024
        client.reset(slow)
        wait_until(lambda: backend.open_connections <= 1, "the backend of the slow stream to be let go")


def test_a_slow_backend_holds_back_its_own_client_alone(place: Place, backend: EchoBackend) -> None:
    """The other way round: an upload that its backend does not read stops at its window, and uploads beside it are whole."""
    holding, released = threading.Event(), threading.Event()

    def hold(exchange: Exchange) -> None:
        holding.set()
        released.wait(20)
        body = exchange.read_body()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert len(body) == 24 * MIB

    with connect(place) as client:
        backend.script(hold)
        held = client.open(place.host, method="POST", headers=[("content-length", str(24 * MIB))], end=False)
        sent = 0
        while sent < 24 * MIB and (room := client.room(held)):
            size = min(room, 24 * MIB - sent)
            client.send(held, bytes(size), end=sent + size == 24 * MIB)
            sent += size
            if not client.room(held):
                client.ping()
        assert sent < 24 * MIB
        assert holding.wait(10)  # else the next request might be the one that is held
        for _ in range(3):
            answer = client.request(place.host, method="POST", body=bytes(MIB))
            assert json.loads(answer.body)["length"] == MIB
        released.set()
        client.send(held, bytes(24 * MIB - sent), end=True)
        assert client.response(held).status == 200


# Deadlines


@pytest.fixture(scope="module")
def hasty(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place on a router whose deadlines are short."""
    directory = tmp_path_factory.mktemp("hasty")
    with (
        RouterProcess(
            directory, nats=nats_server, access_log=json_log(directory), frontend_idle_timeout="400ms",
            endpoint_timeout="500ms", client_stall_timeout="700ms", max_request_body_bytes=10_000,
        ) as router,
        Registrar(nats_server.port, router) as registrar,
    ):  # fmt: skip
        made = Place(router, registrar, unique_host("open.example"))
        made.register()
        yield made
        made.leave()


def test_an_idle_connection_is_said_goodbye(hasty: Place) -> None:
    """Contract g, `frontend_idle_timeout`: GOAWAY without an error and the end; a request before it moves it."""
    with connect(hasty) as client:
        assert client.request(hasty.host).status == 200
        goodbye = client.wait_end(5)
        assert goodbye is not None
        assert (goodbye.code, goodbye.last) == (Code.NO_ERROR, 1)


def test_a_connection_with_a_stream_is_not_idle(hasty: Place) -> None:
    """A stream that waits for its backend keeps the connection; its own deadline ends it, and only it."""
    hasty.backends[0].script(lambda exchange: exchange.recv())
    with connect(hasty) as client:
        answer = client.request(hasty.host)
        assert answer.status == 502 or answer.reset is not None
        assert client.goodbye is None
        assert client.request(hasty.host).status == 200


def test_an_endpoint_that_stalls_in_its_body_resets_the_stream(hasty: Place) -> None:
    """`endpoint_timeout` inside a response: a reset, so that half an answer is not taken for the whole."""

    def stall(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        exchange.recv()

    hasty.backends[0].script(stall)
    with connect(hasty) as client:
        answer = client.request(hasty.host)
        assert (answer.status, answer.body, answer.ended) == (200, b"half", False)
        assert client.request(hasty.host).status == 200


def test_a_request_body_that_is_too_large_is_413(hasty: Place) -> None:
    """`max_request_body_bytes` holds for a length that is said and for bytes that come; the connection goes on."""
    with connect(hasty) as client:
        stream = client.open(hasty.host, method="POST", headers=[("content-length", "10001")], end=False)
        client.wait(lambda: client.answer(stream).status, "413")
        assert client.answer(stream).status == 413
        stream = client.open(hasty.host, method="POST", end=False)
        client.send(stream, bytes(10_001))
        client.wait(lambda: client.answer(stream).status or client.answer(stream).over, "413 or a reset")
        assert client.answer(stream).status in (0, 413)
        assert client.request(hasty.host, method="POST", body=bytes(10_000)).status == 200


# Tools of others


def test_curl_speaks_http2(at: At, alice: Credential, tmp_path: Path) -> None:
    """curl --http2 with a client certificate: response, upload and log."""
    place = at(ANY, {"mtls_allow_any": True})
    certificate, key = alice.files()[:2]
    upload = tmp_path / "upload"
    upload.write_bytes(bytes(range(256)) * 4_096)
    result = curl(
        "--http2", "--insecure", "--cert", str(certificate), "--key", str(key), "--data-binary", f"@{upload}",
        "--connect-to", f"{place.host}:443:127.0.0.1:{place.router.ssl_port}", f"https://{place.host}/curl",
    )  # fmt: skip
    assert result.exit_status == 0, result.errors
    assert result.output.startswith("HTTP/2 200")
    assert json.loads(result.output.rpartition("\r\n\r\n")[2])["length"] == MIB
    assert "HTTP/2.0" in place.router.wait_for_log(lambda line: place.host in line and "/curl" in line)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, timeout=20, check=True)
    return (done.stdout + done.stderr).decode("latin-1")


@pytest.mark.skipif(shutil.which("nghttp") is None, reason="asks a real nghttp")
def test_nghttp_speaks_http2(place: Place) -> None:
    """nghttp, whose library is curl's, finds no fault in our frames, with padding and many streams."""
    url = f"https://127.0.0.1:{place.router.ssl_port}/nghttp"
    out = run("nghttp", "-nsv", "-m", "20", "--no-verify-peer", "-b", "100", "-H", f":authority: {place.host}", url)
    assert out.count(":status: 200") == 20, out[-2_000:]
    assert "[INVALID" not in out


@pytest.mark.skipif(shutil.which("h2load") is None, reason="asks a real h2load")
def test_h2load_gets_every_answer(place: Place) -> None:
    """h2load: 8 connections of 16 streams, 1,000 requests, each answered with 200."""
    url = f"https://127.0.0.1:{place.router.ssl_port}/h2load"
    out = run("h2load", "-n", "1000", "-c", "8", "-m", "16", "-H", f":authority: {place.host}", url)
    assert "1000 succeeded, 0 failed, 0 errored, 0 timeout" in out, out
    assert "1000 2xx" in out


# Small print of RFC 9113


def test_frames_may_be_padded_and_prioritised(place: Place, backend: EchoBackend) -> None:
    """Sections 6.1 and 6.2: padding is not body, priorities change nothing, and padding is given back to the windows."""
    with FrameClient(place.router.ssl_port, Tls(place.host)) as client:
        block = client.head(place.host, method="POST", more=[("content-length", "5000")])
        head = b"\x03" + b"\0\0\0\0\x10" + block + b"\0\0\0"
        client.write(raw_frame(1, 1, head, flags=0x04 | 0x08 | 0x20))
        for number in range(1_000):
            client.write(raw_frame(0, 1, b"\xff" + b"12345" + b"\0" * 255, flags=0x08 | (0x01 if number == 999 else 0)))
            if number % 100 == 99:
                client.write(raw_frame(6, 0, b"%08d" % number))
                client.wait(lambda: b"%08d" % number in client.pings, "PING")  # noqa: B023
        assert client.response(1).status == 200
    assert backend.last.body == b"12345" * 1_000


def test_unknown_frames_and_settings_are_ignored(place: Place) -> None:
    """Sections 4.1, 5.5 and 6.5.2: what is not known changes nothing."""
    with FrameClient(place.router.ssl_port, Tls(place.host), settings={}) as client:
        client.write(raw_frame(4, 0, b"\xf0\x00\0\0\0\1") + raw_frame(0xFA, 0, b"x") + raw_frame(0xFB, 5, b"y", flags=0xFF))
        assert client.response(client.ask(client.head(place.host))).status == 200


def test_frames_in_the_smallest_pieces_are_understood(place: Place, backend: EchoBackend) -> None:
    """A byte at a time, from the preface on: the same request."""
    with FrameClient(place.router.ssl_port, Tls(place.host), greet=False) as client:
        data = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + raw_frame(4, 0)
        data += headers_frame(1, client.head(place.host, method="POST"), end=False) + data_frame(1, b"ok", end=True)
        for at in range(len(data)):
            client.write(data[at : at + 1])
        assert client.response(1).status == 200
    assert backend.last.body == b"ok"


def test_a_client_may_say_goodbye_and_still_be_answered(place: Place) -> None:
    """Section 6.8: a client's GOAWAY ends no stream of its own."""
    with FrameClient(place.router.ssl_port, Tls(place.host)) as client:
        stream = client.ask(client.head(place.host, method="POST"), end=False)
        client.write(raw_frame(7, 0, b"\0" * 8) + data_frame(stream, b"late", end=True))
        assert client.response(stream).status == 200


def test_a_large_head_comes_in_pieces(place: Place, backend: EchoBackend) -> None:
    """Section 4.3: a response head above a frame's size goes on in CONTINUATION frames, with trailers as large behind it."""
    large = "x" * 25_000
    backend.script(
        f"HTTP/1.1 200 OK\r\nX-Large: {large}\r\nX-More: {large}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        + f"2\r\nok\r\n0\r\nX-Sum: {large[:14_000]}\r\n\r\n".encode()
    )
    with FrameClient(place.router.ssl_port, Tls(place.host)) as client:
        answer = client.response(client.ask(client.head(place.host)))
        assert (answer.get("x-large"), answer.get("x-more"), answer.body) == (large, large, b"ok")
        assert answer.trailers == [("x-sum", large[:14_000])]
        assert max(frame.body_len for frame in client.frames) <= 16_384
        assert client.response(client.ask(client.head(place.host))).status == 200


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX y: z\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["101", "NUL", "a name that is none", "two lengths", "another version", "a preface"],
)
def test_an_answer_that_is_none_is_502(place: Place, backend: EchoBackend, answer: bytes) -> None:
    """What HTTP/1.1 clients are not shown, HTTP/2 clients are not shown either: 502 for the stream."""
    backend.script(answer)
    with connect(place) as client:
        assert client.request(place.host).refusal[0] == 502
        assert client.request(place.host).status == 200


def test_a_backend_that_refuses_is_502_for_its_streams(at: At) -> None:
    """A dial that fails ends its stream with an answer; other routes of the connection go on."""
    dead, alive = at(OPEN), at(OPEN)
    dead.backends[0].stop_listening()
    with connect(alive) as client:
        streams = [client.open(host) for host in (dead.host, alive.host) * 5]
        assert [client.response(stream).status for stream in streams] == [502, 200] * 5
        assert client.response(streams[0]).refusal == (502, "endpoint_failure (dial failed)")


def test_the_order_of_streams_is_kept(place: Place) -> None:
    """Section 5.1.1: a stream may be skipped, none may be opened below one that was, or twice."""
    for first, second in ((5, 3), (5, 5), (3, 1)):
        with FrameClient(place.router.ssl_port, Tls(place.host)) as client:
            client.write(headers_frame(first, client.head(place.host)))
            assert client.response(first).status == 200
            client.write(headers_frame(second, client.head(place.host)))
            goodbye = client.wait_end()
            assert goodbye is not None
            assert goodbye.code in (Code.PROTOCOL_ERROR, Code.STREAM_CLOSED)
            assert goodbye.last == first


def test_what_was_on_its_way_when_a_stream_was_reset_is_no_fault(place: Place, backend: EchoBackend) -> None:
    """Section 5.4.2: data of a stream that the router has just ended is ignored, and its windows are given back."""
    backend.always(lambda exchange: exchange.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"))
    with FrameClient(place.router.ssl_port, Tls(place.host)) as client:
        for _ in range(30):  # more in all than the connection's window
            stream = client.ask(client.head(place.host, method="POST", more=[("content-length", "100000")]), end=False)
            client.wait(lambda: client.answer(stream).reset is not None, "the early answer and the reset")  # noqa: B023
            client.write(
                b"".join(data_frame(stream, bytes(16_000)) for _ in range(6)) + data_frame(stream, bytes(4_000), end=True)
            )
        backend.always(None)
        stream = client.ask(client.head(place.host, method="POST"), end=False)
        client.write(data_frame(stream, b"still here", end=True))
        assert client.response(stream).status == 200
        assert client.goodbye is None


def test_many_connections_at_once_are_served(place: Place) -> None:
    """Thirty connections of five streams each."""
    clients = [connect(place) for _ in range(30)]
    try:
        streams = [(client, client.open(place.host)) for client in clients for _ in range(5)]
        assert {client.response(stream).status for client, stream in streams} == {200}
    finally:
        for client in clients:
            client.close()
