"""The sending half of an HTTP/2 connection: its streams, the windows of both directions, and the output.

Promises: nothing is sent beyond a window or a frame's size; what is said to a stream that has gone is a no-op; bytes of a
body are credited once, when they were consumed or when their stream went. Refuses to know: what a peer sent
(``http2_reading``), and when to stop sending (whoever looks at ``pending``).
Source: RFC 9113 sections 5.1 (states), 5.2 and 6.9 (flow control), 6.8 (GOAWAY).
"""

from router.wire.headers import Fields
from router.wire.hpack_encoder import encode_fields
from router.wire.http2_budget import Budget
from router.wire.http2_frames import (
    DATA,
    DEFAULT_WINDOW,
    END_STREAM,
    MAX_FRAME,
    ErrorCode,
    frame_header,
    goaway_frame,
    head_frames,
    rst_stream_frame,
    settings_frame,
    window_update_frame,
)
from router.wire.http2_limits import Http2Limits
from router.wire.http2_stream import Stream

_MAX_GONE = 256
"""Streams remembered after they went: frames that were on their way when we reset one are no fault of the client's."""


class SendingHalf:
    """What we say, as a server or as a client, and all that both halves need."""

    __slots__ = (
        "_allowed", "_block_start", "_control", "_credited_from", "_freed", "_gone", "_initial_window", "_last", "_limits",
        "_now", "_out", "_over", "_resets", "_seen", "_stream_window", "_streams", "_window", "pending",
    )  # fmt: skip

    pending: int
    """Bytes that ``take_output`` would return; acknowledgements of PING and SETTINGS count."""

    def __init__(self, limits: Http2Limits) -> None:
        self._limits = limits
        self._control = Budget(limits.control_tokens, limits.control_tokens_a_second)
        self._resets = Budget(limits.reset_tokens, limits.reset_tokens_a_second)
        self._streams: dict[int, Stream] = {}
        self._gone: dict[int, bool] = {}  # the last streams that went: whether we reset them
        self._seen = self._last = 0  # the highest stream that was opened, and of the peer's that we looked at
        self._over = False
        self._now = 0.0
        self._window = self._initial_window = DEFAULT_WINDOW
        self._stream_window = limits.stream_window
        self._allowed = limits.connection_window
        self._credited_from = min(limits.stream_window, limits.connection_window) // 2
        self._freed = 0
        self._block_start = b""
        self._out: list[bytes] = []
        self.pending = 0

    def _introduce(self, settings: list[tuple[int, int]]) -> None:
        self._write(settings_frame(settings))
        if self._allowed > DEFAULT_WINDOW:
            self._write(window_update_frame(0, self._allowed - DEFAULT_WINDOW))

    @property
    def open_streams(self) -> int:
        """Streams that have not gone."""
        return len(self._streams)

    def take_output(self) -> bytes:
        """All that must be sent."""
        out = self._out
        if not out:
            return b""
        data = b"".join(out)
        out.clear()
        self.pending = 0
        return data

    def send_trailers(self, stream: int, fields: Fields) -> None:
        """The end of a message with fields after its body; names in any case. ValueError for a CR, LF or NUL in a value, or for a
        name that is none: our fault, never a peer's."""
        state = self._streams.get(stream)
        if state is not None and not state.done:
            self._send_block(state, encode_fields(fields), end=True)

    def send_data(self, stream: int, data: bytes | memoryview, *, end: bool) -> int:
        """As much of ``data`` as the windows have room for; how much that was. ``end`` holds when it was all. All of it where the
        stream has gone."""
        size = len(data)
        state = self._streams.get(stream)
        if state is None or state.done:
            return size
        taken = min(size, max(0, state.window), max(0, self._window))
        end = end and taken == size
        if not taken and not end:
            return 0
        frames = self._send_pieces(stream, bytes(data if taken == size else data[:taken]), end)
        limits = self._limits
        self._control.earn(limits.control_tokens_a_frame * frames if taken == size else taken // limits.cut_bytes_a_token)
        state.window -= taken
        self._window -= taken
        if end:
            self._finish(state)
        return taken

    def room(self, stream: int) -> int:
        """Bytes of data that may be sent now; 0 for a stream that has gone. Where it is 0, a Window event tells of more."""
        state = self._streams.get(stream)
        return 0 if state is None or state.done else max(0, min(state.window, self._window))

    def consumed(self, stream: int, size: int) -> None:
        """``size`` bytes of a stream's Data were handed on: its windows open again, a WINDOW_UPDATE for every half of them."""
        state = self._streams.get(stream)
        if state is not None:
            size = min(size, state.held)
            state.held -= size
            self._free(state, size)

    def reset(self, stream: int, code: ErrorCode) -> None:
        """End a stream by our own will (NO_ERROR: the response is whole, the rest of the request is not wanted). No event."""
        state = self._streams.get(stream)
        if state is not None:
            self._write(rst_stream_frame(stream, code))
            self._drop(state, ours=True)

    def terminate(self, code: ErrorCode, reason: str) -> None:
        """GOAWAY, for good: every stream has gone, nothing more is read. ``reason``: ASCII, short. No event follows."""
        if not self._over:
            self._over = True
            self._streams.clear()
            self._write(goaway_frame(self._last, code, reason))

    def _write(self, frame: bytes) -> None:
        self._out.append(frame)
        self.pending += len(frame)

    def _send_block(self, state: Stream, block: bytes, end: bool) -> None:
        if self._block_start:
            block, self._block_start = self._block_start + block, b""
        for piece in head_frames(state.number, block, end=end):
            self._write(piece)
        if end:
            self._finish(state)

    def _send_pieces(self, stream: int, data: bytes, end: bool) -> int:
        """How many frames that took."""
        size = len(data)
        frames = 1
        if size <= MAX_FRAME:
            self._out += (frame_header(size, DATA, END_STREAM if end else 0, stream), data)
        else:
            frames = -(-size // MAX_FRAME)
            for at in range(0, size, MAX_FRAME):
                piece = data[at : at + MAX_FRAME]
                last = at + MAX_FRAME >= size
                self._out += (frame_header(len(piece), DATA, END_STREAM if end and last else 0, stream), piece)
        self.pending += size + 9 * frames
        return frames

    def _finish(self, state: Stream) -> None:
        """Our half of a stream is whole."""
        state.done = True
        self._resets.earn(self._limits.reset_tokens_a_response)
        if state.ended:
            self._drop(state, ours=False)

    def _drop(self, state: Stream, *, ours: bool) -> None:
        """A stream has gone. ``ours``: we reset it."""
        del self._streams[state.number]
        self._remember(state.number, ours=ours)
        if state.held:
            self._free_of_connection(state.held)

    def _remember(self, stream: int, *, ours: bool) -> None:
        gone = self._gone
        gone[stream] = ours
        if len(gone) > _MAX_GONE:
            del gone[next(iter(gone))]

    def _free(self, state: Stream, size: int) -> None:
        """``size`` bytes of a stream's body are no burden any more."""
        self._free_of_connection(size)
        if state.ended:
            return
        state.freed += size
        if state.freed >= self._stream_window // 2:
            self._write(window_update_frame(state.number, state.freed))
            state.allowed += state.freed
            state.freed = 0

    def _free_of_connection(self, size: int) -> None:
        self._freed += size
        if self._freed >= self._credited_from and not self._over:
            self._write(window_update_frame(0, self._freed))
            self._allowed += self._freed
            self._freed = 0
