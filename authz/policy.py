"""Whom the developer of a route lets in: the flat route options of both dialects, made one policy.

    mtls_allowed_apps | _spaces | _orgs   comma-separated GUIDs
    mtls_allow_any        true, false (also as strings)
    route_policy_scope    any | org | space
    route_policy_sources  comma-separated cf:app:<guid>, cf:space:<guid>, cf:org:<guid>, or cf:any

Promises: never raises for what an app registered, and never reads "any" out of a mistake. A dialect is
present as soon as one key has its prefix; a bad pair is an empty list; a malformed entry is skipped; nothing
left denies; "any" beside a list is dropped and the list stands. Keys and `cf:` sources are case-sensitive.
Refuses to know: domains (decide.py says what enforces what), JSON, NATS, and the size limit of the options.
Source: Cloud Foundry RFC-0055 (its draft of March 2026 for mtls_*), RFC-0027 for flat values.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

from identity.caller import Caller, Guid, parse_guid, shown

Scope = Literal["any", "org", "space", "unknown"]
Column = Literal["no_options", "mtls", "route_policy", "invalid", "invalid_mtls", "invalid_route_policy"]

# Characters of one list; a NATS message is never longer than this, and a longer list is a bad pair.
MAX_LIST = 64 * 1024

_MTLS = "mtls_"
_NOBODY: tuple[Guid, ...] = ()
_SHORT = 8  # GUIDs that are looked through as fast as a set finds one
_MTLS_LISTS = ("mtls_allowed_apps", "mtls_allowed_spaces", "mtls_allowed_orgs")
_ALLOW_ANY = "mtls_allow_any"
_ROUTE_POLICY = "route_policy_"
_SCOPE = "route_policy_scope"
_SOURCES = "route_policy_sources"
_SCOPES: dict[object, Scope] = {"any": "any", "org": "org", "space": "space"}
_KINDS = {"cf:app:": "apps", "cf:space:": "spaces", "cf:org:": "orgs"}


@dataclass(frozen=True, slots=True)
class Callers:
    """Who is let in: any of the lists is enough. Nothing at all lets nobody in.

    A short list is kept as a sorted tuple, whatever it was given as: a set of one takes 216 bytes, and 100,000 routes have one.
    """

    apps: Collection[Guid] = _NOBODY
    spaces: Collection[Guid] = _NOBODY
    orgs: Collection[Guid] = _NOBODY
    any: bool = False

    def __post_init__(self) -> None:
        for kind in ("apps", "spaces", "orgs"):
            guids = getattr(self, kind)
            if guids is not _NOBODY and not isinstance(guids, tuple):
                object.__setattr__(self, kind, tuple(sorted(guids)) if len(guids) <= _SHORT else frozenset(guids))

    @property
    def nobody(self) -> bool:
        """Whether no caller whatever can match."""
        return not (self.any or self.apps or self.spaces or self.orgs)


@dataclass(frozen=True, slots=True)
class NoOptions:
    """The route says nothing about callers."""

    column: ClassVar[Column] = "no_options"


@dataclass(frozen=True, slots=True)
class MtlsOptions:
    """The first dialect; `named` are the options of it that the route carries, for messages."""

    callers: Callers
    named: tuple[str, ...]
    column: ClassVar[Column] = "mtls"

    def match(self, caller: Caller) -> str | None:
        """Return the name of the rule that admits the caller, or None."""
        allowed = self.callers
        if caller.app in allowed.apps:
            return "route:mtls_allowed_apps"
        if caller.space in allowed.spaces:
            return "route:mtls_allowed_spaces"
        if caller.org in allowed.orgs:
            return "route:mtls_allowed_orgs"
        return "route:mtls_allow_any" if allowed.any else None


@dataclass(frozen=True, slots=True)
class RoutePolicies:
    """The second dialect; a scope that is missing or not known is "unknown" and admits nobody."""

    scope: Scope
    callers: Callers
    column: ClassVar[Column] = "route_policy"

    def match(self, caller: Caller) -> str | None:
        """Return the name of the rule whose source admits the caller, or None; the scope is not judged."""
        allowed = self.callers
        if caller.app in allowed.apps:
            return "route:cf:app:" + caller.app
        if caller.space is not None and caller.space in allowed.spaces:
            return "route:cf:space:" + caller.space
        if caller.org is not None and caller.org in allowed.orgs:
            return "route:cf:org:" + caller.org
        return "route:cf:any" if allowed.any else None


@dataclass(frozen=True, slots=True)
class InvalidOptions:
    """The map as a whole is no object, or too large; the column tells which dialect's keys it has."""

    column: Literal["invalid", "invalid_mtls", "invalid_route_policy"]


Part = NoOptions | MtlsOptions | RoutePolicies | InvalidOptions


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """What one registration says: all `parts` must admit; `warnings` are for the log. Equal by value."""

    parts: tuple[Part, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class PoolPolicy:
    """What a route's live endpoints say together: every distinct part must admit, in a fixed order.

    Compared and hashed by identity, so that it is a fast key of a cache.
    """

    parts: tuple[Part, ...]
    warnings: tuple[str, ...] = ()


WITHOUT_OPTIONS = RoutePolicy((NoOptions(),))
NO_POLICY = PoolPolicy(WITHOUT_OPTIONS.parts)


def route_policy(
    pairs: Mapping[str, object],
    bad_keys: Collection[str],
    whole: Literal["ok", "invalid"],
    raw_keys: Iterable[str],
) -> RoutePolicy:
    """Return the policy of one registration's options; WITHOUT_OPTIONS itself when no key concerns callers.

    `pairs` are the flat values, `bad_keys` the keys whose value is none (nested, null), `raw_keys` every key
    that could be seen, even of a map that is invalid as a whole.
    """
    keys = sorted({*pairs, *bad_keys, *raw_keys})
    mtls = [key for key in keys if key.startswith(_MTLS)]
    policies = [key for key in keys if key.startswith(_ROUTE_POLICY)]
    if whole == "invalid":
        return _invalid(bool(mtls), bool(policies))
    if not mtls and not policies:
        return WITHOUT_OPTIONS
    values = {key: value for key, value in pairs.items() if key not in bad_keys}
    warnings: list[str] = []
    parts: list[Part] = []
    if mtls:
        parts.append(_mtls_options(mtls, values, warnings))
    if policies:
        parts.append(_route_policies(policies, values, warnings))
    return RoutePolicy(tuple(parts), tuple(warnings))


def conjunction(policies: Iterable[RoutePolicy]) -> PoolPolicy:
    """Return the policy of a pool: the same for every order and repetition of its registrations' policies."""
    distinct = list(set(policies))
    if not distinct or distinct == [WITHOUT_OPTIONS]:
        return NO_POLICY
    if len(distinct) == 1 and len(distinct[0].parts) == 1:
        return PoolPolicy(distinct[0].parts, tuple(sorted(distinct[0].warnings)))
    parts = {part for policy in distinct for part in policy.parts}
    warnings = {warning for policy in distinct for warning in policy.warnings}
    return PoolPolicy(tuple(sorted(parts, key=_order)), tuple(sorted(warnings)))


@lru_cache(maxsize=16)
def _one_tuple(named: tuple[str, ...]) -> tuple[str, ...]:
    """The same object for equal names: there are few combinations and many routes."""
    return named


def _invalid(mtls: bool, policies: bool) -> RoutePolicy:
    warning = "route options are no JSON object, or too large (max_route_options_size): none is in effect"
    if policies:
        return RoutePolicy((InvalidOptions("invalid_route_policy"),), (warning,))
    return RoutePolicy((InvalidOptions("invalid_mtls" if mtls else "invalid"),), (warning,))


def _mtls_options(keys: list[str], values: Mapping[str, object], warnings: list[str]) -> MtlsOptions:
    apps, spaces, orgs = [_guids(key, values, warnings) if key in keys else _NOBODY for key in _MTLS_LISTS]
    allow_any = _ALLOW_ANY in keys and _boolean(values, warnings)
    # Any key that looks like a list counts as one: a misspelt list must not turn into "anybody".
    if allow_any and any(key.startswith("mtls_allowed") for key in keys):
        allow_any = False
        warnings.append("mtls_allow_any: true excludes the mtls_allowed_* lists: it is dropped, the lists stand")
    known = _one_tuple(tuple([key for key in (*_MTLS_LISTS, _ALLOW_ANY) if key in keys]))
    if len(known) < len(keys):
        _warn_unknown(keys, known, "mtls_allowed_apps, mtls_allowed_spaces, mtls_allowed_orgs or mtls_allow_any", warnings)
    return MtlsOptions(Callers(apps, spaces, orgs, allow_any), known)


def _route_policies(keys: list[str], values: Mapping[str, object], warnings: list[str]) -> RoutePolicies:
    value = values.get(_SCOPE)
    scope = _SCOPES.get(value, "unknown") if isinstance(value, str) else "unknown"
    if scope == "unknown":
        said = "is missing" if _SCOPE not in keys else f"is {_value(value)}"
        warnings.append(f"{_SCOPE} {said}, expected any, org or space: the route denies")
    callers = _sources(values, warnings) if _SOURCES in keys else Callers()
    _warn_unknown(keys, (_SCOPE, _SOURCES), f"{_SCOPE} or {_SOURCES}", warnings)
    return RoutePolicies(scope, callers)


def _entries(key: str, values: Mapping[str, object], warnings: list[str]) -> list[str]:
    value = values.get(key)
    if isinstance(value, str) and len(value) <= MAX_LIST:
        return [stripped for entry in value.split(",") if (stripped := entry.strip(" \t"))]
    expected = f"comma-separated text of at most {MAX_LIST} characters"
    warnings.append(f"{key} is {_value(value)}, expected {expected}: it counts as an empty list")
    return []


def _guids(key: str, values: Mapping[str, object], warnings: list[str]) -> Collection[Guid]:
    entries = _entries(key, values, warnings)
    good = {guid for entry in entries if (guid := parse_guid(entry)) is not None}
    if len(good) < len(entries):
        _warn_skipped(key, [entry for entry in entries if entry not in good], "a GUID", warnings)
    return good or _NOBODY


def _sources(values: Mapping[str, object], warnings: list[str]) -> Callers:
    entries = _entries(_SOURCES, values, warnings)
    found: dict[str, set[Guid]] = {"apps": set(), "spaces": set(), "orgs": set()}
    others = [entry for entry in entries if entry != "cf:any"]
    skipped: list[str] = []
    for entry in others:
        kind, guid = next(
            ((name, parse_guid(entry[len(head) :])) for head, name in _KINDS.items() if entry.startswith(head)),
            ("", None),
        )
        if guid is None:
            skipped.append(entry)
        else:
            found[kind].add(guid)
    if others and len(others) < len(entries):
        warnings.append(f"{_SOURCES}: cf:any excludes every other source: it is dropped, the others stand")
    _warn_skipped(_SOURCES, skipped, "cf:app:<guid>, cf:space:<guid>, cf:org:<guid> or cf:any", warnings)
    apps, spaces, orgs = (found[kind] or _NOBODY for kind in _KINDS.values())
    return Callers(apps, spaces, orgs, any=bool(entries) and not others)


def _boolean(values: Mapping[str, object], warnings: list[str]) -> bool:
    value = values.get(_ALLOW_ANY)
    if value is True or value == "true":
        return True
    if value is not False and value != "false":
        warnings.append(f"{_ALLOW_ANY} is {_value(value)}, expected true or false: it counts as false")
    return False


def _value(value: object) -> str:
    if isinstance(value, str):
        return shown(value)
    return "no flat value" if value is None else f"a {type(value).__name__}"


def _warn_skipped(key: str, skipped: list[str], expected: str, warnings: list[str]) -> None:
    if skipped:
        more = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        warnings.append(f"{key}: {shown(skipped[0])}{more} skipped, expected {expected}")


def _warn_unknown(keys: list[str], known: tuple[str, ...], expected: str, warnings: list[str]) -> None:
    unknown = [key for key in keys if key not in known]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        warnings.append(f"option {shown(unknown[0])}{more} has no effect, expected {expected}")


def _order(part: Part) -> tuple[str, ...]:
    match part:
        case NoOptions() | InvalidOptions():
            return (part.column,)
        case MtlsOptions(callers, named):
            return (part.column, *_order_callers(callers), *named)
        case RoutePolicies(scope, callers):
            return (part.column, scope, *_order_callers(callers))


def _order_callers(callers: Callers) -> tuple[str, ...]:
    lists = (callers.apps, callers.spaces, callers.orgs)
    return ("any" if callers.any else "", *(",".join(sorted(guids)) for guids in lists))
