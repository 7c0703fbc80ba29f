"""The PROXY protocol, versions 1 and 2: what a proxy says of its client before any other byte of a connection.

Promises: a header is understood as a whole or not at all; nothing of it is guessed, repaired or optional. A header that does
not say who the client is (v1 UNKNOWN, v2 UNSPEC, v2 LOCAL) has no addresses: then those of the socket count. Addresses come out
in one spelling: IPv4 inside IPv6 as IPv4. What is rendered is never longer than MAX_BYTES, and parses back to the same addresses.
Refuses to know: sockets, deadlines, and whose word is believed (the listener's list of trusted networks).

Source: the PROXY protocol's specification by HAProxy (2.1 for version 1, 2.2 for version 2); requirements 86-93, attacks 70 and
72. Stricter than that: UNIX addresses and datagrams are refused (nobody could judge them here), TLVs must fill their block.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple, TypeAlias

from router.wire.malformed import Malformed

SocketAddress: TypeAlias = tuple[str, int]
"""An address without brackets or zone, and a port."""

MAX_BYTES: Final = 536  # of a whole header, R89
_MAX_LINE: Final = 107  # the longest line of version 1, its CRLF included

_LINE_BEGINS: Final = b"PROXY "
_SHORTEST_LINE: Final = len(b"PROXY UNKNOWN\r\n")
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = 16  # signature, version and command, family and transport, length of the rest
_LOCAL, _PROXY = 0x20, 0x21
_UNSPEC, _TCP4, _TCP6 = 0x00, 0x11, 0x21
_ADDRESS_BYTES: Final = {_TCP4: 12, _TCP6: 36}

_LINE = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f:.]{2,45}) ([0-9A-Fa-f:.]{2,45}) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})")
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?")

_TLV_AUTHORITY: Final = 0x02
_TLV_TLS: Final = 0x20
_TLS_VERSION: Final = 0x21
_TLS_COMMON_NAME: Final = 0x22
_OVER_TLS, _WITH_CERTIFICATE = 0x01, 0x02


class ProxyHeader(NamedTuple):
    """One header. `source` is the client, `destination` what it connected to; both None where the header does not say.

    `local`: the proxy speaks for itself (a health check). `size`: bytes of the header; what follows is the connection's.
    """

    source: SocketAddress | None
    destination: SocketAddress | None
    local: bool
    size: int


class TlsFacts(NamedTuple):
    """What a terminated handshake found out, for the backend.

    `version` as OpenSSL spells it (`TLSv1.3`); `server_name` canonical.
    `verified`: the client showed a certificate, and it was verified; `common_name` is that certificate's.
    """

    version: str
    server_name: str | None = None
    verified: bool = False
    common_name: str | None = None


def parse_proxy_header(data: bytes) -> ProxyHeader | Malformed | None:
    """The header that `data` starts with; None while it is a beginning of one.

    Reasons: not_proxy, too_large, bad_line, bad_address, bad_version, bad_command, bad_family, bad_length, bad_tlv.
    """
    if data.startswith(_LINE_BEGINS):
        return _parse_line(data)
    if data.startswith(_SIGNATURE):
        return _parse_block(data)
    return None if _may_begin(data) else Malformed("not_proxy")


def least_proxy_size(data: bytes) -> int:
    """How many bytes a header that starts with `data` has at least, where `parse_proxy_header` said None: more than `len(data)`.

    The low-water mark to wait with, so that a client that sends byte by byte does not wake us for each.
    """
    if data.startswith(_SIGNATURE[:1]):
        return _FIXED if len(data) < _FIXED else _FIXED + int.from_bytes(data[14:16])
    return max(_SHORTEST_LINE, len(data) + (1 if data.endswith(b"\r") else 2))


def begins_proxy_header(data: bytes) -> bool:
    """Whether what follows a header looks like a second one, which nobody may say: it would be the client's own word.

    Attack 72; for raw TCP, where no other parser would refuse it. True as soon as enough is here to tell.
    """
    return data.startswith((_LINE_BEGINS, _SIGNATURE))


def render_v1(source: SocketAddress, destination: SocketAddress) -> bytes:
    """A line of version 1. Raises ValueError where one of the two is no address and port."""
    here, there = _alike(source, destination)
    return f"PROXY TCP{here.version} {here} {there} {_port(source)} {_port(destination)}\r\n".encode("ascii")


def render_v2(source: SocketAddress, destination: SocketAddress, tls: TlsFacts | None = None) -> bytes:
    """A block of version 2, command PROXY, with what is known of the client's TLS where that is asked for.

    A name that does not fit MAX_BYTES is left out whole: half an identity would be another's. Raises ValueError where one of the
    two is no address and port.
    """
    here, there = _alike(source, destination)
    ports = _port(source).to_bytes(2) + _port(destination).to_bytes(2)
    addresses = here.packed + there.packed + ports
    rest = addresses if tls is None else addresses + _tls_tlvs(tls, MAX_BYTES - _FIXED - len(addresses))
    return _SIGNATURE + bytes((_PROXY, _TCP4 if here.version == 4 else _TCP6)) + len(rest).to_bytes(2) + rest


def render_local(version: int) -> bytes:
    """What a proxy sends that speaks for itself: LOCAL, or in version 1 UNKNOWN."""
    return b"PROXY UNKNOWN\r\n" if version == 1 else _SIGNATURE + bytes((_LOCAL, 0, 0, 0))


def _may_begin(data: bytes) -> bool:
    return _LINE_BEGINS.startswith(data) or _SIGNATURE.startswith(data)


def _parse_line(data: bytes) -> ProxyHeader | Malformed | None:
    line, end, _ = data[:_MAX_LINE].partition(b"\r\n")
    if not end:
        if b"\n" in line or b"\r" in line[:-1]:
            return Malformed("bad_line")
        return Malformed("too_large") if len(data) >= _MAX_LINE else None
    size = len(line) + 2
    if _UNKNOWN.fullmatch(line) is not None:
        return ProxyHeader(None, None, False, size)
    found = _LINE.fullmatch(line)
    if found is None:
        return Malformed("bad_line")
    family, source, destination, *ports = found.groups()
    here, there = _read(family, source), _read(family, destination)
    source_port, destination_port = map(int, ports)
    if here is None or there is None or max(source_port, destination_port) > 0xFFFF:
        return Malformed("bad_address")
    return ProxyHeader((here, source_port), (there, destination_port), False, size)


def _read(family: bytes, text: bytes) -> str | None:
    try:
        return _spell(IPv4Address(text.decode("ascii")) if family == b"4" else IPv6Address(text.decode("ascii")))
    except ValueError:
        return None


def _spell(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _parse_block(data: bytes) -> ProxyHeader | Malformed | None:
    if len(data) > 12 and data[12] not in (_LOCAL, _PROXY):
        return Malformed("bad_version" if data[12] >> 4 != 2 else "bad_command")
    if len(data) < _FIXED:
        return None
    size = _FIXED + int.from_bytes(data[14:16])
    if size > MAX_BYTES:
        return Malformed("too_large")
    local, family = data[12] == _LOCAL, data[13]
    if local or family == _UNSPEC:  # nothing in the block counts then, not even the family
        return ProxyHeader(None, None, local, size) if len(data) >= size else None
    if family not in _ADDRESS_BYTES:
        return Malformed("bad_family")
    tlvs = _FIXED + _ADDRESS_BYTES[family]
    if size < tlvs:
        return Malformed("bad_length")
    if len(data) < size:
        return None
    if not _are_tlvs(data[tlvs:size]):
        return Malformed("bad_tlv")
    source, destination = _read_addresses(family, data[_FIXED:tlvs])
    return ProxyHeader(source, destination, False, size)


def _read_addresses(family: int, block: bytes) -> tuple[SocketAddress, SocketAddress]:
    kind, width = (IPv4Address, 4) if family == _TCP4 else (IPv6Address, 16)
    source, destination = _spell(kind(block[:width])), _spell(kind(block[width : 2 * width]))
    return (source, int.from_bytes(block[-4:-2])), (destination, int.from_bytes(block[-2:]))


def _are_tlvs(block: bytes) -> bool:
    """Whether types, lengths and values fill the block exactly; what they say is nobody's business here."""
    at = 0
    while at + 3 <= len(block):
        at += 3 + int.from_bytes(block[at + 1 : at + 3])
    return at == len(block)


def _alike(source: SocketAddress, destination: SocketAddress) -> tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address]:
    """Both addresses in one family, as a header wants them: IPv4 where both are, else both as IPv6."""
    here, there = _address(source), _address(destination)
    if here.version == there.version:
        return here, there
    return _as_ipv6(here), _as_ipv6(there)


def _address(endpoint: SocketAddress) -> IPv4Address | IPv6Address:
    text = endpoint[0].partition("%")[0]
    if ":" not in text:
        return IPv4Address(text)
    address = IPv6Address(text)
    return address.ipv4_mapped or address


def _as_ipv6(address: IPv4Address | IPv6Address) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(f"::ffff:{address}")


def _port(endpoint: SocketAddress) -> int:
    if not 0 <= endpoint[1] <= 0xFFFF:
        raise ValueError("a port is 0 to 65535")
    return endpoint[1]


def _tls_tlvs(tls: TlsFacts, room: int) -> bytes:
    authority = _tlv(_TLV_AUTHORITY, tls.server_name.encode("ascii")) if tls.server_name else b""
    flags = _OVER_TLS | (_WITH_CERTIFICATE if tls.verified else 0)
    begin = bytes((flags,)) + (0 if tls.verified else 1).to_bytes(4)
    version = _tlv(_TLS_VERSION, tls.version.encode("ascii"))
    common_name = _tlv(_TLS_COMMON_NAME, tls.common_name.encode()) if tls.verified and tls.common_name else b""
    for parts in _shorter(authority, common_name):
        block = parts[0] + _tlv(_TLV_TLS, begin + version + parts[1])
        if len(block) <= room:
            return block
    return b""


def _shorter(authority: bytes, common_name: bytes) -> Iterator[tuple[bytes, bytes]]:
    """What is left out first where there is no room: the name that was asked for, then the client's."""
    yield authority, common_name
    yield b"", common_name
    yield b"", b""


def _tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2) + value
