"""What a client said on an HTTP/2 connection, in order.

Promises: events of one stream come as Request, any number of Data, then Trailers at most; Reset may come
after any of them and is the last. After a Request with a Malformed no Data and no Trailers come: its body is
dropped. Refuses to know: frames. Source: RFC 9113 section 8.1.
"""

from typing import NamedTuple

from router.wire.headers import Fields
from router.wire.http1 import RequestHead
from router.wire.malformed import Malformed


class Request(NamedTuple):
    """A new stream. ``ended``: there is no body. Equal requests share one ``head``: its fields are never changed in place.
    After a Malformed the stream is still there to be answered, then reset with PROTOCOL_ERROR."""

    stream: int
    head: RequestHead | Malformed
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
    """A stream whose Request came has gone before its end: by the client, or by us for what it sent (RST_STREAM is in the
    output). ``reason``: a short code out of a fixed set; by the client: "reset_by_peer"."""

    stream: int
    code: int
    by_peer: bool
    reason: str


class Window(NamedTuple):
    """There is room again where there was none: on this stream, or, with 0, on any of them."""

    stream: int


class GoneAway(NamedTuple):
    """The client will open no more streams."""

    code: int


class Ended(NamedTuple):
    """The connection is over for what the client sent; every stream has gone with it. GOAWAY is in the output. ``reason``: a
    short code out of a fixed set."""

    code: int
    reason: str


Event = Request | Data | Trailers | Reset | Window | GoneAway | Ended
