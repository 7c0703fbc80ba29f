"""router/observe/log.py: GoRouter's JSON lines, bounded, escaped, without secrets."""

import json
import logging
from collections.abc import Callable, Sequence
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.observe.log import (
    DEBUG,
    ERROR,
    INFO,
    LEVELS,
    MAX_FIELDS,
    MAX_ITEMS,
    MAX_VALUE,
    SPARSE_INTERVAL,
    SPARSE_PER_INTERVAL,
    LibraryHandler,
    Logger,
    Output,
    safe_text,
)
from router.observe.sink import Sink


class ListSink(Sink):
    """Keeps lines at once, without a thread."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, lines: Sequence[bytes]) -> int:
        """Keep."""
        self.lines += lines
        return 0


class Written:
    """A logger whose lines can be read back."""

    def __init__(
        self,
        level: int = DEBUG,
        timestamp: Literal["rfc3339", "unix-epoch"] = "rfc3339",
        clock: Callable[[], float] = lambda: 946_684_800.5,
    ) -> None:
        self.sink = ListSink()
        self.output = Output(self.sink, level, timestamp, clock)
        self.log = Logger(self.output)

    def lines(self) -> list[dict[str, object]]:
        """All lines so far."""
        return [json.loads(line) for line in self.sink.lines]

    def data(self) -> dict[str, object]:
        """The data of the only line."""
        (line,) = self.lines()
        data = line["data"]
        assert isinstance(data, dict)
        return data


def test_a_line_has_gorouters_shape() -> None:
    """Same keys, same order, same number for the level."""
    written = Written()
    written.log.named("registry").info("route-registered", uri="a.b", count=2)
    (line,) = written.sink.lines
    assert line == (
        b'{"log_level":1,"timestamp":"2000-01-01T00:00:00.500000000Z","message":"route-registered",'
        b'"source":"vestibule.registry","data":{"uri":"a.b","count":2}}'
    )


def test_the_timestamp_can_be_epoch_seconds() -> None:
    """`logging.format.timestamp: unix-epoch`."""
    written = Written(timestamp="unix-epoch")
    written.log.info("x")
    assert written.lines()[0]["timestamp"] == 946_684_800.5


def test_what_is_below_the_level_is_not_written() -> None:
    """`logging.level`; a reload changes it at once."""
    written = Written(level=LEVELS["warn"])
    for say in (written.log.debug, written.log.info, written.log.warning, written.log.error):
        say("x")
    written.log.sparse("x", INFO)
    written.output.level = INFO
    written.log.info("y")
    assert [(line["log_level"], line["message"]) for line in written.lines()] == [
        (2, "x"),
        (3, "x"),
        (1, "y"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "nats_token",
        "tls-key",
        "Authorization",
        "client_secret",
        "nats.pass",
        "NKEY seed",
        "cookie",
    ],
)
def test_a_key_that_names_a_secret_hides_its_value(name: str) -> None:
    """R21, R215: whatever the value is, and inside a nested value too."""
    written = Written()
    written.log.info("x", **{name: "hunter2", "nested": {name: ["hunter2"]}})
    assert b"hunter2" not in written.sink.lines[0]


@pytest.mark.parametrize("name", ["monkey", "passthrough", "keyboard", "uri", "path"])
def test_a_key_that_only_sounds_like_one_shows_its_value(name: str) -> None:
    """Whole words count."""
    written = Written()
    written.log.info("x", **{name: "shown"})
    assert {name: "shown"} == written.data()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-----BEGIN PRIVATE KEY-----\nMIIEv\n-----END PRIVATE KEY-----\nrest", "[redacted]\nrest"),
        ("a -----BEGIN CERTIFICATE-----\\nMIIEv without an end", "a [redacted]"),
        ("nats://user:hunter2@10.0.0.1:4222", "nats://[redacted]@10.0.0.1:4222"),
        ("nats://10.0.0.1:4222", "nats://10.0.0.1:4222"),
        ("seed SU" + "A" * 56 + ".", "seed [redacted]."),
        ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer [redacted]"),
    ],
)
def test_secrets_within_a_text_are_replaced(text: str, shown: str) -> None:
    """R21, R216: PEM bodies, credentials in URLs, NKey seeds, bearer tokens."""
    assert shown == safe_text(text)
    assert shown == safe_text(text.encode())


def test_a_secret_is_replaced_before_the_text_is_cut() -> None:
    """A cut never leaves half a key."""
    text = "x" * (MAX_VALUE - 40) + "-----BEGIN PRIVATE KEY-----\n" + "MIIE" * 3000
    assert "MIIE" not in safe_text(text)


def test_values_are_bounded() -> None:
    """Length, number of fields, number of items, depth."""
    written = Written()
    fields: dict[str, object] = {f"f{number}": "x" * 10_000 for number in range(MAX_FIELDS + 10)}
    fields["f0"] = list(range(1000))
    written.log.info("x", **fields)
    data = written.data()
    assert len(data) == MAX_FIELDS
    assert list(range(MAX_ITEMS)) == data["f0"]
    assert data["f1"] == "x" * MAX_VALUE + "...[cut]"


def test_hostile_text_is_escaped_to_ascii() -> None:
    """Attack 24: no second line, no terminal escape, no bidirectional override."""
    written = Written()
    written.log.info("x", text='\n{"log_level":3}\x1b[31m\u202e', raw=b"\xff\n")
    assert written.sink.lines[0].isascii()
    assert b"\n" not in written.sink.lines[0]
    assert written.data() == {"text": '\n{"log_level":3}\x1b[31m\u202e', "raw": "\\xff\n"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (1 << 70, "[large number]"),
        (ValueError("bad"), "ValueError: bad"),
        (TimeoutError(), "TimeoutError"),
        (("a", 1), ["a", 1]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": "{'c': 1}"}}),
        (range(2), "range(0, 2)"),
    ],
)
def test_values_keep_their_kind_where_json_has_it(value: object, shown: object) -> None:
    """Everything else becomes text."""
    written = Written()
    written.log.info("x", value=value)
    assert {"value": shown} == written.data()


@given(st.dictionaries(st.text(max_size=20), st.one_of(st.text(), st.binary(), st.floats(), st.integers()), max_size=5))
def test_any_data_makes_one_valid_line(data: dict[str, object]) -> None:
    """Property: one line of ASCII that is JSON without NaN."""
    written = Written()
    written.log.info("x", nested=data)
    (line,) = written.sink.lines
    assert line.isascii()
    assert b"\n" not in line
    json.loads(line, parse_constant=pytest.fail)


def test_an_event_that_a_peer_causes_is_written_rarely() -> None:
    """The first few of an interval, then the next interval's first with the number held back; each alone."""
    now = [0.0]
    written = Written(clock=lambda: now[0])
    for _ in range(SPARSE_PER_INTERVAL + 5):
        written.log.sparse("tls-handshake-failed", reason="unknown_ca")
    written.log.sparse("other")
    now[0] += SPARSE_INTERVAL
    written.log.sparse("tls-handshake-failed", reason="unknown_ca")
    written.log.sparse("tls-handshake-failed", reason="unknown_ca")
    assert len(written.lines()) == SPARSE_PER_INTERVAL + 3
    assert [line["data"] for line in written.lines()[-3:]] == [
        {},
        {"reason": "unknown_ca", "suppressed": 5},
        {"reason": "unknown_ca"},
    ]


def test_a_clock_that_steps_back_does_not_silence_events() -> None:
    """The wall clock may be set; a window in the future is over."""
    now = [1000.0]
    written = Written(clock=lambda: now[0])
    for _ in range(SPARSE_PER_INTERVAL + 1):
        written.log.sparse("x")
    now[0] = 500.0
    written.log.sparse("x")
    assert len(written.lines()) == SPARSE_PER_INTERVAL + 1


def test_what_libraries_log_is_held_to_the_same_rules() -> None:
    """NATS and asyncio speak through the standard module: bounded, escaped, redacted, with their error."""
    written = Written()
    handler = LibraryHandler(written.log)
    library = logging.Logger("nats.aio", logging.INFO)  # noqa: LOG001 - not in the process-wide tree
    library.addHandler(handler)
    try:
        raise OSError("no route to nats://u:hunter2@h")
    except OSError:
        library.exception("cannot connect\n%s", "x" * 5000)
    (line,) = written.lines()
    data = line["data"]
    assert isinstance(data, dict)
    assert (line["log_level"], line["source"]) == (ERROR, "vestibule.nats.aio")
    assert data["error"] == "OSError: no route to nats://[redacted]@h"
    assert MAX_VALUE + len("...[cut]") == len(data["text"])


def test_a_library_message_that_does_not_format_is_still_logged() -> None:
    """Somebody else's bug does not become ours."""
    written = Written()
    LibraryHandler(written.log).emit(logging.LogRecord("x", logging.WARNING, "", 0, "%d files", ("many",), None))
    assert written.data() == {"text": "%d files"}


def test_a_worker_says_which_it_is() -> None:
    """Several processes write one log; the shape of a line stays GoRouter's."""
    written = Written()
    written.output.worker = 3
    written.log.info("connection-ended", reason="idle")
    assert written.data() == {"worker": 3, "reason": "idle"}
