"""One canonical form for every host name, made once, at the edge.

Promises: two spellings of one host (case, one trailing dot, Unicode or `xn--`, IPv6 zeros) give the same
text, and the form of a canonical name is that name itself. L4 (SNI) and L7 (Host, :authority) use this same
rule, so no spelling is one host at the TLS door and another at the route. Refuses to know: ports, routes,
domains, DNS.

Source: RFC 1035 section 2.3.4 (63 and 253), RFC 5891 with UTS #46 (non-transitional), RFC 3986 section 3.2.2
(IP literals). Underscores, and hyphens at a label's ends, are allowed: Cloud Foundry lets apps have them.
"""

import ipaddress
import re
from typing import NewType

import idna

Host = NewType("Host", str)

_MAX_NAME = 253
_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.ASCII)
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}", re.ASCII)


def canonical(name: str) -> Host | None:
    """The canonical form of a host without a port; None for what is no host name, IPv4 address or bracketed
    IPv6.

    Never raises; at most 254 characters are looked at. A name whose last label is all digits is an IPv4
    address or nothing, so that no spelling of an address passes for a name.
    """
    if len(name) > _MAX_NAME + 1:
        return None
    if name.startswith("["):
        return _ipv6_literal(name)
    lowered = name.lower() if name.isascii() else _to_ascii(name)
    if lowered is None:
        return None
    bare = lowered.removesuffix(".")
    if len(bare) > _MAX_NAME or not _NAME.fullmatch(bare):
        return None
    if bare[-1].isdigit() and bare[bare.rfind(".") + 1 :].isdigit() and not _IPV4.fullmatch(bare):
        return None
    return Host(bare)


def canonical_pattern(name: str) -> Host | None:
    """The canonical form of a route's host: an exact host, or `*.` before a name that is no address."""
    if not name.startswith("*."):
        return canonical(name)
    suffix = canonical(name[2:])
    if suffix is None or suffix.startswith("[") or len(suffix) > _MAX_NAME - 2 or _IPV4.fullmatch(suffix):
        return None
    return Host("*." + suffix)


def covers(pattern: str, host: str) -> bool:
    """Whether a canonical host, or `*.suffix`, is `pattern`, or lies below it where that is `*.suffix`; at any depth."""
    return host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def _ipv6_literal(name: str) -> Host | None:
    """`[address]` in its shortest form; zone identifiers mean nothing to another machine and are refused."""
    if not name.endswith("]") or "%" in name:
        return None
    try:
        return Host(f"[{ipaddress.IPv6Address(name[1:-1]).compressed}]")
    except ValueError:
        return None


def _to_ascii(name: str) -> str | None:
    """UTS #46 mapping, then `xn--` for the labels that need it; ASCII labels keep their underscores."""
    try:
        mapped = idna.uts46_remap(name, std3_rules=False, transitional=False)
        labels = [label if label.isascii() else idna.alabel(label).decode("ascii") for label in mapped.split(".")]
    except (idna.IDNAError, UnicodeError):
        return None
    return ".".join(labels).lower()
