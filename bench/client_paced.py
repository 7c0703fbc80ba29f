"""Load at a fixed rate: each request has its moment, and its wait counts from there.

Promises: no coordinated omission: a request whose moment came while every connection was busy waits for one, and that wait is
counted; one that is not answered GRACE_SECONDS after the end is an error. Refuses to know: how fast the proxy could be.
"""

import select
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass

from bench.client_http1 import GRACE_SECONDS, AnswerError, Runner, Steps
from bench.waits import gather, quantile


@dataclass(slots=True)
class _Asked:
    """A request on its way."""

    due: float
    steps: Steps
    sock: socket.socket


class PacedRunner(Runner):
    """The waits of `done` are from due to answered, `late` says how punctual the generator itself was."""

    def run(self) -> None:
        """Keep the ordered rate for the ordered time."""
        self._free = deque(self.sockets)
        self._asked: dict[int, _Asked] = {}
        self._took: list[float] = []
        self._late: list[float] = []
        for sock in self.sockets:
            sock.setblocking(False)
            self.epoll.register(sock.fileno(), select.EPOLLIN)
        started = time.perf_counter()
        self._keep_pace(started)
        self.done.seconds = self.order.seconds
        self.done.waits = gather(self._took)
        self.done.late = quantile(gather(self._late), 0.99) if self._late else 0.0

    def _keep_pace(self, started: float) -> None:
        """Times are multiples from the start, so that nothing adds up."""
        total, number = round(self.order.rate * self.order.seconds), 0
        waiting: deque[float] = deque()
        end = started + self.order.seconds + GRACE_SECONDS
        while (number < total or waiting or self._asked) and (now := time.perf_counter()) < end:
            while number < total and (due := started + number / self.order.rate) <= now:
                waiting.append(due)
                number += 1
            while waiting and self._free:
                self._ask(self._free.popleft(), waiting.popleft())
            pause = started + number / self.order.rate - time.perf_counter() if number < total else 0.1
            # epoll counts in milliseconds, select in microseconds: the one waits for the other.
            if select.select([self.epoll], [], [], max(0.0, pause))[0]:
                for fd, _ in self.epoll.poll(0):
                    self._step_on(fd)
        for _ in range(len(waiting) + len(self._asked)):
            self.fail(AnswerError(f"not answered {GRACE_SECONDS:g} s after the end"))

    def _ask(self, sock: socket.socket, due: float) -> None:
        self._late.append(time.perf_counter() - due)
        self._asked[sock.fileno()] = _Asked(due, self.answer(sock), sock)
        try:
            sock.send(self.request)
        except OSError as error:
            self._give_up(sock.fileno(), error)

    def _step_on(self, fd: int) -> None:
        asked = self._asked.get(fd)
        if asked is None:  # a ticket after the handshake, or the end
            self._forget(fd)
            return
        try:
            next(asked.steps)
        except StopIteration:
            self._took.append(time.perf_counter() - asked.due)
            del self._asked[fd]
            self._free.append(asked.sock)
        except (OSError, AnswerError) as error:
            self._give_up(fd, error)

    def _give_up(self, fd: int, error: Exception) -> None:
        """The connection is not used again."""
        self.fail(error)
        self._asked.pop(fd).sock.close()

    def _forget(self, fd: int) -> None:
        """Somebody spoke on a connection that asked nothing."""
        sock = next(sock for sock in self._free if sock.fileno() == fd)
        try:
            heard = sock.recv(16384)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            self.fail(error)
        else:
            self.fail(AnswerError(f"an idle connection said {heard[:80]!r}"))
        self._free.remove(sock)
        sock.close()
