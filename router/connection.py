"""THE STORY of one client connection, from accept to its door.

    accept -> [PROXY header: the real client] -> firewall -> [peek the ClientHello] -> choose -> L4: passed through, untouched
                                                                                              -> L7: TLS, HTTP (l7_door.py)
                                                                                              -> reset

Promise: whatever a client does ends at worst its own connection, with a TLS alert or a reset, counted with a bounded reason.
Every wait has a deadline (`router/limits.py`), the number of those who have shown nothing yet is bounded, and not a byte is
consumed before a door is chosen but a PROXY header's. Refuses to know what is behind the doors; where L7 is switched off there is
only one, and nothing of the other is loaded.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any, Final, Protocol

from router.l4.dispatch import Choice, Passthrough, PlainHttp, Refuse, Terminate, dispatch, reads_hello
from router.l4.listeners import ListenerPlan, ProxyTrust
from router.l4.live import L4Live
from router.l4.passthrough import L4Door
from router.net.arrival import Arrival, Refused, spelt
from router.net.budget import Budget
from router.net.deadline import Wheel
from router.net.doorstep import Doorstep
from router.net.edges import Edges
from router.net.listener import Listener
from router.net.stream import Stream
from router.observe.log import Logger
from router.observe.metrics import Metrics
from router.wire.client_hello import ClientHello, least_size, parse_client_hello
from router.wire.malformed import Malformed
from router.wire.proxy_protocol import MAX_BYTES, begins_proxy_header, least_proxy_size, parse_proxy_header

ALERTS: Final = {
    "decode_error": bytes.fromhex("15030300020232"),
    "unrecognized_name": bytes.fromhex("15030300020270"),
}
"""Fatal alerts that are sent before OpenSSL has seen a byte."""


class L7(Protocol):
    """What is behind the L7 door. Whatever is raised, the socket is closed then. `inside`: the router's connections to itself."""

    inside: set[asyncio.Task[None]]

    def bears(self, server_name: str) -> bool:
        """Is there a certificate for this very name?"""

    async def serve_tls(self, arrival: Arrival, hello: ClientHello) -> None:
        """A handshake, then HTTP. Raises Refused."""

    async def serve_plain(self, arrival: Arrival) -> None:
        """HTTP from the first byte."""

    def close_idle(self) -> None:
        """Connections on which no request has begun end now, the others after their current response."""


class Connections:
    """All client connections of the process, and the road each takes."""

    def __init__(
        self,
        live: L4Live,
        l4: L4Door,
        l7: L7 | None,
        doorstep: Doorstep,
        edges: Edges,
        wheel: Wheel,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        log: Logger,
    ) -> None:
        self._live = live
        self._l4 = l4
        self._l7 = l7
        self._doorstep = doorstep
        self._edges = edges
        self._wheel = wheel
        self._loop = loop
        self._metrics = metrics
        self._log = log
        self._tasks: dict[asyncio.Task[bool], Arrival] = {}
        self._emptied: asyncio.Future[None] | None = None  # somebody waits until nothing is passed through any more

    def __len__(self) -> int:
        return len(self._waited_for()) + len(self._l4.passages)

    def accept(self, sock: socket.socket, address: str, port: int, listener: Listener) -> None:
        """Start the story of an admitted socket. Called by the listener.

        Whoever is passed through, and has said by now to whom, needs no task for it.
        """
        arrival = Arrival(sock, (address, port), listener, self._loop, self._wheel, self._edges)
        self._metrics.connections_accepted.labels(listener.name).value += 1
        try:
            plan = self._plan_of(arrival)
            choice = self._choose_at_once(arrival, plan)
        except Refused as refused:
            self._count(refused)
            arrival.reset()
            self._end(arrival)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this connection alone
            self._end(arrival, error)
            return
        if type(choice) is Passthrough:
            self._l4.pass_on(arrival, choice.route, choice.server_name, self._leave)
            return
        task = self._loop.create_task(self._serve(arrival, plan, choice))
        self._tasks[task] = arrival
        task.add_done_callback(self._done)

    def close_idle(self) -> None:
        """Drain: who has asked for nothing yet goes now; what is passed through runs on until its end, or the drain's."""
        self._loop.call_soon(self._close_idle)  # after the first step of who was accepted in this turn

    def _close_idle(self) -> None:
        self._doorstep.clear()
        if self._l7 is not None:
            self._l7.close_idle()

    def abort(self) -> None:
        """End every connection now."""
        for task in self._waited_for():
            task.cancel()
        for passage in list(self._l4.passages):
            passage.end("drained")

    async def wait_closed(self, until: float) -> bool:
        """True when every connection has ended before `until` (seconds of the loop's clock)."""
        while len(self) and (left := until - self._loop.time()) > 0:
            if self._l4.passages and self._emptied is None:
                self._emptied = self._loop.create_future()
            passages = [] if self._emptied is None else [self._emptied]
            await asyncio.wait([*self._waited_for(), *passages], timeout=left)
        return not len(self)

    def _waited_for(self) -> list[asyncio.Task[Any]]:
        inside = self._l7.inside if self._l7 is not None else ()
        return [*self._tasks, *inside]

    def _done(self, task: asyncio.Task[bool]) -> None:
        arrival = self._tasks.pop(task)
        if task.cancelled():
            self._end(arrival)
        elif (error := task.exception()) is not None or not task.result():
            self._end(arrival, error)

    def _end(self, arrival: Arrival, error: BaseException | None = None) -> None:
        """Nobody serves it any more. What the kernel says of a peer's end is no news; any other error is a fault of ours."""
        if error is not None and not isinstance(error, OSError):
            self._log.error("connection-failed", error=type(error).__name__, detail=str(error), remote=spelt(arrival.client))
            self._metrics.internal_errors.inc()
        arrival.close()
        self._leave(arrival)

    def _leave(self, arrival: Arrival) -> None:
        """Its socket is closed: whoever counted it counts it out."""
        arrival.listener.budget.leave(arrival.peer[0])
        if arrival.counted is not None:
            arrival.counted.leave(arrival.client[0])
        if self._emptied is not None and not self._l4.passages:
            self._emptied.set_result(None)
            self._emptied = None

    async def _serve(self, arrival: Arrival, plan: ListenerPlan, choice: Choice | None) -> bool:
        """What takes time: the rest of what has to be known, where `choice` is None, then the door. True: it is passed through,
        and not over.

        Nothing that a peer does is raised: an error that a task ends with leads back to the task, by the callback that resumed
        it, and such a circle would keep the whole connection, 60 KiB of OpenSSL included, until a collection.
        """
        try:
            self._await_at_the_door(arrival, plan)
            if choice is None:
                choice = await self._choose(arrival, plan)
            return await self._through(arrival, plan, choice)
        except Refused as refused:
            self._count(refused)
            if refused.alert and not arrival.closed:
                await self._say_last(arrival, refused.alert)
            arrival.reset()
        except OSError:
            pass
        finally:
            self._doorstep.leave(arrival)
        return False

    async def _through(self, arrival: Arrival, plan: ListenerPlan, choice: Choice) -> bool:
        match choice:
            case Passthrough(route):
                self._l4.pass_on(arrival, route, choice.server_name, self._leave)
                return True
            case Terminate(hello) if self._l7 is not None:
                await self._l7.serve_tls(arrival, hello)
            case PlainHttp() if self._l7 is not None:
                self._doorstep.leave(arrival)
                await self._l7.serve_plain(arrival)
            case Refuse(reason):
                raise Refused(reason, _alert_for(reason) if plan.kind == "ssl_port" else b"")
            case _:
                raise Refused("l7_disabled")
        return False

    def _await_at_the_door(self, arrival: Arrival, plan: ListenerPlan) -> None:
        """Who has still to show something stands on the doorstep meanwhile."""
        waits = reads_hello(plan.kind) or plan.proxy is not None
        if waits and self._doorstep.enter(arrival, self._live.limits.max_handshakes):
            self._metrics.connections_shed.labels("max_handshakes").inc()

    def _plan_of(self, arrival: Arrival) -> ListenerPlan:
        plan = self._live.plans.get(arrival.listener.name)
        if plan is None:  # closed by a reload in this very turn of the loop
            raise Refused("listener_gone")
        return plan

    # ---- everything that is asked before a door opens, in this order: who, from where, for what

    def _choose_at_once(self, arrival: Arrival, plan: ListenerPlan) -> Choice | None:
        """By what is here already; None: a PROXY header, or the rest of a hello, is still to come."""
        if plan.proxy is not None:
            return None
        self._pass_the_firewall(arrival, plan)
        if not reads_hello(plan.kind):
            return self._dispatch(plan, None)
        hello = parse_client_hello(arrival.look(self._live.limits.hello_bytes))
        return None if hello is None else self._dispatch(plan, hello)

    async def _choose(self, arrival: Arrival, plan: ListenerPlan) -> Choice:
        """By what has to be waited for."""
        if plan.proxy is not None:
            await self._hear_of_the_client(arrival, plan.proxy)
            self._count_the_client(arrival, self._live.clients(plan))
            self._pass_the_firewall(arrival, plan)
        return self._dispatch(plan, await self._peek_hello(arrival) if reads_hello(plan.kind) else None)

    def _dispatch(self, plan: ListenerPlan, hello: ClientHello | Malformed | None) -> Choice:
        choice = dispatch(plan.kind, plan.port, hello, self._live.table, self._terminates if self._l7 is not None else None)
        if hello is not None:
            self._metrics.hellos.labels(plan.name, _outcome(choice)).value += 1
        return choice

    def _terminates(self, port: int, name: str) -> bool:
        """A static route says on which port; any other name is answered for where a certificate bears it."""
        static = self._live.terminates(port, name)
        return static if static is not None else self._l7 is not None and self._l7.bears(name)

    async def _hear_of_the_client(self, arrival: Arrival, trust: ProxyTrust) -> None:
        """The PROXY header that must come first: exactly its bytes are consumed, and its word is believed."""
        if not trust.believes(arrival.peer[0]):
            raise Refused("proxy_untrusted")
        until = self._loop.time() + self._live.limits.proxy_header_deadline
        known = 0
        while True:
            data = await self._peek(arrival, until, MAX_BYTES, known, "proxy_timeout")
            header = parse_proxy_header(data)
            if isinstance(header, Malformed):
                raise Refused(f"proxy_{header.reason}")
            if header is not None:
                break
            known = max(len(data), least_proxy_size(data) - 1)
        if begins_proxy_header(data[header.size :]):
            raise Refused("proxy_twice")
        arrival.consume(header.size)
        if header.source is not None:
            arrival.client = header.source

    def _count_the_client(self, arrival: Arrival, budget: Budget) -> None:
        """What the listener could not ask at accept: the address was a balancer's."""
        reason = budget.admit(arrival.client[0], self._loop.time())
        if reason is not None:
            self._metrics.connections_shed.labels(reason).inc()
            raise Refused("shed")
        arrival.counted = budget

    def _pass_the_firewall(self, arrival: Arrival, plan: ListenerPlan) -> None:
        blocked = self._live.judge(arrival.client[0], self._loop.time(), plan.allowed)
        if blocked is None:
            return
        self._metrics.connections_blocked.labels(plan.name, blocked.reason).inc()
        self._log.sparse(
            "connection-blocked", listener=plan.name, remote=spelt(arrival.client), peer=spelt(arrival.peer),
            reason=blocked.reason, rule=blocked.rule,
        )  # fmt: skip
        raise Refused("blocked")

    async def _peek_hello(self, arrival: Arrival) -> ClientHello | Malformed:
        """The ClientHello, without consuming a byte: OpenSSL, or a passthrough backend, gets it untouched."""
        limits = self._live.limits
        until = self._loop.time() + limits.hello_deadline
        known = 0
        while True:
            data = await self._peek(arrival, until, limits.hello_bytes, known, "hello_timeout")
            hello = parse_client_hello(data)
            if hello is not None:
                return hello
            if len(data) >= limits.hello_bytes:
                return Malformed("too_large")
            known = max(len(data), min(least_size(data), limits.hello_bytes) - 1)

    async def _peek(self, arrival: Arrival, until: float, size: int, known: int, late: str) -> bytes:
        try:
            data = await arrival.peek(until, size, known)
        except TimeoutError:
            raise Refused(late) from None
        if not data:
            raise Refused("peer_left")
        return data

    def _count(self, refused: Refused) -> None:
        """The reason goes to the metrics alone."""
        self._metrics.connections_refused.labels(refused.reason).inc()

    async def _say_last(self, arrival: Arrival, alert: bytes) -> None:
        """An alert, and the end."""
        stream = Stream(arrival.detach(), self._loop, self._wheel)
        try:
            await stream.send(alert, self._loop.time() + 1.0)
            await stream.linger()
        except OSError:
            pass
        finally:
            stream.reset()


_OUTCOMES: Final[Mapping[type, str]] = {Passthrough: "passed_through", Terminate: "terminated", PlainHttp: "plain_http"}


def _outcome(choice: Choice) -> str:
    return choice.reason if isinstance(choice, Refuse) else _OUTCOMES[type(choice)]


def _alert_for(reason: str) -> bytes:
    if reason in ("not_tls", "l7_disabled"):
        return b""
    return ALERTS["unrecognized_name"] if "name" in reason else ALERTS["decode_error"]
