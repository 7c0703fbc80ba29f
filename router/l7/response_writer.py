"""What an exchange writes its response to, whatever the client's version of HTTP.

Promise: an exchange never asks which version it answers. HTTP/1.1 is `http1_writer.py`, HTTP/2 `http2_stream.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from router.wire.http1 import Fields


class ResponseWriter(Protocol):
    """The answer to one request: any number of `interim` and then `begin`, `write`s, one `finish`; or `abort` at any time.

    `proto`: the version as the access log spells it. Sending raises Fault when the client is gone or takes nothing for too long.
    `left`: is it known already, without asking the kernel, that nobody waits for the answer?
    """

    proto: bytes
    left: bool

    def watch(self, left: Callable[[], object] | None) -> None:
        """Call `left`, from a callback of the event loop, when the client leaves while nothing is read from it; None: no more."""

    def gone(self) -> bool:
        """Has the client left, or ended its side, even behind bytes that are still to be read?"""

    async def interim(self, status: int, reason: bytes, fields: Fields) -> None:
        """Send a 1xx, where the client's version has them."""

    def begin(self, status: int, reason: bytes, fields: Fields, framing: int, *, keep: bool) -> bool:
        """Take the final head; it leaves with what follows, or with `flush`. `framing` is a length, CHUNKED or UNTIL_CLOSE;
        `fields` may be added to. `keep`: may the connection carry more? The answer is whether it can.
        """

    async def flush(self) -> None:
        """Send the head without waiting for more."""

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; it is not the last."""

    async def finish(self, data: bytes, trailers: Fields) -> None:
        """Send the rest of the body and its end."""

    def abort(self) -> None:
        """End it so that what was sent cannot pass for the whole."""
