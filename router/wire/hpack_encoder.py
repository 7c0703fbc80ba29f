"""Header blocks that we make, of responses and of requests: every block stands for itself.

Promises: no dynamic table, so no state between blocks and none that a peer can make grow; fields of the static table by
their number, all others literal and in plain text, credentials and cookies marked as never to be indexed; no field that
belongs to a connection; names in lower case. Refuses to know: what a field means otherwise.
Source: RFC 7541 (HPACK), RFC 9113 section 8.2.2 (fields that belong to a connection).

What most heads share (content types, lengths, cache rules, agents) is encoded once a process: the encoded fields are kept,
within a bound; of those whose value differs every time, what stands before the value. Huffman coding would save a fifth of a
head's bytes and cost more time than all else here.
"""

import re
from typing import Final, TypeVar

from hpack.table import HeaderTable

from router.wire.headers import TOKEN, Fields
from router.wire.http2_fields import CONNECTION_FIELDS

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

TABLE_SIZE_ZERO: Final = b"\x20"
"""In front of the first block after a peer gave us less than the 4096 bytes of table that every connection begins with."""

_WITHOUT_INDEXING, _NEVER_INDEXED, _INDEXED = 0x00, 0x10, 0x80
_SENSITIVE = frozenset(
    {
        b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"www-authenticate", b"authentication-info",
        b"x-forwarded-client-cert",
    }
)  # fmt: skip
_UNIQUE = frozenset(
    {
        b"x-vcap-request-id", b"x-request-id", b"traceparent", b"tracestate", b"etag", b"location", b"x-forwarded-for",
        b"x-request-start", b"x-b3-traceid", b"x-b3-spanid", b"b3",
    }
)  # fmt: skip
_NAME = re.compile(TOKEN)
_is_plain = re.compile(rb"[!-~]++(?: [!-~]++)*+").fullmatch
_SIZES = tuple([bytes((size,)) for size in range(127)])

_MAX_KEPT = 1_024  # encoded fields, of at most so many bytes: some 300 KiB a process
_MAX_KEPT_VALUE = 128

_PAIRS = {pair: number for number, pair in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))}
_NAMES = {name: number for number, (name, _) in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))}
_kept: dict[tuple[bytes, bytes], bytes] = {}
_varying: dict[bytes, bytes] = {}  # what stands before the value, by names as they were spelled


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


def encode_request(method: bytes, scheme: bytes, host: bytes, path: bytes, fields: Fields) -> bytes:
    """The block of a request's head; an empty ``host``: none. ValueError as in ``encode_head``."""
    start = _COMMON.get((method, scheme)) or _pseudo(b":method", method) + _pseudo(b":scheme", scheme)
    authority = _AUTHORITY + _text(b":authority", host) if host else b""
    return start + authority + _pseudo(b":path", path) + encode_fields(fields)


def encode_fields(fields: Fields) -> bytes:
    """The block of a trailer section. ValueError as in ``encode_head``."""
    kept = _kept
    return b"".join([kept.get(pair) or _encode(pair) for pair in fields])


def _pseudo(name: bytes, value: bytes) -> bytes:
    number = _PAIRS.get((name, value))
    return bytes((_INDEXED | number,)) if number is not None else bytes((_NAMES[name],)) + _text(name, value)


def _encode(pair: tuple[bytes, bytes]) -> bytes:
    name, value = pair
    start = _varying.get(name)
    if start is not None:
        size = len(value)
        return start + _SIZES[size] + value if size < 127 and _is_plain(value) else start + _text(name, value)
    lower = name.lower()
    if _NAME.fullmatch(lower) is None:
        raise _unfit(name)
    if lower in CONNECTION_FIELDS:
        return b""
    number = _PAIRS.get((lower, value))
    encoded = bytes((_INDEXED | number,)) if number is not None else _start(lower) + _text(name, value)
    if lower in _UNIQUE or lower in _SENSITIVE:
        if len(name) <= _MAX_KEPT_VALUE:
            _keep(_varying, name, _start(lower))
    elif len(name) + len(value) <= _MAX_KEPT_VALUE:
        _keep(_kept, pair, encoded)
    return encoded


def _start(name: bytes) -> bytes:
    """A field up to its value's length."""
    number = _NAMES.get(name)
    flags = _NEVER_INDEXED if name in _SENSITIVE else _WITHOUT_INDEXING
    return _integer(number, 4, flags) if number else bytes((flags,)) + _integer(len(name), 7, 0) + name


def _keep(kept: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    if len(kept) >= _MAX_KEPT:
        kept.clear()
    kept[key] = value


def _text(name: bytes, value: bytes) -> bytes:
    value = value.strip(b" \t")
    if b"\n" in value or b"\r" in value or b"\0" in value:
        raise _unfit(name)
    size = len(value)
    return (_SIZES[size] if size < 127 else _integer(size, 7, 0)) + value


_AUTHORITY: Final = bytes((_NAMES[b":authority"],))
_COMMON: Final = {
    (method, scheme): _pseudo(b":method", method) + _pseudo(b":scheme", scheme)
    for method in (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
    for scheme in (b"http", b"https")
}


def _unfit(name: bytes) -> ValueError:
    return ValueError(
        f"cannot encode the field {name[:64].lower()!r}: CR, LF or NUL in its value, or no name; expected fields that came from "
        "a parser, or were checked by whoever adds them"
    )
