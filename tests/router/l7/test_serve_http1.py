"""router/l7/serve_http1.py: requests one after the other on one connection, in this process, on both event loops."""

import asyncio
import gc
import socket

import pytest

from router.wire.http1 import RequestHead
from tests.router.desk import desk, in_thread, raw
from tests.support.backend import EchoBackend
from tests.support.waiting import until

HOST = "app.open.example"
GET = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


async def read_all(sock: socket.socket) -> bytes:
    def read() -> bytes:
        pieces = []
        while piece := sock.recv(65536):
            pieces.append(piece)
        return b"".join(pieces)

    data: bytes = await in_thread(read)
    return data


async def test_a_connection_carries_one_request_after_the_other(backend: EchoBackend) -> None:
    """Answered in order; each leaves one record, and the connection counts them."""
    async with desk() as one:
        one.register(HOST, backend)
        with one.client() as client:
            for number in range(3):
                assert (await in_thread(client.request, HOST, f"/{number}")).status == 200
        await one.idle()
        assert [record.uri for record in one.records.records] == [b"/0", b"/1", b"/2"]
        assert backend.connections == 1


async def test_an_idle_connection_keeps_no_head(backend: EchoBackend) -> None:
    """A head may be long, and thousands of connections idle."""
    async with desk() as one:
        one.register(HOST, backend)
        with one.client() as client:
            for target in ("/" + "a" * 50_000, "/" + "b" * 50_000):
                assert (await in_thread(client.request, HOST, target)).status == 200
            await until(lambda: one.seen[0].served == 2, "both exchanges to end")
            heads = [each for each in gc.get_objects() if isinstance(each, RequestHead) and len(each.target) > 50_000]
            assert heads == []


async def test_pipelined_requests_are_answered_in_their_order(backend: EchoBackend) -> None:
    """RFC 9112 section 9.3.2: all in one segment, bodies in between."""
    post = f"POST /b HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhello".encode()
    last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with desk() as one:
        one.register(HOST, backend)
        with raw(one) as sock:
            sock.sendall(GET + post + last)
            answer = await read_all(sock)
        assert answer.count(b"HTTP/1.1 200 OK") == 3
        assert [request.request_line.split()[0] for request in backend.received] == ["GET", "POST", "GET"]
        assert backend.received[1].body == b"hello"


async def test_pipelined_requests_give_other_connections_their_turn() -> None:
    """Attack 76: hundreds of them in one segment, none of which needs a wait, do not hold the event loop."""
    loop = asyncio.get_running_loop()
    async with desk() as one:
        answered = most = 0

        def look() -> None:
            nonlocal answered, most
            now = len(one.records.records)
            answered, most = now, max(most, now - answered)
            if now < 300:
                loop.call_soon(look)

        loop.call_soon(look)
        with raw(one) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n" * 300)
            sock.shutdown(socket.SHUT_WR)
            assert (await read_all(sock)).count(b"HTTP/1.1 404 Not Found") == 300
        await one.idle()
        assert most <= 2


async def test_a_head_in_single_bytes_is_a_head(backend: EchoBackend) -> None:
    """However it is cut, before and between requests."""
    async with desk() as one:
        one.register(HOST, backend)
        with raw(one) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"):
                sock.sendall(bytes([byte]))
                await asyncio.sleep(0)
            assert (await read_all(sock)).startswith(b"HTTP/1.1 200 OK")
        assert len(backend.received) == 1


async def test_a_head_that_is_none_is_answered_and_the_connection_closed(backend: EchoBackend) -> None:
    """Attack 49: 400, nothing behind it is read as a request, and the backend saw nothing."""
    async with desk() as one:
        one.register(HOST, backend)
        with raw(one) as sock:
            sock.sendall(b"GET / HTTP/1.1\nHost: a\n\n\r\n\r\n" + GET)
            answer = await read_all(sock)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.count(b"HTTP/1.1") == 1
        assert backend.received == []


async def test_a_head_that_does_not_end_gets_408() -> None:
    """Attack 76: counted from the head's first byte."""
    async with desk(read_header_timeout="1ms") as one:
        with raw(one) as sock:
            sock.sendall(GET[:20])
            answer = await read_all(sock)
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert [record.status for record in one.records.records] == [408]


async def test_silence_ends_without_a_word() -> None:
    """Attack 76: at the idle deadline the connection closes, and no exchange was begun."""
    async with desk(frontend_idle_timeout="1ms") as one:
        with raw(one) as sock:
            assert await read_all(sock) == b""
        await one.idle()
        assert one.records.records == []


@pytest.mark.parametrize("sent", [b"", GET[:10]])
async def test_a_client_that_leaves_before_its_head_is_no_exchange(sent: bytes) -> None:
    """Nothing is answered or recorded."""
    async with desk() as one:
        with raw(one) as sock:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            assert await read_all(sock) == b""
        await one.idle()
        assert one.records.records == []


async def test_a_client_that_ends_its_side_still_gets_its_answer(backend: EchoBackend) -> None:
    """A half-closed connection is served to its end... unless the client is taken to have cancelled."""
    async with desk() as one:
        one.register(HOST, backend)
        with raw(one) as sock:
            sock.sendall(GET)
            backend_answers = await in_thread(backend.wait_for, 1)
            assert len(backend_answers) == 1
            assert (await in_thread(sock.recv, 15)) == b"HTTP/1.1 200 OK"
            sock.shutdown(socket.SHUT_WR)
        await one.idle()
        assert [record.status for record in one.records.records] == [200]


async def test_http_1_0_ends_the_connection_unless_it_asks_otherwise(backend: EchoBackend) -> None:
    """RFC 9112 section 9.3."""
    async with desk() as one:
        one.register(HOST, backend)
        with raw(one) as sock:
            keep = f"GET / HTTP/1.0\r\nHost: {HOST}\r\nConnection: keep-alive\r\n\r\n".encode()
            sock.sendall(keep + GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
            answer = await read_all(sock)
        assert answer.count(b"200 OK") == 2
        assert answer.count(b"keep-alive") >= 1


async def test_a_connection_told_to_close_takes_no_further_request(backend: EchoBackend) -> None:
    """`closing` counts between two requests."""
    async with desk() as one:
        one.register(HOST, backend)
        with one.client() as client:
            assert (await in_thread(client.request, HOST)).status == 200
            one.seen[0].closing = True
            response = await in_thread(client.request, HOST)
            assert response.get("connection") == "close"
            assert await in_thread(client.closed_by_server)
