"""Members that are no processes: what they are told is kept, and a replica makes a table of it."""

from collections.abc import Sequence
from typing import cast

from registry.table import RouteTable
from router.workers.channel import Channel
from router.workers.fleet import Member
from router.workers.messages import Down, Routes, read_down
from router.workers.packed_route import Makers
from router.workers.routes import RouteReplica


class Ear:
    """In the place of a member's channel."""

    def __init__(self) -> None:
        self.heard: list[Down] = []
        self.held = 0

    def send(self, body: bytes, descriptors: Sequence[int] = ()) -> None:
        self.heard.append(read_down(body))

    async def drained(self) -> None:
        self.held += 1


class Listening(Member):
    """A member without a process."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.slot = number
        self.asked = set()
        self.ear = Ear()
        self.channel = cast("Channel", self.ear)
        self._replica = RouteReplica(Makers(), lambda: 0.0)

    def table(self) -> RouteTable:
        """What its worker would have by now."""
        while self.ear.heard:
            message = self.ear.heard.pop(0)
            if isinstance(message, Routes):
                self._replica.apply(message.data)
        return self._replica.table
