"""NATS out: an app's registrations, repeated as the routers ask, taken back at the end.

Promises: the messages are published on every connection, on every `router.start` and once an interval; the
interval is the shortest that a router asked for since the connection came up, with jitter that only shortens
it; cancelling `run` unregisters. Refuses to know: what the messages say.

Source: the conversation of GoRouter and its clients (router.start, router.greet, router.register,
router.unregister).
"""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence

from nats.aio.client import Client
from nats.aio.msg import Msg

from registry.connect_nats import NatsLink, NatsSettings, raise_swallowed_cancellation
from registry.intake import REGISTER, UNREGISTER, Log

DEFAULT_INTERVAL = 20.0
"""Seconds between registrations where no router says otherwise."""

INTERVALS = (1.0, 300.0)
"""What a router may ask for; beyond it the nearest bound is kept."""

JITTER = 0.1
"""The last part of an interval in which its end is chosen at random, so that apps do not register in step."""

_MAX_START_MESSAGE = 64 * 1024


class Emitter:
    """Registers `messages` (JSON objects of the register message) until its `run` is cancelled."""

    def __init__(self, nats: NatsSettings, messages: Sequence[Mapping[str, object]], *, log: Log) -> None:
        self._log = log
        self._payloads = [json.dumps(message, separators=(",", ":")).encode() for message in messages]
        self._link = NatsLink(nats, connected=self._greet, lost=self._lost, failed=self._failed, farewell=self._unregister)
        self._client: Client | None = None
        self._told: float | None = None
        self._due = asyncio.Event()
        self.registered = asyncio.Event()
        """Set when all messages have reached NATS for the first time."""

    @property
    def interval(self) -> float:
        """Seconds between registrations, before jitter."""
        return self._told if self._told is not None else DEFAULT_INTERVAL

    async def run(self) -> None:
        """Register and keep registered; when cancelled, unregister."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._link.run(), name="nats-link")
            tasks.create_task(self._repeat(), name="nats-register")

    async def _greet(self, client: Client) -> None:
        inbox = client.new_inbox()
        await client.subscribe(inbox, cb=self._on_answer)
        await client.subscribe("router.start", cb=self._on_start)
        await client.publish("router.greet", b"{}", reply=inbox)
        for payload in self._payloads:
            await client.publish(REGISTER, payload)
        await client.flush()
        self._client = client
        self.registered.set()

    async def _on_start(self, message: Msg) -> None:
        await self._on_answer(message)
        self._due.set()

    async def _on_answer(self, message: Msg) -> None:
        """A router's answer, or the server's that there is none (empty)."""
        asked, before = _interval(message.data), self.interval
        if asked is not None:
            self._told = asked if self._told is None else min(asked, self._told)
        if self.interval < before:
            self._due.set()

    async def _repeat(self) -> None:
        while True:
            wait = self.interval * (1 - JITTER * random.random())  # noqa: S311 - spread, not secrecy
            try:
                async with asyncio.timeout(wait):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()
            await self._register()
            raise_swallowed_cancellation()

    async def _register(self) -> None:
        client = self._client
        if client is None:
            return
        try:
            for payload in self._payloads:
                await client.publish(REGISTER, payload)
        except Exception as error:  # noqa: BLE001 - the link notices a lost connection and makes a new one
            self._failed(error)

    async def _unregister(self, client: Client) -> None:
        for payload in self._payloads:
            await client.publish(UNREGISTER, payload)
        await client.flush()

    def _lost(self) -> None:
        self._client = None
        self._told = None

    def _failed(self, error: Exception) -> None:
        self._log.sparse("nats-connection-failed", error=error)


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
    return min(max(float(asked), INTERVALS[0]), INTERVALS[1])
