"""What may be asked of the endpoints that look into a router: the query of a target, checked before it is used.

Promises: a parameter that nobody knows, one that comes twice, one that is too long or says nothing is Malformed, in one bounded
printable sentence, which `refused` answers with 400. Refuses to know: what the answer is, and who may ask (that was asked before
anything here is read).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from identity.caller import Guid, parse_guid, shown
from registry.hostname import Host, canonical_pattern
from router.observe.endpoints import Response

MAX_QUERY: Final = 8192
MAX_VALUE: Final = 1024

TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
JSON: Final = (b"content-type", b"application/json")
UNCACHED: Final = (b"cache-control", b"no-store")


class BadQuery(NamedTuple):
    """Why a question is refused: one sentence."""

    why: str


def refused(query: BadQuery) -> Response:
    """400, and why."""
    return Response(400, [TEXT], f"{query.why}\n".encode("ascii", "backslashreplace"))


def read_query(target: bytes, known: Collection[str]) -> Mapping[str, str] | BadQuery:
    """The parameters of a request's target: some of `known`, each at most once, each 1 to MAX_VALUE characters of UTF-8."""
    _, _, text = target.partition(b"?")
    if len(text) > MAX_QUERY:
        return BadQuery(f"the query has {len(text)} bytes; expected at most {MAX_QUERY}")
    found: dict[str, str] = {}
    for pair in text.split(b"&") if text else ():
        name, value = (_decoded(part) for part in (pair + b"=").split(b"=", 2)[:2])
        if name is None or value is None or pair.count(b"=") > 1:
            return BadQuery(f"{shown(pair.decode('latin-1'))} is no parameter; expected name=value in UTF-8")
        if name not in known:
            return BadQuery(f"parameter {shown(name)} is not known; expected {', '.join(known) or 'none'}")
        if name in found:
            return BadQuery(f"parameter {name} comes twice; expected it once")
        if not 0 < len(value) <= MAX_VALUE:
            return BadQuery(f"parameter {name} has {len(value)} characters; expected 1 to {MAX_VALUE}")
        found[name] = value
    return found


def read_host(text: str) -> Host | BadQuery:
    """A host, or `*.suffix`, in its canonical form."""
    host = canonical_pattern(text)
    return BadQuery(f"{shown(text)} is no host; expected a host name without a port, or *.suffix") if host is None else host


def read_guid(name: str, text: str) -> Guid | BadQuery:
    """The GUID that the parameter `name` says."""
    guid = parse_guid(text)
    return BadQuery(f"{name} {shown(text)} is no GUID; expected 1 to 64 of [A-Za-z0-9_-]") if guid is None else guid


def read_guids(query: Mapping[str, str], names: Collection[str]) -> Mapping[str, Guid] | BadQuery:
    """The GUIDs that those of the parameters `names` say that are there."""
    guids: dict[str, Guid] = {}
    for name in names:
        guid = read_guid(name, query[name]) if name in query else None
        if isinstance(guid, BadQuery):
            return guid
        if guid is not None:
            guids[name] = guid
    return guids


def _decoded(part: bytes) -> str | None:
    try:
        return unquote_to_bytes(part.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        return None
