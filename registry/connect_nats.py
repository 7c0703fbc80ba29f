"""A connection to NATS that is always there again: the road of the subscriber and of the emitter.

Promises: it is tried for ever, each server in turn, at least every two seconds; whatever a server says or
does ends in another try, never in an exception; with TLS configured, nothing but TLS carries a credential
(the client library would go on in clear text with a server that does not offer it). Refuses to know: subjects
and messages.

The library's own reconnection is not used: it ends for good on a server's error line and on bytes it does not
expect. Every connection is a new client, and its owner subscribes anew.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.errors import SecureConnWantedError

from registry.nkey import NKey, UserCredentials

RETRY_SECONDS = 1.0
"""Pause before the next try of a server that failed."""

CONNECT_SECONDS = 2
"""How long a server may take for each step: TCP, greeting, TLS, answer to our credentials."""

CLOSE_SECONDS = 3.0
"""How long a farewell and an orderly close may take."""


@dataclass(frozen=True, slots=True, repr=False)
class NatsSettings:
    """Where NATS is and who we are to it; of credentials, key, token and user the first that is given counts.

    `ping_interval` in seconds: three unanswered pings mean the server is gone, so three times that must stay
    below the endpoints' time to live.
    """

    servers: tuple[tuple[str, int], ...]
    user: str = ""
    password: str = ""
    token: str = ""
    key: NKey | None = None
    credentials: UserCredentials | None = None
    tls: ssl.SSLContext | None = None
    ping_interval: float = 20.0
    name: str = "vestibule"

    def urls(self) -> list[str]:
        """The servers as the client library wants them."""
        scheme = "tls" if self.tls is not None else "nats"
        return [f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}" for host, port in self.servers]


class NatsLink:
    """Keeps one connection up. All callbacks run on the event loop.

    `connected(client)` prepares a new connection (publish, subscribe); when it raises, the connection is
    given up and the next one tried. `lost()` follows each successful `connected`. `failed(error)` tells of
    every failure on the way. `farewell(client)` runs when `run` is cancelled while connected.
    """

    def __init__(
        self,
        settings: NatsSettings,
        *,
        connected: Callable[[Client], Awaitable[None]],
        lost: Callable[[], None],
        failed: Callable[[Exception], None],
        farewell: Callable[[Client], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = settings
        self._connected = connected
        self._lost = lost
        self._failed = failed
        self._farewell = farewell

    async def run(self) -> None:
        """Hold the connection until cancelled."""
        while True:
            await self._hold_one()
            raise_swallowed_cancellation()
            await asyncio.sleep(RETRY_SECONDS)

    async def _hold_one(self) -> None:
        client = _Client(demands_tls=self._settings.tls is not None, key=_key(self._settings))
        ended = asyncio.Event()
        up = False

        async def closed() -> None:
            ended.set()

        async def error(problem: Exception) -> None:
            self._failed(problem)

        try:
            await client.connect(**_options(self._settings), closed_cb=closed, error_cb=error)
            await self._connected(client)
            up = True
            raise_swallowed_cancellation()
            await ended.wait()
        except asyncio.CancelledError:
            if up and self._farewell is not None and not ended.is_set():
                await self._bounded(self._farewell(client))
            raise
        except Exception as problem:  # noqa: BLE001 - a strange server makes the library raise anything
            self._failed(problem)
        finally:
            if up:
                self._lost()
            await self._bounded(client.close())

    async def _bounded(self, last: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await last
        except Exception as problem:  # noqa: BLE001 - the connection is given up anyway
            self._failed(problem)


def raise_swallowed_cancellation() -> None:
    """Be cancelled after all where the library's `wait_for` swallowed it (Python 3.11's does, in a race)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class _Client(Client):
    """The library's client, with NKeys signed here and without the fall back to clear text."""

    def __init__(self, *, demands_tls: bool, key: NKey | None) -> None:
        super().__init__()
        self._demands_tls = demands_tls
        self._public_nkey = key.public if key is not None else None

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self._demands_tls and not info.get("tls_required"):
            raise SecureConnWantedError
        await super()._process_info(info, initial_connection)


def _key(settings: NatsSettings) -> NKey | None:
    """The bare key; with credentials the server knows the user by the JWT instead."""
    return settings.key if settings.credentials is None else None


def _options(settings: NatsSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "servers": settings.urls(),
        "name": settings.name,
        "allow_reconnect": False,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": RETRY_SECONDS,
        "connect_timeout": CONNECT_SECONDS,
        "ping_interval": settings.ping_interval,
        "max_outstanding_pings": 2,
        "tls": settings.tls,
    }
    if settings.credentials is not None:
        jwt = settings.credentials.jwt.encode()
        return {**options, "signature_cb": settings.credentials.key.sign, "user_jwt_cb": lambda: jwt}
    if settings.key is not None:
        return {**options, "signature_cb": settings.key.sign}
    if settings.token:
        return {**options, "token": settings.token}
    if settings.user:
        return {**options, "user": settings.user, "password": settings.password}
    return options
