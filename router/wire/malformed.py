"""The third outcome of every parser in this package: what the peer sent can never become valid.

A parser returns a value, ``None`` (more bytes can still help), or a ``Malformed``; it never raises for what
a peer sent. The peer's bytes are not kept here: a reason is a fixed code of ours, safe as a log field and as
a metric label.
"""

from typing import NamedTuple


class Malformed(NamedTuple):
    """Bytes that no continuation can repair.

    ``reason`` is a short code out of a fixed set; ``status`` is what a server answers before it closes the
    connection (a response of a backend carries 502, bytes of a TLS handshake have no use for it).
    """

    reason: str
    status: int = 400
