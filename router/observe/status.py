"""The operator's HTTP server: a thin shell around endpoints.py; listeners for health, routes, metrics.

Promises: at most MAX_CONNECTIONS at a time (for one more the oldest that still owes its head is closed, else that one), a head
of at most MAX_HEAD bytes within HEAD_SECONDS, an answer within ANSWER_SECONDS, one request a connection; nothing a client sends
raises out of here; `close` leaves no connection behind.
Refuses to know what is answered. Not on the data path, so asyncio's streams and the standard library's TLS
serve here.
"""

import asyncio
import os
import ssl
from collections.abc import Iterator, Mapping
from http import HTTPStatus

from router.observe.endpoints import Handler, Response, respond
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
HANDSHAKE_SECONDS = 5.0
CLOSE_SECONDS = 1.0


class StatusServer:
    """One listener. `handlers` may gain entries while it runs."""

    def __init__(self, handlers: Mapping[str, Handler], head_seconds: float = HEAD_SECONDS) -> None:
        self._handlers = handlers
        self._head_seconds = head_seconds
        self._open: set[asyncio.StreamWriter] = set()
        self._silent: dict[asyncio.StreamWriter, None] = {}  # of the open ones those without a head, oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; return the port (a free one, if `port` is 0). OSError if the address is taken."""
        self._server = await asyncio.start_server(
            self._serve,
            host,
            port,
            limit=MAX_HEAD,
            ssl=tls,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if tls else None,
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening and drop what is open."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._open):
                writer.transport.abort()
            if self._tasks:  # they end by themselves; Python 3.11 complains of handlers that are cancelled
                await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if len(self._open) >= MAX_CONNECTIONS and not self._shed():
            writer.transport.abort()
            return
        self._open.add(writer)
        self._silent[writer] = None
        try:
            async with asyncio.timeout(self._head_seconds):
                request = await _read_head(reader)
            self._silent.pop(writer, None)
            if request is not None:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._answer(request, writer)
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            self._open.discard(writer)
            self._silent.pop(writer, None)
            writer.close()

    def _shed(self) -> bool:
        """Make room: whoever has said nothing for longest goes, or silence could keep the load balancers' probes out."""
        oldest = next(iter(self._silent), None)
        if oldest is None:
            return False
        del self._silent[oldest]
        self._open.discard(oldest)
        oldest.transport.abort()
        return True

    async def _answer(self, request: RequestHead | Malformed, writer: asyncio.StreamWriter) -> None:
        if isinstance(request, Malformed):
            fields = [(b"content-type", b"text/plain; charset=utf-8")]
            answer = Response(request.status, fields, b"Bad Request\n")
            await _send(answer, writer, head_only=False, chunked=False)
            return
        response = respond(request, self._handlers)
        await _send(response, writer, head_only=request.method == b"HEAD", chunked=request.minor == 1)


async def _read_head(reader: asyncio.StreamReader) -> RequestHead | Malformed | None:
    """None: the client left before its head was whole."""
    try:
        data = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return Malformed("head_too_large", 431)
    except asyncio.IncompleteReadError:
        return None
    return parse_request_head(data, HeadLimits(MAX_HEAD, MAX_FIELDS))


async def _send(response: Response, writer: asyncio.StreamWriter, *, head_only: bool, chunked: bool) -> None:
    fields = [*response.fields, (b"connection", b"close"), (b"x-content-type-options", b"nosniff")]
    if isinstance(response.body, bytes):
        fields.append((b"content-length", b"%d" % len(response.body)))
    elif chunked:
        fields.append((b"transfer-encoding", b"chunked"))
    writer.write(render_response_head(response.status, _phrase(response.status), fields))
    if not head_only:
        if isinstance(response.body, bytes):
            writer.write(response.body)
        else:
            await _send_pieces(response.body, writer, chunked=chunked)
    await writer.drain()


async def _send_pieces(pieces: Iterator[bytes], writer: asyncio.StreamWriter, *, chunked: bool) -> None:
    for piece in pieces:
        writer.write(encode_chunk(piece) if chunked else piece)
        await writer.drain()
        await asyncio.sleep(0)  # a long answer must not hold up the requests that share this loop
    if chunked:
        writer.write(encode_last_chunk([]))


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
