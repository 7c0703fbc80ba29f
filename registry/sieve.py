"""What is left of a route once the operator's deny lists have taken their endpoints out.

Promises: the same Route where none is out, so that lists which do not concern a route cost it one look; where all are, the
reason of the first. The route's policy stays the conjunction of all its endpoints, so taking one out never admits anybody. What
was sifted is remembered, in bounded memory, for as long as the lists stand. Refuses to know callers and hosts
(authz/deny.py), and where an endpoint's name leads: whoever dials it asks again.
"""

from dataclasses import replace
from typing import Final, NamedTuple

from authz.decision import Check
from authz.deny import DenyLists, bars
from registry.endpoint import Endpoint, Route

MAX_ROUTES: Final = 4096
"""Routes remembered at a time; each keeps a route's older generation alive until then at most."""


class Sifted(NamedTuple):
    """`route` has the endpoints that are left. `barred`: why its first one is out, where it had some and all are."""

    route: Route
    barred: Check | None


class Sieve:
    """The lists of one configuration, over every route it is asked about."""

    __slots__ = ("_known", "lists")

    def __init__(self, lists: DenyLists) -> None:
        self.lists = lists
        self._known: dict[int, tuple[Route, Sifted]] = {}

    def sift(self, route: Route) -> Sifted:
        """The route without the endpoints that are out."""
        known = self._known.get(id(route))
        if known is not None and known[0] is route:
            return known[1]
        if len(self._known) >= MAX_ROUTES:
            self._known.clear()
        sifted = sift(self.lists, route)
        self._known[id(route)] = route, sifted
        return sifted


def sift(lists: DenyLists, route: Route) -> Sifted:
    """As Sieve.sift, without remembering."""
    hits = [barred(lists, endpoint) for endpoint in route.pool.endpoints]
    if not any(hits):
        return Sifted(route, None)
    left = tuple(endpoint for endpoint, hit in zip(route.pool.endpoints, hits, strict=True) if hit is None)
    return Sifted(replace(route, pool=replace(route.pool, endpoints=left)), None if left else hits[0])


def barred(lists: DenyLists, endpoint: Endpoint) -> Check | None:
    """Whether an endpoint is out: by its app, by its tags app_id, space_id and organization_id, or by its address."""
    tags = endpoint.tags
    tagged = tags.get("app_id")
    # A registration may name its app in either place, or another one in each.
    app = tagged if tagged is not None and tagged in lists.apps else endpoint.app
    return bars(lists, app, tags.get("space_id"), tags.get("organization_id"), endpoint.host)
