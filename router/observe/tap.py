"""A live view of the exchanges of one host or one caller, for the few who listen; nothing is kept.

Promises: at most MAX_LISTENERS at a time, EVENTS_PER_SECOND events a second each, MAX_WAITING events kept for one that reads
slowly, MAX_SECONDS a stream; what a listener misses is counted and told with its next event. An event holds no query, no field of
a request or response, no byte of a body and no certificate. `offer` neither waits nor raises, and is not called at all while
nobody listens. Refuses to know: who may listen (router/inspect/handlers.py), and how the events are sent (status.py).

Source: the event stream of the HTML standard, section 9.2 (server-sent events). The events stand in docs/reference/status.md.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from authz.decision import Decision
from identity.caller import Guid
from registry.hostname import Host, covers
from router.observe.access_record import AccessRecord
from router.observe.log import safe_text
from router.observe.timestamp import Timestamps

MAX_LISTENERS: Final = 4
EVENTS_PER_SECOND: Final = 50
MAX_WAITING: Final = 100
MAX_SECONDS: Final = 15 * 60.0
HEARTBEAT_SECONDS: Final = 10.0
MAX_PATH: Final = 1024
MAX_CHECKS: Final = 32
MAX_DETAIL: Final = 512

_HEARTBEAT: Final = b":\n\n"


class Hears(Protocol):
    """Somebody who listens: here, or at the other end of a pipe (router/workers/tap_pipe.py)."""

    @property
    def wanted(self) -> TapFilter: ...
    def has_room(self, now: float) -> bool:
        """Whether it can take an event at this moment; if not, the event counts as missed."""

    def take(self, event: bytes) -> None:
        """An event, a JSON object, for this listener, which has room."""


class TapFilter(NamedTuple):
    """Which exchanges are asked for; None: any. `host` may be `*.suffix`; the others are the caller's."""

    host: Host | None = None
    app: Guid | None = None
    space: Guid | None = None
    org: Guid | None = None

    def fits(self, host: str, record: AccessRecord) -> bool:
        return (
            (self.host is None or covers(self.host, host))
            and (self.app is None or self.app == record.caller_cf_app)
            and (self.space is None or self.space == record.caller_cf_space)
            and (self.org is None or self.org == record.caller_cf_org)
        )


class Allowance:
    """EVENTS_PER_SECOND events in each second."""

    __slots__ = ("_second", "_sent")

    def __init__(self, now: float) -> None:
        self._second = now
        self._sent = 0  # within the second that began at `_second`

    def left(self, now: float) -> bool:
        """Whether one more may pass now."""
        if not 0 <= now - self._second < 1:
            self._second, self._sent = now, 0
        return self._sent < EVENTS_PER_SECOND

    def spend(self) -> None:
        self._sent += 1


class Listener:
    """One stream: an iterator over the bytes to send. It ends after MAX_SECONDS, or when `close` is called, which must be."""

    def __init__(self, tap: Tap, wanted: TapFilter, now: float) -> None:
        self.wanted = wanted
        self._tap = tap
        self._events: deque[bytes] = deque([_start()])
        self._missed = 0
        self._until = now + MAX_SECONDS
        self._allowance = Allowance(now)
        self._stirred = asyncio.Event()
        self._over = False

    def has_room(self, now: float) -> bool:
        """As Hears.has_room."""
        if self._allowance.left(now) and len(self._events) < MAX_WAITING:
            return True
        self._missed += 1
        return False

    def miss(self, events: int) -> None:
        """Count events that were held back on their way here."""
        self._missed += events

    def take(self, event: bytes) -> None:
        """As Hears.take."""
        self._allowance.spend()
        self._events.append(b'event: exchange\ndata: {"missed":%d,%b\n\n' % (self._missed, event[1:]))
        self._missed = 0
        self._stirred.set()

    def close(self) -> None:
        """Listen no more. Whoever waits for the next piece is told that there is none."""
        self._over = True
        self._tap.leave(self)
        self._stirred.set()

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> bytes:
        """The next event, or a comment after HEARTBEAT_SECONDS without one, so that a client that is gone is noticed."""
        while not self._over:
            if self._events:
                return self._events.popleft()
            left = self._until - self._tap.clock()
            if left <= 0:
                self.close()
                return b'event: end\ndata: {"reason":"time","missed":%d}\n\n' % self._missed
            self._stirred.clear()
            try:
                async with asyncio.timeout(min(left, HEARTBEAT_SECONDS)):
                    await self._stirred.wait()
            except TimeoutError:
                return _HEARTBEAT
        raise StopAsyncIteration


class Tap:
    """Those who listen. `listeners` is empty nearly always: whoever has something to tell asks that first. `streams`: the
    listeners of this process, each by a number that no other ever has."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.listeners: Sequence[Hears] = []
        self.streams: dict[int, Listener] = {}
        self.clock = clock
        self.changed: Callable[[], None] | None = None
        """Called whenever somebody begins or ends to listen."""
        self._subscribed = 0
        self._timestamps = Timestamps()

    def subscribe(self, wanted: TapFilter) -> Listener | None:
        """A stream of what is `wanted`; None when MAX_LISTENERS have one already."""
        if len(self.streams) >= MAX_LISTENERS:
            return None
        self._subscribed += 1
        listener = self.streams[self._subscribed] = Listener(self, wanted, self.clock())
        self._listen()
        return listener

    def leave(self, listener: Listener) -> None:
        """No more for this one; again is no harm."""
        left = {number: each for number, each in self.streams.items() if each is not listener}
        if len(left) < len(self.streams):
            self.streams = left
            self._listen()

    def _listen(self) -> None:
        self.listeners = list(self.streams.values())
        if self.changed is not None:
            self.changed()

    def offer(self, record: AccessRecord, host: str, path: str, decision: Decision | None) -> None:
        """An exchange that has ended. `host` and `path` (without its query) as they were understood; "" if they were not."""
        now = self.clock()
        event = b""
        for listener in self.listeners:
            if listener.wanted.fits(host, record) and listener.has_room(now):
                event = event or self._event(record, host, path, decision)
                listener.take(event)

    def _event(self, record: AccessRecord, host: str, path: str, decision: Decision | None) -> bytes:
        caller = {"app": record.caller_cf_app, "space": record.caller_cf_space, "org": record.caller_cf_org}
        shown: dict[str, object] = {
            "time": self._timestamps.rfc3339(record.started_at),
            "host": host or None,
            "method": safe_text(record.method, 64) or None,
            "path": safe_text(path, MAX_PATH) or None,
            "status": record.status,
            "router_error": record.router_error or None,
            "mtls_auth": record.mtls_auth,
            "rule": record.mtls_rule,
            "reason": _cut(record.mtls_denied_reason),
            "trail": None if decision is None else [_check(*check) for check in decision.trail[-MAX_CHECKS:]],
            "caller": caller if record.caller_cf_app is not None else None,
            "backend": record.backend_addr or None,
            "response_time": round(record.response_time, 6),
            "request_id": record.vcap_request_id.decode("latin-1") or None,
        }
        return json.dumps(shown, separators=(",", ":")).encode("ascii")


def _start() -> bytes:
    """The first event: from now on nothing is missed unsaid."""
    bounds = {"seconds": MAX_SECONDS, "events_per_second": EVENTS_PER_SECOND}
    return f"event: start\ndata: {json.dumps(bounds)}\n\n".encode("ascii")


def _check(layer: str, rule: str, passed: bool, detail: str) -> dict[str, object]:
    return {"layer": layer, "rule": rule, "passed": passed, "detail": _cut(detail)}


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= MAX_DETAIL else text[:MAX_DETAIL] + "...[cut]"
