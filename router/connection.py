"""THE STORY of one client connection, from accept to close.

    accept -> [peek the ClientHello -> choose that name's context -> handshake -> binding, caller] -> serve HTTP -> close

Promise: whatever a client does ends at worst its own connection, with a TLS alert, a reset or a lingering close, counted
with a bounded reason. Every wait has a deadline (`router/limits.py`), the number of handshakes in flight is bounded, and
what the handshake *did* enforce is written down in a `TlsBinding`, which every request is judged by.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Final

from authz.binding import TlsBinding
from router.downstream import Downstream, Inside, client_of
from router.live import Live
from router.net.budget import Budget, BudgetLimits
from router.net.deadline import Wheel
from router.net.listener import Entrance, Listener
from router.net.stream import Stream
from router.observe.log import Logger
from router.observe.metrics import Metrics
from router.tls.certificates import UNREADABLE
from router.tls.contexts import HTTP2, Chosen
from router.tls.session import HandshakeError, TlsStream
from router.wire.client_hello import ClientHello, least_size, parse_client_hello, read_server_name
from router.wire.malformed import Malformed

ALERTS: Final = {
    "decode_error": bytes.fromhex("15030300020232"),
    "unrecognized_name": bytes.fromhex("15030300020270"),
}
"""Fatal alerts that are sent before OpenSSL has seen a byte."""

_LOOPBACK: Final = "127.0.0.1"

ServeHttp = Callable[[Downstream], Awaitable[None]]


class Refused(Exception):
    """A connection ends before its first request; `reason` is a bounded code, `alert` the last words, if any."""

    def __init__(self, reason: str, alert: bytes = b"") -> None:
        super().__init__(reason)
        self.reason = reason
        self.alert = alert


class Connections:
    """All client connections of the process, and the road each takes."""

    def __init__(
        self,
        live: Live,
        serve_http: ServeHttp,
        wheel: Wheel,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        log: Logger,
    ) -> None:
        self._live = live
        self._serve_http = serve_http
        self._wheel = wheel
        self._loop = loop
        self._metrics = metrics
        self._log = log
        self._tasks: dict[asyncio.Task[None], Downstream] = {}
        self._handshaking: dict[Stream, None] = {}
        self._inside = Entrance("inside", Budget(BudgetLimits()), tls=False)

    def __len__(self) -> int:
        return len(self._tasks)

    def accept(self, sock: socket.socket, address: str, port: int, listener: Listener) -> None:
        """Start the story of an admitted socket. Called by the listener."""
        self._start(Downstream(Stream(sock, self._loop, self._wheel), address, port, listener))

    def _start(self, downstream: Downstream) -> None:
        self._metrics.connections_accepted.labels(downstream.listener.name).value += 1
        task = self._loop.create_task(self._serve(downstream))
        self._tasks[task] = downstream
        task.add_done_callback(self._done)

    def connect_inside(self) -> Stream:
        """One end of a connection to this router, which serves the other as it serves any client's."""
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        self._inside.budget.admit(_LOOPBACK, self._loop.time())
        self._start(Inside(Stream(theirs, self._loop, self._wheel), _LOOPBACK, 0, self._inside))
        return Stream(ours, self._loop, self._wheel)

    def close_idle(self) -> None:
        """Drain: connections on which no request has begun end now, the others after their current response."""
        for downstream in list(self._tasks.values()):
            downstream.closing = True
            if downstream.leave is not None:
                downstream.leave()
            elif not downstream.busy:
                self._loop.call_soon(downstream.stream.interrupt, ConnectionAbortedError("draining"))

    def judge_again(self) -> None:
        """After a reload: a connection whose handshake does not fit today's policy any more answers what is under way and takes
        no more, where its protocol can say so; elsewhere its next request hears it (421).
        """
        snapshot, now = self._live.snapshot, time.time()
        for downstream in list(self._tasks.values()):
            if downstream.leave is not None and downstream.binding is not None:
                domain = snapshot.domains.claim(downstream.binding_domain)
                downstream.under(snapshot)
                if not downstream.check_today(snapshot, domain, now).passed:
                    downstream.leave()

    def abort(self) -> None:
        """End every connection now."""
        for task in list(self._tasks):
            task.cancel()

    async def wait_closed(self, until: float) -> bool:
        """True when every connection has ended before `until` (seconds of the loop's clock)."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=max(0.0, until - self._loop.time()))
        return not self._tasks

    def _done(self, task: asyncio.Task[None]) -> None:
        downstream = self._tasks.pop(task)
        downstream.stream.close()
        downstream.listener.budget.leave(downstream.address)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("connection-failed", error=type(error).__name__, detail=str(error), remote=downstream.remote)
            self._metrics.internal_errors.inc()

    async def _serve(self, downstream: Downstream) -> None:
        try:
            if downstream.listener.tls:
                await self._secure(downstream)
            await self._serve_http(downstream)
        except Refused as refused:
            await self._refuse(downstream, refused)
        except (OSError, TimeoutError):
            downstream.stream.close()

    async def _secure(self, downstream: Downstream) -> None:
        """The TLS part of the road; afterwards `downstream` speaks plaintext through a TlsStream."""
        plain = downstream.stream
        self._admit_handshake(plain)
        try:
            hello = await self._peek_hello(plain)
            chosen = self._live.snapshot.contexts.choose(hello.server_name)
            domain = chosen.domain.pattern if chosen.domain is not None else ""
            try:
                stream = await self._handshake(downstream, chosen, hello)
                self._bind(downstream, stream, chosen, hello)
            except HandshakeError as error:
                self._metrics.tls_handshakes.labels(domain, error.reason).inc()
                self._log.sparse(
                    "tls-handshake-failed", domain=domain, sni=hello.server_name, reason=error.reason, detail=error.detail,
                    remote=downstream.remote,
                )  # fmt: skip
                raise Refused(error.reason) from error
            self._metrics.tls_handshakes.labels(domain, "ok").inc()
        finally:
            self._handshaking.pop(plain, None)

    def _admit_handshake(self, stream: Stream) -> None:
        """Bound the handshakes in flight by shedding the oldest: a client that means it is done in milliseconds."""
        if len(self._handshaking) >= self._live.snapshot.limits.max_handshakes:
            oldest = next(iter(self._handshaking))
            del self._handshaking[oldest]
            self._metrics.connections_shed.labels("max_handshakes").inc()
            self._loop.call_soon(oldest.interrupt, ConnectionAbortedError("shed"))
        self._handshaking[stream] = None

    async def _peek_hello(self, stream: Stream) -> ClientHello:
        """The ClientHello, without consuming a byte: OpenSSL, or a passthrough backend, gets it untouched."""
        limits = self._live.snapshot.limits
        until = self._loop.time() + limits.hello_deadline
        known = 0
        while True:
            try:
                data = await stream.peek(until, limits.hello_bytes, known)
            except TimeoutError:
                raise Refused("hello_timeout") from None
            if not data:
                raise Refused("peer_left")
            hello = parse_client_hello(data)
            if isinstance(hello, ClientHello):
                return hello
            if isinstance(hello, Malformed):
                raise Refused(hello.reason, _alert_for(hello.reason))
            if len(data) >= limits.hello_bytes:
                raise Refused("too_large", ALERTS["decode_error"])
            known = max(len(data), min(least_size(data), limits.hello_bytes) - 1)

    async def _handshake(self, downstream: Downstream, chosen: Chosen, hello: ClientHello) -> TlsStream:
        plain = downstream.stream
        if plain not in self._handshaking:
            raise ConnectionAbortedError("shed")  # while its hello was being read: the interrupt is still on its way
        stream = TlsStream(plain.detach(), chosen.context, self._loop, self._wheel)
        downstream.stream = stream
        del self._handshaking[plain]
        self._handshaking[stream] = None
        try:
            await stream.handshake_server(self._loop.time() + self._live.snapshot.limits.tls_handshake_deadline)
            name = stream.tls.get_servername()
            if (read_server_name(name) if name else None) != hello.server_name:
                raise HandshakeError("sni_changed")
        except TimeoutError:
            stream.reset()
            raise HandshakeError("timeout") from None
        except OSError as error:
            stream.reset()
            raise HandshakeError("peer_left", str(error)) from error
        except HandshakeError:
            await stream.linger()  # let the alert arrive before the socket goes
            raise
        except BaseException:
            stream.reset()
            raise
        finally:
            self._handshaking.pop(stream, None)
        return stream

    def _bind(self, downstream: Downstream, stream: TlsStream, chosen: Chosen, hello: ClientHello) -> None:
        """Write down what the handshake enforced, from the verified chain and from nothing else. Raises HandshakeError."""
        chain = stream.verified_chain() if chosen.policy.mode != "none" else []
        try:
            client = client_of(chain[0]) if chain else None
        except UNREADABLE as error:  # OpenSSL took it, the parser of its fields does not: then it says nothing
            raise HandshakeError("bad_certificate", str(error)) from error
        downstream.client = client
        downstream.http2 = stream.tls.get_alpn_proto_negotiated() == HTTP2
        downstream.binding = TlsBinding(
            sni=hello.server_name,
            domain=chosen.domain.pattern if chosen.domain is not None else None,
            client_policy=chosen.policy.fingerprint,
            verified=client is not None,
            not_after=client.not_after if client is not None else None,
            serial_issuer=client.serial_issuer if client is not None else None,
        )

    async def _refuse(self, downstream: Downstream, refused: Refused) -> None:
        """End a connection that never came to a request. The reason goes to the metrics, at most an alert to the client."""
        self._metrics.connections_refused.labels(refused.reason).inc()
        stream = downstream.stream
        if not refused.alert:
            stream.reset()
            return
        try:
            await stream.send(refused.alert, self._loop.time() + 1.0)
        except (OSError, TimeoutError):
            stream.reset()
            return
        await stream.linger()


def _alert_for(reason: str) -> bytes:
    if reason == "not_tls":
        return b""
    return ALERTS["unrecognized_name"] if "name" in reason else ALERTS["decode_error"]
