"""Connected upstreams and endpoints for the tests of this folder."""

import asyncio
import socket
from typing import Any

from registry.endpoint import Endpoint
from router.backend.http1 import Http1Upstream
from router.net.deadline import Wheel
from router.net.stream import Stream
from tests.router.net.pairs import tcp_pair


def endpoint(port: int = 8080, host: str = "127.0.0.1", **fields: Any) -> Endpoint:
    return Endpoint(host, port, **fields)


def upstream(to: Endpoint | None = None, wheel: Wheel | None = None) -> tuple[Http1Upstream, socket.socket]:
    """(a connection of ours, its other end)."""
    loop = asyncio.get_running_loop()
    ours, theirs = tcp_pair()
    return Http1Upstream(Stream(ours, loop, wheel or Wheel(loop)), to or endpoint()), theirs
