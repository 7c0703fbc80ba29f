"""The endpoints that look into a running router and never change it: `/explain`, `/policies`, `/warnings`, `/tap`.

Promises: nobody without the credentials of `/routes` learns anything, not even whether the question was well put; a question
with a body, or with a parameter that is not understood, is a 400 in one bounded sentence. Refuses to know: sockets, and what the
answers are made of (explain_http.py, policies.py, warnings.py, the tap of router/observe).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from registry.problems import Problem
from router.inspect.explain_http import explain_handler
from router.inspect.policies import OWN, InFlight, Wanted, render_policies
from router.inspect.query import JSON, TEXT, UNCACHED, BadQuery, read_guids, read_host, read_query, refused
from router.inspect.scene import scene_of
from router.inspect.warnings import render_warnings
from router.live import Live
from router.observe.endpoints import Handler, Response, authenticated
from router.observe.tap import MAX_LISTENERS, Tap, TapFilter
from router.wire.http1 import NO_BODY, RequestHead

_EVENTS: Final = (b"content-type", b"text/event-stream")


def inspect_handlers(
    user: str,
    password: str,
    live: Live,
    tap: Tap,
    config_warnings: Callable[[], Sequence[Problem]],
    clock: Callable[[], float],
    wall: Callable[[], float] = time.time,
    in_flight: InFlight = OWN,
) -> dict[str, Handler]:
    """Path -> handler. `clock` gives the monotonic seconds of the endpoints' deadlines, `wall` those since the epoch; `in_flight`
    says how many requests an endpoint has.
    """

    def policies(request: RequestHead) -> Response:
        wanted = _wanted(read_query(request.target, ("host", "app", "domain")))
        if isinstance(wanted, BadQuery):
            return refused(wanted)
        return _json(render_policies(live.snapshot, live.table, clock(), wanted, in_flight))

    def warnings(request: RequestHead) -> Response:
        asked = read_query(request.target, ())
        if isinstance(asked, BadQuery):
            return refused(asked)
        return _json(render_warnings(live.snapshot, live.table, config_warnings(), clock(), wall()))

    def listen(request: RequestHead) -> Response:
        wanted = _tapped(read_query(request.target, ("host", "app", "space", "org")))
        if isinstance(wanted, BadQuery):
            return refused(wanted)
        if request.method == b"HEAD":
            return Response(200, [_EVENTS, UNCACHED])
        listener = tap.subscribe(wanted)
        if listener is None:
            return Response(503, [TEXT], f"{MAX_LISTENERS} listen already; end one of them\n".encode())
        return Response(200, [_EVENTS, UNCACHED], listener)

    explain = explain_handler(lambda: scene_of(live.snapshot, live.table), wall)
    handlers: Mapping[str, Handler] = {"/explain": explain, "/policies": policies, "/warnings": warnings, "/tap": listen}
    return {path: authenticated(user, password, _without_body(handler)) for path, handler in handlers.items()}


def _json(pieces: Iterator[bytes]) -> Response:
    return Response(200, [JSON, UNCACHED], pieces)


def _without_body(handler: Handler) -> Handler:
    def checked(request: RequestHead) -> Response:
        if request.body != NO_BODY:
            return refused(BadQuery("the request has a body; expected none"))
        return handler(request)

    return checked


def _wanted(query: Mapping[str, str] | BadQuery) -> Wanted | BadQuery:
    """What `/policies` is asked for."""
    if isinstance(query, BadQuery):
        return query
    host = read_host(query["host"]) if "host" in query else None
    if isinstance(host, BadQuery):
        return host
    guids = read_guids(query, ("app",))
    return guids if isinstance(guids, BadQuery) else Wanted(host, guids.get("app"), query.get("domain"))


def _tapped(query: Mapping[str, str] | BadQuery) -> TapFilter | BadQuery:
    """Whom or what `/tap` is asked to listen to."""
    if isinstance(query, BadQuery):
        return query
    if not query:
        return BadQuery("everything at once is too much; expected host, app, space or org")
    host = read_host(query["host"]) if "host" in query else None
    if isinstance(host, BadQuery):
        return host
    guids = read_guids(query, ("app", "space", "org"))
    return guids if isinstance(guids, BadQuery) else TapFilter(host, **guids)
