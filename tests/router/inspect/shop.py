"""A snapshot and tables of the tests' own, without a router: what `/policies` and `/warnings` are made of."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from registry.ledger import Ledger, LedgerSettings
from registry.message import RegistryMessage, parse_message
from registry.table import RouteTable
from router.config.compile import compile_config
from router.live import Snapshot
from router.net.deadline import Wheel
from tests.router.desk import settings
from tests.support.register import message


@contextmanager
def snapshot_of(**config: Any) -> Iterator[Snapshot]:
    """The snapshot of a valid configuration with these changes; the mTLS domain is *.east.example."""
    loop = asyncio.new_event_loop()
    wheel = Wheel(loop)
    snapshot = compile_config(settings(**config), 7, loop, wheel)
    try:
        yield snapshot
    finally:
        snapshot.idle.close()
        wheel.close()
        loop.close()


def table_of(*messages: dict[str, Any], now: float = 0.0) -> RouteTable:
    """The table after these registrations, all heard at `now`."""
    ledger = Ledger(LedgerSettings())
    for said in messages:
        data = json.dumps(said).encode()
        parsed = parse_message(data)
        assert isinstance(parsed, RegistryMessage), parsed
        ledger.register(parsed, data, now)
    return ledger.publish()


def said(*uris: str, port: int = 9, **more: Any) -> dict[str, Any]:
    """A registration."""
    return message(*uris, backend=port, **more)


def whole(pieces: Iterator[bytes]) -> Any:
    """The JSON value of an answer in pieces."""
    return json.loads(b"".join(pieces))
