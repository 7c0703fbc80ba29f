"""What a route leads to: frozen values that a routing table can share between its generations.

Promises: an Endpoint, Pool or Route never changes once built, so that a request keeps what it looked up; two
endpoints are equal when a registration said the same of them. Three cells are mutable on purpose and left out
of equality, because they are liveness and not routing: Pulse (when last heard, how busy, marked until when),
Turn (whose turn it is, and the hash table that was made last) and Bucket (how many requests the route's rate
still allows).
Refuses to know: where registrations come from, how an endpoint is chosen, clocks (every time is given, in
seconds).

Source: GoRouter's registry message and endpoint pool.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Final, Literal, NamedTuple

from authz.policy import PoolPolicy
from registry.bucket import Bucket
from registry.hostname import Host
from registry.maglev import Maglev
from registry.options import NO_OPTIONS, RouteOptions
from registry.route_limits import RouteLimits

Protocol = Literal["http1", "http2"]
SendProxy = Literal["", "v1", "v2", "v2-ssl-cn"]


class Pulse:
    """The liveness of one endpoint of one route, shared by all generations of the table that hold it."""

    __slots__ = ("beat", "expires", "failed_until", "in_flight", "row", "unhealthy")

    def __init__(self, expires: float = 0.0) -> None:
        self.expires = expires  # monotonic seconds; past it the endpoint has been silent for its TTL
        self.failed_until = 0.0  # monotonic seconds; not chosen before, as long as another can be
        self.in_flight = 0  # requests sent whose response head is not in yet
        self.unhealthy = False  # the operator's health check took it out; then failed_until is for ever
        self.row = 0  # results in a row that speak against what `unhealthy` says
        self.beat: bytes | None = None  # the ledger's: the digest of the message whose repetition moves `expires`

    def enter(self, most: int) -> bool:
        """Take the place of one more request in flight, unless `most` are taken; 0: any number."""
        if 0 < most <= self.in_flight:
            return False
        self.in_flight += 1
        return True

    def leave(self) -> None:
        """Give a place back."""
        self.in_flight -= 1

    def checked(self, *, passed: bool, needed: int) -> bool:
        """Take the result of a health check; True where it is the last `needed` in a row to change what the endpoint is."""
        if passed is not self.unhealthy:
            self.row = 0
            return False
        self.row += 1
        if self.row < needed:
            return False
        if passed:
            self.lift()
        else:
            self.row, self.unhealthy, self.failed_until = 0, True, math.inf
        return True

    def lift(self) -> None:
        """Let an unhealthy endpoint back into the choice."""
        self.row, self.unhealthy, self.failed_until = 0, False, 0.0


class Turn:
    """Where the choice among a route's endpoints stands, shared by all generations of its pool."""

    __slots__ = ("_hashed", "next")

    def __init__(self, start: int = 0) -> None:
        self.next = start  # round-robin's cursor; the state of the draws among the least busy
        self._hashed: tuple[tuple[Endpoint, ...], Maglev] | None = None

    def table(self, endpoints: "tuple[Endpoint, ...]") -> Maglev:
        """The hash table of these endpoints: made when first asked for, and again only when their names are others."""
        known = self._hashed
        if known is not None and known[0] is endpoints:
            return known[1]
        names = {endpoint.name for endpoint in endpoints}
        table = known[1] if known is not None and names == set(known[1].names) else Maglev(names)
        self._hashed = endpoints, table
        return table


class Tags(Mapping[str, str]):
    """An endpoint's tags, frozen; where many share one tuple of names, half the size of a dict."""

    __slots__ = ("_names", "_values")

    def __init__(self, names: tuple[str, ...] = (), values: tuple[str, ...] = ()) -> None:
        self._names = names
        self._values = values

    def __getitem__(self, name: str) -> str:
        if name in self._names:
            return self._values[self._names.index(name)]
        raise KeyError(name)

    def text(self, name: str) -> str:
        """The value of a tag, empty where there is none."""
        names = self._names
        return self._values[names.index(name)] if name in names else ""

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def columns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names, and their values in the same order."""
        return self._names, self._values

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Tags) and self._names == other._names:
            return self._values == other._values
        return Mapping.__eq__(self, other)

    def __hash__(self) -> int:
        return hash(frozenset(zip(self._names, self._values, strict=True)))

    def __repr__(self) -> str:
        return f"Tags({self._names!r}, {self._values!r})"


NO_TAGS = Tags()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One back end as it registered. `ttl` in seconds; `updated_at_ns` since the epoch, 0 = not said."""

    host: str  # a name or an address without brackets, ready to be dialled
    port: int
    tls: bool = False
    app: str = ""
    instance_id: str = ""
    instance_index: str = ""
    san: str = ""
    protocol: Protocol = "http1"
    tags: Tags = NO_TAGS
    availability_zone: str = ""
    isolation_segment: str = ""
    route_service_url: str = ""
    ttl: float = 120.0
    updated_at_ns: int = 0
    options: RouteOptions = NO_OPTIONS
    send_proxy: SendProxy = (
        ""  # the PROXY header that each of its connections begins with; the operator's word, no registration's
    )
    pulse: Pulse = field(default_factory=Pulse, compare=False, repr=False)
    address: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        object.__setattr__(self, "address", f"{shown}:{self.port}")

    def at_a_route(self, pulse: Pulse, options: RouteOptions) -> "Endpoint":
        """The same with a liveness of its own; a third of what `dataclasses.replace` takes."""
        made = object.__new__(Endpoint)
        for name, value in zip(_COPIED, _copied(self), strict=True):
            object.__setattr__(made, name, value)
        object.__setattr__(made, "pulse", pulse)
        object.__setattr__(made, "options", options)
        return made

    @property
    def name(self) -> str:
        """What a hash knows it by, on every router alike: the instance's id, else the address."""
        return self.instance_id or self.address


_COPIED: Final = tuple(each.name for each in fields(Endpoint) if each.name not in ("pulse", "options"))
_copied: Final = attrgetter(*_COPIED)


class Balancing(NamedTuple):
    """How a route spreads its requests; GoRouter's names. An empty hash_header and 0.0 mean: not set. `otherwise` is the
    operator's algorithm, for requests without the header of a hash.
    """

    algorithm: str = "round-robin"
    hash_header: str = ""
    hash_balance: float = 0.0
    otherwise: str = "round-robin"


DEFAULT_BALANCING = Balancing()


@dataclass(frozen=True, slots=True)
class Pool:
    """The endpoints of one route with what holds for all; empty while an emptied route is kept for 503."""

    endpoints: tuple[Endpoint, ...]
    policy: PoolPolicy  # the conjunction of what the endpoints demand
    balancing: Balancing = DEFAULT_BALANCING  # the last registration's
    route_service_url: str = ""  # the last registration's
    context_path: str = ""  # the route's path in the case of its first registration
    limits: RouteLimits | None = None  # the lowest that the endpoints ask for; None where none asks for any
    session_cookie: str = ""  # of the names that the endpoints ask for the first by alphabet
    turn: Turn = field(default_factory=Turn, compare=False, repr=False)
    bucket: Bucket | None = field(default=None, compare=False, repr=False)  # where `limits` has a rate


@dataclass(frozen=True, slots=True)
class Route:
    """A pool under its key: canonical host (or `*.suffix`), then the lower-case path."""

    key: str
    host: Host
    path: str  # "" or "/...", lower-case, no trailing slash
    pool: Pool
