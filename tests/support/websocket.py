"""WebSocket peers on raw sockets (RFC 6455): the handshake by hand, and just enough of the frames to tell them apart."""

import base64
import hashlib
import os
import struct
from collections.abc import Callable

from tests.support.backend import Exchange, Step
from tests.support.client import Client, Response

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The key of RFC 6455 section 1.3; `accept_of(KEY)` is s3pPLMBiTxaQ9kYGzzhZRbK+xOo=."""
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

TEXT, CLOSE, PING = 1, 8, 9


def accept_of(key: str) -> str:
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()


def opening(host: str, target: str = "/", *more: str, key: str = KEY) -> bytes:
    """A client's handshake; `more` are whole field lines."""
    lines = [
        f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", *more,
    ]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode()


def switching(key: str = KEY, *more: str, protocol: str = "websocket") -> bytes:
    """A server's 101."""
    lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", f"Upgrade: {protocol}"]
    if key:
        lines.append(f"Sec-WebSocket-Accept: {accept_of(key)}")
    return "\r\n".join([*lines, *more, "", ""]).encode()


def frame(payload: bytes, kind: int = TEXT, *, masked: bool = False) -> bytes:
    """One final frame."""
    size = len(payload)
    bit = 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", 0x80 | kind, bit | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | kind, bit | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | kind, bit | 127, size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def read_frame(read: Callable[[int], bytes]) -> bytes:
    """The payload of the next frame, unmasked; `read` returns exactly so many bytes."""
    first = read(2)
    size = first[1] & 0x7F
    if size == 126:
        (size,) = struct.unpack("!H", read(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", read(8))
    mask = read(4) if first[1] & 0x80 else b""
    payload = read(size)
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)) if mask else payload


class Reader:
    """Reads exact amounts from a client or a backend's exchange."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._held = b""

    def __call__(self, size: int) -> bytes:
        while len(self._held) < size:
            more = self._receive(65536)
            if not more:
                raise EOFError(f"ended {size - len(self._held)} bytes early, after {self._held[:200]!r}")
            self._held += more
        data, self._held = self._held[:size], self._held[size:]
        return data


def echo(exchange: Exchange) -> None:
    """A server that answers each frame with its payload, until the client ends or closes."""
    exchange.send(switching(exchange.request.get("sec-websocket-key") or ""))
    read = Reader(exchange.recv)
    try:
        while True:
            payload = read_frame(read)
            exchange.send(frame(payload))
            if payload == b"bye":
                return
    except EOFError:
        return
    finally:
        exchange.close()


def server(after: Callable[[Exchange], object], *, first: bytes = b"") -> Step:
    """A server that agrees, sends `first` behind its head, and goes on as told."""

    def step(exchange: Exchange) -> None:
        exchange.send(switching(exchange.request.get("sec-websocket-key") or "") + first)
        after(exchange)

    return step


def open_websocket(client: Client, host: str, target: str = "/", *more: str) -> Response:
    """The handshake; AssertionError where it is refused."""
    client.send(opening(host, target, *more))
    response = client.read_response()
    assert (response.status, response.get("sec-websocket-accept")) == (101, accept_of(KEY)), response
    assert (response.get("connection"), response.get("upgrade")) == ("Upgrade", "websocket")
    return response
