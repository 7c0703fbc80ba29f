"""HTTP/2 on one connection: many requests at a time, each an exchange of its own, all over one socket.

Promise: what the frame layer (`wire/http2.py`) takes for a request becomes an exchange in a task of its own, judged for itself.
A stream that ends badly ends alone; a connection that breaks the protocol, or spends its budgets, ends with GOAWAY, a log line
and a count. What streams have to say leaves together, once a turn of the loop, and what the client's system does not take holds
the streams back: memory a connection is the windows of its streams and FLUSH_BYTES. Every wait has a deadline: a preface and a
frame that have begun, silence without a stream, a client that takes nothing.
Refuses to know: frames, and what is answered. Source: RFC 9113 sections 3.4, 5.1, 6.8 and 9.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from authz.decision import Deny
from router.downstream import Downstream
from router.l7.exchange import run
from router.l7.http2_writer import Http2Writer
from router.l7.state import NO_HEAD, Exchange, Router
from router.net.body import BodyMalformed, BodyTruncated, Inflow
from router.net.deadline import NEVER
from router.wire.http1 import NO_BODY, RequestHead
from router.wire.http2 import Data, Ended, ErrorCode, Event, GoneAway, Request, Reset, ServerConnection, Trailers, Window

FLUSH_BYTES: Final = 65_536
"""What gathers at most before it is sent within a turn of the loop."""

MAX_PENDING: Final = 262_144
"""Bytes that wait for a client that takes none, before nothing more is read from it. Streams stop long before: only answers to
PING and SETTINGS come this far."""

UNFINISHED: Final = 4
"""Exchanges of a connection, for each stream that it may have. A stream that is reset has gone at once, its exchange only when no
backend is at work for it: a dial takes seconds, in which a client could open and reset thousands. Attack 62: REFUSED_STREAM."""


class _Over(Exception):
    """Nothing more is to be read."""


async def serve_http2(downstream: Downstream, router: Router) -> None:
    """Serve requests until the connection ends. Raises OSError or TimeoutError when the client is gone."""
    session = Http2Session(downstream, router)
    downstream.leave = session.leave
    try:
        await session.read()
    except _Over:
        await session.say_goodbye()
    except asyncio.CancelledError:
        session.cancel()
        raise
    finally:
        downstream.leave = None  # or the two would hold each other, and all that they hold, until the collector comes round
        await session.close()


class _Stream:
    """One request that is being answered."""

    __slots__ = ("body", "task", "writer")

    def __init__(self, body: Inflow, writer: Http2Writer, task: asyncio.Task[None]) -> None:
        self.body = body
        self.writer = writer
        self.task = task


class Http2Session:
    """One connection; its `Sender` for the writers."""

    def __init__(self, downstream: Downstream, router: Router) -> None:
        self.h2 = ServerConnection(router.live.snapshot.limits.http2)
        self.loop = router.loop
        self.wheel = downstream.stream.wheel
        self._downstream = downstream
        self._router = router
        self._streams: dict[int, _Stream] = {}
        self._nothing = Inflow(self.loop, self.wheel, NO_BODY, _take_nothing)  # one for all streams without a body
        self._turn = 0  # of the streams that wait to send
        self._flushing = False
        self._rest: memoryview | None = None  # what the client's system did not take
        self._drainer: asyncio.Task[None] | None = None
        self._ended = False  # by the frame layer
        self._reading = True

    # ---- reading

    async def read(self) -> None:
        """Raises _Over when the connection has served, OSError when the client has left, TimeoutError when it is too slow."""
        downstream, h2 = self._downstream, self.h2
        self.flush_soon()
        data, downstream.buffer = downstream.buffer, b""
        unfinished = self.loop.time()  # since when a beginning waits for its end: at first, the preface
        while True:
            now = self.loop.time()
            if data:
                events = h2.receive(data, now)
                for event in events:
                    _HEED[type(event)](self, event)
                if h2.pending:
                    self.flush_soon()
                if not h2.unfinished:
                    unfinished = NEVER
                elif events or unfinished == NEVER:  # another frame than the one that was waited for
                    unfinished = now
            while self._drainer is not None and h2.pending > MAX_PENDING:
                await asyncio.wait([self._drainer])
            if self._ended or (h2.closing and not self._streams):
                raise _Over
            data = await self._receive(self._until(now, unfinished))

    async def _receive(self, until: float) -> bytes:
        try:
            data = await self._downstream.stream.recv(until)
        except TimeoutError:
            if self._streams:
                raise
            self.h2.shut_down()
            raise _Over from None
        if not data:
            raise ConnectionResetError("the client has ended its side")
        return data

    def _until(self, now: float, unfinished: float) -> float:
        limits = self._router.live.snapshot.limits
        if unfinished != NEVER:
            return unfinished + (limits.client_read_stall if self._downstream.served else limits.read_header_deadline)
        return NEVER if self._streams else now + limits.frontend_idle_deadline  # a stream has deadlines of its own

    def _on_data(self, event: Data) -> None:
        stream = self._streams.get(event.stream)
        if stream is None:
            self.h2.consumed(event.stream, len(event.data))
            return
        if event.data:
            stream.body.put(event.data)
        if event.ended:
            stream.body.end()

    def _on_trailers(self, event: Trailers) -> None:
        if (stream := self._streams.get(event.stream)) is not None:
            stream.body.end(event.fields)

    def _on_reset(self, event: Reset) -> None:
        if (stream := self._streams.get(event.stream)) is not None:
            stream.body.fail(BodyTruncated() if event.by_peer else BodyMalformed(event.reason))
            stream.writer.leave()

    def _on_window(self, event: Window) -> None:
        if not event.stream:
            self._wake_all()
        elif (stream := self._streams.get(event.stream)) is not None:
            stream.writer.wake()

    def _wake_all(self) -> None:
        """Whoever waits may try to send, each time another stream first: the first may take all the room there is."""
        waiting = [each.writer for each in self._streams.values()]
        self._turn += 1
        at = self._turn % (len(waiting) or 1)
        for writer in waiting[at:] + waiting[:at]:
            writer.wake()

    def _on_ended(self, event: Ended) -> None:
        self._ended = True
        router, reason = self._router, event.reason
        router.metrics.http2_connections_ended.labels(reason).inc()
        code = ErrorCode(event.code).name
        router.log.sparse("http2-connection-ended", reason=reason, code=code, remote=self._downstream.remote)

    def _on_gone_away(self, event: GoneAway) -> None:
        """It opens no more streams; those that are here are answered."""

    # ---- streams

    def _on_request(self, request: Request) -> None:
        downstream, router, number = self._downstream, self._router, request.stream
        head, limits = request.head, router.live.snapshot.limits
        if len(self._streams) >= UNFINISHED * limits.http2.max_streams:
            return self.h2.reset(number, ErrorCode.REFUSED_STREAM)
        framing = head.body if isinstance(head, RequestHead) else NO_HEAD.body
        body = self._nothing if framing == NO_BODY else Inflow(self.loop, self.wheel, framing, partial(self._taken, number))
        malformed = not isinstance(head, RequestHead) and head.status == 400
        writer = Http2Writer(self, number, limits.client_write_stall, malformed=malformed)
        downstream.busy = True
        downstream.served += 1
        task = self.loop.create_task(self._serve(number, Exchange(router, downstream, head, body, writer)))
        task.add_done_callback(self._look_at)
        self._streams[number] = _Stream(body, writer, task)
        return None

    async def _serve(self, number: int, exchange: Exchange) -> None:
        try:
            await run(exchange)
        finally:
            self._finish(number, self._streams.pop(number), exchange)

    def _look_at(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            router = self._router
            router.log.error("stream-failed", error=type(error).__name__, detail=str(error), remote=self._downstream.remote)
            router.metrics.internal_errors.inc()

    def _finish(self, number: int, stream: _Stream, exchange: Exchange) -> None:
        """End what is left of the stream; and the connection, where its last exchange said so."""
        downstream, writer = self._downstream, stream.writer
        if writer.malformed:
            self.h2.reset(number, ErrorCode.PROTOCOL_ERROR)
        elif not writer.finished:
            self.h2.reset(number, ErrorCode.INTERNAL_ERROR)
        else:
            self.h2.reset(number, ErrorCode.NO_ERROR)  # section 8.1: where the client has not ended, the rest is unwanted
        if isinstance(exchange.decision, Deny) and exchange.decision.close:
            self.h2.shut_down()
        self.flush_soon()
        if not self._streams:
            downstream.busy = False
            if self.h2.closing:
                self._stop_reading()
            else:
                idle = self.loop.time() + self._router.live.snapshot.limits.frontend_idle_deadline
                gate = downstream.stream.read_gate
                self.wheel.arm(gate, min(gate.deadline, idle))  # a frame that has begun is due sooner

    def _taken(self, number: int, size: int) -> None:
        self.h2.consumed(number, size)
        if self.h2.pending:
            self.flush_soon()

    def leave(self) -> None:
        """GOAWAY: the streams that are here are answered, later ones are for another connection."""
        self.h2.shut_down()
        self.flush_soon()
        if not self._streams:
            self._stop_reading()

    def _stop_reading(self) -> None:
        self.loop.call_soon(self._interrupt)

    def _interrupt(self) -> None:
        if self._reading:
            self._downstream.stream.read_gate.fail(_Over())

    # ---- sending

    @property
    def blocked(self) -> bool:
        return self._rest is not None

    def flush_soon(self) -> None:
        if self.h2.pending >= FLUSH_BYTES:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        stream = self._downstream.stream
        if self._rest is not None or stream.closed or not self.h2.pending:
            return
        try:
            self._rest = stream.push(self.h2.take_output())
        except OSError:
            stream.reset()  # the reading side hears of it
            return
        if self._rest is not None:
            self._drainer = self.loop.create_task(self._drain())

    async def _drain(self) -> None:
        """Wait for a client that is slow to take what was sent, with whoever has more to send."""
        stream, stall = self._downstream.stream, self._router.live.snapshot.limits.client_write_stall
        try:
            while self._rest is not None:
                await stream.writable(self.loop.time() + stall)
                self._rest = stream.push(self._rest)
        except (OSError, TimeoutError):
            stream.reset()
        self._drainer = None
        self._flush()
        self._wake_all()

    # ---- the end

    async def say_goodbye(self) -> None:
        """Our last words, read by a client that still listens."""
        self._reading = False
        for each in self._streams.values():  # after an error of the connection
            each.writer.leave()
        self._flush()
        while self._drainer is not None:
            await asyncio.wait([self._drainer])
        await self._downstream.stream.linger()

    def cancel(self) -> None:
        """The process ends."""
        for each in self._streams.values():
            each.task.cancel()

    async def close(self) -> None:
        """Nobody reads or writes any more: every exchange ends, and leaves its record."""
        self._downstream.stream.close()
        for each in self._streams.values():
            each.body.fail(BodyTruncated())
            each.writer.leave()
        tasks = [each.task for each in self._streams.values()]
        if self._drainer is not None:
            tasks.append(self._drainer)
        if tasks:
            try:
                await asyncio.wait(tasks)
            finally:
                self.cancel()


def _take_nothing(_size: int) -> None:
    """There is no body to hand on; and no way back to the session, which would hold itself."""


_HEED: Final[dict[type[Event], Callable[[Http2Session, Any], None]]] = {
    Request: Http2Session._on_request,
    Data: Http2Session._on_data,
    Trailers: Http2Session._on_trailers,
    Reset: Http2Session._on_reset,
    Window: Http2Session._on_window,
    Ended: Http2Session._on_ended,
    GoneAway: Http2Session._on_gone_away,
}
