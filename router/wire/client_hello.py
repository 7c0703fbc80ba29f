"""The first TLS message of a client, read before OpenSSL sees it: which server name it asks for, which
protocols it offers.

Promises: one name or none, never a guess between two; the whole ClientHello, in whatever records it came, or
no answer. Whatever stays unread or ambiguous is a refusal, since the name chooses the client-certificate
policy.
Refuses to know: sockets, domains, and everything else in the message. OpenSSL reads the same bytes again and
judges them; its server name, put through ``read_server_name``, must equal the one found here.
Sources: RFC 8446 sections 4.1.2, 4.2 and 5.1, RFC 5246 7.4.1.2 (TLS 1.2, same layout), RFC 6066 section 3,
RFC 7301, RFC 9849 (Encrypted Client Hello).

Facts
-----
* A handshake message may be split over records anywhere, down to a byte a record; a record may not be empty.
* Nothing may share the last record with a ClientHello: the client has nothing else to say yet.
* The record's version says nothing (0x0301 mostly); its first byte must be 3. An SSLv2 hello starts with its
  length: not TLS.
* server_name holds one host name of ASCII, without a final dot (trimmed here: some send it) and never an
  address. Clients send addresses all the same, and they name no domain: then the name is ``None``, as if
  they had sent none.
"""

import re
import struct
from functools import lru_cache
from typing import Final, NamedTuple

from router.wire.malformed import Malformed

MAX_BYTES: Final = 16 * 1024  # of all records together: ten times a post-quantum hello; bounds what is peeked and kept

_HEADER_BEGINS: Final = b"\x16\x03"  # a handshake record, of any version that counts as TLS
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_ENCRYPTED_HELLO: Final = 0xFE0D
_HOST_NAME: Final = 0
_MAX_RECORD: Final = 1 << 14
_MAX_NAME: Final = 255

_EXTENSION: Final = struct.Struct(">HH")  # type, length

_NAME = re.compile(rb"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")
_ADDRESS = re.compile(rb"[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[?[0-9a-f.]*:[0-9a-f:.]*\]?")


class ClientHello(NamedTuple):
    """What a client asked for. ``server_name``: lower case, without a final dot; ``size``: bytes of all its
    records; ``ech``: another hello may be encrypted inside, or random bytes that look like one (RFC 9849)."""

    server_name: str | None
    alpn: tuple[bytes, ...]
    size: int
    ech: bool = False


def parse_client_hello(data: bytes) -> ClientHello | Malformed | None:
    """The ClientHello that ``data`` starts with; ``None`` while it is a beginning of one.

    Reasons: not_tls, too_large, bad_record, bad_hello, bad_extensions, bad_alpn, two_names, bad_name.
    """
    message = _reassemble(data)
    if isinstance(message, Malformed):
        return message
    if isinstance(message, _Unfinished):
        return None
    body = message.body
    extensions = _find_extensions(body)
    if extensions is None:
        return Malformed("bad_hello")
    if isinstance(extensions, Malformed):
        return extensions
    name = _read_name_list(_value(body, extensions[_SERVER_NAME])) if _SERVER_NAME in extensions else None
    if isinstance(name, Malformed):
        return name
    alpn = _read_protocols(_value(body, extensions[_ALPN])) if _ALPN in extensions else ()
    if alpn is None:
        return Malformed("bad_alpn")
    return ClientHello(name, alpn, message.size, _ENCRYPTED_HELLO in extensions)


def read_server_name(name: bytes) -> str | Malformed | None:
    """A host name as TLS carries it, in its one spelling here; ``None`` for an IP address, Malformed for
    what is no name.

    At most 255 bytes; labels of letters, digits, ``-`` and ``_``.
    """
    return _spell(name) if len(name) <= _MAX_NAME else Malformed("bad_name")


@lru_cache(maxsize=1024)  # most clients ask for the same few names
def _spell(name: bytes) -> str | Malformed | None:
    lower = name.lower()
    if _ADDRESS.fullmatch(lower):
        return None
    plain = lower.removesuffix(b".")
    if _NAME.fullmatch(plain) is None:
        return Malformed("bad_name")
    return plain.decode("ascii")


def least_size(data: bytes) -> int:
    """How many bytes, records included, a ClientHello that starts with ``data`` has at least, where
    ``parse_client_hello`` said ``None``: more than ``len(data)``, at most MAX_BYTES.

    The low-water mark to wait with: a client that sends byte by byte, in one-byte records, then wakes us
    some dozen times instead of once a byte, and cannot make us read the same records over and over.
    """
    message = _reassemble(data)
    return message.least if isinstance(message, _Unfinished) else len(data)


class _Message(NamedTuple):
    body: bytes
    size: int


class _Unfinished(NamedTuple):
    least: int


def _reassemble(data: bytes) -> _Message | _Unfinished | Malformed:
    """The first handshake message, out of its records."""
    if data[:2] == _HEADER_BEGINS and data[5:6] == b"\x01":  # as nearly always: whole, and in one record
        size = int.from_bytes(data[3:5])
        if 4 < size <= _MAX_RECORD and len(data) >= size + 5 <= MAX_BYTES and int.from_bytes(data[6:9]) == size - 4:
            return _Message(data[9 : size + 5], size + 5)
    parts: list[bytes] = []
    have, need, at = 0, 4, 0
    while have < need:
        header = data[at : at + 5]
        length = int.from_bytes(header[3:]) if len(header) == 5 else need - have
        fault = _judge_record_header(header, length, first=at == 0)
        if fault is not None:
            return fault
        end = at + 5 + length
        parts.append(data[at + 5 : end])
        have += length
        if need == 4 and parts[0]:
            start = b"".join(parts)[:4]
            if start[0] != _CLIENT_HELLO:
                return Malformed("bad_hello")
            if len(start) == 4:
                need += int.from_bytes(start[1:])
            if start[1:] == b"\0\0\0":
                return Malformed("bad_hello")
        if have > need > 4:
            return Malformed("bad_hello")
        least = end if have >= need else end + 5 + need - have  # at best the rest comes in one record
        if least > MAX_BYTES:
            return Malformed("too_large")
        if end > len(data):
            return _Unfinished(least)
        at = end
    return _Message(b"".join(parts)[4:], at)


def _judge_record_header(header: bytes, length: int, first: bool) -> Malformed | None:
    """A record header, perhaps cut off."""
    if not _HEADER_BEGINS.startswith(header[:2]):
        return Malformed("not_tls" if first else "bad_record")
    return None if 0 < length <= _MAX_RECORD else Malformed("bad_record")


def _find_extensions(body: bytes) -> dict[int, int] | Malformed | None:
    """Where the value of each extension of a ClientHello begins, by type; ``None`` if what stands before them,
    or their length, is wrong."""
    try:
        at = 35 + body[34]  # legacy_version, random; session id
        length = body[at] << 8 | body[at + 1]
        if length < 2 or length % 2:
            return None
        at += 2 + length  # cipher suites
        if not body[at]:
            return None
        at += 1 + body[at]  # compression methods
        if at == len(body):
            return {}  # TLS 1.2 allows a hello without any
        if at + 2 + (body[at] << 8 | body[at + 1]) != len(body):
            return None
    except IndexError:
        return None
    return _split_extensions(body, at + 2)


def _split_extensions(body: bytes, at: int) -> dict[int, int] | Malformed:
    found: dict[int, int] = {}
    size, unpack = len(body), _EXTENSION.unpack_from
    while at < size:
        start = at + 4
        if start > size:
            return Malformed("bad_extensions")
        kind, length = unpack(body, at)
        at = start + length
        if at > size:
            return Malformed("bad_extensions")
        if kind in found:
            return Malformed("two_names" if kind == _SERVER_NAME else "bad_extensions")
        found[kind] = start
    return found


def _value(body: bytes, start: int) -> bytes:
    """The value that begins there, behind its length."""
    return body[start : start + int.from_bytes(body[start - 2 : start])]


def _read_name_list(value: bytes) -> str | Malformed | None:
    """The one host name of a server_name extension."""
    if len(value) < 5 or int.from_bytes(value[:2]) != len(value) - 2 or value[2] != _HOST_NAME:
        return Malformed("bad_name")
    length = int.from_bytes(value[3:5])
    if length != len(value) - 5:
        return Malformed("two_names" if length < len(value) - 5 else "bad_name")
    return read_server_name(value[5:])


def _read_protocols(value: bytes) -> tuple[bytes, ...] | None:
    if len(value) < 2 or int.from_bytes(value[:2]) != len(value) - 2:
        return None
    names: list[bytes] = []
    at = 2
    while at < len(value):
        name = value[at + 1 : at + 1 + value[at]]
        if not name or len(name) != value[at]:
            return None
        names.append(name)
        at += 1 + len(name)
    return tuple(names) or None
