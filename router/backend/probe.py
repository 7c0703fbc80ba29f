"""One health check of one endpoint: a GET on a connection of its own, and what came of it.

Promise: the check goes where a request would go and nowhere else (the endpoint's registered address and port, by the same
`Dialer`: TLS verified, denied addresses refused); it ends by its deadline and takes one response head of memory; whatever
the backend does is a `Result`. Refuses to know: who is checked when, and what a result means for the choice.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from registry.endpoint import Endpoint
from router.backend.dial import Dialer
from router.backend.http2 import Http2Connection
from router.backend.http2_pool import open_http2
from router.backend.http2_round_trip import Http2RoundTrip
from router.backend.round_trip import RoundTrip
from router.faults import Fault
from router.wire.http1 import NO_BODY, Fields, HeadLimits, ResponseHead
from router.wire.http2_limits import Http2Limits

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


class Question(NamedTuple):
    """What a check asks."""

    target: bytes
    fields: Fields


def request(host: str, path: str) -> Question:
    """What a check sends. Under a wildcard it asks for a name of its own below it."""
    name = host.replace("*", "health-check", 1).encode()
    fields = [(b"Host", name), (b"User-Agent", USER_AGENT), (b"Accept", b"*/*"), (b"Connection", b"close")]
    return Question(path.encode(), fields)


async def probe(
    dialer: Dialer, endpoint: Endpoint, question: Question, limits: HeadLimits, until: float, http2: Http2Limits | None = None
) -> Result:
    """Ask once; `until` is the loop's clock and bounds all of it. The answer's body is not read. `http2`: None where no endpoint
    is spoken to in it. A gRPC server, which knows no GET, passes by the way in which it refuses one.
    """
    try:
        trip = await _open(dialer, endpoint, until, http2)
    except Fault as fault:
        return Result("timeout" if fault.kind.endswith("timeout") else fault.kind, fault.detail)
    try:
        rest = trip.start(b"GET", question.target, list(question.fields), NO_BODY, b"")
        while rest is not None:
            await trip.writable(until)
            rest = trip.push(rest)
        head = await _final_head(trip, limits, until)
    except TimeoutError:
        return Result("timeout", "sending")
    except Fault as fault:
        if fault.kind == "stream_reset":
            return Result("passed", fault.detail)
        return Result("timeout" if fault.kind == "endpoint_timeout" else fault.kind, fault.detail)
    except OSError as error:
        return Result(trip.why_reset(error), str(error))
    finally:
        trip.close()
    good = head.status in GOOD or any(name == b"grpc-status" for name, _ in head.fields)
    return Result("passed" if good else "bad_status", str(head.status))


async def _open(dialer: Dialer, endpoint: Endpoint, until: float, http2: Http2Limits | None) -> RoundTrip:
    """A connection of the check's own, in the version that requests go by. Raises Fault."""
    if endpoint.protocol == "http2" and http2 is not None:
        opened = await open_http2(endpoint, dialer, http2, until)
        if isinstance(opened, Http2Connection):
            trip = Http2RoundTrip(opened)
            opened.retire()  # closed with its only stream
            return trip
        if opened is not None:
            return opened
    return await dialer.dial(endpoint, until)


async def _final_head(trip: RoundTrip, limits: HeadLimits, until: float) -> ResponseHead:
    """Raises Fault."""
    for _ in range(_INTERIM + 1):
        head = await trip.read_head(until, b"GET", limits)
        if head.status >= 200:
            return head
        if head.status == 101:
            break
    raise Fault("response_malformed", "interim responses")
