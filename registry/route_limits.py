"""What the options of a route ask beyond who may call it and how instances are chosen: limits of its own, and two wishes.

    connection-limit         requests in flight at one endpoint
    request-timeout-seconds  from dialling to the response's end
    max-request-bytes        of a request's body
    rate-limit-rps           requests a second for the whole route, at one router
    trim-path                the backend is not told the route's path
    session-cookie           the cookie that keeps a session at one endpoint

Promises: a value is good or None, for a registration and for a manifest alike, with the same bounds; a route's limit is the
lowest that any of its endpoints asked for, so that the order of registrations never matters. Refuses to know the operator's
own limits, which these can only lower, and how a limit is kept.

Source: RFC-0027 (flat options; an invalid value is left out and the default stays).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

Scalar: TypeAlias = str | int | float | bool

UNLIMITED: Final = 2**63 - 1
ENDLESS: Final = float("inf")

_WHOLE = re.compile(r"[0-9]{1,16}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,8}(?:\.[0-9]{1,6})?", re.ASCII)
_COOKIE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", re.ASCII)
_ROUTERS_COOKIES = "__VCAP_ID_"
_MAX_TEXT = 20  # characters of a number as text


@dataclass(frozen=True, slots=True)
class RouteLimits:
    """What holds for a whole route. A limit that nobody asked for is UNLIMITED or ENDLESS: the operator's is in effect.

    `trims`: some endpoint wants its target without the route's path, so every target must bear that.
    """

    connections: int = UNLIMITED  # requests in flight at one endpoint
    seconds: float = ENDLESS  # from dialling to the response's end
    body_bytes: int = UNLIMITED
    rate: float = ENDLESS  # requests a second
    trims: bool = False


NO_LIMITS: Final = RouteLimits()


class Wishes(NamedTuple):
    """What one registration asks. `limits` is None where it asks for none, `session_cookie` empty."""

    limits: RouteLimits | None = None
    session_cookie: str = ""


NO_WISHES: Final = Wishes()


class LimitOption(NamedTuple):
    """One option: its value as the router uses it (None: it cannot), what was expected, and what holds without it."""

    read: Callable[[Scalar], int | float | bool | str | None]
    expected: str
    in_effect: str


def _whole(least: int, most: int) -> Callable[[Scalar], int | None]:
    def read(value: Scalar) -> int | None:
        number = value
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            number = int(value)
        good = isinstance(number, int) and not isinstance(number, bool) and least <= number <= most
        return int(number) if good else None

    return read


def _number(least: float, most: float) -> Callable[[Scalar], float | None]:
    def read(value: Scalar) -> float | None:
        number = value
        if isinstance(value, str) and len(value) <= _MAX_TEXT and _NUMBER.fullmatch(value):
            number = float(value)
        if isinstance(number, bool | str) or not least <= number <= most:  # NaN is not in between either
            return None
        return float(number)

    return read


def _truth(value: Scalar) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else None


def _cookie(value: Scalar) -> str | None:
    good = isinstance(value, str) and _COOKIE.fullmatch(value) and not value.startswith(_ROUTERS_COOKIES)
    return str(value) if good else None


LIMIT_OPTIONS: Final[Mapping[str, LimitOption]] = {
    "connection-limit": LimitOption(
        _whole(1, 1_000_000), "a whole number from 1 to 1000000", "the operator's backends.max_conns"
    ),
    "request-timeout-seconds": LimitOption(
        _number(0.1, 86_400), "a number of seconds from 0.1 to 86400", "the operator's endpoint_timeout"
    ),
    "max-request-bytes": LimitOption(
        _whole(1, 2**50), "a whole number of bytes from 1 to 1125899906842624", "the operator's max_request_body_bytes"
    ),
    "rate-limit-rps": LimitOption(_number(0.01, 1_000_000), "a number a second from 0.01 to 1000000", "no rate limit"),
    "trim-path": LimitOption(_truth, "true or false", "false, the path stays"),
    "session-cookie": LimitOption(
        _cookie, "a cookie name of 1 to 64 characters, not __VCAP_ID__", "the operator's sticky_session_cookie_names"
    ),
}
_FIELDS: Final = {
    "connection-limit": "connections",
    "request-timeout-seconds": "seconds",
    "max-request-bytes": "body_bytes",
    "rate-limit-rps": "rate",
    "trim-path": "trims",
}


def read_wishes(pairs: Mapping[str, Scalar], wrong: Callable[[str, str], None]) -> Wishes:
    """What good options ask; `wrong(key, what holds instead)` hears of each of the others."""
    asked: dict[str, int | float | bool | str] = {}
    for key, option in LIMIT_OPTIONS.items():
        if key in pairs:
            value = option.read(pairs[key])
            if value is None:
                wrong(key, option.in_effect)
            else:
                asked[key] = value
    if not asked:
        return NO_WISHES
    cookie = asked.pop("session-cookie", "")
    limits = RouteLimits(**{_FIELDS[key]: value for key, value in asked.items()})  # type: ignore[arg-type]
    return Wishes(None if limits == NO_LIMITS else limits, str(cookie))


def lowest(several: Iterable[RouteLimits | None]) -> RouteLimits | None:
    """What holds where endpoints of one route ask for different things; None where none asks for anything."""
    asked = {limits for limits in several if limits is not None}
    if len(asked) < 2:
        return next(iter(asked), None)
    return RouteLimits(
        min(one.connections for one in asked),
        min(one.seconds for one in asked),
        min(one.body_bytes for one in asked),
        min(one.rate for one in asked),
        any(one.trims for one in asked),
    )
