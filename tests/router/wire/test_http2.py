"""A server's HTTP/2 connection: messages by the rules of RFC 9113 sections 3 to 6, in any pieces, whatever a client sends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.wire.http2 import (
    Data,
    Ended,
    ErrorCode,
    Event,
    Http2Limits,
    Request,
    Reset,
    ServerConnection,
    Trailers,
)
from router.wire.http2_head import parse_request
from router.wire.malformed import Malformed
from tests.support.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    HAS_PRIORITY,
    HEADERS,
    PING,
    POST,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Client,
    Pairs,
    data,
    frames,
    head,
    literal,
    raw,
)
from tests.support.http2 import settings as settings_of

PROTOCOL, FRAME_SIZE, FLOW = ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR, ErrorCode.FLOW_CONTROL_ERROR
CALM, CLOSED = ErrorCode.ENHANCE_YOUR_CALM, ErrorCode.STREAM_CLOSED


def of_length(size: int) -> Pairs:
    return [*POST, (b"content-length", b"%d" % size)]


def read(pairs: Pairs, *, ended: bool) -> object:
    return parse_request(pairs, Http2Limits(), ended=ended)


def talking() -> Client:
    """A client with stream 1 open, 3 finished, 5 reset by itself, 7 reset by us, 9 with an ended request."""
    client = Client()
    client.say(head(1, POST, end=False), head(3), head(5), raw(RST_STREAM, 0, 5, bytes(4)), head(7, POST, end=False), head(9))
    client.server.send_head(3, 200, [], end=True)
    client.server.reset(7, ErrorCode.INTERNAL_ERROR)
    client.answers()
    return client


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "bad_preface"),
        (b"X", "bad_preface"),
        (PREFACE[:-1] + b"\r", "bad_preface"),
        (PREFACE + raw(PING, 0, 0, bytes(8)), "settings_missing"),
        (PREFACE + raw(SETTINGS, ACK, 0), "settings_missing"),
        (PREFACE + raw(SETTINGS, 0, 1), "settings_missing"),
        (PREFACE + head(1), "settings_missing"),
        (PREFACE + raw(0x77, 0, 0), "settings_missing"),
    ],
)
def test_a_connection_begins_with_the_preface_and_settings(start: bytes, reason: str) -> None:
    """RFC 9113 3.4."""
    server = ServerConnection(Http2Limits())
    assert server.receive(start, 0.0) == [Ended(PROTOCOL, reason)]
    assert frames(server.take_output())[-1].type == 7


def test_what_the_client_still_owes_is_known() -> None:
    """A deadline runs while a preface, a frame or a header block is not whole."""
    server = ServerConnection(Http2Limits())
    for part, owed in (
        (b"", True), (PREFACE[:5], True), (PREFACE[5:], True), (settings_of({}), False), (head(1)[:3], True),
        (head(1)[3:], False),
        (raw(HEADERS, 0, 3, literal(GET)), True), (raw(CONTINUATION, 0, 3), True), (raw(CONTINUATION, END_HEADERS, 3), False),
        (b"\xff", True), (b"\xff" * 8, False),
    ):  # fmt: skip
        server.receive(part, 0.0)
        assert server.unfinished is owed


def test_a_request_and_its_body_are_told_in_order() -> None:
    """RFC 9113 8.1: head, data, trailers; several streams at once."""
    client = Client()
    trailers = [(b"grpc-status", b"0"), (b"host", b"never")]
    assert client.say(
        head(1, POST, end=False), head(3), data(1, b"ab"), head(5, of_length(3), end=False), data(5, b"c" * 3, end=True),
        data(1, b"cd", padding=9), head(1, trailers),
    ) == [
        Request(1, read(POST, ended=False), False),  # type: ignore[arg-type]
        Request(3, read(GET, ended=True), True),  # type: ignore[arg-type]
        Data(1, b"ab", False),
        Request(5, read(of_length(3), ended=False), False),  # type: ignore[arg-type]
        Data(5, b"ccc", True),
        Data(1, b"cd", False),
        Trailers(1, [(b"grpc-status", b"0")]),
    ]  # fmt: skip
    assert client.server.open_streams == 3


@pytest.mark.parametrize(
    ("parts", "code", "reason"),
    [
        # 5.1: closed streams
        (raw(DATA, 0, 3, b"a"), CLOSED, "frame_after_end"),
        (raw(DATA, 0, 5, b"a"), CLOSED, "frame_after_end"),
        (head(3), CLOSED, "frame_after_end"),
        (head(5), CLOSED, "frame_after_end"),
        # 5.1.1: numbers of streams
        (head(15) + head(13), PROTOCOL, "stream_number_not_higher"),
        # 4.3 and attack 67: the table is lost, whoever the block was for
        (raw(HEADERS, 5, 11, b"\x80"), ErrorCode.COMPRESSION_ERROR, "bad_header_block"),
        (raw(HEADERS, 5, 7, b"\x80"), ErrorCode.COMPRESSION_ERROR, "bad_header_block"),
        (raw(HEADERS, 5, 1, b"\x80"), ErrorCode.COMPRESSION_ERROR, "bad_header_block"),
        (raw(HEADERS, 5, 11, b"\x20" * 9), ErrorCode.COMPRESSION_ERROR, "table_resizes"),
        (raw(HEADERS, 5, 11, b"\x82" * 5_000), CALM, "header_list_too_large"),
        # 6.9: the window of the connection, with 64 streams below theirs
        (b"".join(head(n, POST, end=False) + data(n, bytes(16_384)) * 8 for n in range(11, 29, 2)), FLOW,
         "connection_window_exceeded"),
    ],
)  # fmt: skip
def test_a_connection_error_ends_the_connection(parts: bytes, code: ErrorCode, reason: str) -> None:
    """RFC 9113 5.4.1; attacks 63 and 67: one Ended, GOAWAY, silence."""
    client = talking()
    events = client.say(parts)
    assert events[-1] == Ended(code, reason)
    assert client.farewell()[1:] == (code, reason.encode())
    assert client.say(head(99)) == []
    assert (client.server.open_streams, client.server.unfinished, client.answers()) == (0, False, [])


@pytest.mark.parametrize(
    ("parts", "stream", "code", "reason"),
    [
        # 5.1: half-closed by the client
        (data(9, b"a"), 9, CLOSED, "data_after_end"),
        (data(9, b"", end=True), 9, CLOSED, "data_after_end"),
        (head(9), 9, CLOSED, "headers_after_end"),
        # 8.1: trailers
        (head(1, [(b"a", b"b")], end=False), 1, PROTOCOL, "trailers_without_end"),
        (head(1, [(b":path", b"/")]), 1, PROTOCOL, "bad_field_name"),
        (head(1, [(b"a", b"b\n")]), 1, PROTOCOL, "bad_field_value"),
        (head(1, [(b"connection", b"a")]), 1, PROTOCOL, "connection_field"),
        (head(1, [(b"a", b"b" * 5_440)] * 3), 1, PROTOCOL, "trailers_too_large"),
        (head(1, [(b"a", b"b")] * 65), 1, PROTOCOL, "too_many_trailers"),
        (raw(HEADERS, 5 | HAS_PRIORITY, 1, (1).to_bytes(4) + b"\0"), 1, PROTOCOL, "priority_on_itself"),
        # 8.1.1 and attack 61: lengths
        (head(11, of_length(3), end=False) + data(11, b"abcd"), 11, PROTOCOL, "content_length_mismatch"),
        (head(11, of_length(3), end=False) + data(11, b"ab", end=True), 11, PROTOCOL, "content_length_mismatch"),
        (head(11, of_length(3), end=False) + data(11, b"", end=True), 11, PROTOCOL, "content_length_mismatch"),
        (head(11, of_length(0), end=False) + data(11, b"a"), 11, PROTOCOL, "content_length_mismatch"),
        (head(11, of_length(3), end=False) + data(11, b"ab") + head(11, []), 11, PROTOCOL, "content_length_mismatch"),
        # 6.9: the window of a stream
        (data(1, bytes(16_384)) * 8 + data(1, b"a"), 1, FLOW, "stream_window_exceeded"),
        (data(1, bytes(16_384)) * 8 + data(1, b"", padding=0), 1, FLOW, "stream_window_exceeded"),
    ],
)  # fmt: skip
def test_a_stream_error_ends_the_stream_and_nothing_else(parts: bytes, stream: int, code: ErrorCode, reason: str) -> None:
    """RFC 9113 5.4.2; attack 61: RST_STREAM, and the next request is served."""
    client = talking()
    events = client.say(parts)
    assert events[-1] == Reset(stream, code, False, reason)
    assert client.resets() == [(stream, code)]
    assert client.say(head(21)) == [Request(21, read(GET, ended=True), True)]  # type: ignore[arg-type]


def test_a_request_that_depends_on_itself_is_reset_unseen() -> None:
    """RFC 7540 5.3.1: nobody has to answer it."""
    client = talking()
    assert client.say(raw(HEADERS, 5 | HAS_PRIORITY, 11, (11).to_bytes(4) + b"\0" + literal(GET))) == []
    assert client.resets() == [(11, PROTOCOL)]


def test_what_was_on_its_way_to_a_stream_that_we_reset_is_ignored() -> None:
    """RFC 9113 5.1: its block still moves the table, its data still counts, and is credited."""
    client = talking()
    block = client.encoder.encode([(b"x-a", b"b")])
    assert client.say(data(7, b"abc"), raw(HEADERS, 5, 7, block), data(7, b"d", end=True)) == []
    assert client.answers() == []
    again = client.encoder.encode([*GET, (b"x-a", b"b")])
    assert client.say(raw(HEADERS, 5, 11, again)) == [Request(11, read([*GET, (b"x-a", b"b")], ended=True), True)]  # type: ignore[arg-type]
    for _ in range(40):  # more than the connection's window
        assert client.say(*[data(7, bytes(16_384))] * 2) == []
        client.answers()


def test_streams_that_went_are_remembered_within_a_bound() -> None:
    """256 of them; what comes for older ones is an error of the connection, never more memory."""
    client = Client()
    for number in range(300):
        client.say(head(2 * number + 1))
        client.server.send_head(2 * number + 1, 200, [], end=True)
    client.answers()
    assert len(client.server._gone) == 256
    assert client.say(head(1)) == [Ended(PROTOCOL, "stream_number_not_higher")]


def test_more_requests_than_allowed_are_refused() -> None:
    """RFC 9113 5.1.2: unseen, so that they may be sent again; their blocks move the table all the same."""
    client = Client(Http2Limits(max_streams=2))
    assert len(client.say(head(1, POST, end=False), head(3))) == 2
    block = client.encoder.encode([*GET, (b"x-a", b"b")])
    assert client.say(raw(HEADERS, 4, 5, block), data(5, b"abc")) == []
    assert client.resets() == [(5, ErrorCode.REFUSED_STREAM)]
    client.server.send_head(3, 200, [], end=True)
    block = client.encoder.encode([*GET, (b"x-a", b"b")])
    assert client.say(raw(HEADERS, 5, 7, block)) == [Request(7, read([*GET, (b"x-a", b"b")], ended=True), True)]  # type: ignore[arg-type]


def test_refusals_are_counted() -> None:
    """Attack 62 by other means: requests beyond the limit, for ever."""
    client = Client(Http2Limits(max_streams=1, reset_tokens=10))
    client.say(head(1, POST, end=False))
    events = [event for number in range(11) for event in client.say(head(2 * number + 3))]
    assert events == [Ended(CALM, "refused_streams")]


def test_a_malformed_request_is_to_be_answered_and_its_body_dropped() -> None:
    """Attacks 58 and 59: 400 by the exchange; its data costs the connection no window."""
    client = talking()
    assert client.say(head(11, [*POST, (b"A", b"b")], end=False)) == [Request(11, Malformed("bad_field_name"), False)]
    for _ in range(9):
        assert client.say(*[data(11, bytes(16_384))] * 8) == []
        assert [frame for frame in client.answers() if frame.type != WINDOW_UPDATE] == []
    assert client.say(head(11, [])) == []
    client.server.send_head(11, 400, [], end=True)
    assert client.server.open_streams == 2


def test_a_head_too_large_is_to_be_answered_with_431() -> None:
    """Attacks 52 and 67: within reason; the connection goes on with its table."""
    client = Client()
    block = client.encoder.encode([*GET, (b"x-a", b"b"), *[(b"x-b", b"c" * 1_000, True)] * 80])
    parts = [raw(HEADERS, 1, 1, block[:16_000])]
    parts += [raw(CONTINUATION, 0, 1, block[at : at + 16_000]) for at in range(16_000, len(block), 16_000)]
    assert client.say(*parts, raw(CONTINUATION, 4, 1)) == [Request(1, Malformed("head_too_large", 431), True)]
    block = client.encoder.encode([*GET, (b"x-a", b"b")])
    assert client.say(raw(HEADERS, 5, 3, block)) == [Request(3, read([*GET, (b"x-a", b"b")], ended=True), True)]  # type: ignore[arg-type]


def test_after_goaway_no_request_is_looked_at() -> None:
    """RFC 9113 6.8: those before it end as they would; data of those after it counts and is credited."""
    client = talking()
    client.server.shut_down()
    assert client.farewell() == (9, 0, b"")
    assert client.say(head(11, POST, end=False), data(11, b"abc"), data(1, b"d", end=True)) == [Data(1, b"d", True)]
    assert client.answers() == []
    assert client.server.open_streams == 2


def test_an_early_response_leaves_the_rest_of_the_request_to_come() -> None:
    """RFC 9113 8.1: until we reset, or the client ends it; then the stream has gone."""
    client = talking()
    client.server.send_head(1, 413, [], end=True)
    assert client.say(data(1, b"abc")) == [Data(1, b"abc", False)]
    assert client.server.open_streams == 2
    assert client.say(data(1, b"d", end=True)) == [Data(1, b"d", True)]
    assert client.server.open_streams == 1
    client.server.send_head(9, 200, [], end=True)
    assert client.server.open_streams == 0


def test_tiny_pieces_of_a_body_have_a_budget() -> None:
    """Attack 65: a byte a frame; a message that ends, and pieces of 64 bytes, cost nothing."""
    limits = Http2Limits(tiny_data_tokens=10, tiny_data_tokens_a_second=1.0, stream_window=2**20)
    client = Client(limits)
    client.say(head(1, POST, end=False))
    assert len(client.say(*[data(1, bytes(64))] * 1_000)) == 1_000
    assert client.say(*[data(1, b"a")] * 11)[-1] == Ended(CALM, "tiny_data_flood")
    client = Client(limits)
    client.say(head(1, POST, end=False))
    slow = [event for second in range(100) for event in client.say(data(1, b"a"), now=float(second))]
    assert slow == [Data(1, b"a", False)] * 100
    for number in range(50):
        client.say(head(2 * number + 3, POST, end=False), data(2 * number + 3, b"a", end=True), now=100.0)
        client.server.send_head(2 * number + 3, 200, [], end=True)
    assert client.server.open_streams == 1


def test_resizes_of_the_table_have_a_budget() -> None:
    """Attack 67: each empties what was kept of earlier heads."""
    client = Client(Http2Limits(control_tokens=100, control_tokens_a_second=0.0))
    block = b"\x20\x3f\xe1\x1f" + literal(GET)
    events = [event for number in range(20) for event in client.say(raw(HEADERS, 5, 2 * number + 1, block))]
    assert events[-1] == Ended(CALM, "control_flood")


SMALL_FRAMES = st.builds(
    raw, st.integers(0, 11), st.sampled_from([0, 1, 4, 5, 8, 13, 32, 37, 255]), st.integers(0, 9), st.binary(max_size=12)
)
SENSIBLE = st.one_of(
    st.builds(head, st.sampled_from([1, 3, 5, 7]), st.sampled_from([GET, POST, of_length(5), GET[:2], []]), end=st.booleans()),
    st.builds(data, st.sampled_from([1, 3, 5]), st.binary(max_size=9), end=st.booleans(), padding=st.none() | st.just(3)),
    st.builds(raw, st.just(RST_STREAM), st.just(0), st.sampled_from([1, 3, 5]), st.just(bytes(4))),
    st.builds(raw, st.just(WINDOW_UPDATE), st.just(0), st.integers(0, 5), st.sampled_from([bytes(4), b"\0\0\1\0"])),
    st.builds(raw, st.just(PRIORITY), st.just(0), st.integers(0, 5), st.sampled_from([bytes(5), b"\0\0\0\1\0"])),
    st.builds(settings_of, st.sampled_from([{}, {1: 0}, {4: 0}, {4: 70_000}])),
    st.sampled_from([raw(PING, 0, 0, bytes(8)), raw(HEADERS, 0, 9, literal(GET)), raw(CONTINUATION, 4, 9)]),
)
TALK = st.lists(st.one_of(SENSIBLE, SENSIBLE, SENSIBLE, SMALL_FRAMES, st.binary(max_size=12)), max_size=16).map(b"".join)


def in_pieces(talk: bytes, cuts: list[int]) -> tuple[list[Event], bytes]:
    server = ServerConnection(Http2Limits())
    talk = PREFACE + settings_of({}) + talk
    events: list[Event] = []
    for cut in cuts:
        events += server.receive(talk[:cut], 0.0)
        talk = talk[cut:]
    events += server.receive(talk, 0.0)
    return events, server.take_output()


@given(TALK, st.lists(st.integers(0, 40), max_size=20))
def test_any_talk_means_the_same_in_any_pieces(talk: bytes, cuts: list[int]) -> None:
    """Nothing raises; events and answers do not depend on how the bytes came."""
    whole = in_pieces(talk, [])
    assert whole == in_pieces(talk, cuts)
    assert whole == in_pieces(talk, [1] * (33 + len(talk)))


@given(st.binary(max_size=200))
def test_no_bytes_raise(talk: bytes) -> None:
    """With and without a preface."""
    ServerConnection(Http2Limits()).receive(talk, 0.0)
    ServerConnection(Http2Limits()).receive(PREFACE + talk, 0.0)
    frames(in_pieces(talk, [])[1])


ACTIONS = st.lists(
    st.one_of(
        SENSIBLE, SENSIBLE, SENSIBLE,
        st.tuples(st.sampled_from(["head", "data", "trailers", "consume", "reset", "drain"]), st.sampled_from([1, 3, 5, 7])),
    ),
    max_size=30,
)  # fmt: skip


@settings(max_examples=200)
@given(ACTIONS)
def test_whatever_both_sides_do_the_story_of_each_stream_makes_sense(actions: list[bytes | tuple[str, int]]) -> None:
    """Request first and once; nothing after its end; output that parses; and windows that never leak."""
    client = Client(Http2Limits(max_streams=3))
    server, story = client.server, Story()
    for action in actions:
        if isinstance(action, bytes):
            story.take(client.say(action))
            continue
        what, stream = action
        if what == "head":
            server.send_head(stream, 200, [(b"a", b"b")], end=False)
        elif what == "data":
            assert server.send_data(stream, b"abc", end=True) in (0, 3) or server.room(stream) == 0
        elif what == "trailers":
            server.send_trailers(stream, [])
        elif what == "consume":
            server.consumed(stream, 5)
        elif what == "reset":
            server.reset(stream, ErrorCode.CANCEL)
            story.ended.add(stream)
        else:
            server.shut_down()
    client.answers()
    held = sum(state.held for state in server._streams.values())
    assert story.over or server._allowed + server._freed + held == server._limits.connection_window
    assert server.open_streams <= 3


class Story:
    """Checks that events come in an order that an exchange can follow."""

    def __init__(self) -> None:
        self.begun: set[int] = set()
        self.ended: set[int] = set()
        self.over = False

    def take(self, events: list[Event]) -> None:
        for event in events:
            assert not self.over
            match event:
                case Request(stream, head, ended):
                    assert stream not in self.begun
                    self.begun.add(stream)
                    if ended or isinstance(head, Malformed):
                        self.ended.add(stream)
                case Data(stream, _, ended):
                    assert stream in self.begun - self.ended
                    if ended:
                        self.ended.add(stream)
                case Trailers(stream, _):
                    assert stream in self.begun - self.ended
                    self.ended.add(stream)
                case Reset(stream):
                    assert stream in self.begun
                    self.ended.add(stream)
                case Ended():
                    self.over = True
                case _:
                    pass


def test_header_blocks_for_nobody_are_paid_by_their_size() -> None:
    """Attack 67: trailers of a stream that we reset are decoded to keep the table right: a flood of them is one of bytes."""
    client = Client(Http2Limits(control_tokens=100, control_tokens_a_second=0.0))
    client.say(head(1, POST, end=False))
    client.server.reset(1, ErrorCode.NO_ERROR)
    assert client.say(head(1, [(b"a", b"b")])) == []
    block = literal([(b"a", b"b" * 10_000)])
    assert client.say(raw(HEADERS, END_HEADERS | END_STREAM, 1, block)) == []
    assert client.say(raw(HEADERS, END_HEADERS | END_STREAM, 1, block))[-1] == Ended(ErrorCode.ENHANCE_YOUR_CALM, "control_flood")
