"""What is registered: the only mutable truth about routing, and the judge of whether routing changed.

Promises: a heartbeat (the very bytes its endpoint applied last for every one of its uris) moves deadlines and
nothing else; what an unregistration does not name exactly stays; a table is published only when a lookup
could tell it from the one before. Every method is synchronous and leaves a whole state. A host that the operator holds
is his alone: no message adds to it, changes it or takes from it. Refuses to know: NATS, logs and metrics (it returns
what happened), clocks (`now` is monotonic seconds), domains.

Source: GoRouter's registry: register, unregister, staleness, sharding, empty pools. A route's policy is the
conjunction of what its live endpoints demand, its limits are the lowest of theirs; its balancing and route service are the
last registration's.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import blake2b
from typing import Literal, NamedTuple

from authz.policy import NO_POLICY, PoolPolicy, RoutePolicy, conjunction
from registry.bucket import Bucket
from registry.endpoint import Balancing, Endpoint, Pool, Pulse, Route, Turn
from registry.hostname import Host
from registry.message import RegistryMessage, RouteUri
from registry.options import RouteOptions
from registry.route_limits import ENDLESS, lowest
from registry.table import RouteTable


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


class _Beat:
    """One message, applied last for all its uris, and the pulses that its repetition moves."""

    __slots__ = ("digest", "pulses", "ttl")

    def __init__(self, digest: bytes, ttl: float, pulses: tuple[Pulse, ...]) -> None:
        self.digest = digest
        self.ttl = ttl
        self.pulses = pulses


class _Member:
    """One endpoint of one route, with the message that may refresh it unread."""

    __slots__ = ("beat", "endpoint")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.beat: _Beat | None = None


class _Entry:
    """One route as it is now; the frozen Pool is built from it when a table is published."""

    __slots__ = (
        "balancing",
        "bucket",
        "distinct",
        "empty_until",
        "members",
        "policy",
        "route_service_url",
        "turn",
        "uri",
    )

    def __init__(self, uri: RouteUri, balancing: Balancing, turn: Turn) -> None:
        self.uri = uri
        self.members: dict[str, _Member] = {}
        self.balancing = balancing
        self.route_service_url = ""
        self.turn = turn
        self.bucket: Bucket | None = None
        self.distinct: tuple[RoutePolicy, ...] = ()
        self.policy: PoolPolicy = NO_POLICY
        self.empty_until = 0.0

    def like(self, options: RouteOptions) -> RouteOptions | None:
        """The equal options of an endpoint already here: one value for all, and nothing new to say."""
        return next((m.endpoint.options for m in self.members.values() if m.endpoint.options == options), None)

    def adopt(self, endpoint: Endpoint) -> None:
        """Last wins: what this registration says of the whole route."""
        self.route_service_url = endpoint.route_service_url
        options = endpoint.options
        if options.algorithm is not None:
            otherwise = self.balancing.otherwise
            self.balancing = Balancing(options.algorithm, options.hash_header, options.hash_balance, otherwise)

    def route(self) -> Route:
        """The frozen form. The policy stays one object while the demands stay; an emptied route keeps it."""
        endpoints = tuple(member.endpoint for member in self.members.values())
        demands = {id(e.options.policy): e.options.policy for e in endpoints}
        distinct = set(demands.values())
        if distinct and distinct != set(self.distinct):
            self.distinct, self.policy = tuple(distinct), conjunction(distinct)
        uri = self.uri
        wishes = [endpoint.options.wishes for endpoint in endpoints]
        limits = lowest(wish.limits for wish in wishes)
        cookie = min((wish.session_cookie for wish in wishes if wish.session_cookie), default="")
        if limits is None or limits.rate == ENDLESS:
            self.bucket = None
        elif self.bucket is None:
            self.bucket = Bucket()
        pool = Pool(
            endpoints, self.policy, self.balancing, self.route_service_url, uri.context_path,
            limits=limits, session_cookie=cookie, turn=self.turn, bucket=self.bucket,
        )  # fmt: skip
        return Route(uri.key, uri.host, uri.path, pool)


class Ledger:
    """All registrations of one router. `first_turn` gives a new route's round-robin its (random) start."""

    def __init__(self, settings: LedgerSettings, *, first_turn: Callable[[], int] = int) -> None:
        self._settings = settings
        self._first_turn = first_turn
        self._entries: dict[str, _Entry] = {}
        self._balancing = Balancing(settings.algorithm, otherwise=settings.algorithm)
        self._beats: dict[bytes, _Beat] = {}  # by the digest of the message
        self._held: frozenset[Host] = frozenset()
        self._emptied: set[str] = set()
        self._touched: dict[str, RouteUri] = {}
        self._table = RouteTable()

    @property
    def table(self) -> RouteTable:
        """The table published last."""
        return self._table

    def heartbeat(self, data: bytes, now: float) -> bool:
        """Whether these bytes were applied and still are in force; if so, their endpoints live on."""
        beat = self._beats.get(_digest(data))
        if beat is None:
            return False
        expires = now + beat.ttl
        for pulse in beat.pulses:
            pulse.expires = expires
        return True

    def register(self, message: RegistryMessage, data: bytes, now: float) -> Change:
        """Put the endpoint into each of its routes; `data` are the bytes that said so."""
        if not self._is_ours(message.endpoint):
            return Change(ignored=True)
        free = [uri for uri in message.uris if uri.host not in self._held]
        known = {uri.key for uri in free if uri.key in self._entries}
        events = tuple(self._put(uri, message.endpoint, now) for uri in free)
        if len(free) == len(message.uris):  # else it must be read again when the operator lets go of the host
            self._remember(message, data)
        new = tuple(uri.key for uri in free if uri.key not in known)
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
            member = self._member(uri.key, message.endpoint)
            if member is None:
                events.append(Event(What.UNKNOWN, uri.key, message.endpoint))
            else:
                found.append((uri.key, member.endpoint))
        taken = self._take(found, What.UNREGISTERED, now)
        return replace(taken, events=(*taken.events, *events))

    def prune(self, now: float) -> Change:
        """Drop plain endpoints silent for their TTL (TLS ones stay), then routes empty for too long."""
        stale = [
            (key, member.endpoint)
            for key, entry in self._entries.items()
            for member in entry.members.values()
            if not member.endpoint.tls and member.endpoint.pulse.expires <= now and entry.uri.host not in self._held
        ]
        taken = self._take(stale, What.PRUNED, now)
        over = [key for key in self._emptied if self._entries[key].empty_until <= now]
        for key in over:
            self._drop(key)
        return replace(taken, routing=taken.routing or bool(over), gone_routes=(*taken.gone_routes, *over))

    def remove_endpoint(self, key: str, endpoint: Endpoint, now: float) -> Change:
        """Drop from one route a TLS endpoint that failed its identity or dial; never its successor there."""
        member = self._member(key, endpoint)
        if member is None or not endpoint.tls or _is_successor(endpoint, member.endpoint):
            return Change()
        if self._entries[key].uri.host in self._held:  # nobody would register it again
            return Change()
        return self._take([(key, member.endpoint)], What.REMOVED, now)

    def hold(self, static: Mapping[Host, tuple[Endpoint, ...]], now: float) -> Change:
        """From now on the operator's hosts are exactly these, each with these endpoints and no path; what was registered for
        one of them, paths below it too, goes. Hosts he lets go of are free for the next registration.
        """
        before, self._held = self._held, frozenset(static)
        changed = before ^ self._held
        gone = [key for key, entry in self._entries.items() if entry.uri.host in changed]
        for key in gone:
            for member in self._entries[key].members.values():
                self._forget(member)
            self._drop(key)
        left = [self._leave_only(host, static[host]) for host in before & self._held]
        new = tuple(host for host in static if host not in self._entries)
        events = [self._put(RouteUri(host, host, "", ""), endpoint, now) for host in static for endpoint in static[host]]
        routing = bool(gone) or any(left) or any(event.what is not What.REFRESHED for event in events)
        return Change(routing, tuple(events), new, tuple(key for key in gone if key not in static))

    def refresh_all(self, now: float) -> None:
        """Every endpoint counts as heard of now: the way back from a time in which nothing could be heard."""
        for entry in self._entries.values():
            for member in entry.members.values():
                member.endpoint.pulse.expires = now + member.endpoint.ttl

    def publish(self) -> RouteTable:
        """The table of this moment; the same object as before when routing did not change."""
        if self._touched:
            self._table = self._table.changed(
                {
                    (uri.host, uri.path): self._entries[key].route() if key in self._entries else None
                    for key, uri in self._touched.items()
                }
            )
            self._touched.clear()
        return self._table

    def _leave_only(self, host: Host, endpoints: Iterable[Endpoint]) -> bool:
        """Take every other endpoint out of a held route; whether there was one."""
        entry = self._entries[host]
        others = entry.members.keys() - {endpoint.address for endpoint in endpoints}
        for address in others:
            del entry.members[address]
            self._touched[host] = entry.uri
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

    def _put(self, uri: RouteUri, endpoint: Endpoint, now: float) -> Event:
        """Add, replace or refresh one endpoint of one route."""
        entry = self._entries.get(uri.key)
        if entry is None:
            turn = Turn(self._first_turn())
            entry = self._entries[uri.key] = _Entry(uri, self._balancing, turn)
        member = entry.members.get(endpoint.address)
        if member is not None:
            self._forget(member)
            if member.endpoint == endpoint:
                member.endpoint.pulse.expires = now + endpoint.ttl
                return Event(What.REFRESHED, uri.key, member.endpoint)
        same = entry.like(endpoint.options)
        pulse = Pulse() if member is None or _is_successor(member.endpoint, endpoint) else member.endpoint.pulse
        pulse.expires = now + endpoint.ttl
        fresh = replace(endpoint, pulse=pulse, options=endpoint.options if same is None else same)
        entry.members[fresh.address] = _Member(fresh)
        entry.adopt(fresh)
        self._emptied.discard(uri.key)
        self._touched[uri.key] = entry.uri
        return Event(What.REGISTERED if member is None else What.UPDATED, uri.key, fresh, same is None)

    def _remember(self, message: RegistryMessage, data: bytes) -> None:
        """From now on these bytes are a heartbeat."""
        address = message.endpoint.address
        members = [self._entries[uri.key].members[address] for uri in message.uris]
        digest = _digest(data)
        beat = _Beat(digest, message.endpoint.ttl, tuple(member.endpoint.pulse for member in members))
        for member in members:
            member.beat = beat
        self._beats[digest] = beat

    def _forget(self, member: _Member) -> None:
        """The bytes that made this member must be read again when they come again."""
        if member.beat is not None and self._beats.get(member.beat.digest) is member.beat:
            del self._beats[member.beat.digest]
        member.beat = None

    def _member(self, key: str, endpoint: Endpoint) -> _Member | None:
        """The registered endpoint meant: same address, and not known to be another instance."""
        entry = self._entries.get(key)
        member = entry.members.get(endpoint.address) if entry is not None else None
        if member is None:
            return None
        ids = {member.endpoint.instance_id, endpoint.instance_id} - {""}
        return member if len(ids) < 2 else None

    def _take(self, found: Iterable[tuple[str, Endpoint]], what: What, now: float) -> Change:
        """Take endpoints out of their routes, and emptied routes away (or keep them a while, for 503)."""
        events = tuple(Event(what, key, endpoint) for key, endpoint in found)
        gone = []
        for _, key, endpoint, _ in events:
            entry = self._entries[key]
            self._forget(entry.members.pop(endpoint.address))
            self._touched[key] = entry.uri
            if not entry.members and not self._keep_empty(key, entry, now):
                gone.append(key)
                self._drop(key)
        return Change(bool(events), events, gone_routes=tuple(gone))

    def _keep_empty(self, key: str, entry: _Entry, now: float) -> bool:
        if not self._settings.empty_pool_503 or self._settings.empty_pool_timeout <= 0:
            return False
        entry.empty_until = now + self._settings.empty_pool_timeout
        self._emptied.add(key)
        return True

    def _drop(self, key: str) -> None:
        self._touched[key] = self._entries.pop(key).uri
        self._emptied.discard(key)


def _digest(data: bytes) -> bytes:
    """128 bits that nobody can make collide; keeping the bytes themselves would cost 1 KiB a route."""
    return blake2b(data, digest_size=16).digest()


def _is_successor(before: Endpoint, after: Endpoint) -> bool:
    """Whether another instance took over the address: its health is its own."""
    return (before.instance_id, before.tls, before.san) != (after.instance_id, after.tls, after.san)
