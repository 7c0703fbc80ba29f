"""One stream of an HTTP/2 connection to a backend: a request, and its response as it comes.

Promise: a `RoundTrip` (see round_trip.py). What breaks the stream off is told after what had come before it; a stream that is
abandoned is cancelled, and leaves its place to another. Refuses to know: the other streams, and the bytes of the connection.
Source: RFC 9113 section 8.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final

from authz.decision import Check
from authz.deny import DenyLists
from router.backend.http2 import Http2Connection
from router.backend.round_trip import TOO_LARGE
from router.faults import Fault, Kind
from router.net.body import BodyMalformed, BodyReader, BodyTruncated, Inflow
from router.net.gate import Gate
from router.wire import http2_events as wire
from router.wire.http1 import CHUNKED, ChunkedDecoder, Fields, HeadLimits, ResponseHead
from router.wire.http2_client_heads import request_block
from router.wire.http2_frames import ErrorCode

INTERIM: Final = 16
"""Of interim heads that nobody has read."""


class Http2RoundTrip:
    """One stream, whose room on `connection` is taken from the beginning. See `RoundTrip` for what each part promises."""

    __slots__ = (
        "_connection", "_ending", "_fault", "_gate", "_heads", "_inflow", "_left", "_room", "_since", "_stream", "_trailers",
        "_whole", "broken", "dial_time", "dns_time", "endpoint", "local_address", "response_began", "reused", "tls_time",
    )  # fmt: skip

    def __init__(self, connection: Http2Connection) -> None:
        connection.join()
        upstream, reused = connection.upstream, connection.used
        self._connection = connection
        self.endpoint = upstream.endpoint
        self.local_address = upstream.local_address
        self.reused = reused
        self.dns_time, self.dial_time, self.tls_time = (
            (0.0, 0.0, 0.0) if reused else (upstream.dns_time, upstream.dial_time, upstream.tls_time)
        )
        self.response_began = False
        self.broken: Fault | None = None
        self._stream = 0
        self._since = 0.0
        self._heads: deque[ResponseHead] = deque()
        self._inflow: Inflow | None = None
        self._fault: Fault | None = None  # how it ended before its final head
        self._gate: Gate | None = None
        self._room: Gate | None = None
        self._ending = self._whole = False
        self._trailers: Fields = []
        self._left = False

    # ---- the request

    def start(self, method: bytes, target: bytes, fields: Fields, framing: int, whole: bytes | None) -> memoryview | None:
        connection = self._connection
        if not connection.hears or connection.core.closing:
            raise ConnectionResetError("the connection has ended")
        if framing == CHUNKED and whole is not None:
            fields.append((b"content-length", b"%d" % len(whole)))
        scheme = b"https" if self.endpoint.tls else b"http"
        self._since = connection.loop.time()
        self._stream = connection.core.open(method, request_block(method, scheme, target, fields), end=whole == b"")
        connection.trips[self._stream] = self
        self._ending = self._whole = bool(whole)
        rest = self.push(whole) if whole else None
        connection.flush()
        if not connection.hears:
            raise ConnectionResetError("the connection has ended")
        return rest

    def frame(self, data: bytes, *, last: bool, trailers: Fields) -> bytes | None:
        self._trailers = trailers
        self._ending = last
        if data:
            return data
        if last:
            self._finish()
            self._connection.flush()
        return None

    def push(self, data: bytes | memoryview) -> memoryview | None:
        connection = self._connection
        if not self._is_heard():
            return None
        room = max(0, connection.room)
        end = self._ending and not self._trailers and len(data) <= room
        taken = connection.core.send_data(self._stream, data if len(data) <= room else memoryview(data)[:room], end=end)
        if taken == len(data) and self._trailers:
            self._finish()
        connection.flush()
        return memoryview(data)[taken:] if taken < len(data) else None

    def _finish(self) -> None:
        core = self._connection.core
        if self._trailers:
            core.send_trailers(self._stream, self._trailers)
        else:
            core.send_data(self._stream, b"", end=True)

    async def writable(self, until: float) -> None:
        connection = self._connection
        if not self._is_heard():
            return
        if connection.core.room(self._stream) > 0 and connection.room > 0:
            return
        if self._room is None:
            self._room = Gate(connection.loop)
        connection.blocked[self] = None
        try:
            await self._wait(self._room, until)
        finally:
            connection.blocked.pop(self, None)

    def _is_heard(self) -> bool:
        """Does the backend still take this request? False where it has answered without it, or refused it, and all of it is here:
        the reading side finds out which. Raises BrokenPipeError where more of it would have to be fetched for nothing.
        """
        connection = self._connection
        if connection.hears and connection.core.sends(self._stream):
            return True
        if self._whole and connection.hears:
            return False
        raise BrokenPipeError("the stream takes nothing more")

    def wake_writer(self) -> None:
        """There may be room."""
        if self._room is not None and self._room.waited:
            self._connection.loop.call_soon(self._room.open)

    async def _wait(self, gate: Gate, until: float) -> None:
        wheel = self._connection.stream.wheel
        wheel.arm(gate, until)
        try:
            await gate
        finally:
            wheel.forget(gate)

    # ---- the response

    async def read_head(self, until: float, method: bytes, limits: HeadLimits) -> ResponseHead:
        while not self._heads:
            if self.broken is not None:
                raise self.broken
            if self._fault is not None:
                raise self._fault
            if self._gate is None:
                self._gate = Gate(self._connection.loop)
            try:
                await self._wait(self._gate, until)
            except TimeoutError:
                self._connection.suspect(self._since)
                raise Fault("endpoint_timeout", "response head") from None
        head = self._heads.popleft()
        if head.size > limits.max_bytes or len(head.fields) > limits.max_fields:
            raise Fault("response_too_large", "head_too_large" if head.size > limits.max_bytes else "too_many_fields")
        return head

    def body(self, response: ResponseHead, decoder: Callable[[], ChunkedDecoder]) -> BodyReader:
        assert self._inflow is not None  # it came with the head
        return self._inflow

    @property
    def ready(self) -> bool:
        return self._inflow is not None and self._inflow.waiting

    def interrupt(self, fault: Fault) -> None:
        if self._gate is not None and self._gate.waited:
            self._gate.fail(fault)
            return
        if self._inflow is not None:
            self._inflow.fail(fault)
        if self._room is not None and self._room.waited:
            self._room.fail(fault)

    def release(self, response: ResponseHead, *, fit: bool) -> None:
        self._leave(ErrorCode.NO_ERROR)

    def close(self) -> None:
        self._leave(ErrorCode.CANCEL)

    def _leave(self, code: ErrorCode) -> None:
        if self._left:
            return
        self._left = True
        connection = self._connection
        connection.trips.pop(self._stream, None)
        connection.core.reset(self._stream, code)  # nothing where both sides have ended it
        connection.flush()
        connection.left()

    # ---- what the connection says of it

    def on_head(self, head: ResponseHead, *, ended: bool) -> None:
        self.response_began = True
        connection = self._connection
        connection.used = True
        if head.status < 200 and self._too_many_interim(head):
            connection.core.reset(self._stream, ErrorCode.ENHANCE_YOUR_CALM)
            self.fail(Fault("response_malformed", "too many interim responses"))
            return
        self._heads.append(head)
        if head.status >= 200:
            self._inflow = Inflow(connection.loop, connection.stream.wheel, head.body, self._taken)
            if ended:
                self._inflow.end()
        self._wake_reader()

    def _too_many_interim(self, head: ResponseHead) -> bool:
        heads = self._heads
        return len(heads) >= INTERIM or sum(each.size for each in heads) + head.size > self._connection.limits.max_head_bytes

    def on_data(self, data: bytes, *, ended: bool) -> None:
        if self._inflow is not None:
            if data:
                self._inflow.put(data)
            if ended:
                self._inflow.end()

    def on_end(self, trailers: Fields) -> None:
        if self._inflow is not None:
            self._inflow.end(trailers)

    def on_reset(self, event: wire.Reset) -> None:
        if not event.processed:
            self.fail(Fault("stream_refused", event.reason if event.reason == "goaway" else _name(event.code)))
        elif event.by_peer:
            self.fail(Fault("stream_reset", _name(event.code)))
        else:
            self.response_began = True
            self.fail(Fault("response_too_large" if event.reason in TOO_LARGE else "response_malformed", event.reason))

    def fail(self, fault: Fault) -> None:
        """The stream is over; what is whole already stays."""
        if self._inflow is not None:
            self._inflow.fail(BodyMalformed(fault.detail) if fault.kind == "response_malformed" else BodyTruncated())
        elif self._fault is None:
            self._fault = fault
        self._wake_reader()
        self.wake_writer()

    def _wake_reader(self) -> None:
        if self._gate is not None and self._gate.waited:
            self._connection.loop.call_soon(self._gate.open)

    def _taken(self, size: int) -> None:
        """The reader has it: as much may come again."""
        self._connection.core.consumed(self._stream, size)
        self._connection.flush_soon()

    # ---- who it is

    def why_reset(self, error: OSError) -> Kind:
        return "connection_reset" if self._stream else "stream_refused"

    def denied(self, lists: DenyLists) -> Check | None:
        return self._connection.upstream.denied(lists)

    def passes(self, lists: DenyLists) -> bool:
        return self._connection.upstream.passes(lists)


def _name(code: int) -> str:
    with contextlib.suppress(ValueError):
        return ErrorCode(code).name
    return f"code {code}"
