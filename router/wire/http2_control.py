"""The frames of an HTTP/2 connection that carry no message: settings, pings, resets, windows, farewells.

Promises: each is judged by length, stream and value; each takes a token of a budget, since a peer can send them for ever
at no cost of its own; connection and stream errors are made here. Refuses to know: messages (``http2``).
Source: RFC 9113 sections 5.4 (errors) and 6.3 to 6.9.
"""

from abc import ABC, abstractmethod
from struct import Struct
from typing import Final

from router.wire.hpack_encoder import TABLE_SIZE_ZERO
from router.wire.http2_events import Ended, Event, Reset, Window
from router.wire.http2_frames import (
    ACK,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_WINDOW,
    PING,
    SETTING,
    SETTING_RANGES,
    SETTINGS,
    ErrorCode,
    frame_header,
    rst_stream_frame,
)
from router.wire.http2_limits import Http2Limits
from router.wire.http2_sending import SendingHalf
from router.wire.http2_stream import Stream

ANY: Final = -1
LOW_31_BITS: Final = 0x7FFF_FFFF
UINT: Final = Struct(">L")
_DEFAULT_TABLE: Final = 4_096


class ControlFrames(SendingHalf, ABC):
    """The sending half, and what a peer may say about the connection itself."""

    __slots__ = ("_due", "_events", "_table_given_up")

    def __init__(self, limits: Http2Limits) -> None:
        super().__init__(limits)
        self._events: list[Event] = []
        self._due: int = SETTINGS  # the only kind of frame that may come now, or ANY
        self._table_given_up = False

    def _fail(self, code: ErrorCode, reason: str) -> None:
        """A connection error."""
        if not self._over:
            self.terminate(code, reason)
            self._events.append(Ended(code, reason))

    def _fail_stream(self, state: Stream, code: ErrorCode, reason: str) -> None:
        """A stream error."""
        self._write(rst_stream_frame(state.number, code))
        self._drop(state, ours=True)
        self._events.append(Reset(state.number, code, False, reason))
        self._pay_reset("provoked_resets")

    def _pay_reset(self, reason: str, tokens: int = 1) -> None:
        if not self._resets.spend(tokens, self._now):
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, reason)

    def _pay_control(self, tokens: int = 1) -> bool:
        """For a frame that moves nothing; whether the peer may still send such."""
        if self._control.spend(tokens, self._now):
            return True
        self._fail(ErrorCode.ENHANCE_YOUR_CALM, "control_flood")
        return False

    @abstractmethod
    def _heed_reset(self, state: Stream, code: int) -> None:
        """The peer has reset a stream, which has gone."""

    @abstractmethod
    def _heed_goaway(self, last: int, code: int) -> None:
        """The peer will look at no stream of ours above ``last``, and open none."""

    def _is_idle(self, stream: int) -> bool:
        return stream > self._seen or not stream & 1

    def _on_priority(self, _flags: int, stream: int, payload: bytes) -> None:
        state = self._streams.get(stream)
        tied = len(payload) == 5 and UINT.unpack_from(payload)[0] & LOW_31_BITS == stream
        if stream == 0:
            self._fail(ErrorCode.PROTOCOL_ERROR, "priority_of_connection")
        elif len(payload) != 5:
            self._fail_either(stream, state, ErrorCode.FRAME_SIZE_ERROR, "bad_priority_size")
        elif tied:
            self._fail_either(stream, state, ErrorCode.PROTOCOL_ERROR, "priority_on_itself")
        else:
            self._pay_control()

    def _fail_either(self, stream: int, state: Stream | None, code: ErrorCode, reason: str) -> None:
        """A stream error where there is a stream to reset; one that has gone is past caring."""
        if state is not None:
            self._fail_stream(state, code, reason)
        elif self._is_idle(stream):
            self._fail(code, reason)
        else:
            self._pay_control()

    def _on_rst_stream(self, _flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            return self._fail(ErrorCode.FRAME_SIZE_ERROR, "bad_reset_size")
        if self._is_idle(stream):
            return self._fail(ErrorCode.PROTOCOL_ERROR, "reset_of_idle_stream")
        state = self._streams.get(stream)
        if state is None:
            self._pay_control()
            return None
        self._drop(state, ours=False)
        return self._heed_reset(state, UINT.unpack(payload)[0])

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            return self._fail(ErrorCode.PROTOCOL_ERROR, "settings_of_stream")
        if len(payload) % SETTING.size or (flags & ACK and payload):
            return self._fail(ErrorCode.FRAME_SIZE_ERROR, "bad_settings_size")
        if flags & ACK:
            if self._due == SETTINGS:
                return self._fail(ErrorCode.PROTOCOL_ERROR, "settings_missing")
            self._pay_control()
            return None
        if not self._pay_control(1 + len(payload) // SETTING.size):
            return None
        self._due = ANY
        for setting, value in SETTING.iter_unpack(payload):
            self._apply(setting, value)
            if self._over:
                return None
        self._write(frame_header(0, SETTINGS, ACK, 0))
        return None

    def _apply(self, setting: int, value: int) -> None:
        least, most, code = SETTING_RANGES.get(setting, (0, value, ErrorCode.PROTOCOL_ERROR))
        if not least <= value <= most:
            self._fail(code, "bad_setting")
        elif setting == INITIAL_WINDOW_SIZE:
            self._resize_windows(value)
        elif setting == HEADER_TABLE_SIZE and value < _DEFAULT_TABLE and not self._table_given_up:
            self._table_given_up = True
            self._block_start = TABLE_SIZE_ZERO

    def _resize_windows(self, size: int) -> None:
        change = size - self._initial_window
        self._initial_window = size
        opened = False
        for state in self._streams.values():
            opened |= state.window <= 0 < state.window + change
            state.window += change
            if state.window > MAX_WINDOW:
                return self._fail(ErrorCode.FLOW_CONTROL_ERROR, "stream_window_overflow")
        if opened:
            self._events.append(Window(0))
        return None

    def _on_push_promise(self, _flags: int, _stream: int, _payload: bytes) -> None:
        self._fail(ErrorCode.PROTOCOL_ERROR, "push_promise")

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            self._fail(ErrorCode.PROTOCOL_ERROR, "ping_of_stream")
        elif len(payload) != 8:
            self._fail(ErrorCode.FRAME_SIZE_ERROR, "bad_ping_size")
        elif self._pay_control() and not flags & ACK:
            self._write(frame_header(8, PING, ACK, 0) + payload)

    def _on_goaway(self, _flags: int, stream: int, payload: bytes) -> None:
        if stream:
            self._fail(ErrorCode.PROTOCOL_ERROR, "goaway_of_stream")
        elif len(payload) < 8:
            self._fail(ErrorCode.FRAME_SIZE_ERROR, "bad_goaway_size")
        elif self._pay_control():
            self._heed_goaway(UINT.unpack_from(payload)[0] & LOW_31_BITS, UINT.unpack_from(payload, 4)[0])

    def _on_window_update(self, _flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            return self._fail(ErrorCode.FRAME_SIZE_ERROR, "bad_window_size")
        if stream and self._is_idle(stream):
            return self._fail(ErrorCode.PROTOCOL_ERROR, "window_of_idle_stream")
        if not self._pay_control():
            return None
        size = UINT.unpack(payload)[0] & LOW_31_BITS
        state = self._streams.get(stream)
        if state is not None:
            return self._widen(state, size)
        if stream:
            return None
        before = self._window
        self._window += size
        if not size:
            return self._fail(ErrorCode.PROTOCOL_ERROR, "window_update_of_nothing")
        if self._window > MAX_WINDOW:
            return self._fail(ErrorCode.FLOW_CONTROL_ERROR, "connection_window_overflow")
        if before <= 0:
            self._events.append(Window(0))
        return None

    def _widen(self, state: Stream, size: int) -> None:
        before = state.window
        state.window += size
        if not size:
            self._fail_stream(state, ErrorCode.PROTOCOL_ERROR, "window_update_of_nothing")
        elif state.window > MAX_WINDOW:
            self._fail_stream(state, ErrorCode.FLOW_CONTROL_ERROR, "stream_window_overflow")
        elif before <= 0 < state.window:
            self._events.append(Window(state.number))
