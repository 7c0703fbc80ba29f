"""What the framing fields of a head say: how long the body is, whether the connection goes on.

Promises: one answer or a refusal, never a guess between two readings; nothing raises for what a peer sent.
Refuses to know: start lines, and what else a head holds.
Sources: RFC 9112 sections 6 (body) and 9.3 (persistence), RFC 9110 sections 7.6.1 (Connection), 8.6
(Content-Length).

Rules, stricter than the RFC where it says "may":

* Content-Length is 1 to 19 digits below 2**63, once. Equal duplicates are refused too: they show that
  somebody merged two messages or fields on the way, and a reader who kept only one of them may stop at
  another byte than we do.
* Transfer-Encoding is ``chunked``, once, in HTTP/1.1 and without Content-Length.
* No framing field but the lists Connection and Upgrade stands twice.
"""

import re
from typing import Final

from router.wire.headers import TOKEN, Fields, token_list
from router.wire.malformed import Malformed

NO_BODY: Final = 0
CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2
MAX_LENGTH: Final = 2**63 - 1  # bytes; a signed 64-bit number for whoever reads it next

NO_TOKENS: Final[frozenset[bytes]] = frozenset()

_TOKEN = re.compile(TOKEN)
_LISTS = (b"connection", b"upgrade")
_SINGLE = {
    b"host": Malformed("host_repeated"),
    b"content-length": Malformed("content_length_repeated"),
    b"transfer-encoding": Malformed("transfer_coding_repeated"),
    b"expect": Malformed("expectation_unknown", 417),
}
_USUAL_CONNECTION = {
    value: frozenset({value.lower()}) for value in (b"keep-alive", b"Keep-Alive", b"close", b"Close", b"upgrade", b"Upgrade")
}


def merge_repeated(fields: Fields, known: dict[bytes, bytes]) -> Malformed | None:
    """For a head with repeated names: join the lists among its framing fields in ``known`` (name to value),
    refuse the rest.

    Other repeated names are left as they are: nothing that frames a message is read from them.
    """
    for name in known.keys() & _SINGLE.keys():
        if sum(name == other for other, _ in fields) > 1:
            return _SINGLE[name]
    for name in _LISTS:
        if name in known:
            known[name] = b", ".join([value for other, value in fields if other == name])
    return None


def body_length(known: dict[bytes, bytes], minor: int) -> int | Malformed | None:
    """The body's length in bytes, CHUNKED, or ``None`` where the head states none (RFC 9112 6.1 to 6.3)."""
    coding, length = known.get(b"transfer-encoding"), known.get(b"content-length")
    if coding is None:
        return None if length is None else _content_length(length)
    if length is not None:
        return Malformed("length_and_coding")
    if minor == 0:
        return Malformed("transfer_coding_in_http10")
    if coding.lower() == b"chunked":
        return CHUNKED
    if _lacks_a_coding(coding):
        return Malformed("transfer_coding_unknown", 501)
    return Malformed("bad_transfer_coding")


def _content_length(value: bytes) -> int | Malformed:
    # isdigit() of bytes is ASCII only; int() alone would take "+1", " 1" and "1_0".
    if len(value) <= 19 and value.isdigit() and (number := int(value)) <= MAX_LENGTH:
        return number
    return Malformed("bad_content_length" if value else "empty_content_length")


def _lacks_a_coding(coding: bytes) -> bool:
    """Whether well-formed codings end in their only ``chunked``: framed as we read it, in codings that we
    lack (501)."""
    *others, last = [each.strip(b" \t") for each in coding.lower().split(b",")]
    framed = bool(others) and last == b"chunked" and b"chunked" not in others
    return framed and all(_TOKEN.fullmatch(each) for each in others)


def connection_tokens(value: bytes) -> frozenset[bytes] | None:
    """The lower-case tokens of a Connection field; ``None`` if it is no list of tokens."""
    return _USUAL_CONNECTION.get(value) or token_list(value)


def keeps_alive(connection: frozenset[bytes], minor: int) -> bool:
    """Whether the sender lets the connection go on after this message (RFC 9112 9.3)."""
    return b"close" not in connection and (minor == 1 or b"keep-alive" in connection)
