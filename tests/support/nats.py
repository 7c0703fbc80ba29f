"""The real nats-server, and a tiny blocking client of it for tests: publish, subscribe, request.

`NatsConnection` is the protocol by hand, so that tests can send what a proper client would refuse to.
"""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from router.demo import nats_server


class NatsServer(nats_server.NatsServer):
    """It asks for no sign of life: a connection of a test that rests for minutes answers none, and would be closed."""

    def __init__(self, directory: Path, extra: str = "") -> None:
        super().__init__(directory, f'ping_interval: "1h"\n{extra}')


class NatsMessage(NamedTuple):
    """One message as delivered."""

    subject: str
    reply: str | None
    data: bytes


class NatsConnection:
    """One blocking connection; every publish returns only when the server has taken the message."""

    def __init__(self, port: int, *, timeout: float = 10.0, options: Mapping[str, Any] | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each flush waits 40 ms for an ACK
        self._file = self._socket.makefile("rb")
        self._inbox: list[NatsMessage] = []
        self._subscriptions = 0
        self.info: dict[str, Any] = json.loads(self._file.readline().removeprefix(b"INFO "))
        connect = {"verbose": False, "pedantic": False, "protocol": 1, "lang": "test", "version": "1"}
        try:
            self._socket.sendall(b"CONNECT %s\r\n" % json.dumps({**connect, **(options or {})}).encode())
            self.flush()
        except ConnectionError:  # it does not let us in
            self.close()
            raise

    def publish(self, subject: str, data: bytes, *, reply: str = "", flush: bool = True) -> None:
        """Send `data`; with `flush`, wait until the server has taken it."""
        head = f"PUB {subject} {reply + ' ' if reply else ''}{len(data)}\r\n"
        self._socket.sendall(head.encode() + data + b"\r\n")
        if flush:
            self.flush()

    def subscribe(self, subject: str) -> None:
        """From the return on, every message on `subject` reaches `next_message`."""
        self._subscriptions += 1
        self._socket.sendall(f"SUB {subject} {self._subscriptions}\r\n".encode())
        self.flush()

    def next_message(self) -> NatsMessage:
        """The next message; TimeoutError when none comes within the connection's timeout."""
        while not self._inbox:
            self._read_one()
        return self._inbox.pop(0)

    def request(self, subject: str, data: bytes = b"") -> NatsMessage:
        """Publish with a reply subject and wait for the answer."""
        inbox = f"_INBOX.test.{self._subscriptions}"
        self.subscribe(inbox)
        self.publish(subject, data, reply=inbox)
        while True:
            message = self.next_message()
            if message.subject == inbox:
                return message

    def flush(self) -> None:
        """Wait until the server has taken everything sent so far."""
        self._socket.sendall(b"PING\r\n")
        while self._read_one() != b"PONG":
            pass

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_one(self) -> bytes:
        line = self._file.readline()
        if not line:
            raise ConnectionError("the NATS server closed the connection")
        word, _, rest = line.rstrip(b"\r\n").partition(b" ")
        match word.upper():
            case b"PING":
                self._socket.sendall(b"PONG\r\n")
            case b"MSG":
                parts = rest.decode().split(" ")
                data = self._file.read(int(parts[-1]) + 2)[:-2]
                self._inbox.append(NatsMessage(parts[0], parts[2] if len(parts) == 4 else None, data))
            case b"-ERR":
                raise ConnectionError(f"the NATS server refused: {rest.decode()}")
        return word.upper()
