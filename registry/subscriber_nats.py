"""NATS in: what apps register becomes the routing table; what they ask for, the start message answers.

Promises: the router's other parts never wait for NATS, and nothing that comes from it raises; messages are
dealt with in order, a few milliseconds of them a turn of the event loop; the table is published at most every
few milliseconds, however many messages changed it; while NATS is away nothing is pruned, and when it is back
every endpoint has its full time to live again. Refuses to know: what a message says (intake.py), who uses the
table.

Source: GoRouter's subscriber: router.start, then router.greet, then router.*; its pending limits.
"""

import asyncio
import gc
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error, SlowConsumerError

from registry.active_apps import SUBJECT, ActiveApps
from registry.connect_nats import NatsLink, NatsSettings
from registry.intake import Intake, IntakeLimits, Log, RegistryMetrics
from registry.ledger import PARTS, Change, Ledger
from registry.table import RouteTable

PENDING_MESSAGES = 131_072
PENDING_BYTES = PENDING_MESSAGES * 1024
"""What waits here before messages are dropped: GoRouter's limits, made for 200,000 routes at once."""

SLICE_SECONDS = 0.005
"""How long messages are dealt with, or the table is looked through, before the event loop gets a turn for requests."""

PUBLISH_SECONDS = (0.001, 0.008)
"""Changes are gathered for at least the first and at most the second time before publication."""

PUBLISH_SHARE = 4
"""Between the two: this many times what the last publication took, so that it stays a fifth of the work."""

FREEZE_ROUTES = 10_000
"""From so many routes on, and whenever they have doubled, the garbage collector is told not to look at what is there: values of
the table form no cycles, and a look at a million routes takes seconds.
"""

Publish = Callable[[RouteTable, Sequence[Change]], None]
"""Takes a new table and the changes that led to it."""


@dataclass(frozen=True, slots=True)
class SubscriberSettings:
    """Times in seconds. `register_interval` is what emitters are asked to keep; `index` is the instance's; every
    `active_interval` the active apps are told, 0: never.
    """

    register_interval: float = 20.0
    stale_threshold: float = 120.0
    prune_interval: float = 30.0
    suspend_pruning: bool = True
    max_options: int = IntakeLimits().max_options
    index: int = 0
    active_interval: float = 0.0


class Subscriber:
    """One router's ear on NATS. `run` does everything; the rest may be read at any time.

    `first_connection` is set once, when messages can arrive for the first time. `connected` tells of this
    moment. `dropped` counts messages that the pending limits cost; `heard_at` is the monotonic time of the
    last message.
    """

    def __init__(
        self,
        settings: SubscriberSettings,
        nats: NatsSettings,
        ledger: Ledger,
        *,
        log: Log,
        metrics: RegistryMetrics,
        publish: Publish,
        clock: Callable[[], float] = time.monotonic,
        active: ActiveApps | None = None,
    ) -> None:
        self._settings = settings
        self._active = ActiveApps() if active is None else active
        self._client: Client | None = None
        self._ledger = ledger
        self._log = log
        self._publish = publish
        self._clock = clock
        self._intake = Intake(ledger, log, metrics, IntakeLimits(settings.max_options, settings.stale_threshold))
        self._link = NatsLink(nats, connected=self._listen, lost=self._lost, failed=self._failed)
        self._id = f"{settings.index}-{uuid.uuid4()}"
        self._subscription: Subscription | None = None
        self._changes: list[Change] = []
        self._due: asyncio.TimerHandle | None = None
        self._freeze_at = FREEZE_ROUTES
        self._publication_took = 0.0
        self._slice_ends = 0.0
        self._suspension_told = False
        self.first_connection = asyncio.Event()
        self.connected = False
        self.dropped = 0
        self.heard_at = clock()

    @property
    def buffered(self) -> int:
        """Messages that arrived and were not dealt with yet."""
        return self._subscription.pending_msgs if self._subscription is not None else 0

    async def run(self) -> None:
        """Hold the connection, deal with messages, prune; until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._link.run(), name="nats-link")
                tasks.create_task(self._prune_for_ever(), name="nats-prune")
                if self._settings.active_interval:
                    tasks.create_task(self._tell_active_for_ever(), name="nats-active-apps")
        finally:
            if self._due is not None:
                self._due.cancel()

    def publish_soon(self, change: Change) -> None:
        """The ledger changed: a table follows in milliseconds. Also for changes that did not come by NATS."""
        self._changes.append(change)
        if self._due is None:
            least, most = PUBLISH_SECONDS
            delay = min(max(least, PUBLISH_SHARE * self._publication_took), most)
            self._due = asyncio.get_running_loop().call_later(delay, self._publish_now)

    def _publish_now(self) -> None:
        self._due = None
        changes, self._changes = self._changes, []
        started = self._clock()
        try:
            table = self._ledger.publish()
            self._publish(table, changes)
            if len(table) >= self._freeze_at:
                gc.freeze()
                self._freeze_at = 2 * len(table)
        except Exception as error:  # noqa: BLE001 - the next message must find a subscriber
            self._log.error("publishing-routes-failed", error=error)
        self._publication_took = self._clock() - started

    async def _listen(self, client: Client) -> None:
        """GoRouter's order; NATS takes our commands in it, so who answers router.start finds us there."""
        start = self._start_message(client.client_ip)

        async def greet(message: Msg) -> None:
            await self._answer(client, message, start)

        await client.publish("router.start", start)
        await client.subscribe("router.greet", cb=greet)
        self._subscription = await client.subscribe(
            "router.*",
            cb=self._on_message,
            pending_msgs_limit=PENDING_MESSAGES,
            pending_bytes_limit=PENDING_BYTES,
        )
        await client.flush()
        self._client = client
        if self._settings.suspend_pruning:
            await self._refresh()
        self._recovered()

    async def _refresh(self) -> None:
        """Nothing is pruned until it is done: `connected` comes after."""
        async for part in self._parts():
            self._ledger.refresh_all(self._clock(), part, PARTS)

    async def _parts(self) -> AsyncIterator[int]:
        """Each part of the table; after a few milliseconds of them the event loop gets a turn."""
        ends = self._clock() + SLICE_SECONDS
        for part in range(PARTS):
            yield part
            if self._clock() >= ends:
                await asyncio.sleep(0)
                ends = self._clock() + SLICE_SECONDS

    def _recovered(self) -> None:
        self.connected = True
        self._suspension_told = False
        self.first_connection.set()
        self._log.info("nats-connected")

    def _lost(self) -> None:
        self.connected = False
        self._subscription = self._client = None
        pruning = "suspended" if self._settings.suspend_pruning else "goes on"
        self._log.warning("nats-connection-lost", pruning=pruning)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, SlowConsumerError):
            self.dropped += 1
            self._log.sparse("nats-messages-dropped", limit=PENDING_MESSAGES)
        else:
            self._log.sparse("nats-connection-failed", error=error)

    async def _on_message(self, message: Msg) -> None:
        if message.subject == SUBJECT:  # our own, or another router's
            return
        now = self.heard_at = self._clock()
        try:
            change = self._intake.take(message.subject, message.data, now)
            if change is not None:
                self.publish_soon(change)
        except Exception as error:  # noqa: BLE001 - one message must never silence those after it
            self._log.error("registry-message-failed", error=error, subject=message.subject)
        if now >= self._slice_ends:
            await asyncio.sleep(0)
            self._slice_ends = self._clock() + SLICE_SECONDS

    async def _answer(self, client: Client, message: Msg, start: bytes) -> None:
        try:
            if message.reply:
                await client.publish(message.reply, start)
        except Error as error:
            self._log.sparse("greet-not-answered", error=error)

    async def _tell_active_for_ever(self) -> None:
        """While NATS is away the apps gather, and are told when it is back."""
        while True:
            await asyncio.sleep(self._settings.active_interval)
            if self._client is None:
                continue
            try:
                for message in self._active.take():
                    await self._client.publish(SUBJECT, message)
            except Error as error:
                self._log.sparse("active-apps-not-told", error=error)

    async def _prune_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.prune_interval)
            if self._settings.suspend_pruning and not self.connected:
                if not self._suspension_told:
                    self._log.info("prune-suspended")
                self._suspension_told = True
                continue
            await self._prune()

    async def _prune(self) -> None:
        """Once through the table; ends early where NATS goes."""
        async for part in self._parts():
            if self._settings.suspend_pruning and not self.connected:
                return
            change = self._intake.prune(self._clock(), part, PARTS)
            if change.routing:
                self.publish_soon(change)

    def _start_message(self, own_address: str | None) -> bytes:
        message = {
            "id": self._id,
            "hosts": [own_address] if own_address else [],
            "minimumRegisterIntervalInSeconds": round(self._settings.register_interval),
            "pruneThresholdInSeconds": round(self._settings.stale_threshold),
        }
        return json.dumps(message, separators=(",", ":")).encode()
