"""One route while it changes: opened from what the last table has, closed into what the next one gets.

Promises: nothing is kept of a route beside the frozen value that its table holds: an entry lives from a route's first change
until the next publication. Refuses to know: which changes come (ledger.py), tables, clocks.

Source: decision 4 of docs/architecture.md: a route's policy is the conjunction of what its live endpoints demand, its limits
are the lowest of theirs; its balancing and its route service are the last registration's.
"""

from collections.abc import Iterable

from authz.policy import NO_POLICY, PoolPolicy, RoutePolicy, conjunction
from registry.bucket import Bucket
from registry.endpoint import Balancing, Endpoint, Pool, Route, Turn
from registry.message import RouteUri
from registry.options import RouteOptions
from registry.route_limits import ENDLESS, NO_WISHES, lowest


class Entry:
    """`members` by address, in the order of their first registration; whoever holds the entry changes them."""

    __slots__ = ("_before", "_bucket", "_policy", "balancing", "members", "route_service_url", "turn", "uri")

    def __init__(self, uri: RouteUri, balancing: Balancing, turn: Turn) -> None:
        self.uri = uri
        self.members: dict[str, Endpoint] = {}
        self.balancing = balancing
        self.route_service_url = ""
        self.turn = turn
        self._bucket: Bucket | None = None
        self._policy: PoolPolicy = NO_POLICY
        self._before: tuple[Endpoint, ...] = ()  # whose demands `_policy` holds

    @classmethod
    def opened(cls, route: Route) -> "Entry":
        """The route as the table has it; its turn, bucket and policy go on."""
        pool = route.pool
        entry = cls(RouteUri(route.key, route.host, route.path, pool.context_path), pool.balancing, pool.turn)
        entry.members = {endpoint.address: endpoint for endpoint in pool.endpoints}
        entry.route_service_url = pool.route_service_url
        entry._bucket, entry._policy, entry._before = pool.bucket, pool.policy, pool.endpoints
        return entry

    def like(self, options: RouteOptions) -> RouteOptions | None:
        """The equal options of an endpoint already here: one value for all, and nothing new to say."""
        members = self.members.values()
        if any(member.options is options for member in members):
            return options
        return next((member.options for member in members if member.options == options), None)

    def adopt(self, endpoint: Endpoint) -> None:
        """Last wins: what this registration says of the whole route."""
        self.route_service_url = endpoint.route_service_url
        options = endpoint.options
        if options.algorithm is not None:
            otherwise = self.balancing.otherwise
            self.balancing = Balancing(options.algorithm, options.hash_header, options.hash_balance, otherwise)

    def settle(self) -> None:
        """What is demanded now goes on being demanded if nothing is left of the route but its name, published before or not."""
        endpoints = tuple(self.members.values())
        self._policy, self._before = self._conjunction(endpoints), endpoints

    def route(self) -> Route:
        """The frozen form. The policy stays one object while the demands stay; an emptied route keeps it."""
        endpoints = tuple(self.members.values())
        wishes = [wish for endpoint in endpoints if (wish := endpoint.options.wishes) is not NO_WISHES]
        limits = lowest(wish.limits for wish in wishes) if wishes else None
        cookie = min((wish.session_cookie for wish in wishes if wish.session_cookie), default="")
        bucket = None if limits is None or limits.rate == ENDLESS else self._bucket or Bucket()
        pool = Pool(
            endpoints, self._conjunction(endpoints), self.balancing, self.route_service_url, self.uri.context_path,
            limits=limits, session_cookie=cookie, turn=self.turn, bucket=bucket,
        )  # fmt: skip
        return Route(self.uri.key, self.uri.host, self.uri.path, pool)

    def _conjunction(self, endpoints: Iterable[Endpoint]) -> PoolPolicy:
        """Equal demands are one object as a rule, and cheap to tell by it."""
        now, before = _demands(endpoints), _demands(self._before)
        if not now or now.keys() == before.keys() or set(now.values()) == set(before.values()):
            return self._policy
        return conjunction(now.values())


def _demands(endpoints: Iterable[Endpoint]) -> dict[int, RoutePolicy]:
    return {id(endpoint.options.policy): endpoint.options.policy for endpoint in endpoints}
