"""router/l7/serve.py: which version of HTTP a connection speaks, in this process, on both event loops."""

import socket

import pytest

from tests.router.desk import desk, in_thread, raw
from tests.router.h2_caller import Caller
from tests.support.backend import EchoBackend

HOST = "app.open.example"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()


async def test_prior_knowledge_is_served_where_the_operator_allows_it(backend: EchoBackend) -> None:
    """RFC 9113 section 3.3; HTTP/1.1 on the same port goes on."""
    async with desk(enable_h2c=True) as one:
        one.register(HOST, backend)
        with Caller(one.port()) as caller:
            answer = await in_thread(caller.get, HOST)
        assert (answer.status, (await one.get(HOST)).status) == (200, 200)
        await one.idle()
        assert [record.proto for record in one.records.records] == [b"HTTP/2.0", b"HTTP/1.1"]


async def test_without_leave_the_preface_is_no_request() -> None:
    """Attack 53: it is answered as the HTTP/1.1 that it is not, and the connection ends."""
    async with desk() as one:
        with raw(one) as sock:
            sock.sendall(PREFACE)
            assert (await in_thread(read_all, sock)).startswith(b"HTTP/1.1 505 ")


@pytest.mark.parametrize("data", [GET, PREFACE[:2] + b"X" + GET])
async def test_what_only_begins_like_the_preface_is_http_1_1(data: bytes, backend: EchoBackend) -> None:
    """Byte by byte: a method may begin with P, R and I."""
    async with desk(enable_h2c=True) as one:
        one.register(HOST, backend)
        with raw(one) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in data:
                sock.sendall(bytes([byte]))
            assert (await in_thread(read_all, sock)).startswith(b"HTTP/1.1 ")


async def test_a_preface_that_stops_is_waited_for_no_longer_than_a_head() -> None:
    """Attack 76: `read_header_timeout`."""
    async with desk(enable_h2c=True, read_header_timeout="300ms") as one:
        with raw(one) as sock:
            sock.sendall(PREFACE[:5])
            assert await in_thread(read_all, sock) == b""
        await one.idle()


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while more := sock.recv(65536):
        data += more
    return data
