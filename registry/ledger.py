"""What is registered: the only mutable truth about routing, and the judge of whether routing changed.

Promises: a heartbeat (the very bytes its endpoint applied last for every one of its uris) moves deadlines and
nothing else; what an unregistration does not name exactly stays; a table is published only when a lookup
could tell it from the one before. Every method is synchronous and leaves a whole state. A host that the operator holds
is his alone: no message adds to it, changes it or takes from it. Refuses to know: NATS, logs and metrics (it returns
what happened), clocks (`now` is monotonic seconds), domains.

The table published last is the memory of what is registered; beside it stand only the routes that changed since, and one
digest for each message that would be a heartbeat.

Source: GoRouter's registry: register, unregister, staleness, sharding, empty pools. What a route makes of its endpoints'
words: entry.py.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

from registry.endpoint import Balancing, Endpoint, Pulse, Turn
from registry.entry import Entry
from registry.hostname import Host
from registry.message import RegistryMessage, RouteUri, uri_of
from registry.options import RouteOptions
from registry.table import RouteTable

PARTS: Final = 1024
"""In so many parts a table can be looked through, with pauses between: a walk through a million routes takes seconds, and where
all of them have gone silent at once a minute.
"""


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """The operator's choices. An emptied route is kept `empty_pool_timeout` s if `empty_pool_503` is on."""

    sharding_mode: Literal["all", "segments", "shared-and-segments"] = "all"
    isolation_segments: frozenset[str] = frozenset()
    empty_pool_503: bool = False
    empty_pool_timeout: float = 0.0
    algorithm: str = "round-robin"


class What(Enum):
    """What happened to one endpoint of one route."""

    REGISTERED = "registered"
    UPDATED = "updated"
    REFRESHED = "refreshed"
    UNREGISTERED = "unregistered"
    UNKNOWN = "unknown"  # an unregistration of what is not registered: nothing was done
    PRUNED = "pruned"  # silent for its TTL
    REMOVED = "removed"  # it failed its TLS identity or could not be dialled
    HELD = "held"  # the operator holds the host: nothing was done


class Event(NamedTuple):
    """One endpoint of one route. `new_options`: none of the route's endpoints had these options before."""

    what: What
    key: str
    endpoint: Endpoint
    new_options: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What one call did. `routing`: a new table is due. `ignored`: it was for another segment."""

    routing: bool = False
    events: tuple[Event, ...] = ()
    new_routes: tuple[str, ...] = ()
    gone_routes: tuple[str, ...] = ()
    ignored: bool = False


class Ledger:
    """All registrations of one router. `first_turn` gives a new route's round-robin its (random) start; a number below 257 takes
    no memory of its own.
    """

    def __init__(self, settings: LedgerSettings, *, first_turn: Callable[[], int] = int) -> None:
        self._settings = settings
        self._first_turn = first_turn
        self._balancing = Balancing(settings.algorithm, otherwise=settings.algorithm)
        self._table = RouteTable()
        self._open: dict[str, Entry] = {}  # by key: what the next table has else than the last one
        self._emptied: dict[str, float] = {}  # routes without endpoints, and until when they are kept
        self._beats: dict[bytes, Endpoint | tuple[Endpoint, ...]] = {}  # by the digest of the message
        self._held: frozenset[Host] = frozenset()
        self._plain: tuple[set[str], ...] = tuple(set() for _ in range(PARTS))  # keys of routes that silence can take from

    @property
    def table(self) -> RouteTable:
        """The table published last."""
        return self._table

    @property
    def known_messages(self) -> int:
        """Messages that would be heartbeats now: never more than there are endpoints of routes."""
        return len(self._beats)

    def heartbeat(self, data: bytes, now: float) -> bool:
        """Whether these bytes were applied and still are in force; if so, their endpoints live on."""
        found = self._beats.get(_digest(data))
        if found is None:
            return False
        if isinstance(found, Endpoint):
            found.pulse.expires = now + found.ttl
            return True
        for endpoint in found:
            endpoint.pulse.expires = now + endpoint.ttl
        return True

    def register(self, message: RegistryMessage, data: bytes, now: float) -> Change:
        """Put the endpoint into each of its routes; `data` are the bytes that said so."""
        if not self._is_ours(message.endpoint):
            return Change(ignored=True)
        free = [uri for uri in message.uris if uri.host not in self._held]
        new = tuple(uri.key for uri in free if not self._exists(uri))
        events = tuple(self._put(uri, message.endpoint, now) for uri in free)
        if len(free) == len(message.uris):  # else it must be read again when the operator lets go of the host
            self._remember(data, tuple(event.endpoint for event in events))
        routing = any(event.what is not What.REFRESHED for event in events)
        return Change(routing, (*events, *self._held_events(message)), new_routes=new)

    def unregister(self, message: RegistryMessage, now: float) -> Change:
        """Take the endpoint out of the routes named; what is not there or is another instance's stays."""
        if not self._is_ours(message.endpoint):
            return Change(ignored=True)
        found, events = [], self._held_events(message)
        for uri in message.uris:
            if uri.host in self._held:
                continue
            member = self._member(uri, message.endpoint)
            if member is None:
                events.append(Event(What.UNKNOWN, uri.key, message.endpoint))
            else:
                found.append((uri, member))
        taken = self._take(found, What.UNREGISTERED, now)
        return replace(taken, events=(*taken.events, *events))

    def prune(self, now: float, part: int = 0, of: int = 1) -> Change:
        """Drop plain endpoints silent for their TTL (TLS ones stay), then routes empty for too long.

        Only routes with a plain endpoint are looked at, and these in `of` parts (a divisor of PARTS): whoever asks for each of
        them has asked for all. Empty routes belong to the first.
        """
        stale = [
            (uri, endpoint)
            for uri in self._plain_routes(part, of)
            for endpoint in self._members(uri)
            if not endpoint.tls and endpoint.pulse.expires <= now and uri.host not in self._held
        ]
        taken = self._take(stale, What.PRUNED, now)
        over = [] if part else [key for key, until in self._emptied.items() if until <= now]
        for key in over:
            self._drop(uri_of(key))
        return replace(taken, routing=taken.routing or bool(over), gone_routes=(*taken.gone_routes, *over))

    def remove_endpoint(self, key: str, endpoint: Endpoint, now: float) -> Change:
        """Drop from one route a TLS endpoint that failed its identity or dial; never its successor there."""
        uri = uri_of(key)
        member = self._member(uri, endpoint)
        if member is None or not endpoint.tls or _is_successor(endpoint, member):
            return Change()
        if uri.host in self._held:  # nobody would register it again
            return Change()
        return self._take([(uri, member)], What.REMOVED, now)

    def hold(self, static: Mapping[Host, tuple[Endpoint, ...]], now: float) -> Change:
        """From now on the operator's hosts are exactly these, each with these endpoints and no path; what was registered for
        one of them, paths below it too, goes. Hosts he lets go of are free for the next registration.
        """
        before, self._held = self._held, frozenset(static)
        gone = [uri for host in before ^ self._held for uri in self._uris(host)]
        for uri in gone:
            for endpoint in self._members(uri):
                self._forget(endpoint)
            self._drop(uri)
        uris = {host: RouteUri(host, host, "", "") for host in static}
        new = tuple(host for host in static if not self._exists(uris[host]))
        events = [self._put(uris[host], endpoint, now) for host in static for endpoint in static[host]]
        left = [self._leave_only(uris[host], static[host]) for host in before & self._held]
        routing = bool(gone) or any(left) or any(event.what is not What.REFRESHED for event in events)
        return Change(routing, tuple(events), new, tuple(uri.key for uri in gone if uri.key not in static))

    def refresh_all(self, now: float, part: int = 0, of: int = 1) -> None:
        """Every endpoint (of one of so many parts) counts as heard of now: the way back from a time in which nothing could be
        heard.
        """
        for endpoint in self._endpoints(part, of):
            endpoint.pulse.expires = now + endpoint.ttl

    def publish(self) -> RouteTable:
        """The table of this moment; the same object as before when routing did not change."""
        if self._open:
            self._table = self._table.changed(
                {
                    (entry.uri.host, entry.uri.path): entry.route() if entry.members or key in self._emptied else None
                    for key, entry in self._open.items()
                }
            )
            self._open.clear()
        return self._table

    def _leave_only(self, uri: RouteUri, endpoints: Iterable[Endpoint]) -> bool:
        """Take every other endpoint out of a held route; whether there was one."""
        others = {endpoint.address for endpoint in self._members(uri)} - {endpoint.address for endpoint in endpoints}
        for address in others:
            del self._entry(uri).members[address]
        return bool(others)

    def _held_events(self, message: RegistryMessage) -> list[Event]:
        return [Event(What.HELD, uri.key, message.endpoint) for uri in message.uris if uri.host in self._held]

    def _is_ours(self, endpoint: Endpoint) -> bool:
        """Sharding: whether this router carries the endpoint's isolation segment."""
        match self._settings.sharding_mode:
            case "all":
                return True
            case "segments":
                return endpoint.isolation_segment in self._settings.isolation_segments
            case "shared-and-segments":
                segment = endpoint.isolation_segment
                return not segment or segment in self._settings.isolation_segments

    # ---- what is in force: the entries that are open, else the table

    def _exists(self, uri: RouteUri) -> bool:
        entry = self._open.get(uri.key)
        if entry is None:
            return self._table.exact(uri.host, uri.path) is not None
        return bool(entry.members) or uri.key in self._emptied

    def _members(self, uri: RouteUri) -> Iterable[Endpoint]:
        """The endpoints of one route; none where there is no such route."""
        entry = self._open.get(uri.key)
        if entry is not None:
            return tuple(entry.members.values())
        route = self._table.exact(uri.host, uri.path)
        return () if route is None else route.pool.endpoints

    def _at(self, uri: RouteUri, address: str) -> Endpoint | None:
        """The endpoint of a route at an address."""
        entry = self._open.get(uri.key)
        if entry is not None:
            return entry.members.get(address)
        return next((endpoint for endpoint in self._members(uri) if endpoint.address == address), None)

    def _endpoints(self, part: int, of: int) -> Iterator[Endpoint]:
        """Every endpoint of a part; what changed since the last table belongs to all."""
        for route in self._table.part(part, of):
            if route.key not in self._open:
                yield from route.pool.endpoints
        for entry in self._open.values():
            yield from entry.members.values()

    def _plain_routes(self, part: int, of: int) -> Iterator[RouteUri]:
        """The routes of a part that have a plain endpoint; those that have none any more are forgotten."""
        for keys in self._plain[part::of]:
            for key in tuple(keys):
                uri = uri_of(key)
                if all(endpoint.tls for endpoint in self._members(uri)):
                    keys.discard(key)
                else:
                    yield uri

    def _plain_part(self, key: str) -> set[str]:
        return self._plain[hash(key) % PARTS]

    def _uris(self, host: Host) -> list[RouteUri]:
        """The routes of one host, paths below it too."""
        published = {route.key: uri_of(route.key) for route in self._table.of_host(host)}
        changed = {key: entry.uri for key, entry in self._open.items() if entry.uri.host == host}
        return [uri for uri in (published | changed).values() if self._exists(uri)]

    def _entry(self, uri: RouteUri) -> Entry:
        """The route, open for changes; a new one where there is none."""
        entry = self._open.get(uri.key)
        if entry is None:
            route = self._table.exact(uri.host, uri.path)
            if route is not None:
                self._open[uri.key] = entry = Entry.opened(route)
        if entry is None or not (entry.members or uri.key in self._emptied):
            self._open[uri.key] = entry = Entry(uri, self._balancing, Turn(self._first_turn()))
        return entry

    # ---- changes

    def _put(self, uri: RouteUri, endpoint: Endpoint, now: float) -> Event:
        """Add, replace or refresh one endpoint of one route."""
        member = self._at(uri, endpoint.address)
        if member is not None:
            self._forget(member)
            if member == endpoint:
                member.pulse.expires = now + endpoint.ttl
                return Event(What.REFRESHED, uri.key, member)
        entry = self._entry(uri)
        same = entry.like(endpoint.options)
        fresh = _own(endpoint, None if member is None or _is_successor(member, endpoint) else member.pulse, same)
        fresh.pulse.expires = now + endpoint.ttl
        entry.members[fresh.address] = fresh
        entry.adopt(fresh)
        self._emptied.pop(uri.key, None)
        if not fresh.tls:
            self._plain_part(uri.key).add(entry.uri.key)
        return Event(What.REGISTERED if member is None else What.UPDATED, uri.key, fresh, same is None)

    def _remember(self, data: bytes, endpoints: tuple[Endpoint, ...]) -> None:
        """From now on these bytes, which said all of these, are a heartbeat."""
        digest = _digest(data)
        for endpoint in endpoints:
            endpoint.pulse.beat = digest
        self._beats[digest] = endpoints if len(endpoints) > 1 else endpoints[0]

    def _forget(self, endpoint: Endpoint) -> None:
        """The bytes that made this endpoint must be read again when they come again."""
        if endpoint.pulse.beat is not None:
            self._beats.pop(endpoint.pulse.beat, None)
            endpoint.pulse.beat = None

    def _member(self, uri: RouteUri, endpoint: Endpoint) -> Endpoint | None:
        """The registered endpoint meant: same address, and not known to be another instance."""
        member = self._at(uri, endpoint.address)
        if member is None:
            return None
        ids = {member.instance_id, endpoint.instance_id} - {""}
        return member if len(ids) < 2 else None

    def _take(self, found: Collection[tuple[RouteUri, Endpoint]], what: What, now: float) -> Change:
        """Take endpoints out of their routes, and emptied routes away (or keep them a while, for 503)."""
        events, gone = [], []
        if self._keeps_empty:
            for uri in {uri for uri, _ in found}:
                self._entry(uri).settle()
        for uri, endpoint in found:
            entry = self._entry(uri)
            self._forget(entry.members.pop(endpoint.address))
            events.append(Event(what, uri.key, endpoint))
            if not entry.members and not self._keep_empty(uri.key, now):
                gone.append(uri.key)
                self._plain_part(uri.key).discard(uri.key)
        return Change(bool(events), tuple(events), gone_routes=tuple(gone))

    @property
    def _keeps_empty(self) -> bool:
        return self._settings.empty_pool_503 and self._settings.empty_pool_timeout > 0

    def _keep_empty(self, key: str, now: float) -> bool:
        if not self._keeps_empty:
            return False
        self._emptied[key] = now + self._settings.empty_pool_timeout
        return True

    def _drop(self, uri: RouteUri) -> None:
        """An open entry without members is a route that the next table does not have."""
        self._entry(uri).members.clear()
        self._emptied.pop(uri.key, None)


def _own(endpoint: Endpoint, pulse: Pulse | None, options: RouteOptions | None) -> Endpoint:
    """The endpoint with the liveness that it has at one route; a pulse that was never set is a new one, and the message's own."""
    options = endpoint.options if options is None else options
    if pulse is None and endpoint.pulse.expires == 0.0 and options is endpoint.options:
        return endpoint
    return endpoint.at_a_route(Pulse() if pulse is None else pulse, options)


def _digest(data: bytes) -> bytes:
    """120 bits, so that nobody can make another's message collide; keeping the bytes themselves would cost 1 KiB a route, and
    one more byte of digest 16.
    """
    return blake2b(data, digest_size=15).digest()


def _is_successor(before: Endpoint, after: Endpoint) -> bool:
    """Whether another instance took over the address: its health is its own."""
    return (before.instance_id, before.tls, before.san) != (after.instance_id, after.tls, after.san)
