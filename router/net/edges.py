"""Readiness of many descriptors through one epoll of our own, edge-triggered: each is registered once, for good.

Promise: `handler(events)` is called inside a callback of the event loop when something changed at its descriptor: bytes or an
end came in, the peer reset it, and, for whoever asked for it, room came back after a refused write. An edge is told once:
whoever is called goes on until the kernel says that it would block. What is ready already when it is added is told too. What was
seen of a descriptor is never told of the next one with its number: one that is being made would be taken for one that stands.

The event loop sees a single descriptor. That spares an idle connection the loop's own bookkeeping (about 1 KiB and four
`epoll_ctl` under libuv), every later switch between reading and writing, and it hears of a reset while nobody reads or writes,
which neither loop can tell. Source: epoll(7).
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Final

EVENTS_A_TURN: Final = 256
WRITABLE: Final = select.EPOLLOUT
BROKEN: Final = select.EPOLLERR
ENDED: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
"""An end or a reset is here, perhaps behind bytes; no other edge will tell of it."""
READABLE: Final = select.EPOLLIN | ENDED
_WATCHED: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_AND_FOR_ROOM: Final = _WATCHED | select.EPOLLOUT

Handler = Callable[[int], object]


class Edges:
    """All descriptors of one event loop that are waited for in this way."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._due: dict[int, int] = {}  # seen and not yet told, the first one last
        loop.add_reader(self._epoll.fileno(), self._turn)

    def __len__(self) -> int:
        return len(self._handlers)

    def watch(self, fd: int, handler: Handler) -> None:
        """From now on `handler` is told of `fd`; an edge that another one was told of before is not repeated.

        Raises OSError where the kernel can watch no more.
        """
        if fd not in self._handlers:
            self._epoll.register(fd, _WATCHED)
        self._handlers[fd] = handler

    def await_room(self, fd: int) -> None:
        """From now on room after a refused write (and a connection that stands) is told too, at once where it is here already.

        Most never need it, and each would otherwise be told of the room that it begins with. Safe twice. Raises OSError.
        """
        self._epoll.modify(fd, _AND_FOR_ROOM)

    def forget(self, fd: int) -> None:
        """Before the descriptor is given to whoever waits in another way. Safe twice."""
        if self._handlers.pop(fd, None) is not None:
            self._due.pop(fd, None)
            self._epoll.unregister(fd)

    def drop(self, fd: int) -> None:
        """Before the descriptor is closed, with which the kernel forgets it by itself. Safe twice."""
        if self._handlers.pop(fd, None) is not None:
            self._due.pop(fd, None)

    def close(self) -> None:
        """Nothing is told any more."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._handlers.clear()
            self._due.clear()
            self._epoll.close()

    def _turn(self) -> None:
        """Some events; the others keep the epoll readable, and the rest of the loop has its turn."""
        due, handlers = self._due, self._handlers
        if self._epoll.closed:
            return
        if not due:
            due.update(reversed(self._epoll.poll(0, EVENTS_A_TURN)))
        try:
            while due:
                fd, events = due.popitem()
                handler = handlers.get(fd)
                if handler is not None:
                    handler(events)
        finally:
            if due:  # an edge comes once: one handler that raises must not cost the others theirs
                self._loop.call_soon(self._turn)
