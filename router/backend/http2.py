"""A backend connection that speaks HTTP/2, and the many round trips that share it.

Promise: each stream is a `RoundTrip` (see round_trip.py), and what one of them meets is its own affair: a body that nobody
reads holds back its own sender (the stream's window opens as its reader takes the bytes), a request that the backend does not
take waits on its own, a stream that is reset or malformed ends alone. Memory: a window a stream, OUT_BYTES of what is to be
sent, and the heads that wait to be read. A connection that has said it will end takes no new streams, and ends with its last.
Refuses to know: who may have a stream (`http2_pool.py`), frames (`wire/http2_client.py`). Source: RFC 9113.

One task reads; whoever has something to say writes at once what the kernel takes, and a second task lives only while that was not
all.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from authz.decision import Check
from authz.deny import DenyLists
from router.backend.http1 import Http1Upstream
from router.backend.round_trip import TOO_LARGE
from router.faults import Fault, Kind
from router.net.body import BodyMalformed, BodyReader, BodyTruncated, Inflow
from router.net.deadline import NEVER, Timed
from router.net.gate import Gate
from router.wire import http2_events as wire
from router.wire.http1 import CHUNKED, ChunkedDecoder, Fields, HeadLimits, ResponseHead
from router.wire.http2_client import ClientConnection
from router.wire.http2_client_heads import request_block
from router.wire.http2_events import Event
from router.wire.http2_frames import ErrorCode
from router.wire.http2_limits import STREAMS, Http2Limits

OUT_BYTES: Final = 256 * 1024
"""What may wait for one backend to read: enough to keep it busy, and no more of a body is taken from a client."""
UNHEARD_MS: Final = 30_000
"""Milliseconds in which the other machine must acknowledge what was sent: when it is gone without a word, all requests to it
would go into the same dead connection. Pings would tell too, but gRPC servers punish them."""
INTERIM: Final = 16
"""Of interim heads that nobody has read."""


class NotHttp2(Exception):
    """Whoever answered speaks something else; no request was sent."""


class Keeper(Protocol):
    """Where connections are shared."""

    def freed(self, connection: Http2Connection) -> None:
        """It has room for another stream, or no stream any more."""

    def ended(self, connection: Http2Connection) -> None:
        """It is closed."""

    def speaks_http1(self, connection: Http2Connection) -> None:
        """The backend wants HTTP/1.1."""


class Http2Connection:
    """`upstream` is the connection as it was dialled: who it is, and how long its making took. `busy` counts its round trips,
    from the moment they are given out; `used`: it has brought a response; `mute`: the backend reads no more, but what it has said
    already is still read.
    """

    __slots__ = (
        "_flushing", "_heard", "_reader", "_unsent", "_writer", "blocked", "busy", "closed", "core", "keeper", "limits", "loop",
        "mute", "rest", "retired", "stream", "trips", "upstream", "used",
    )  # fmt: skip

    def __init__(self, upstream: Http1Upstream, limits: Http2Limits, keeper: Keeper | None = None) -> None:
        self.upstream = upstream
        self.stream = upstream.stream
        self.loop = upstream.stream.loop
        self.keeper = keeper
        self.limits = limits
        self.core = ClientConnection(limits)
        self.trips: dict[int, Http2RoundTrip] = {}
        self.blocked: dict[Http2RoundTrip, None] = {}
        self.busy = 0
        self.used = False
        self.retired = False
        self.mute = False
        self.closed = False
        self.rest = Rest(self)
        self._heard = self.loop.time()
        self._unsent: memoryview | None = None
        self._flushing = False
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None

    async def settle(self, until: float) -> None:
        """Say the preface and hear the backend's: before that no request is sent, lest one who speaks another protocol read it in
        its own way. Raises NotHttp2, Fault; then it is closed.
        """
        try:
            self.flush()
            while not self.core.ready:
                data = await self.stream.recv(until)
                if not data:
                    raise NotHttp2("closed")
                self._take(self.core.receive(data, self.loop.time()))
                if self.core.ended:
                    raise NotHttp2("speaks something else")
        except TimeoutError:
            self.close()
            raise Fault("dial_timeout", "no HTTP/2 settings") from None
        except OSError as error:
            self.close()
            kind = self.upstream.why_reset(error)
            if kind != "connection_reset":
                raise Fault(kind, str(error)) from error
            raise NotHttp2("reset") from error
        except BaseException:
            self.close()
            raise
        self.stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD_MS)
        self.flush()
        self._reader = self.loop.create_task(self._read())

    # ---- room

    @property
    def streams(self) -> int:
        """How many it takes at a time."""
        return min(self.core.peer_streams, STREAMS)

    @property
    def hears(self) -> bool:
        """Does the backend still read?"""
        return not (self.closed or self.mute)

    @property
    def accepts(self) -> bool:
        """Will it ever take another stream?"""
        return not (self.closed or self.retired or self.core.closing or self.core.exhausted)

    @property
    def free(self) -> bool:
        return self.accepts and self.busy < self.streams

    def trip(self) -> Http2RoundTrip:
        """A round trip, with the room it needs."""
        self.busy += 1
        return Http2RoundTrip(self, reused=self.used)

    def left(self) -> None:
        """A round trip is over."""
        self.busy -= 1
        if not self.busy and not self.accepts:
            self.close()
        elif self.keeper is not None and not self.closed:
            self.keeper.freed(self)

    def retire(self) -> None:
        """No new streams; closed when the last has ended."""
        self.retired = True
        if not self.busy:
            self.close()

    def suspect(self, since: float) -> None:
        """A response has not come in time. If nothing else has either, nobody may be there any more."""
        if self._heard <= since:
            self.retire()

    def close(self) -> None:
        """End it with every stream on it."""
        if self.closed:
            return
        self.core.terminate(ErrorCode.NO_ERROR, "")
        self.flush()
        self._end("connection_closed")

    # ---- bytes out

    @property
    def room(self) -> int:
        """Bytes of bodies that may be handed over now."""
        return OUT_BYTES - self.core.pending - (len(self._unsent) if self._unsent is not None else 0)

    def flush(self) -> None:
        """Send what there is to send, as far as the kernel takes it."""
        if self._unsent is not None or self.closed or not self.core.pending:
            return
        data = self.core.take_output()
        if self.mute:
            return
        try:
            self._unsent = self.stream.push(data)
        except OSError:
            self._fall_mute()
        if self._unsent is not None:
            self._writer = self.loop.create_task(self._write())

    def flush_soon(self) -> None:
        """On the loop's next turn, once for all that is said until then."""
        if not self._flushing and not self.closed:
            self._flushing = True
            self.loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        self.flush()

    async def _write(self) -> None:
        try:
            while self._unsent is not None:
                await self.stream.writable(NEVER)
                rest = self.stream.push(self._unsent)
                if rest is None and self.core.pending:
                    rest = self.stream.push(self.core.take_output())
                self._unsent = rest
                self._wake_blocked()
        except OSError:
            self._fall_mute()

    def _fall_mute(self) -> None:
        """Answers that were on their way may still be here: the reading side finds the end."""
        if self.closed:
            return
        self._unsent = None
        self.mute = self.retired = True
        self._wake_blocked()
        if not self.busy:
            self._end("connection_reset")

    def _wake_blocked(self) -> None:
        blocked, self.blocked = self.blocked, {}
        for trip in blocked:
            trip.wake_writer()

    # ---- bytes in

    async def _read(self) -> None:
        kind: Kind = "connection_closed"
        try:
            while not self.closed and (data := await self.stream.recv(NEVER)):
                self._heard = self.loop.time()
                self._take(self.core.receive(data, self._heard))
                self.flush()
                if self.core.ended:
                    break
        except OSError:
            kind = "connection_reset"
        finally:
            self._end(kind)

    def _take(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case wire.Head() | wire.Data() | wire.Trailers() | wire.Reset():
                    if (trip := self.trips.get(event.stream)) is not None:
                        self._tell(trip, event)
                case wire.Window(0):
                    self._wake_blocked()
                    self._tell_keeper()
                case wire.Window(stream):
                    if (trip := self.trips.get(stream)) is not None:
                        trip.wake_writer()
                case wire.GoneAway():
                    self._tell_keeper()
                case wire.Ended(_, reason):
                    self._fail_all(Fault("response_malformed", reason))

    def _tell(self, trip: Http2RoundTrip, event: wire.Head | wire.Data | wire.Trailers | wire.Reset) -> None:
        match event:
            case wire.Data():
                trip.on_data(event.data, ended=event.ended)
            case wire.Head():
                trip.on_head(event.head, ended=event.ended)
            case wire.Trailers():
                trip.on_end(event.fields)
            case wire.Reset():
                if event.by_peer and event.code == ErrorCode.HTTP_1_1_REQUIRED and self.keeper is not None:
                    self.keeper.speaks_http1(self)
                trip.on_reset(event)

    def _tell_keeper(self) -> None:
        if self.keeper is not None and self._reader is not None:
            self.keeper.freed(self)

    def _fail_all(self, fault: Fault) -> None:
        for trip in list(self.trips.values()):
            trip.fail(Fault(fault.kind, fault.detail))

    def _end(self, kind: Kind) -> None:
        """The connection is no more."""
        if self.closed:
            return
        self.closed = True
        self._fail_all(Fault(kind))
        self.stream.wheel.forget(self.rest)
        self.stream.close()  # whoever waits on it learns on the next turn
        if self.keeper is not None:
            self.keeper.ended(self)


class Rest(Timed):
    """A connection's time without a stream."""

    __slots__ = ("connection",)

    def __init__(self, connection: Http2Connection) -> None:
        super().__init__()
        self.connection = connection

    def expire(self) -> None:
        if not self.connection.busy:
            self.connection.close()


class Http2RoundTrip:
    """One stream. See `RoundTrip` for what each part promises."""

    __slots__ = (
        "_connection", "_ending", "_fault", "_gate", "_heads", "_inflow", "_left", "_room", "_since", "_stream", "_trailers",
        "_whole", "broken", "dial_time", "dns_time", "endpoint", "local_address", "response_began", "reused", "tls_time",
    )  # fmt: skip

    def __init__(self, connection: Http2Connection, *, reused: bool) -> None:
        upstream = connection.upstream
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
