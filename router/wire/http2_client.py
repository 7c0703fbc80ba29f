"""The client's side of an HTTP/2 connection: bytes to events, requests to bytes.

Promises: `receive` never raises; what is wrong with one stream ends that stream alone (RST_STREAM), what is wrong with the
connection ends it (GOAWAY, and `Ended` is its last event). A GOAWAY of the peer leaves the streams that it will still answer as
they are. Everything a peer can make us hold or do is bounded: heads by bytes and fields, bodies by windows, frames that bring
nothing by a budget that grows with what is really exchanged.
Refuses to know: sockets, clocks, what a fault means.
Source: RFC 9113; RFC 9110 for what a message is.

The library `h2` is not under this: it ends the whole connection at a GOAWAY and at most errors of one stream, so that one strange
response would cost all other clients theirs.
"""

from collections.abc import Callable
from typing import Final

from router.wire.framing import CHUNKED
from router.wire.headers import Fields
from router.wire.hpack_blocks import BlockDecoder, BlockFault
from router.wire.hpack_client import FORGET, encode
from router.wire.http2_client_events import ClientLimits, Data, Ended, Event, GoneAway, Head, Ready, Reset, Trailers, Window
from router.wire.http2_client_heads import response_head, trailer_fields
from router.wire.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_WINDOW,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame_header,
    goaway_frame,
    head_frames,
    rst_stream_frame,
    settings_frame,
    window_update_frame,
)
from router.wire.malformed import Malformed

_LAST_STREAM: Final = 2**31 - 1
_LEAST: Final = 256
"""What a piece of a body costs at least that comes too late, in bytes."""
_LENGTHS: Final = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_ON_STREAMS: Final = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION})
_ON_CONNECTION: Final = frozenset({SETTINGS, PING, GOAWAY})


class _Broken(Exception):
    """A connection error; `stream`: whose head was too much."""

    def __init__(self, code: ErrorCode, reason: str, stream: int = 0) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.stream = stream


class _Stream:
    """`sends` and `receives`: the side is still open; `left`: body bytes that are still due, CHUNKED where nobody said."""

    __slots__ = ("answered", "credit", "left", "method", "receive_window", "receives", "send_window", "sends")

    def __init__(self, method: bytes, send_window: int, receive_window: int) -> None:
        self.method = method
        self.send_window = send_window
        self.receive_window = receive_window
        self.credit = 0
        self.sends = self.receives = True
        self.answered = False
        self.left = CHUNKED


class ClientConnection:
    """One connection. `ready` and `closing` say whether it takes new streams; `peer_streams` is how many at a time."""

    def __init__(self, limits: ClientLimits) -> None:
        self.limits = limits
        self.ready = False
        self.closing = False
        self.ended = False
        self.peer_streams = MAX_WINDOW
        self._rest = b""
        self._streams: dict[int, _Stream] = {}
        self._next = 1
        self._most_block = 2 * limits.head_bytes
        self._decoder = BlockDecoder(2 * (limits.head_bytes + 32 * limits.fields))
        self._block = bytearray()
        self._block_of = 0
        self._block_ends = False
        self._send_window = self._initial = DEFAULT_WINDOW
        self._receive_window = limits.connection_window
        self._credit = 0
        self._late = 0  # bytes that may still come on streams that we gave up
        self._spare = float(limits.spare_frames)
        self._seen = 0.0
        self._out = bytearray(PREFACE)
        told = limits.head_bytes + 32 * limits.fields  # as RFC 9113 counts
        ours = [(ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, limits.window), (MAX_HEADER_LIST_SIZE, told)]
        self._out += settings_frame(ours)
        self._give(0, limits.connection_window - DEFAULT_WINDOW)
        self._first = FORGET

    # ---- what is to be sent

    @property
    def pending(self) -> int:
        """Bytes that `take_output` would return."""
        return len(self._out)

    def take_output(self) -> bytes:
        out = bytes(self._out)
        self._out.clear()
        return out

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    @property
    def exhausted(self) -> bool:
        """Are there no more numbers for streams?"""
        return self._next > _LAST_STREAM

    def open(self, method: bytes, fields: Fields, *, end: bool) -> int:
        """A new stream with these fields, pseudo fields first (see `http2_heads.request_fields`); its number."""
        stream = self._next
        self._next += 2
        block = self._first + encode(fields)
        self._first = b""
        self._send_block(stream, block, end=end)
        made = self._streams[stream] = _Stream(method, self._initial, self.limits.window)
        made.sends = not end
        self._earn(20)
        return stream

    def room(self, stream: int) -> int:
        """Body bytes that its windows allow to send."""
        known = self._streams.get(stream)
        return max(0, min(known.send_window, self._send_window)) if known is not None else 0

    def sends(self, stream: int) -> bool:
        """Does the peer still take this stream's body?"""
        known = self._streams.get(stream)
        return known is not None and known.sends

    def send_data(self, stream: int, data: bytes | memoryview, most: int, *, end: bool) -> int:
        """How many bytes were taken, at most `most`; the stream is ended (`end`) only with the last of them."""
        known = self._streams.get(stream)
        if known is None or not known.sends:
            return len(data)
        size = min(len(data), most, max(0, min(known.send_window, self._send_window)))
        known.send_window -= size
        self._send_window -= size
        last = end and size == len(data)
        for at in range(0, size, MAX_FRAME):
            piece = data[at : min(at + MAX_FRAME, size)]
            self._frame(DATA, END_STREAM if last and at + MAX_FRAME >= size else 0, stream, piece)
        self._earn(2 + size // 256)  # some open the windows anew for every few hundred bytes that their app reads
        if last:
            if not data:
                self._frame(DATA, END_STREAM, stream, b"")
            self._end_ours(stream, known)
        return size

    def send_trailers(self, stream: int, fields: Fields) -> None:
        """Ends the stream's request."""
        known = self._streams.get(stream)
        if known is not None and known.sends:
            self._send_block(stream, self._first + encode([(name.lower(), value) for name, value in fields]), end=True)
            self._first = b""
            self._end_ours(stream, known)

    def consumed(self, stream: int, size: int) -> None:
        """Body bytes were handed on: as many may come again."""
        known = self._streams.get(stream)
        if known is not None and known.receives:
            self._credit_stream(stream, known, size)

    def reset(self, stream: int, code: ErrorCode) -> None:
        """Give a stream up; nothing of it is told any more."""
        known = self._streams.pop(stream, None)
        if known is not None and not self.ended:
            if known.receives:
                self._late = min(self._late + self.limits.window, self.limits.connection_window)
            self._out += rst_stream_frame(stream, code)

    def terminate(self, code: ErrorCode) -> None:
        """Say goodbye."""
        if not self.ended:
            self.ended = self.closing = True
            self._out += goaway_frame(0, code, "")
            self._streams.clear()

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes | memoryview) -> None:
        self._out += frame_header(len(payload), kind, flags, stream)
        self._out += payload

    def _send_block(self, stream: int, block: bytes, *, end: bool) -> None:
        for part in head_frames(stream, block, end=end):
            self._out += part

    def _give(self, stream: int, size: int) -> None:
        if size > 0:
            self._out += window_update_frame(stream, size)

    def _credit_stream(self, stream: int, known: _Stream, size: int) -> None:
        known.credit += size
        if known.credit * 2 >= self.limits.window:
            self._give(stream, known.credit)
            known.receive_window += known.credit
            known.credit = 0

    def _end_ours(self, stream: int, known: _Stream) -> None:
        known.sends = False
        if not known.receives:
            del self._streams[stream]

    # ---- what has come

    def receive(self, data: bytes, now: float) -> list[Event]:
        """What `data` brings; `now` in seconds, of any clock that does not go back."""
        events: list[Event] = []
        if self.ended:
            return events
        self._spare = min(self.limits.spare_frames, self._spare + (now - self._seen) * self.limits.spare_rate)
        self._seen = now
        if self._rest:
            data = self._rest + data
        try:
            self._rest = data[self._take_frames(data, events) :]
            if len(self._out) > self.limits.held_bytes:
                raise _Broken(ErrorCode.ENHANCE_YOUR_CALM, "reads_nothing")
        except _Broken as broken:
            self._rest = b""
            if broken.stream in self._streams:
                events.append(Reset(broken.stream, broken.code, False, broken.reason, True))
            self.terminate(broken.code)
            events.append(Ended(broken.code, broken.reason))
        return events

    def _take_frames(self, data: bytes, events: list[Event]) -> int:
        """Where the first frame begins that is not complete."""
        at, end = 0, len(data)
        while end - at >= 9:
            size = int.from_bytes(data[at : at + 3])
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + 9]) & _LAST_STREAM
            if not self.ready and (kind != SETTINGS or flags & ACK):
                raise _Broken(ErrorCode.PROTOCOL_ERROR, "http1" if data[:5] == b"HTTP/" else "not_http2")
            if size > MAX_FRAME:
                raise _Broken(ErrorCode.FRAME_SIZE_ERROR, "frame_too_large")
            if end - at - 9 < size:
                break
            at += 9
            self._take(kind, flags, stream, data[at : at + size], events)
            at += size
        return at

    def _take(self, kind: int, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        if self._block_of and (kind != CONTINUATION or stream != self._block_of):
            raise _Broken(ErrorCode.PROTOCOL_ERROR, "block_interrupted")
        if (kind in _ON_STREAMS and not stream) or (kind in _ON_CONNECTION and stream):
            raise _Broken(ErrorCode.PROTOCOL_ERROR, "wrong_stream")
        if _LENGTHS.get(kind, len(payload)) != len(payload):
            raise _Broken(ErrorCode.FRAME_SIZE_ERROR, "bad_frame_size")
        if kind in _ON_STREAMS and kind != PRIORITY and (stream % 2 == 0 or stream >= self._next):
            raise _Broken(ErrorCode.PROTOCOL_ERROR, "idle_stream")
        taker = _TAKERS.get(kind)
        if taker is None:  # PRIORITY, and what we do not know
            self._spend()
        else:
            taker(self, flags, stream, payload, events)

    def _spend(self) -> None:
        """A frame that brings nothing."""
        self._spare -= 1
        if self._spare < 0:
            raise _Broken(ErrorCode.ENHANCE_YOUR_CALM, "flood")

    def _earn(self, frames: int) -> None:
        """What is really exchanged makes room for the frames that go with it."""
        self._spare = min(self.limits.spare_frames, self._spare + frames)

    def _take_data(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        size = len(payload)
        if size > self._receive_window:
            raise _Broken(ErrorCode.FLOW_CONTROL_ERROR, "connection_window")
        self._receive_window -= size
        # The connection's window is opened at once: what is held is bounded by the streams' windows, whoever reads them.
        self._credit += size
        if self._credit * 4 >= self.limits.connection_window:
            self._give(0, self._credit)
            self._receive_window += self._credit
            self._credit = 0
        data = _unpadded(flags, payload)
        ended = bool(flags & END_STREAM)
        known = self._streams.get(stream)
        if known is None:
            self._take_late(size)
            return
        if data:
            self._earn(1)
        elif not ended:
            self._spend()
        known.receive_window -= size
        if known.receive_window < 0:
            self._refuse(stream, ErrorCode.FLOW_CONTROL_ERROR, "stream_window", events)
        elif not known.answered or not known.receives:
            self._refuse(stream, ErrorCode.PROTOCOL_ERROR, "data_out_of_turn", events)
        elif known.left != CHUNKED and (len(data) > known.left or (ended and len(data) < known.left)):
            self._refuse(stream, ErrorCode.PROTOCOL_ERROR, "wrong_length", events)
        else:
            if known.left != CHUNKED:
                known.left -= len(data)
            events.append(Data(stream, data, ended))
            if ended:
                self._end_theirs(stream, known)
            elif size > len(data):
                self._credit_stream(stream, known, size - len(data))

    def _take_late(self, size: int) -> None:
        """A piece of a body that nobody wants any more."""
        self._late -= max(size, _LEAST)
        if self._late < 0:
            self._late = 0
            self._spend()

    def _take_headers(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        block = _unpadded(flags, payload)
        if flags & HAS_PRIORITY:
            if len(block) < 5:
                raise _Broken(ErrorCode.FRAME_SIZE_ERROR, "bad_frame_size")
            block = block[5:]
        self._block_ends = bool(flags & END_STREAM)
        if flags & END_HEADERS:
            self._take_block(stream, block, events)
        else:
            self._block_of = stream
            self._block += block

    def _take_continuation(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        if not self._block_of:
            raise _Broken(ErrorCode.PROTOCOL_ERROR, "continues_nothing")
        self._spend()
        self._block += payload
        if len(self._block) > self._most_block:
            raise _Broken(ErrorCode.ENHANCE_YOUR_CALM, "head_too_large", self._block_of)
        if flags & END_HEADERS:
            block = bytes(self._block)
            self._block_of = 0
            self._block.clear()
            self._take_block(stream, block, events)

    def _take_block(self, stream: int, block: bytes, events: list[Event]) -> None:
        fields = self._decoder.decode(block)
        if isinstance(fields, BlockFault):
            large = fields.code == ErrorCode.ENHANCE_YOUR_CALM
            raise _Broken(fields.code, "head_too_large" if large else fields.reason, stream if large else 0)
        known, ended = self._streams.get(stream), self._block_ends
        if known is None:
            self._spend()
        elif not known.receives:
            self._refuse(stream, ErrorCode.STREAM_CLOSED, "head_out_of_turn", events)
        elif known.answered:
            self._take_trailers(stream, known, fields, events, ended=ended)
        else:
            self._take_head(stream, known, fields, events, ended=ended)

    def _take_head(self, stream: int, known: _Stream, fields: Fields, events: list[Event], *, ended: bool) -> None:
        head = response_head(fields, known.method, ended=ended)
        if isinstance(head, Malformed):
            self._refuse(stream, ErrorCode.PROTOCOL_ERROR, head.reason, events)
            return
        if head.status < 200:
            self._spend()
        else:
            known.answered = True
            known.left = head.body
        events.append(Head(stream, head, ended))
        if ended:
            self._end_theirs(stream, known)

    def _take_trailers(self, stream: int, known: _Stream, fields: Fields, events: list[Event], *, ended: bool) -> None:
        heard = trailer_fields(fields)
        if isinstance(heard, Malformed):
            self._refuse(stream, ErrorCode.PROTOCOL_ERROR, heard.reason, events)
        elif (
            len(fields) > self.limits.trailers
            or sum(len(name) + len(value) for name, value in fields) > self.limits.trailer_bytes
        ):
            self._refuse(stream, ErrorCode.ENHANCE_YOUR_CALM, "trailers_too_large", events)
        elif not ended or known.left > 0:
            self._refuse(stream, ErrorCode.PROTOCOL_ERROR, "wrong_length" if ended else "second_head", events)
        else:
            events.append(Trailers(stream, heard))
            self._end_theirs(stream, known)

    def _end_theirs(self, stream: int, known: _Stream) -> None:
        known.receives = False
        if not known.sends:
            del self._streams[stream]

    def _refuse(self, stream: int, code: ErrorCode, reason: str, events: list[Event]) -> None:
        """A stream error."""
        self.reset(stream, code)
        events.append(Reset(stream, code, False, reason, True))

    def _take_reset(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        code = int.from_bytes(payload)
        if self._streams.pop(stream, None) is None:
            self._spend()
        else:
            unprocessed = (ErrorCode.REFUSED_STREAM, ErrorCode.HTTP_1_1_REQUIRED)
            events.append(Reset(stream, code, True, "", code not in unprocessed))

    def _take_settings(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) % (6 if not flags & ACK else MAX_FRAME + 1):
            raise _Broken(ErrorCode.FRAME_SIZE_ERROR, "bad_frame_size")
        if flags & ACK or not payload:
            self._spend()
        if flags & ACK:
            return
        for at in range(0, len(payload), 6):
            self._set(int.from_bytes(payload[at : at + 2]), int.from_bytes(payload[at + 2 : at + 6]))
        self._frame(SETTINGS, ACK, 0, b"")
        if not self.ready:
            self.ready = True
            events.append(Ready())
        events.append(Window(0))

    def _set(self, key: int, value: int) -> None:
        self._spend()
        if (key == ENABLE_PUSH and value) or (key == MAX_FRAME_SIZE and not MAX_FRAME <= value < 2**24):
            raise _Broken(ErrorCode.PROTOCOL_ERROR, "bad_setting")
        if key == MAX_CONCURRENT_STREAMS:
            self.peer_streams = value
        elif key == INITIAL_WINDOW_SIZE:
            change = value - self._initial
            if value > MAX_WINDOW or any(each.send_window + change > MAX_WINDOW for each in self._streams.values()):
                raise _Broken(ErrorCode.FLOW_CONTROL_ERROR, "bad_setting")
            self._initial = value
            for each in self._streams.values():
                each.send_window += change

    def _take_window(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        more = int.from_bytes(payload) & MAX_WINDOW
        self._spend()
        if stream == 0:
            self._send_window += more
            if not more or self._send_window > MAX_WINDOW:
                raise _Broken(ErrorCode.PROTOCOL_ERROR if not more else ErrorCode.FLOW_CONTROL_ERROR, "bad_window")
        elif stream % 2 == 0 or stream >= self._next:
            raise _Broken(ErrorCode.PROTOCOL_ERROR, "idle_stream")
        elif (known := self._streams.get(stream)) is None:
            return
        else:
            known.send_window += more
            if not more or known.send_window > MAX_WINDOW:
                code = ErrorCode.PROTOCOL_ERROR if not more else ErrorCode.FLOW_CONTROL_ERROR
                self._refuse(stream, code, "bad_window", events)
                return
        events.append(Window(stream))

    def _take_push(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        raise _Broken(ErrorCode.PROTOCOL_ERROR, "push")

    def _take_ping(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        self._spend()
        if not flags & ACK:
            self._frame(PING, ACK, 0, payload)

    def _take_goaway(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        self._spend()
        if len(payload) < 8:
            raise _Broken(ErrorCode.FRAME_SIZE_ERROR, "bad_frame_size")
        last, code = int.from_bytes(payload[:4]) & _LAST_STREAM, int.from_bytes(payload[4:8])
        self.closing = True
        for each in [each for each in self._streams if each > last]:
            del self._streams[each]
            events.append(Reset(each, code, True, "goaway", False))
        events.append(GoneAway(code))


_TAKERS: Final[dict[int, Callable[[ClientConnection, int, int, bytes, list[Event]], None]]] = {
    DATA: ClientConnection._take_data,
    HEADERS: ClientConnection._take_headers,
    RST_STREAM: ClientConnection._take_reset,
    SETTINGS: ClientConnection._take_settings,
    PUSH_PROMISE: ClientConnection._take_push,
    PING: ClientConnection._take_ping,
    GOAWAY: ClientConnection._take_goaway,
    WINDOW_UPDATE: ClientConnection._take_window,
    CONTINUATION: ClientConnection._take_continuation,
}


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise _Broken(ErrorCode.PROTOCOL_ERROR, "bad_padding")
    return payload[1 : len(payload) - payload[0]]


def _size(fields: Fields) -> int:
    return sum([len(name) + len(value) for name, value in fields])
