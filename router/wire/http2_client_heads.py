"""Heads of HTTP/2 as those of HTTP/1.1: fields of a block to a `ResponseHead`, a request to its block.

Promises: a head is as strictly read as one of HTTP/1.1 and has the same shape, so that nobody behind it asks which version it
came by; nothing raises for what a peer sent. What belongs to a connection of HTTP/1.1 does not leave here, and is malformed where
it arrives.
Refuses to know: frames, streams, which fields may pass.
Source: RFC 9113 sections 8.1 to 8.3.
"""

import re
from typing import Final

from router.wire.framing import CHUNKED, NO_BODY, NO_TOKENS, body_length, merge_repeated
from router.wire.headers import Fields
from router.wire.hpack_encoder import encode_request
from router.wire.http1 import ResponseHead
from router.wire.http2_fields import field_fault
from router.wire.malformed import Malformed

_STATUS: Final = re.compile(rb"[1-5][0-9][0-9]")
_NOT_SENT: Final = frozenset({b"host", b"te", b"http2-settings"})  # as fields; those of a connection are left out further down


def response_head(fields: Fields, method: bytes, *, ended: bool) -> ResponseHead | Malformed:
    """The head that answers a request with `method`, interim ones (1xx) too; `ended`: nothing follows it. `size` is what it would
    take in HTTP/1.1.
    """
    if not fields or fields[0][0] != b":status":
        return Malformed("status_missing", 502)
    code = fields[0][1]
    if _STATUS.fullmatch(code) is None:
        return Malformed("bad_status", 502)
    status = int(code)
    fields = fields[1:]
    known = dict(fields)
    if fault := field_fault(fields, known):
        return Malformed(fault.reason, 502)
    if len(known) != len(fields) and (repeated := merge_repeated(fields, known)):
        return Malformed(repeated.reason, 502)
    length = body_length(known, 1)
    if isinstance(length, Malformed):
        return Malformed(length.reason, 502)
    if status < 200 and (status == 101 or ended or length):
        return Malformed("bad_interim", 502)
    empty = status < 200 or status in (204, 304) or method == b"HEAD"
    if ended and length and not empty:
        return Malformed("body_too_short", 502)
    body = NO_BODY if empty or ended else CHUNKED if length is None else length
    size = sum([len(name) + len(value) for name, value in fields]) + 4 * len(fields) + 15
    return ResponseHead(status, b"", 1, fields, body, True, NO_TOKENS, size, b"set-cookie" in known)


def request_block(method: bytes, scheme: bytes, target: bytes, fields: Fields) -> bytes:
    """A request's header block. `target` is a path, `*` or absolute; its query stays. ValueError for a CR, LF or NUL in a value,
    or for a name that is none: our fault, never a peer's.
    """
    host, trailers = b"", False
    out: Fields = []
    for field in fields:
        lower = field[0].lower()
        if lower not in _NOT_SENT:
            out.append(field)
        elif lower == b"host":
            host = field[1]
        elif lower == b"te":
            trailers = trailers or any(each.strip(b" \t") == b"trailers" for each in field[1].lower().split(b","))
    if trailers:
        out.append((b"te", b"trailers"))
    return encode_request(method, scheme, host, _path(target), out)


def _path(target: bytes) -> bytes:
    """The path of an absolute target; others are one already."""
    if target[:1] == b"/" or target == b"*":
        return target
    rest = target.partition(b"://")[2]
    at = min((found for found in (rest.find(b"/"), rest.find(b"?")) if found >= 0), default=len(rest))
    path = rest[at:]
    return path if path[:1] == b"/" else b"/" + path
