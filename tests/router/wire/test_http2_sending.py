"""What a server says: frames within windows, credit for what was consumed, silence to what has gone."""

import pytest
from hpack import Decoder
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, SettingsFrame, WindowUpdateFrame
from hypothesis import given
from hypothesis import strategies as st

from router.wire.http2 import Ended, ErrorCode, Http2Limits, Window
from tests.support.http2 import GET, POST, RST_STREAM, WINDOW_UPDATE, Client, data, frames, head, raw, settings

WIDE = {4: 2**31 - 100}


def windows(answers: list[Frame]) -> list[tuple[int, int]]:
    return [(frame.stream_id, frame.window_increment) for frame in answers if isinstance(frame, WindowUpdateFrame)]


def body(answers: list[Frame], stream: int) -> tuple[bytes, bool]:
    """Data of a stream, and whether it ended."""
    mine = [frame for frame in answers if frame.stream_id == stream]
    return b"".join(frame.data for frame in mine if isinstance(frame, DataFrame)), "END_STREAM" in mine[-1].flags


def test_our_settings_come_first_and_say_what_we_hold_to() -> None:
    """RFC 9113 3.4: SETTINGS before all else, then the connection's window."""
    first, second = Client().opening
    assert isinstance(first, SettingsFrame)
    assert first.settings == {3: 100, 4: 131_072, 6: 65_536, 9: 1}
    assert isinstance(second, WindowUpdateFrame)
    assert (second.stream_id, second.window_increment) == (0, 1_048_576 - 65_535)


def test_windows_are_at_least_what_a_client_may_use_before_it_hears_of_them() -> None:
    """RFC 9113 6.9.2: else an honest client would break a rule that it has not heard."""
    client = Client(Http2Limits(stream_window=1, connection_window=1, max_head_bytes=2**63 - 1))
    (only,) = client.opening
    assert isinstance(only, SettingsFrame)
    assert only.settings == {3: 100, 4: 65_535, 6: 1 << 20, 9: 1}


def test_a_response_is_a_head_data_and_its_end() -> None:
    """RFC 9113 8.1, trailers too; then the stream has gone."""
    client = Client()
    client.say(head(1))
    client.server.send_head(1, 200, [(b"A", b"b")], end=False)
    assert client.server.send_data(1, b"abc", end=False) == 3
    client.server.send_trailers(1, [(b"grpc-status", b"0")])
    answers = client.answers()
    first, last = answers[0], answers[-1]
    assert isinstance(first, HeadersFrame)
    assert isinstance(last, HeadersFrame)
    decoder = Decoder()
    assert decoder.decode(first.data, raw=True) == [(b":status", b"200"), (b"a", b"b")]
    assert decoder.decode(last.data, raw=True) == [(b"grpc-status", b"0")]
    assert body(answers, 1) == (b"abc", True)
    assert client.server.open_streams == 0


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 60_000])
def test_data_of_any_size_goes_out_in_frames_that_everybody_takes(size: int) -> None:
    """RFC 9113 4.2: 16 KiB at most; END_STREAM on the last only."""
    client = Client()
    client.say(head(1))
    client.server.send_head(1, 200, [], end=False)
    client.answers()
    payload = bytes(index % 251 for index in range(size))
    assert client.server.send_data(1, memoryview(payload), end=True) == size
    answers = client.answers()
    assert body(answers, 1) == (payload, True)
    assert ["END_STREAM" in frame.flags for frame in answers] == [False] * (len(answers) - 1) + [True]
    assert max(frame.body_len for frame in answers) <= 16_384
    assert client.server.open_streams == 0


def test_nothing_is_sent_that_neither_ends_nor_carries() -> None:
    """An empty piece of a body."""
    client = Client()
    client.say(head(1))
    assert client.server.send_data(1, b"", end=False) == 0
    assert client.answers() == []


def test_data_waits_for_both_windows_and_the_end_for_all_data() -> None:
    """RFC 9113 6.9.1; room says what would be taken."""
    client = Client(first={4: 10})
    client.say(head(1))
    assert (client.server.room(1), client.server.send_data(1, b"a" * 15, end=True)) == (10, 10)
    assert (client.server.room(1), client.server.send_data(1, b"a" * 5, end=True)) == (0, 0)
    assert body(client.answers(), 1) == (b"a" * 10, False)
    assert client.say(raw(8, 0, 1, (5).to_bytes(4))) == [Window(1)]
    assert client.server.send_data(1, b"a" * 5, end=True) == 5
    assert body(client.answers(), 1) == (b"a" * 5, True)


def test_a_setting_may_shrink_a_window_below_nothing() -> None:
    """RFC 9113 6.9.2: then more is to be made good before data goes on."""
    client = Client(first={4: 10})
    client.say(head(1))
    client.server.send_data(1, b"a" * 8, end=False)
    assert client.say(settings({4: 5})) == []
    assert (client.server.room(1), client.server.send_data(1, b"a", end=False)) == (0, 0)
    assert client.say(raw(8, 0, 1, (3).to_bytes(4))) == []
    assert client.server.room(1) == 0
    assert client.say(raw(8, 0, 1, (1).to_bytes(4))) == [Window(1)]
    assert client.server.room(1) == 1
    assert client.say(settings({4: 4}), settings({4: 7})) == [Window(0)]
    assert client.server.room(1) == 3


def test_all_streams_share_the_connections_window() -> None:
    """RFC 9113 5.2.1."""
    client = Client(first=WIDE)
    client.say(head(1), head(3))
    assert client.server.send_data(1, bytes(70_000), end=True) == 65_535
    assert client.server.room(3) == 0
    assert client.say(raw(8, 0, 3, (5).to_bytes(4))) == []
    assert client.say(raw(8, 0, 0, (5).to_bytes(4))) == [Window(0)]
    assert (client.server.room(1), client.server.room(3)) == (5, 5)


def test_windows_open_again_as_bodies_are_consumed() -> None:
    """RFC 9113 6.9: by halves, so that small pieces do not cost a frame each; not before they were consumed."""
    client = Client(Http2Limits(stream_window=100_000, connection_window=150_000))
    client.say(head(1, POST, end=False), *[data(1, bytes(10_000)) for _ in range(10)])
    assert client.answers() == []
    client.server.consumed(1, 49_999)
    assert client.answers() == []
    client.server.consumed(1, 1)
    assert windows(client.answers()) == [(0, 50_000), (1, 50_000)]
    client.server.consumed(1, 30_000)
    assert windows(client.answers()) == []
    client.server.consumed(1, 2**40)  # never more than came
    assert windows(client.answers()) == [(0, 50_000), (1, 50_000)]


def test_a_large_window_of_the_connection_opens_with_the_streams() -> None:
    """What was consumed is not kept back until other streams, that nobody reads, have taken the rest of it."""
    client = Client(Http2Limits(stream_window=70_000, connection_window=140_000))
    client.say(head(1, POST, end=False), *[data(1, bytes(10_000)) for _ in range(7)])
    client.say(head(3, POST, end=False), *[data(3, bytes(10_000)) for _ in range(4)])
    client.server.consumed(3, 35_000)
    assert windows(client.answers()) == [(0, 35_000), (3, 35_000)]


def test_padding_is_credited_at_once() -> None:
    """RFC 9113 6.9.1: it counts, and nobody will ever consume it."""
    client = Client(Http2Limits(stream_window=65_535, connection_window=65_535))
    client.say(head(1, POST, end=False), *[data(1, b"a", padding=255) for _ in range(128)])
    assert windows(client.answers()) == [(0, 128 * 256), (1, 128 * 256)]


def test_what_a_stream_held_is_credited_when_it_goes() -> None:
    """A client that resets, or a backend that answers early, must not make the connection's window leak away."""
    client = Client(Http2Limits(connection_window=65_535))
    for stream in (1, 3, 5):
        client.say(head(stream, POST, end=False), *[data(stream, bytes(10_000)) for _ in range(4)])
        assert client.answers() == []
        if stream == 1:
            client.say(raw(RST_STREAM, 0, stream, bytes(4)))
        elif stream == 3:
            client.server.reset(stream, ErrorCode.CANCEL)
        else:
            client.say(data(stream, b"", end=True))
            client.server.send_head(stream, 200, [], end=True)
        assert windows(client.answers()) == [(0, 40_000)]
        client.server.consumed(stream, 40_000)
        assert client.answers() == []


def test_a_body_that_has_ended_needs_no_more_of_its_own_window() -> None:
    """Only the connection's."""
    client = Client(Http2Limits(stream_window=65_535, connection_window=65_535))
    client.say(head(1, POST, end=False), *[data(1, bytes(10_000)) for _ in range(4)], data(1, b"", end=True))
    client.server.consumed(1, 40_000)
    assert windows(client.answers()) == [(0, 40_000)]


def test_whatever_is_said_to_a_stream_that_has_gone_says_nothing() -> None:
    """Gone before its exchange knew it; data counts as taken, so that nobody waits for room."""
    client = Client()
    client.say(head(1), raw(RST_STREAM, 0, 1, bytes(4)))
    for stream in (1, 2, 77):
        client.server.send_head(stream, 200, [], end=False)
        assert client.server.send_data(stream, b"abc", end=True) == 3
        client.server.send_trailers(stream, [])
        client.server.consumed(stream, 5)
        client.server.reset(stream, ErrorCode.CANCEL)
        assert client.server.room(stream) == 0
    assert client.answers() == []


def test_nothing_follows_the_end_of_a_response() -> None:
    """The client's half may still be open: the rest of its request is unwanted, which NO_ERROR says."""
    client = Client()
    client.say(head(1, POST, end=False))
    client.server.send_head(1, 200, [], end=True)
    client.server.send_head(1, 200, [], end=True)
    client.server.send_trailers(1, [])
    assert client.server.send_data(1, b"a", end=True) == 1
    assert client.server.room(1) == 0
    (only,) = client.answers()
    assert "END_STREAM" in only.flags
    assert client.server.open_streams == 1
    client.server.reset(1, ErrorCode.NO_ERROR)
    assert client.resets() == [(1, 0)]
    assert client.server.open_streams == 0


def test_a_client_without_a_table_is_told_that_we_use_none() -> None:
    """RFC 7541 4.2: its decoder waits for that at the start of the next block, once."""
    for first, expected in (({1: 0}, True), ({1: 4_095}, True), ({1: 4_096}, False), ({}, False)):
        client = Client(first=first)
        client.say(head(1), head(3))
        for stream in (1, 3):
            client.server.send_head(stream, 200, [], end=True)
        one, two = client.answers()
        assert isinstance(one, HeadersFrame)
        assert isinstance(two, HeadersFrame)
        assert (one.data, two.data) == (b"\x20\x88" if expected else b"\x88", b"\x88")


def test_shutting_down_names_the_last_stream_once() -> None:
    """RFC 9113 6.8: those that are here go on."""
    client = Client()
    client.say(head(1), head(5))
    before = client.server.closing
    client.server.shut_down()
    client.server.shut_down()
    assert (before, client.server.closing) == (False, True)
    assert client.farewell() == (5, 0, b"")
    client.server.send_head(5, 200, [], end=True)
    assert len(client.answers()) == 1


def test_terminating_ends_everything() -> None:
    """RFC 9113 5.4.1; once."""
    client = Client()
    client.say(head(1))
    client.server.terminate(ErrorCode.INTERNAL_ERROR, "out_of_memory")
    client.server.terminate(ErrorCode.INTERNAL_ERROR, "again")
    client.server.send_head(1, 200, [], end=True)
    client.server.shut_down()
    assert client.farewell() == (1, 2, b"out_of_memory")
    assert (client.server.open_streams, client.server.closing, client.server.unfinished) == (0, True, False)
    assert client.say(head(3)) == []
    assert client.answers() == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40_000)), max_size=30), st.integers(0, 100_000))
def test_no_window_is_ever_passed(steps: list[tuple[int, int]], initial: int) -> None:
    """Data, windows and settings in any order: what was sent is never more than what was allowed, and all of it at the end."""
    client = Client(first={4: initial})
    client.say(head(1, GET))
    wanted, sent, stream, connection = 0, 0, initial, 65_535
    for what, size in steps:
        if what == 0:
            wanted += size
        elif what == 1 and size:
            stream += size
            client.say(raw(8, 0, 1, size.to_bytes(4)))
        elif what == 2 and size:
            connection += size
            client.say(raw(8, 0, 0, size.to_bytes(4)))
        elif what == 3:
            stream += size - initial
            initial = size
            client.say(settings({4: size}))
        room = client.server.room(1)
        assert room == max(0, min(stream, connection) - sent)
        taken = client.server.send_data(1, bytes(wanted - sent), end=False)
        assert taken == min(room, wanted - sent)
        sent += taken
    assert sum(frame.body_len for frame in client.answers() if isinstance(frame, DataFrame)) == sent


def test_output_is_counted_as_it_grows() -> None:
    """Whoever reads must be able to stop before it is too much: acknowledgements count."""
    client = Client()
    client.say(raw(6, 0, 0, b"12345678"), settings({}))
    assert client.server.pending == 17 + 9
    assert len(frames(client.server.take_output())) == 2
    assert client.server.pending == 0
    assert client.server.take_output() == b""
    assert isinstance(Client().opening[0], SettingsFrame)
    assert not isinstance(Client().opening[0], GoAwayFrame)


def test_who_opens_windows_by_a_few_bytes_pays_for_each_piece() -> None:
    """Attack 68: a window of one byte makes us send one byte: that is no useful work, and its budget ends it."""
    client = Client(Http2Limits(control_tokens=50, control_tokens_a_second=0.0), first={4: 0})
    client.say(head(1))
    client.server.send_head(1, 200, [], end=False)
    for _ in range(50):
        assert client.say(raw(WINDOW_UPDATE, 0, 1, (1).to_bytes(4))) == [Window(1)]
        assert client.server.send_data(1, b"much", end=False) == 1
    assert client.say(raw(WINDOW_UPDATE, 0, 1, (1).to_bytes(4)))[-1] == Ended(ErrorCode.ENHANCE_YOUR_CALM, "control_flood")


def test_who_opens_windows_by_what_it_has_read_never_runs_out() -> None:
    """Two windows for each 4 KiB, whatever the pieces are cut to; and for each small message that had room."""
    client = Client(Http2Limits(control_tokens=50, control_tokens_a_second=0.0), first={4: 0})
    client.say(head(1))
    client.server.send_head(1, 200, [], end=False)
    for _ in range(500):
        client.say(raw(WINDOW_UPDATE, 0, 1, (4096).to_bytes(4)) + raw(WINDOW_UPDATE, 0, 0, (4096).to_bytes(4)))
        assert client.server.send_data(1, bytes(5000), end=False) == 4096
    for _ in range(500):
        client.say(raw(WINDOW_UPDATE, 0, 1, (5).to_bytes(4)) + raw(WINDOW_UPDATE, 0, 0, (5).to_bytes(4)))
        assert client.server.send_data(1, b"small", end=False) == 5
    assert not client.server.closing
