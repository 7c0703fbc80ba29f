"""The access log: one record an exchange, formatted and written in batches, off the request's path.

Promises: `add` is an append and neither waits nor raises; what a slow sink cannot take is dropped and
counted. Sampling never leaves out an error or a denial. Formatting a batch takes about a millisecond.
Refuses to know the line (access_line.py) and the target (sink.py, syslog.py). With neither a file nor
streaming configured the log goes to standard output, beside the component log; a line of that starts with
`{"log_level"`.
"""

import random
from collections.abc import Callable, Iterable

from router.observe.access_line import AccessLogOptions, Renderer
from router.observe.access_record import AccessRecord
from router.observe.passthrough_record import PassthroughRecord
from router.observe.sink import Sink

__all__ = ["BATCH", "AccessLog", "AccessLogOptions", "AccessRecord"]

BATCH = 256
"""Records that are formatted at a time, at the latest."""
LONG = 4096
"""Bytes of a peer's words in one record that is formatted at once: many of them in one batch would hold up all requests."""


class AccessLog:
    """Collects records and hands their lines to its sinks, BATCH at a time; call `flush` now and then (every
    100 ms).

    Without a sink nothing is logged. Serves one thread.
    """

    def __init__(self, options: AccessLogOptions, sinks: Iterable[Sink], random: Callable[[], float] = random.random) -> None:
        self._renderer = Renderer(options)
        self._sinks = tuple(sinks)
        self._share = options.sampling
        self._random = random
        self._pending: list[AccessRecord] = []
        self._passed: list[PassthroughRecord] = []

    @property
    def dropped(self) -> int:
        """Lines that a sink could not take or write, since the start."""
        return sum(sink.dropped for sink in self._sinks)

    def add(self, record: AccessRecord) -> None:
        """Take the record of a finished exchange; it must not change afterwards."""
        if self._share < 1.0 and not _always_logged(record) and self._random() >= self._share:
            return
        pending = self._pending
        pending.append(record)
        if len(pending) >= BATCH or _said(record) > LONG:
            self.flush()

    def add_passthrough(self, record: PassthroughRecord) -> None:
        """Take the record of a connection that was passed through; it must not change afterwards."""
        if self._share < 1.0 and record.ending == "ended" and self._random() >= self._share:
            return
        self._passed.append(record)
        if len(self._passed) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Format what was collected and hand it on. Never waits."""
        records, passed = self._pending, self._passed
        if not records and not passed:
            return
        self._pending, self._passed = [], []
        if self._sinks:
            lines = [*map(self._renderer.render, records), *map(self._renderer.render_passthrough, passed)]
            for sink in self._sinks:
                sink.write(lines)

    def reopen(self) -> None:
        """Open files anew behind what was collected so far (log rotation). Raises OSError; the old file then
        stays."""
        self.flush()
        for sink in self._sinks:
            sink.reopen()

    def close(self, timeout: float) -> bool:
        """Write what was collected, for at most `timeout` seconds a sink; say whether all of it was
        written."""
        self.flush()
        written = [sink.close(timeout) for sink in self._sinks]  # a slow one must not keep the next from closing
        return all(written)


def _said(record: AccessRecord) -> int:
    """Bytes that the client chose freely."""
    said = len(record.uri) + len(record.user_agent) + len(record.referer) + len(record.host) + len(record.x_forwarded_for)
    return said + sum(map(len, record.extra_headers)) if record.extra_headers else said


def _always_logged(record: AccessRecord) -> bool:
    return (
        not record.status
        or record.status >= 400
        or bool(record.router_error)
        or record.mtls_denied_reason is not None
        or record.mtls_auth in ("denied", "would_deny")
    )
