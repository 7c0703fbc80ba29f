"""The two snapshot references of the data plane, and the only places where they change.

Promise: `snapshot` (the configuration) and `table` (the routes) are each replaced by one assignment and never edited, so an
exchange that took one keeps a consistent view. Every exchange takes the current ones: policy is that of the day, whatever
the handshake's generation was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from authz.deny import DenyLists
from authz.domain import DomainPolicy, DomainTable, XfccFormat, XfccMode
from registry.endpoint import Pool, Route
from registry.names import Names
from registry.sieve import Sieve, barred
from registry.table import RouteTable
from router.backend.dial import Dialer
from router.backend.http1 import Http1Upstream
from router.backend.http2_pool import Http2Pool
from router.backend.pool import IdlePool
from router.config.model import Config
from router.l7.error_page import ErrorPage
from router.l7.hygiene import DownstreamFacts, HeaderPolicy, downstream_facts
from router.l7.policies import L7Policies
from router.l7.route_services import RouteServices
from router.l7.sticky import StickyPolicy, with_session
from router.limits import Limits
from router.tls.contexts import ClientPolicy, Contexts
from router.wire.http1 import HeadLimits

MAX_KNOWN_ADDRESSES: Final = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One configuration generation, compiled: everything an exchange asks the operator's will for."""

    generation: int
    config: Config
    limits: Limits
    request_limits: HeadLimits
    response_limits: HeadLimits
    domains: DomainTable
    deny: DenyLists
    sieve: Sieve
    l7_policies: L7Policies | None  # None where there is none
    contexts: Contexts
    headers: HeaderPolicy
    xfcc_mode: XfccMode
    xfcc_format: XfccFormat
    dialer: Dialer
    idle: IdlePool
    http2: Http2Pool | None  # None: backends are spoken to in HTTP/1.1 alone
    healthcheck_user_agent: bytes
    zone: str  # where a first attempt goes by preference; empty: anywhere
    names: Names
    sticky: StickyPolicy | None
    error_page: ErrorPage | None  # None: errors are plain text
    route_services: RouteServices | None  # None: none is asked
    known: dict[tuple[str, bool], DownstreamFacts] = field(default_factory=dict)  # what `facts_of` remembers

    def retire(self, following: Snapshot | None = None) -> None:
        """End the idle connections that the configuration which follows does not take over; without one, all. Shared ones end
        with their last stream.
        """
        if following is None or following.idle is not self.idle:
            self.idle.close()
        if self.http2 is not None and (following is None or following.http2 is not self.http2):
            self.http2.close()
        ours, theirs = self.route_services, following.route_services if following is not None else None
        if ours is not None and (theirs is None or theirs.idle is not ours.idle):
            ours.idle.close()

    def client_policy(self, pattern: str | None) -> ClientPolicy | None:
        """Today's client-certificate policy of the domain with this pattern (None: of open hosts); None when it is gone."""
        return self.contexts.policy_of(pattern)

    def facts_of(self, address: str, *, tls: bool) -> DownstreamFacts:
        """What is known of a client by its address alone; one address opens many connections, and nobody changes the facts."""
        facts = self.known.get((address, tls))
        if facts is None:
            if len(self.known) >= MAX_KNOWN_ADDRESSES:
                self.known.clear()
            facts = self.known[address, tls] = downstream_facts(address, self.headers, tls=tls)
        return facts

    def admitted(self, route: Route) -> Route:
        """The route with the endpoints that no deny list names; itself where none does."""
        return route if self.deny.empty else self.sieve.sift(route).route

    def sticky_for(self, pool: Pool) -> StickyPolicy | None:
        """What keeps sessions of a route at one endpoint: the operator's word, and the cookie that the route names."""
        if not pool.session_cookie:
            return self.sticky
        return with_session(self.sticky, pool.session_cookie, secure=self.config.secure_cookies)

    def bars(self, upstream: Http1Upstream) -> bool:
        """Is an idle backend connection one that a deny list forbids, by its endpoint or by who was really reached?"""
        return barred(self.deny, upstream.endpoint) is not None or not upstream.passes(self.deny)

    def xfcc_for(self, domain: DomainPolicy | None) -> tuple[XfccMode, XfccFormat]:
        if domain is None:
            return self.xfcc_mode, self.xfcc_format
        return domain.xfcc_mode, domain.xfcc_format


class Live:
    """What is in force now."""

    __slots__ = ("snapshot", "table")

    def __init__(self, snapshot: Snapshot, table: RouteTable) -> None:
        self.snapshot = snapshot
        self.table = table

    def adopt(self, snapshot: Snapshot) -> None:
        """From now on this; of the old one's connections to backends those go that it does not take over, or bars."""
        old, self.snapshot = self.snapshot, snapshot
        old.retire(snapshot)
        if snapshot.idle is old.idle and not snapshot.deny.empty:
            snapshot.idle.sweep(snapshot.bars)
        if snapshot.http2 is not None and not snapshot.deny.empty:
            snapshot.http2.sweep(snapshot.bars)
