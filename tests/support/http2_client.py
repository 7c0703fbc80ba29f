"""HTTP/2 clients on a blocking thread: one that keeps every rule, and one that sends whatever frames it is told to.

`Http2Client` is the `h2` library over TLS (ALPN h2) or plain TCP: the library judges every byte the server sends, and its
exception fails the test. `FrameClient` sends frames, or bytes that are none, and only notes what comes back. Both read while
they write, so that neither a full window nor a full socket stalls them, and every wait has a deadline.
"""

import contextlib
import dataclasses
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self, TypeVar

import h2.events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes
from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from OpenSSL import SSL

from tests.support.client import Tls, client_context

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SECONDS = 10.0
"""How long any wait may take before AssertionError."""

T = TypeVar("T")
Names = Iterable[tuple[str | bytes, str | bytes]]


class Code:
    """Error codes (RFC 9113 section 7) that tests name."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Goodbye(NamedTuple):
    """A GOAWAY."""

    code: int
    last: int
    words: bytes


@dataclass(slots=True)
class Answer:
    """What has come on one stream so far. `reset` is the code of a RST_STREAM; `interim` are whole 1xx heads."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list[tuple[int, list[tuple[str, str]]]] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def over(self) -> bool:
        """Nothing more comes."""
        return self.ended or self.reset is not None

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known == name]

    def get(self, name: str) -> str | None:
        """The only value of a header; None where it is absent. Two values are a failure."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def refusal(self) -> tuple[int, str | None]:
        """Status and code of a refusal by the router."""
        return self.status, self.get("x-cf-routererror")

    def head(self, fields: list[tuple[str, str]]) -> None:
        """Take the fields of a header block: an interim head, the final one, or trailers."""
        if self.status:
            self.trailers = fields
        else:
            status = int(dict(fields)[":status"])
            rest = [pair for pair in fields if pair[0] != ":status"]
            if status < 200:
                self.interim.append((status, rest))
            else:
                self.status, self.headers = status, rest


class Link:
    """One connection, as frames: what comes is cut into frames and handed to `_take`, in order."""

    def __init__(self, port: int, tls: Tls | None) -> None:
        """`tls=None` is plain TCP. ALPN is h2 alone unless `tls` names others."""
        self.socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.frames: list[Frame] = []
        self.answers: dict[int, Answer] = {}
        self.goodbye: Goodbye | None = None
        self.pings: list[bytes] = []  # answered ones
        self.ended = False
        self.reading = True
        self._rest = b""
        self._block = b""
        self._unsent = b""
        self.tls = None if tls is None else self._handshake(tls)
        self.protocol = b"" if self.tls is None else self.tls.get_alpn_proto_negotiated()
        self.socket.setblocking(False)

    def _handshake(self, tls: Tls) -> SSL.Connection:
        """TLS in memory: an error of the socket while we write does not keep us from reading what came before it."""
        tls = tls if tls.alpn else dataclasses.replace(tls, alpn=[b"h2"])
        connection = SSL.Connection(client_context(tls, lambda *_: None), None)
        if tls.sni is not None:
            connection.set_tlsext_host_name(tls.sni if isinstance(tls.sni, bytes) else tls.sni.encode())
        connection.set_connect_state()
        while True:
            try:
                connection.do_handshake()
            except SSL.WantReadError:
                self.socket.sendall(_outgoing(connection))
                data = self.socket.recv(65_536)
                assert data, "the server ended the handshake"
                connection.bio_write(data)
            else:
                self.socket.sendall(_outgoing(connection))
                return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def abandon(self) -> None:
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def answer(self, stream: int) -> Answer:
        return self.answers.setdefault(stream, Answer())

    def wait(self, probe: Callable[[], T | None], what: str, seconds: float = SECONDS) -> T:
        """Read until `probe` says something truthy; AssertionError after the deadline, or where the server ends before it."""
        end = time.monotonic() + seconds
        while not (value := probe()):
            assert not self.ended, f"the server ended before {what}; goodbye: {self.goodbye}"
            left = end - time.monotonic()
            assert left > 0, f"waited {seconds} s in vain for {what}; goodbye: {self.goodbye}"
            self._turn(left)
        return value

    def response(self, stream: int) -> Answer:
        """The whole answer on a stream, or its reset."""
        self.wait(lambda: self.answer(stream).over, f"the answer on stream {stream} (now {self.answer(stream)})")
        return self.answer(stream)

    def wait_end(self, seconds: float = SECONDS) -> Goodbye | None:
        """Wait until the server ends the connection; the GOAWAY it sent before."""
        end = time.monotonic() + seconds
        while not self.ended:
            left = end - time.monotonic()
            assert left > 0, f"the server did not end the connection in {seconds} s; goodbye: {self.goodbye}"
            self._turn(left)
        return self.goodbye

    def write(self, data: bytes) -> bool:
        """Send it all, reading meanwhile; False where the server ended the connection before."""
        end = time.monotonic() + SECONDS
        for at in range(0, len(data), 65_536):
            self._unsent += self._sealed(data[at : at + 65_536])
            while self._unsent and not self.ended:
                left = end - time.monotonic()
                assert left > 0, f"{len(data) - at} bytes could not be sent in {SECONDS} s"
                self._write_some()
                self._turn(left if self._unsent else 0, writing=bool(self._unsent))
        return not self.ended

    def _sealed(self, data: bytes) -> bytes:
        if self.tls is None:
            return data
        while data:
            data = data[self.tls.send(data) :]
        return _outgoing(self.tls)

    def _write_some(self) -> None:
        try:
            self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:  # what it said before is still to be read
            while self._read_some():
                pass
            self.ended = True

    def _turn(self, seconds: float, *, writing: bool = False) -> None:
        """Read what is there, or wait so long for it."""
        reading = [self.socket] if self.reading else []
        if not reading and not writing:
            time.sleep(min(seconds, 0.01))
            return
        readable, _, _ = select.select(reading, [self.socket] if writing else [], [], seconds)
        if readable:
            self._read_some()

    def _read_some(self) -> bool:
        """Whether something came."""
        try:
            data = self.socket.recv(262_144)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data and self.tls is not None:
            self.tls.bio_write(data)
        plain = data if self.tls is None else _opened(self.tls)
        self.ended = self.ended or not data
        if plain:
            self._cut(plain)
            self._after()
        return bool(data)

    def _cut(self, data: bytes) -> None:
        data = self._rest + data
        while len(data) >= 9 and len(data) >= (size := 9 + int.from_bytes(data[:3], "big")):
            frame, _ = Frame.parse_frame_header(memoryview(data[:9]))
            frame.parse_body(memoryview(data[9:size]))
            self.frames.append(frame)
            if isinstance(frame, GoAwayFrame):
                self.goodbye = Goodbye(frame.error_code, frame.last_stream_id, frame.additional_data)
            elif isinstance(frame, PingFrame) and "ACK" in frame.flags:
                self.pings.append(frame.opaque_data)
            self._take(frame, data[:size])
            data = data[size:]
        self._rest = data

    def _take(self, frame: Frame, raw: bytes) -> None:
        """One whole frame came."""

    def _after(self) -> None:
        """All frames that came at once were taken."""


class Http2Client(Link):
    """A client that keeps the rules: `h2` encodes, decodes and judges. With `credit=False` windows are opened by hand only."""

    def __init__(self, port: int, tls: Tls | None = None, *, credit: bool = True, window: int | None = None) -> None:
        """`window`: the initial window that we give each stream."""
        super().__init__(port, tls)
        assert tls is None or self.protocol == b"h2", f"ALPN gave {self.protocol!r}"
        self.credit = credit
        self.scheme = "http" if tls is None else "https"
        self.connection = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
        if window is not None:
            self.connection.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = window
        self.connection.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what the library has to say."""
        self.write(self.connection.data_to_send())

    def open(
        self,
        host: str,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Sequence[tuple[str, str]] = (),
        end: bool = True,
    ) -> int:
        """Begin a request; its stream."""
        stream = self.connection.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", self.scheme), (":authority", host), (":path", path)]
        self.connection.send_headers(stream, [*pseudo, *headers], end_stream=end)
        self.answer(stream)
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """A piece of a request's body, as its windows open."""
        view = memoryview(data)
        while view:
            self.wait(lambda: self.answer(stream).reset is not None or self.room(stream), f"room on stream {stream}")
            if self.answer(stream).reset is not None:
                return
            size = min(self.room(stream), len(view))
            self.connection.send_data(stream, bytes(view[:size]), end_stream=end and size == len(view))
            view = view[size:]
            self.flush()
        if end and not data:
            self.connection.end_stream(stream)
            self.flush()

    def room(self, stream: int) -> int:
        """Bytes that one DATA frame may have now."""
        return max(0, min(self.connection.local_flow_control_window(stream), self.connection.max_outbound_frame_size))

    def send_trailers(self, stream: int, fields: Sequence[tuple[str, str]]) -> None:
        self.connection.send_headers(stream, fields, end_stream=True)
        self.flush()

    def reset(self, stream: int, code: int = Code.CANCEL) -> None:
        """Nothing where the whole answer is here already."""
        if self.answer(stream).over:
            return
        self.connection.reset_stream(stream, code)
        self.flush()

    def take(self, stream: int, size: int) -> None:
        """Open the windows of a stream and of the connection by hand."""
        self.connection.increment_flow_control_window(size, stream)
        self.connection.increment_flow_control_window(size)
        self.flush()

    def ping(self) -> None:
        """A PING and its answer: everything sent before was dealt with by the server's framing."""
        before = len(self.pings)
        self.connection.ping(b"12345678")
        self.flush()
        self.wait(lambda: len(self.pings) > before, "the answer to a PING")

    def request(
        self,
        host: str,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        trailers: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """One request and its whole answer, or its reset."""
        stream = self.open(host, path, method=method, headers=headers, end=not body and not trailers)
        if body:
            self.send(stream, body, end=not trailers)
        if trailers:
            self.send_trailers(stream, trailers)
        return self.response(stream)

    def _take(self, frame: Frame, raw: bytes) -> None:
        if isinstance(frame, GoAwayFrame):
            return  # the library would refuse the rest of what comes on streams that the server still honours
        for event in self.connection.receive_data(raw):
            self._note(event)

    def _after(self) -> None:
        data = self.connection.data_to_send()
        if data:
            self.write(data)

    def _note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived | h2.events.InformationalResponseReceived):
            self.answer(event.stream_id).head([(_text(name), _text(value)) for name, value in event.headers or []])
        elif isinstance(event, h2.events.DataReceived):
            self.answer(event.stream_id).body += event.data or b""
            if self.credit and event.flow_controlled_length:
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.answer(event.stream_id).ended = True
        elif isinstance(event, h2.events.StreamReset):
            self.answer(event.stream_id).reset = int(event.error_code or 0)


class FrameClient(Link):
    """A client that sends what it is told. The preface and empty SETTINGS go first unless `greet=False`."""

    def __init__(self, port: int, tls: Tls | None = None, *, greet: bool = True, settings: dict[int, int] | None = None) -> None:
        super().__init__(port, tls)
        self.encoder = Encoder()
        self._decoder = Decoder()
        self._next = 1
        if greet:
            self.write(PREFACE + SettingsFrame(0, settings or {}).serialize())

    def next_stream(self) -> int:
        """A number that no stream has had."""
        stream, self._next = self._next, self._next + 2
        return stream

    def head(self, host: str, path: str = "/", *, method: str = "GET", more: Names = (), scheme: str = "https") -> bytes:
        """A header block of a proper request, and `more` behind it."""
        return self.block([(":method", method), (":scheme", scheme), (":authority", host), (":path", path), *more])

    def block(self, pairs: Names) -> bytes:
        """A header block of any pairs, in this order; nothing is checked."""
        return self.encoder.encode([(_bytes(name), _bytes(value)) for name, value in pairs])

    def ask(self, block: bytes, *, end: bool = True) -> int:
        """Open a stream with a header block; its number."""
        stream = self.next_stream()
        self.write(headers_frame(stream, block, end=end))
        return stream

    def _take(self, frame: Frame, raw: bytes) -> None:
        answer = self.answer(frame.stream_id)
        if isinstance(frame, DataFrame):
            answer.body += frame.data
        elif isinstance(frame, RstStreamFrame):
            answer.reset = frame.error_code
        elif isinstance(frame, HeadersFrame | ContinuationFrame):
            self._block += frame.data
            if "END_HEADERS" in frame.flags:
                fields = self._decoder.decode(self._block, raw=True)
                self._block = b""
                answer.head([(_text(name), _text(value)) for name, value in fields])
        if "END_STREAM" in frame.flags:
            answer.ended = True


def _outgoing(connection: SSL.Connection) -> bytes:
    """What OpenSSL wants to send."""
    pieces = []
    with contextlib.suppress(SSL.WantReadError):
        while piece := connection.bio_read(262_144):
            pieces.append(piece)
    return b"".join(pieces)


def _opened(connection: SSL.Connection) -> bytes:
    """What OpenSSL has understood of what came."""
    pieces = []
    with contextlib.suppress(SSL.Error):  # nothing more, or the end; the socket tells which
        while piece := connection.recv(262_144):
            pieces.append(piece)
    return b"".join(pieces)


def headers_frame(stream: int, block: bytes, *, end: bool = True) -> bytes:
    """HEADERS, whole."""
    flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
    return HeadersFrame(stream, block, flags=flags).serialize()


def data_frame(stream: int, data: bytes = b"", *, end: bool = False) -> bytes:
    return DataFrame(stream, data, flags=["END_STREAM"] if end else []).serialize()


def reset_frame(stream: int, code: int = Code.CANCEL) -> bytes:
    return RstStreamFrame(stream, code).serialize()


def window_frame(stream: int, size: int) -> bytes:
    """WINDOW_UPDATE of any size, 0 too."""
    return raw_frame(8, stream, size.to_bytes(4, "big")) if not size else WindowUpdateFrame(stream, size).serialize()


def raw_frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0, *, length: int | None = None) -> bytes:
    """A frame of any kind, flags and payload; `length` may lie."""
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")
