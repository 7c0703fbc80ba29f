"""What one HTTP/2 connection may cost: every bound and budget of the frame layer, with the reason of its default.

Promises: each field says its unit, why its default, and the attack (by its number) it answers. A budget is a
bucket of tokens: full at first, refilled by time and by work that is of use to the client, spent by what only
costs us; who spends an empty one is ended with ENHANCE_YOUR_CALM.
Refuses to know: how a budget is kept (``http2_budget``) and what stands in the configuration.
Source: RFC 9113 sections 6.5.2 (settings), 6.9 (windows) and 10.5 (denial of service).
"""

from typing import Final, NamedTuple

MAX_HEAD_BYTES: Final = 1 << 20
"""The most that ``max_head_bytes`` can allow: a head is kept until its last byte came, and only then judged."""

STREAMS: Final = 100
"""The most at a time on one connection to a backend, whatever it allows: what RFC 9113 asks everybody to allow. What is lost with
a connection, and what it may hold of memory, is bounded by it."""


class Http2Limits(NamedTuple):
    """Bytes, counts and tokens. The defaults are those of clients, under an empty configuration; those of backends stand in
    ``router/limits.py``."""

    max_head_bytes: int = 65_536
    """Decoded bytes of a head, and 32 for each field, as RFC 9113 6.5.2 counts: as many as HTTP/1.1 has. At most
    MAX_HEAD_BYTES, whatever the operator says. Attacks 51, 52, 67: 431; more than twice as many: GOAWAY."""
    max_fields: int = 128
    """Fields of a head, Host included, pseudo-fields not. Attack 52: 431."""
    max_trailer_bytes: int = 16_384
    """Decoded bytes of a trailer section, counted as a head's: as many as HTTP/1.1 has. Attack 52: RST_STREAM."""
    max_trailer_fields: int = 64
    """Fields of a trailer section. Attack 52: RST_STREAM."""
    max_continuations: int = 64
    """CONTINUATION frames of one head, empty ones too. An honest client fills its frames: 16 KiB each, so a few do; nghttp2
    allows 8, and 64 is what 1 MiB takes. Attack 63: GOAWAY."""
    max_streams: int = 100
    """Requests in flight on a connection. The least that RFC 9113 6.5.2 recommends, and what clients take for granted before
    they have heard our settings. Attacks 62, 68: REFUSED_STREAM."""
    stream_window: int = 131_072
    """Bytes of a body that a client may send ahead of its backend; at least 65,535, which it may send before it has heard our
    settings. Two thirds of a millisecond at 1.5 Gbit/s; more only fills memory. Attack 68."""
    connection_window: int = 1_048_576
    """The same for all streams of a connection: eight stalled backends do not stop the ninth, and a client holds 1 MiB of
    ours at most. At least 65,535. Attack 68."""

    reset_tokens: int = 400
    """A token for each request that was reset before its response was whole, by the client or by us because of what it sent,
    each that was malformed, each refused for `max_streams` (eight for one with too many fields). 400 is four times what a
    browser drops when its user leaves a page with 100 requests in flight. Attacks 62, 64, 66: GOAWAY."""
    reset_tokens_a_second: float = 40.0
    """Tokens that come back a second: work for one connection that nobody reads, about a hundredth of a core."""
    reset_tokens_a_response: int = 1
    """Tokens that come back with each whole response: who cancels every second request (a hedging client) never runs out."""

    control_tokens: int = 1_000
    """A token for each frame that moves nothing: PING, SETTINGS (and one for each of its settings), PRIORITY, WINDOW_UPDATE,
    GOAWAY, unknown kinds, DATA without data, frames for streams that have gone; 20 for a resize of the HPACK table. An
    honest client sends a dozen at its start. Attacks 65, 67: GOAWAY."""
    control_tokens_a_second: float = 100.0
    """Tokens that come back a second: about 0.2 ms of work."""
    control_tokens_a_frame: int = 16
    """Tokens that come back with each DATA frame that is sent, or received and not tiny, and with each request: a client that
    reads a 16 KiB frame in four pieces opens two windows for each, and gRPC sends a PING for each burst: twice that."""

    cut_bytes_a_token: int = 1_024
    """Bytes sent for which one token comes back where it was the window that ended the piece. Who opens windows byte by byte pays
    for each; an honest client opens thousands of bytes at a time. Attack 68: GOAWAY."""

    tiny_data_tokens: int = 10_000
    """A token for each DATA frame with fewer than 64 bytes of data, the last of a body aside. A stream of small gRPC messages is
    honest, and a batch of 10,000 at once too. Attack 65: GOAWAY."""
    tiny_data_tokens_a_second: float = 5_000.0
    """Tokens that come back a second: what keeps about a tenth of a core busy in this layer."""
