"""Which version of HTTP a client's connection speaks, and who serves it.

Promise: over TLS what the handshake agreed upon (ALPN), HTTP/1.1 where it agreed upon nothing; over plain TCP HTTP/1.1, or, only
where the operator allows it, what the first bytes say: the HTTP/2 preface is no beginning of an HTTP/1.1 request.
Source: RFC 9113 sections 3.2 to 3.4.
"""

from __future__ import annotations

from router.downstream import Downstream
from router.l7.serve_http1 import serve_http1
from router.l7.serve_http2 import serve_http2
from router.l7.state import Router
from router.wire.http2 import PREFACE


async def serve(downstream: Downstream, router: Router) -> None:
    """Serve requests until the connection ends. Raises OSError or TimeoutError when the client is gone."""
    if downstream.http2 or (not downstream.listener.tls and await _has_prior_knowledge(downstream, router)):
        await serve_http2(downstream, router)
    else:
        await serve_http1(downstream, router)


async def _has_prior_knowledge(downstream: Downstream, router: Router) -> bool:
    """Reads, where that may be, until the preface is there or cannot come any more; what was read stays in the buffer."""
    snapshot = router.live.snapshot
    if not snapshot.config.enable_h2c:
        return False
    until = router.loop.time() + snapshot.limits.frontend_idle_deadline
    while len(downstream.buffer) < len(PREFACE) and PREFACE.startswith(downstream.buffer):
        data = await downstream.stream.recv(until)
        if not data:
            raise ConnectionResetError("the client has ended its side")
        if not downstream.buffer:
            until = router.loop.time() + snapshot.limits.read_header_deadline
        downstream.buffer += data
    return downstream.buffer.startswith(PREFACE)
