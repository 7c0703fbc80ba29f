"""The tap over the pipe: filters down to the workers, events up to the streams of the supervisor.

Promises: a worker sends EVENTS_PER_SECOND events a second and stream, and counts what it holds back, so that a stream still tells
how much it missed; nothing is sent while nobody listens. A worker faces clients: an event is taken only if each of its fields is
what it must be, and is written anew, so that no stream gets more than its fields, or two events for one.
Refuses to know how the words travel, and who may listen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from identity.caller import Guid
from registry.hostname import Host
from router.observe.tap import MAX_CHECKS, MAX_DETAIL, MAX_PATH, Allowance, Tap, TapFilter

MAX_EVENT: Final = 64 * 1024
"""Bytes of one event on its way."""
MAX_MISSED: Final = 1_000_000
"""Told at most."""
_MARK: Final = len("...[cut]")


Asked = tuple[int, Host | None, Guid | None, Guid | None, Guid | None]


def asked(tap: Tap) -> list[Asked]:
    """What the workers are told to look for: number, host, app, space and org of each stream."""
    return [(number, *stream.wanted) for number, stream in tap.streams.items()]


class Forwarder:
    """A listener at the other end of the pipe."""

    def __init__(self, number: int, wanted: TapFilter, now: float, send: Callable[[object], None]) -> None:
        self.wanted = wanted
        self._number = number
        self._allowance = Allowance(now)
        self._missed = 0
        self._send = send

    def has_room(self, now: float) -> bool:
        """As Hears.has_room."""
        if self._allowance.left(now):
            return True
        self._missed += 1
        return False

    def take(self, event: bytes) -> None:
        """As Hears.take."""
        if len(event) > MAX_EVENT:
            self._missed += 1
            return
        self._allowance.spend()
        self._send([self._number, min(self._missed, MAX_MISSED), event.decode("ascii")])
        self._missed = 0


class WorkerTap(Tap):
    """The tap of a worker: all who listen do so elsewhere. `send` takes each event's message."""

    def __init__(self, send: Callable[[object], None], clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._send = send
        self._forwarders: dict[int, Forwarder] = {}

    def seek(self, asked: Iterable[Asked]) -> None:
        """Listen for these, as the supervisor's `asked` has them, and for nothing else."""
        now = self.clock()
        self._forwarders = {
            number: self._forwarders.get(number) or Forwarder(number, TapFilter(host, app, space, org), now, self._send)
            for number, host, app, space, org in asked
        }
        self.listeners = list(self._forwarders.values())


def hear(tap: Tap, told: object) -> bool:
    """Hand an event that a worker sent to its stream, if that is still there; False: it is no such message."""
    match told:
        case [int() as number, int() as missed, str() as text] if 0 <= missed <= MAX_MISSED and len(text) <= MAX_EVENT:
            event = read_event(text)
        case _:
            return False
    if event is None:
        return False
    stream = tap.streams.get(number)
    if stream is not None:
        stream.miss(missed)
        if stream.has_room(tap.clock()):
            stream.take(event)
    return True


def read_event(text: str) -> bytes | None:
    """An event in the one spelling that streams get; None: it is none."""
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not _has(event, _EVENT):
        return None
    return json.dumps(event, separators=(",", ":")).encode("ascii")


_Is = Callable[[object], bool]


def _has(value: object, fields: Mapping[str, _Is]) -> bool:
    """Whether it is an object of exactly these fields."""
    return isinstance(value, dict) and value.keys() == fields.keys() and all(is_(value[name]) for name, is_ in fields.items())


def _text(limit: int) -> _Is:
    return lambda value: isinstance(value, str) and len(value) <= limit


def _maybe(is_: _Is) -> _Is:
    return lambda value: value is None or is_(value)


def _is_status(value: object) -> bool:
    return type(value) is int and 0 <= value <= 999


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 < value < 1e9  # NaN is not, nor infinity


def _is_trail(value: object) -> bool:
    return isinstance(value, list) and len(value) <= MAX_CHECKS and all(_has(check, _CHECK) for check in value)


_WORD: Final = _text(128)
_DETAIL: Final = _text(MAX_DETAIL + _MARK)
_CHECK: Final[Mapping[str, _Is]] = {
    "layer": _WORD, "rule": _WORD, "passed": lambda value: isinstance(value, bool), "detail": _DETAIL,
}  # fmt: skip
_CALLER: Final[Mapping[str, _Is]] = {"app": _WORD, "space": _maybe(_WORD), "org": _maybe(_WORD)}
_EVENT: Final[Mapping[str, _Is]] = {
    "time": _WORD,
    "host": _maybe(_text(255)),
    "method": _maybe(_text(64 + _MARK)),
    "path": _maybe(_text(MAX_PATH + _MARK)),
    "status": _maybe(_is_status),
    "router_error": _maybe(_WORD),
    "mtls_auth": _maybe(_WORD),
    "rule": _maybe(_WORD),
    "reason": _maybe(_DETAIL),
    "trail": _maybe(_is_trail),
    "caller": _maybe(lambda value: _has(value, _CALLER)),
    "backend": _maybe(_text(MAX_DETAIL)),
    "response_time": _is_seconds,
    "request_id": _maybe(_WORD),
}
