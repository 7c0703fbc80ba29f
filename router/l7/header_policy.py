"""What the operator's configuration says about fields, compiled to one verdict a name.

Promises: a name is judged once and then remembered; a spelling that a backend could take for one of our names
is judged as that name's forgery. Refuses to know: requests, connections, values.
Source: RFC 9110 section 7.6.1 (hop by hop), RFC 9440 section 4, GoRouter's keys of the same names.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from router.observe.trace import B3_NAMES, W3C_NAMES, w3c_key

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

KEEP, DROP, FOR, PROTO, HOST, XFCC, START, TE, REQUEST_ID, DATE = range(10)

_HOP_BY_HOP: Final = (
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"transfer-encoding",
    b"upgrade",
    b"te",
)

OURS: Final[dict[bytes, int]] = {
    b"x-forwarded-for": FOR,
    b"x-forwarded-proto": PROTO,
    b"x-forwarded-host": HOST,
    b"x-forwarded-client-cert": XFCC,
    b"x-request-start": START,
    b"te": TE,
    **dict.fromkeys((b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"http2-settings", b"expect"), DROP),
    **dict.fromkeys((b"proxy", b"forwarded", b"x-real-ip", b"x-vcap-request-id", b"x-request-id"), DROP),
    **dict.fromkeys((b"x-cf-applicationid", b"x-cf-instanceindex", b"x-cf-instanceid"), DROP),
    **dict.fromkeys((b"x-cf-app-instance", b"x-cf-process-instance", b"x-cf-forwarded-url"), DROP),
}
_TOLD_IF_ABSENT: Final = {b"x-vcap-request-id": REQUEST_ID, b"date": DATE}
_OTHER_ROUTERS: Final = (  # names in which other routers tell their backends of a certificate
    b"client-cert",
    b"x-client-cert",
    b"x-client-verify",
    b"x-client-dn",
    b"ssl-client-",
    b"x-ssl-client-",
    b"x-ssl-cert",
    b"x-tls-client-",
    b"x-amzn-mtls-",
    b"x-arr-clientcert",
)
_DROPPED_PREFIXES: Final = (b"x-forwarded-", b"x-cf-proxy-", b"proxy-", *_OTHER_ROUTERS)
_NEVER_HOP_BY_HOP: Final = frozenset({b"host", b"content-length", b"authorization", b"cookie"})
_CONNECTION_WORDS: Final = frozenset({b"close", b"keep-alive", b"upgrade", b"te", b"trailers"})
_PROTECTED: Final = _NEVER_HOP_BY_HOP | frozenset(OURS) | W3C_NAMES | B3_NAMES | _CONNECTION_WORDS
_NOT_A_NAME_CHARACTER: Final = re.compile(rb"[^a-z0-9]")

_FIELD_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
_FIELD_VALUE: Final = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")
_MEMORY: Final = 4096  # names whose verdict is remembered
_REMEMBERED_NAME: Final = 64  # bytes of the longest of them


class Verdicts(dict[bytes, int]):
    """What becomes of a field, by its name: judged once, then remembered, but not without bound."""

    __slots__ = ("_judge",)

    def __init__(self, judge: Callable[[bytes], int]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, name: bytes) -> int:
        verdict = self._judge(name)
        if len(self) >= _MEMORY:
            self.clear()
        if len(name) <= _REMEMBERED_NAME:
            self[name] = verdict
        return verdict


@dataclass(frozen=True, slots=True, eq=False)
class HeaderPolicy:
    """What the operator's configuration says about fields, compiled; make it with `header_policy`."""

    trusted_proxies: tuple[Network, ...]
    sanitize_forwarded_proto: bool
    force_forwarded_proto_https: bool
    w3c_key: bytes | None
    zipkin: bool
    trace_key: bytes
    protected: frozenset[bytes]
    added: tuple[tuple[bytes, bytes, bytes], ...]  # lower-case name, name as configured, value
    removed: frozenset[bytes]
    request: Verdicts
    response: Verdicts


def header_policy(
    *,
    trusted_proxies: Iterable[str] = (),
    sanitize_forwarded_proto: bool = False,
    force_forwarded_proto_https: bool = False,
    hop_by_hop_headers_to_filter: Iterable[str] = (),
    add_headers_if_not_present: Iterable[tuple[str, str]] = (),
    remove_headers: Iterable[str] = (),
    enable_w3c: bool = True,
    w3c_tenant_id: str = "",
    enable_zipkin: bool = False,
    trace_key: str = "22",
) -> HeaderPolicy:
    """Compile a policy. Raises ValueError, with a sentence for the operator, for a bad network or field."""
    added = tuple(_addition(name, value) for name, value in add_headers_if_not_present)
    removed = frozenset(_name("http_rewrite", name).lower() for name in remove_headers)
    kept = (_name("hop_by_hop_headers_to_filter", name).lower() for name in hop_by_hop_headers_to_filter)
    protected = _PROTECTED.union(kept)
    own = (W3C_NAMES if enable_w3c else frozenset()) | (B3_NAMES if enable_zipkin else frozenset())
    return HeaderPolicy(
        trusted_proxies=tuple(_network(text) for text in trusted_proxies),
        sanitize_forwarded_proto=sanitize_forwarded_proto,
        force_forwarded_proto_https=force_forwarded_proto_https,
        w3c_key=w3c_key(w3c_tenant_id) if enable_w3c else None,
        zipkin=enable_zipkin,
        trace_key=trace_key.encode("utf-8"),
        protected=protected,
        added=added,
        removed=removed,
        request=Verdicts(lambda name: _judge_request(name, own, protected)),
        response=Verdicts(lambda name: _judge_response(name, removed)),
    )


def _judge_request(name: bytes, own: frozenset[bytes], protected: frozenset[bytes]) -> int:
    if name in own:
        return DROP
    if name in OURS:
        return OURS[name]
    plain = _NOT_A_NAME_CHARACTER.sub(b"-", name)
    look_alike = plain != name and plain in protected
    return DROP if look_alike or plain.startswith(_DROPPED_PREFIXES) else KEEP


def _judge_response(name: bytes, removed: frozenset[bytes]) -> int:
    if name in removed or name in _HOP_BY_HOP or name == b"x-cf-proxy-signature":
        return DROP
    if name in (b"proxy-authenticate", b"proxy-authorization", b"proxy-authentication-info"):
        return DROP
    return _TOLD_IF_ABSENT.get(name, KEEP)


def _addition(name: str, value: str) -> tuple[bytes, bytes, bytes]:
    written = _name("http_rewrite", name)
    if _FIELD_VALUE.fullmatch(value) is None:
        raise ValueError(f"http_rewrite: the value of {name} must be printable ASCII without outer blanks: {value[:64]!r}")
    return written.lower(), written, value.encode("ascii")


def _name(key: str, name: str) -> bytes:
    if _FIELD_NAME.fullmatch(name) is None:
        raise ValueError(f"{key}: {name[:64]!r} is no field name: expected letters, digits and hyphens")
    return name.encode("ascii")


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"trusted_proxies: {text[:64]!r} is no network: expected an address or a CIDR such as 10.0.0.0/8"
        ) from None
