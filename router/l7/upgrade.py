"""Another protocol on the same connection: what a request asks for, and whether a 101 is the answer to just that.

Promises: pure. An upgrade counts in an HTTP/1.1 request without a body whose Connection names it; what cannot be told apart from
an answer to something else is not asked for at all: no other HTTP (h2c would carry requests past both doors) and no TLS (it was
ended here). A 101 is agreed to by exactly one protocol of those that were asked for, and a WebSocket's also by the digest of
the client's key, so that no backend which only repeats bytes can switch.
Refuses to know: sockets, and what the protocols say afterwards; not a frame is read here.
Source: RFC 9110 sections 7.8 and 15.2.2, RFC 9113 section 3.1 (h2c), RFC 6455 sections 4.1 and 4.2.2.
"""

import base64
import binascii
import hashlib
import re
from typing import Final, NamedTuple

from router.wire.http1 import NO_BODY, Fields, RequestHead, ResponseHead

WEBSOCKET: Final = b"websocket"

_NOT_FORWARDED: Final = frozenset({b"h2c", b"h2", b"http", b"tls"})
_PROTOCOL: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:/[A-Za-z0-9!#$%&'*+.^_`|~-]+)?")
_WEBSOCKET_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16


class Upgrade(NamedTuple):
    """What is asked of the backend: protocols as the client spelled them; `accept`: what a WebSocket must be answered with."""

    protocols: tuple[bytes, ...]
    accept: bytes

    def request_fields(self) -> Fields:
        """What a request says of it, beside its other fields."""
        return [(b"Connection", b"Upgrade"), (b"Upgrade", b", ".join(self.protocols))]

    def fault_of(self, response: ResponseHead) -> str | None:
        """Why a 101 is no answer to this, as a bounded text; None where it is."""
        if b"upgrade" not in response.connection:
            return "101 whose Connection does not say upgrade"
        chosen = _chosen(response)
        if chosen.lower() not in [protocol.lower() for protocol in self.protocols]:
            return "101 to a protocol that was not asked for"
        if chosen.lower() == WEBSOCKET and _values(response.fields, b"sec-websocket-accept") != [self.accept]:
            return "101 without the digest of the client's key"
        return None


def asked_upgrade(head: RequestHead) -> Upgrade | None:
    """The upgrade that `head` asks for; None where there is none to forward: then it is an ordinary request."""
    if head.upgrade is None or head.body != NO_BODY:
        return None
    protocols = [each for each in (part.strip(b" \t") for part in head.upgrade.split(b",")) if each]
    if not all(map(_PROTOCOL.fullmatch, protocols)):
        return None
    accept = _accept(head)
    wanted = tuple(each for each in protocols if _forwarded(each.lower(), accept))
    return Upgrade(wanted, accept) if wanted else None


def switched_fields(response: ResponseHead) -> Fields:
    """What the client's 101 says of the switch; `response` has passed `fault_of`."""
    return [(b"Connection", b"Upgrade"), (b"Upgrade", _chosen(response))]


def _forwarded(protocol: bytes, accept: bytes) -> bool:
    if protocol == WEBSOCKET:
        return bool(accept)
    return protocol.partition(b"/")[0] not in _NOT_FORWARDED


def _accept(head: RequestHead) -> bytes:
    """The digest of the key of a WebSocket's opening request; empty where the request is none."""
    keys = _values(head.fields, b"sec-websocket-key")
    if head.method != b"GET" or len(keys) != 1 or not _is_key(keys[0]):
        return b""
    return base64.b64encode(hashlib.sha1(keys[0] + _WEBSOCKET_GUID, usedforsecurity=False).digest())


def _is_key(value: bytes) -> bool:
    try:
        return len(value) == 24 and len(base64.b64decode(value, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def _chosen(response: ResponseHead) -> bytes:
    return b", ".join(_values(response.fields, b"upgrade"))


def _values(fields: Fields, name: bytes) -> list[bytes]:
    return [value for known, value in fields if known == name]
