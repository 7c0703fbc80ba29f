"""An HTTP/2 client over plain TCP for the tests in this process: the `h2` library, which judges what it is sent."""

import socket
from collections.abc import Iterable, Sequence
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

SECONDS = 10.0
Names = Sequence[tuple[str, str]]


class Answer:
    """What has come on one stream."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.interim: list[int] = []
        self.body = b""
        self.trailers: list[tuple[str, str]] = []
        self.reset: int | None = None
        self.over = False


class Caller:
    """One connection; blocks."""

    def __init__(self, port: int, window: int = 65_535) -> None:
        """`window`: bytes that a stream may be sent ahead."""
        self.sock = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.h2 = H2Connection(H2Configuration())
        self.answers: dict[int, Answer] = {}
        self.goodbye: ConnectionTerminated | None = None
        self.ended = False
        self.late = b""  # what came after it: the library reads no more then
        self.credit = True  # are windows opened as data comes?
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def send(self, host: str, path: str = "/", method: str = "GET", headers: Names = (), *, body: bytes | None = None) -> int:
        """Begin a request; `body` None leaves it open, b"" is none."""
        stream = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "http"), (":authority", host), (":path", path)]
        self.h2.send_headers(stream, [*pseudo, *headers], end_stream=body == b"")
        if body:
            self.h2.send_data(stream, body, end_stream=True)
        self.answers[stream] = Answer()
        self.flush()
        return stream

    def get(self, host: str, path: str = "/") -> Answer:
        return self.wait(self.send(host, path, body=b""))

    def wait(self, stream: int) -> Answer:
        """The whole answer, or its reset, or the connection's end."""
        while not self.answers[stream].over and not self.ended:
            self.turn()
        return self.answers[stream]

    def wait_end(self) -> ConnectionTerminated | None:
        while not self.ended:
            self.turn()
        return self.goodbye

    def turn(self) -> None:
        """One read."""
        data = self.sock.recv(65536)
        self.ended = not data
        if self.goodbye is not None:
            self.late += data
            return
        for event in self.h2.receive_data(data):
            self._take(event)
        if not self.ended:
            self.flush()

    def _take(self, event: Event) -> None:
        match event:
            case InformationalResponseReceived():
                self.answers[event.stream_id].interim.append(int(_texts(event.headers)[0][1]))
            case ResponseReceived():
                answer = self.answers[event.stream_id]
                answer.headers = dict(_texts(event.headers))
                answer.status = int(answer.headers[":status"])
            case DataReceived():
                self.answers[event.stream_id].body += event.data
                if self.credit:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case TrailersReceived():
                self.answers[event.stream_id].trailers = _texts(event.headers)
            case StreamEnded():
                self.answers[event.stream_id].over = True
            case StreamReset():
                self.answers[event.stream_id].reset = event.error_code
                self.answers[event.stream_id].over = True
            case ConnectionTerminated():
                self.goodbye = event
            case _:
                pass


def _texts(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
