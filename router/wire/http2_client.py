"""The client's side of an HTTP/2 connection: bytes to events, requests to bytes.

Promises: what is wrong with one stream ends that stream alone (RST_STREAM), what is wrong with the connection ends it (GOAWAY,
and Ended is its last event). A GOAWAY of the peer leaves the streams that it will still answer as they are. Everything a peer can
make us hold or do is bounded: heads by bytes, bodies by windows, frames that bring nothing by a budget that grows with what is
really exchanged.
Refuses to know: sockets, clocks, what a fault means.
Source: RFC 9113; RFC 9110 for what a message is. What a server has too is in ``http2_reading``, ``http2_control`` and
``http2_sending``; heads are in ``http2_client_heads``.

The library `h2` is not under this: it ends the whole connection at a GOAWAY and at most errors of one stream, so that one strange
response would cost all other clients theirs.
"""

from typing import Final

from router.wire.headers import Fields
from router.wire.hpack_blocks import BlockDecoder, BlockFault
from router.wire.http2_client_heads import response_head
from router.wire.http2_events import Event, GoneAway, Head, Reset, Trailers, Window
from router.wire.http2_fields import parse_trailers
from router.wire.http2_frames import (
    ACK,
    ENABLE_PUSH,
    HEADER,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    MAX_WINDOW,
    PREFACE,
    SETTINGS,
    ErrorCode,
)
from router.wire.http2_limits import Http2Limits
from router.wire.http2_reading import ReadingHalf
from router.wire.http2_stream import HEAD_DUE, Stream
from router.wire.malformed import Malformed

HELD_BYTES: Final = 1 << 20
"""What may wait for a backend that sends and reads nothing; bodies are held back long before."""

_LEAST: Final = 256
"""What a piece of a body costs at least that comes too late, in bytes."""
_LAST_STREAM: Final = 2**31 - 1
_UNPROCESSED: Final = frozenset({ErrorCode.REFUSED_STREAM, ErrorCode.HTTP_1_1_REQUIRED})
_HEAD_TOO_LARGE: Final = frozenset({"header_block_too_large", "header_list_too_large"})


class ClientConnection(ReadingHalf):
    """One connection. ``closing`` and ``exhausted`` say whether it takes new streams, ``peer_streams`` how many at a time."""

    __slots__ = ("_decoder", "_late", "_refusing", "_unanswered", "peer_streams")

    def __init__(self, limits: Http2Limits) -> None:
        super().__init__(limits, 2 * limits.max_head_bytes)
        self._decoder = BlockDecoder(2 * limits.max_head_bytes)
        self._unanswered: dict[int, bytes] = {}  # the methods of streams without a final head
        self._late = 0  # bytes that may still come on streams that we gave up
        self._refusing = False  # the peer has said GOAWAY
        self.peer_streams = MAX_WINDOW
        self._write(PREFACE)
        self._introduce([
            (ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, limits.stream_window), (MAX_HEADER_LIST_SIZE, limits.max_head_bytes),
        ])  # fmt: skip

    @property
    def ready(self) -> bool:
        """The peer's first SETTINGS are here: it speaks HTTP/2."""
        return self._due != SETTINGS

    @property
    def closing(self) -> bool:
        """No stream can be opened any more."""
        return self._refusing or self._over

    @property
    def ended(self) -> bool:
        """Nothing more is heard."""
        return self._over

    @property
    def exhausted(self) -> bool:
        """Are there no more numbers for streams?"""
        return self._seen >= _LAST_STREAM

    # ---- what is to be sent

    def open(self, method: bytes, block: bytes, *, end: bool) -> int:
        """A new stream that begins with this block (see ``http2_client_heads.request_block``); its number."""
        stream = self._seen = self._seen + 2 if self._seen else 1
        state = Stream(stream, self._initial_window, self._stream_window, HEAD_DUE, ended=False, void=False)
        self._streams[stream] = state
        self._unanswered[stream] = method
        self._send_block(state, block, end)
        self._control.earn(self._limits.control_tokens_a_frame)
        return stream

    def sends(self, stream: int) -> bool:
        """Does the peer still take this stream's body?"""
        state = self._streams.get(stream)
        return state is not None and not state.done

    def _drop(self, state: Stream, *, ours: bool) -> None:
        super()._drop(state, ours=ours)
        self._unanswered.pop(state.number, None)
        if ours and not state.ended:
            self._late = min(self._late + state.allowed, self._limits.connection_window)

    # ---- what has come

    def receive(self, data: bytes, now: float) -> list[Event]:
        """What ``data`` brings; ``now`` in seconds, of any clock that does not go back. Never raises."""
        events = super().receive(data, now)
        if self.pending > HELD_BYTES:
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, "reads_nothing")
        return events

    def _read_greeting(self, data: bytes) -> int:
        """Whoever does not begin with SETTINGS speaks something else."""
        if len(data) >= HEADER.size:
            _, _, kind, flags, _ = HEADER.unpack_from(data)
            self._greeted = kind == SETTINGS and not flags & ACK
            if not self._greeted:
                self._fail(ErrorCode.PROTOCOL_ERROR, "http1" if data[:5] == b"HTTP/" else "not_http2")
        return 0

    def _fail(self, code: ErrorCode, reason: str) -> None:
        """Whose head was too much is told before the connection ends."""
        if reason in _HEAD_TOO_LARGE and self._block_stream in self._streams:
            self._events.append(Reset(self._block_stream, code, False, "head_too_large"))
        super()._fail(code, reason)

    def _heed_block(self, stream: int, block: bytes, *, tied: bool, ended: bool) -> None:
        pairs = self._decoder.decode(block)
        state = self._streams.get(stream)
        if isinstance(pairs, BlockFault):
            self._fail(*pairs)
        elif state is None:
            if self._is_idle(stream):
                self._fail(ErrorCode.PROTOCOL_ERROR, "headers_on_idle_stream")
            else:
                self._pay_control()
        elif state.ended:
            self._fail_stream(state, ErrorCode.STREAM_CLOSED, "headers_after_end")
        elif stream in self._unanswered:
            self._take_head(state, pairs, ended=ended)
        else:
            self._take_trailers(state, pairs, ended=ended)

    def _take_head(self, state: Stream, pairs: Fields, *, ended: bool) -> None:
        head = response_head(pairs, self._unanswered[state.number], ended=ended)
        if isinstance(head, Malformed):
            return self._fail_stream(state, ErrorCode.PROTOCOL_ERROR, head.reason)
        self._events.append(Head(state.number, head, ended))
        if head.status < 200:
            self._pay_control()
            return None
        del self._unanswered[state.number]
        state.expected = head.body
        return self._end_theirs(state) if ended else None

    def _take_trailers(self, state: Stream, pairs: Fields, *, ended: bool) -> None:
        fields = parse_trailers(pairs, self._limits)
        if isinstance(fields, Malformed):
            large = fields.status == 431
            return self._fail_stream(state, ErrorCode.ENHANCE_YOUR_CALM if large else ErrorCode.PROTOCOL_ERROR, fields.reason)
        if not ended or state.expected > 0:
            reason = "content_length_mismatch" if ended else "trailers_without_end"
            return self._fail_stream(state, ErrorCode.PROTOCOL_ERROR, reason)
        self._events.append(Trailers(state.number, fields))
        return self._end_theirs(state)

    def _end_theirs(self, state: Stream) -> None:
        state.ended = True
        if state.done:
            self._drop(state, ours=False)

    def _weigh_data(self, size: int, *, ended: bool) -> None:
        if size:
            self._control.earn(1)
        elif not ended:
            self._pay_control()

    def _heed_late_data(self, stream: int, size: int) -> None:
        """Free as far as it may have been on its way when we gave its stream up."""
        self._late -= max(size, _LEAST)
        if self._late < 0:
            self._late = 0
            self._pay_control()

    def _heed_reset(self, state: Stream, code: int) -> None:
        self._events.append(Reset(state.number, code, True, "reset_by_peer", code not in _UNPROCESSED))

    def _heed_goaway(self, last: int, code: int) -> None:
        self._refusing = True
        for state in [state for state in self._streams.values() if state.number > last]:
            self._drop(state, ours=False)
            self._events.append(Reset(state.number, code, True, "goaway", processed=False))
        self._events.append(GoneAway(code))

    def _apply(self, setting: int, value: int) -> None:
        if setting == ENABLE_PUSH and value:
            self._fail(ErrorCode.PROTOCOL_ERROR, "bad_setting")
        elif setting == MAX_CONCURRENT_STREAMS:
            self.peer_streams = value
            self._events.append(Window(0))
        else:
            super()._apply(setting, value)
