"""Settings, pings, resets, windows and farewells: the rules of RFC 9113 section 6, one a row."""

from collections.abc import Callable

import pytest
from hyperframe.frame import PingFrame, SettingsFrame

from router.wire.http2 import Ended, ErrorCode, Event, GoneAway, Http2Limits, Reset, Window
from tests.support.http2 import (
    ACK,
    GET,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PING,
    POST,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Client,
    data,
    head,
    literal,
    raw,
    settings,
)

PROTOCOL, FRAME_SIZE, FLOW = ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR, ErrorCode.FLOW_CONTROL_ERROR
CALM = ErrorCode.ENHANCE_YOUR_CALM


def u32(value: int) -> bytes:
    return value.to_bytes(4)


def talking(limits: Http2Limits | None = None) -> Client:
    """A client with an open stream 1, a finished one 3, and one that it reset, 5."""
    client = Client(limits)
    client.say(head(1, POST, end=False), head(3), head(5), raw(RST_STREAM, 0, 5, u32(8)))
    client.server.send_head(3, 200, [], end=True)
    client.answers()
    return client


@pytest.mark.parametrize(
    ("frame", "code", "reason"),
    [
        # 6.3
        (raw(PRIORITY, 0, 0, bytes(5)), PROTOCOL, "priority_of_connection"),
        (raw(PRIORITY, 0, 7, bytes(4)), FRAME_SIZE, "bad_priority_size"),
        (raw(PRIORITY, 0, 7, u32(7) + b"\0"), PROTOCOL, "priority_on_itself"),
        (raw(PRIORITY, 0, 7, u32(7 | 1 << 31) + b"\0"), PROTOCOL, "priority_on_itself"),
        # 6.4
        (raw(RST_STREAM, 0, 0, bytes(4)), PROTOCOL, "reset_of_idle_stream"),
        (raw(RST_STREAM, 0, 2, bytes(4)), PROTOCOL, "reset_of_idle_stream"),
        (raw(RST_STREAM, 0, 7, bytes(4)), PROTOCOL, "reset_of_idle_stream"),
        (raw(RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE, "bad_reset_size"),
        (raw(RST_STREAM, 0, 1, bytes(5)), FRAME_SIZE, "bad_reset_size"),
        # 6.5
        (raw(SETTINGS, 0, 1), PROTOCOL, "settings_of_stream"),
        (raw(SETTINGS, ACK, 1), PROTOCOL, "settings_of_stream"),
        (raw(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE, "bad_settings_size"),
        (raw(SETTINGS, ACK, 0, bytes(6)), FRAME_SIZE, "bad_settings_size"),
        (raw(SETTINGS, 0, 0, b"\0\2" + u32(2)), PROTOCOL, "bad_setting"),
        (raw(SETTINGS, 0, 0, b"\0\4" + u32(2**31)), FLOW, "bad_setting"),
        (raw(SETTINGS, 0, 0, b"\0\5" + u32(16_383)), PROTOCOL, "bad_setting"),
        (raw(SETTINGS, 0, 0, b"\0\5" + u32(2**24)), PROTOCOL, "bad_setting"),
        # 6.6
        (raw(PUSH_PROMISE, 4, 1, u32(2)), PROTOCOL, "push_promise"),
        (raw(PUSH_PROMISE, 4, 0, b""), PROTOCOL, "push_promise"),
        # 6.7
        (raw(PING, 0, 1, bytes(8)), PROTOCOL, "ping_of_stream"),
        (raw(PING, 0, 0, bytes(7)), FRAME_SIZE, "bad_ping_size"),
        (raw(PING, ACK, 0, bytes(9)), FRAME_SIZE, "bad_ping_size"),
        # 6.8
        (raw(GOAWAY, 0, 1, bytes(8)), PROTOCOL, "goaway_of_stream"),
        (raw(GOAWAY, 0, 0, bytes(7)), FRAME_SIZE, "bad_goaway_size"),
        # 6.9
        (raw(WINDOW_UPDATE, 0, 0, bytes(4)), PROTOCOL, "window_update_of_nothing"),
        (raw(WINDOW_UPDATE, 0, 0, u32(1 << 31)), PROTOCOL, "window_update_of_nothing"),
        (raw(WINDOW_UPDATE, 0, 0, bytes(3)), FRAME_SIZE, "bad_window_size"),
        (raw(WINDOW_UPDATE, 0, 1, bytes(5)), FRAME_SIZE, "bad_window_size"),
        (raw(WINDOW_UPDATE, 0, 7, u32(1)), PROTOCOL, "window_of_idle_stream"),
        (raw(WINDOW_UPDATE, 0, 2, u32(1)), PROTOCOL, "window_of_idle_stream"),
        (raw(WINDOW_UPDATE, 0, 0, u32(2**31 - 65_535)), FLOW, "connection_window_overflow"),
    ],
)  # fmt: skip
def test_a_connection_error_ends_the_connection(frame: bytes, code: ErrorCode, reason: str) -> None:
    """RFC 9113 5.4.1: GOAWAY with the last stream that was looked at, and nothing after it."""
    client = talking()
    assert client.say(frame, head(9)) == [Ended(code, reason)]
    assert client.farewell() == (5, code, reason.encode())
    assert client.say(head(11)) == []
    assert (client.server.open_streams, client.server.closing, client.answers()) == (0, True, [])


@pytest.mark.parametrize(
    ("frame", "code", "reason"),
    [
        (raw(PRIORITY, 0, 1, bytes(4)), FRAME_SIZE, "bad_priority_size"),
        (raw(PRIORITY, 0, 1, u32(1) + b"\0"), PROTOCOL, "priority_on_itself"),
        (raw(WINDOW_UPDATE, 0, 1, bytes(4)), PROTOCOL, "window_update_of_nothing"),
        (raw(WINDOW_UPDATE, 0, 1, u32(2**31 - 65_535)), FLOW, "stream_window_overflow"),
    ],
)
def test_a_stream_error_ends_the_stream_and_nothing_else(frame: bytes, code: ErrorCode, reason: str) -> None:
    """RFC 9113 5.4.2."""
    client = talking()
    assert client.say(frame) == [Reset(1, code, False, reason)]
    assert client.resets() == [(1, code)]
    assert [type(event).__name__ for event in client.say(head(7))] == ["Request"]


@pytest.mark.parametrize(
    "frame",
    [
        raw(PRIORITY, 0, 1, bytes(5)),
        raw(PRIORITY, 0, 9, bytes(5)),
        raw(PRIORITY, 0, 8, bytes(5)),
        raw(PRIORITY, 0, 5, bytes(4)),
        raw(PRIORITY, 0, 5, u32(5) + b"\0"),
        raw(RST_STREAM, 0, 3, bytes(4)),
        raw(RST_STREAM, 0, 5, bytes(4)),
        raw(SETTINGS, ACK, 0),
        raw(PING, ACK, 0, bytes(8)),
        raw(WINDOW_UPDATE, 0, 3, u32(1)),
        raw(WINDOW_UPDATE, 0, 3, bytes(4)),
        raw(WINDOW_UPDATE, 0, 5, u32(2**31 - 1)),
        raw(WINDOW_UPDATE, 0, 1, u32(2**31 - 1 - 65_535)),
        raw(WINDOW_UPDATE, 0, 0, u32(2**31 - 1 - 65_535)),
        raw(0x0A, 0xFF, 0, b"?"),
        raw(0xFF, 0xFF, 1, bytes(100)),
    ],
)
def test_what_changes_nothing_gets_no_answer(frame: bytes) -> None:
    """Late frames for streams that have gone, priorities, unknown kinds (RFC 9113 4.1, 5.1, 5.3)."""
    client = talking()
    assert client.say(frame) == []
    assert client.answers() == []
    assert client.server.open_streams == 1


@pytest.mark.parametrize("values", [{}, {1: 0}, {2: 0}, {2: 1}, {3: 0}, {5: 16_384}, {5: 2**24 - 1}, {6: 0}, {99: 2**32 - 1}])
def test_settings_are_acknowledged(values: dict[int, int]) -> None:
    """RFC 9113 6.5.3; unknown ones are ignored."""
    client = talking()
    payload = b"".join(key.to_bytes(2) + u32(value) for key, value in values.items())
    assert client.say(raw(SETTINGS, 0, 0, payload)) == []
    (answer,) = client.answers()
    assert isinstance(answer, SettingsFrame)
    assert "ACK" in answer.flags


def test_settings_count_in_order_and_to_the_last() -> None:
    """RFC 9113 6.5: a frame may name one twice."""
    client = talking()
    client.say(raw(SETTINGS, 0, 0, b"\0\4" + u32(10) + b"\0\4" + u32(20)))
    assert client.server.room(1) == 20


def test_a_setting_that_overflows_a_window_is_a_connection_error() -> None:
    """RFC 9113 6.9.2."""
    client = talking()
    assert client.say(raw(WINDOW_UPDATE, 0, 1, u32(1_000)), settings({4: 2**31 - 1})) == [Ended(FLOW, "stream_window_overflow")]


def test_a_ping_is_answered_with_its_own_bytes() -> None:
    """RFC 9113 6.7."""
    client = talking()
    client.say(raw(PING, 0, 0, b"12345678"))
    (answer,) = client.answers()
    assert isinstance(answer, PingFrame)
    assert ("ACK" in answer.flags, answer.opaque_data) == (True, b"12345678")


def test_a_client_that_goes_away_says_so_once() -> None:
    """RFC 9113 6.8: its streams go on."""
    client = talking()
    farewell = raw(GOAWAY, 0, 0, u32(0) + u32(2) + b"because")
    assert client.say(farewell, farewell) == [GoneAway(2)]
    assert (client.server.open_streams, client.server.closing) == (1, False)


def test_a_client_resets_what_it_does_not_want_any_more() -> None:
    """RFC 9113 6.4, with any code."""
    client = talking()
    assert client.say(raw(RST_STREAM, 0, 1, u32(0xFFFFFFFF))) == [Reset(1, 0xFFFFFFFF, True, "reset_by_peer")]
    assert (client.server.open_streams, client.answers()) == (0, [])


TIGHT = Http2Limits(reset_tokens=20, reset_tokens_a_second=2.0, control_tokens=50, control_tokens_a_second=5.0)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda n: raw(SETTINGS, 0, 0), "control_flood"),
        (lambda n: raw(SETTINGS, ACK, 0), "control_flood"),
        (lambda n: raw(SETTINGS, 0, 0, bytes(60)), "control_flood"),
        (lambda n: raw(PING, 0, 0, bytes(8)), "control_flood"),
        (lambda n: raw(PING, ACK, 0, bytes(8)), "control_flood"),
        (lambda n: raw(PRIORITY, 0, 9, bytes(5)), "control_flood"),
        (lambda n: raw(WINDOW_UPDATE, 0, 0, u32(1)), "control_flood"),
        (lambda n: raw(WINDOW_UPDATE, 0, 1, u32(1)), "control_flood"),
        (lambda n: raw(WINDOW_UPDATE, 0, 5, u32(1)), "control_flood"),
        (lambda n: raw(RST_STREAM, 0, 5, u32(1)), "control_flood"),
        (lambda n: raw(GOAWAY, 0, 0, bytes(8)), "control_flood"),
        (lambda n: raw(0x20, 0, 0), "control_flood"),
        (lambda n: data(1, b""), "control_flood"),
        (lambda n: data(1, b"", padding=200), "control_flood"),
        # attack 62
        (lambda n: head(2 * n + 7) + raw(RST_STREAM, 0, 2 * n + 7, u32(8)), "rapid_resets"),
        # attack 64: MadeYouReset, each of its triggers
        (lambda n: head(2 * n + 7) + raw(WINDOW_UPDATE, 0, 2 * n + 7, u32(0)), "provoked_resets"),
        (lambda n: head(2 * n + 7) + raw(WINDOW_UPDATE, 0, 2 * n + 7, u32(2**31 - 1)), "provoked_resets"),
        (lambda n: head(2 * n + 7) + raw(PRIORITY, 0, 2 * n + 7, u32(2 * n + 7) + b"\0"), "provoked_resets"),
        (lambda n: head(2 * n + 7) + raw(PRIORITY, 0, 2 * n + 7, bytes(4)), "provoked_resets"),
        (lambda n: head(2 * n + 7) + data(2 * n + 7, b"a"), "provoked_resets"),
        (lambda n: head(2 * n + 7) + head(2 * n + 7), "provoked_resets"),
        (lambda n: raw(HEADERS, 5 | HAS_PRIORITY, 2 * n + 7, u32(2 * n + 7) + b"\0" + literal(GET)), "provoked_resets"),
        (lambda n: head(2 * n + 7, [*POST, (b"content-length", b"1")], end=False) + data(2 * n + 7, b"ab"), "provoked_resets"),
        # attack 66
        (lambda n: head(2 * n + 7, GET[:3]), "malformed_requests"),
        (lambda n: head(2 * n + 7, [*GET, *[(b"a", b"b")] * 200]), "malformed_requests"),
    ],
)  # fmt: skip
def test_a_flood_is_asked_to_calm_down(make: Callable[[int], bytes], reason: str) -> None:
    """Attacks 62, 64, 65 and 66: whoever makes us work for nothing is ended after its budget, and a slow one never."""
    client = talking(TIGHT)
    events = [event for number in range(60) for event in client.say(make(number))]
    assert events[-1] == Ended(CALM, reason)
    assert client.farewell()[1:] == (CALM, reason.encode())
    patient = talking(TIGHT)
    slow = [event for number in range(60) for event in patient.say(make(number), now=4.0 * number)]
    assert not [event for event in slow if isinstance(event, Ended)]


def test_who_does_real_work_may_reset_and_update_windows_as_it_likes() -> None:
    """Whole responses bring tokens for resets, data brings tokens for windows and pings: an hour at no time at all."""
    client = Client(TIGHT)
    for number in range(1_000):
        one, two = 4 * number + 1, 4 * number + 3
        client.say(head(one), head(two), raw(RST_STREAM, 0, two, u32(8)))
        client.server.send_head(one, 200, [], end=False)
        client.server.send_data(one, bytes(16_384), end=False)
        events = client.say(
            *[raw(WINDOW_UPDATE, 0, one, u32(4_096)) for _ in range(4)],
            *[raw(WINDOW_UPDATE, 0, 0, u32(4_096)) for _ in range(4)],
            raw(PING, 0, 0, bytes(8)),
        )
        assert not [event for event in events if not isinstance(event, Window)]
        client.server.send_data(one, b"", end=True)
    assert client.server.open_streams == 0


def test_who_drops_uploads_that_have_their_answer_is_no_flood() -> None:
    """RST_STREAM for a stream whose response was whole is a courtesy."""
    client = Client(TIGHT)
    for number in range(1_000):
        stream = 2 * number + 1
        client.say(head(stream, POST, end=False))
        client.server.send_head(stream, 413, [], end=True)
        events: list[Event] = client.say(raw(RST_STREAM, 0, stream, u32(8)))
        assert events == [Reset(stream, 8, True, "reset_by_peer")]
