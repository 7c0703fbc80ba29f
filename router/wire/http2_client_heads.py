"""Heads of HTTP/2 as those of HTTP/1.1: fields of a block to a `ResponseHead`, a request to the fields of its block.

Promises: a head is as strictly read as one of HTTP/1.1 and has the same shape, so that nobody behind it asks which version it
came by; nothing raises for what a peer sent. What belongs to a connection of HTTP/1.1 does not leave here, and is malformed where
it arrives.
Refuses to know: frames, streams, which fields may pass.
Source: RFC 9113 sections 8.1 to 8.3.
"""

import re
from typing import Final

from router.wire.framing import CHUNKED, NO_BODY, NO_TOKENS, body_length, merge_repeated
from router.wire.headers import Fields, may_be_trailer
from router.wire.http1 import ResponseHead
from router.wire.malformed import Malformed

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]++")
_VALUE: Final = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_STATUS: Final = re.compile(rb"[1-5][0-9][0-9]")
_OF_A_CONNECTION: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_NOT_SENT: Final = _OF_A_CONNECTION | {b"host", b"te", b"http2-settings"}


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
    if fault := _fault(fields):
        return Malformed(fault, 502)
    known = dict(fields)
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


def trailer_fields(fields: Fields) -> Fields | Malformed:
    """The fields after a body, without those that are not heard there."""
    fault = _fault(fields)
    return Malformed(fault, 502) if fault else [field for field in fields if may_be_trailer(field[0])]


def request_fields(method: bytes, scheme: bytes, target: bytes, fields: Fields) -> Fields:
    """What a request's block holds. `target` is a path, `*` or absolute; its query stays."""
    host = b""
    trailers = False
    out: Fields = []
    for name, value in fields:
        lower = name.lower()
        if lower not in _NOT_SENT:
            out.append((lower, value))
        elif lower == b"host":
            host = value
        elif lower == b"te":
            trailers = trailers or any(each.strip(b" \t") == b"trailers" for each in value.lower().split(b","))
    if trailers:
        out.append((b"te", b"trailers"))
    authority = [(b":authority", host)] if host else []
    return [(b":method", method), (b":scheme", scheme), *authority, (b":path", _path(target)), *out]


def _path(target: bytes) -> bytes:
    """The path of an absolute target; others are one already."""
    if target[:1] == b"/" or target == b"*":
        return target
    rest = target.partition(b"://")[2]
    at = min((found for found in (rest.find(b"/"), rest.find(b"?")) if found >= 0), default=len(rest))
    path = rest[at:]
    return path if path[:1] == b"/" else b"/" + path


def _fault(fields: Fields) -> str:
    """What is wrong with regular fields, if anything."""
    for name, value in fields:
        if _NAME.fullmatch(name) is None:
            return "pseudo_field" if name[:1] == b":" else "bad_field_name"
        if _VALUE.fullmatch(value) is None:
            return "bad_field_value"
        if name in _OF_A_CONNECTION:
            return "connection_field"
    return ""
