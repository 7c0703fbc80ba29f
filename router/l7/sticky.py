"""Sticky sessions: which instance the cookies of a request name, and which cookies a response is given for it.

Promises: bytes in, bytes out. A request is pinned only by a cookie of the session and a well-formed `__VCAP_ID__`, both
spelled exactly; nothing of a client's but enumerated words and whole seconds comes back to it, so that no cookie can add to
a response. Bounded: MAX_COOKIES of a request and MAX_ATTRIBUTES of a Set-Cookie are read, at most two pairs of cookies are
written. No value is ever logged here or put into a text of ours.
Refuses to know: whether the named instance exists, and who may reach it (registry/balance.py); clocks (`now` is given, in
seconds since the epoch).

Source: RFC 6265 sections 4.2.1 and 5.4 (what clients send), 5.2 (how they read Set-Cookie: with more patience than 4.1.1
allows servers, and what they take for a session is one), 4.1.1 (what is written); its successor's SameSite, Partitioned and
`__Host-`; GoRouter's session affinity with its `__VCAP_ID_META__`: since a client sends no attributes back, those of the
session's cookie travel in a cookie of their own.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Final, NamedTuple

from registry.balance import Pin
from registry.endpoint import Endpoint
from router.wire.headers import Fields

__all__ = ["MAX_ATTRIBUTES", "MAX_COOKIES", "StickyPolicy", "pinned", "sticky_cookies", "sticky_policy", "with_session"]

MAX_COOKIES: Final = 256
"""Cookies of a request that are looked at: clients keep 50 to 180 a host (RFC 6265 section 6.1)."""

MAX_ATTRIBUTES: Final = 32
"""Attributes of a Set-Cookie that are looked at; there are nine."""

_ID: Final = b"__VCAP_ID__"
_META: Final = b"__VCAP_ID_META__"
_HOST_PREFIX: Final = b"__Host-"
_NEGOTIATE_SECONDS: Final = 60
_FIRST_YEAR: Final = 1601  # RFC 6265 section 5.1.1
_FIRST_SECOND: Final = -11_644_473_600
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999
_BLANKS: Final = b" \t"

_INSTANCE: Final = re.compile(rb"[!#-+\--:<-\[\]-~]{1,1024}")  # cookie-octets (RFC 6265 section 4.1.1)
_NEGOTIATE: Final = re.compile(rb"negotiate(?:[ \t,]|\Z)", re.IGNORECASE)
_POSITIVE: Final = re.compile(rb"0*[1-9][0-9]*")
_NOT_POSITIVE: Final = re.compile(rb"-[0-9]+|0+")
_SECONDS: Final = re.compile(rb"-?[0-9]{1,12}")
_MONTHS: Final = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
_DATE: Final = re.compile(
    rb"(?:mon|tue|wed|thu|fri|sat|sun), ([0-9]{2})[ -](" + b"|".join(_MONTHS) + rb")[ -]([0-9]{4}) "
    rb"([0-9]{2}):([0-9]{2}):([0-9]{2}) (?:gmt|utc)"
)
_SAME_SITE: Final = {b"lax": b"Lax", b"strict": b"Strict", b"none": b"None"}


class StickyPolicy(NamedTuple):
    """The operator's word, compiled by `sticky_policy`: the names of the apps' session cookies, `__Host-` forms included."""

    names: frozenset[bytes]
    secure: bool
    negotiate: bool


class Attributes(NamedTuple):
    """What of a session's cookie its companions share. `max_age` in seconds, `expires` since the epoch; None: not said."""

    secure: bool = False
    partitioned: bool = False
    same_site: bytes = b""
    max_age: int | None = None
    expires: int | None = None


def sticky_policy(names: Iterable[str], *, secure: bool = False, negotiate: bool = False) -> StickyPolicy | None:
    """None where nothing can be sticky."""
    known = frozenset(prefix + name.encode("ascii") for name in names for prefix in (b"", _HOST_PREFIX))
    return StickyPolicy(known, secure, negotiate) if known or negotiate else None


@lru_cache(maxsize=1024)
def with_session(policy: StickyPolicy | None, name: str, *, secure: bool = False) -> StickyPolicy:
    """The policy for a route that names a session's cookie of its own: beside those of the operator, who may have named none."""
    names = frozenset((name.encode("ascii"), _HOST_PREFIX + name.encode("ascii")))
    if policy is None:
        return StickyPolicy(names, secure, negotiate=False)
    return policy._replace(names=policy.names | names)


def pinned(request: Fields, policy: StickyPolicy) -> Pin | None:
    """The instance that the request's cookies name, if they do. With `negotiate`, for a request that authenticates by
    Negotiate, it is binding, and needs no cookie of the session.
    """
    cookies = _read_cookies(request)
    named = cookies.get(_ID, b"")
    if _INSTANCE.fullmatch(named) is None:
        return None
    if policy.negotiate and _speaks_of_negotiate(request, b"authorization"):
        return Pin(named.decode("ascii"), binding=True)
    return None if policy.names.isdisjoint(cookies) else Pin(named.decode("ascii"))


def sticky_cookies(
    response: Fields, request: Fields, pin: Pin | None, endpoint: Endpoint, path: str, policy: StickyPolicy, now: float
) -> Fields:
    """The Set-Cookie fields to add to a response of `endpoint`; most often none. `path`: the route's, as it was registered.

    A session that the app begins or ends is followed with its attributes; one that was pinned to an instance other than
    `endpoint` moves there with those it had; an app that sets `__VCAP_ID__` itself is left alone.
    """
    instance = endpoint.instance_id.encode()
    if _INSTANCE.fullmatch(instance) is None:
        return []
    moved = pin is not None and pin.instance != endpoint.instance_id
    sent = [_read_set_cookie(value) for name, value in response if name == b"set-cookie"]
    followed = [said for said in sent if said is not None]
    if any(name == _ID for name, _ in followed):
        return []
    scope = _cookie_path(path)
    if policy.negotiate and (pin is None or moved) and _speaks_of_negotiate(response, b"www-authenticate"):
        strict = Attributes(policy.secure, same_site=b"Strict", max_age=_NEGOTIATE_SECONDS)
        return [_cookie(_ID, instance, scope, strict)]
    # A client keeps one cookie of a name and path, and beside it one that is partitioned: of each the last counts.
    sessions = {said.partitioned: said for name, said in followed if name in policy.names}
    if sessions:
        return [field for said in sessions.values() for field in _pair(instance, scope, _secured(said, policy))]
    if not moved:
        return []
    meta = _read_cookies(request).get(_META, b"")
    return [_cookie(_ID, instance, scope, _secured(_read_meta(meta, now), policy))]


def _speaks_of_negotiate(fields: Fields, where: bytes) -> bool:
    return any(name == where and _NEGOTIATE.match(value) for name, value in fields)


# ---- reading


def _read_cookies(request: Fields) -> dict[bytes, bytes]:
    """The cookies of a request that names an instance, by name; of one name the first, as clients put the closest path
    first. Nothing is unquoted or repaired.
    """
    text = b";".join([value for name, value in request if name == b"cookie"])
    found: dict[bytes, bytes] = {}
    if _ID in text:
        for piece in text.split(b";", MAX_COOKIES)[:MAX_COOKIES]:
            name, equals, value = piece.strip(_BLANKS).partition(b"=")
            if equals:
                found.setdefault(name, value)
    return found


def _read_set_cookie(value: bytes) -> tuple[bytes, Attributes] | None:
    """Its name and attributes, as a client reads them (RFC 6265 section 5.2: the last of each kind counts); None for what
    clients ignore. Of Max-Age only that it ends the cookie, as in GoRouter.
    """
    first, *rest = value.split(b";", MAX_ATTRIBUTES + 1)[: MAX_ATTRIBUTES + 1]
    name, equals, _ = first.partition(b"=")
    name = name.strip(_BLANKS)
    if not equals or not name:
        return None
    said = Attributes()
    for piece in rest:
        key, _, text = (part.strip(_BLANKS).lower() for part in piece.partition(b"="))
        match key:
            case b"secure":
                said = said._replace(secure=True)
            case b"partitioned":
                said = said._replace(partitioned=True)
            case b"samesite":
                said = said._replace(same_site=_SAME_SITE.get(text, b""))
            case b"max-age" if _NOT_POSITIVE.fullmatch(text):
                said = said._replace(max_age=0)
            case b"max-age" if _POSITIVE.fullmatch(text):
                said = said._replace(max_age=None)
            case b"expires":
                said = said._replace(expires=_read_date(text))
    return name, said


def _read_date(text: bytes) -> int | None:
    """A date as servers write it, in lower case: HTTP's form, or the one with hyphens; None for any other."""
    found = _DATE.fullmatch(text)
    if found is None or int(found[3]) < _FIRST_YEAR:
        return None
    day, month, year, hour, minute, second = found.groups()
    try:
        date = datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None
    return int(date.timestamp())


def _read_meta(value: bytes, now: float) -> Attributes:
    """The attributes that a session began with; what does not fit is as if it had not been said. A lifetime goes on and does
    not begin anew: what is left of it, and 0 where it is over.
    """
    said = Attributes()
    for piece in value.split(b"&", MAX_ATTRIBUTES)[:MAX_ATTRIBUTES]:
        key, _, text = piece.partition(b"=")
        match key:
            case b"secure":
                said = said._replace(secure=True)
            case b"partitioned":
                said = said._replace(partitioned=True)
            case b"samesite":
                said = said._replace(same_site=_SAME_SITE.get(text, b""))
            case b"maxage" if _SECONDS.fullmatch(text) and int(text):
                said = said._replace(max_age=max(0, int(text) - int(now)))
            case b"expires" if _SECONDS.fullmatch(text) and _FIRST_SECOND <= int(text) <= _LAST_SECOND:
                said = said._replace(expires=int(text))
    return said


# ---- writing


def _secured(said: Attributes, policy: StickyPolicy) -> Attributes:
    return said._replace(secure=True) if policy.secure else said


def _pair(instance: bytes, path: bytes, said: Attributes) -> Fields:
    return [_cookie(_ID, instance, path, said), _cookie(_META, _meta(said), path, said)]


def _meta(said: Attributes) -> bytes:
    """The value of `__VCAP_ID_META__`; a lifetime only where it is over (-1), as in `_read_set_cookie`."""
    words = [b"secure"] if said.secure else []
    if said.partitioned:
        words.append(b"partitioned")
    if said.expires is not None:
        words.append(b"expires=%d" % said.expires)
    if said.max_age is not None:
        words.append(b"maxage=-1")
    if said.same_site:
        words.append(b"samesite=" + said.same_site.lower())
    return b"&".join(words)


def _cookie(name: bytes, value: bytes, path: bytes, said: Attributes) -> tuple[bytes, bytes]:
    words = [name + b"=" + value, b"Path=" + path]
    if said.expires is not None:
        words.append(b"Expires=" + format_datetime(datetime.fromtimestamp(said.expires, UTC), usegmt=True).encode("ascii"))
    if said.max_age is not None:
        words.append(b"Max-Age=%d" % said.max_age)
    words.append(b"HttpOnly")
    if said.secure:
        words.append(b"Secure")
    if said.same_site:
        words.append(b"SameSite=" + said.same_site)
    if said.partitioned:
        words.append(b"Partitioned")
    return b"Set-Cookie", b"; ".join(words)


def _cookie_path(path: str) -> bytes:
    """The route's path, or of one that a cookie cannot name (`;` ends an attribute) the segments before that."""
    whole, semicolon, _ = path.partition(";")
    return ((whole.rpartition("/")[0] if semicolon else whole) or "/").encode("ascii", "replace")
