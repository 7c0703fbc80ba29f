"""Field lines: their grammar, what is wrong with bytes that break it, and which names may not be trailers.

Promises: everything is bytes and ASCII; nothing a peer sends raises; nothing is repaired; linear in the
bytes read.
Refuses to know: what a field means for routing or identity, that is ``router/l7``'s.
Sources: RFC 9112 section 5 (field syntax), RFC 9110 sections 5.5, 5.6 (values, tokens, lists), 6.5.1
(trailers).

Facts
-----
* A name is a token, at least one byte, with the colon directly after it. It compares without case:
  lower-case from here on.
* A value holds blanks (SP, HTAB), visible ASCII and obs-text (0x80-0xFF); blanks around it are not part of
  it.
* A line ends with CRLF, nothing else. A lone CR or LF, a folded line and every other control byte are
  refused: each of them is read in two ways by two programs somewhere, and that is what request smuggling is
  made of.
* Order and duplicates matter, hence a list of pairs and not a mapping.
"""

import re
from collections.abc import Callable

from router.wire.malformed import Malformed

Fields = list[tuple[bytes, bytes]]

# Runs of one character class are possessive: they never step back. Groups are not: CPython before 3.11.5
# gets those wrong.
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
VALUE = rb"[\t -~\x80-\xff]*+"
FIELD_LINES = rb"(?:" + TOKEN + rb":" + VALUE + rb"\r\n)*"

_FIELD_LINES = re.compile(FIELD_LINES)
# Only for text that FIELD_LINES has matched: then the first colon ends the name and a CR ends the line. A
# lazy value would cost 2 us a head more; this one steps back over its trailing blanks once.
_FIELD = re.compile(rb"([^:]++):[ \t]*+([^\r]*[^\r \t]|)[ \t]*+\r\n")
_BROKEN = re.compile(
    rb"(?P<bare_lf>(?<!\r)\n)"
    rb"|(?P<bare_cr>\r(?!\n|\Z))"
    rb"|(?P<folded_line>(?<=\n)[ \t])"
    rb"|(?P<control_byte>[\x00-\x08\x0b\x0c\x0e-\x1f\x7f])"
)
_TOKENS = re.compile(TOKEN)
_TOKEN_LIST = re.compile(rb"[ \t,]*+(?:" + TOKEN + rb"[ \t]*+(?:,[ \t,]*+|\Z))*")

HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection",
        b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip

# RFC 9110 6.5.1: what frames, routes, authenticates, conditions or describes a message is decided at its
# head; a second word about it after the body is not heard.
_NOT_IN_TRAILERS = HOP_BY_HOP | frozenset(
    {
        # framing and routing
        b"content-length", b"host", b"expect", b"max-forwards", b"http2-settings",
        # credentials and state
        b"authorization", b"authentication-info", b"proxy-authentication-info", b"www-authenticate",
        b"cookie", b"cookie2", b"set-cookie", b"set-cookie2",
        # conditions, and control of the response
        b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range", b"range",
        b"cache-control", b"pragma", b"age", b"expires", b"date", b"location", b"retry-after", b"vary",
        b"warning", b"content-security-policy", b"strict-transport-security",
        # what the content is
        b"content-encoding", b"content-type", b"content-range", b"content-language", b"content-location",
        b"content-disposition",
        # who is calling, and what routers say to each other
        b"forwarded", b"via", b"x-real-ip", b"true-client-ip", b"x-client-cert", b"x-request-id",
        b"x-request-start", b"traceparent", b"tracestate", b"b3", b"proxy", b"x-original-url",
        b"x-rewrite-url",
    }
)  # fmt: skip
_NOT_IN_TRAILERS_FAMILIES = (
    b"x-forwarded-", b"client-cert", b"x-ssl-", b"x-cf-", b"x-vcap-", b"x-b3-", b"access-control-",
)  # fmt: skip


def split_fields(block: bytes) -> Fields:
    """The pairs of a block that FIELD_LINES matched: names in lower case, values without surrounding blanks,
    in order."""
    return [(name.lower(), value) for name, value in _FIELD.findall(block)]


def find_fault(data: bytes, searched: int, judge_first: Callable[[bytes], Malformed | None] | None = None) -> Malformed | None:
    """The first thing in a section's bytes that no more bytes can repair, in order of arrival; ``None`` if
    there is none.

    ``data`` is a first line, then field lines, cut anywhere before the section's empty line. Its first
    ``searched`` bytes passed an earlier call and are not judged again, so that a peer who sends byte by byte
    costs what one who does not costs. ``judge_first`` gets the first line without its CRLF, once, as soon as
    it is complete.
    """
    broken = _BROKEN.search(data, max(0, searched - 1))
    clean = broken.start() if broken else len(data)
    fault = _line_fault(data, searched, clean, judge_first)
    if fault is None and broken is not None:
        return Malformed(broken.lastgroup or "control_byte")
    return fault


def _line_fault(
    data: bytes, searched: int, clean: int, judge_first: Callable[[bytes], Malformed | None] | None
) -> Malformed | None:
    last = data.rfind(b"\r\n", max(0, searched - 1), clean)
    if last < 0:
        return None  # no line became complete
    before = data.rfind(b"\r\n", 0, searched)
    if before < 0:
        before = data.find(b"\r\n")
        fault = judge_first(data[:before]) if judge_first else None
        if fault is not None:
            return fault
    if _FIELD_LINES.fullmatch(data, before + 2, last + 2) is None:
        return Malformed("bad_field_name")  # values are clean, or _BROKEN had stopped short of them
    return None


def token_list(value: bytes) -> frozenset[bytes] | None:
    """The lower-case tokens of a comma-separated list (RFC 9110 5.6.1: empty elements do not count);
    ``None`` if an element is no token."""
    return loose_tokens(value) if _TOKEN_LIST.fullmatch(value) else None


def loose_tokens(value: bytes) -> frozenset[bytes]:
    """Every run of token characters in ``value``, in lower case: a superset of what any reader may take for
    its tokens."""
    return frozenset(_TOKENS.findall(value.lower()))


def may_be_trailer(name: bytes) -> bool:
    """Whether a lower-case field name is heard after a body; one with ``_`` is judged as its look-alike with
    ``-``."""
    plain = name.replace(b"_", b"-")
    return plain not in _NOT_IN_TRAILERS and not plain.startswith(_NOT_IN_TRAILERS_FAMILIES)
