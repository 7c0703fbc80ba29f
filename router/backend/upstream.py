"""A backend connection and its endpoint: what the pool keeps and the exchange speaks over."""

from __future__ import annotations

from typing import Protocol

from authz.decision import Check
from authz.deny import DenyLists, denied_address
from registry.endpoint import Endpoint
from router.net.channel import Channel
from router.net.deadline import Timed
from router.net.stream import Stream


class Keeper(Protocol):
    """Where an idle connection waits."""

    def evict(self, upstream: Upstream) -> None: ...


class Upstream(Channel):
    """A connection to one endpoint. Times in seconds, as its making took; `local_address` is our end, `host:port`."""

    __slots__ = ("dial_time", "dns_time", "endpoint", "local_address", "passed", "rest", "reused", "tls_time")

    def __init__(self, stream: Stream, endpoint: Endpoint) -> None:
        super().__init__(stream)
        self.endpoint = endpoint
        self.rest = Rest(self)
        self.reused = False
        self.dns_time = 0.0
        self.dial_time = 0.0
        self.tls_time = 0.0
        self.local_address = ""
        self.passed: DenyLists | None = None  # the lists that its peer was last found not to be on

    def denied(self, lists: DenyLists) -> Check | None:
        """Whether whoever was really reached is denied. Raises OSError where the system does not know who it is any more."""
        if self.passed is lists:
            return None
        hit = denied_address(lists, self.stream.sock.getpeername()[0]) if lists.networks else None
        if hit is None:
            self.passed = lists
        return hit

    def passes(self, lists: DenyLists) -> bool:
        """Is the peer on none of these lists? One that nobody knows any more has ended: it is of no use either."""
        try:
            return self.denied(lists) is None
        except OSError:
            return False

    def close(self) -> None:
        """Close now, wherever the connection is."""
        self.stream.wheel.forget(self.rest)
        self.stream.close()


class Rest(Timed):
    """A connection's time without a request: it ends at the idle deadline, or as soon as the connection becomes readable."""

    __slots__ = ("keeper", "upstream")

    def __init__(self, upstream: Upstream) -> None:
        super().__init__()
        self.upstream = upstream
        self.keeper: Keeper | None = None

    def expire(self) -> None:
        if self.keeper is not None:
            self.keeper.evict(self.upstream)
