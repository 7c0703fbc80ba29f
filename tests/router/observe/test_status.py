"""router/observe/status.py: the operator's HTTP server, over real sockets and real TLS."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
import trustme
import uvloop

from router.observe import status
from router.observe.endpoints import Handler, Response, health_handlers
from router.observe.health import Health
from router.observe.status import MAX_CONNECTIONS, StatusServer, load_certificate, tls_context
from router.wire.http1 import RequestHead


def pieces(_: RequestHead) -> Response:
    """A body that is made as it is sent."""

    def body() -> Iterator[bytes]:
        yield b"one,"
        yield b"two"

    return Response(200, [(b"content-type", b"text/plain")], body())


def healthy() -> dict[str, Handler]:
    """Handlers of a router that serves."""
    health = Health()
    health.started()
    return {**health_handlers(health), "/pieces": pieces, "/asked": asked}


def asked(_: RequestHead) -> Response:
    """A body that others have to be asked for."""

    async def body() -> bytes:
        await asyncio.sleep(0)
        return b"counted"

    return Response(200, [(b"content-type", b"text/plain")], body())


class Ticks:
    """A stream of the numbers that are put in, until it is closed."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.closed = asyncio.Event()

    def handler(self, _: RequestHead) -> Response:
        return Response(200, [], self)

    def __aiter__(self) -> "Ticks":
        return self

    async def __anext__(self) -> bytes:
        piece = await self.queue.get()
        if not piece:
            raise StopAsyncIteration
        return piece

    def close(self) -> None:
        self.closed.set()
        self.queue.put_nowait(b"")


@asynccontextmanager
async def streaming() -> AsyncIterator[tuple[StatusServer, int, Ticks]]:
    """A server with one stream, at /ticks."""
    ticks = Ticks()
    server = StatusServer({"/ticks": ticks.handler})
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, port, ticks
    finally:
        await server.close()


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None, head_seconds: float = 5.0) -> AsyncIterator[int]:
    """A running server's port."""
    server = StatusServer(healthy(), head_seconds)
    port = await server.start("127.0.0.1", 0, tls)
    try:
        yield port
    finally:
        await server.close()


async def exchange(port: int, data: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """Send bytes, read all that comes back; nothing if the connection was cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None)
    try:
        writer.write(data)
        return await reader.read(-1)
    except ConnectionResetError:
        return b""
    finally:
        await left(writer)


async def left(writer: asyncio.StreamWriter) -> None:
    """Close a client's side."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def run(main: Callable[[], Awaitable[bytes]]) -> bytes:
    """What `main` returns, on asyncio's event loop and on uvloop's alike."""

    async def bounded() -> bytes:
        async with asyncio.timeout(20):
            return await main()

    with asyncio.Runner() as runner:
        answer = runner.run(bounded())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(bounded()) == answer
    return answer


@pytest.mark.parametrize(
    ("data", "start", "end"),
    [
        (
            b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"content-length: 3\r\n\r\nok\n",
        ),
        (b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"content-length: 3\r\n\r\n"),
        (b"GET /health HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"\r\n\r\nok\n"),
        (b"GET /asked HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"content-length: 7\r\n\r\ncounted"),
        (b"HEAD /asked HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"content-length: 7\r\n\r\n"),
        (b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 404 Not Found\r\n", b"Not Found\n"),
        (b"GET  / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n", b"Bad Request\n"),
        (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n", b"HTTP/1.1 431 ", b"Bad Request\n"),
        (
            b"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"4\r\none,\r\n3\r\ntwo\r\n0\r\n\r\n",
        ),
        (b"GET /pieces HTTP/1.0\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"\r\n\r\none,two"),
    ],
)
def test_a_request_is_answered_and_the_connection_closed(data: bytes, start: bytes, end: bytes) -> None:
    """Health, unknown paths, malformed and oversize heads, bodies in pieces."""

    async def main() -> bytes:
        async with serving() as port:
            return await exchange(port, data)

    answer = run(main)
    assert answer.startswith(start)
    assert answer.endswith(end)
    assert b"\r\nconnection: close\r\n" in answer


def test_a_stream_goes_on_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than an answer may take, piece by piece as they come, chunked for HTTP/1.1."""
    monkeypatch.setattr(status, "ANSWER_SECONDS", 0.0)

    async def main() -> bytes:
        async with streaming() as (_, port, ticks):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /ticks HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            for piece in (b"one", b"two"):
                ticks.queue.put_nowait(piece)
                assert await reader.readuntil(piece + b"\r\n") == b"3\r\n" + piece + b"\r\n"
            ticks.queue.put_nowait(b"")
            rest = await reader.read()
            assert ticks.closed.is_set()
            await left(writer)
            return rest

    assert run(main) == b"0\r\n\r\n"


@pytest.mark.parametrize("goodbye", [b"", b"more"], ids=["leaves", "speaks"])
def test_a_stream_is_closed_when_its_client_leaves_or_speaks(goodbye: bytes) -> None:
    """At once, not with the next piece."""

    async def main() -> bytes:
        async with streaming() as (_, port, ticks):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /ticks HTTP/1.0\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            if goodbye:
                writer.write(goodbye)
            else:
                writer.close()
            await ticks.closed.wait()
            await left(writer)
        return b""

    run(main)


def test_a_stream_counts_among_the_connections_and_ends_with_the_server() -> None:
    """It takes one of MAX_CONNECTIONS, and `close` leaves none behind."""

    async def main() -> bytes:
        async with streaming() as (server, port, ticks):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /ticks HTTP/1.0\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            assert len(server._open) == 1
            await server.close()
            await ticks.closed.wait()
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            assert not server._open
            await left(writer)
        return b""

    run(main)


def test_a_stream_whose_client_takes_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 76: no memory grows while it sleeps, and it does not sleep for ever."""
    monkeypatch.setattr(status, "PIECE_SECONDS", 0.01)

    async def main() -> bytes:
        async with streaming() as (_, port, ticks):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(b"GET /ticks HTTP/1.0\r\n\r\n")
            for _ in range(64):
                ticks.queue.put_nowait(b"x" * 1024 * 1024)
            await ticks.closed.wait()
            assert ticks.queue.qsize() > 10
            reader.feed_eof()
            writer.transport.abort()
        return b""

    run(main)


def test_a_stream_whose_client_has_vanished_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats fill no buffer: only what is never acknowledged tells that nobody is there (here: that nobody reads)."""
    monkeypatch.setattr(status, "PIECE_SECONDS", 0.2)

    async def main() -> bytes:
        async with streaming() as (server, port, ticks):
            assert server._listening is not None
            server._listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(client, ("127.0.0.1", port))
                await loop.sock_sendall(client, b"GET /ticks HTTP/1.0\r\n\r\n")
                ticks.queue.put_nowait(b"x" * 40_000)  # less than what makes the server wait
                async with asyncio.timeout(5):
                    await ticks.closed.wait()
        return b""

    run(main)


def test_a_head_that_does_not_come_ends_the_connection() -> None:
    """A client that dawdles costs a connection for the deadline, no longer."""

    async def main() -> bytes:
        async with serving(head_seconds=0.01) as port:
            return await exchange(port, b"GET /health HT")

    assert run(main) == b""


def test_a_client_that_leaves_early_is_forgotten() -> None:
    """Nothing raises and the next client is served."""

    async def main() -> bytes:
        async with serving() as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /hea")
            await left(writer)
            return await exchange(port, b"GET /health HTTP/1.0\r\n\r\n")

    assert run(main).endswith(b"ok\n")


def test_silent_connections_keep_nobody_out() -> None:
    """Attack 76: MAX_CONNECTIONS may wait for their heads; for one more the oldest of them is closed, so probes are answered."""

    async def main() -> bytes:
        async with serving() as port:
            waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
            answer = await exchange(port, b"GET /health HTTP/1.0\r\n\r\n")
            with suppress(ConnectionResetError):
                assert await waiting[0][0].read() == b""
            assert not waiting[1][0].at_eof()
            for _, writer in waiting:
                await left(writer)
            return answer

    assert run(main).startswith(b"HTTP/1.1 200 OK\r\n")


def test_close_ends_open_connections() -> None:
    """Nothing is left behind."""

    async def main() -> bytes:
        server = StatusServer(healthy())
        port = await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET")
        await exchange(port, b"GET /health HTTP/1.0\r\n\r\n")
        await server.close()
        with suppress(ConnectionResetError):
            assert await reader.read(1) == b""
        await left(writer)
        return b""

    run(main)


def test_a_server_that_never_started_can_be_closed() -> None:
    """Start-up may fail half-way."""
    asyncio.run(StatusServer({}).close())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A CA."""
    return trustme.CA()


def server_tls(authority: trustme.CA, *, verify: bool) -> ssl.SSLContext:
    """The server's context, from PEM in memory."""
    issued = authority.issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return tls_context(chain, issued.private_key_pem.bytes(), authority.cert_pem.bytes() if verify else None)


def client_tls(authority: trustme.CA, issuer: trustme.CA | None = None) -> ssl.SSLContext:
    """A client's context, with a certificate of `issuer` if given."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if issuer is not None:
        issuer.issue_cert("client@example.com").configure_cert(context)
    return context


REQUEST = b"GET /health HTTP/1.0\r\n\r\n"


def test_health_is_served_over_tls(authority: trustme.CA) -> None:
    """`status.tls`: certificate and key never touch the disk."""

    async def main() -> bytes:
        async with serving(server_tls(authority, verify=False)) as port:
            return await exchange(port, REQUEST, client_tls(authority))

    assert run(main).endswith(b"ok\n")


def test_silent_handshakes_keep_nobody_out(authority: trustme.CA) -> None:
    """Attack 76: connections are counted before their handshake; the oldest that says nothing makes room."""

    async def main() -> bytes:
        async with serving(server_tls(authority, verify=False)) as port:
            waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2 * MAX_CONNECTIONS)]
            answer = await exchange(port, REQUEST, client_tls(authority))
            with suppress(ConnectionResetError):
                assert await waiting[MAX_CONNECTIONS - 1][0].read() == b""
            assert not waiting[-1][0].at_eof()
            for _, writer in waiting:
                await left(writer)
            return answer

    assert run(main).endswith(b"ok\n")


def test_clients_that_take_their_answer_and_stay_are_counted(authority: trustme.CA) -> None:
    """Attack 76: TLS waits half a minute for a goodbye that never comes; who is waited for still counts, and makes room."""
    context = client_tls(authority)

    def ask(port: int) -> ssl.SSLSocket:
        client = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
        client.sendall(REQUEST)
        assert client.recv(8) == b"HTTP/1.1"
        return client

    async def main() -> bytes:
        async with serving(server_tls(authority, verify=False)) as port:
            before = len(os.listdir("/proc/self/fd"))
            staying = [await asyncio.to_thread(ask, port) for _ in range(2 * MAX_CONNECTIONS)]
            held = len(os.listdir("/proc/self/fd")) - before
            for client in staying:
                client.close()
            assert held <= len(staying) + MAX_CONNECTIONS + 4
        return b""

    run(main)


def test_a_client_that_never_takes_the_rest_of_its_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 76: what waits to be sent after the handler has ended has a deadline too."""
    monkeypatch.setattr(status, "LINGER_SECONDS", 0.05)

    async def main() -> bytes:
        handlers: dict[str, Handler] = {"/": lambda _: Response(200, [], b"x" * 60_000)}
        server = StatusServer(handlers)
        port = await server.start("127.0.0.1", 0)
        assert server._listening is not None
        server._listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", port))
            await loop.sock_sendall(client, b"GET / HTTP/1.0\r\n\r\n")
            while not server._open:
                await asyncio.sleep(0)
            await asyncio.wait(server._open, timeout=5)
            assert not server._open
            got = 0
            with suppress(ConnectionResetError):
                while data := await loop.sock_recv(client, 65536):
                    got += len(data)
            assert got < 60_000
        await server.close()
        return b""

    run(main)


def test_a_client_certificate_opens_a_verified_endpoint(authority: trustme.CA) -> None:
    """`prometheus.ca_path`: only those with a certificate of that CA get in."""

    async def main() -> bytes:
        async with serving(server_tls(authority, verify=True)) as port:
            return await exchange(port, REQUEST, client_tls(authority, authority))

    assert run(main).endswith(b"ok\n")


@pytest.mark.parametrize("issuer", [None, trustme.CA()], ids=["none", "foreign"])
def test_without_the_right_client_certificate_nobody_gets_in(authority: trustme.CA, issuer: trustme.CA | None) -> None:
    """No certificate, or one of another CA."""

    async def main() -> bytes:
        async with serving(server_tls(authority, verify=True)) as port:
            with suppress(ssl.SSLError):  # TLS 1.2 says so in the handshake, 1.3 at the first read
                return await exchange(port, REQUEST, client_tls(authority, issuer))
            return b""

    assert run(main) == b""


def test_a_certificate_can_be_replaced_while_serving(authority: trustme.CA) -> None:
    """The next handshake has the new one."""
    other = trustme.CA()
    context = server_tls(authority, verify=False)
    issued = other.issue_cert("localhost")
    load_certificate(context, issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes())

    async def main() -> bytes:
        async with serving(context) as port:
            return await exchange(port, REQUEST, client_tls(other))

    assert run(main).endswith(b"ok\n")


def test_a_key_of_another_certificate_is_refused(authority: trustme.CA) -> None:
    """A mistake is found at start, not at the first handshake."""
    one, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    with pytest.raises(ssl.SSLError):
        tls_context(one.cert_chain_pems[0].bytes(), other.private_key_pem.bytes())
