"""What a peer said on an HTTP/2 connection, in order.

Promises: events of one stream come as Request (of a client) or Heads (of a backend, interim ones first), any number of Data, then
Trailers at most; Reset may come after any of them and is the last. After a Request with a Malformed no Data and no Trailers come:
its body is dropped. Refuses to know: frames. Source: RFC 9113 section 8.1.
"""

from typing import NamedTuple

from router.wire.headers import Fields
from router.wire.http1 import RequestHead, ResponseHead
from router.wire.malformed import Malformed


class Request(NamedTuple):
    """A new stream. ``ended``: there is no body. Equal requests share one ``head``: its fields are never changed in place.
    After a Malformed the stream is still there to be answered, then reset with PROTOCOL_ERROR."""

    stream: int
    head: RequestHead | Malformed
    ended: bool


class Head(NamedTuple):
    """A response to a stream of ours, or an interim one. ``ended``: there is no body."""

    stream: int
    head: ResponseHead
    ended: bool


class Data(NamedTuple):
    """A piece of a body (empty only where it ends it). What was handed on is to be reported with ``consumed``."""

    stream: int
    data: bytes
    ended: bool


class Trailers(NamedTuple):
    """The end of a body, with the fields that may be trailers (often none)."""

    stream: int
    fields: Fields


class Reset(NamedTuple):
    """A stream has gone before its end: by the peer, or by us for what it sent (RST_STREAM is in the output). ``reason``: a short
    code out of a fixed set; by the peer: "reset_by_peer" or "goaway". ``processed``: False where the peer says
    that it did nothing with our request."""

    stream: int
    code: int
    by_peer: bool
    reason: str
    processed: bool = True


class Window(NamedTuple):
    """There is room again where there was none: on this stream, or, with 0, on any of them, or for more of them."""

    stream: int


class GoneAway(NamedTuple):
    """The peer will open no more streams, or take no more of ours."""

    code: int


class Ended(NamedTuple):
    """The connection is over for what the peer sent; every stream has gone with it. GOAWAY is in the output. ``reason``: a
    short code out of a fixed set."""

    code: int
    reason: str


Event = Request | Head | Data | Trailers | Reset | Window | GoneAway | Ended
