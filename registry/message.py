"""The bytes of a `router.register` or `router.unregister` message -> RegistryMessage | Malformed.

Promises: never raises, trusts no type, keeps no text that could break out of a header or a log line, and is
done in time and memory linear in the message, whose size is bounded. `options` alone cannot make a message
malformed (see options.py). Refuses to know: subjects, NATS, routing state, clocks.

Source: GoRouter's registry message (mbus/subscriber), as route-emitter, route-registrar and tcp emitters send
it. As in Go, null stands for an absent field and unknown fields are ignored.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, NoReturn, TypeAlias

from identity.caller import shown
from registry.endpoint import NO_TAGS, Endpoint, Protocol, Tags
from registry.hostname import Host, canonical, canonical_pattern
from registry.options import DEFAULT_LIMIT, parse_options, shown_value

MAX_BYTES = 64 * 1024
MAX_URIS = 100
_MAX_URI = 1024  # characters; Cloud Foundry's own limit is a host of 253 and a path of 128
_MAX_TEXT = 1024  # characters of any other text field
_MAX_SHARED = 64
_MAX_KNOWN = 16_384
_MAX_NAMES = 1024  # characters of all names of tags that are kept for the next message
_MAX_NS = 2**63 - 1

_SURROGATE = re.compile("[\ud800-\udfff]")
_PATH = re.compile(r'(?:/(?!\.{1,2}(?:/|$))(?:[!"$&-.0->@-~]|%[0-9A-Fa-f]{2})+)*', re.ASCII)

Fields: TypeAlias = Mapping[str, object]


class Malformed(NamedTuple):
    """Why a message was dropped: a bounded code for counters, an escaped, bounded detail for the log."""

    reason: str
    detail: str


class RouteUri(NamedTuple):
    """One registered uri: key = canonical host + lower-case path; `context_path` is the path as sent."""

    key: str
    host: Host
    path: str
    context_path: str


def uri_of(key: str) -> RouteUri:
    """The key of a route taken apart again; its path in lower case."""
    host, slash, rest = key.partition("/")
    path = slash + rest
    return RouteUri(key, Host(host), path, path)


@dataclass(frozen=True, slots=True)
class RegistryMessage:
    """One endpoint and the routes it serves. `bad_uris` and `notes` (escaped, bounded) are for the log."""

    endpoint: Endpoint
    uris: tuple[RouteUri, ...]
    bad_uris: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def parse_message(
    data: bytes,
    *,
    max_bytes: int = MAX_BYTES,
    max_uris: int = MAX_URIS,
    max_options: int = DEFAULT_LIMIT,
    stale_threshold: float = 120.0,
) -> RegistryMessage | Malformed:
    """Read one message. `stale_threshold` (seconds) is the longest TTL an endpoint gets and its default.

    A uri that no request could select is left out and listed in `bad_uris`; with no other left the message is
    malformed.
    """
    if len(data) > max_bytes:
        return Malformed("too_large", f"{len(data)} bytes, the limit is {max_bytes}")
    try:
        decoded = _JSON.decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return Malformed("not_json", f"{type(error).__name__} in {shown(data[:48].decode('latin-1'))}")
    if not isinstance(decoded, dict):
        return Malformed("not_an_object", f"the message is a {type(decoded).__name__}, expected an object")
    try:
        return _read(decoded, max_uris, max_options, stale_threshold)
    except _WrongFieldError as error:
        return Malformed(error.reason, error.detail)


class _WrongFieldError(Exception):
    """One field breaks the message; never leaves this module."""

    def __init__(self, reason: str, field: str, value: object, expected: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = f"{field}: {shown_value(value)}, expected {expected}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_known: dict[str, str] = {}

_JSON = json.JSONDecoder(parse_constant=_refuse_constant)


@lru_cache(maxsize=8192)
def _one_number(number: int) -> int:
    return number


@lru_cache(maxsize=64)
def _one_tuple(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(_shared, names))


def _names(names: tuple[str, ...]) -> tuple[str, ...]:
    return _one_tuple(names) if sum(map(len, names)) <= _MAX_NAMES else names


def _shared(text: str) -> str:
    """The same object for equal texts: 100,000 routes say the same few tag names and organizations, and an id three times.

    All are forgotten when there are too many, which is cheaper than to know the oldest.
    """
    if len(text) > _MAX_SHARED:
        return text
    if len(_known) >= _MAX_KNOWN:
        _known.clear()
    return _known.setdefault(text, text)


def _read(fields: Fields, max_uris: int, max_options: int, stale_threshold: float) -> RegistryMessage:
    uris, bad_uris = _uris(fields, max_uris)
    protocol, notes = _protocol(fields)
    port, tls = _port(fields)
    endpoint = Endpoint(
        host=_backend_host(fields),
        port=port,
        tls=tls,
        app=_text(fields, "app"),
        instance_id=_text(fields, "private_instance_id"),
        instance_index=_text(fields, "private_instance_index"),
        san=_text(fields, "server_cert_domain_san"),
        protocol=protocol,
        tags=_tags(fields),
        availability_zone=_text(fields, "availability_zone"),
        isolation_segment=_text(fields, "isolation_segment"),
        route_service_url=_route_service_url(fields),
        ttl=_ttl(fields, stale_threshold),
        updated_at_ns=min(max(_integer(fields, "endpoint_updated_at_ns"), 0), _MAX_NS),
        options=parse_options(fields.get("options"), max_options),
    )
    return RegistryMessage(endpoint, uris, bad_uris, notes)


def _text(fields: Fields, name: str) -> str:
    """A text that goes into headers and log lines: printable ASCII of bounded length, else malformed."""
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _WrongFieldError("wrong_type", name, value, "a string")
    if len(value) > _MAX_TEXT or not (value.isascii() and value.isprintable()):
        raise _WrongFieldError("bad_text", name, value, f"at most {_MAX_TEXT} printable ASCII characters")
    return _shared(value)


def _integer(fields: Fields, name: str) -> int:
    value = fields.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise _WrongFieldError("wrong_type", name, value, "a whole number")
    return value


def _port(fields: Fields) -> tuple[int, bool]:
    """The effective port and whether TLS is spoken there: tls_port where it is not 0, else port."""
    plain, secure = _integer(fields, "port"), _integer(fields, "tls_port")
    name, port = ("tls_port", secure) if secure else ("port", plain)
    if not 1 <= port <= 65535:
        raise _WrongFieldError("bad_port", name, port, "1 to 65535")
    return _one_number(port), bool(secure)


def _backend_host(fields: Fields) -> str:
    """A name or an address to dial, IPv6 without brackets (emitters send both forms)."""
    text = _text(fields, "host")
    host = canonical(f"[{text}]" if ":" in text and not text.startswith("[") else text)
    if host is None:
        raise _WrongFieldError("bad_host", "host", text, "a host name or an IP address")
    return host.strip("[]")


def _route_service_url(fields: Fields) -> str:
    url = _text(fields, "route_service_url")
    if url and not url.startswith("https://"):
        raise _WrongFieldError("bad_route_service_url", "route_service_url", url, "a URL that starts with https://")
    return url


def _protocol(fields: Fields) -> tuple[Protocol, tuple[str, ...]]:
    match _text(fields, "protocol"):
        case "" | "http1":
            return "http1", ()
        case "http2":
            return "http2", ()
        case other:
            return "http1", (f"protocol: {shown(other)} is unknown, http1 is used",)


def _ttl(fields: Fields, stale_threshold: float) -> float:
    """Seconds; an emitter can shorten the router's threshold, not lengthen it; 0 means the router's."""
    asked = _integer(fields, "stale_threshold_in_seconds")
    return float(asked) if 0 < asked < stale_threshold else stale_threshold


def _tags(fields: Fields) -> Tags:
    """The tags; one that is null counts as absent."""
    value = fields.get("tags")
    if value is None:
        return NO_TAGS
    if not isinstance(value, dict):
        raise _WrongFieldError("wrong_type", "tags", value, "an object of strings")
    for name, text in value.items():
        if text is not None and not isinstance(text, str):
            raise _WrongFieldError("wrong_type", f"tags.{shown(name)}", text, "a string")
        if (not name.isascii() and _SURROGATE.search(name)) or (text and not text.isascii() and _SURROGATE.search(text)):
            raise _WrongFieldError("bad_text", f"tags.{shown(name)}", text, "Unicode text")
    if None in value.values():
        value = {name: text for name, text in value.items() if text is not None}
    return Tags(_names(tuple(value)), tuple(map(_shared, value.values())))


def _uris(fields: Fields, max_uris: int) -> tuple[tuple[RouteUri, ...], tuple[str, ...]]:
    """The distinct good uris in the order sent, and the bad ones as text for the log."""
    raw = fields.get("uris")
    if not isinstance(raw, list):
        raise _WrongFieldError("wrong_type", "uris", raw, "a list of strings")
    if len(raw) > max_uris:
        raise _WrongFieldError("too_many_uris", "uris", len(raw), f"at most {max_uris}")
    good: dict[str, RouteUri] = {}
    bad: list[str] = []
    for item in raw:
        if not isinstance(item, str):
            raise _WrongFieldError("wrong_type", "uris", item, "a list of strings")
        uri = parse_uri(item)
        if uri is None:
            bad.append(shown(item))
        else:
            good.setdefault(uri.key, uri)
    if not good:
        raise _WrongFieldError("no_uri", "uris", raw[0] if raw else "", "at least one host or host/path")
    return tuple(good.values()), tuple(bad)


def parse_uri(text: str) -> RouteUri | None:
    """`host/path` in canonical form, or None for one that no request could select.

    The query and trailing slashes go. Dot segments, empty segments and a `%` without two hex digits make it
    bad: the router refuses requests whose spelling would be needed to reach it.
    """
    if len(text) > _MAX_URI:
        return None
    name, slash, rest = text.partition("?")[0].partition("/")
    context_path = (slash + rest).rstrip("/")
    host = canonical_pattern(name)
    if host is None or not _PATH.fullmatch(context_path):
        return None
    path = context_path.lower()
    return RouteUri(host + path if path else host, host, path, context_path)
