"""Idle backend connections, kept for the next request to the same endpoint.

Promise: `take` returns a connection that was idle, said nothing out of turn and had not ended when last looked at, newest
first, or None; `give` keeps one if there is room. A pooled connection that becomes readable is closed at once: an idle
backend has nothing to say but goodbye, and anything else would be taken for the answer to the next request. Bounds: total,
per endpoint, and idle seconds. All state changes are synchronous.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from registry.endpoint import Endpoint
from router.backend.http1 import Http1Upstream, Key, key_of


class IdlePool:
    """All idle backend connections."""

    def __init__(self, total: int, per_endpoint: int, idle_seconds: float) -> None:
        self.total = total
        self.per_endpoint = per_endpoint
        self.idle_seconds = idle_seconds
        self.size = 0
        self._idle: dict[Key, deque[Http1Upstream]] = {}

    def take(self, endpoint: Endpoint) -> Http1Upstream | None:
        """The most recently used connection to `endpoint`, marked as reused."""
        key = key_of(endpoint)
        waiting = self._idle.get(key)
        if waiting is None:
            return None
        upstream = waiting.pop()
        self._let_go(upstream, waiting)
        upstream.reused = True
        return upstream

    def give(self, upstream: Http1Upstream) -> None:
        """Keep `upstream`, or close it where the pool is full or bytes are left over."""
        key = upstream.key
        waiting = self._idle.get(key)
        full = self.size >= self.total or (waiting is not None and len(waiting) >= self.per_endpoint)
        if full or upstream.buffer or self.per_endpoint <= 0:
            upstream.close()
            return
        if waiting is None:
            waiting = self._idle[key] = deque()
        waiting.append(upstream)
        self.size += 1
        upstream.rest.keeper = self
        stream = upstream.stream
        stream.wheel.arm(upstream.rest, stream.loop.time() + self.idle_seconds)
        stream.watch(upstream.rest.expire)

    def evict(self, upstream: Http1Upstream) -> None:
        """Close a connection that is idle here."""
        self._remove(upstream)
        upstream.close()

    def drop(self, endpoint: Endpoint) -> None:
        """Close every idle connection to `endpoint`: one that had ended unseen is rarely alone."""
        for upstream in list(self._idle.get(key_of(endpoint), ())):
            self.evict(upstream)

    def sweep(self, unwanted: Callable[[Http1Upstream], bool]) -> None:
        """Close every idle connection that is unwanted."""
        for waiting in list(self._idle.values()):
            for upstream in [one for one in waiting if unwanted(one)]:
                self.evict(upstream)

    def close(self) -> None:
        for waiting in list(self._idle.values()):
            for upstream in list(waiting):
                self.evict(upstream)

    def _remove(self, upstream: Http1Upstream) -> None:
        if upstream.rest.keeper is None:
            return
        waiting = self._idle[upstream.key]
        waiting.remove(upstream)
        self._let_go(upstream, waiting)

    def _let_go(self, upstream: Http1Upstream, waiting: deque[Http1Upstream]) -> None:
        upstream.rest.keeper = None
        upstream.stream.watch(None)
        self.size -= 1
        if not waiting:
            del self._idle[upstream.key]
