"""`/explain`: one question in a query, one explanation as JSON; the caller is told by GUIDs, no certificate ever comes here.

    host (needed), path, app, space, org, sni (`-`: none is sent), plain (true, false)

Promises: a question that is not understood, or that comes with a body, is a 400 in one bounded printable sentence; whatever the
answer is, allowed or not, it is a 200 with the shape of docs/explain.md. Refuses to know who may ask (endpoints.py guards it),
sockets, and how an explanation is found (explain.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from identity.caller import Caller, shown
from router.inspect.explain import Question, Scene, explain
from router.inspect.query import BadQuery, read_guid, read_query
from router.observe.endpoints import Handler, Response
from router.wire.http1 import NO_BODY, RequestHead
from router.wire.malformed import Malformed

PARAMETERS: Final = ("host", "path", "app", "space", "org", "sni", "plain")
NO_SNI: Final = "-"

_JSON: Final = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_TEXT: Final = [(b"content-type", b"text/plain; charset=utf-8")]


def explain_handler(scene: Callable[[], Scene], clock: Callable[[], float]) -> Handler:
    """`scene` gives the one of the moment, `clock` seconds since the epoch."""

    def answer(request: RequestHead) -> Response:
        if request.body != NO_BODY:
            return _refused("the request has a body; expected none")
        query = read_query(request.target, PARAMETERS)
        question = query if isinstance(query, BadQuery) else read_question(query)
        if isinstance(question, BadQuery):
            return _refused(question.why)
        found = explain(question, scene(), clock())
        if isinstance(found, Malformed):
            return _refused(why_not(found, question))
        return Response(200, _JSON, json.dumps(found.as_json(), separators=(",", ":")).encode("ascii"))

    return answer


def read_question(query: Mapping[str, str]) -> Question | BadQuery:
    """The question that known parameters ask."""
    if "host" not in query:
        return BadQuery("no host is given; expected host=NAME")
    plain = query.get("plain", "false")
    if plain not in ("true", "false"):
        return BadQuery(f"plain is {shown(plain)}; expected true or false")
    caller = _caller(query)
    if isinstance(caller, BadQuery):
        return caller
    sni = query.get("sni")
    return Question(query["host"], query.get("path", "/"), caller, "" if sni == NO_SNI else sni, plain=plain == "true")


def why_not(reason: Malformed, question: Question) -> str:
    """What is wrong with a question that no client could ask, in a sentence."""
    match reason.reason:
        case "bad_host" | "empty_host":
            return f"host {shown(question.host)} is none; expected a host name or an address, with a port or without"
        case "bad_sni":
            return f"sni {shown(question.sni or '')} is no server name; expected a host name, or {NO_SNI} for none"
        case _:
            said = f"path {shown(question.path)} is none that a client can send ({reason.reason})"
            return f"{said}; expected / and what follows it, escaped"


def _caller(query: Mapping[str, str]) -> Caller | BadQuery | None:
    guids = {}
    for name in ("app", "space", "org"):
        if name in query:
            guid = read_guid(name, query[name])
            if isinstance(guid, BadQuery):
                return guid
            guids[name] = guid
    if guids and "app" not in guids:
        return BadQuery("a caller without app is nobody; expected app=GUID, with space and org where it has them")
    return Caller(guids["app"], guids.get("space"), guids.get("org")) if guids else None


def _refused(why: str) -> Response:
    return Response(400, _TEXT, f"{why}\n".encode("ascii", "backslashreplace"))
