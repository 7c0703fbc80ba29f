"""What a request to a route service carries, and what a request that comes back from one is worth.

Promises: the three headers of GoRouter, so that a service written for it works unchanged; sealed with them, what no service may
say or see: who called, by which certificate, verified for which domain, from where. What comes back counts for the host that it
was sealed for and for no other, as long as the operator allows; everything else is a reason to refuse, never an exception.
Refuses to know: connections, route tables and policies (doors.py asks them), clocks and randomness.
Source: GoRouter's route services: JSON of `forwarded_url` and `requested_time` (RFC 3339) in the signature; other members are
ours, and are ignored by GoRouter.
"""

import datetime as dt
import json
import re
from base64 import b64decode, b64encode
from binascii import Error
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from registry.hostname import Host, canonical
from router.l7.route_service_seal import Envelope, Seal
from router.l7.target import Target
from router.wire.http1 import Fields

SIGNATURE: Final = b"x-cf-proxy-signature"
METADATA: Final = b"x-cf-proxy-metadata"
FORWARDED_URL: Final = b"x-cf-forwarded-url"
NAMES: Final = frozenset({SIGNATURE, METADATA, FORWARDED_URL})

Reason = Literal["expired", "from_the_future", "repeated", "not_sealed_by_us", "bad_contents"]

_OURS: Final = "vestibule"
_MAX_HOPS: Final = 1024  # bytes of X-Forwarded-For that are sealed: the last ones, which the nearest proxies wrote
_URL: Final = re.compile(r"(https?)://([^/?#@]+)(/[^?#]*)?(?:\?[^#]*)?", re.ASCII | re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?", re.ASCII)
_TIME: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_TEXT: Final = re.compile(r"[ -~]*")
_SERVICE_TARGET: Final = re.compile(r"[!-~]*")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class ServiceUrl(NamedTuple):
    """Where a route service is: `host` to dial, in canonical form; `authority` and `target` for the request."""

    host: Host
    port: int
    authority: bytes
    target: bytes
    path: str

    @property
    def is_address(self) -> bool:
        """An IP address instead of a name."""
        return self.host.startswith("[") or self.host.replace(".", "").isdigit()


class Origin(NamedTuple):
    """What the router knew of the client when it sent the request away.

    `leaf` is the verified certificate (DER, empty where there was none), `domain` the pattern that the handshake enforced (None:
    none) and `client_policy` the fingerprint of what it enforced. `address` is the client's, `forwarded_for` what the request
    said of its way to the router and `proto` of its scheme.
    """

    leaf: bytes = b""
    domain: str | None = None
    client_policy: str = ""
    address: str = ""
    forwarded_for: str = ""
    proto: str = ""


class Sealed(NamedTuple):
    """What a router said of a request that it sent to a route service: for which `url`, whose parts follow, and when (seconds
    since the epoch). `origin` is None where that router was none of ours.
    """

    url: str
    host: Host
    path: str
    made_at: float
    origin: Origin | None


class Unsealed(NamedTuple):
    """A request says that it comes from a route service, and it is not so; `reason` is a bounded code, for the log."""

    reason: Reason

    @property
    def expired(self) -> bool:
        return self.reason == "expired"


@lru_cache(maxsize=4096)  # a pure function of a registration's text, asked for on every request of its route
def parse_service_url(text: str) -> ServiceUrl | None:
    """The parts of a `route_service_url`; None for what cannot be asked. No user, no fragment; https only."""
    match = _URL.fullmatch(text)
    if match is None or match[1].lower() != "https" or _SERVICE_TARGET.fullmatch(text) is None:
        return None
    authority = _AUTHORITY.fullmatch(match[2])
    host = canonical(authority[1]) if authority is not None else None
    port = int(authority[2] or 443) if authority is not None else 0
    path = match[3] or "/"
    if host is None or not 1 <= port <= 65535 or _BAD_ESCAPE.search(path):
        return None
    query = text[match.end(3) if match[3] else match.end(2) :]
    shown = host if port == 443 else f"{host}:{port}"
    return ServiceUrl(host, port, shown.encode(), (path + query).encode(), path)


def forwarded_url(scheme: str, target: Target) -> str:
    """Where the service is to send the request on; the port is not told, as in GoRouter."""
    raw = target.raw.decode("latin-1")
    if not raw.startswith("/"):
        _, mark, query = raw.partition("?")
        raw = target.path + mark + query if "://" in raw else "/"
    return f"{scheme}://{target.host}{raw}"


def leg_fields(url: str, origin: Origin, seal: Seal, now: float, nonce: bytes) -> Fields:
    """The three headers of a first leg. `now` in seconds since the epoch; `nonce` as `Seal.close` wants it."""
    contents = {
        "forwarded_url": url,
        "requested_time": dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        _OURS: {
            "leaf": b64encode(origin.leaf).decode(),
            "domain": origin.domain,
            "client_policy": origin.client_policy,
            "address": origin.address,
            "forwarded_for": _last_hops(origin.forwarded_for),
            "proto": origin.proto,
        },
    }
    signature, metadata = seal.close(json.dumps(contents, separators=(",", ":")).encode(), nonce)
    return [
        (b"X-CF-Forwarded-Url", url.encode("latin-1")),
        (b"X-CF-Proxy-Signature", signature),
        (b"X-CF-Proxy-Metadata", metadata),
    ]


def read_return(fields: Fields, seal: Seal, now: float, timeout: float) -> Sealed | Unsealed | None:
    """What the signature of a request says; None where it has none. It was made less than `timeout` seconds before `now` (epoch).
    For which host and route it counts is the caller's to compare.
    """
    signatures = [value for name, value in fields if name == SIGNATURE]
    if not any(signatures):
        return None
    metadata = [value for name, value in fields if name == METADATA]
    if len(signatures) > 1 or len(metadata) > 1:
        return Unsealed("repeated")
    text = seal.open(Envelope(signatures[0], metadata[0])) if metadata else None
    if text is None:
        return Unsealed("not_sealed_by_us")
    sealed = _contents(text)
    if sealed is None:
        return Unsealed("bad_contents")
    age = now - sealed.made_at
    if age > timeout:
        return Unsealed("expired")
    return sealed if age >= -timeout else Unsealed("from_the_future")


def _last_hops(hops: str) -> str:
    shown = hops if len(hops) <= _MAX_HOPS else hops[-_MAX_HOPS:].partition(",")[2].lstrip()
    return "".join(c if " " <= c <= "~" else "?" for c in shown)


def _contents(text: bytes) -> Sealed | None:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    url, time, ours = said.get("forwarded_url"), said.get("requested_time"), said.get(_OURS)
    if not isinstance(url, str) or not isinstance(time, str):
        return None
    match, made_at = _URL.fullmatch(url), _epoch(time)
    if match is None or made_at is None:
        return None
    authority = _AUTHORITY.fullmatch(match[2])
    host = canonical(authority[1]) if authority is not None else None
    origin = _origin(ours) if ours is not None else None
    if host is None or (ours is not None and origin is None):
        return None
    return Sealed(url, host, match[3] or "/", made_at, origin)


def _origin(said: object) -> Origin | None:
    if not isinstance(said, dict):
        return None
    leaf, domain = said.get("leaf"), said.get("domain")
    texts = [said.get(name) for name in ("client_policy", "address", "forwarded_for", "proto")]
    if not isinstance(leaf, str) or not (domain is None or isinstance(domain, str)):
        return None
    try:
        der = b64decode(leaf, validate=True)
    except (Error, ValueError):
        return None
    policy, address, hops, proto = (text if isinstance(text, str) and _TEXT.fullmatch(text) else None for text in texts)
    if policy is None or address is None or hops is None or proto is None:
        return None
    return Origin(der, domain, policy, address, hops, proto)


def _epoch(text: str) -> float | None:
    """RFC 3339 as Go writes it: up to nine digits of a second, `Z` or an offset."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    whole, fraction, zone = match.groups()
    try:
        return dt.datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone)).timestamp() + float(fraction or 0)
    except (ValueError, OverflowError):
        return None
