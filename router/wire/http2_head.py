"""Requests of HTTP/2: the pairs of a header block to the same ``RequestHead`` that HTTP/1.1 gives.

Promises: a head, a ``Malformed``, or a ``BlockFault`` that ends the connection; the grammar of names, values, methods,
targets and lengths is HTTP/1.1's, since the head goes on as HTTP/1.1 to most backends; nothing a client sends raises.
Refuses to know: streams; whether the authority is well formed (``router/l7/target``).
Source: RFC 9113 sections 8.1.1 (malformed), 8.2 (fields), 8.3 (pseudo-fields), 8.5 (CONNECT); RFC 9110 6.5.1 (trailers).

Rules, where the RFC leaves room or a gateway must be stricter:

* Names in lower case; values without blanks around them and without control bytes, as in ``headers``.
* ``:authority`` and Host name the same, or the request is refused; one of them must be there.
* No field that belongs to a connection; TE says ``trailers`` or nothing.
* ``:path`` begins with ``/``, or is the ``*`` of OPTIONS. CONNECT is read (and refused further on); extended CONNECT is not.

What a block meant is kept by its bytes for as long as the table stays as it is: a client that repeats itself, as most
do, sends the same few bytes for every request, and decoding is the dearest part of one.
"""

import re

from router.wire.framing import CHUNKED, NO_BODY, NO_TOKENS, body_length, merge_repeated
from router.wire.headers import TOKEN, Fields
from router.wire.hpack_blocks import BlockDecoder, BlockFault
from router.wire.http1 import TARGET, RequestHead
from router.wire.http2_fields import field_fault, parse_trailers, size_of
from router.wire.http2_limits import MAX_HEAD_BYTES, Http2Limits
from router.wire.malformed import Malformed

_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_SCHEMES = (b"https", b"http")

_METHOD = re.compile(TOKEN)
_PATH = re.compile(TARGET)

_MAX_KEPT = 16  # heads a connection, with so many bytes of block and text: an idle connection holds on to them
_MAX_KEPT_BYTES = 16_384


class HeadReader:
    """All header blocks of one connection, in order."""

    __slots__ = ("_decoder", "_kept", "_kept_at", "_kept_bytes", "_limits", "max_block_bytes")

    def __init__(self, limits: Http2Limits) -> None:
        most = min(limits.max_head_bytes, MAX_HEAD_BYTES)
        self._limits = limits._replace(max_head_bytes=most)
        self.max_block_bytes = 2 * most
        self._decoder = BlockDecoder(
            2 * most
        )  # what is larger than a head may be is read to its end, within reason, to be answered
        self._kept: dict[tuple[bytes, bool], RequestHead] = {}
        self._kept_bytes = 0
        self._kept_at = 0  # the decoder's ``changes`` for which they hold

    @property
    def resizes(self) -> int:
        """Resizes of the table so far."""
        return self._decoder.resizes

    def request(self, block: bytes, *, ended: bool) -> RequestHead | Malformed | BlockFault:
        """The head in a block. ``ended``: no body follows."""
        decoder = self._decoder
        if self._kept_at == decoder.changes and (head := self._kept.get((block, ended))) is not None:
            return head
        before = decoder.changes
        pairs = decoder.decode(block)
        if isinstance(pairs, BlockFault):
            return pairs
        read = parse_request(pairs, self._limits, ended=ended)
        if before == decoder.changes and isinstance(read, RequestHead):
            self._keep(block, ended, read, before)
        return read

    def trailers(self, block: bytes) -> Fields | Malformed | BlockFault:
        """The trailers in a block."""
        pairs = self._decoder.decode(block)
        return pairs if isinstance(pairs, BlockFault) else parse_trailers(pairs, self._limits)

    def skip(self, block: bytes) -> BlockFault | None:
        """Keep the table right where nobody wants a block's fields."""
        pairs = self._decoder.decode(block)
        return pairs if isinstance(pairs, BlockFault) else None

    def _keep(self, block: bytes, ended: bool, head: RequestHead, changes: int) -> None:
        size = len(block) + size_of(head.fields)
        if self._kept_at != changes or len(self._kept) == _MAX_KEPT or self._kept_bytes + size > _MAX_KEPT_BYTES:
            self._kept.clear()
            self._kept_bytes = 0
            self._kept_at = changes
        if size <= _MAX_KEPT_BYTES:
            self._kept[block, ended] = head
            self._kept_bytes += size


def parse_request(pairs: Fields, limits: Http2Limits, *, ended: bool) -> RequestHead | Malformed:
    """The request that a block's pairs make. Malformed carries the status to answer: 400, 417 or 431."""
    if size_of(pairs) > limits.max_head_bytes:
        return Malformed("head_too_large", 431)
    pseudo: dict[bytes, bytes] = {}
    fields: Fields = []
    for name, value in pairs:
        if name[:1] != b":":
            fields.append((name, value))
        elif fields or name in pseudo or name not in _PSEUDO:
            return Malformed("bad_pseudo_field")
        else:
            pseudo[name] = value
    if len(fields) + (b":authority" in pseudo) > limits.max_fields:
        return Malformed("too_many_fields", 431)
    if fault := _with_host(pseudo.get(b":authority"), fields):
        return fault
    known = dict(fields)
    return field_fault(fields, known) or _judge_target(pseudo) or _head(pseudo, fields, known, ended)


def _with_host(authority: bytes | None, fields: Fields) -> Malformed | None:
    """Put the one name of the host in front of ``fields``."""
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1:
        return Malformed("host_repeated")
    if authority is None:
        if not hosts:
            return Malformed("host_missing")
        authority = hosts[0]
    elif hosts and hosts[0].lower() != authority.lower():
        return Malformed("host_mismatch")
    if b"@" in authority:
        return Malformed("bad_authority")
    if hosts:
        fields[:] = [pair for pair in fields if pair[0] != b"host"]
    fields.insert(0, (b"host", authority))
    return None


def _judge_target(pseudo: dict[bytes, bytes]) -> Malformed | None:
    method, scheme, path = pseudo.get(b":method"), pseudo.get(b":scheme"), pseudo.get(b":path")
    if method == b"CONNECT":
        return None if scheme is None and path is None and b":authority" in pseudo else Malformed("bad_connect")
    if method is None or scheme is None or path is None:
        return Malformed("pseudo_field_missing")
    if _METHOD.fullmatch(method) is None:
        return Malformed("bad_method")
    if scheme not in _SCHEMES:
        return Malformed("bad_scheme")
    rooted = path[:1] == b"/" or (path == b"*" and method == b"OPTIONS")
    return None if rooted and _PATH.fullmatch(path) else Malformed("bad_target")


def _head(pseudo: dict[bytes, bytes], fields: Fields, known: dict[bytes, bytes], ended: bool) -> RequestHead | Malformed:
    if len(known) != len(fields):
        if fault := merge_repeated(fields, known):
            return fault
        fields = _with_one_cookie(fields)
    length = body_length(known, 1)
    if isinstance(length, Malformed):
        return length
    if ended and length:
        return Malformed("content_length_mismatch")
    expect = known.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        return Malformed("expectation_unknown", 417)
    host = fields[0][1]
    return RequestHead(
        pseudo[b":method"],
        pseudo.get(b":path", host),
        1,
        fields,
        host,
        NO_BODY if ended else CHUNKED if length is None else length,
        True,
        expect is not None and not ended,
        NO_TOKENS,
        None,
        0,
    )


def _with_one_cookie(fields: Fields) -> Fields:
    """RFC 9113 8.2.3: crumbs are one field again, where the first stood."""
    crumbs = [value for name, value in fields if name == b"cookie"]
    if len(crumbs) < 2:
        return fields
    at = next(at for at, (name, _) in enumerate(fields) if name == b"cookie")
    joined = [pair for pair in fields if pair[0] != b"cookie"]
    joined.insert(at, (b"cookie", b"; ".join(crumbs)))
    return joined
