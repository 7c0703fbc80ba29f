"""The server's side of an HTTP/2 connection: bytes to events, and answers to bytes.

Promises: the same events in whatever pieces the bytes come; ``receive`` never raises; what a client may make us do for
nothing is bounded by the budgets of ``http2_limits``; after a connection error the GOAWAY is in the output, Ended is the last
event, and everything later is ignored.
Refuses to know: sockets, time (``now`` is an argument), what a request is answered with, and how much output is too much:
that is for whoever looks at ``pending``.
Source: RFC 9113 sections 3.4 (preface) to 6; section 8 is in ``http2_head``. What a client has too is in ``http2_reading``,
``http2_control`` and ``http2_sending``.

Rules, where the RFC leaves a choice:

* A frame for a stream that we reset lately is ignored (its header block is decoded, its data credited); one for a stream
  that ended otherwise is a connection error: no client has a use for it.
* A stream error is an RST_STREAM and takes a token of the same budget as the client's own resets: a server that is
  provoked into resetting works as hard as one whose client resets.
* Priorities are not used; we say so in our settings.
"""

from typing import Final

from router.wire.headers import Fields
from router.wire.hpack_blocks import BlockFault
from router.wire.hpack_encoder import encode_head
from router.wire.http2_budget import Budget
from router.wire.http2_control import ANY
from router.wire.http2_events import Data, Ended, Event, GoneAway, Request, Reset, Trailers, Window
from router.wire.http2_frames import (
    DEFAULT_WINDOW,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    NO_RFC7540_PRIORITIES,
    PREFACE,
    ErrorCode,
    goaway_frame,
    rst_stream_frame,
)
from router.wire.http2_head import HeadReader
from router.wire.http2_limits import MAX_HEAD_BYTES, Http2Limits
from router.wire.http2_reading import ReadingHalf
from router.wire.http2_stream import UNKNOWN_LENGTH, Stream
from router.wire.malformed import Malformed

__all__ = [
    "PREFACE", "Data", "Ended", "ErrorCode", "Event", "Fields", "GoneAway", "Http2Limits", "Request", "Reset", "ServerConnection",
    "Trailers", "Window",
]  # fmt: skip

_TINY: Final = 64
_RESIZE_TOKENS: Final = 20
_TOO_LARGE_TOKENS: Final = 8
_BLOCK_BYTES_A_TOKEN: Final = 128


class ServerConnection(ReadingHalf):
    """One connection. Our settings are in the output from the start.

    A stream is gone when both sides have ended it, or one reset it: whatever is then said to it is a no-op.
    """

    __slots__ = ("_draining", "_heads", "_left", "_resizes", "_tiny")

    def __init__(self, limits: Http2Limits) -> None:
        self._heads = HeadReader(limits)
        windows = {
            "stream_window": max(DEFAULT_WINDOW, limits.stream_window),  # what comes before it has heard our settings counts too
            "connection_window": max(DEFAULT_WINDOW, limits.connection_window),
        }
        super().__init__(limits._replace(**windows), self._heads.max_block_bytes)
        self._tiny = Budget(limits.tiny_data_tokens, limits.tiny_data_tokens_a_second)
        self._resizes = 0  # of the HPACK table, that were paid for
        self._left = False  # the client has said GOAWAY
        self._draining = False  # we have
        self._introduce([
            (MAX_CONCURRENT_STREAMS, limits.max_streams),
            (INITIAL_WINDOW_SIZE, self._stream_window),
            (MAX_HEADER_LIST_SIZE, min(limits.max_head_bytes, MAX_HEAD_BYTES)),
            (NO_RFC7540_PRIORITIES, 1),
        ])  # fmt: skip

    @property
    def unfinished(self) -> bool:
        """The client owes the rest of its preface, of a frame or of a header block: a deadline should run."""
        return not self._over and (self._rest != b"" or self._due != ANY)

    @property
    def closing(self) -> bool:
        """No stream will be opened any more: GOAWAY was sent."""
        return self._draining or self._over

    def send_head(self, stream: int, status: int, fields: Fields, *, end: bool) -> None:
        """A response's head, or an interim one. Names in any case; fields that belong to a connection are left out.
        ValueError for a CR, LF or NUL in a value, or for a name that is none: our fault, never a peer's."""
        state = self._streams.get(stream)
        if state is not None and not state.done:
            self._send_block(state, encode_head(status, fields), end)

    def shut_down(self) -> None:
        """GOAWAY without an error: streams that are here go on, later ones are not looked at; they may be sent elsewhere."""
        if not self.closing:
            self._draining = True
            self._write(goaway_frame(self._last, ErrorCode.NO_ERROR, ""))

    def _read_greeting(self, data: bytes) -> int:
        start = data[: len(PREFACE)]
        if not PREFACE.startswith(start):
            self._fail(ErrorCode.PROTOCOL_ERROR, "bad_preface")
        self._greeted = start == PREFACE
        return len(PREFACE) if self._greeted else 0

    def _weigh_data(self, size: int, *, ended: bool) -> None:
        if size >= _TINY:
            self._control.earn(self._limits.control_tokens_a_frame)
        elif ended:
            return
        elif not size:
            self._pay_control()
        elif not self._tiny.spend(1, self._now):
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, "tiny_data_flood")

    def _heed_reset(self, state: Stream, code: int) -> None:
        self._events.append(Reset(state.number, code, True, "reset_by_peer"))
        if state.done:
            self._pay_control()  # it does not want to send the rest of a request that has its answer
        else:
            self._pay_reset("rapid_resets")

    def _heed_goaway(self, last: int, code: int) -> None:
        if not self._left:
            self._left = True
            self._events.append(GoneAway(code))

    def _heed_late_data(self, stream: int, size: int) -> None:
        self._late_frame(stream)

    def _late_frame(self, stream: int, block: int = 0) -> None:
        """A frame of a message, for a stream that has gone; ``block``: bytes that had to be decoded for nothing."""
        if self._gone.get(stream):
            self._pay_control(1 + block // _BLOCK_BYTES_A_TOKEN)
        else:
            self._fail(ErrorCode.STREAM_CLOSED, "frame_after_end")

    def _heed_block(self, stream: int, block: bytes, *, tied: bool, ended: bool) -> None:
        state = self._streams.get(stream)
        if state is not None:
            self._on_trailers(state, block, tied=tied, ended=ended)
        elif stream > self._seen:
            self._on_request(stream, block, tied=tied, ended=ended)
        elif stream not in self._gone:
            self._fail(ErrorCode.PROTOCOL_ERROR, "stream_number_not_higher")
        elif fault := self._heads.skip(block):
            self._fail(*fault)
        else:
            self._late_frame(stream, len(block))
        if self._heads.resizes != self._resizes:
            self._pay_control(_RESIZE_TOKENS * (self._heads.resizes - self._resizes))
            self._resizes = self._heads.resizes

    def _on_request(self, stream: int, block: bytes, *, tied: bool, ended: bool) -> None:
        head = self._heads.request(block, ended=ended)
        if isinstance(head, BlockFault):
            return self._fail(*head)
        self._seen = stream
        if self._draining:  # GOAWAY named the last stream that counts: its client knows that this one does not
            self._remember(stream, ours=True)
            return self._pay_reset("streams_after_goaway")
        self._last = stream
        if tied or len(self._streams) >= self._limits.max_streams:
            self._remember(stream, ours=True)
            self._write(rst_stream_frame(stream, ErrorCode.PROTOCOL_ERROR if tied else ErrorCode.REFUSED_STREAM))
            return self._pay_reset("provoked_resets" if tied else "refused_streams")
        void = isinstance(head, Malformed)
        expected = UNKNOWN_LENGTH if isinstance(head, Malformed) else head.body
        self._streams[stream] = Stream(stream, self._initial_window, self._stream_window, expected, ended=ended, void=void)
        self._events.append(Request(stream, head, ended))
        if isinstance(head, Malformed):
            return self._pay_reset("malformed_requests", _TOO_LARGE_TOKENS if head.status == 431 else 1)
        return self._control.earn(self._limits.control_tokens_a_frame)

    def _on_trailers(self, state: Stream, block: bytes, *, tied: bool, ended: bool) -> None:
        fields = self._heads.trailers(block)
        if isinstance(fields, BlockFault):
            return self._fail(*fields)
        if state.ended:
            return self._fail_stream(state, ErrorCode.STREAM_CLOSED, "headers_after_end")
        if isinstance(fields, Malformed):
            return self._fail_stream(state, ErrorCode.PROTOCOL_ERROR, fields.reason)
        if tied or not ended or state.expected > 0:
            reason = "priority_on_itself" if tied else "content_length_mismatch" if ended else "trailers_without_end"
            return self._fail_stream(state, ErrorCode.PROTOCOL_ERROR, reason)
        state.ended = True
        if not state.void:
            self._events.append(Trailers(state.number, fields))
        if state.done:
            self._drop(state, ours=False)
        return None
