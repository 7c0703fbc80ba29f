"""The routes on their way to the workers: whole to one that begins, then every change to all, in order.

Promise: a worker has the table of this moment when `follow` returns, and each later one as soon as it is published; a change is
written once, however many workers there are. Which endpoints are silent or unhealthy, and what registrations call their owners,
follows within a moment. Refuses to know how routes are packed (routes.py), and who the workers are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from registry.table import SHARDS, shard_of
from router.live import Live
from router.workers.fleet import Member
from router.workers.heard_names import NamesFeed
from router.workers.messages import Names, Routes, write_down
from router.workers.routes import RouteFeed

LOOK_SECONDS: Final = 0.05
ROUTES_A_LOOK: Final = 1000
"""Looked at for silent and unhealthy endpoints at a time, so that it costs the loop a fraction of a millisecond."""


class Broadcast:
    """`workers` are those that have been told a whole table and follow its changes."""

    def __init__(self, live: Live, feed: RouteFeed, clock: Callable[[], float]) -> None:
        self._live = live
        self._feed = feed
        self._clock = clock
        self._names = NamesFeed(live.snapshot.names.heard) if live.snapshot.names.heard is not None else None
        self._sent = live.table
        self._part = 0
        self._beginning: set[Member] = set()
        self._following: set[Member] = set()

    async def follow(self, member: Member) -> None:
        """Tell this worker everything; from then on it is told with the others."""
        if self._names is not None:
            for named in self._names.whole():
                member.say(Names(named))
        self._beginning.add(member)
        table = self._sent
        for piece in self._feed.whole(table):
            member.say(Routes(piece))
            if member.channel is not None:
                await member.channel.drained()
            await asyncio.sleep(0)  # whoever else has something to do
        if member in self._beginning:
            change = self._feed.change(table, self._sent)
            if change is not None:
                member.say(Routes(change))
            self._beginning.discard(member)
            self._following.add(member)

    def leave(self, member: Member) -> None:
        """It is gone."""
        self._beginning.discard(member)
        self._following.discard(member)

    def published(self) -> None:
        """There is another table."""
        before, self._sent = self._sent, self._live.table
        change = self._feed.change(before, self._sent)
        if change is not None:
            self._say(change, self._following)

    def judged(self, host: str) -> None:
        """Endpoints of this host are unhealthy, or healthy again."""
        self._tell_flips(shard_of(host), SHARDS)

    async def run(self) -> None:
        """Look who has become silent or unhealthy, and what is called how; for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        parts = 1 + len(self._sent) // ROUTES_A_LOOK
        self._part = (self._part + 1) % parts
        self._tell_flips(self._part, parts)
        if self._names is not None:
            for named in self._names.changes():
                message = write_down(Names(named))
                for member in self._following | self._beginning:
                    member.say_bytes(message)

    def _tell_flips(self, part: int, parts: int) -> None:
        flips = self._feed.liveness(self._sent, self._clock(), part, parts)
        if flips is not None:
            self._say(flips, self._following | self._beginning)

    def _say(self, data: bytes, members: set[Member]) -> None:
        message = write_down(Routes(data))
        for member in list(members):
            member.say_bytes(message)
