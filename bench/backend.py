"""A small backend: WebSockets that echo, and where nginx is not installed 1 KiB to every request (10 MiB for `/bulk`).

`python -m bench.backend PORT`.
"""

import asyncio
import base64
import hashlib
import re
import sys
from typing import cast

import uvloop

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
ANSWER = HEAD % 1024 + b"x" * 1024
BULK = HEAD % (10 << 20) + bytes(10 << 20)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %b\r\n\r\n"

_KEY = re.compile(rb"\r\nsec-websocket-key: *(\S+)", re.IGNORECASE)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


class Backend(asyncio.Protocol):
    """One connection. Requests have no body, and the proxies under test send each head in one piece."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._upgraded = False

    def data_received(self, data: bytes) -> None:
        if self._upgraded:
            self._transport.write(data)
        elif key := _KEY.search(data):
            self._upgraded = True
            self._transport.write(SWITCH % base64.b64encode(hashlib.sha1(key[1] + _GUID).digest()))
        elif data.startswith(b"GET /bulk"):
            self._transport.write(BULK)
        else:
            self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def serve(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
