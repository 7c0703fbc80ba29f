"""The component log: one JSON object a line, in GoRouter's shape, on standard output where GoRouter's is.

    {"log_level":1,"timestamp":"2026-01-02T03:04:05.000000000Z","message":"route-registered",
     "source":"vestibule.registry","data":{...}}

Promises: a line is at most MAX_FIELDS fields of MAX_VALUE characters, pure ASCII, every other character
escaped, so that no peer can split or colour it; nothing here blocks or raises. Secrets never: the value of a
key that names one (`password`, `nats_token`, `tls-key`), PEM blocks, credentials in URLs and NKey seeds are
replaced before anything is cut.
Refuses to know where the line goes (sink.py) and who may read it.

A message is a constant event name; what varies stands in `data`. Events that a peer can cause at will go
through `sparse`.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Literal

from router.observe.sink import Sink
from router.observe.timestamp import Timestamps

DEBUG, INFO, WARNING, ERROR = 0, 1, 2, 3
"""GoRouter's numbers for `log_level`."""

LEVELS: Mapping[str, int] = {
    "debug": DEBUG,
    "info": INFO,
    "warn": WARNING,
    "warning": WARNING,
    "error": ERROR,
    "fatal": ERROR,
}
"""The words of `logging.level`."""

MAX_VALUE = 1024
MAX_FIELDS = 32
MAX_ITEMS = 32
SPARSE_PER_INTERVAL = 10
SPARSE_INTERVAL = 60.0

_SECRET_WORDS = frozenset(
    (
        *(
            "authorization",
            "cookie",
            "credential",
            "credentials",
            "key",
            "keys",
            "nkey",
            "pass",
            "passphrase",
        ),
        *("passwd", "password", "pwd", "secret", "secrets", "seed", "token", "tokens"),
    )
)
_WORDS = re.compile(r"[a-z0-9]+")
_SECRETS = re.compile(
    r"(?P<pem>-----BEGIN [^-]{0,64}-----.*?(?:-----END [^-]{0,64}-----|\Z))"
    r"|(?<=://)(?P<userinfo>[^/@\s]{1,1024})(?=@)"
    r"|(?<![A-Z0-9])(?P<nkey>S[UAONCX][A-Z2-7]{56})(?![A-Z0-9])"
    r"|(?P<scheme>\b[Bb](?:earer|asic) )[A-Za-z0-9._~+/=-]{8,}",
    re.DOTALL,
)
_SCAN = 16 * MAX_VALUE  # a secret that starts before the cut is replaced although it ends behind it
_REDACTED = "[redacted]"


class Output:
    """What all loggers of a process share: the sink, the level, the timestamp's form. A reload may set level
    and form. `worker`: the number of the worker that speaks, which then stands in each line's data."""

    __slots__ = ("_clock", "_sink", "_sparse", "_timestamps", "epoch", "level", "worker")

    def __init__(
        self,
        sink: Sink,
        level: int = INFO,
        timestamp: Literal["rfc3339", "unix-epoch"] = "rfc3339",
        clock: Callable[[], float] = time.time,
        worker: int | None = None,
    ) -> None:
        self._sink = sink
        self.worker = worker
        self.level = level
        self.epoch = timestamp == "unix-epoch"
        self._clock = clock
        self._timestamps = Timestamps()
        self._sparse: dict[tuple[str, str], _Window] = {}

    def emit(self, level: int, source: str, event: str, data: Mapping[str, object]) -> None:
        """Write one line. Never raises, never waits."""
        now = self._clock()
        if self.worker is not None:
            data = {"worker": self.worker, **data}
        record = {
            "log_level": level,
            "timestamp": round(now, 9) if self.epoch else self._timestamps.rfc3339(now),
            "message": event,
            "source": source,
            "data": _safe_fields(data, depth=2),
        }
        self._sink.write([json.dumps(record, separators=(",", ":")).encode("ascii")])

    def admit(self, source: str, event: str) -> int:
        """May this event be written now? -1: no; else the number that were held back since the last one."""
        window = self._sparse.get((source, event))
        if window is None:
            window = self._sparse[source, event] = _Window()
        return window.admit(self._clock())


class _Window:
    """Counts one event: the first SPARSE_PER_INTERVAL of each interval pass."""

    __slots__ = ("passed", "started", "suppressed")

    def __init__(self) -> None:
        self.started = float("-inf")
        self.passed = 0
        self.suppressed = 0

    def admit(self, now: float) -> int:
        if not 0 <= now - self.started < SPARSE_INTERVAL:  # the wall clock may step back
            self.started, self.passed = now, 0
        if self.passed >= SPARSE_PER_INTERVAL:
            self.suppressed += 1
            return -1
        self.passed += 1
        held_back, self.suppressed = self.suppressed, 0
        return held_back


class Logger:
    """Logs for one component. `source` is GoRouter's field of that name, such as `vestibule.router.tls`."""

    __slots__ = ("_output", "source")

    def __init__(self, output: Output, source: str = "vestibule") -> None:
        self._output = output
        self.source = source

    def named(self, component: str) -> "Logger":
        """A logger of the same output for a part of this component."""
        return Logger(self._output, f"{self.source}.{component}")

    def debug(self, event: str, **data: object) -> None:
        """Log what only a developer of the router needs."""
        self._log(DEBUG, event, data)

    def info(self, event: str, **data: object) -> None:
        """Log what happened as it should."""
        self._log(INFO, event, data)

    def warning(self, event: str, **data: object) -> None:
        """Log what works but deserves a look."""
        self._log(WARNING, event, data)

    def error(self, event: str, **data: object) -> None:
        """Log what failed."""
        self._log(ERROR, event, data)

    def sparse(self, event: str, level: int = WARNING, /, **data: object) -> None:
        """Log an event that a peer can cause at will: the first SPARSE_PER_INTERVAL of each SPARSE_INTERVAL
        seconds are written; the next line that is tells in `suppressed` how many were not."""
        if level < self._output.level:
            return
        held_back = self._output.admit(self.source, event)
        if held_back >= 0:
            self._output.emit(level, self.source, event, {**data, "suppressed": held_back} if held_back else data)

    def _log(self, level: int, event: str, data: Mapping[str, object]) -> None:
        if level >= self._output.level:
            self._output.emit(level, self.source, event, data)


class LibraryHandler(logging.Handler):
    """Brings what libraries say through the standard logging module under this module's promises, as sparse
    events."""

    def __init__(self, log: Logger) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """As logging.Handler.emit. A record whose arguments do not fit its message is logged without them."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        level = max(0, min(record.levelno // 10 - 1, ERROR))
        error = record.exc_info[1] if record.exc_info else None
        detail = {} if error is None else {"error": f"{type(error).__name__}: {error}"}
        self._log.named(record.name).sparse("library-message", level, text=text, **detail)


def safe_text(value: str | bytes, limit: int = MAX_VALUE) -> str:
    """`value` without secrets and at most `limit` characters, with a mark where it was cut. Not yet
    escaped."""
    text = value[:_SCAN].decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value[:_SCAN]
    text = _SECRETS.sub(_replacement, text)
    return text if len(text) <= limit and len(value) <= _SCAN else text[:limit] + "...[cut]"


def _replacement(found: re.Match[str]) -> str:
    return (found["scheme"] or "") + _REDACTED


def _names_a_secret(key: str) -> bool:
    return not _SECRET_WORDS.isdisjoint(_WORDS.findall(key.lower()))


def _safe_fields(data: Mapping[str, object], depth: int) -> dict[str, object]:
    safe: dict[str, object] = {}
    for key in list(data)[:MAX_FIELDS]:
        name = safe_text(str(key), 128)
        safe[name] = _REDACTED if _names_a_secret(name) else _safe(data[key], depth)
    return safe


def _safe(value: object, depth: int) -> object:
    match value:
        case None | bool():
            return value
        case int():
            return value if abs(value) < 1 << 63 else "[large number]"
        case float():
            return value if abs(value) != float("inf") and value == value else str(value)
        case str() | bytes():
            return safe_text(value)
        case BaseException():
            return safe_text(f"{type(value).__name__}: {value}" if str(value) else type(value).__name__)
        case dict() if depth:
            return _safe_fields(value, depth - 1)
        case list() | tuple() | set() | frozenset() if depth:
            return [_safe(item, depth - 1) for item in list(value)[:MAX_ITEMS]]
        case _:
            return safe_text(str(value))
