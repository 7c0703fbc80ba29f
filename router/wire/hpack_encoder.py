"""Header blocks of responses: every block stands for itself.

Promises: no dynamic table, so no state between blocks and none that a client can make grow; fields of the static table by
their number, all others literal and in plain text, credentials and cookies marked as never to be indexed; no field that
belongs to a connection; names in lower case. Refuses to know: what a field means otherwise.
Source: RFC 7541 (HPACK), RFC 9113 section 8.2.2 (fields that belong to a connection).

What most responses share (content types, lengths, cache rules) is encoded once a process: the encoded fields are kept,
within a bound; of those whose value differs every time, what stands before the value. Huffman coding would save a fifth of a
head's bytes and cost more time than all else here.
"""

import re
from typing import Final

from hpack.table import HeaderTable

from router.wire.headers import TOKEN, Fields

TABLE_SIZE_ZERO: Final = b"\x20"
"""In front of the first block after a client gave us less than the 4096 bytes of table that every connection begins with."""

_WITHOUT_INDEXING, _NEVER_INDEXED, _INDEXED = 0x00, 0x10, 0x80
_OF_CONNECTION = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_SENSITIVE = frozenset(
    {b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"www-authenticate", b"authentication-info"}
)
_UNIQUE = frozenset({b"x-vcap-request-id", b"x-request-id", b"traceparent", b"tracestate", b"etag", b"location"})
_NAME = re.compile(TOKEN)
_SHORT_AND_VISIBLE = re.compile(rb"[!-~]{0,126}")

_MAX_KEPT = 1_024  # encoded fields, of at most so many bytes of value: some 300 KiB a process
_MAX_KEPT_VALUE = 128

_PAIRS = {pair: number for number, pair in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))}
_NAMES = {name: number for number, (name, _) in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))}
_kept: dict[tuple[bytes, bytes], bytes] = {}


def _integer(value: int, bits: int, first: int) -> bytes:
    """RFC 7541 5.1: an integer behind the flags of its ``first`` byte, of which ``bits`` are its own."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    out = bytearray((first | most,))
    value -= most
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _status(status: int) -> bytes:
    number = _PAIRS.get((b":status", b"%d" % status))
    return _integer(number, 7, _INDEXED) if number else _integer(_NAMES[b":status"], 4, _WITHOUT_INDEXING) + b"\x03%d" % status


_STATUS: Final = {status: _status(status) for status in range(100, 600)}


def encode_head(status: int, fields: Fields) -> bytes:
    """The block of a response's head. ``status``: 100 to 599. ValueError for a CR, LF or NUL in a value, and for a name that
    is none: that is our fault, never a peer's."""
    return _STATUS[status] + encode_fields(fields)


def encode_fields(fields: Fields) -> bytes:
    """The block of a trailer section. ValueError as in ``encode_head``."""
    kept = _kept
    return b"".join([kept.get(pair) or _encode(pair) for pair in fields])


def _start(name: bytes) -> bytes:
    """A field up to its value's length."""
    number = _NAMES.get(name)
    flags = _NEVER_INDEXED if name in _SENSITIVE else _WITHOUT_INDEXING
    return _integer(number, 4, flags) if number else bytes((flags,)) + _integer(len(name), 7, 0) + name


_UNIQUE_STARTS: Final = {spelling: _start(name) for name in _UNIQUE for spelling in (name, name.title())}


def _encode(pair: tuple[bytes, bytes]) -> bytes:
    if pair[0] in _UNIQUE_STARTS and _SHORT_AND_VISIBLE.fullmatch(pair[1]):
        return b"%b%c%b" % (_UNIQUE_STARTS[pair[0]], len(pair[1]), pair[1])
    name, value = pair[0].lower(), pair[1].strip(b" \t")
    if name in _OF_CONNECTION:
        return b""
    if b"\n" in value or b"\r" in value or b"\0" in value or _NAME.fullmatch(name) is None:
        raise ValueError(
            f"cannot encode the field {name[:64]!r}: CR, LF or NUL in its value, or no name; expected fields that came from a "
            "parser, or were checked by whoever adds them"
        )
    number = _PAIRS.get((name, value))
    if number is not None:
        return _integer(number, 7, _INDEXED)
    encoded = _start(name) + _integer(len(value), 7, 0) + value
    if len(value) <= _MAX_KEPT_VALUE and name not in _UNIQUE and name not in _SENSITIVE:
        if len(_kept) >= _MAX_KEPT:
            _kept.clear()
        _kept[pair] = encoded
    return encoded
