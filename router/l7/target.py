"""One request, one (host, path): what the route table is asked, and the bytes that go on.

Promises: Host, absolute-form authority and port agree, or the request is refused; the target itself is never
rewritten, but for the path that a route wants to have removed. Refuses to know: routes, policies, and what a
query means (it is never judged).
Source: RFC 9112 section 3.2 (target forms), RFC 9110 section 4.2 (schemes), RFC 3986 section 6.2.2 (normal
forms).
"""

import re
from functools import lru_cache
from typing import NamedTuple

from registry.hostname import Host, canonical
from router.wire.http1 import Malformed, RequestHead

_MAX_AUTHORITY = 262  # bytes: a 253-byte name, its trailing dot, a colon and five digits; more cannot be right
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_ABSOLUTE = re.compile(rb"([Hh][Tt][Tt][Pp][Ss]?)://([^/?]*)([^?]*)(?:\?.*)?", re.DOTALL)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NOT_NORMAL = re.compile(r"%|//|/\.")
_UNRESERVED_ESCAPE = re.compile(r"%(2[dDeE]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|7[eE])")
_ODD = re.compile(r"[%;\\]|//|/\.")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_SLASHES = re.compile(r"//+")
_PARAMETERS = re.compile(r";[^/]*")
_DEFAULT_PORT = {b"http": 80, b"https": 443}


class Target(NamedTuple):
    """Where a request wants to go: `host` canonical, `path` as sent without query, `raw` the target to
    forward.
    """

    host: Host
    path: str
    raw: bytes


class _Authority(NamedTuple):
    host: Host
    port: int | None


def resolve_target(head: RequestHead, peer: str = "") -> Target | Malformed:
    """Say which host and path `head` asks for, or why it cannot be said.

    `peer` is the client's own address in canonical host form: a load balancer's probe names it as its Host,
    which is as good as none. The path of `OPTIONS *` and of an absolute target without one is "/".
    """
    if head.method == b"CONNECT":
        return Malformed("connect", 405)
    if not head.host:
        return Malformed("empty_host", 400)
    authority = _authority(head.host)
    if authority is None:
        return Malformed("bad_host", 400)
    if authority.host == peer:
        return Malformed("empty_host", 400)
    raw = head.target
    if raw[:1] == b"/":
        return _with_path(authority.host, raw.partition(b"?")[0], raw)
    if raw == b"*" and head.method == b"OPTIONS":
        return Target(authority.host, "/", raw)
    return _absolute(authority, raw)


def normalised_path(path: str) -> str | None:
    """The path with unreserved escapes decoded, `//` merged, dot segments removed; None where that changes
    nothing.

    An encoded slash stays encoded, so that it never becomes a separator. Nothing is decoded twice.
    """
    if _NOT_NORMAL.search(path) is None:
        return None
    normal = _without_dots(_UNRESERVED_ESCAPE.sub(_decoded, path))
    return None if normal == path else normal


def readings(path: str) -> frozenset[str]:
    """Each path that some backend may take `path` for, in lower case: as it stands; and with escapes decoded, backslashes as
    slashes, empty segments gone, with parameters (`;x`) and without, dot segments removed or left alone. For rules that only
    refuse.
    """
    if _ODD.search(path) is None:
        return frozenset((path.lower(),))
    decoded = _unescaped(path)
    spelled = {decoded, _unescaped(_PARAMETERS.sub("", path)), _PARAMETERS.sub("", decoded), _unescaped(_without_dots(path))}
    found = {path.lower()}
    for one in spelled:
        found |= {_without_dots(one).lower(), _SLASHES.sub("/", one).lower()}
    return frozenset(found)


def trimmed(target: Target, context: str) -> bytes | None:
    """The target to forward without `context`, the lower-case path of the route that was found for it; all else stays as sent.

    None where that would be ambiguous: where what is left leads out of the route's path, or could pass for an authority.
    """
    size = len(context)
    rest, normal = target.path[size:], normalised_path(target.path) or target.path
    if rest[:2] in ("//", "/\\") or normal[:size].lower() != context or (normalised_path(rest) or rest) != normal[size:]:
        return None
    raw = target.raw
    start = 0 if raw[:1] == b"/" else raw.index(b"/", raw.index(b"://") + 3)
    return raw[:start] + (b"" if rest else b"/") + raw[start + size :]


def _absolute(authority: _Authority, raw: bytes) -> Target | Malformed:
    match = _ABSOLUTE.fullmatch(raw)
    if match is None:
        return Malformed("bad_target", 400)
    scheme, named, path = match.groups()
    other = _authority(named)
    default = _DEFAULT_PORT[scheme.lower()]
    if other is None or other.host != authority.host or (other.port or default) != (authority.port or default):
        return Malformed("host_mismatch", 400)
    return _with_path(authority.host, path or b"/", raw)


def _with_path(host: Host, path: bytes, raw: bytes) -> Target | Malformed:
    if b"%" in path and _BAD_ESCAPE.search(path) is not None:
        return Malformed("bad_escape", 400)
    return Target(host, path.decode("latin-1"), raw)


def _authority(raw: bytes) -> _Authority | None:
    return None if len(raw) > _MAX_AUTHORITY else _read_authority(raw)  # what is too long must not be remembered either


@lru_cache(maxsize=4096)  # a pure function of bytes the same clients repeat on every request
def _read_authority(raw: bytes) -> _Authority | None:
    match = _AUTHORITY.fullmatch(raw)
    if match is None:
        return None
    name, digits = match.groups()
    port = int(digits) if digits is not None else None
    host = canonical(name.decode("ascii"))
    if host is None or (port is not None and not 1 <= port <= 65535):
        return None
    return _Authority(host, port)


def _decoded(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16))


def _unescaped(path: str) -> str:
    return _ESCAPE.sub(_decoded, path).replace("\\", "/")


def _without_dots(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    tail = "/" if kept and segments[-1] in ("", ".", "..") else ""
    return "/" + "/".join(kept) + tail
