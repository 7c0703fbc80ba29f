"""`/explain`: one question in a query, one explanation as JSON; the caller is told by GUIDs, no certificate ever comes here.

    host (needed), path, app, space, org, sni (`-`: none is sent), plain (true, false)

Promises: a question that is not understood is a 400 in one bounded printable sentence; whatever the answer is, allowed or not, it
is a 200 with the shape of docs/explain.md. Refuses to know who may ask (handlers.py guards it), sockets, and how an explanation
is found (explain.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from identity.caller import Caller, shown
from router.inspect.explain import explain
from router.inspect.explanation import Question
from router.inspect.policies import compact
from router.inspect.query import JSON, UNCACHED, BadQuery, read_guids, read_query, refused
from router.inspect.scene import Scene
from router.observe.endpoints import Handler, Response
from router.wire.http1 import RequestHead
from router.wire.malformed import Malformed

PARAMETERS: Final = ("host", "path", "app", "space", "org", "sni", "plain")
NO_SNI: Final = "-"


def explain_handler(scene: Callable[[], Scene], clock: Callable[[], float]) -> Handler:
    """`scene` gives the one of the moment, `clock` seconds since the epoch."""

    def answer(request: RequestHead) -> Response:
        query = read_query(request.target, PARAMETERS)
        question = query if isinstance(query, BadQuery) else read_question(query)
        if isinstance(question, BadQuery):
            return refused(question)
        found = explain(question, scene(), clock())
        if isinstance(found, Malformed):
            return refused(BadQuery(why_not(found, question)))
        return Response(200, [JSON, UNCACHED], compact(found.as_json()).encode("ascii"))

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
    guids = read_guids(query, ("app", "space", "org"))
    if isinstance(guids, BadQuery):
        return guids
    if guids and "app" not in guids:
        return BadQuery("a caller without app is nobody; expected app=GUID, with space and org where it has them")
    return Caller(guids["app"], guids.get("space"), guids.get("org")) if guids else None
