"""The L7 door: a TLS handshake with what it enforced written down, then HTTP.

    ClientHello -> that name's context -> handshake -> binding, caller -> serve HTTP -> close

Promise: the context is chosen before OpenSSL sees a byte, and what the handshake *did* enforce stands in a `TlsBinding`, which
every request is judged by. A handshake has a deadline and a place on the doorstep, which a newer one may take. Refuses to know
how a connection came here (`connection.py`) and how requests are served.
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
from router.net.arrival import Arrival, Refused, spelt
from router.net.budget import Budget, BudgetLimits
from router.net.deadline import Wheel
from router.net.doorstep import Doorstep
from router.net.listener import Entrance
from router.net.stream import Stream
from router.observe.log import Logger
from router.observe.metrics import Metrics
from router.tls.certificates import UNREADABLE
from router.tls.contexts import HTTP2, Chosen
from router.tls.session import HandshakeError, TlsStream
from router.wire.client_hello import ClientHello, read_server_name

_LOOPBACK: Final = "127.0.0.1"

ServeHttp = Callable[[Downstream], Awaitable[None]]


class L7Door:
    """All connections of the process that are terminated here. `inside`: the tasks of those that the router opened to itself."""

    def __init__(
        self,
        live: Live,
        serve_http: ServeHttp,
        doorstep: Doorstep,
        wheel: Wheel,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        log: Logger,
    ) -> None:
        self._live = live
        self._serve_http = serve_http
        self._doorstep = doorstep
        self._wheel = wheel
        self._loop = loop
        self._metrics = metrics
        self._log = log
        self._open: set[Downstream] = set()
        self._entrance = Entrance("inside", Budget(BudgetLimits()), tls=False)
        self.inside: set[asyncio.Task[None]] = set()

    def bears(self, server_name: str) -> bool:
        """Is there a certificate for this very name?"""
        return self._live.snapshot.contexts.certificates.bears(server_name)

    async def serve_plain(self, arrival: Arrival) -> None:
        """HTTP from the first byte, until the connection is over."""
        await self._serve(_downstream(arrival, Stream(arrival.detach(), self._loop, self._wheel)))

    async def serve_tls(self, arrival: Arrival, hello: ClientHello) -> None:
        """A handshake for the name in `hello`, then HTTP until the connection is over. Raises Refused."""
        chosen = self._live.snapshot.contexts.choose(hello.server_name)
        domain = chosen.domain.pattern if chosen.domain is not None else ""
        downstream = await self._handshake(arrival, chosen, hello, domain)
        self._metrics.tls_handshakes.labels(domain, "ok").inc()
        await self._serve(downstream)

    def connect_inside(self) -> Stream:
        """One end of a connection to this router, which serves the other as it serves any client's: from nobody's address, so
        without a PROXY header, and without the firewall's judgement.
        """
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        self._metrics.connections_accepted.labels(self._entrance.name).value += 1
        downstream = Inside(Stream(theirs, self._loop, self._wheel), _LOOPBACK, 0, self._entrance)
        task = self._loop.create_task(self._serve(downstream))
        self.inside.add(task)
        task.add_done_callback(lambda task: self._left(task, downstream))
        return Stream(ours, self._loop, self._wheel)

    def close_idle(self) -> None:
        """Drain: connections on which no request has begun end now, the others after their current response."""
        for downstream in list(self._open):
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
        for downstream in list(self._open):
            if downstream.leave is not None and downstream.binding is not None:
                domain = snapshot.domains.claim(downstream.binding_domain)
                downstream.under(snapshot)
                if not downstream.check_today(snapshot, domain, now).passed:
                    downstream.leave()

    async def _serve(self, downstream: Downstream) -> None:
        self._open.add(downstream)
        try:
            await self._serve_http(downstream)
        except (OSError, TimeoutError):
            pass  # the client's side is over, whatever was under way
        finally:
            self._open.discard(downstream)
            downstream.stream.close()

    def _left(self, task: asyncio.Task[None], downstream: Downstream) -> None:
        self.inside.discard(task)
        downstream.stream.close()  # where the task was cancelled before its first step
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("connection-failed", error=type(error).__name__, detail=str(error), remote=downstream.remote)
            self._metrics.internal_errors.inc()

    async def _handshake(self, arrival: Arrival, chosen: Chosen, hello: ClientHello, domain: str) -> Downstream:
        """Raises Refused; the socket is closed then."""
        stream = TlsStream(arrival.detach(), chosen.context, self._loop, self._wheel)
        try:
            await self._shake_hands(arrival, stream, hello)
            downstream = _downstream(arrival, stream)
            _bind(downstream, stream, chosen, hello)
        except HandshakeError as error:
            self._tell_failed(arrival, hello, domain, error)  # before the client, who has its alert, takes its time
            await stream.linger()  # let the alert arrive before the socket goes
            raise Refused(error.reason) from error
        except BaseException:
            stream.reset()
            raise
        finally:
            self._doorstep.leave(stream)
        return downstream

    async def _shake_hands(self, arrival: Arrival, stream: TlsStream, hello: ClientHello) -> None:
        """Raises HandshakeError."""
        try:
            self._doorstep.change(arrival, stream)
            await stream.handshake_server(self._loop.time() + self._live.snapshot.limits.tls_handshake_deadline)
        except TimeoutError:
            stream.reset()
            raise HandshakeError("timeout") from None
        except OSError as error:
            stream.reset()
            raise HandshakeError("peer_left", str(error)) from error
        name = stream.tls.get_servername()
        if (read_server_name(name) if name else None) != hello.server_name:
            raise HandshakeError("sni_changed")

    def _tell_failed(self, arrival: Arrival, hello: ClientHello, domain: str, error: HandshakeError) -> None:
        self._metrics.tls_handshakes.labels(domain, error.reason).inc()
        self._log.sparse(
            "tls-handshake-failed", domain=domain, sni=hello.server_name, reason=error.reason, detail=error.detail,
            remote=spelt(arrival.client),
        )  # fmt: skip


def _downstream(arrival: Arrival, stream: Stream) -> Downstream:
    return Downstream(stream, *arrival.client, arrival.listener)


def _bind(downstream: Downstream, stream: TlsStream, chosen: Chosen, hello: ClientHello) -> None:
    """Write down what the handshake enforced, from the verified chain and from nothing else. Raises HandshakeError."""
    chain = stream.verified_chain(1) if chosen.policy.mode != "none" else []
    try:
        client = client_of(chain[0]) if chain else None
    except UNREADABLE as error:  # OpenSSL took it, the parser of its fields does not: then it says nothing
        stream.reset()
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
