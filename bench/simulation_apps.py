"""The apps of a simulated platform: what each instance says, and when it says it again.

Promises: an instance repeats the very bytes it said last, all of them evenly spread over the interval; a restarted one comes with
an id and an address of its own before its old self is taken back. Refuses to know who listens.
"""

import asyncio
import json
import time
from typing import NamedTuple

import nats
from nats.aio.client import Client

from registry.intake import REGISTER, UNREGISTER

TICK = 0.01
MSG_LINE = len(b"MSG router.register 2 1234\r\n\r\n")
"""What NATS adds to a message."""


class Platform(NamedTuple):
    """How much there is: each instance has `routes // instances` routes of its own, and options of `options` bytes."""

    routes: int
    instances: int
    interval: float
    options: int

    @property
    def full(self) -> int:
        """Routes that all instances have together."""
        return self.routes // self.instances * self.instances

    @property
    def rate(self) -> float:
        """Messages a second of a platform at rest."""
        return self.instances / self.interval


def said(platform: Platform, number: int, life: int = 0, updated_at_ns: int = 0) -> bytes:
    """What a route-emitter sends for one instance in one of its lives."""
    app, instance = f"{number:08x}-2222-4222-8222-222222222222", f"{number:08x}-3333-4333-8333-{life:04x}"
    each = platform.routes // platform.instances
    message = {
        "host": f"10.{life & 255}.{number >> 8 & 255}.{number & 255}",
        "port": 61000 + (number >> 16),
        "tls_port": 62000 + (number >> 16),
        "uris": [f"app-{number:06d}-{route}.cf-apps.example.internal" for route in range(each)],
        "app": app,
        "private_instance_id": instance,
        "private_instance_index": "0",
        "server_cert_domain_san": instance,
        "endpoint_updated_at_ns": updated_at_ns,
        "tags": {
            "component": "route-emitter", "app_id": app, "app_name": f"app-{number:06d}", "process_id": app,
            "process_type": "web", "process_instance_id": instance, "instance_id": "0", "source_id": app,
            "organization_id": _guid(number, 100), "organization_name": f"org-{number % 100}",
            "space_id": _guid(number, 1000), "space_name": f"space-{number % 1000}",
        },
    }  # fmt: skip
    if platform.options:
        message["options"] = _options(platform.options, number)
    return json.dumps(message, separators=(",", ":")).encode()


def bandwidth(platform: Platform) -> float:
    """Bytes a second that NATS takes in, and gives to every router, from a platform at rest."""
    return (len(said(platform, platform.instances // 2)) + MSG_LINE) * platform.rate


class Apps:
    """All instances, and the connection that they share."""

    def __init__(self, platform: Platform, url: str) -> None:
        self._platform = platform
        self._url = url
        self._said = [said(platform, number) for number in range(platform.instances)]
        self._lives = [0] * platform.instances
        self._client: Client | None = None
        self._next = self._next_restart = 0
        self.sent_bytes = 0
        self.restarts_a_second = 0.0

    async def connect(self) -> None:
        self._client = await nats.connect(self._url, allow_reconnect=False, pending_size=16 << 20)

    async def disconnect(self) -> None:
        """Also from a server that is gone."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def run(self) -> None:
        """Say everything again, interval after interval, and restart as many as is wished; until cancelled."""
        due = restarts = 0.0
        before = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            due += (now - before) * self._platform.rate
            restarts += (now - before) * self.restarts_a_second
            before = now
            if self._client is None:
                due = restarts = 0.0
                continue
            while due >= 1:
                due -= 1
                await self._say(REGISTER, self._said[self._next])
                self._next = (self._next + 1) % len(self._said)
            while restarts >= 1:
                restarts -= 1
                await self._restart(self._next_restart)
                self._next_restart = (self._next_restart + 1) % len(self._said)

    async def _restart(self, number: int) -> None:
        old, self._lives[number] = self._said[number], self._lives[number] + 1
        self._said[number] = said(self._platform, number, self._lives[number], time.time_ns())
        await self._say(REGISTER, self._said[number])
        await self._say(UNREGISTER, old)

    async def _say(self, subject: str, message: bytes) -> None:
        if self._client is not None:
            await self._client.publish(subject, message)
            self.sent_bytes += len(message) + MSG_LINE


def _guid(number: int, of: int) -> str:
    return f"{number % of:08x}-5555-4555-8555-{of:012x}"


def _options(size: int, number: int) -> dict[str, str]:
    """`mtls_allowed_apps` of about this many bytes; no two instances allow the same apps."""
    count = max(1, (size - len('{"mtls_allowed_apps":""}') + 1) // 37)
    return {"mtls_allowed_apps": ",".join(f"{number:08x}-4444-4444-8444-{place:012x}" for place in range(count))}
