"""The listening sockets of all workers, held by the supervisor: one a worker and place; the kernel spreads the connections.

Promise: before the first of a place's sockets is bound, nobody else has that place: two routers never share a port unnoticed,
only a successor shares it with the workers that it takes over from. The sockets outlive their worker: what waits in a
dead one's backlog is its replacement's, but where one is so long in coming that the others get all meanwhile. One that systemd
passed is every worker's. The first worker's sockets listen from the start, so that the port is taken; those of the others
from `listen` on, so that nobody waits at one whose worker is long in coming. Refuses to know who listens with them.

Source: socket(7) SO_REUSEPORT: all who share must have the same user id, and all must ask for it. Linux's tcp(7) sockets stay
bound when a shutdown ends their listening, in every process that has them.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from typing import TypeAlias

from router.listening import Place
from router.net.listener import BACKLOG, bind

Bound: TypeAlias = Mapping[Place, Sequence[socket.socket]]


class Ports:
    """`workers` sockets for each place."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._held: dict[Place, Sequence[socket.socket]] = {}

    @property
    def numbers(self) -> list[int]:
        """Each port once."""
        return sorted({place.port for place in self._held})

    def of(self, slot: int) -> dict[Place, socket.socket]:
        """What the worker in this slot listens with."""
        return {place: socks[slot % len(socks)] for place, socks in self._held.items()}

    def prepare(self, wanted: Iterable[Place], inherited: MutableMapping[int, socket.socket], *, over: bool = False) -> Bound:
        """The sockets of places that are not held yet; of `inherited` what is used is taken. `over`: workers without a supervisor
        still have them, and the kernel gives not even the first of these any before `listen`. Raises OSError, and none is left
        open then.
        """
        bound: dict[Place, Sequence[socket.socket]] = {}
        new = [place for place in wanted if place not in self._held]
        try:
            for place in new:
                if place.port not in inherited:
                    bound[place] = self._bind(place, over=over)
        except OSError:
            discard(bound)
            raise
        return bound | {place: (inherited.pop(place.port),) for place in new if place.port in inherited}

    def _bind(self, place: Place, *, over: bool) -> list[socket.socket]:
        if not over:
            bind(*place, listening=False).close()
        bound: list[socket.socket] = []
        try:
            bound.extend(bind(*place, shared=True, listening=slot == 0 and not over) for slot in range(self._workers))
        except OSError:
            discard({place: bound})
            raise
        return bound

    def adopt(self, wanted: Collection[Place], bound: Bound) -> None:
        """Hold exactly what is wanted."""
        discard({place: self._held.pop(place) for place in list(self._held) if place not in wanted})
        self._held |= bound

    def listen(self, slot: int | None = None) -> None:
        """From now on the kernel gives them connections, or those of one slot. Raises OSError."""
        for socks in self._held.values():
            for sock in socks if slot is None else (socks[slot % len(socks)],):
                sock.listen(BACKLOG)

    def rest(self, slot: int) -> None:
        """The kernel gives what it gave to these sockets to the other slots', until `listen`; who waits there is reset."""
        for socks in self._held.values():
            # A second shutdown would be inherited by all that is accepted later.
            if len(socks) > 1 and socks[slot].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                socks[slot].shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """No port is held any more; each is still its worker's."""
        discard(self._held)
        self._held = {}


def discard(bound: Bound) -> None:
    """Close what was prepared."""
    for socks in bound.values():
        for sock in socks:
            sock.close()
