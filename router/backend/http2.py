"""A backend connection that speaks HTTP/2, and is shared by many round trips.

Promise: each stream is a round trip (`http2_round_trip.py`), and what one of them meets is its own affair: a body that nobody
reads holds back its own sender (the stream's window opens as its reader takes the bytes), a request that the backend does not
take waits on its own, a stream that is reset or malformed ends alone. Memory: a window a stream, OUT_BYTES of what is to be
sent, and the heads that wait to be read. A connection that has said it will end takes no new streams, and ends with its last.
Refuses to know: who may have a stream (`http2_pool.py`), frames (`wire/http2_client.py`). Source: RFC 9113.

One task reads; whoever has something to say writes at once what the kernel takes, and a second task lives only while that was not
all.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, Protocol

from router.backend.http1 import Http1Upstream
from router.faults import Fault, Kind
from router.net.deadline import NEVER, Timed
from router.wire import http2_events as wire
from router.wire.http1 import Fields, ResponseHead
from router.wire.http2_client import ClientConnection
from router.wire.http2_events import Event
from router.wire.http2_frames import ErrorCode
from router.wire.http2_limits import STREAMS, Http2Limits

OUT_BYTES: Final = 256 * 1024
"""What may wait for one backend to read: enough to keep it busy, and no more of a body is taken from a client."""
UNHEARD_MS: Final = 30_000
"""Milliseconds in which the other machine must acknowledge what was sent: when it is gone without a word, all requests to it
would go into the same dead connection. Pings would tell too, but gRPC servers punish them."""


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


class StreamUser(Protocol):
    """Whom a stream belongs to: told in order what comes on it."""

    def on_head(self, head: ResponseHead, *, ended: bool) -> None:
        """A head, interim ones too."""

    def on_data(self, data: bytes, *, ended: bool) -> None:
        """A piece of the body."""

    def on_end(self, trailers: Fields) -> None:
        """The end of the body, behind its pieces."""

    def on_reset(self, event: wire.Reset) -> None:
        """The stream is over before its end."""

    def fail(self, fault: Fault) -> None:
        """The connection is over."""

    def wake_writer(self) -> None:
        """There may be room to send."""


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
        self.trips: dict[int, StreamUser] = {}
        self.blocked: dict[StreamUser, None] = {}
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

    def join(self) -> None:
        """A round trip takes its room."""
        self.busy += 1

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

    def _tell(self, trip: StreamUser, event: wire.Head | wire.Data | wire.Trailers | wire.Reset) -> None:
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
