"""What both sides of an HTTP/2 connection read alike: frames, header blocks and bodies, each as a server and as a client."""

from collections.abc import Callable

import pytest
from hyperframe.frame import GoAwayFrame

from router.wire.http2 import ServerConnection
from router.wire.http2_client import ClientConnection
from router.wire.http2_events import Data, Ended, Request
from router.wire.http2_frames import ErrorCode
from router.wire.http2_head import parse_request
from router.wire.http2_limits import Http2Limits
from tests.support.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    POST,
    PREFACE,
    Client,
    Pairs,
    data,
    frames,
    head,
    literal,
    raw,
    settings,
)  # fmt: skip

PROTOCOL, FRAME_SIZE, CALM = ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR, ErrorCode.ENHANCE_YOUR_CALM
COMPRESSION = ErrorCode.COMPRESSION_ERROR
LIMITS = Http2Limits()
Side = ServerConnection | ClientConnection


def server() -> Side:
    """In the middle of stream 1's request."""
    made = ServerConnection(LIMITS)
    made.receive(PREFACE + settings({}) + head(1, POST, end=False), 0.0)
    made.take_output()
    return made


def client() -> Side:
    """In the middle of stream 1's response."""
    made = ClientConnection(LIMITS)
    made.receive(settings({}), 0.0)
    made.open(b"POST", literal(POST), end=False)
    made.receive(raw(HEADERS, END_HEADERS, 1, b"\x88"), 0.0)
    made.take_output()
    return made


def read(pairs: Pairs, *, ended: bool) -> object:
    return parse_request(pairs, LIMITS, ended=ended)


both = pytest.mark.parametrize("side", [server, client])


@both
@pytest.mark.parametrize(
    ("parts", "code", "reason"),
    [
        # 4.2
        (b"\x00\x40\x01" + bytes(6), FRAME_SIZE, "frame_too_large"),
        (b"\xff\xff\xff\x77" + bytes(5), FRAME_SIZE, "frame_too_large"),
        # 5.1: idle streams
        (raw(DATA, 0, 0, b"a"), PROTOCOL, "data_on_idle_stream"),
        (raw(DATA, 0, 2, b"a"), PROTOCOL, "data_on_idle_stream"),
        (raw(DATA, 0, 11, b"a"), PROTOCOL, "data_on_idle_stream"),
        # 5.1.1: numbers of streams
        (raw(HEADERS, 5, 0, literal(GET)), PROTOCOL, "bad_stream_number"),
        (raw(HEADERS, 5, 2, literal(GET)), PROTOCOL, "bad_stream_number"),
        # 6.1 and 6.2: padding and priority
        (raw(DATA, PADDED, 1), FRAME_SIZE, "padding_missing"),
        (raw(DATA, PADDED, 1, b"\x01"), PROTOCOL, "padding_too_long"),
        (raw(DATA, PADDED, 1, b"\x04abc"), PROTOCOL, "padding_too_long"),
        (raw(HEADERS, 5 | PADDED, 11), FRAME_SIZE, "padding_missing"),
        (raw(HEADERS, 5 | PADDED, 11, b"\xff" + literal(GET)), PROTOCOL, "padding_too_long"),
        (raw(HEADERS, 5 | HAS_PRIORITY, 11, bytes(4)), FRAME_SIZE, "priority_missing"),
        (raw(HEADERS, 5 | HAS_PRIORITY | PADDED, 11, b"\x02" + bytes(6)), FRAME_SIZE, "priority_missing"),
        # 6.10: nothing comes between the frames of a block
        (raw(CONTINUATION, END_HEADERS, 1), PROTOCOL, "continuation_of_nothing"),
        (raw(HEADERS, 5, 1) + raw(CONTINUATION, END_HEADERS, 1), PROTOCOL, "continuation_of_nothing"),
        (raw(HEADERS, 1, 11) + data(1, b"a"), PROTOCOL, "header_block_interrupted"),
        (raw(HEADERS, 1, 11) + head(13), PROTOCOL, "header_block_interrupted"),
        (raw(HEADERS, 1, 11) + raw(CONTINUATION, 4, 1), PROTOCOL, "header_block_interrupted"),
        (raw(HEADERS, 1, 11) + raw(0x77, 0, 11), PROTOCOL, "header_block_interrupted"),
        (raw(HEADERS, 1, 11) + raw(PING, 0, 0, bytes(8)), PROTOCOL, "header_block_interrupted"),
        # 4.3 and attack 67: the table is lost
        (raw(HEADERS, 5, 1, b"\x80"), COMPRESSION, "bad_header_block"),
        (raw(HEADERS, 5, 1, b"\x20" * 9), COMPRESSION, "table_resizes"),
        (raw(HEADERS, 5, 1, b"\x82" * 5_000), CALM, "header_list_too_large"),
        # attack 63
        (raw(HEADERS, 1, 11) + raw(CONTINUATION, 0, 11) * 65, CALM, "continuation_flood"),
        (raw(HEADERS, 1, 11) + raw(CONTINUATION, 0, 11, bytes(16_384)) * 9, CALM, "header_block_too_large"),
    ],
)
def test_what_is_no_frame_or_no_block_ends_the_connection(
    side: Callable[[], Side], parts: bytes, code: ErrorCode, reason: str
) -> None:
    """RFC 9113 5.4.1; attacks 63 and 67: one Ended, GOAWAY, silence."""
    connection = side()
    assert connection.receive(parts, 0.0)[-1] == Ended(code, reason)
    goodbye = frames(connection.take_output())[-1]
    assert isinstance(goodbye, GoAwayFrame)
    assert (goodbye.error_code, goodbye.additional_data) == (code, reason.encode())
    assert connection.receive(head(99), 0.0) == []
    assert (connection.open_streams, connection.pending) == (0, 0)


@both
def test_a_body_may_be_padded_cut_anywhere_and_end_with_nothing(side: Callable[[], Side]) -> None:
    """Padding is no data; the end may be an empty frame, as many send it."""
    connection, events = side(), []
    for byte in data(1, b"ab", padding=9) + data(1, b"c") + data(1, b"", end=True):
        events += connection.receive(bytes((byte,)), 0.0)
    assert events == [Data(1, b"ab", False), Data(1, b"c", False), Data(1, b"", True)]


def test_a_head_may_be_padded_prioritised_and_cut_anywhere() -> None:
    """RFC 9113 6.2 and 6.10."""
    block = literal(GET)
    padded = bytes((3,)) + bytes(4) + b"\x10" + block[:9] + bytes(3)
    client = Client()
    assert client.say(
        raw(HEADERS, PADDED | HAS_PRIORITY | END_STREAM, 1, padded), raw(CONTINUATION, 0, 1, b""),
        raw(CONTINUATION, 0, 1, block[9:20]), raw(CONTINUATION, END_HEADERS, 1, block[20:]),
    ) == [Request(1, read(GET, ended=True), True)]  # type: ignore[arg-type]  # fmt: skip
