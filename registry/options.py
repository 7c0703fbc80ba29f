"""The flat options of a registered route, read once a change: one value that says what holds and what was
wrong.

Promises: never raises and never fails a registration, whatever the map holds. An option that cannot be used
falls back to what held before, with a warning as a value. An access option that cannot be used never opens a
route: what it means where is decided in authz/policy. Refuses to know: domains, JSON text, logging, the
algorithms themselves.

Source: RFC-0027 (flat map; string, number, true, false), RFC-0042 (hash options), Cloud Controller's size
limit.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from authz.policy import WITHOUT_OPTIONS, RoutePolicy, route_policy
from identity.caller import shown
from registry.route_limits import LIMIT_OPTIONS, NO_WISHES, Scalar, Wishes, read_wishes

DEFAULT_LIMIT = 1024  # bytes of UTF-8 compact JSON; about 25 app GUIDs

Reason = Literal["too_large", "not_an_object", "nested", "bad_value"]

HASH_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)
_ALGORITHMS = frozenset({"round-robin", "least-connection", "hash"})
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_MAX_KNOWN = 2048
_MAX_WARNINGS = 8
_MAX_SHOWN = 64


class OptionWarning(NamedTuple):
    """One thing that was wrong: a bounded reason, key and value as sent (escaped), what holds instead."""

    reason: Reason
    key: str
    value: str
    in_effect: str


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """What one registration asks of its route. `algorithm` is None where it asks for nothing usable."""

    policy: RoutePolicy
    algorithm: str | None = None
    hash_header: str = ""
    hash_balance: float = 0.0
    wishes: Wishes = NO_WISHES
    warnings: tuple[OptionWarning, ...] = ()


NO_OPTIONS = RouteOptions(WITHOUT_OPTIONS)


_known: dict[str, RouteOptions] = {}
"""By their compact text: instances of an app, and often its routes, ask for the same, and share one value."""


def parse_options(raw: object, limit: int = DEFAULT_LIMIT) -> RouteOptions:
    """The options of one registration; `raw` is the decoded JSON value, None where the field is missing or
    null.

    A map of more than `limit` bytes of UTF-8 compact JSON, or a value that is no map, is invalid as a whole:
    nothing of it holds. Otherwise each pair stands or falls alone.
    """
    if raw is None or raw == {}:
        return NO_OPTIONS
    if not isinstance(raw, dict):
        return _invalid((), OptionWarning("not_an_object", "", type(raw).__name__, "no option of this registration"))
    text = _encoded(raw)
    size = None if text is None else _size(text)
    if text is None or size is None or size > limit:
        found = "too deep" if size is None else f"{size} bytes"
        return _invalid(raw, OptionWarning("too_large", "", found, f"no option: the limit is {limit} bytes"))
    known = _known.get(text)
    if known is None:
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        known = _known[text] = _read(raw)
    return known


def _read(raw: Mapping[str, object]) -> RouteOptions:
    pairs = {key: value for key, value in raw.items() if isinstance(value, (str, int, float))}  # bool is an int
    nested = [key for key in raw if key not in pairs] if len(pairs) < len(raw) else []
    warnings = [OptionWarning("nested", shown(key), shown_value(raw[key]), "the pair is left out") for key in nested]
    algorithm, header, balance = _balancing(pairs, warnings)
    wishes = _wishes(pairs, warnings)
    policy = route_policy(pairs, tuple(nested), "ok", tuple(raw))
    return RouteOptions(policy, algorithm, header, balance, wishes, tuple(warnings[:_MAX_WARNINGS]))


def shown_value(value: object) -> str:
    """A peer's JSON value for a log: escaped, bounded; of an object or a list only its type."""
    if isinstance(value, str):
        return shown(value)
    return type(value).__name__ if isinstance(value, dict | list) else repr(value)[:_MAX_SHOWN]


def _invalid(raw_keys: Mapping[str, object] | tuple[str, ...], warning: OptionWarning) -> RouteOptions:
    return RouteOptions(route_policy({}, (), "invalid", tuple(raw_keys)), warnings=(warning,))


def encoded_size(raw: Mapping[str, object]) -> int | None:
    """What the limit counts: bytes of UTF-8 compact JSON; None where the nesting is too deep to write down."""
    text = _encoded(raw)
    return None if text is None else _size(text)


def _encoded(raw: Mapping[str, object]) -> str | None:
    try:
        return _COMPACT.encode(raw)
    except RecursionError:
        return None


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _balancing(pairs: Mapping[str, Scalar], warnings: list[OptionWarning]) -> tuple[str | None, str, float]:
    """Algorithm, hash header and hash balance, falling back one by one; adds to `warnings`."""
    algorithm = pairs.get("loadbalancing", "")
    if algorithm == "":
        return None, "", 0.0
    if not (isinstance(algorithm, str) and algorithm in _ALGORITHMS):
        warnings.append(OptionWarning("bad_value", "loadbalancing", shown_value(algorithm), "the route's algorithm stays"))
        return None, "", 0.0
    if algorithm != "hash":
        return algorithm, "", 0.0
    header, balance = pairs.get("hash_header", ""), pairs.get("hash_balance", "")
    if not (isinstance(header, str) and HASH_HEADER.fullmatch(header)):
        warnings.append(OptionWarning("bad_value", "hash_header", shown_value(header), "the route's algorithm stays"))
        return None, "", 0.0
    factor = _balance(balance)
    if factor is None:
        warnings.append(OptionWarning("bad_value", "hash_balance", shown_value(balance), "0, no balancing between hashes"))
    return algorithm, header, factor or 0.0


def _wishes(pairs: Mapping[str, Scalar], warnings: list[OptionWarning]) -> Wishes:
    if LIMIT_OPTIONS.keys().isdisjoint(pairs):
        return NO_WISHES

    def wrong(key: str, in_effect: str) -> None:
        warnings.append(OptionWarning("bad_value", key, shown_value(pairs[key]), in_effect))

    return read_wishes(pairs, wrong)


def _balance(value: Scalar) -> float | None:
    """0 or a finite factor from 1.1 up, also as a string; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        factor = float(value or 0)
    except (ValueError, OverflowError):
        return None
    return factor if factor == 0 or (factor >= 1.1 and math.isfinite(factor)) else None
