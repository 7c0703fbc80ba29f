"""An HTTP/2 backend under the test's control, on the `h2` library, sockets and threads: over TLS where it has a credential (ALPN
`h2`), else by prior knowledge. It can do wrong on purpose.

By default it echoes: 200 and a JSON account of the request. A script replaces that for the next streams:

    backend.script(lambda stream: stream.reset(ErrorCodes.REFUSED_STREAM))

A step gets the `Stream` as soon as its head was read, on a thread of its own.
"""

import contextlib
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

import h2.config
import h2.connection
import h2.events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential

Headers = Iterable[tuple[str, str]]


class Stream:
    """One request and its response. `headers` with the pseudo fields, in order of arrival."""

    def __init__(self, connection: "Connection", number: int, headers: list[tuple[str, str]]) -> None:
        self.connection = connection
        self.number = number
        self.headers = headers
        self.body = b""
        self.trailers: list[tuple[str, str]] = []
        self.complete = False
        self.reset_code: int | None = None

    @property
    def path(self) -> str:
        return dict(self.headers)[":path"]

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known == name]

    def wait(self, seen: Callable[["Stream"], bool] = lambda stream: stream.complete, seconds: float = 10.0) -> bytes:
        """Until the request is complete, or something else can be seen of it; its body so far. AssertionError when it is late."""
        end = time.monotonic() + seconds
        with self.connection.changed:
            while not seen(self):
                left = end - time.monotonic()
                assert left > 0 and not self.connection.gone, f"stream {self.number} of {self.path} got {len(self.body)} bytes"
                self.connection.changed.wait(left)
            return self.body

    def head(self, status: int = 200, headers: Headers = (), *, end: bool = False) -> None:
        self.connection.send(lambda h2: h2.send_headers(self.number, [(":status", str(status)), *headers], end_stream=end))

    def data(self, data: bytes, *, end: bool = False) -> None:
        """As far and as fast as the router takes it."""
        while data or end:
            piece = self.connection.send_piece(self.number, data, end=end)
            data = data[piece:]
            if not data:
                return

    def end(self, trailers: Headers = ()) -> None:
        """The end of the response, with trailers."""
        fields = list(trailers)
        if fields:
            self.connection.send(lambda h2: h2.send_headers(self.number, fields, end_stream=True))
        else:
            self.connection.send(lambda h2: h2.end_stream(self.number))

    def respond(self, body: bytes = b"", status: int = 200, headers: Headers = ()) -> None:
        self.head(status, headers, end=not body)
        if body:
            self.data(body, end=True)

    def reset(self, code: ErrorCodes = ErrorCodes.INTERNAL_ERROR) -> None:
        self.connection.send(lambda h2: h2.reset_stream(self.number, code))


Step = Callable[[Stream], object]


def in_order(*steps: Step) -> Step:
    """One step after the other."""

    def step(stream: Stream) -> None:
        for each in steps:
            each(stream)

    return step


class Connection:
    """One connection of the router's. `gone`: it has ended."""

    def __init__(self, backend: "Http2Backend", sock: socket.socket, number: int) -> None:
        self.backend = backend
        self.number = number
        self.socket = sock
        self.changed = threading.Condition()
        self.streams: dict[int, Stream] = {}
        self.most = 0  # streams at a time
        self.gone = False
        self.goaway: int | None = None  # the code of the router's
        self.events: list[h2.events.Event] = []
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))

    def send(self, say: Callable[[h2.connection.H2Connection], object]) -> None:
        """Say something, and send it."""
        with self.changed:
            if self.gone:
                raise BrokenPipeError
            say(self._h2)
            self.socket.sendall(self._h2.data_to_send())

    def send_raw(self, data: bytes) -> None:
        """Bytes behind the library's back."""
        with self.changed:
            self.socket.sendall(data)

    def send_piece(self, stream: int, data: bytes, *, end: bool) -> int:
        """How many bytes went; waits for room for the first."""
        with self.changed:
            while data and not self.gone and not self._h2.local_flow_control_window(stream):
                self.changed.wait(10)
            if self.gone:
                raise BrokenPipeError
            room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size) if data else 0
            piece = data[:room]
            self._h2.send_data(stream, piece, end_stream=end and len(piece) == len(data))
            self.socket.sendall(self._h2.data_to_send())
            return len(piece)

    def serve(self) -> None:
        limit = {SettingCodes.MAX_CONCURRENT_STREAMS: self.backend.streams}
        self._h2.local_settings = Settings(client=False, initial_values=limit)
        self._h2.initiate_connection()
        try:
            self.socket.sendall(self._h2.data_to_send())
            while data := self.socket.recv(65536):
                with self.changed:
                    for event in self._h2.receive_data(data):
                        self._take(event)
                    self.socket.sendall(self._h2.data_to_send())
                    self.changed.notify_all()
        except (OSError, ProtocolError) as error:
            self.backend.errors.append(f"{type(error).__name__}: {error}")
        finally:
            with self.changed:
                self.gone = True
                self.changed.notify_all()
            self.close()

    def _take(self, event: h2.events.Event) -> None:
        self.events.append(event)
        match event:
            case h2.events.RequestReceived():
                stream = Stream(self, event.stream_id, [(str(name), str(value)) for name, value in event.headers])
                self.streams[stream.number] = stream
                self.most = max(self.most, self._h2.open_inbound_streams)
                self.backend.arrived(stream)
            case h2.events.DataReceived():
                self.streams[event.stream_id].body += event.data
                if self.backend.reading:
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.TrailersReceived():
                self.streams[event.stream_id].trailers = [(str(name), str(value)) for name, value in event.headers]
            case h2.events.StreamEnded():
                self.streams[event.stream_id].complete = True
            case h2.events.StreamReset():
                self.streams[event.stream_id].reset_code = event.error_code
            case h2.events.ConnectionTerminated():
                self.goaway = event.error_code
            case _:
                pass

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Http2Backend(EchoBackend):
    """Listens from construction to `stop`. `requests` are its streams in order of arrival, `links` its connections; `streams` is
    how many it allows at a time; `reading` False: it takes no more of bodies than fits the first windows.
    """

    def __init__(
        self, name: str = "http2", *, credential: Credential | None = None, client_ca: CA | None = None, streams: int = 128
    ) -> None:
        self.requests: list[Stream] = []
        self.links: list[Connection] = []
        self.streams = streams
        self.reading = True
        self._next: deque[Step] = deque()
        self._each: Step | None = None
        super().__init__(name, credential=credential, client_ca=client_ca)
        if self._context is not None:
            self.choose(["h2"])

    def next(self, *steps: Step) -> None:
        """Each step serves one of the next streams."""
        self._next.extend(steps)

    def each(self, step: Step | None) -> None:
        """Serve every other stream with `step`; None is echo again."""
        self._each = step

    def wait_for_requests(self, count: int = 1, seconds: float = 10.0) -> list[Stream]:
        """At least `count` requests that have begun."""
        end = time.monotonic() + seconds
        with self._changed:
            while len(self.requests) < count:
                left = end - time.monotonic()
                assert left > 0, f"{self.name} got {len(self.requests)} of {count} requests in {seconds} s"
                self._changed.wait(left)
            return list(self.requests)

    def arrived(self, stream: Stream) -> None:
        with self._changed:
            self.requests.append(stream)
            step = self._next.popleft() if self._next else self._each or echo
            self._changed.notify_all()
        self._start(self._run, step, stream)

    def _run(self, step: Step, stream: Stream) -> None:
        try:
            step(stream)
        except (OSError, ProtocolError, AssertionError) as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    def _serve(self, raw: socket.socket, number: int) -> None:
        raw.settimeout(30)
        try:
            sock = self._context.wrap_socket(raw, server_side=True) if self._context is not None else raw
        except OSError as error:
            self.errors.append(f"{type(error).__name__}: {error}")
            return
        link = Connection(self, sock, number)
        self.links.append(link)
        link.serve()

    def close_connections(self) -> None:
        for link in list(self.links):
            link.close()


def echo(stream: Stream) -> None:
    """200 and what was asked."""
    body = stream.wait()
    account = {"headers": stream.headers, "length": len(body), "trailers": stream.trailers}
    stream.respond(json.dumps(account).encode(), headers=[("content-type", "application/json")])
