"""HTTP/1.1 on one connection: heads in, exchanges one after the other, until either side has enough.

Promise: requests are answered in the order they came (pipelined ones too); a head that cannot be understood is answered with
its status and the connection closed; a head that does not come in time gets 408; silence between requests ends at the idle
deadline without a word. Source: RFC 9112 sections 2.2, 9.3 and 9.6.
"""

from __future__ import annotations

import asyncio

from router.downstream import Downstream
from router.l7.exchange import run
from router.l7.http1_writer import Http1Writer
from router.l7.state import NO_HEAD, Exchange, Router
from router.net.channel import Body
from router.net.deadline import NEVER
from router.wire.http1 import CHUNKED, HeadMemory, RequestHead, parse_request_head
from router.wire.malformed import Malformed


async def serve_http1(downstream: Downstream, router: Router) -> None:
    """Serve requests until the connection ends. Raises OSError or TimeoutError when the client is gone."""
    memory = HeadMemory()
    while True:
        head = await read_head(downstream, router, memory)
        if head is None:
            break
        keep = await run(_exchange(downstream, router, head))
        del head  # it may be long, and a connection may be idle for long
        if downstream.buffer:  # pipelined requests may need no wait at all: the other connections' turn
            await asyncio.sleep(0)
        downstream.busy = False
        downstream.served += 1
        if not keep:
            await downstream.stream.linger()
            return
    downstream.stream.close()


def _exchange(downstream: Downstream, router: Router, head: RequestHead | Malformed) -> Exchange:
    limits = router.live.snapshot.limits
    known = head if isinstance(head, RequestHead) else NO_HEAD
    body = Body(downstream, known.body, limits.chunked_decoder() if known.body == CHUNKED else None)
    writer = Http1Writer(downstream, known.minor, limits.client_write_stall, is_head=known.method == b"HEAD")
    return Exchange(router, downstream, head, body, writer)


async def read_head(downstream: Downstream, router: Router, memory: HeadMemory | None = None) -> RequestHead | Malformed | None:
    """The next head; None when the client has ended the connection between requests, or was silent too long."""
    stream, loop = downstream.stream, router.loop
    data: bytes | bytearray = downstream.buffer
    searched = 0
    if not data:
        try:
            data = await stream.recv(loop.time() + router.live.snapshot.limits.frontend_idle_deadline)
        except TimeoutError:
            return None
        if not data:
            return None
    downstream.busy = True
    snapshot = router.live.snapshot  # of this moment: the wait may have outlived a reload
    until = NEVER
    while True:
        head = parse_request_head(data, snapshot.request_limits, searched, memory)
        if head is not None:
            over = data[head.size :] if isinstance(head, RequestHead) and head.size < len(data) else b""
            downstream.buffer = bytes(over)
            return head
        if until == NEVER:
            until = loop.time() + snapshot.limits.read_header_deadline
            data = bytearray(data)
        searched = len(data)
        try:
            more = await stream.recv(until)
        except TimeoutError:
            downstream.buffer = b""
            return Malformed("head_timeout", 408)
        if not more:
            return None
        data += more
