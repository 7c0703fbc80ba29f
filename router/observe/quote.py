"""Go's strconv.Quote, the quoting of GoRouter's access log, for bytes that a peer chose.

Promises: the result is one line of valid UTF-8 between double quotes, whatever the bytes are; it equals Go's
for every input, but that "printable" is decided by this Python's Unicode tables (newer than Go's: a character
assigned since may differ).
Source: Go's strconv package, `Quote` and `IsPrint`: letters, marks, numbers, punctuation, symbols and the
ASCII space.
"""

import unicodedata

_SHORT = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}

PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
"""The bytes that stand for themselves: `not text.translate(None, PLAIN)` says that a text needs no escape."""


def quote(text: bytes) -> bytes:
    """`text` between double quotes, as Go would write it."""
    return b'"%b"' % escape(text)


def escape(text: bytes) -> bytes:
    """As `quote`, without the quotes."""
    if not text.translate(None, PLAIN):
        return text
    # Bytes that are not UTF-8 arrive as lone surrogates, which no valid input contains.
    return text.decode("utf-8", "surrogateescape").translate(_ESCAPES).encode("utf-8")


def _character(character: str) -> str:
    code = ord(character)
    if 0x20 <= code < 0x7F and code not in _SHORT:
        return character
    if code in _SHORT:
        return _SHORT[code]
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    if unicodedata.category(character)[0] in "LMNPS":
        return character
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class _Escapes(dict[int, str]):
    """What `str.translate` asks: every byte's answer is here, that of any other character is found anew, so nothing grows."""

    def __missing__(self, code: int) -> str:
        return _character(chr(code))


_ESCAPES = _Escapes({code: _character(chr(code)) for code in (*range(0x100), *range(0xDC80, 0xDD00))})
