"""Whose access a change opens or closes: two ways to answer, asked the same questions.

Promises: equal answers make no difference; the difference from new to old is the one from old to new with `opened` and `closed`
swapped; the widest first; what holds for all cases of somebody is said once, and what holds for everybody with a certificate too;
known callers are always said. Refuses to know how an answer comes about (`old` and `new` are explain.py's).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final, Literal, NamedTuple

from identity.caller import Caller, Guid
from registry.hostname import covers
from router.inspect.callers import KnownCaller
from router.inspect.distinct_callers import (
    EVERYBODY,
    KNOWN,
    WIDTHS,
    WITHOUT_CERTIFICATE,
    DistinctCaller,
    Place,
    distinct_callers,
    places,
)
from router.inspect.judgement import Ask, Asked, Seen, seen_json
from router.inspect.scene import Scene

Kind = Literal["opened", "closed", "rule"]

MAX_PAIRS: Final = 200_000
NO_DOMAIN: Final = "hosts in no domain"
_ALONE: Final = (KNOWN, WITHOUT_CERTIFICATE)
_ORDER: Final[tuple[Kind, ...]] = ("opened", "closed", "rule")


class Pair(NamedTuple):
    """Somebody at a place."""

    who: DistinctCaller
    place: Place


class Change(NamedTuple):
    """A pair that the two ways answer differently: access opened or closed, or the same answer by another rule."""

    kind: Kind
    pair: Pair
    old: Seen
    new: Seen

    def as_json(self) -> dict[str, object]:
        """The change as plain JSON values."""
        who, place = self.pair
        return {
            "change": self.kind,
            "caller": who.caller.name,
            "width": WIDTHS[who.width],
            "route": place.route,
            "host": place.host,
            "path": place.path,
            "old": seen_json(self.old),
            "new": seen_json(self.new),
        }


def pairs(
    old: Scene,
    new: Scene,
    known: Iterable[KnownCaller],
    seen: Mapping[Guid, KnownCaller],
    host: str | None = None,
    limit: int = MAX_PAIRS,
) -> tuple[Pair, ...]:
    """Everybody at every place (of `host`, a pattern): `known` callers always, those `seen` where a list names their app. Raises
    ValueError for more than `limit`.
    """
    always = [DistinctCaller(caller, KNOWN, f"known {caller.name}") for caller in known]
    told = {one.caller.identity for one in always} - {None}
    by_app = {**seen, **{caller.app: one.caller for one in always if (caller := _whole(one.caller)) is not None}}
    found: list[Pair] = []
    for place in places(old, new):
        if host is not None and not covers(host, place.host):
            continue
        others = (who for who in distinct_callers(place, old, new, by_app) if who.caller.identity not in told)
        found += (Pair(who, place) for who in (*always, *others))
        if len(found) > limit:
            raise ValueError(f"more than {limit} pairs of caller and route; ask about fewer hosts at a time with --host PATTERN")
    return tuple(found)


def _whole(known: KnownCaller) -> Caller | None:
    """Their identity where it leaves no question open."""
    caller = known.identity
    return caller if caller is not None and caller.space is not None and caller.org is not None else None


def compare(asked: Iterable[Pair], old: Ask, new: Ask) -> tuple[Change, ...]:
    """What differs, sorted: opened, closed, by another rule; in each the widest first, then by host and path."""
    found: list[Change] = []
    for _, group in groupby(asked, key=lambda pair: pair.place):
        found += _together([(pair, _change(pair, old, new)) for pair in group])
    return tuple(sorted(found, key=_order))


def _change(pair: Pair, old: Ask, new: Ask) -> Change | None:
    question = Asked(pair.who.caller, pair.place.host, pair.place.path)
    before, after = old(question), new(question)
    kind = _kind(before, after)
    return Change(kind, pair, before, after) if kind is not None else None


def _kind(before: Seen, after: Seen) -> Kind | None:
    if before.allowed != after.allowed:
        return "opened" if after.allowed else "closed"
    return "rule" if (before.outcome, before.rule) != (after.outcome, after.rule) else None


def _order(change: Change) -> tuple[object, ...]:
    who, place = change.pair
    return _ORDER.index(change.kind), who.width, place.host, place.path, who.caller.name


def _together(asked: Sequence[tuple[Pair, Change | None]]) -> list[Change]:
    """The changes at one place, those that belong together as one."""
    apart = [change for pair, change in asked if change is not None and pair.who.width in _ALONE]
    subjects: dict[str, list[Change | None]] = {}
    for pair, change in asked:
        if pair.who.width not in _ALONE:
            subjects.setdefault(pair.who.subject, []).append(change)
    anybody = sorted((one for one in asked if one[0].who.caller.identity is not None), key=lambda one: one[0].who.width)
    everybody = _as_one([change for _, change in anybody], EVERYBODY)
    if everybody is not None:
        return [*apart, everybody]
    for subject, changes in subjects.items():
        one = _as_one(changes, subject)
        apart += [one] if one is not None else [change for change in changes if change is not None]
    return apart


def _as_one(changes: Sequence[Change | None], name: str) -> Change | None:
    """The first change under this name, where all are there and alike."""
    first = changes[0] if changes else None
    if first is None or any(change is None or _what(change) != _what(first) for change in changes):
        return None
    who = first.pair.who
    caller = replace(who.caller, name=name)
    return first._replace(pair=first.pair._replace(who=who._replace(caller=caller)))


def _what(change: Change) -> tuple[object, ...]:
    """What changes have in common of which one may stand for all."""
    return change.kind, *((change.old.rule, change.new.rule) if change.kind == "rule" else ())


def authorities(old: Scene, new: Scene) -> tuple[tuple[str, str], ...]:
    """Where other certificates are accepted than before, as (old pattern, new pattern): for whom, nobody can list."""
    patterns = [domain.pattern for side in (old, new) for domain in side.domains.policies]
    found = set()
    for host in [*patterns, *(place.host for place in places(old, new))]:
        before, after = (side.domains.claim(host.replace("*", "any", 1)) for side in (old, new))
        if before is None and after is None:
            if old.open_policy.fingerprint != new.open_policy.fingerprint:
                found.add((NO_DOMAIN, NO_DOMAIN))
        elif before is not None and after is not None and before.client_policy != after.client_policy:
            found.add((before.pattern, after.pattern))
    return tuple(sorted(found))
