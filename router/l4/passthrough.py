"""A connection that is passed through: a backend of its route is dialled, the relay joins both, one record is written.

    choose in turn -> dial (the next one where that fails) -> PROXY header, if the route says so -> relay -> record

Promise: the client's bytes reach one backend untouched and from the first; each backend of the route is tried at most once, all
of them within the route's connect deadline, and one that does not answer leaves the others their share of it. Whatever happens
the client's socket is closed (with a reset where no backend was reached) and exactly one record stands in the access log.
Refuses to know: how the route was found, TLS, and everything of L7.
"""

from __future__ import annotations

import time
from typing import Final

from router.l4.dial import Dialed, DialError, dial
from router.l4.relay import Plumbing, SocketRelay
from router.l4.routes import L4Route
from router.limits import FOREVER
from router.net.arrival import Arrival, spelt
from router.net.deadline import NEVER
from router.observe.access_log import AccessLog
from router.observe.log import Logger
from router.observe.metrics import Metrics
from router.observe.passthrough_record import PassthroughRecord
from router.wire.proxy_protocol import SocketAddress, render_v1, render_v2

MAX_TURNS: Final = 10_000
"""Routes whose turn is remembered; with more of them the turns begin anew now and then."""


class L4Door:
    """All connections of the process that are passed through. `relays`: those that run now."""

    def __init__(self, plumbing: Plumbing, metrics: Metrics, access_log: AccessLog, log: Logger) -> None:
        self._plumbing = plumbing
        self._metrics = metrics
        self._access_log = access_log
        self._log = log
        self._turns: dict[str, int] = {}
        self._in = metrics.l4_bytes.labels("in")
        self._out = metrics.l4_bytes.labels("out")
        self.relays: set[SocketRelay] = set()

    async def serve(self, arrival: Arrival, route: L4Route, server_name: str | None) -> None:
        """From the first byte, which nobody has consumed, to the end; the socket is closed then."""
        started = time.perf_counter()
        peer = spelt(arrival.peer)
        client = peer if arrival.client is arrival.peer else spelt(arrival.client)
        record = PassthroughRecord(time.time(), arrival.listener.name, route.name, server_name or "", client, peer)
        record.ending = "drained"
        try:
            backend = await self._connect(route, arrival.client, record)
            await self._join(arrival, backend, route, record)
        except DialError as error:
            record.ending = error.reason
        finally:
            arrival.reset()
            record.seconds = time.perf_counter() - started
            self._metrics.l4_connections.labels(route.name, record.ending).value += 1
            self._access_log.add_passthrough(record)

    async def _connect(self, route: L4Route, client: SocketAddress, record: PassthroughRecord) -> Dialed:
        """The first backend that can be had, by turns. Raises the last DialError."""
        loop = self._plumbing.loop
        started, until = time.perf_counter(), loop.time() + route.connect_deadline
        failed: DialError | None = None
        backends = self._in_turn(route)
        for number, (host, port) in enumerate(backends):
            now, left = loop.time(), len(backends) - number
            record.backend = spelt((host, port))
            try:
                backend = await dial(self._plumbing, host, port, now + (until - now) / left)
                self._announce(backend, route, client)
            except DialError as error:
                failed = error
                self._count_failure(route, record, error)
                continue
            record.dial_time = time.perf_counter() - started
            self._metrics.l4_dial_seconds.observe(record.dial_time)
            return backend
        raise failed or DialError("no_backend")

    def _announce(self, backend: Dialed, route: L4Route, client: SocketAddress) -> None:
        """The PROXY header before the first byte. Raises DialError: without it the backend must not hear one."""
        if not route.send_proxy:
            return
        try:
            destination = backend.sock.getpeername()[:2]
            header = (render_v1 if route.send_proxy == "v1" else render_v2)(client, destination)
            if backend.sock.send(header) == len(header):  # the first bytes on it: an empty buffer takes them whole
                return
        except (OSError, ValueError):
            pass
        self._plumbing.edges.drop(backend.sock.fileno())
        backend.sock.close()
        raise DialError("dial_failed", "its PROXY header could not be sent")

    def _count_failure(self, route: L4Route, record: PassthroughRecord, error: DialError) -> None:
        record.failed_attempts += 1
        self._metrics.l4_dial_failures.labels(error.reason).inc()
        self._log.sparse("l4-dial-failed", route=route.name, backend=record.backend, reason=error.reason, detail=error.detail)

    def _in_turn(self, route: L4Route) -> tuple[tuple[str, int], ...]:
        """Every backend once, beginning with the one whose turn it is."""
        backends = route.backends
        if len(backends) < 2:
            return backends
        turn = self._turns.get(route.name, 0) % len(backends)
        if len(self._turns) >= MAX_TURNS:
            self._turns.clear()
        self._turns[route.name] = turn + 1
        return backends[turn:] + backends[:turn]

    async def _join(self, arrival: Arrival, backend: Dialed, route: L4Route, record: PassthroughRecord) -> None:
        total = NEVER if route.total_deadline >= FOREVER else route.total_deadline
        relay = SocketRelay(arrival.give(), backend.sock, self._plumbing, route.idle_deadline, total)
        self.relays.add(relay)
        try:
            record.ending = await relay.run(arrival.told, backend.told)
        finally:
            self.relays.discard(relay)
            record.bytes_in, record.bytes_out = relay.from_client, relay.from_backend
            record.broken_by = relay.broken_by
            self._in.value += relay.from_client
            self._out.value += relay.from_backend
