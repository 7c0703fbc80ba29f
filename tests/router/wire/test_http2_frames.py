"""Frames that a server sends, read by another library."""

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from router.wire.http2_frames import (
    MAX_FRAME,
    ErrorCode,
    frame_header,
    goaway_frame,
    head_frames,
    rst_stream_frame,
    settings_frame,
    window_update_frame,
)
from tests.support.http2 import frames


def one(data: bytes) -> Frame:
    (frame,) = frames(data)
    return frame


def test_each_frame_reads_as_what_it_says() -> None:
    """RFC 9113 section 6."""
    settings, reset = one(settings_frame([(3, 100), (4, 2**31 - 1)])), one(rst_stream_frame(7, ErrorCode.CANCEL))
    window, goaway = one(window_update_frame(9, 2**31 - 1)), one(goaway_frame(11, ErrorCode.ENHANCE_YOUR_CALM, "why"))
    assert isinstance(settings, SettingsFrame)
    assert settings.settings == {3: 100, 4: 2**31 - 1}
    assert isinstance(reset, RstStreamFrame)
    assert (reset.stream_id, reset.error_code) == (7, 8)
    assert isinstance(window, WindowUpdateFrame)
    assert (window.stream_id, window.window_increment) == (9, 2**31 - 1)
    assert isinstance(goaway, GoAwayFrame)
    assert (goaway.last_stream_id, goaway.error_code, goaway.additional_data) == (11, 11, b"why")


def test_a_header_has_nine_bytes_and_the_whole_length() -> None:
    """RFC 9113 4.1: 24 bits of length."""
    assert frame_header(0x010203, 4, 5, 6) == bytes((1, 2, 3, 4, 5, 0, 0, 0, 6))


@pytest.mark.parametrize("size", [0, 1, MAX_FRAME, MAX_FRAME + 1, 2 * MAX_FRAME, 3 * MAX_FRAME + 5])
@pytest.mark.parametrize("end", [False, True])
def test_a_block_of_any_size_goes_out_in_frames_that_everybody_takes(size: int, end: bool) -> None:
    """RFC 9113 6.10: END_HEADERS on the last frame, END_STREAM on the first, none larger than 16 KiB."""
    block = bytes(index % 251 for index in range(size))
    first, *others = frames(b"".join(head_frames(5, block, end=end)))
    assert isinstance(first, HeadersFrame)
    assert all(isinstance(frame, ContinuationFrame) for frame in others)
    assert ("END_STREAM" in first.flags) is end
    assert [("END_HEADERS" in frame.flags) for frame in (first, *others)] == [False] * len(others) + [True]
    assert max(frame.body_len for frame in (first, *others)) <= MAX_FRAME
    assert b"".join(getattr(frame, "data", b"") for frame in (first, *others)) == block
