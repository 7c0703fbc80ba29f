"""One health check of one endpoint: a GET on a connection of its own, and what came of it.

Promise: the check goes where a request would go and nowhere else (the endpoint's registered address and port, by the same
`Dialer`: TLS verified, denied addresses refused); it ends by its deadline and takes one response head of memory; whatever
the backend does is a `Result`. Refuses to know: who is checked when, and what a result means for the choice.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from registry.endpoint import Endpoint
from router.backend.dial import Dialer
from router.backend.http1 import Http1Upstream
from router.faults import Fault
from router.wire.http1 import HeadLimits, ResponseHead, parse_response_head, render_request_head

USER_AGENT: Final = b"Vestibule-Health-Check"
GOOD: Final = range(200, 400)
"""A redirect is an answer of a live app: many send one to whoever comes without X-Forwarded-Proto."""
_INTERIM: Final = 16
_SAYS_NOTHING: Final = frozenset({"dial_denied", "out_of_descriptors"})


class Result(NamedTuple):
    """`name` is bounded: `passed`, `bad_status`, `timeout` or the kind of a fault; `detail` is for the log."""

    name: str
    detail: str = ""

    @property
    def passed(self) -> bool:
        return self.name == "passed"

    @property
    def says_something(self) -> bool:
        """False where the operator's deny list or a lack of this machine kept the check from the endpoint."""
        return self.name not in _SAYS_NOTHING


def request(host: str, path: str) -> bytes:
    """What a check sends. Under a wildcard it asks for a name of its own below it."""
    name = host.replace("*", "health-check", 1).encode()
    fields = [(b"Host", name), (b"User-Agent", USER_AGENT), (b"Accept", b"*/*"), (b"Connection", b"close")]
    return render_request_head(b"GET", path.encode(), fields)


async def probe(dialer: Dialer, endpoint: Endpoint, data: bytes, limits: HeadLimits, until: float) -> Result:
    """Ask once; `until` is the loop's clock and bounds all of it. The answer's body is not read."""
    try:
        upstream = await dialer.dial(endpoint, until)
    except Fault as fault:
        return Result("timeout" if fault.kind.endswith("timeout") else fault.kind, fault.detail)
    try:
        await upstream.stream.send(data, until)
        status = (await _final_head(upstream, limits, until)).status
    except TimeoutError:
        return Result("timeout", "no answer")
    except Fault as fault:
        return Result(fault.kind, fault.detail)
    except OSError as error:
        return Result(upstream.why_reset(error), str(error))
    finally:
        upstream.close()
    return Result("passed" if status in GOOD else "bad_status", str(status))


async def _final_head(upstream: Http1Upstream, limits: HeadLimits, until: float) -> ResponseHead:
    """Raises Fault, TimeoutError, OSError."""
    data = bytearray()
    searched = interim = 0
    while True:
        head = parse_response_head(data, limits, b"GET", searched)
        if isinstance(head, ResponseHead):
            if head.status >= 200:
                return head
            interim += 1
            if interim > _INTERIM or head.status == 101:
                raise Fault("response_malformed", "interim responses")
            del data[: head.size]
            searched = 0
            continue
        if head is not None:
            raise Fault("response_malformed", head.reason)
        searched = len(data)
        more = await upstream.stream.recv(until)
        if not more:
            raise Fault("response_truncated" if data else "connection_closed")
        data += more
