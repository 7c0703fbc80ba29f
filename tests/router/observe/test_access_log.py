"""router/observe/access_log.py: batches, sampling, dropping."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from router.observe.access_log import BATCH, LONG, AccessLog, AccessLogOptions, AccessRecord
from router.observe.passthrough_record import PassthroughRecord
from router.observe.sink import FileTarget, Sink


class ListTarget:
    """Keeps what it is given; `fail` loses it."""

    def __init__(self, *, fail: bool = False) -> None:
        self.lines: list[bytes] = []
        self.written = threading.Event()
        self._fail = fail

    def write(self, lines: Sequence[bytes]) -> int:
        """Keep or lose."""
        self.lines += lines
        self.written.set()
        return len(lines) if self._fail else 0

    def reopen(self) -> Callable[[], None]:
        """Nothing to open."""
        return self.lines.clear

    def close(self) -> None:
        """Nothing to close."""


def record(status: int | None = 200) -> AccessRecord:
    """A small record."""
    made = AccessRecord(0.0)
    made.host, made.status = b"h", status
    return made


def test_records_wait_until_flushed() -> None:
    """`add` formats and writes nothing by itself."""
    target = ListTarget()
    log = AccessLog(AccessLogOptions(), [Sink(target)])
    log.add(record())
    assert target.lines == []
    assert log.close(10)
    assert [line[:5] for line in target.lines] == [b"h - ["]


def test_a_long_record_is_flushed_at_once() -> None:
    """Attack 52: hundreds of heads of 64 KiB are not formatted in one go, during which nobody else would be served."""
    target = ListTarget()
    log = AccessLog(AccessLogOptions(), [Sink(target)])
    long = record()
    long.user_agent = b"\xff" * (LONG + 1)
    log.add(record())
    log.add(long)
    assert target.written.wait(10)
    assert len(target.lines) == 2
    log.close(10)


def test_a_full_batch_is_flushed_at_once() -> None:
    """What waits for the next flush is bounded."""
    target = ListTarget()
    log = AccessLog(AccessLogOptions(), [Sink(target)])
    for _ in range(BATCH):
        log.add(record())
    assert target.written.wait(10)
    assert len(target.lines) == BATCH
    log.close(10)


def test_every_sink_gets_every_line(tmp_path: Path) -> None:
    """A file and a stream at once, as GoRouter allows."""
    target, path = ListTarget(), tmp_path / "access.log"
    log = AccessLog(AccessLogOptions(format="json"), [Sink(target), Sink(FileTarget(str(path)))])
    log.add(record())
    assert log.close(10)
    assert target.lines[0] + b"\n" == path.read_bytes()


def test_lines_that_a_sink_lost_are_counted() -> None:
    """The metric `access_log_dropped` reads this."""
    log = AccessLog(AccessLogOptions(), [Sink(ListTarget(fail=True)), Sink(ListTarget(), max_pending=1)])
    log.add(record())
    log.close(10)
    assert log.dropped == 2


def test_without_a_sink_nothing_is_kept() -> None:
    """R54: request logs can be off."""
    log = AccessLog(AccessLogOptions(), [])
    log.add(record())
    log.flush()
    assert log.close(0)
    assert log.dropped == 0


def denied() -> AccessRecord:
    """An exchange that a door refused."""
    made = record()
    made.mtls_auth, made.mtls_denied_reason = "denied", "caller app x not in mtls_allowed_apps"
    return made


def would_deny() -> AccessRecord:
    """An exchange that report_only let through."""
    made = record()
    made.mtls_auth = "would_deny"
    return made


def broken() -> AccessRecord:
    """A success cut short."""
    made = record()
    made.router_error = "client-conn-closed-during-response-streaming"
    return made


@pytest.mark.parametrize(
    "kept",
    [record(None), record(404), record(502), denied(), would_deny(), broken()],
    ids=lambda made: made.status,
)
def test_sampling_keeps_every_error_and_denial(kept: AccessRecord) -> None:
    """R56: sampling is for plain successes only."""
    target = ListTarget()
    log = AccessLog(AccessLogOptions(sampling=0.0), [Sink(target)])
    log.add(record())
    log.add(kept)
    log.close(10)
    assert len(target.lines) == 1


def test_sampling_keeps_the_share_asked_for() -> None:
    """R56: a success is kept when the draw is below the share."""
    target = ListTarget()
    draws = iter([0.1, 0.3, 0.29])
    log = AccessLog(AccessLogOptions(sampling=0.3), [Sink(target)], random=lambda: next(draws))
    for _ in range(3):
        log.add(record())
    log.close(10)
    assert len(target.lines) == 2


def test_reopening_puts_collected_lines_into_the_old_file(tmp_path: Path) -> None:
    """Rotation loses nothing and mixes nothing."""
    path = tmp_path / "access.log"
    log = AccessLog(AccessLogOptions(), [Sink(FileTarget(str(path)))])
    log.add(record(200))
    path.rename(tmp_path / "old")
    log.reopen()
    log.add(record(404))
    log.close(10)
    assert b" 200 " in (tmp_path / "old").read_bytes()
    assert b" 404 " in path.read_bytes()


def passed(ending: str = "ended") -> PassthroughRecord:
    made = PassthroughRecord(0.0, "edge", "web", "a.example", "192.0.2.1:1", "192.0.2.1:1")
    made.ending = ending
    return made


def test_connections_that_were_passed_through_are_logged_beside_the_exchanges() -> None:
    """In the same sinks, in the same format."""
    target = ListTarget()
    log = AccessLog(AccessLogOptions(), [Sink(target)])
    log.add(record())
    log.add_passthrough(passed())
    assert log.close(10)
    assert [line.split(b" ", 1)[0] for line in target.lines] == [b"h", b"a.example"]
    target = ListTarget()
    log = AccessLog(AccessLogOptions(format="json", disable_log_source_ip=True), [Sink(target)])
    log.add_passthrough(passed())
    assert log.close(10)
    assert b'"proto":"L4"' in target.lines[0]
    assert b"192.0.2.1" not in target.lines[0]


def test_many_of_them_are_flushed_by_themselves() -> None:
    """BATCH at a time."""
    target = ListTarget()
    log = AccessLog(AccessLogOptions(), [Sink(target)])
    for _ in range(BATCH):
        log.add_passthrough(passed())
    assert target.written.wait(10)
    log.close(10)


def test_sampling_leaves_out_none_that_did_not_just_end() -> None:
    """A reset, a deadline and a backend that was not reached are always told."""
    target = ListTarget()
    log = AccessLog(AccessLogOptions(sampling=0.5), [Sink(target)], random=lambda: 0.9)
    for ending in ("ended", "broken", "idle", "dial_failed"):
        log.add_passthrough(passed(ending))
    assert log.close(10)
    assert [line.split(b" ")[4] for line in target.lines] == [b"broken", b"idle", b"dial_failed"]
