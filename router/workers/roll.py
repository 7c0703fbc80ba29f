"""Who still owes an answer: what was told to many workers is over when each has answered, or has gone.

Refuses to know what was told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from router.workers.fleet import Member


class Roll:
    """Those who were told something, and what each answered; who is gone owes no answer. `number`: of what they were told."""

    def __init__(self, members: Iterable[Member], number: int = 0) -> None:
        self.number = number
        self.owing = {member.number for member in members}
        self.said: dict[int, str] = {}
        self._complete = asyncio.Event()
        if not self.owing:
            self._complete.set()

    def answer(self, member: Member, said: str) -> None:
        """Its one answer; a second one, and one that it does not owe, change nothing."""
        if member.number in self.owing:
            self.said[member.number] = said
            self.gone(member)

    def gone(self, member: Member) -> None:
        """It owes nothing any more."""
        self.owing.discard(member.number)
        if not self.owing:
            self._complete.set()

    async def complete(self, seconds: float) -> None:
        """All have answered, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._complete.wait()
