"""What a backend said on an HTTP/2 connection, in order, and the bounds of what it may say.

Promises: events of one stream come as Heads (interim ones first), any number of Data, then Trailers at most; Reset may come after
any of them and is the last. Refuses to know: frames. Source: RFC 9113 section 8.1.
"""

from typing import Final, NamedTuple

from router.wire.headers import Fields
from router.wire.http1 import ResponseHead

STREAMS: Final = 100
"""The most at a time on one connection, whatever its backend allows: what RFC 9113 asks everybody to allow. What is lost with a
connection, and what it may hold of memory, is bounded by it."""


class ClientLimits(NamedTuple):
    """`head_bytes` and `fields` of a head: twice as much ends the connection, what is between is the reader's to refuse;
    `trailer_bytes` and `trailers`: the same of a trailer section, and that ends the stream; `window` of a stream and
    `connection_window` of all, in bytes; `spare_frames`: the most frames in a row that bring nothing, of which `spare_rate` are
    forgiven a second; `held_bytes`: the most that waits to be sent.
    """

    head_bytes: int = 262_144
    fields: int = 256
    trailer_bytes: int = 16_384
    trailers: int = 64
    window: int = 262_144
    connection_window: int = STREAMS * 262_144
    spare_frames: int = 1_000
    spare_rate: int = 100
    held_bytes: int = 1 << 20


class Ready(NamedTuple):
    """The peer's first SETTINGS are here: it speaks HTTP/2."""


class Head(NamedTuple):
    """`stream`'s response, or an interim one."""

    stream: int
    head: ResponseHead
    ended: bool


class Data(NamedTuple):
    stream: int
    data: bytes
    ended: bool


class Trailers(NamedTuple):
    """The end of a body, with fields."""

    stream: int
    fields: Fields


class Reset(NamedTuple):
    """`stream` is over before its response is; `processed` False: the peer did nothing with its request. `reason` is a bounded
    code where the reset is ours.
    """

    stream: int
    code: int
    by_peer: bool
    reason: str
    processed: bool


class Window(NamedTuple):
    """More may be sent on `stream`; 0: on any."""

    stream: int


class GoneAway(NamedTuple):
    """The peer takes no new streams."""

    code: int


class Ended(NamedTuple):
    """The connection is over by our will."""

    code: int
    reason: str


Event = Ready | Head | Data | Trailers | Reset | Window | GoneAway | Ended
