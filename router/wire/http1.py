"""HTTP/1.x heads: bytes to facts and back, strictly.

Promises: a head is read in one pass (find its end, one match for the grammar, one for the fields); it is a
``RequestHead`` or ``ResponseHead``, ``None`` while more bytes can help, or a ``Malformed`` as soon as they
cannot: a broken byte or a bad line is reported before the head is complete, or a client with LF line ends
would hang until its deadline.
Refuses to know: sockets, routes, whether the authority in Host is well formed or the target names a host
(``router/l7/target``).
Sources: RFC 9112 (syntax, section 6 for the body's length), RFC 9110 (7.2 Host, 7.6.1 Connection, 7.8
Upgrade, 10.1.1 Expect).

Rules, each stricter than the RFC's "may": a router that authorizes must not read a head in another way than
the next one does.

* CRLF only; no empty line in front of a head; one SP between the parts of the request line; target of
  visible ASCII, no ``#``.
* HTTP/1.1 has one Host, HTTP/1.0 at most one.
* The rules of the body's length are in ``framing``.
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from router.wire.chunked import ChunkedDecoder, encode_chunk, encode_last_chunk
from router.wire.framing import (
    CHUNKED,
    NO_BODY,
    NO_TOKENS,
    UNTIL_CLOSE,
    body_length,
    connection_tokens,
    keeps_alive,
    merge_repeated,
)
from router.wire.headers import FIELD_LINES, TOKEN, Fields, find_fault, loose_tokens, split_fields
from router.wire.malformed import Malformed

__all__ = [
    "CHUNKED", "NO_BODY", "UNTIL_CLOSE", "ChunkedDecoder", "Fields", "HeadLimits", "HeadMemory", "Malformed", "RequestHead",
    "ResponseHead", "encode_chunk", "encode_last_chunk", "parse_request_head", "parse_response_head",
    "render_request_head", "render_response_head",
]  # fmt: skip


class HeadLimits(NamedTuple):
    """The most a head may have: bytes with its empty line, and field lines."""

    max_bytes: int
    max_fields: int


_made: Final = tuple.__new__  # a NamedTuple's own constructor is a Python function, and takes twice as long


class RequestHead(NamedTuple):
    """What a client asked. ``body`` is a length in bytes or CHUNKED; ``upgrade`` is the Upgrade field's
    value when Connection names it (HTTP/1.1); ``expect_continue``: the client waits for 100 (HTTP/1.1);
    ``size``: bytes of the head."""

    method: bytes
    target: bytes
    minor: int
    fields: Fields
    host: bytes | None
    body: int
    keep_alive: bool
    expect_continue: bool
    connection: frozenset[bytes]
    upgrade: bytes | None
    size: int


class ResponseHead(NamedTuple):
    """What a backend answered. ``body`` is a length in bytes, CHUNKED, or UNTIL_CLOSE; ``keep_alive`` says
    whether the connection is fit for another request when the body has come; ``size``: bytes of the head;
    ``sets_cookie``: there is a Set-Cookie."""

    status: int
    reason: bytes
    minor: int
    fields: Fields
    body: int
    keep_alive: bool
    connection: frozenset[bytes]
    size: int
    sets_cookie: bool


TARGET = rb"[!-\"$-~]++"
_REQUEST = re.compile(rb"(" + TOKEN + rb") (" + TARGET + rb") HTTP/1\.([01])\r\n(" + FIELD_LINES + rb")\r\n")
_BEGINNING = re.compile(rb"(" + TOKEN + rb") (" + TARGET + rb") HTTP/1\.([01])\r\n")
_REQUEST_LINE = re.compile(TOKEN + rb" (?:(" + TARGET + rb")|[^ ]++) HTTP/([0-9]\.[0-9])")
_TARGET_BEGUN = re.compile(TOKEN + rb" [^ ]")
_RESPONSE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t -~\x80-\xff]*+))?\r\n(" + FIELD_LINES + rb")\r\n")
_REMEMBERED = 4096  # bytes of the longest field lines that a connection remembers
_REMEMBERED_FIELDS = 64  # as objects, short fields take more than their bytes
_CONTROL = re.compile(rb"[\r\n\0]")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9](?: [\t -~\x80-\xff]*+)?")


class HeadMemory:
    """The field lines that came last on a connection, and what they said: clients repeat theirs, only their targets change."""

    __slots__ = ("_block", "_head")

    def __init__(self) -> None:
        self._block = b""
        self._head: RequestHead | None = None

    def recall(self, data: bytes | bytearray, size: int) -> RequestHead | None:
        """The head of ``size`` bytes at the start of ``data`` if all but its first line is as it was, to the byte."""
        before, end = self._head, size - 2 - len(self._block)
        if before is None or end <= 0 or not data.startswith(self._block, end):
            return None
        line = _BEGINNING.fullmatch(data, 0, end)
        if line is None:
            return None
        method, target, digit = line.groups()
        _, _, minor, fields, host, body, keep_alive, expect, connection, upgrade, _ = before
        if digit != (b"1" if minor else b"0"):
            return None
        return _made(RequestHead, (method, target, minor, fields, host, body, keep_alive, expect, connection, upgrade, size))

    def keep(self, block: bytes, head: RequestHead) -> None:
        """Remember what the field lines of ``head`` said; long ones are not worth their place, nor is its target."""
        if len(block) > _REMEMBERED or len(head.fields) > _REMEMBERED_FIELDS:
            self._block, self._head = b"", None
        else:
            self._block, self._head = block, _made(RequestHead, (b"", b"", *head[2:]))


def parse_request_head(
    data: bytes | bytearray, limits: HeadLimits, searched: int = 0, memory: HeadMemory | None = None
) -> RequestHead | Malformed | None:
    """The request head at the start of ``data``; bytes after its empty line are not looked at.

    ``searched``: how many bytes of ``data`` the last call saw, when that call returned ``None``. ``memory``:
    what the connection's last head said; field lines that are the same mean the same, and are not read again.
    Malformed carries the status to answer: 400, 414 (the request line alone passes ``max_bytes``), 417, 431,
    501 or 505.
    """
    size = data.find(b"\r\n\r\n", searched - 3 if searched > 3 else 0) + 4
    if not 4 <= size <= limits.max_bytes:
        return _refuse(data, size, limits, searched, _judge_request_line)
    if memory is not None and (again := memory.recall(data, size)) is not None:
        return again if len(again.fields) <= limits.max_fields else Malformed("too_many_fields", 431)
    match = _REQUEST.fullmatch(data, 0, size)
    if match is None:
        return _refuse(data, size, limits, searched, _judge_request_line)
    method, target, digit, block = match.groups()
    fields = split_fields(block)
    if len(fields) > limits.max_fields:
        return Malformed("too_many_fields", 431)
    known = dict(fields)
    if len(known) != len(fields) and (fault := merge_repeated(fields, known)):
        return fault
    minor = 1 if digit == b"1" else 0
    body = body_length(known, minor)
    if isinstance(body, Malformed):
        return body
    value = known.get(b"connection")
    connection = NO_TOKENS if value is None else connection_tokens(value)
    if connection is None:
        return Malformed("bad_connection")
    host = known.get(b"host")
    if host is None and minor:
        return Malformed("host_missing")
    expect = known.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        return Malformed("expectation_unknown", 417)
    head = RequestHead(
        method,
        target,
        minor,
        fields,
        host,
        body or NO_BODY,
        keeps_alive(connection, minor),
        expect is not None and minor == 1,
        connection,
        known.get(b"upgrade") if minor and b"upgrade" in connection else None,
        size,
    )
    if memory is not None:
        memory.keep(block, head)
    return head


def parse_response_head(
    data: bytes | bytearray, limits: HeadLimits, request_method: bytes, searched: int = 0
) -> ResponseHead | Malformed | None:
    """The response head at the start of ``data``, interim (1xx) ones too; ``request_method`` is the method
    it answers.

    ``searched`` as in ``parse_request_head``. Every Malformed carries 502. A Connection field that is no
    list of tokens, or a 204 that claims a body, is read, but its connection is not kept.
    """
    size = data.find(b"\r\n\r\n", searched - 3 if searched > 3 else 0) + 4
    match = _RESPONSE.fullmatch(data, 0, size) if 4 <= size <= limits.max_bytes else None
    if match is None:
        fault = _refuse(data, size, limits, searched, _judge_status_line)
        return fault and Malformed(fault.reason, 502)
    digit, code, reason, block = match.groups()
    fields = split_fields(block)
    if len(fields) > limits.max_fields:
        return Malformed("too_many_fields", 502)
    known = dict(fields)
    if len(known) != len(fields) and (fault := merge_repeated(fields, known)):
        return Malformed(fault.reason, 502)
    minor = 1 if digit == b"1" else 0
    length = body_length(known, minor)
    if isinstance(length, Malformed):
        return Malformed(length.reason, 502)
    status = int(code)
    if length and status < 200:
        return Malformed("interim_with_body", 502)  # what follows could be that body or the next head
    body = _response_body(status, request_method, length)
    value = known.get(b"connection")
    connection = NO_TOKENS if value is None else connection_tokens(value)
    fit = connection is not None and body != UNTIL_CLOSE and not (length and status == 204)
    if connection is None:
        connection = loose_tokens(value or b"")
    keep, cookie = fit and keeps_alive(connection, minor), b"set-cookie" in known
    return _made(ResponseHead, (status, reason or b"", minor, fields, body, keep, connection, size, cookie))


def _response_body(status: int, request_method: bytes, length: int | None) -> int:
    if status < 200 or status in (204, 304) or request_method == b"HEAD":
        return NO_BODY
    return UNTIL_CLOSE if length is None else length


def _refuse(
    data: bytes | bytearray,
    size: int,
    limits: HeadLimits,
    searched: int,
    judge_first: Callable[[bytes], Malformed | None],
) -> Malformed | None:
    """Why there is no head: the first fault within the limit, else its size, else ``None`` for one that is
    not complete.

    A complete head (``size`` of at least 4) is judged from its start and always has a fault; the order of
    judgement is that of arrival, so that a peer hears the same whether its bytes came at once or one by one.
    """
    complete = size >= 4
    cut = min(size - 2 if complete else len(data), limits.max_bytes)
    head = bytes(data[:cut])
    if head[:1] in (b" ", b"\t", b"\r", b"\n"):
        return Malformed("leading_blank")
    fault = find_fault(head, 0 if complete else searched, judge_first)
    if fault is not None:
        return fault
    if max(size, len(data)) <= limits.max_bytes and not complete:
        return None
    if b"\r\n" in head:
        return Malformed("head_too_large", 431)
    return Malformed("start_line_too_long", 414 if _TARGET_BEGUN.match(head) else 400)


def _judge_request_line(line: bytes) -> Malformed | None:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        return Malformed("bad_request_line")
    target, version = match.groups()
    if target is None:
        return Malformed("bad_target")
    return None if version in (b"1.1", b"1.0") else Malformed("version_not_supported", 505)


def _judge_status_line(line: bytes) -> Malformed | None:
    return None if _STATUS_LINE.fullmatch(line) else Malformed("bad_status_line")


def render_request_head(method: bytes, target: bytes, fields: Fields) -> bytes:
    """An HTTP/1.1 request head. ValueError when a part would break out of its line: that is our fault, never
    a peer's."""
    return _join(b"%b %b HTTP/1.1" % (method, target), fields)


def render_response_head(status: int, reason: bytes, fields: Fields) -> bytes:
    """An HTTP/1.1 response head. ValueError as in ``render_request_head``."""
    return _join(b"HTTP/1.1 %d %b" % (status, reason), fields)


def _join(first: bytes, fields: Fields) -> bytes:
    lines = [first, *map(b": ".join, fields), b"\r\n"]
    text = b"\r\n".join(lines)
    # One scan of memory instead of one match a field: nothing but our own line ends, the empty line's included.
    if len(text) - len(text.translate(None, b"\r\n\0")) != 2 * len(lines):
        guilty = [name[:64] for name, value in fields if _CONTROL.search(name + value)]
        raise ValueError(
            f"cannot render a head: CR, LF or NUL in {guilty or 'its first line'}; expected values that came "
            "from a parser, or were checked by whoever adds them"
        )
    return text
