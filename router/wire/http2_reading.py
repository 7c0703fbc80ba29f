"""The reading half of an HTTP/2 connection: bytes to frames, header blocks and bodies.

Promises: the same events in whatever pieces the bytes come; ``receive`` never raises; after a connection error the GOAWAY is in
the output, Ended is the last event, and everything later is ignored; a header block is bounded while it comes.
Refuses to know: which side we are on: what a block, a reset or a GOAWAY means is for ``http2`` (a server) and ``http2_client``.
Source: RFC 9113 sections 4 (frames), 6.1, 6.2 and 6.10.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Final

from router.wire.http2_control import ANY, LOW_31_BITS, UINT, ControlFrames
from router.wire.http2_events import Data, Event
from router.wire.http2_frames import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    HEADER,
    MAX_FRAME,
    PADDED,
    SETTINGS,
    ErrorCode,
)
from router.wire.http2_limits import Http2Limits
from router.wire.http2_stream import HEAD_DUE, UNKNOWN_LENGTH, Stream


class ReadingHalf(ControlFrames):
    """All of a connection but what its messages mean. ``max_block_bytes``: of a header block in pieces."""

    __slots__ = (
        "_block", "_block_ended", "_block_frames", "_block_size", "_block_stream", "_block_tied", "_greeted", "_max_block_bytes",
        "_rest",
    )  # fmt: skip

    def __init__(self, limits: Http2Limits, max_block_bytes: int) -> None:
        super().__init__(limits)
        self._max_block_bytes = max_block_bytes
        self._rest = b""  # the beginning of a frame, or of a greeting
        self._greeted = False
        self._block: list[bytes] = []  # the pieces of a header block that has not ended
        self._block_stream = self._block_size = self._block_frames = 0
        self._block_ended = self._block_tied = False

    def receive(self, data: bytes, now: float) -> list[Event]:
        """What ``data`` says, however it was cut; ``now`` in seconds, monotonic. Never raises. After Ended: nothing."""
        if self._over:
            return []
        self._now = now
        events = self._events = []
        if self._rest:
            data = self._rest + data
        at = self._read_frames(data, 0 if self._greeted else self._read_greeting(data))
        self._rest = data[at:]
        return events

    @abstractmethod
    def _read_greeting(self, data: bytes) -> int:
        """Where the frames begin; whether it was right is in ``_greeted``."""

    @abstractmethod
    def _heed_block(self, stream: int, block: bytes, *, tied: bool, ended: bool) -> None:
        """A whole header block. ``tied``: its stream was to depend on itself."""

    @abstractmethod
    def _heed_late_data(self, stream: int, size: int) -> None:
        """A piece of a body, for a stream that has gone."""

    @abstractmethod
    def _weigh_data(self, size: int, *, ended: bool) -> None:
        """Earn or pay for a DATA frame with so many bytes of data."""

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
            return self._heed_late_data(stream, size)
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
        self._weigh_data(size, ended=ended)

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream & 1:
            return self._fail(ErrorCode.PROTOCOL_ERROR, "bad_stream_number")
        self._block_stream = stream
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
            return self._heed_block(stream, block, tied=tied, ended=ended)
        self._block = [block]
        self._block_size, self._block_frames = len(block), 0
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
        if self._block_size > self._max_block_bytes:
            return self._fail(ErrorCode.ENHANCE_YOUR_CALM, "header_block_too_large")
        self._block.append(payload)
        if flags & END_HEADERS:
            block = b"".join(self._block)
            self._block = []
            self._due = ANY
            self._heed_block(stream, block, tied=self._block_tied, ended=self._block_ended)
        return None


def _data_fault(state: Stream, size: int, length: int, *, ended: bool) -> tuple[ErrorCode, str] | None:
    """Why a DATA frame does not belong to its stream: ``size`` bytes with padding, ``length`` without."""
    if state.ended:
        return ErrorCode.STREAM_CLOSED, "data_after_end"
    if size > state.allowed:
        return ErrorCode.FLOW_CONTROL_ERROR, "stream_window_exceeded"
    if state.expected != UNKNOWN_LENGTH and (length > state.expected or (ended and length < state.expected)):
        return ErrorCode.PROTOCOL_ERROR, "content_length_mismatch" if state.expected != HEAD_DUE else "data_before_head"
    return None


_HANDLERS: Final[tuple[Callable[[ReadingHalf, int, int, bytes], None], ...]] = (
    ReadingHalf._on_data,
    ReadingHalf._on_headers,
    ReadingHalf._on_priority,
    ReadingHalf._on_rst_stream,
    ReadingHalf._on_settings,
    ReadingHalf._on_push_promise,
    ReadingHalf._on_ping,
    ReadingHalf._on_goaway,
    ReadingHalf._on_window_update,
    ReadingHalf._on_continuation,
)
"""By kind of frame."""
