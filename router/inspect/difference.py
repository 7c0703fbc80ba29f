"""Whose access a change opens or closes: two ways to answer, asked the same questions.

Promises: equal answers make no difference; the difference from new to old is the one from old to new with `opened` and `closed`
swapped; the widest first; who is part of somebody wider with the same change at the same place is not said again, except known
callers, who are always said. Refuses to know how an answer comes about (`old` and `new` are explain.py's).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from identity.caller import Caller, Guid
from registry.hostname import covers
from router.inspect.callers import KnownCaller
from router.inspect.judgement import Ask, Asked, Seen, seen_json
from router.inspect.population import ANYBODY, KNOWN, WITHOUT_CERTIFICATE, Person, Place, Side, people, places

Kind = Literal["opened", "closed", "rule"]

MAX_PAIRS: Final = 200_000
_ORDER: Final[tuple[Kind, ...]] = ("opened", "closed", "rule")


class Pair(NamedTuple):
    """Somebody at a place."""

    person: Person
    place: Place


class Change(NamedTuple):
    """A pair that the two ways answer differently: access opened or closed, or the same answer by another rule."""

    kind: Kind
    pair: Pair
    old: Seen
    new: Seen

    def as_json(self) -> dict[str, object]:
        """The change as plain JSON values."""
        person, place = self.pair
        caller = person.caller.identity
        return {
            "change": self.kind,
            "caller": person.caller.name,
            "app": caller.app if caller is not None and person.subject.startswith("app ") else None,
            "width": person.width,
            "route": place.route,
            "host": place.host,
            "path": place.path,
            "old": seen_json(self.old),
            "new": seen_json(self.new),
        }


def pairs(
    old: Side,
    new: Side,
    known: Iterable[KnownCaller],
    seen: Mapping[Guid, KnownCaller],
    host: str | None = None,
    limit: int = MAX_PAIRS,
) -> tuple[Pair, ...]:
    """Everybody at every place (of `host`, a pattern): `known` callers always, those `seen` where a list names their app. Raises
    ValueError for more than `limit`.
    """
    always = [Person(caller, KNOWN, f"known {caller.name}") for caller in known]
    told = {one.caller.identity for one in always} - {None}
    by_app = {**seen, **{caller.app: one.caller for one in always if (caller := _whole(one.caller)) is not None}}
    found: list[Pair] = []
    for place in places(old, new):
        if host is not None and not covers(host, place.host):
            continue
        others = (person for person in people(place, old, new, by_app) if person.caller.identity not in told)
        found += (Pair(person, place) for person in (*always, *others))
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
    for pair in asked:
        question = Asked(pair.person.caller, pair.place.host, pair.place.path)
        before, after = old(question), new(question)
        kind = _kind(before, after)
        if kind is not None:
            found.append(Change(kind, pair, before, after))
    return tuple(sorted(_widest(found), key=_order))


def _kind(before: Seen, after: Seen) -> Kind | None:
    if before.allowed != after.allowed:
        return "opened" if after.allowed else "closed"
    return "rule" if (before.outcome, before.rule) != (after.outcome, after.rule) else None


def _order(change: Change) -> tuple[object, ...]:
    person, place = change.pair
    return _ORDER.index(change.kind), person.width, place.host, place.path, person.caller.name


def _widest(changes: Sequence[Change]) -> Iterable[Change]:
    """Without those that a wider one says already."""
    said: dict[tuple[object, ...], list[Person]] = {}
    for change in changes:
        said.setdefault(_what(change), []).append(change.pair.person)
    return (change for change in changes if not any(_part_of(change.pair.person, other) for other in said[_what(change)]))


def _what(change: Change) -> tuple[object, ...]:
    """What two changes have in common of which one may stand for both."""
    rules = (change.old.rule, change.new.rule) if change.kind == "rule" else ()
    return change.pair.place, change.kind, rules


def _part_of(person: Person, other: Person) -> bool:
    if person.width in (KNOWN, WITHOUT_CERTIFICATE) or other.width in (KNOWN, WITHOUT_CERTIFICATE):
        return False
    if other.width == ANYBODY:
        return person.width != ANYBODY
    return other.subject == person.subject and other.within < person.within


def authorities(old: Side, new: Side) -> tuple[tuple[str, str], ...]:
    """Where other certificates are accepted than before, as (old pattern, new pattern): for whom, nobody can list."""
    patterns = [domain.pattern for side in (old, new) for domain in side.domains.policies]
    found = set()
    for host in [*patterns, *(place.host for place in places(old, new))]:
        before, after = (side.domains.claim(host.replace("*", "any", 1)) for side in (old, new))
        if before is not None and after is not None and before.client_policy != after.client_policy:
            found.add((before.pattern, after.pattern))
    return tuple(sorted(found))
