"""How a supervisor that is started finds the workers of one that was killed, and sends them home once its own serve.

    a supervisor   claims the name that uid and configuration file make, for as long as it lives
    an orphan      a worker whose supervisor is gone: it asks for that name every POLL_SECONDS, and having found it waits there

Promises: both ends ask the kernel for the other's uid and speak to nobody else's. A stranger who takes the name, or comes to it,
changes nothing for a worker and keeps no supervisor from starting: it is logged, and there is no takeover. What waits is
bounded, and a poll is three system calls. Refuses to know ports, what an orphan serves, and how it drains.

Source: unix(7): abstract names, SO_PEERCRED; the name goes with its process, however that ends.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from hashlib import blake2b
from pathlib import Path
from typing import Final

from router.observe.log import Logger

POLL_SECONDS: Final = 0.2
MAX_ORPHANS: Final = 1024
"""Waiting at a time; more are turned away, and ask again."""
MAX_STRANGERS: Final = 8
"""Logged by one orphan."""
ACCEPTED_A_TURN: Final = 64
PAUSE_SECONDS: Final = 1.0
"""Without accepting, where there are no descriptors."""

_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid
_DRAIN: Final = b"D"


def rendezvous_name(config: Path) -> str:
    """Where the routers of this user with this configuration file meet: an abstract name."""
    digest = blake2b(os.fsencode(os.path.realpath(config)), digest_size=16).hexdigest()
    return f"\0vestibule.{os.geteuid()}.{digest}"


class Rendezvous:
    """The supervisor's side. Nothing here raises: without the name there are no orphans."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Logger) -> None:
        self._loop = loop
        self._log = log
        self._listener: socket.socket | None = None
        self._waiting: dict[socket.socket, int] = {}  # orphans, each with its process id
        self._found = asyncio.Event()
        self._dismissed = False
        self._resumption: asyncio.TimerHandle | None = None

    def claim(self, name: str) -> bool:
        """Whether the name is ours from now on."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        try:
            listener.bind(name)
            listener.listen(MAX_ORPHANS)
        except OSError as failed:
            listener.close()
            self._log.warning("takeover-impossible", name=name[1:], error=failed.strerror, held_by=_holder(name))
            return False
        self._listener = listener
        self._loop.add_reader(listener, self._accept)
        return True

    @property
    def orphans(self) -> list[int]:
        """The process ids of those that have come and serve still."""
        return list(self._waiting.values())

    async def found(self, seconds: float) -> bool:
        """Whether an orphan has come, or comes within these seconds; each asks every POLL_SECONDS."""
        if self._listener is not None:
            try:
                async with asyncio.timeout(seconds):
                    await self._found.wait()
            except TimeoutError:
                pass
        return self._found.is_set()

    def dismiss(self) -> None:
        """Let them drain: those that are here, and all that come later."""
        self._dismissed = True
        for orphan in list(self._waiting):
            self._tell(orphan)

    def close(self) -> None:
        """The name is free; orphans that were not dismissed go on asking for it."""
        if self._resumption is not None:
            self._resumption.cancel()
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for orphan in list(self._waiting):
            self._forget(orphan)

    def _accept(self) -> None:
        listener = self._listener
        if listener is None:
            return
        for _ in range(ACCEPTED_A_TURN):
            try:
                caller, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as failed:
                self._pause(listener, failed)
                return
            self._admit(caller)

    def _pause(self, listener: socket.socket, failed: OSError) -> None:
        """There are no descriptors: to ask again at once would be to spin."""
        self._log.sparse("takeover-not-accepting", error=failed.strerror)
        self._loop.remove_reader(listener)
        self._resumption = self._loop.call_later(PAUSE_SECONDS, self._loop.add_reader, listener, self._accept)

    def _admit(self, caller: socket.socket) -> None:
        pid, uid = _peer(caller)
        if uid != os.geteuid() or len(self._waiting) >= MAX_ORPHANS:
            self._log.sparse("takeover-turned-away", pid=pid, uid=uid)
            caller.close()
            return
        caller.setblocking(False)
        self._waiting[caller] = pid
        self._loop.add_reader(caller, self._ended, caller)
        self._found.set()
        self._log.info("orphan-found", pid=pid)
        if self._dismissed:
            self._tell(caller)

    def _tell(self, orphan: socket.socket) -> None:
        try:
            orphan.send(_DRAIN)
        except OSError:
            self._forget(orphan)

    def _ended(self, orphan: socket.socket) -> None:
        """An orphan says nothing: its end is all that there is to read."""
        try:
            said = orphan.recv(1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            said = b""
        if not said:
            self._log.info("orphan-gone", pid=self._waiting[orphan])
        self._forget(orphan)

    def _forget(self, orphan: socket.socket) -> None:
        if self._waiting.pop(orphan, None) is not None:
            self._loop.remove_reader(orphan)
            orphan.close()


async def successor(name: str, loop: asyncio.AbstractEventLoop, log: Logger) -> socket.socket:
    """Ask for a supervisor until one comes that says to drain; for ever, where none does. A worker calls it when its own is gone,
    and keeps what is returned until it ends: from that the supervisor sees that it has drained.
    """
    strangers: set[int] = set()
    while True:
        supervisor = _ask(name, strangers, log)
        if supervisor is not None:
            if await _told_to_drain(supervisor, loop):
                return supervisor
            supervisor.close()
        await asyncio.sleep(POLL_SECONDS)


async def _told_to_drain(supervisor: socket.socket, loop: asyncio.AbstractEventLoop) -> bool:
    """False where it ends as its predecessor did."""
    told = False
    try:
        told = await loop.sock_recv(supervisor, 1) == _DRAIN
    except OSError:
        pass
    except asyncio.CancelledError:
        supervisor.close()
        raise
    return told


def _ask(name: str, strangers: set[int], log: Logger) -> socket.socket | None:
    """A connection to whoever has the name, if it is one of ours; each stranger's uid is logged once."""
    asking = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    asking.setblocking(False)
    try:
        asking.connect(name)
    except OSError:  # nobody has it, or too many ask
        asking.close()
        return None
    pid, uid = _peer(asking)
    if uid == os.geteuid():
        return asking
    asking.close()
    if uid not in strangers and len(strangers) < MAX_STRANGERS:
        strangers.add(uid)
        log.warning("takeover-name-is-a-strangers", name=name[1:], pid=pid, uid=uid)
    return None


def _holder(name: str) -> str:
    """Who has a name, for the log; empty where nobody answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(name)
        except OSError:
            return ""
        pid, uid = _peer(asking)
    return f"process {pid} of uid {uid}"


def _peer(connected: socket.socket) -> tuple[int, int]:
    """Process id and uid of the other end, as the kernel knows them: of who called connect, or listen."""
    pid, uid, _ = _CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid
