"""Which callers can be told apart at which route, by either of two scenes: whose access there is to compare.

A GUID that neither scene's lists name is like any other such GUID: "anybody" stands for all of them. So a route has as many
kinds of callers as its lists, its domain's and the deny lists make, and those are asked about:

    anybody without a certificate; anybody with one; anybody in each org and space that is named; each app that is named

A named app whose space and org nobody has told, and whoever is only known by a space, is asked about in each kind of org or space
that the lists tell apart, since the operator's door may ask for one and the developer's for the other. GUIDs that
stand in the same lists, and that no change moves, share a line.

Promises: complete for what lists of GUIDs can decide; deterministic; each list is looked at once. Refuses to know any decision,
and certificates: those of a callers file are asked about as they are.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Final, NamedTuple

from authz.policy import MtlsOptions, RoutePolicies
from identity.caller import Caller, Guid
from registry.endpoint import Route
from registry.hostname import Host
from router.inspect.callers import KnownCaller
from router.inspect.scene import Scene

Width = int
"""How many a line speaks of: the smaller, the more."""
WITHOUT_CERTIFICATE, ANYBODY, ORG, SPACE, APP, KNOWN = range(6)
WIDTHS: Final = ("without_certificate", "anybody", "org", "space", "app", "known")
"""Their names, for programs."""

EVERYBODY: Final = "anybody with a certificate"

_SCOPE_TAGS: Final = {"orgs": "organization_id", "spaces": "space_id"}
_SCOPES: Final = {"orgs": "org", "spaces": "space"}
_ANY: Final = "any"


class Place(NamedTuple):
    """A host and path to ask at; `route` is the key it stands for, which may have a `*`."""

    host: str
    path: str
    route: str


class DistinctCaller(NamedTuple):
    """A kind of caller, or one of them, whose name says exactly who is meant. `subject`: who all those are together of whom this
    is one case, such as an app that may be in this org or in that.
    """

    caller: KnownCaller
    width: Width
    subject: str


def places(old: Scene, new: Scene) -> tuple[Place, ...]:
    """Every route of either side; one with a `*` once for each domain or denied host below it, and once for the rest."""
    found: dict[tuple[str, str], Place] = {}
    patterns = {
        pattern for side in (old, new) for pattern in (*side.deny.hosts, *(each.pattern for each in side.domains.policies))
    }
    routes = {(route.host, route.path) for side in (old, new) for route in side.table}
    exact = {host for host, _ in routes if not host.startswith("*.")}
    for host, path in sorted(routes):
        for one in _hosts(host, patterns, exact):
            found.setdefault((one, path or "/"), Place(one, path or "/", host + path))
    return tuple(found.values())


def _hosts(host: Host, patterns: Iterable[str], exact: Collection[str]) -> Iterator[str]:
    if not host.startswith("*."):
        yield host
        return
    suffix = host[1:]
    below = sorted(pattern for pattern in patterns if pattern.removeprefix("*").endswith(suffix))
    for pattern in dict.fromkeys((host, *below)):
        yield _unused(pattern[1:], exact) if pattern.startswith("*.") else pattern


def _unused(suffix: str, exact: Collection[str]) -> str:
    """A host right below `suffix` that no route of its own has."""
    names = (f"{_ANY}{number or ''}{suffix}" for number in range(len(exact) + 1))
    return next(name for name in names if name not in exact)


def distinct_callers(place: Place, old: Scene, new: Scene, known: Mapping[Guid, KnownCaller]) -> Iterator[DistinctCaller]:
    """Whom to ask about at a place. `known`: whose space and org are told, by app."""
    apps, spaces, orgs = (_kinds(_lists(place, old, kind), _lists(place, new, kind)) for kind in ("apps", "spaces", "orgs"))
    nobody = _unnamed({guid for kind in (*apps, *spaces, *orgs) for guid in kind.guids})
    yield DistinctCaller(KnownCaller("anybody without a certificate"), WITHOUT_CERTIFICATE, "anybody without a certificate")
    named = "anybody else with a certificate" if apps or spaces or orgs else EVERYBODY
    yield DistinctCaller(KnownCaller(named, Caller(nobody, nobody, nobody)), ANYBODY, named)
    for one in _apart(orgs):
        yield from _cases(ORG, f"anybody in org {one}", Caller(nobody, nobody, one.guids[0]), (), ())
    for one in _apart(spaces):
        yield from _cases(SPACE, f"anybody in space {one}", Caller(nobody, one.guids[0], nobody), (), orgs)
    for one in _apart(apps, known):
        if one.guids[0] in known:
            yield DistinctCaller(known[one.guids[0]], APP, known[one.guids[0]].name)
        else:
            yield from _cases(APP, f"app {one}", Caller(one.guids[0], nobody, nobody), spaces, orgs)


class _Kind(NamedTuple):
    """GUIDs that stand in the same lists, and so cannot be told apart. `steady`: the change moves none of them."""

    guids: tuple[Guid, ...]
    steady: bool

    def __str__(self) -> str:
        more = len(self.guids) - 1
        return f"{self.guids[0]} (or {more} more)" if more else self.guids[0]


def _apart(kinds: Iterable[_Kind], known: Collection[Guid] = ()) -> Iterator[_Kind]:
    """The kinds to speak of: whoever the change moves, and who is `known`, alone; one line for the others of a kind."""
    for kind in kinds:
        alone = tuple(guid for guid in kind.guids if not kind.steady or guid in known)
        yield from (_Kind((guid,), kind.steady) for guid in alone)
        if len(alone) < len(kind.guids):
            yield _Kind(tuple(guid for guid in kind.guids if guid not in alone), kind.steady)


def _cases(
    width: Width, subject: str, caller: Caller, spaces: Sequence[_Kind], orgs: Sequence[_Kind]
) -> Iterator[DistinctCaller]:
    """The caller as it is, and in each kind of space and of org."""
    for space, org in product((None, *spaces), (None, *orgs)):
        inside = [f"{name} {kind}" for name, kind in (("space", space), ("org", org)) if kind is not None]
        outside = [name for name, kinds in (("space", spaces), ("org", orgs)) if kinds]
        where = f"in {' and '.join(inside)}" if inside else f"in no listed {' or '.join(outside)}" if outside else ""
        placed = Caller(
            caller.app, space.guids[0] if space is not None else caller.space, org.guids[0] if org is not None else caller.org
        )
        yield DistinctCaller(KnownCaller(f"{subject}, if {where}" if where else subject, placed), width, subject)


_Lists = tuple[tuple[str, frozenset[Guid]], ...]
"""The lists of one kind of GUID that somebody is judged by, each with what it is."""


@lru_cache(maxsize=1024)  # the routes of a domain have mostly the same lists
def _kinds(old: _Lists, new: _Lists) -> tuple[_Kind, ...]:
    """The GUIDs of all lists, sorted into those that stand in the same ones."""
    both = (*old, *new)
    found: dict[tuple[bool, ...], list[Guid]] = {}
    for guid in sorted(frozenset[Guid]().union(*(each for _, each in both))):
        found.setdefault(tuple(guid in each for _, each in both), []).append(guid)
    return tuple(_Kind(tuple(guids), _standing(old, guids[0]) == _standing(new, guids[0])) for guids in found.values())


def _standing(lists: _Lists, guid: Guid) -> list[str]:
    """On what lists of one side a GUID is."""
    return sorted(what for what, each in lists if guid in each)


def _lists(place: Place, side: Scene, kind: str) -> _Lists:
    """Every list of this kind of GUID that a side judges by at this place."""
    domain = side.domains.claim(place.host)
    route = side.table.lookup(place.host, place.path)
    found: list[tuple[str, frozenset[Guid]]] = [("deny", getattr(side.deny, kind))]
    if domain is not None and kind != "apps":
        found.append(("domain", getattr(domain, kind) or frozenset()))
    found += _route_lists(route, kind) if route is not None else ()
    return tuple(each for each in found if each[1])


def _route_lists(route: Route, kind: str) -> Iterator[tuple[str, frozenset[Guid]]]:
    for part in route.pool.policy.parts:
        if isinstance(part, MtlsOptions | RoutePolicies):
            yield "route", frozenset(getattr(part.callers, kind))
        if isinstance(part, RoutePolicies) and part.scope == _SCOPES.get(kind):
            tag = _SCOPE_TAGS[kind]
            yield "scope", frozenset(Guid(endpoint.tags[tag]) for endpoint in route.pool.endpoints if endpoint.tags.get(tag))


def _unnamed(named: Collection[str]) -> Guid:
    """A GUID that stands in no list."""
    names = (f"anybody{number or ''}" for number in range(len(named) + 1))
    return Guid(next(name for name in names if name not in named))
