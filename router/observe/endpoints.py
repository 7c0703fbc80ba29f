"""What the operator's HTTP endpoints answer (health, routes, metrics): pure functions of a head.

Promises: `respond` answers any head, unknown paths and methods included; /routes only with the right user and
password, compared in constant time, and never where either is empty; a long body is an iterator, so that
nobody builds it whole.
Refuses to know sockets (status.py). A new endpoint is one more entry of a dict: path -> handler.

Source: GoRouter's health, status and metrics endpoints.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from registry.endpoint import Route
from registry.table import endpoint_json
from router.observe.health import Health
from router.observe.metrics import CONTENT_TYPE
from router.wire.http1 import Fields, RequestHead


class Stream(Protocol):
    """A body that comes as things happen. Who sends it calls `close` whatever became of it; waiting for a piece ends then."""

    def __aiter__(self) -> "Stream": ...
    async def __anext__(self) -> bytes: ...
    def close(self) -> None: ...


class Response(NamedTuple):
    """What to send. A body that is no bytes is waited for where others have to be asked for it, else sent piece by piece as it is
    produced."""

    status: int
    fields: Fields
    body: bytes | Iterator[bytes] | Stream | Awaitable[bytes] = b""


Handler = Callable[[RequestHead], Response]

_PLAIN = (b"content-type", b"text/plain; charset=utf-8")
_UNCACHED = [(b"cache-control", b"private, max-age=0"), (b"expires", b"0")]
_BYTES_A_PIECE = 16 * 1024


def respond(request: RequestHead, handlers: Mapping[str, Handler]) -> Response:
    """The answer to `request`: 405 for anything but GET and HEAD, 404 for a path that nobody handles."""
    if request.method not in (b"GET", b"HEAD"):
        return Response(405, [(b"allow", b"GET, HEAD"), _PLAIN], b"Method Not Allowed\n")
    handler = handlers.get(request.target.partition(b"?")[0].decode("latin-1"))
    if handler is None:
        return Response(404, [_PLAIN], b"Not Found\n")
    return handler(request)


def health_handlers(health: Health) -> dict[str, Handler]:
    """/health for load balancers, and the path that only says that the process lives."""

    def ready(_: RequestHead) -> Response:
        return Response(200, [*_UNCACHED, _PLAIN], b"ok\n") if health.good else Response(503, [*_UNCACHED])

    def alive(_: RequestHead) -> Response:
        return Response(200, [*_UNCACHED, _PLAIN], b"ok\n")

    return {"/health": ready, "/is-process-alive-do-not-use-for-loadbalancing": alive}


def metrics_handlers(render: Callable[[], bytes | Awaitable[bytes]], path: str = "/metrics") -> dict[str, Handler]:
    """The scrape."""
    return {path: lambda _: Response(200, [(b"content-type", CONTENT_TYPE)], render())}


def routes_handlers(user: str, password: str, routes: Callable[[], Iterable[Route]]) -> dict[str, Handler]:
    """/routes behind basic authentication; `routes` gives the table of the moment."""

    def show(_: RequestHead) -> Response:
        return Response(200, [(b"content-type", b"application/json")], render_routes(routes()))

    return {"/routes": authenticated(user, password, show)}


def authenticated(user: str, password: str, handler: Handler) -> Handler:
    """`handler`, for those who know `user` and `password` (RFC 7617); if either is empty, for nobody."""
    expected = f"{user}:{password}".encode()
    usable = bool(user and password)

    def guarded(request: RequestHead) -> Response:
        if hmac.compare_digest(_credentials(request), expected) and usable:
            return handler(request)
        challenge = (b"www-authenticate", b'Basic realm="Authorization Required"')
        return Response(401, [challenge, _PLAIN], b"Not Authorized\n")

    return guarded


def _credentials(request: RequestHead) -> bytes:
    values = [value for name, value in request.fields if name == b"authorization"]
    if len(values) != 1 or values[0][:6].lower() != b"basic ":
        return b""
    try:
        return base64.b64decode(values[0][6:].strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def render_routes(routes: Iterable[Route]) -> Iterator[bytes]:
    """GoRouter's JSON: uri -> its endpoints, in pieces of _BYTES_A_PIECE and a route: one may have a thousand endpoints."""
    pieces: list[str] = []
    separator, size = "{", 0
    for route in routes:
        endpoints = [endpoint_json(endpoint, route.pool) for endpoint in route.pool.endpoints]
        pieces.append(f"{separator}{json.dumps(route.key)}:{json.dumps(endpoints, separators=(',', ':'))}")
        separator = ","
        size += len(pieces[-1])
        if size >= _BYTES_A_PIECE:
            yield "".join(pieces).encode("ascii")
            pieces.clear()
            size = 0
    yield ("".join(pieces) + ("{}" if separator == "{" else "}")).encode("ascii")
