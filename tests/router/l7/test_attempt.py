"""router/l7/attempt.py: one request to one endpoint and its answer, in this process, on both event loops."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.router.desk import Desk, desk, in_thread
from tests.router.h2_caller import Caller
from tests.support.backend import EchoBackend, Exchange
from tests.support.client import Client, Response
from tests.support.http2_backend import Http2Backend, Stream
from tests.support.waiting import until

HOST = "app.open.example"
OK = b"HTTP/1.1 200 OK\r\n"


async def answer_to(one: Desk, backend: EchoBackend, *steps: Any, **request: Any) -> Response:
    one.register(HOST, backend)
    backend.script(*steps)
    return await one.get(HOST, **request)


def in_flight(one: Desk) -> int:
    route = one.live.table.lookup(HOST, "/")
    assert route is not None
    return sum(endpoint.pulse.in_flight for endpoint in route.pool.endpoints)


@pytest.mark.parametrize(
    ("response", "body", "kept"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", b"hello", 1),
        (OK + b"Content-Length: 0\r\n\r\n", b"", 1),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello", 1),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 1\r\n\r\n", b"hello", 1),
        (OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", b"hello", 0),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", 1),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", 1),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", 0),
        (OK + b"Content-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n", b"hello", 0),
    ],
    ids=["length", "empty", "chunked", "trailers", "close", "204", "304", "1.0", "more than was asked"],
)
async def test_a_whole_response_is_passed_on_and_its_connection_kept_or_not(
    backend: EchoBackend, response: bytes, body: bytes, kept: int
) -> None:
    """The pool has the connection again only where both messages were complete and both sides want it."""
    async with desk() as one:
        answer = await answer_to(one, backend, response)
        assert answer.body == body
        await one.idle()
        assert one.live.snapshot.idle.size == kept
        assert in_flight(one) == 0


async def test_a_response_until_close_is_chunked_for_the_client(backend: EchoBackend) -> None:
    """Its end is said, and the client's connection goes on."""

    def until_close(exchange: Exchange) -> None:
        exchange.send(OK + b"\r\nhello")
        exchange.close()

    async with desk() as one:
        answer = await answer_to(one, backend, until_close)
        assert (answer.body, answer.get("transfer-encoding"), answer.get("connection")) == (b"hello", "chunked", None)
        assert one.live.snapshot.idle.size == 0


@pytest.mark.parametrize(
    ("step", "status", "error"),
    [
        (lambda e: e.close(), 502, "endpoint_failure (connection closed)"),
        (lambda e: e.reset(), 502, "endpoint_failure (connection reset)"),
        (b"HTTP/1.1 2OO OK\r\n\r\n", 502, "endpoint_failure (malformed response)"),
        (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 502, "endpoint_failure (malformed response)"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 502, "endpoint_failure (malformed response)"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17, 502, "endpoint_failure (malformed response)"),
        (OK + b"X-Big: " + b"x" * 300_000 + b"\r\n\r\n", 502, "endpoint_failure (response head too large)"),
        (OK + b"X: 1\r\n" * 300 + b"\r\n", 502, "endpoint_failure (response head too large)"),
    ],
    ids=["closed", "reset", "status", "two lengths", "101", "1xx flood", "head bomb", "many fields"],
)
async def test_an_answer_that_is_none_is_a_fault(
    backend: EchoBackend, step: bytes | Callable[[Exchange], object], status: int, error: str
) -> None:
    """Attack 55: one response of the router's own; a POST is not sent again, and the connection is not used again."""
    async with desk() as one:
        answer = await answer_to(one, backend, step, method="POST", body=b"x")
        assert (answer.status, answer.get("x-cf-routererror")) == (status, error)
        assert len(backend.received) == 1
        assert one.live.snapshot.idle.size == 0
        assert in_flight(one) == 0


async def test_a_response_cut_short_ends_the_clients_connection(backend: EchoBackend) -> None:
    """Attack 55: it cannot be taken for whole."""

    def cut(exchange: Exchange) -> None:
        exchange.send(OK + b"Content-Length: 10\r\n\r\nhello")
        exchange.close()

    async with desk() as one:
        one.register(HOST, backend)
        backend.script(cut)
        with one.client() as client, pytest.raises((EOFError, ConnectionError)):
            await in_thread(client.request, HOST)
        await one.idle()
        assert one.records.records[-1].router_error == "endpoint_failure (response cut short)"


async def test_interim_responses_are_passed_on(backend: EchoBackend) -> None:
    """RFC 9110 section 15.2."""
    async with desk() as one:
        answer = await answer_to(
            one, backend, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n"
        )
        assert (answer.interim, answer.status) == ([103], 200)


@pytest.mark.parametrize("key", ["endpoint_timeout", "http_1_endpoint_timeout"])
async def test_a_response_that_does_not_come_in_time_is_a_fault(backend: EchoBackend, key: str) -> None:
    """`endpoint_timeout`, or that of the client's version: 502, and never again."""
    async with desk(**{key: "1ms", "http_2_endpoint_timeout": "30s"}) as one:
        answer = await answer_to(one, backend, lambda exchange: exchange.recv())
        assert (answer.status, answer.get("x-cf-routererror")) == (502, "endpoint_failure (timeout)")
        assert len(backend.received) == 1


async def test_another_versions_deadline_is_not_this_ones(backend: EchoBackend) -> None:
    """`http_2_endpoint_timeout` is for clients of HTTP/2, `http_1_endpoint_timeout` for the others."""
    async with desk(http_2_endpoint_timeout="1ms", enable_h2c=True) as one:
        assert (await answer_to(one, backend)).status == 200
        backend.script(lambda exchange: exchange.recv())
        with Caller(one.port()) as caller:
            assert (await in_thread(caller.get, HOST, "/")).status == 502


async def test_http2_goes_through_from_end_to_end() -> None:
    """Client and backend of HTTP/2: a body, an interim head, an answer of no stated length, trailers both ways."""

    def step(stream: Stream) -> None:
        stream.wait()
        stream.head(103, [("link", "<x>")])
        stream.head(200, [("content-type", "application/grpc")])
        stream.data(stream.body * 2)
        stream.end([("grpc-status", "0")])

    with Http2Backend() as backend:
        backend.next(step)
        async with desk(enable_h2c=True) as one:
            one.register(HOST, backend, protocol="http2")
            with Caller(one.port()) as caller:
                stream = caller.send(HOST, "/", method="POST", body=b"x" * 10_000)
                answer = await in_thread(caller.wait, stream)
            assert (answer.status, answer.interim, answer.body) == (200, [103], b"x" * 20_000)
            assert answer.trailers == [("grpc-status", "0")]
            await one.idle()
            assert in_flight(one) == 0
            assert one.live.snapshot.http2 is not None
            assert one.live.snapshot.http2.resting == 1


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_large_body_passes_while_the_response_is_awaited(backend: EchoBackend, chunked: bool) -> None:
    """In pieces, with its framing, and the connection is kept."""
    data = bytes(range(256)) * 2048
    request = f"POST / HTTP/1.1\r\nHost: {HOST}\r\n".encode()
    if chunked:
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (data[:70_000], data[70_000:])) + b"0\r\n\r\n"
        request += b"Transfer-Encoding: chunked\r\n\r\n" + body
    else:
        request += b"Content-Length: %d\r\n\r\n" % len(data) + data
    async with desk() as one:
        one.register(HOST, backend)
        with one.client() as client:
            await in_thread(client.send, request)
            assert (await in_thread(client.read_response)).status == 200
            assert (await in_thread(client.request, HOST)).status == 200
        await one.idle()
        assert backend.received[0].body == data
        assert one.records.records[0].bytes_in == len(data)


async def test_a_response_before_the_bodys_end_ends_both_connections(backend: EchoBackend) -> None:
    """Attack 55: an early final response reaches the client; nothing of the rest is taken for a request."""
    async with desk() as one:
        one.register(HOST, backend)
        backend.script(lambda exchange: exchange.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"))
        with one.client() as client:
            await in_thread(client.send, f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100\r\n\r\nhalf".encode())
            answer = await in_thread(client.read_response)
            assert (answer.status, answer.get("connection")) == (413, "close")
            assert await in_thread(client.closed_by_server)
        assert one.live.snapshot.idle.size == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_client_that_leaves_stops_the_request(backend: EchoBackend, method: str) -> None:
    """Attack 56: the backend connection is closed, the slot freed, and no mark put on the endpoint."""
    async with desk() as one:
        one.register(HOST, backend)
        backend.script(lambda exchange: exchange.recv())
        client = one.client()
        body = "Content-Length: 10\r\n\r\nhalf" if method == "POST" else "\r\n"
        await in_thread(client.send, f"{method} / HTTP/1.1\r\nHost: {HOST}\r\n{body}".encode())
        await until(lambda: backend.received and in_flight(one), "the request at the backend")
        client.close()
        await one.idle()
        assert in_flight(one) == 0
        (record,) = one.records.records
        assert record.status == 499
        route = one.live.table.lookup(HOST, "/")
        assert route is not None
        assert route.pool.endpoints[0].pulse.failed_until == 0.0
        assert one.live.snapshot.idle.size == 0


async def test_a_body_that_breaks_off_or_stalls_is_answered(backend: EchoBackend) -> None:
    """Attacks 46 and 76: 400 for chunks that are none, 408 for silence; the backend's copy is never complete."""
    for tail, status in ((b"zz\r\n", 400), (b"", 408)):
        async with desk(client_stall_timeout="30s" if tail else "1ms") as one:
            one.register(HOST, backend)
            backend.script(lambda exchange: exchange.recv())
            with Client(one.port()) as client:
                head = f"POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".encode()
                await in_thread(client.send, head)
                await until(lambda: backend.received, "the request at the backend")
                if tail:
                    await in_thread(client.send, tail)
                assert (await in_thread(client.read_response)).status == status
            await one.idle()
            assert in_flight(one) == 0
        backend.clear()


@pytest.mark.parametrize("chunked", [True, False], ids=["no length promised", "a length promised"])
async def test_a_conversation_may_be_silent_but_a_promised_body_not(backend: EchoBackend, chunked: bool) -> None:
    """Attack 76, R120: what was promised is due; where nothing was, and the backend answers, only its own deadline holds."""

    def converse(exchange: Exchange) -> None:
        exchange.send(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n")
        exchange.read_body()
        exchange.send(b"0\r\n\r\n")

    framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 5"
    async with desk(client_stall_timeout="300ms", endpoint_timeout="10s") as one:
        one.register(HOST, backend)
        backend.script(converse)
        with Client(one.port()) as client:
            await in_thread(client.send, f"POST / HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n".encode())
            began = time.monotonic()
            head = await in_thread(client.recv)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            if chunked:
                await until(lambda: time.monotonic() - began > 0.8, "a silence")
                await in_thread(client.send, b"5\r\nhello\r\n0\r\n\r\n")
                assert (head + await in_thread(_rest, client)).endswith(b"3\r\nyes\r\n0\r\n\r\n")
            else:
                with pytest.raises(ConnectionError):
                    await in_thread(_rest, client)
        await one.idle()
    assert [one.body for one in backend.received] == ([b"hello"] if chunked else [b""])


def _rest(client: Client) -> bytes:
    """What comes up to the end of a chunked body."""
    data = client.recv()
    while data and not data.endswith(b"0\r\n\r\n"):
        data += client.recv()
    return data
