"""A client of HTTP/2 for tests of the frame layer: it may say anything, right or wrong, and reads what it is answered."""

from hpack import Encoder
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame

from router.wire.http2 import Event, Http2Limits, ServerConnection

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 1, 1, 4, 8, 32

Pairs = list[tuple[bytes, bytes]]
GET: Pairs = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"a.example")]
POST: Pairs = [(b":method", b"POST"), *GET[1:]]


def raw(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of any bytes: hyperframe refuses to make most of the wrong ones."""
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def literal(pairs: Pairs) -> bytes:
    """A header block that uses no table."""
    out = bytearray()
    for name, value in pairs:
        out += b"\x00" + _string(name) + _string(value)
    return bytes(out)


def _string(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes((len(text),)) + text
    rest, size = bytearray(), len(text) - 127
    while size > 127:
        rest.append(size & 127 | 128)
        size >>= 7
    return b"\x7f" + bytes(rest) + bytes((size,)) + text


def head(stream: int, pairs: Pairs = GET, *, end: bool = True) -> bytes:
    """A request's head, or trailers, in one frame."""
    flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
    return HeadersFrame(stream, data=literal(pairs), flags=flags).serialize()


def data(stream: int, payload: bytes, *, end: bool = False, padding: int | None = None) -> bytes:
    """A piece of a body."""
    flags = END_STREAM if end else 0
    if padding is None:
        return raw(DATA, flags, stream, payload)
    return raw(DATA, flags | PADDED, stream, bytes((padding,)) + payload + bytes(padding))


def settings(pairs: dict[int, int]) -> bytes:
    """The client's settings."""
    return SettingsFrame(0, settings=pairs).serialize()


def frames(output: bytes) -> list[Frame]:
    """What a server sent, read by hyperframe."""
    found, at = [], 0
    while at < len(output):
        frame, size = Frame.parse_frame_header(memoryview(output)[at : at + 9])
        frame.parse_body(memoryview(output)[at + 9 : at + 9 + size])
        found.append(frame)
        at += 9 + size
    assert at == len(output), "the output ends within a frame"
    return found


class Client:
    """Speaks to one ServerConnection, from its preface on."""

    def __init__(self, limits: Http2Limits | None = None, first: dict[int, int] | None = None) -> None:
        self.server = ServerConnection(limits or Http2Limits())
        self.encoder = Encoder()
        self.opening = frames(self.server.take_output())
        assert self.server.receive(PREFACE + settings(first or {}), 0.0) == []
        self.answers()

    def say(self, *parts: bytes, now: float = 0.0) -> list[Event]:
        """Send frames; the events that they made."""
        return self.server.receive(b"".join(parts), now)

    def answers(self) -> list[Frame]:
        """What the server sent since it was last asked; as many bytes as it said."""
        pending = self.server.pending
        output = self.server.take_output()
        assert pending == len(output)
        return frames(output)

    def resets(self) -> list[tuple[int, int]]:
        """Streams that the server reset, with the code of each; other answers are dropped."""
        return [(frame.stream_id, frame.error_code) for frame in self.answers() if isinstance(frame, RstStreamFrame)]

    def farewell(self) -> tuple[int, int, bytes]:
        """Last stream, code and text of the one GOAWAY among the answers."""
        (frame,) = [frame for frame in self.answers() if isinstance(frame, GoAwayFrame)]
        return frame.last_stream_id, frame.error_code, frame.additional_data
