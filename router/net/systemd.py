"""The two things systemd offers a service: sockets that are already open, and somebody to tell how it goes.

Promise: without systemd both do nothing. Source: sd_listen_fds(3), sd_notify(3).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, MutableMapping

FIRST_FD = 3


def inherited_sockets(environ: MutableMapping[str, str]) -> dict[int, socket.socket]:
    """Listening stream sockets passed by socket activation, by port (the first of each).

    Takes the variables away, so that no child believes them.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    found: dict[int, socket.socket] = {}
    for sock in _stream_sockets(int(count)):
        if found.setdefault(int(sock.getsockname()[1]), sock) is not sock:
            sock.close()
    return found


def _stream_sockets(count: int) -> Iterator[socket.socket]:
    for fd in range(FIRST_FD, FIRST_FD + min(count, 64)):
        os.set_inheritable(fd, False)
        with contextlib.suppress(OSError):
            sock = socket.socket(fileno=fd)
            if sock.type == socket.SOCK_STREAM and sock.family in (socket.AF_INET, socket.AF_INET6):
                yield sock
            else:
                sock.close()


def notify(state: str, environ: MutableMapping[str, str] = os.environ) -> None:
    """Tell the service manager, e.g. "READY=1", "RELOADING=1", "STOPPING=1". Never raises for a manager that does not listen."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
    ):
        sock.setblocking(False)
        sock.sendto(state.encode(), target)
