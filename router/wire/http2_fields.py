"""The fields of HTTP/2 messages, whoever sent them: what a name and a value may be, and how large they count.

Promises: the grammar is HTTP/1.1's, since most of what comes here goes on as HTTP/1.1; fields that belong to a connection are
malformed; nothing raises for what a peer sent. Refuses to know: pseudo-fields, which are not fields here.
Source: RFC 9113 sections 6.5.2 (size) and 8.2 (fields); RFC 9110 6.5.1 (trailers).

* Names in lower case; values without blanks around them and without control bytes, as ``headers`` has them.
* TE says ``trailers`` or nothing.
"""

import re
from typing import Final

from router.wire.headers import Fields, may_be_trailer
from router.wire.http2_limits import Http2Limits
from router.wire.malformed import Malformed

CONNECTION_FIELDS: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
"""Of HTTP/1.1's connections: they have no meaning here (section 8.2.2)."""

_NAMES = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9a-z-]++\n)*+")
_VALUES = re.compile(rb"(?:(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?\n)*+")


def size_of(pairs: Fields) -> int:
    """Bytes as RFC 9113 6.5.2 counts them."""
    return 32 * len(pairs) + sum([len(name) + len(value) for name, value in pairs])


def parse_trailers(pairs: Fields, limits: Http2Limits) -> Fields | Malformed:
    """The fields that may be trailers among a block's pairs."""
    if size_of(pairs) > limits.max_trailer_bytes:
        return Malformed("trailers_too_large", 431)
    if len(pairs) > limits.max_trailer_fields:
        return Malformed("too_many_trailers", 431)
    return field_fault(pairs, dict(pairs)) or [pair for pair in pairs if may_be_trailer(pair[0])]


def field_fault(fields: Fields, known: dict[bytes, bytes]) -> Malformed | None:
    """What is wrong with fields, if anything; a pseudo-field among them is. ``known``: the same by name.
    Each text is judged at once for all of them: a line for each, and as many lines as there are."""
    if not fields:
        return None
    names = b"\n".join(known) + b"\n"
    values = b"\n".join([value for _, value in fields]) + b"\n"
    if names.count(b"\n") != len(known) or _NAMES.fullmatch(names) is None:
        return Malformed("bad_field_name")
    if values.count(b"\n") != len(fields) or _VALUES.fullmatch(values) is None:
        return Malformed("bad_field_value")
    if not CONNECTION_FIELDS.isdisjoint(known) or (b"te" in known and not _wants_trailers(fields)):
        return Malformed("connection_field")
    return None


def _wants_trailers(fields: Fields) -> bool:
    return all(value.lower() == b"trailers" for name, value in fields if name == b"te")
