"""The operator's HTTP server: a thin shell around endpoints.py; listeners for health, routes, metrics.

Promises: at most MAX_CONNECTIONS at a time (for one more the oldest that owes its head, or has had its answer, is closed, else
that one), a head of at most MAX_HEAD bytes within HEAD_SECONDS, an answer within ANSWER_SECONDS (a stream within STREAM_SECONDS,
while its client takes each piece within PIECE_SECONDS), one request a connection, and after it LINGER_SECONDS to take the rest
and to close; nothing a client sends raises out of here; `close` leaves no connection behind.
Refuses to know what is answered. Not on the data path, so asyncio's streams and the standard library's TLS
serve here.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Iterator, Mapping
from http import HTTPStatus

from router.net.listener import bind
from router.observe.endpoints import Handler, Response, Stream, respond
from router.wire.http1 import (
    HeadLimits,
    Malformed,
    RequestHead,
    encode_chunk,
    encode_last_chunk,
    parse_request_head,
    render_response_head,
)

MAX_HEAD = 16 * 1024
MAX_FIELDS = 100
MAX_CONNECTIONS = 64
HEAD_SECONDS = 5.0
ANSWER_SECONDS = 30.0
STREAM_SECONDS = 3600.0
PIECE_SECONDS = 30.0
LINGER_SECONDS = 5.0
PAUSE_SECONDS = 0.2
CLOSE_SECONDS = 1.0


class StatusServer:
    """One listener. `handlers` may gain entries while it runs."""

    def __init__(self, handlers: Mapping[str, Handler], head_seconds: float = HEAD_SECONDS) -> None:
        self._handlers = handlers
        self._head_seconds = head_seconds
        self._tls: ssl.SSLContext | None = None
        self._listening: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._spare: dict[asyncio.Task[None], None] = {}  # of the open ones, in order: no head yet, or the answer already

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; return the port (a free one, if `port` is 0). OSError if the address is taken."""
        loop = asyncio.get_running_loop()
        [found, *_] = await loop.getaddrinfo(host or "::", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self._tls = tls
        self._listening = bind(str(found[4][0]), port)
        self._listening.setblocking(False)
        self._accepting = loop.create_task(self._accept(loop, self._listening))
        return int(self._listening.getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop what is open."""
        if self._accepting is None or self._listening is None:
            return
        tasks = [self._accepting, *self._open]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        self._listening.close()

    async def _accept(self, loop: asyncio.AbstractEventLoop, listening: socket.socket) -> None:
        """Count connections before their handshake: silence in TLS costs a descriptor too."""
        while True:
            try:
                sock, _ = await loop.sock_accept(listening)
            except OSError:  # out of descriptors, or the client is gone already
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if len(self._open) >= MAX_CONNECTIONS and not self._shed():
                sock.close()
                continue
            # Who is gone without a word is known by what it does not acknowledge, not after the kernel's quarter of an hour.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(PIECE_SECONDS * 1000))
            task = loop.create_task(self._serve(loop, sock))
            self._open.add(task)
            self._spare[task] = None
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._spare.pop(task, None)

    def _shed(self) -> bool:
        """Make room: whoever has said nothing, or not left, for longest goes, or it could keep the load balancers' probes out."""
        oldest = next(iter(self._spare), None)
        if oldest is None:
            return False
        self._ended(oldest)
        oldest.cancel()
        return True

    async def _serve(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        """One connection, from its handshake to its end."""
        reader = asyncio.StreamReader(limit=MAX_HEAD, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport: asyncio.Transport | None = None
        task = asyncio.current_task()
        assert task is not None
        try:
            async with asyncio.timeout(self._head_seconds):
                transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=self._tls)
                request = await _read_head(reader)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            if request is not None:
                self._spare.pop(task, None)
                await self._answer(request, writer, reader)
                self._spare[task] = None
            transport.close()
            async with asyncio.timeout(LINGER_SECONDS):  # what is not yet sent, and TLS's goodbye: the client may never take them
                await writer.wait_closed()
        except (OSError, TimeoutError):
            pass
        finally:
            if transport is None:
                sock.close()
            else:
                transport.abort()

    async def _answer(self, request: RequestHead | Malformed, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> None:
        if isinstance(request, Malformed):
            response = Response(request.status, [(b"content-type", b"text/plain; charset=utf-8")], b"Bad Request\n")
            head_only = chunked = False
        else:
            response = respond(request, self._handlers)
            head_only, chunked = request.method == b"HEAD", request.minor == 1
        body = response.body
        if isinstance(body, Awaitable):
            async with asyncio.timeout(ANSWER_SECONDS):
                body = await body
        if isinstance(body, bytes | Iterator):
            async with asyncio.timeout(ANSWER_SECONDS):
                await _send(response, body, writer, head_only=head_only, chunked=chunked)
            return
        try:
            async with asyncio.timeout(STREAM_SECONDS):
                await _send_stream(response, body, writer, reader, chunked=chunked)
        finally:
            body.close()


async def _read_head(reader: asyncio.StreamReader) -> RequestHead | Malformed | None:
    """None: the client left before its head was whole."""
    try:
        data = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return Malformed("head_too_large", 431)
    except asyncio.IncompleteReadError:
        return None
    return parse_request_head(data, HeadLimits(MAX_HEAD, MAX_FIELDS))


async def _send(
    response: Response, body: bytes | Iterator[bytes], writer: asyncio.StreamWriter, *, head_only: bool, chunked: bool
) -> None:
    size = len(body) if isinstance(body, bytes) else None
    writer.write(_head(response, size, chunked=chunked))
    if not head_only:
        if isinstance(body, bytes):
            writer.write(body)
        else:
            await _send_pieces(body, writer, chunked=chunked)
    await writer.drain()


def _head(response: Response, size: int | None, *, chunked: bool) -> bytes:
    fields = [*response.fields, (b"connection", b"close"), (b"x-content-type-options", b"nosniff")]
    if size is not None:
        fields.append((b"content-length", b"%d" % size))
    elif chunked:
        fields.append((b"transfer-encoding", b"chunked"))
    return render_response_head(response.status, _phrase(response.status), fields)


async def _send_pieces(pieces: Iterator[bytes], writer: asyncio.StreamWriter, *, chunked: bool) -> None:
    for piece in pieces:
        if piece:  # an empty chunk would be the last
            writer.write(encode_chunk(piece) if chunked else piece)
            await writer.drain()
        await asyncio.sleep(0)  # a long answer must not hold up the requests that share this loop
    if chunked:
        writer.write(encode_last_chunk([]))


async def _send_stream(
    response: Response, body: Stream, writer: asyncio.StreamWriter, reader: asyncio.StreamReader, *, chunked: bool
) -> None:
    """Send what comes until it ends. A client has nothing more to say: when it says something, or leaves, that is the end."""
    writer.write(_head(response, None, chunked=chunked))
    gone = asyncio.get_running_loop().create_task(_wait_for_the_end(reader))
    gone.add_done_callback(lambda _: body.close())
    try:
        async for piece in body:
            writer.write(encode_chunk(piece) if chunked else piece)
            async with asyncio.timeout(PIECE_SECONDS):
                await writer.drain()
        if chunked:
            writer.write(encode_last_chunk([]))
        await writer.drain()
    finally:
        gone.cancel()


async def _wait_for_the_end(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        await reader.read(1)


def _phrase(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode()


def tls_context(certificate: bytes, key: bytes, client_ca: bytes | None = None) -> ssl.SSLContext:
    """A server context from PEM, TLS 1.2 or newer; with `client_ca` only its clients get in.

    Raises ssl.SSLError if the PEM holds no certificate, no key, or one that does not fit the other.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, certificate, key)
    if client_ca is not None:
        context.load_verify_locations(cadata=client_ca.decode("ascii", "replace"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def load_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Give a context its certificate, or a new one while it is in use. Raises as `tls_context`."""
    # The library reads files only. Memory that has a name keeps the key off the disk.
    descriptor = os.memfd_create("status-certificate", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(certificate + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
    finally:
        os.close(descriptor)


def _no_password() -> bytes:
    """An encrypted key must fail; without this OpenSSL would ask on the terminal and block the start."""
    return b""
