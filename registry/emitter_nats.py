"""NATS out: an app's registrations, repeated as the routers ask, taken back when it pauses and at the end.

Promises: what is wanted is published on every connection, on every `router.start` and once an interval, the shortest that a
router asked for since the connection came up, with jitter that only shortens it; what is paused is unregistered as soon as
NATS is there, however long it was away, and again for every router that starts later; leaving unregisters. Nothing counts as
said before NATS has confirmed it. Refuses to know: what is healthy, where messages come from.

    async with Emitter(NatsSettings((("127.0.0.1", 4222),)), [message]) as emitter:
        await emitter.registered.wait()

Source: the conversation of GoRouter and its clients (router.start, router.greet, router.register, router.unregister).
"""

import asyncio
import json
import logging
import random
from collections.abc import Iterable
from typing import Final, Self

from nats.aio.client import Client
from nats.aio.msg import Msg

from registry.connect_nats import CLOSE_SECONDS, NatsLink, NatsSettings, raise_swallowed_cancellation
from registry.intake import REGISTER, UNREGISTER, Log
from registry.options import DEFAULT_LIMIT
from registry.registration import Message, encode

DEFAULT_INTERVAL = 20.0
"""Seconds between registrations where no router says otherwise."""

INTERVALS = (1.0, 300.0)
"""What a router may ask for; beyond it the nearest bound is kept."""

JITTER = 0.1
"""The last part of an interval in which its end is chosen at random, so that apps do not register in step."""

AWAY_SECONDS: Final = 60.0
"""How often it is said that NATS is away."""

_MAX_START_MESSAGE = 64 * 1024


class Registration:
    """One message of an emitter. Its attributes are the emitter's to write.

    `wanted`: to be registered, not paused. `known`: some router may have it. `settled`: NATS has confirmed the last thing that
    had to be said of it.
    """

    __slots__ = ("_changes", "_told", "known", "message", "payload", "settled", "wanted")

    def __init__(self, message: Message, payload: bytes) -> None:
        self.message = message
        self.payload = payload
        self.wanted = True
        self.known = False
        self.settled = False
        self._changes = 0
        self._told = False

    @property
    def registered(self) -> bool:
        """NATS has it, and it is not paused."""
        return self.wanted and self.settled


class EventLog:
    """Events for Python's own `logging`, under the name `vestibule.emitter`: what an emitter has unless it is given a log."""

    def __init__(self) -> None:
        self._log = logging.getLogger("vestibule.emitter")

    def debug(self, event: str, **data: object) -> None:
        self._log.debug("%s %s", event, data)

    def info(self, event: str, **data: object) -> None:
        self._log.info("%s %s", event, data)

    def warning(self, event: str, **data: object) -> None:
        self._log.warning("%s %s", event, data)

    def error(self, event: str, **data: object) -> None:
        self._log.error("%s %s", event, data)

    def sparse(self, event: str, level: int = 2, /, **data: object) -> None:
        self._log.log(10 * (level + 1), "%s %s", event, data)


class Emitter:
    """Keeps register messages (JSON objects) known to every router, from `async with` or `run` until that ends.

    `messages` are started at once; more come by `start`. A message that a router would drop, or use only in part, is a
    ValueError. `max_options`: the routers' limit for the bytes of a route's options. `registered` is set when all that is
    wanted has reached NATS for the first time.
    """

    def __init__(
        self, nats: NatsSettings, messages: Iterable[Message] = (), *, log: Log | None = None, max_options: int = DEFAULT_LIMIT
    ) -> None:
        self._log: Log = log if log is not None else EventLog()
        self._max_options = max_options
        self._link = NatsLink(nats, connected=self._greet, lost=self._lost, failed=self._failed, farewell=self._farewell)
        self._client: Client | None = None
        self._asked: float | None = None
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._away_said = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._saying: asyncio.Task[None] | None = None
        self._registrations: list[Registration] = []
        self.registered = asyncio.Event()
        for message in messages:
            self.start(message)

    @property
    def interval(self) -> float:
        """Seconds between registrations, before jitter."""
        return self._asked if self._asked is not None else DEFAULT_INTERVAL

    @property
    def connected(self) -> bool:
        """NATS is there."""
        return self._client is not None

    @property
    def left_behind(self) -> tuple[Registration, ...]:
        """What some router may still have. After the end: what could not be unregistered, for NATS was away."""
        return tuple(one for one in self._registrations if one.known)

    def start(self, message: Message) -> Registration:
        """Register one more message, from now on. ValueError where a router would not take it as it is."""
        one = Registration(message, encode(message, self._max_options))
        self._registrations.append(one)
        self._due.set()
        return one

    def pause(self, registration: Registration) -> None:
        """Unregister it, as soon as NATS is there, and do not register it until `resume`."""
        self._want(registration, wanted=False)

    def resume(self, registration: Registration) -> None:
        """Register it again, from now on."""
        self._want(registration, wanted=True)

    async def run(self) -> None:
        """Register and keep registered; when cancelled, unregister."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._link.run(), name="nats-link")
                tasks.create_task(self._say_what_is_due(), name="nats-register")
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self.run(), name="emitter")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()

    def _want(self, one: Registration, *, wanted: bool) -> None:
        if one.wanted is not wanted:
            one.wanted = wanted
            self._unsettle((one,))

    def _unsettle(self, some: Iterable[Registration]) -> None:
        """These must be said again."""
        for one in some:
            one.settled = False
            one._changes += 1
        self._due.set()

    async def _greet(self, client: Client) -> None:
        inbox = client.new_inbox()
        await client.subscribe(inbox, cb=self._on_answer)
        await client.subscribe("router.start", cb=self._on_start)
        await client.publish("router.greet", b"{}", reply=inbox)
        await client.flush()
        self._client = client
        self._away_said = float("-inf")
        self._log.info("nats-connected")
        self._say_everything()

    async def _on_start(self, message: Msg) -> None:
        await self._on_answer(message)
        self._say_everything()

    async def _on_answer(self, message: Msg) -> None:
        """A router's answer, or the server's that there is none (empty)."""
        asked, before = _interval(message.data), self.interval
        if asked is not None:
            self._asked = asked if self._asked is None else min(asked, self._asked)
        if self.interval != before:
            self._log.info("register-interval", seconds=self.interval)
        if self.interval < before:
            self._repeat()

    def _say_everything(self) -> None:
        """A router may know nothing yet, and one that was away may have missed what was taken back."""
        self._unsettle(self._registrations)
        self._set_timer()

    def _repeat(self) -> None:
        self._unsettle(one for one in self._registrations if one.wanted)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wait = self.interval * (1 - JITTER * random.random())  # noqa: S311 - spread, not secrecy
        self._timer = asyncio.get_running_loop().call_later(wait, self._repeat)

    async def _say_what_is_due(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            client = self._client
            if client is not None:
                # A task of its own, which our cancellation spares: a flush that is broken off breaks the library's reader.
                self._saying = asyncio.get_running_loop().create_task(self._say_or_give_up(client), name="nats-say")
                await asyncio.wait([self._saying])
            raise_swallowed_cancellation()

    async def _say_or_give_up(self, client: Client) -> None:
        """A connection on which nothing can be said is no connection: the link makes a new one."""
        try:
            await self._say(client)
        except Exception as error:  # noqa: BLE001 - the library raises anything
            self._failed(error)
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await client.close()
            except Exception as problem:  # noqa: BLE001 - see above
                self._failed(problem)

    async def _say(self, client: Client) -> None:
        said = []
        for wanted, subject in ((False, UNREGISTER), (True, REGISTER)):
            for one in tuple(self._registrations):
                if one.wanted is wanted and not one.settled and self._client is client:
                    one.known = one.known or wanted
                    said.append((one, one._changes))
                    await client.publish(subject, one.payload)
        await _confirmed(client)
        for one, changes in said:
            if one._changes == changes:
                self._settle(one)
        reached = [one.settled for one in self._registrations if one.wanted]
        if reached and all(reached):
            self.registered.set()

    def _settle(self, one: Registration) -> None:
        one.settled = True
        if one.wanted and not one._told:
            self._log.info("registered", **_described(one.message))
        elif not one.wanted and one.known:
            self._log.info("unregistered", **_described(one.message))
        one._told = one.known = one.wanted

    async def _farewell(self, client: Client) -> None:
        self._client = None
        if self._saying is not None:
            await asyncio.wait([self._saying])
        leaving = self.left_behind
        for one in leaving:
            await client.publish(UNREGISTER, one.payload)
        await _confirmed(client)
        for one in leaving:
            one.known = one._told = False
            self._log.info("unregistered", **_described(one.message))

    def _lost(self) -> None:
        if self._client is not None:  # not by our own farewell
            self._log.warning("nats-connection-lost")
        self._client = None
        self._asked = None
        if self._saying is not None:
            self._saying.cancel()  # nobody will answer it
        self._unsettle(self._registrations)

    def _failed(self, error: Exception) -> None:
        """Once while connected is once; while NATS is away, once a minute is enough."""
        if self._client is not None:
            self._log.sparse("nats-connection-failed", error=error)
            return
        now = asyncio.get_running_loop().time()
        if now - self._away_said >= AWAY_SECONDS:
            self._away_said = now
            waiting = sum(one.known and not one.wanted for one in self._registrations)
            self._log.warning("nats-away", error=error, waiting_to_unregister=waiting)


async def _confirmed(client: Client) -> None:
    """Return when the server has taken all that was published.

    The library sends a flush's PING ahead of what still waits to be written: the answer to the second one proves that the first
    PING, and all that was written right behind it, has arrived.
    """
    await client.flush()
    await client.flush()


def _described(message: Message) -> dict[str, object]:
    return {name: message[name] for name in ("app", "host", "port", "tls_port", "uris") if name in message}


def _interval(data: bytes) -> float | None:
    """What a router's start message asks for, within INTERVALS; None where it asks for nothing usable."""
    if len(data) > _MAX_START_MESSAGE:
        return None
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    asked = message.get("minimumRegisterIntervalInSeconds") if isinstance(message, dict) else None
    if not isinstance(asked, int | float) or not asked > 0:
        return None
    return float(min(max(asked, INTERVALS[0]), INTERVALS[1]))  # in this order: not every whole number is a float
