"""A sample app: an HTTP server that says what it saw of its caller, registered over NATS like any other.

Promises: it answers every request that has a head, and unregisters when it ends. Refuses to know: the router.
"""

import asyncio
from collections.abc import Mapping

from registry.connect_nats import NatsSettings
from registry.emitter_nats import Emitter

XFCC = "X-Forwarded-Client-Cert"


class SampleApp:
    """One app with its routes; each route's value is its options, None for none."""

    def __init__(self, name: str, routes: Mapping[str, Mapping[str, object] | None]) -> None:
        self.name = name
        self.routes = routes

    async def run(self, nats: NatsSettings) -> None:
        """Serve and stay registered until cancelled."""
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await Emitter(nats, [self._message(uri, port) for uri in self.routes], log=_Silence()).run()

    def _message(self, uri: str, port: int) -> dict[str, object]:
        options = self.routes[uri]
        message: dict[str, object] = {
            "host": "127.0.0.1",
            "port": port,
            "uris": [uri],
            "app": self.name,
            "private_instance_id": f"{self.name}-0",
            "private_instance_index": "0",
            "tags": {"component": "demo"},
        }
        return message if options is None else {**message, "options": dict(options)}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            body = f"{self.name} says hello\n{XFCC}: {_header(head, XFCC)}\n".encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # the router went away, or sent a head too long for a sample
        finally:
            writer.close()


class _Silence:
    """The demo's apps have nothing to say beside their answers."""

    def debug(self, event: str, **data: object) -> None: ...
    def info(self, event: str, **data: object) -> None: ...
    def warning(self, event: str, **data: object) -> None: ...
    def error(self, event: str, **data: object) -> None: ...
    def sparse(self, event: str, level: int = 0, /, **data: object) -> None: ...


def _header(head: str, name: str) -> str:
    """A header's value, or a dash."""
    for line in head.split("\r\n")[1:]:
        known, _, value = line.partition(":")
        if known.lower() == name.lower():
            return value.strip()
    return "-"
