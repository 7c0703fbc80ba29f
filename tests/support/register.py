"""Registrations over a real NATS, as an app's emitter sends them, and the wait until a router has them.

The wait is a marker: a route registered last on the same connection. NATS keeps the order of one publisher
and the router applies messages in order, so when it knows the marker, everything published before it has
been dealt with, be it a new route, other options, an unregistration or a message that was dropped.
"""

import itertools
import json
import os
import uuid
from collections.abc import Mapping
from typing import Any, Self

from tests.support.backend import EchoBackend
from tests.support.nats import NatsConnection
from tests.support.router import RouterProcess, wait_until

SETTLE_SECONDS = 30.0
"""Thousands of messages may be on their way."""

_numbers = itertools.count(1)


def unique_host(domain: str) -> str:
    """A host of its own under `domain`, never the same twice, also between test processes."""
    return f"t{os.getpid()}-{next(_numbers)}.{domain}"


def message(
    *uris: str,
    backend: EchoBackend | int,
    app: str | None = None,
    options: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    index: int = 0,
    **fields: Any,
) -> dict[str, Any]:
    """A register message. `fields` are more of its JSON fields; a field that is None is left out."""
    port = backend if isinstance(backend, int) else backend.port
    host = "127.0.0.1" if isinstance(backend, int) else backend.host
    by_tls = not isinstance(backend, int) and backend.tls
    app = app or str(uuid.uuid5(uuid.NAMESPACE_DNS, uris[0] if uris else "app"))
    base: dict[str, Any] = {
        "host": host,
        "port": 0 if by_tls else port,
        "tls_port": port if by_tls else None,
        "uris": list(uris),
        "app": app,
        "private_instance_id": f"{app}-{index}-{port}",
        "private_instance_index": str(index),
        "stale_threshold_in_seconds": 120,
        "tags": dict(tags) if tags is not None else {"component": "route-emitter"},
        "options": dict(options) if options is not None else None,
    }
    return {key: value for key, value in {**base, **fields}.items() if value is not None}


class Registrar:
    """Publishes to one router by way of its NATS server."""

    def __init__(self, nats_port: int, router: RouterProcess, **connection: Any) -> None:
        self._nats = NatsConnection(nats_port, **connection)
        self._router = router

    def register(self, *uris: str, backend: EchoBackend | int, wait: bool = True, **more: Any) -> dict[str, Any]:
        """Register and wait until the router has it; the message that was sent."""
        return self.publish("router.register", message(*uris, backend=backend, **more), wait=wait)

    def unregister(self, *uris: str, backend: EchoBackend | int, wait: bool = True, **more: Any) -> dict[str, Any]:
        """Unregister and wait until the router has dealt with it."""
        return self.publish("router.unregister", message(*uris, backend=backend, **more), wait=wait)

    def publish(self, subject: str, body: dict[str, Any], *, wait: bool = True) -> dict[str, Any]:
        self.publish_raw(subject, json.dumps(body).encode(), wait=wait)
        return body

    def publish_raw(self, subject: str, data: bytes, *, wait: bool = True) -> None:
        """Any bytes on any subject."""
        self._nats.publish(subject, data, flush=not wait)
        if wait:
            self.settle()

    def settle(self) -> None:
        """Return when the router has dealt with everything published here so far."""
        marker = unique_host("settled.invalid")
        body = message(marker, backend=9)
        self._nats.publish("router.register", json.dumps(body).encode(), flush=False)
        wait_until(lambda: self._router.has_route(marker), f"the router to take in {marker}", SETTLE_SECONDS)
        self._router.settle_workers()
        self._nats.publish("router.unregister", json.dumps(body).encode(), flush=False)

    def request(self, subject: str, data: bytes = b"") -> bytes:
        """The answer to a request."""
        return self._nats.request(subject, data).data

    def close(self) -> None:
        self._nats.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
