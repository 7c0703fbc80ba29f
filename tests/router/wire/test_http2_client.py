"""router/wire/http2_client.py: the client's side of HTTP/2, against the library h2 as a server, and against frames by hand."""

from collections.abc import Iterable

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.limits import Limits
from router.wire.http1 import CHUNKED, NO_BODY, Fields
from router.wire.http2_client import HELD_BYTES, ClientConnection
from router.wire.http2_client_heads import request_block
from router.wire.http2_events import Data, Ended, Event, GoneAway, Head, Reset, Trailers, Window
from router.wire.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame_header,
)
from router.wire.http2_limits import STREAMS, Http2Limits

REQUEST = request_block(b"GET", b"http", b"/", [(b"Host", b"app.example")])
OK = [(b":status", b"200")]
USUAL = Limits().http2_backends()
SMALL = USUAL._replace(
    max_head_bytes=2000, max_continuations=8, stream_window=1000, connection_window=100_000,
    control_tokens=20, control_tokens_a_second=10,
)  # fmt: skip


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return frame_header(len(payload), kind, flags, stream) + payload


def settings_frame(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(key.to_bytes(2) + value.to_bytes(4) for key, value in pairs))


def encode(fields: Fields) -> bytes:
    """Literals without indexing; short ones, of any bytes."""
    return b"".join([b"\0%c%b%c%b" % (len(name), name, len(value), value) for name, value in fields])


def head(stream: int, fields: Fields, *, end: bool = False) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, encode(fields))


def data(stream: int, body: bytes, *, end: bool = False) -> bytes:
    return frame(DATA, END_STREAM if end else 0, stream, body)


def opened(limits: Http2Limits = SMALL, streams: int = 1, *, end: bool = True) -> ClientConnection:
    """A connection with this many requests under way, and nothing left to send."""
    client = ClientConnection(limits)
    assert client.receive(settings_frame(), 0.0) == []
    assert client.ready
    for number in range(streams):
        assert client.open(b"GET", REQUEST, end=end) == 2 * number + 1
    client.take_output()
    return client


def sent(client: ClientConnection) -> list[tuple[int, int, int, bytes]]:
    """The frames of its output: kind, flags, stream, payload."""
    out, found = client.take_output(), []
    while out:
        size = int.from_bytes(out[:3])
        found.append((out[3], out[4], int.from_bytes(out[5:9]), out[9 : 9 + size]))
        out = out[9 + size :]
    return found


def text(headers: Iterable[tuple[str | bytes, str | bytes]]) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in headers]


class Server:
    """The library's side of the same connection."""

    def __init__(self, **limits: int) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.initiate_connection()
        if limits:
            self.h2.update_settings({getattr(h2.settings.SettingCodes, name): value for name, value in limits.items()})
        self.client = ClientConnection(USUAL)
        self.heard: list[h2.events.Event] = []
        self.events: list[Event] = []

    def talk(self) -> None:
        """Until neither has more to say."""
        while True:
            out = self.client.take_output()
            self.heard += self.h2.receive_data(out) if out else []
            back = self.h2.data_to_send()
            self.events += self.client.receive(back, 0.0) if back else []
            if not out and not back:
                return

    def of(self, kind: type[h2.events.Event]) -> list[h2.events.Event]:
        return [event for event in self.heard if isinstance(event, kind)]


def test_a_request_and_its_response_with_trailers() -> None:
    """Head, body and trailers both ways, as the library understands them."""
    server = Server()
    server.talk()
    stream = server.client.open(b"POST", request_block(b"POST", b"https", b"/x", [(b"Host", b"a.b"), (b"X-A", b"1")]), end=False)
    assert server.client.send_data(stream, b"hello", end=False) == 5
    server.client.send_trailers(stream, [(b"X-Sum", b"5")])
    server.talk()
    (request,) = server.of(h2.events.RequestReceived)
    assert isinstance(request, h2.events.RequestReceived)
    assert text(request.headers) == [
        (":method", "POST"), (":scheme", "https"), (":authority", "a.b"), (":path", "/x"), ("x-a", "1"),
    ]  # fmt: skip
    assert [event.data for event in server.of(h2.events.DataReceived) if isinstance(event, h2.events.DataReceived)] == [b"hello"]
    (sum_of,) = server.of(h2.events.TrailersReceived)
    assert isinstance(sum_of, h2.events.TrailersReceived)
    assert text(sum_of.headers) == [("x-sum", "5")]
    server.h2.send_headers(stream, [(":status", "103"), ("link", "<x>")])
    server.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
    server.h2.send_data(stream, b"answer")
    server.h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
    server.talk()
    heard = [event for event in server.events if isinstance(event, Head | Data | Trailers)]
    assert [type(event) for event in heard] == [Head, Head, Data, Trailers]
    early, final, body, end = heard
    assert isinstance(early, Head) and early.head.status == 103
    assert isinstance(final, Head) and (final.head.status, final.head.body, final.ended) == (200, CHUNKED, False)
    assert body == Data(stream, b"answer", False)
    assert end == Trailers(stream, [(b"grpc-status", b"0")])
    assert server.client.open_streams == 0


def test_the_settings_say_no_push_and_how_much_may_come() -> None:
    """And the connection's window is that of all streams, so that none of them waits for another."""
    server = Server()
    server.talk()
    said = server.h2.remote_settings
    assert (said.enable_push, said.initial_window_size, said.max_header_list_size) == (0, 262_144, 262_144 + 32 * 256)
    assert server.h2.outbound_flow_control_window == 100 * 262_144


def test_a_body_goes_as_far_as_both_windows_allow() -> None:
    """What was not taken waits for a WINDOW_UPDATE, or for larger first windows."""
    server = Server(INITIAL_WINDOW_SIZE=10)
    server.talk()
    one, two = (server.client.open(b"POST", REQUEST, end=False) for _ in range(2))
    assert server.client.send_data(one, b"x" * 25, end=True) == 10
    assert server.client.room(one) == 0
    server.talk()
    server.h2.increment_flow_control_window(5, one)
    server.talk()
    assert Window(one) in server.events
    assert server.client.send_data(one, b"x" * 15, end=True) == 5
    server.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 40})
    server.talk()
    assert server.client.send_data(one, b"x" * 10, end=True) == 10
    assert server.client.room(two) == 40
    assert server.client.send_data(two, b"y" * 100_000, end=True) == 40
    server.talk()
    assert [event.stream_id for event in server.of(h2.events.StreamEnded) if isinstance(event, h2.events.StreamEnded)] == [one]


def test_an_end_alone_is_a_frame_of_its_own() -> None:
    client = opened(end=False)
    assert client.send_data(1, b"x" * 30, end=False) == 30
    assert sent(client) == [(DATA, 0, 1, b"x" * 30)]
    assert client.send_data(1, b"", end=True) == 0
    assert sent(client) == [(DATA, END_STREAM, 1, b"")]


def test_a_long_head_is_continued() -> None:
    """No frame is longer than every peer takes."""
    server = Server()
    server.talk()
    fields = [(b"Host", b"app.example"), *((b"x-%d" % number, b"v" * 9000) for number in range(6))]
    server.client.open(b"GET", request_block(b"GET", b"http", b"/", fields), end=True)
    server.talk()
    (request,) = server.of(h2.events.RequestReceived)
    assert isinstance(request, h2.events.RequestReceived)
    assert len(list(request.headers)) == 10


def test_a_reader_that_takes_nothing_holds_back_only_its_own_stream() -> None:
    """Windows open as bytes are handed on, the connection's too: it is as large as those of all streams."""
    client = opened(SMALL._replace(connection_window=4000), streams=2)
    client.receive(head(1, OK) + head(3, OK) + data(1, b"x" * 1000), 0.0)
    for _ in range(9):
        assert client.receive(data(3, b"y" * 500), 0.0) == [Data(3, b"y" * 500, False)]
        client.consumed(3, 500)
    updates = [(stream, int.from_bytes(payload)) for kind, _, stream, payload in sent(client) if kind == WINDOW_UPDATE]
    assert sum(size for stream, size in updates if stream == 3) == 4500
    assert sum(size for stream, size in updates if stream == 0) == 4500
    assert not [size for stream, size in updates if stream == 1]
    assert client.receive(data(1, b"x"), 0.0) == [Reset(1, ErrorCode.FLOW_CONTROL_ERROR, False, "stream_window_exceeded")]
    client.consumed(1, 1000)


def test_padding_is_given_back_by_itself() -> None:
    """Nobody reads it, so nobody reports it."""
    client = opened()
    client.receive(head(1, OK), 0.0)
    padded = frame(DATA, PADDED, 1, bytes((199,)) + b"x" + bytes(199))
    for _ in range(5):
        assert client.receive(padded, 0.0) == [Data(1, b"x", False)]
        client.consumed(1, 1)
    assert (
        sum(int.from_bytes(payload) for kind, _, stream, payload in sent(client) if (kind, stream) == (WINDOW_UPDATE, 1)) >= 600
    )


@pytest.mark.parametrize(
    ("frames", "reset"),
    [
        (head(1, [(b":status", b"abc")]), Reset(1, 1, False, "bad_status")),
        (head(1, [*OK, (b"transfer-encoding", b"chunked")]), Reset(1, 1, False, "connection_field")),
        (head(1, [*OK, (b"a", b"x\r\ny: z")]), Reset(1, 1, False, "bad_field_value")),
        (data(1, b"x"), Reset(1, 1, False, "data_before_head")),
        (head(1, [*OK, (b"content-length", b"3")]) + data(1, b"four"), Reset(1, 1, False, "content_length_mismatch")),
        (head(1, [*OK, (b"content-length", b"3")]) + data(1, b"2", end=True), Reset(1, 1, False, "content_length_mismatch")),
        (
            head(1, [*OK, (b"content-length", b"3")]) + head(1, [(b"a", b"b")], end=True),
            Reset(1, 1, False, "content_length_mismatch"),
        ),
        (head(1, [(b":status", b"204")]) + data(1, b"x"), Reset(1, 1, False, "content_length_mismatch")),
        (head(1, OK) + head(1, OK), Reset(1, 1, False, "bad_field_name")),
        (head(1, OK) + head(1, [(b"a", b"b")]), Reset(1, 1, False, "trailers_without_end")),
        (head(1, OK) + head(1, [(b"a", b"b")] * 65, end=True), None),
        (head(1, OK) + frame(WINDOW_UPDATE, 0, 1, bytes(4)), Reset(1, 1, False, "window_update_of_nothing")),
        (head(1, OK) + frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"), Reset(1, 3, False, "stream_window_overflow")),
        (frame(RST_STREAM, 0, 1, (7).to_bytes(4)), Reset(1, 7, True, "reset_by_peer", False)),
        (frame(RST_STREAM, 0, 1, (13).to_bytes(4)), Reset(1, 13, True, "reset_by_peer", False)),
        (frame(RST_STREAM, 0, 1, (2).to_bytes(4)), Reset(1, 2, True, "reset_by_peer", True)),
        (frame(GOAWAY, 0, 0, bytes(8)), Reset(1, 0, True, "goaway", False)),
    ],
)
def test_what_is_wrong_with_one_stream_ends_that_stream_alone(frames: bytes, reset: Reset | None) -> None:
    """Attack 55: whoever shares the connection does not notice."""
    client = opened(USUAL, streams=2, end=False)
    client.receive(head(3, OK), 0.0)
    (found,) = [event for event in client.receive(frames, 0.0) if isinstance(event, Reset) and event.stream == 1]
    assert reset in (None, found)
    assert not client.ended
    assert client.sends(1) is False
    told = [(kind, stream) for kind, _, stream, _ in sent(client)]
    assert ((RST_STREAM, 1) in told) is not found.by_peer


@pytest.mark.parametrize(
    ("frames", "code", "reason"),
    [
        (frame(SETTINGS, 0, 1), 1, "settings_of_stream"),
        (frame(HEADERS, END_HEADERS, 5, encode(OK)), 1, "headers_on_idle_stream"),
        (frame(WINDOW_UPDATE, 0, 5, b"\0\0\0\1"), 1, "window_of_idle_stream"),
        (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + REQUEST), 1, "push_promise"),
        (frame(PING, 0, 0, b"short"), 6, "bad_ping_size"),
        (frame(SETTINGS, 0, 0, b"odd"), 6, "bad_settings_size"),
        (frame(SETTINGS, ACK, 0, bytes(6)), 6, "bad_settings_size"),
        (frame(GOAWAY, 0, 0, b"x"), 6, "bad_goaway_size"),
        (frame(RST_STREAM, 0, 1, b"x"), 6, "bad_reset_size"),
        (settings_frame((2, 1)), 1, "bad_setting"),
        (settings_frame((5, 100)), 1, "bad_setting"),
        (settings_frame((4, 2**31)), 3, "bad_setting"),
        (frame(WINDOW_UPDATE, 0, 0, bytes(4)), 1, "window_update_of_nothing"),
        (frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), 3, "connection_window_overflow"),
        (head(1, OK) + data(1, b"x" * 16_000), 3, "connection_window_exceeded"),
    ],
)
def test_what_is_wrong_with_the_connection_ends_it(frames: bytes, code: int, reason: str) -> None:
    """A GOAWAY with the right code, and not a word is heard afterwards."""
    client = opened(SMALL._replace(connection_window=10_000), streams=2)
    events = client.receive(frames, 0.0)
    assert events[-1] == Ended(code, reason)
    assert sent(client)[-1] == (GOAWAY, 0, 0, bytes(4) + code.to_bytes(4) + reason.encode())
    assert client.receive(head(3, OK), 0.0) == []
    client.reset(1, ErrorCode.CANCEL)
    assert client.pending == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "http1"),
        (b"SSH-2.0-OpenSSH_9\r\n", "not_http2"),
        (frame(PING, 0, 0, bytes(8)), "not_http2"),
        (frame(SETTINGS, ACK, 0), "not_http2"),
    ],
)
def test_whoever_does_not_begin_with_settings_speaks_something_else(answer: bytes, reason: str) -> None:
    assert ClientConnection(SMALL).receive(answer, 0.0) == [Ended(ErrorCode.PROTOCOL_ERROR, reason)]


@pytest.mark.parametrize(
    "useless",
    [
        frame(PING, 0, 0, bytes(8)),
        frame(PING, ACK, 0, bytes(8)),
        settings_frame((4, 1000)),
        frame(SETTINGS, ACK, 0),
        frame(PRIORITY, 0, 1, bytes(5)),
        frame(0x77, 0, 1, b"unknown"),
        data(1, b""),
        frame(DATA, PADDED, 1, b"\x00"),
        frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),
        frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        frame(RST_STREAM, 0, 3, bytes(4)),
        data(3, b""),
        head(3, OK),
        frame(GOAWAY, 0, 0, (9).to_bytes(4) + bytes(4)),
    ],
    ids=lambda frame: f"kind{frame[3]}-{frame[4]}-{frame[8]}",
)
def test_a_flood_of_frames_that_bring_nothing_ends_the_connection(useless: bytes) -> None:
    """Attack 65: after the budget, whatever the frames are."""
    client = opened(streams=2)
    client.receive(head(1, OK) + frame(RST_STREAM, 0, 3, bytes(4)), 0.0)
    ended = []
    for number in range(60):
        ended += [number for event in client.receive(useless, 0.0) if isinstance(event, Ended)]
    assert len(ended) == 1
    assert ended[0] <= SMALL.control_tokens
    assert client.pending < 2000


def test_an_interim_flood_ends_the_connection() -> None:
    """Attack 55: 1xx responses bring nothing either."""
    client = opened()
    events = client.receive(head(1, [(b":status", b"102")]) * 30, 0.0)
    assert events[-1] == Ended(ErrorCode.ENHANCE_YOUR_CALM, "control_flood")


def test_the_budget_grows_with_time_and_with_what_is_exchanged() -> None:
    """A ping a second, or with each piece of a body, is what honest backends send."""
    client = opened()
    client.receive(head(1, OK), 0.0)
    for second in range(100):
        assert client.receive(frame(PING, 0, 0, bytes(8)) * 9, second * 1.0) == []
    for _ in range(100):
        client.receive(data(1, b"x") + frame(PING, 0, 0, bytes(8)), 100.0)
        client.consumed(1, 1)
    assert not client.ended


def test_windows_that_open_by_hundreds_of_bytes_are_no_flood() -> None:
    """Attack 68: honest backends open both anew for what their app has read, however little; byte by byte is no way to read."""
    for piece, rounds, ended in ((256, 2_000, False), (1, 20, True)):
        client = opened(end=False)
        assert client.send_data(1, bytes(65_535), end=False) == 65_535
        more = b"".join(frame(WINDOW_UPDATE, 0, stream, piece.to_bytes(4)) for stream in (0, 1))
        for _ in range(rounds):
            client.receive(more, 0.0)
            client.send_data(1, bytes(1_000), end=False)
            client.take_output()
        assert client.ended is ended


def test_a_continued_head_is_bounded_while_it_comes() -> None:
    """Attack 63: the guilty stream is told, with or without empty frames; memory ends at twice the limit."""
    client = opened(SMALL)
    events = client.receive(frame(HEADERS, 0, 1, b"\x00\x01a\x7f\xff\x7f" + b"x" * 1000), 0.0)
    for _ in range(5):
        events += client.receive(frame(CONTINUATION, 0, 1, b"x" * 1000), 0.0)
    calm = ErrorCode.ENHANCE_YOUR_CALM
    assert events == [Reset(1, calm, False, "head_too_large"), Ended(calm, "header_block_too_large")]
    client = opened()
    events = client.receive(frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1) * 9, 0.0)
    assert events == [Ended(calm, "continuation_flood")]


def test_a_head_that_grows_when_it_is_decoded_is_bounded_too() -> None:
    """Attack 67: a byte for a field of a kilobyte, a thousand times."""
    client = opened()
    block = b"\x88\x40\x01x\x7f\x81\x07" + b"v" * 1024
    events = client.receive(frame(HEADERS, END_HEADERS, 1, block + b"\xbe" * 1000), 0.0)
    calm = ErrorCode.ENHANCE_YOUR_CALM
    assert events == [Reset(1, calm, False, "head_too_large"), Ended(calm, "header_list_too_large")]


def test_goaway_leaves_what_will_be_answered() -> None:
    """RFC 9113 section 6.8: streams above the last one were not looked at, the others go on; no new ones."""
    client = opened(streams=3)
    assert client.receive(frame(GOAWAY, 0, 0, (3).to_bytes(4) + bytes(4)), 0.0) == [
        Reset(5, 0, True, "goaway", False), GoneAway(0),
    ]  # fmt: skip
    assert client.closing
    events = client.receive(head(1, OK, end=True) + head(3, OK) + data(3, b"late", end=True), 0.0)
    assert [type(event) for event in events] == [Head, Head, Data]
    assert client.open_streams == 0


def test_streams_that_are_gone_are_no_fault() -> None:
    """What was on its way when we gave a stream up is read past, its block included, and its bytes are given back."""
    client = opened(SMALL._replace(connection_window=4000), streams=2)
    client.reset(1, ErrorCode.CANCEL)
    client.receive(frame(HEADERS, END_HEADERS, 1, b"\x88\x40\x01x\x01y") + data(1, b"x" * 1000), 0.0)
    (event,) = client.receive(frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\x88\xbe"), 0.0)
    assert isinstance(event, Head)
    assert event.head.fields == [(b"x", b"y")]
    assert (WINDOW_UPDATE, 0, 0, (1000).to_bytes(4)) in sent(client)


def test_what_comes_too_late_has_its_bound() -> None:
    """Attack 65: as much as a window for each stream that we gave up, in pieces of any size, and no more."""
    client = opened(streams=2)
    client.receive(head(1, OK) + data(1, b"x" * 900), 0.0)
    client.consumed(1, 900)
    client.reset(1, ErrorCode.CANCEL)
    assert client.receive(data(1, b"x" * 1000), 0.0) == []
    for _ in range(SMALL.control_tokens):
        assert client.receive(data(1, b"x"), 0.0) == []
    assert client.receive(data(1, b"x"), 0.0) == [Ended(ErrorCode.ENHANCE_YOUR_CALM, "control_flood")]


def test_the_peers_limit_of_streams_is_known() -> None:
    client = opened()
    client.receive(settings_frame((3, 7)), 0.0)
    assert client.peer_streams == 7


def test_a_ping_is_answered() -> None:
    client = opened()
    client.receive(frame(PING, 0, 0, b"12345678"), 0.0)
    assert sent(client) == [(PING, ACK, 0, b"12345678")]


def test_a_no_body_response_is_over_with_its_end() -> None:
    """HEAD, with the end in a frame of its own."""
    client = opened()
    client.reset(1, ErrorCode.CANCEL)
    stream = client.open(b"HEAD", REQUEST, end=True)
    (event,) = client.receive(head(stream, [*OK, (b"content-length", b"9")]), 0.0)
    assert isinstance(event, Head)
    assert event.head.body == NO_BODY
    assert client.receive(data(stream, b"", end=True), 0.0) == [Data(stream, b"", True)]
    assert client.open_streams == 0


def test_numbers_of_streams_come_to_an_end() -> None:
    client = opened()
    assert not client.exhausted
    client._seen = 2**31 - 3
    client.open(b"GET", REQUEST, end=True)
    assert client.exhausted


frames = st.builds(
    frame,
    st.integers(0, 11),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 5]),
    st.one_of(st.binary(max_size=40), st.just(encode(OK)), st.just(bytes(8))),
)


@settings(max_examples=300)
@given(st.lists(st.one_of(frames, st.binary(max_size=30)), max_size=20), st.integers(1, 50))
def test_nothing_that_is_sent_raises_and_cutting_it_changes_nothing(pieces: list[bytes], size: int) -> None:
    """The same bytes, in any pieces, are the same events and the same answer."""
    flow = b"".join(pieces)
    whole, cut = opened(streams=2, end=False), opened(streams=2, end=False)
    expected = whole.receive(flow, 0.0)
    found = [event for at in range(0, len(flow), size) for event in cut.receive(flow[at : at + size], 0.0)]
    assert found == expected
    assert cut.take_output() == whole.take_output()
    assert len([event for event in expected if isinstance(event, Ended)]) <= 1


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=3000)), max_size=12))
def test_every_byte_of_every_body_arrives_in_order(pieces: list[tuple[int, bytes]]) -> None:
    """Several streams, with windows that close and open."""
    server = Server(INITIAL_WINDOW_SIZE=700)
    server.talk()
    streams = [server.client.open(b"POST", REQUEST, end=False) for _ in range(3)]
    expected = {stream: b"".join(body for number, body in pieces if streams[number] == stream) for stream in streams}
    seen = dict.fromkeys(streams, b"")

    def hear() -> None:
        server.talk()
        for event in server.heard:
            if isinstance(event, h2.events.DataReceived):
                seen[event.stream_id] += event.data
                server.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        server.heard.clear()

    def push(stream: int, piece: bytes) -> int:
        taken = server.client.send_data(stream, piece, end=False)
        if taken < len(piece):
            hear()
        return taken

    for number, body in pieces:
        stream, rest = streams[number], body
        while rest:
            rest = rest[push(stream, rest[:500]) :]
    for stream in streams:
        server.client.send_data(stream, b"", end=True)
    hear()
    assert seen == expected


def test_whoever_reads_nothing_is_left() -> None:
    """Attack 65: answers to pings wait only so long."""
    client = opened(USUAL._replace(control_tokens=2**31))
    ping = frame(PING, 0, 0, bytes(8)) * 1_000
    while not (events := client.receive(ping, 0.0)):
        assert client.pending <= HELD_BYTES
    assert events == [Ended(ErrorCode.ENHANCE_YOUR_CALM, "reads_nothing")]


def test_no_more_streams_than_a_connection_may_lose() -> None:
    """What RFC 9113 5.1.2 asks everybody to allow, and a window for each."""
    assert (USUAL.max_streams, USUAL.connection_window) == (STREAMS, STREAMS * USUAL.stream_window)
