"""Header blocks of requests, on the client's side: every block stands for itself.

Promises: no dynamic table, so whoever knows the static one can decode a block; credentials are marked as never to be indexed; no
value can be taken for more than one field. Refuses to know: what a field means, and which may leave.
Source: RFC 7541 (HPACK).

Nothing is kept but how names begin: unlike those of responses, the values of requests are rarely the same twice.
"""

from functools import lru_cache
from typing import Final

from hpack.table import HeaderTable

from router.wire.headers import Fields

FORGET: Final = b"\x20"
"""A table size update to 0: true of an encoder that keeps no table, whatever size its peer offers (RFC 7541 section 4.2)."""

_NEVER_INDEXED: Final = frozenset({b"authorization", b"cookie", b"proxy-authorization", b"x-forwarded-client-cert"})
_NAMES: Final[dict[bytes, int]] = {}
_WHOLE: Final[dict[tuple[bytes, bytes], int]] = {}
for _index, _entry in enumerate(HeaderTable.STATIC_TABLE, 1):
    _NAMES.setdefault(_entry[0], _index)
    _WHOLE[_entry] = _index


def encode(fields: Fields) -> bytes:
    """Names in lower case, as they are to arrive. ValueError for CR, LF or NUL: that is our fault, never a peer's."""
    parts = []
    for name, value in fields:
        index = _WHOLE.get((name, value))
        if index is not None:
            parts.append(bytes((0x80 | index,)))
        else:
            size = len(value)
            parts += (_name(name), bytes((size,)) if size < 127 else _integer(size, 0, 7), value)
    values = b"".join([value for _, value in fields])
    if b"\n" in values or b"\r" in values or b"\0" in values:
        raise ValueError("cannot encode a head with CR, LF or NUL in a value; expected values that came from a parser")
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _encode_name(name: bytes) -> bytes:
    first = 0x10 if name in _NEVER_INDEXED else 0
    index = _NAMES.get(name)
    return _integer(index, first, 4) if index is not None else bytes((first,)) + _integer(len(name), 0, 7) + name


def _name(name: bytes) -> bytes:
    return _encode_name(name) if len(name) <= 64 else _encode_name.__wrapped__(name)  # what is long must not be remembered


def _integer(value: int, first: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    out = bytearray((first | most,))
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
