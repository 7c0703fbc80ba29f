"""One request and its response on a backend connection, whatever the connection's version of HTTP: what an attempt needs of it.

Promise: an attempt never asks which version it speaks. HTTP/1.1 is `http1.py`, where the connection itself is the round trip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from authz.decision import Check
from authz.deny import DenyLists
from registry.endpoint import Endpoint
from router.faults import Fault, Kind
from router.net.body import BodyReader
from router.wire.http1 import ChunkedDecoder, Fields, HeadLimits, ResponseHead

TOO_LARGE: Final = frozenset({"head_too_large", "start_line_too_long", "too_many_fields"})
"""Reasons of a `Malformed` response head that speak of its size."""


class RoundTrip(Protocol):
    """Times in seconds, as the connection's making took (0 where it was there before); `local_address` is our end, `host:port`.

    `reused`: the connection has carried requests before; `response_began`: a byte of the response has come; `broken` is for the
    attempt: what ended the request early, raised before anything is awaited again.
    """

    endpoint: Endpoint
    reused: bool
    response_began: bool
    broken: Fault | None
    local_address: str
    dns_time: float
    dial_time: float
    tls_time: float

    def start(self, method: bytes, target: bytes, fields: Fields, framing: int, whole: bytes | None) -> memoryview | None:
        """Hand over the head, with the body where it is here as a whole (b"": there is none; None: it will be pushed). `fields`
        may be added to. What did not fit is for `push`. Raises OSError.
        """

    def frame(self, data: bytes, *, last: bool, trailers: Fields) -> bytes | None:
        """What `push` is to be given for this piece of the body, None for nothing; `trailers` only with the last."""

    def push(self, data: bytes | memoryview) -> memoryview | None:
        """Hand over without waiting; what was not taken, None where that is nothing. Raises OSError."""

    async def writable(self, until: float) -> None:
        """Until `push` may take more. Raises TimeoutError, OSError."""

    async def read_head(self, until: float, method: bytes, limits: HeadLimits) -> ResponseHead:
        """The next head of the response, interim ones (1xx) too. Raises Fault."""

    def body(self, response: ResponseHead, decoder: Callable[[], ChunkedDecoder]) -> BodyReader:
        """The body behind the final head."""

    @property
    def ready(self) -> bool:
        """Has something of the body come already?"""

    def interrupt(self, fault: Fault) -> None:
        """Raise `fault` in whoever waits here. Only from a callback of the event loop."""

    def release(self, response: ResponseHead, *, fit: bool) -> None:
        """The response is complete; `fit`: so is the request, and the connection may carry another."""

    def close(self) -> None:
        """Abandon it, at any time."""

    def why_reset(self, error: OSError) -> Kind:
        """What a write means that failed before anything of the response had come."""

    def denied(self, lists: DenyLists) -> Check | None:
        """Whether whoever was really reached is denied. Raises OSError where nobody knows any more."""

    def passes(self, lists: DenyLists) -> bool:
        """Is the peer on none of these lists?"""
