"""The server's side of an HTTP/2 connection: bytes to events, and answers to bytes.

Promises: the same events in whatever pieces the bytes come; ``receive`` never raises; what a client may make us do for
nothing is bounded by the budgets of ``http2_limits``; after a connection error the GOAWAY is in the output, Ended is the last
event, and everything later is ignored.
Refuses to know: sockets, time (``now`` is an argument), what a request is answered with, and how much output is too much:
that is for whoever looks at ``pending``.
Source: RFC 9113 sections 3.4 (preface) to 6; section 8 is in ``http2_head``, the sending half in ``http2_sending``.

Rules, where the RFC leaves a choice:

* A frame for a stream that we reset lately is ignored (its header block is decoded, its data credited); one for a stream
  that ended otherwise is a connection error: no client has a use for it.
* A stream error is an RST_STREAM and takes a token of the same budget as the client's own resets: a server that is
  provoked into resetting works as hard as one whose client resets.
* Priorities are not used; we say so in our settings.
"""

from collections.abc import Callable
from typing import Final

from router.wire.headers import Fields
from router.wire.hpack_blocks import BlockFault
from router.wire.http2_budget import Budget
from router.wire.http2_control import ANY, LOW_31_BITS, UINT, ControlFrames
from router.wire.http2_events import Data, Ended, Event, GoneAway, Request, Reset, Trailers, Window
from router.wire.http2_frames import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    HEADER,
    MAX_FRAME,
    PADDED,
    PREFACE,
    SETTINGS,
    ErrorCode,
    rst_stream_frame,
)
from router.wire.http2_head import HeadReader
from router.wire.http2_limits import Http2Limits
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


class ServerConnection(ControlFrames):
    """One connection. Our settings are in the output from the start.

    A stream is gone when both sides have ended it, or one reset it: whatever is then said to it is a no-op.
    """

    __slots__ = (
        "_block", "_block_ended", "_block_frames", "_block_size", "_block_stream", "_block_tied", "_greeted", "_heads",
        "_resizes", "_rest", "_tiny",
    )  # fmt: skip

    def __init__(self, limits: Http2Limits) -> None:
        super().__init__(limits)
        self._heads = HeadReader(limits)
        self._tiny = Budget(limits.tiny_data_tokens, limits.tiny_data_tokens_a_second)
        self._resizes = 0  # of the HPACK table, that were paid for
        self._rest = b""  # the beginning of a frame, or of the preface
        self._greeted = False
        self._block: list[bytes] = []  # the pieces of a header block that has not ended
        self._block_stream = self._block_size = self._block_frames = 0
        self._block_ended = self._block_tied = False

    @property
    def unfinished(self) -> bool:
        """The client owes the rest of its preface, of a frame or of a header block: a deadline should run."""
        return not self._over and (self._rest != b"" or self._due != ANY)

    def receive(self, data: bytes, now: float) -> list[Event]:
        """What ``data`` says, however it was cut; ``now`` in seconds, monotonic. Never raises. After Ended: nothing."""
        if self._over:
            return []
        self._now = now
        events = self._events = []
        if self._rest:
            data = self._rest + data
        at = self._read_frames(data, 0 if self._greeted else self._read_preface(data))
        self._rest = data[at:]
        return events

    def _read_preface(self, data: bytes) -> int:
        start = data[: len(PREFACE)]
        if not PREFACE.startswith(start):
            self._fail(ErrorCode.PROTOCOL_ERROR, "bad_preface")
        self._greeted = start == PREFACE
        return len(PREFACE) if self._greeted else 0

    def _read_frames(self, data: bytes, at: int) -> int:
        """Every whole frame from ``at`` on; where the rest begins."""
        size = len(data)
        while size - at >= HEADER.size and self._greeted and not self._over:
            high, low, kind, flags, stream = HEADER.unpack_from(data, at)
            begin = at + HEADER.size
            end = begin + (high << 8 | low)
            if end - begin > MAX_FRAME:
                self._fail(ErrorCode.FRAME_SIZE_ERROR, "frame_too_large")
                break
            if end > size:
                break
            at = end
            stream &= LOW_31_BITS
            if self._due != ANY and (kind != self._due or stream != self._block_stream):
                self._fail(ErrorCode.PROTOCOL_ERROR, "settings_missing" if self._due == SETTINGS else "header_block_interrupted")
            elif kind < len(_HANDLERS):
                _HANDLERS[kind](self, flags, stream, data[begin:end])
            else:
                self._pay_control()
        return at

    def _unpadded(self, flags: int, payload: bytes) -> bytes | None:
        """The payload without its padding; ``None`` after a connection error."""
        if not flags & PADDED:
            return payload
        if not payload:
            self._fail(ErrorCode.FRAME_SIZE_ERROR, "padding_missing")
            return None
        if payload[0] >= len(payload):
            self._fail(ErrorCode.PROTOCOL_ERROR, "padding_too_long")
            return None
        return payload[1 : len(payload) - payload[0]]

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        if self._is_idle(stream):
            return self._fail(ErrorCode.PROTOCOL_ERROR, "data_on_idle_stream")
        if size > self._allowed:
            return self._fail(ErrorCode.FLOW_CONTROL_ERROR, "connection_window_exceeded")
        data = self._unpadded(flags, payload)
        if data is None:
            return None
        self._allowed -= size
        state = self._streams.get(stream)
        if state is None:
            self._free_of_connection(size)
            return self._late_frame(stream)
        ended = flags & END_STREAM != 0
        if fault := _data_fault(state, size, len(data), ended=ended):
            self._free_of_connection(size)
            return self._fail_stream(state, *fault)
        return self._take_data(state, data, size - len(data), ended=ended)

    def _take_data(self, state: Stream, data: bytes, padding: int, *, ended: bool) -> None:
        size = len(data)
        state.allowed -= size + padding
        state.held += size
        state.ended = ended
        if state.expected != UNKNOWN_LENGTH:
            state.expected -= size
        if padding:
            self._free(state, padding)
        if state.void:
            self.consumed(state.number, size)
        else:
            self._events.append(Data(state.number, data, ended))
        if ended and state.done:
            self._drop(state, ours=False)
        if size >= _TINY:
            self._control.earn(self._limits.control_tokens_a_frame)
        elif not ended:
            self._pay_tiny(size)

    def _pay_tiny(self, size: int) -> None:
        if not size:
            self._pay_control()
        elif not self._tiny.spend(1, self._now):
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, "tiny_data_flood")

    def _late_frame(self, stream: int, block: int = 0) -> None:
        """A frame of a message, for a stream that has gone; ``block``: bytes that had to be decoded for nothing."""
        if self._gone.get(stream):
            self._pay_control(1 + block // _BLOCK_BYTES_A_TOKEN)
        else:
            self._fail(ErrorCode.STREAM_CLOSED, "frame_after_end")

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream & 1:
            return self._fail(ErrorCode.PROTOCOL_ERROR, "bad_stream_number")
        block = self._unpadded(flags, payload)
        if block is None:
            return None
        tied = False
        if flags & HAS_PRIORITY:
            if len(block) < 5:
                return self._fail(ErrorCode.FRAME_SIZE_ERROR, "priority_missing")
            tied = UINT.unpack_from(block)[0] & LOW_31_BITS == stream
            block = block[5:]
        ended = flags & END_STREAM != 0
        if flags & END_HEADERS:
            return self._on_block(stream, block, tied=tied, ended=ended)
        self._block = [block]
        self._block_stream, self._block_size, self._block_frames = stream, len(block), 0
        self._block_ended, self._block_tied = ended, tied
        self._due = CONTINUATION
        return None

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._due != CONTINUATION:
            return self._fail(ErrorCode.PROTOCOL_ERROR, "continuation_of_nothing")
        self._block_frames += 1
        self._block_size += len(payload)
        if self._block_frames > self._limits.max_continuations:
            return self._fail(ErrorCode.ENHANCE_YOUR_CALM, "continuation_flood")
        if self._block_size > self._heads.max_block_bytes:
            return self._fail(ErrorCode.ENHANCE_YOUR_CALM, "header_block_too_large")
        self._block.append(payload)
        if flags & END_HEADERS:
            block = b"".join(self._block)
            self._block = []
            self._block_stream = 0
            self._due = ANY
            self._on_block(stream, block, tied=self._block_tied, ended=self._block_ended)
        return None

    def _on_block(self, stream: int, block: bytes, *, tied: bool, ended: bool) -> None:
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


def _data_fault(state: Stream, size: int, length: int, *, ended: bool) -> tuple[ErrorCode, str] | None:
    """Why a DATA frame does not belong to its stream: ``size`` bytes with padding, ``length`` without."""
    if state.ended:
        return ErrorCode.STREAM_CLOSED, "data_after_end"
    if size > state.allowed:
        return ErrorCode.FLOW_CONTROL_ERROR, "stream_window_exceeded"
    if state.expected != UNKNOWN_LENGTH and (length > state.expected or (ended and length < state.expected)):
        return ErrorCode.PROTOCOL_ERROR, "content_length_mismatch"
    return None


_HANDLERS: Final[tuple[Callable[[ServerConnection, int, int, bytes], None], ...]] = (
    ServerConnection._on_data,
    ServerConnection._on_headers,
    ServerConnection._on_priority,
    ServerConnection._on_rst_stream,
    ServerConnection._on_settings,
    ServerConnection._on_push_promise,
    ServerConnection._on_ping,
    ServerConnection._on_goaway,
    ServerConnection._on_window_update,
    ServerConnection._on_continuation,
)
"""By kind of frame."""
