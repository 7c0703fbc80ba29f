r"""X-Forwarded-Client-Cert: what a backend is told about the verified leaf.

raw    the DER in base64, no lines.
envoy  `Hash=<lower hex sha256 of DER>;Subject="CN=..,OU=..,O=..,L=..,ST=..,C=.."`, as GoRouter writes it:
       CN first, values of one type in certificate order, no blanks, these six types only.

Promises: byte-identical to GoRouter for plain subjects. In any other value each character that means
something to a DN (RFC 4514, 2.4), to a header or to a quoted string becomes a hex pair `\XX` of its UTF-8,
and the backslash is doubled as a quoted string demands. Hex pairs, not `\,`: so even a reader that splits at
commas or looks for `OU=app:` without unescaping cannot be led astray, and the value is always one line of
printable ASCII.
Refuses to know: modes (sanitize_set, forward, ...) and identity, which never comes from this header.
"""

import base64
import hashlib
import re
from typing import NamedTuple

from cryptography.x509.oid import NameOID

from identity.certificate import IdentityError, read_subject

_TYPES = {
    NameOID.COMMON_NAME.dotted_string: "CN",
    NameOID.ORGANIZATIONAL_UNIT_NAME.dotted_string: "OU",
    NameOID.ORGANIZATION_NAME.dotted_string: "O",
    NameOID.LOCALITY_NAME.dotted_string: "L",
    NameOID.STATE_OR_PROVINCE_NAME.dotted_string: "ST",
    NameOID.COUNTRY_NAME.dotted_string: "C",
}
_ORDER = {name: place for place, name in enumerate(_TYPES.values())}
_MAX_VALUE = 64 * 1024  # bytes; a header of ours never comes near

# Not plain: controls, non-ASCII, the specials of RFC 4514, '='; a blank or '#' first, a blank last.
_ESCAPED = re.compile(rb'[^ -~]|[",+;<>=\\]|\A[ #]|\ \Z')
_ELEMENT = re.compile(rb'Hash=([0-9a-f]{64});Subject="([^"]*)"')
_ATTRIBUTE = re.compile(rb'(CN|OU|O|L|ST|C)=((?:[^\x00-\x1f\x7f-\xff",+;<>=\\]|\\\\[0-9A-F]{2})*)')
_PAIR = re.compile(rb"\\\\([0-9A-F]{2})")


class Malformed(NamedTuple):
    """The value is not one element that render_envoy writes; `reason` is a short bounded code."""

    reason: str


class EnvoyElement(NamedTuple):
    """An envoy value taken apart: the leaf's hash (lower hex), the subject's (type, text) pairs."""

    hash: str
    subject: tuple[tuple[str, str], ...]


def render_raw(der: bytes) -> bytes:
    """Return the certificate as one line of base64. Identity is not judged here."""
    return base64.b64encode(der)


def render_envoy(der: bytes) -> bytes:
    """Return `Hash=..;Subject=".."` for the certificate; an unreadable subject is an empty one."""
    read = read_subject(der)
    pairs = () if isinstance(read, IdentityError) else read
    known = [(_TYPES[oid], text) for oid, text in pairs if oid in _TYPES]
    return render_element(hashlib.sha256(der).hexdigest(), tuple(known))


def render_element(digest: str, subject: tuple[tuple[str, str], ...]) -> bytes:
    """Return the value for (type, text) pairs; types are CN, OU, O, L, ST, C, and are put in that order."""
    ordered = sorted(subject, key=lambda pair: _ORDER[pair[0]])
    names = b",".join(name.encode() + b"=" + _escape(text) for name, text in ordered)
    return b"Hash=" + digest.encode() + b';Subject="' + names + b'"'


def parse_envoy(value: bytes) -> EnvoyElement | Malformed:
    """Take back what render_envoy (or GoRouter, for a plain subject) wrote; at most 64 KiB. Never raises."""
    if len(value) > _MAX_VALUE:
        return Malformed("too_large")
    element = _ELEMENT.fullmatch(value)
    if element is None:
        return Malformed("not_an_element")
    digest, names = element.groups()
    subject: list[tuple[str, str]] = []
    for name in names.split(b",") if names else ():
        attribute = _ATTRIBUTE.fullmatch(name)
        if attribute is None:
            return Malformed("bad_subject")
        try:
            subject.append((attribute[1].decode(), _unescape(attribute[2])))
        except UnicodeDecodeError:
            return Malformed("bad_encoding")
    return EnvoyElement(digest.decode(), tuple(subject))


def _escape(text: str) -> bytes:
    return _ESCAPED.sub(lambda found: b"\\\\%02X" % found[0][0], text.encode("utf-8", "surrogatepass"))


def _unescape(escaped: bytes) -> str:
    plain = _PAIR.sub(lambda found: bytes.fromhex(found[1].decode()), escaped)
    return plain.decode("utf-8", "surrogatepass")
