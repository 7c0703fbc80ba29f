"""A backend connection that speaks HTTP/1.1, and the one request at a time that it carries: what the pool keeps and an attempt
speaks over.

Promise: a `RoundTrip` (see round_trip.py). Heads and bodies are rendered and parsed strictly (`wire/http1.py`); bytes past a
response's end stay in `buffer`, which bars the connection from the pool. Refuses to know: which fields pass, and what is tried
next. Source: RFC 9112.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from authz.decision import Check
from authz.deny import DenyLists, denied_address
from registry.endpoint import Endpoint
from router.backend.round_trip import TOO_LARGE
from router.faults import Fault, Kind
from router.net.body import BodyReader
from router.net.channel import Body, Channel
from router.net.deadline import Timed
from router.net.stream import Stream
from router.tls.session import SessionError, TlsStream
from router.wire.http1 import (
    CHUNKED,
    UNTIL_CLOSE,
    ChunkedDecoder,
    Fields,
    HeadLimits,
    ResponseHead,
    encode_chunk,
    encode_last_chunk,
    parse_response_head,
    render_request_head,
)

HANDSHAKE_FAULTS: Final[dict[str, Kind]] = {
    "not_tls": "tls_not_spoken",
    "unknown_ca": "tls_untrusted",
    "bad_certificate": "tls_untrusted",
    "bad_ca": "tls_untrusted",
    "bad_purpose": "tls_untrusted",
    "bad_signature": "tls_untrusted",
    "path_length": "tls_untrusted",
    "name_constraint": "tls_untrusted",
    "expired": "tls_expired",
    "not_yet_valid": "tls_expired",
    "certificate_required": "tls_client_certificate_rejected",
    "alert_unknown_ca": "tls_client_certificate_rejected",
    "alert_bad_certificate": "tls_client_certificate_rejected",
}


Key = tuple[str, bool, str]
"""address, TLS, expected name: a connection verified for one name is never used for another."""


def key_of(endpoint: Endpoint) -> Key:
    return endpoint.address, endpoint.tls, endpoint.san


class Keeper(Protocol):
    """Where connections without a request wait."""

    def give(self, upstream: Http1Upstream) -> None: ...

    def evict(self, upstream: Http1Upstream) -> None: ...


class Http1Upstream(Channel):
    """A connection to one endpoint. Times in seconds, as its making took; `local_address` is our end, `host:port`. `home`: where
    it waits between two requests.
    """

    __slots__ = (
        "_chunked", "broken", "dial_time", "dns_time", "endpoint", "home", "key", "local_address", "passed", "response_began",
        "rest", "reused", "tls_time",
    )  # fmt: skip

    def __init__(self, stream: Stream, endpoint: Endpoint) -> None:
        super().__init__(stream)
        self.endpoint = endpoint
        self.key = key_of(endpoint)
        self.rest = Rest(self)
        self.home: Keeper | None = None
        self.reused = False
        self.dns_time = 0.0
        self.dial_time = 0.0
        self.tls_time = 0.0
        self.local_address = ""
        self.passed: DenyLists | None = None  # the lists that its peer was last found not to be on
        self.response_began = False
        self.broken: Fault | None = None
        self._chunked = False

    # ---- one request

    def start(self, method: bytes, target: bytes, fields: Fields, framing: int, whole: bytes | None) -> memoryview | None:
        self.response_began = False
        self._chunked = framing == CHUNKED and whole is None
        if self._chunked:
            fields.append((b"Transfer-Encoding", b"chunked"))
        elif framing == CHUNKED and whole is not None:
            fields.append((b"Content-Length", b"%d" % len(whole)))
        data = render_request_head(method, target, fields)
        return self.stream.push(data + whole if whole else data)

    def frame(self, data: bytes, *, last: bool, trailers: Fields) -> bytes | None:
        if not self._chunked:
            return data or None
        chunk = encode_chunk(data)
        return (chunk + encode_last_chunk(trailers) if last else chunk) or None

    def push(self, data: bytes | memoryview) -> memoryview | None:
        return self.stream.push(data)

    async def writable(self, until: float) -> None:
        await self.stream.writable(until)

    async def read_head(self, until: float, method: bytes, limits: HeadLimits) -> ResponseHead:
        data: bytes | bytearray = self.buffer
        self.buffer = b""
        searched = 0
        while True:
            if data:
                self.response_began = True
                head = parse_response_head(data, limits, method, searched)
                if isinstance(head, ResponseHead):
                    self.buffer = bytes(data[head.size :])
                    return head
                if head is not None:
                    raise Fault("response_too_large" if head.reason in TOO_LARGE else "response_malformed", head.reason)
                searched = len(data)
            if self.broken is not None:
                raise self.broken
            try:
                more = await self.stream.recv(until)
            except TimeoutError:
                raise Fault("endpoint_timeout", "response head") from None
            except OSError as error:
                raise Fault("connection_reset" if data else self.why_reset(error), str(error)) from error
            if not more:
                raise Fault("response_truncated" if data else "connection_closed")
            if isinstance(data, bytearray):
                data += more
            else:
                data = bytearray(data) + more if data else more

    def body(self, response: ResponseHead, decoder: Callable[[], ChunkedDecoder]) -> BodyReader:
        framing = response.body
        return Body(self, framing, decoder() if framing == CHUNKED else None)

    @property
    def ready(self) -> bool:
        return bool(self.buffer)

    def interrupt(self, fault: Fault) -> None:
        self.stream.interrupt(fault)

    def release(self, response: ResponseHead, *, fit: bool) -> None:
        if fit and response.keep_alive and response.body != UNTIL_CLOSE and self.home is not None:
            self.home.give(self)
        else:
            self.close()

    def close(self) -> None:
        """Close now, wherever the connection is."""
        self.stream.wheel.forget(self.rest)
        self.stream.close()

    # ---- who it is

    def why_reset(self, error: OSError) -> Kind:
        """What a failed first write or read means: a backend of TLS 1.3 says only now that it refuses our certificate."""
        if isinstance(error, SessionError) and not self.reused:
            kind = HANDSHAKE_FAULTS.get(error.reason)
            if kind == "tls_client_certificate_rejected":
                return kind
        stream = self.stream
        if isinstance(error, BrokenPipeError) and not self.reused and isinstance(stream, TlsStream) and stream.has_unread_alert():
            return "tls_client_certificate_rejected"
        return "connection_reset"

    def denied(self, lists: DenyLists) -> Check | None:
        """Whether whoever was really reached is denied. Raises OSError where the system does not know who it is any more."""
        if self.passed is lists:
            return None
        hit = denied_address(lists, self.stream.sock.getpeername()[0]) if lists.networks else None
        if hit is None:
            self.passed = lists
        return hit

    def passes(self, lists: DenyLists) -> bool:
        """Is the peer on none of these lists? One that nobody knows any more has ended: it is of no use either."""
        try:
            return self.denied(lists) is None
        except OSError:
            return False


class Rest(Timed):
    """A connection's time without a request: it ends at the idle deadline, or as soon as the connection becomes readable."""

    __slots__ = ("keeper", "upstream")

    def __init__(self, upstream: Http1Upstream) -> None:
        super().__init__()
        self.upstream = upstream
        self.keeper: Keeper | None = None

    def expire(self) -> None:
        if self.keeper is not None:
            self.keeper.evict(self.upstream)
