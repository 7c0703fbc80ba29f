"""HTTP/2 frames: their kinds, flags and errors, and the bytes of those that a server sends.

Promises: every frame made here has the right length and no padding. Refuses to know: streams, windows, and
what a frame means.
Source: RFC 9113 sections 4.1 (layout), 6 (kinds) and 7 (error codes).
"""

from enum import IntEnum
from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_FRAME: Final = 16_384  # bytes of payload: the least that every peer takes, and the most that we do
MAX_WINDOW: Final = 2**31 - 1
DEFAULT_WINDOW: Final = 65_535

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6
NO_RFC7540_PRIORITIES: Final = 9

HEADER: Final = Struct(">HBBBL")  # length (two and one bytes), kind, flags, stream
SETTING: Final = Struct(">HL")
_UINT = Struct(">L")
_TWO_UINTS = Struct(">LL")


class ErrorCode(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


SETTING_RANGES: Final = {
    ENABLE_PUSH: (0, 1, ErrorCode.PROTOCOL_ERROR),
    INITIAL_WINDOW_SIZE: (0, MAX_WINDOW, ErrorCode.FLOW_CONTROL_ERROR),
    MAX_FRAME_SIZE: (MAX_FRAME, 2**24 - 1, ErrorCode.PROTOCOL_ERROR),
}
"""Least and most of a setting's value, and the error of one that lies outside (section 6.5.2)."""


def frame_header(size: int, kind: int, flags: int, stream: int) -> bytes:
    """The nine bytes in front of a payload of ``size`` bytes."""
    return HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream)


def settings_frame(settings: list[tuple[int, int]]) -> bytes:
    """Our settings, each an identifier and its value."""
    payload = b"".join([SETTING.pack(*pair) for pair in settings])
    return frame_header(len(payload), SETTINGS, 0, 0) + payload


def rst_stream_frame(stream: int, code: int) -> bytes:
    """The end of one stream."""
    return HEADER.pack(0, 4, RST_STREAM, 0, stream) + _UINT.pack(code)


def window_update_frame(stream: int, size: int) -> bytes:
    """Room for ``size`` more bytes: on a stream, or 0 for the connection."""
    return HEADER.pack(0, 4, WINDOW_UPDATE, 0, stream) + _UINT.pack(size)


def goaway_frame(last: int, code: int, reason: str) -> bytes:
    """The end of the connection: ``last`` is the last stream that was looked at; ``reason`` helps who reads a trace."""
    payload = _TWO_UINTS.pack(last, code) + reason.encode("ascii")
    return frame_header(len(payload), GOAWAY, 0, 0) + payload


def head_frames(stream: int, block: bytes, *, end: bool) -> list[bytes]:
    """A header block as HEADERS and as many CONTINUATION frames as it takes."""
    flags = END_STREAM if end else 0
    if len(block) <= MAX_FRAME:
        return [frame_header(len(block), HEADERS, flags | END_HEADERS, stream), block]
    frames = [frame_header(MAX_FRAME, HEADERS, flags, stream), block[:MAX_FRAME]]
    for at in range(MAX_FRAME, len(block), MAX_FRAME):
        piece = block[at : at + MAX_FRAME]
        last = at + MAX_FRAME >= len(block)
        frames += (frame_header(len(piece), CONTINUATION, END_HEADERS if last else 0, stream), piece)
    return frames
