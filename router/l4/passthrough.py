"""A connection that is passed through: a backend of its route is dialled, the relay joins both, one record is written.

    choose in turn -> dial (the next one where that fails) -> PROXY header, if the route says so -> relay -> record

Promise: the client's bytes reach one backend untouched and from the first; each backend of the route is tried at most once, all
of them within the route's connect deadline, and one that does not answer leaves the others their share of it. Whatever happens
the client's socket is closed (with a reset where no backend was reached) and exactly one record stands in the access log.
Refuses to know: how the route was found, TLS, and everything of L7.

No task belongs to a passage: what moves it on is the callback of a descriptor, or of a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from socket import SocketType
from typing import Final, TypeAlias

from router.l4.dial import Dial, DialError
from router.l4.relay import Plumbing, SocketRelay
from router.l4.routes import L4Route
from router.limits import FOREVER
from router.net.arrival import Arrival, spelt
from router.net.deadline import NEVER
from router.net.relay import Ending
from router.observe.access_log import AccessLog
from router.observe.log import Logger
from router.observe.metrics import Metrics
from router.observe.passthrough_record import PassthroughRecord
from router.wire.proxy_protocol import render_v1, render_v2

MAX_TURNS: Final = 10_000
"""Routes whose turn is remembered; with more of them the turns begin anew now and then."""


Over: TypeAlias = Callable[[Arrival], object]


class L4Door:
    """All connections of the process that are passed through. `passages`: those of now."""

    def __init__(self, plumbing: Plumbing, metrics: Metrics, access_log: AccessLog, log: Logger) -> None:
        self.plumbing = plumbing
        self.metrics = metrics
        self.passages: set[Passage] = set()
        self._access_log = access_log
        self._log = log
        self._turns: dict[str, int] = {}
        self._in = metrics.l4_bytes.labels("in")
        self._out = metrics.l4_bytes.labels("out")

    def pass_on(self, arrival: Arrival, route: L4Route, server_name: str | None, over: Over) -> None:
        """From the first byte, which nobody has consumed, to the end; the socket is closed then, and `over` is told."""
        passage = Passage(self, arrival, route, server_name, over)
        self.passages.add(passage)
        self.go_on(passage, passage.begin)

    def go_on(self, passage: Passage, step: Callable[[], object]) -> None:
        """Do the next step of a passage; what nobody foresaw ends it, and it alone."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - see above
            self._log.error("connection-failed", error=type(error).__name__, detail=str(error), remote=passage.client)
            self.metrics.internal_errors.inc()
            passage.end("broken")

    def in_turn(self, route: L4Route) -> tuple[tuple[str, int], ...]:
        """Every backend once, beginning with the one whose turn it is."""
        backends = route.backends
        if len(backends) < 2:
            return backends
        turn = self._turns.get(route.name, 0) % len(backends)
        if len(self._turns) >= MAX_TURNS:
            self._turns.clear()
        self._turns[route.name] = turn + 1
        return backends[turn:] + backends[:turn]

    def missed(self, record: PassthroughRecord, error: DialError) -> None:
        """A backend was not reached."""
        record.failed_attempts += 1
        record.ending = error.reason
        self.metrics.l4_dial_failures.labels(error.reason).inc()
        self._log.sparse("l4-dial-failed", route=record.route, backend=record.backend, reason=error.reason, detail=error.detail)

    def leave(self, passage: Passage, record: PassthroughRecord) -> None:
        """It is over, and its record whole."""
        self.passages.discard(passage)
        self._in.value += record.bytes_in
        self._out.value += record.bytes_out
        self.metrics.l4_connections.labels(record.route, record.ending).value += 1
        self._access_log.add_passthrough(record)


class Passage:
    """One of them, from its arrival to its record."""

    __slots__ = (
        "_arrival",
        "_backends",
        "_dial",
        "_door",
        "_header",
        "_over",
        "_record",
        "_relay",
        "_route",
        "_started",
        "_until",
    )

    def __init__(self, door: L4Door, arrival: Arrival, route: L4Route, server_name: str | None, over: Over) -> None:
        self._door = door
        self._arrival = arrival
        self._route = route
        self._over: Over | None = over
        self._backends = door.in_turn(route)
        self._started = time.perf_counter()
        self._until = door.plumbing.loop.time() + route.connect_deadline
        self._dial: Dial | None = None
        self._relay: SocketRelay | None = None
        self._header = 0
        peer = spelt(arrival.peer)
        client = peer if arrival.client is arrival.peer else spelt(arrival.client)
        self._record = PassthroughRecord(time.time(), arrival.listener.name, route.name, server_name or "", client, peer)
        self._record.ending = "no_backend"

    @property
    def client(self) -> str:
        """Whose it is."""
        return self._record.client

    def begin(self) -> None:
        """Dial the next backend, and those behind it where nobody has to be waited for."""
        door = self._door
        while self._backends:
            (host, port), left = self._backends[0], len(self._backends)
            self._backends = self._backends[1:]
            self._record.backend = spelt((host, port))
            now = door.plumbing.loop.time()
            self._dial = Dial(door.plumbing, self._opening, self._dialled)
            try:
                if self._dial.begin(host, port, now + (self._until - now) / left):
                    self._join(self._dial)
                return
            except DialError as error:
                door.missed(self._record, error)
        self._leave(self._record.ending)

    def end(self, ending: Ending) -> None:
        """Close both sides now; the first reason stands. Safe at any time, and twice."""
        if self._relay is not None:
            self._relay.end(ending)
            return
        if self._dial is not None:
            self._dial.end()
        self._leave(ending)

    def _opening(self, sock: SocketType) -> bytes:
        """The PROXY header, and what the client has said so far. Raises OSError, and DialError: nothing must be heard without
        the header.
        """
        said, send_proxy = self._arrival.seen, self._route.send_proxy
        if not send_proxy:
            return said
        destination = sock.getpeername()[:2]
        try:
            header = (render_v1 if send_proxy == "v1" else render_v2)(self._arrival.client, destination)
        except ValueError as error:
            raise DialError("dial_failed", "its PROXY header could not be made") from error
        self._header = len(header)
        return header + said

    def _dialled(self, dial: Dial, error: DialError | None) -> None:
        """What was waited for is here, or failed."""
        if error is not None:
            self._door.missed(self._record, error)
        self._door.go_on(self, self.begin if error is not None else partial(self._join, dial))

    def _join(self, dial: Dial) -> None:
        """From here on the relay has both sockets."""
        door, route, arrival, record = self._door, self._route, self._arrival, self._record
        if dial.taken < self._header:  # no kernel's buffer is as small
            dial.end()
            self._leave("dial_failed")
            return
        record.dial_time = time.perf_counter() - self._started
        door.metrics.l4_dial_seconds.observe(record.dial_time)
        total = NEVER if route.total_deadline >= FOREVER else route.total_deadline
        told = arrival.told
        self._relay = SocketRelay(arrival.give(), dial.give(), door.plumbing, route.idle_deadline, total, self._relayed)
        self._dial = None
        self._relay.begin(dial.taken - self._header, told, dial.told)

    def _relayed(self, relay: SocketRelay, ending: Ending) -> None:
        """Both sockets are closed."""
        record = self._record
        record.bytes_in, record.bytes_out = relay.from_client, relay.from_backend
        record.broken_by = relay.broken_by
        self._leave(ending)

    def _leave(self, ending: str) -> None:
        """The client's socket is closed, and the record written."""
        over, self._over = self._over, None
        if over is None:
            return
        self._dial = self._relay = None
        record = self._record
        record.ending = ending
        record.seconds = time.perf_counter() - self._started
        self._arrival.reset()
        self._door.leave(self, record)
        over(self._arrival)
