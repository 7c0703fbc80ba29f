"""The data plane in the test's own process: everything but NATS, signals and files, on the running loop."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

from registry.endpoint import Endpoint
from registry.ledger import Ledger, LedgerSettings
from registry.message import RegistryMessage, parse_message
from registry.table import RouteTable
from router.config.compile import compile_config
from router.config.compile_l4 import L4Settings, compile_l4
from router.config.model import Config
from router.connection import Connections
from router.downstream import Downstream
from router.l4.live import L4Live
from router.l4.passthrough import L4Door
from router.l4.pipes import Pipes
from router.l4.relay import Plumbing
from router.l7.serve import serve
from router.l7.state import Router
from router.l7_door import L7Door
from router.live import Live
from router.net.budget import Budget, BudgetLimits
from router.net.deadline import Wheel
from router.net.doorstep import Doorstep
from router.net.edges import Edges
from router.net.listener import Listener, bind
from router.observe.access_log import AccessLog
from router.observe.access_record import AccessRecord
from router.observe.health import Health
from router.observe.log import Logger
from router.observe.metrics import Metrics
from router.observe.passthrough_record import PassthroughRecord
from tests.router.config.support import config as config_of
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import Client, Response, Tls
from tests.support.recorder import RecordingLog
from tests.support.register import message
from tests.support.router import mtls_domain, server_credential, tls_pem
from tests.support.waiting import until

EAST = "east.example"


def settings(**more: Any) -> Config:
    """A valid configuration with the mTLS domain *.east.example."""
    return config_of(
        {
            "enable_ssl": True,
            "tls_pem": [tls_pem(server_credential())],
            "trusted_proxies": [],
            "mtls_domains": [mtls_domain(f"*.{EAST}", authority("east instance identity"))],
            **more,
        }
    )


class Records:
    """Stands for the access log."""

    def __init__(self) -> None:
        self.records: list[AccessRecord] = []

        self.passed: list[PassthroughRecord] = []

    def add(self, record: AccessRecord) -> None:
        self.records.append(record)

    def add_passthrough(self, record: PassthroughRecord) -> None:
        self.passed.append(record)


class Desk:
    """Two listeners on loopback, plain and TLS, and all that stands behind them."""

    def __init__(self, config: Config | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.wheel = Wheel(self.loop)
        self.log = RecordingLog()
        self.metrics = Metrics()
        self.records = Records()
        self.health = Health()
        self.health.started()
        self.pruned: list[tuple[str, Endpoint]] = []
        self.live = Live(compile_config(config or settings(), 1, self.loop, self.wheel), RouteTable())
        self.ledger = Ledger(LedgerSettings())
        self.router = Router(
            self.live,
            self.loop,
            self.metrics,
            cast("Logger", self.log),
            cast("AccessLog", self.records),
            self.health,
            lambda key, endpoint: self.pruned.append((key, endpoint)),
        )
        log = cast("Logger", self.log)
        self.edges, doorstep = Edges(self.loop), Doorstep(self.loop)
        self.l4_live = L4Live(self._settings(), self.live.snapshot.limits)
        self.pipes = Pipes()
        self.l4 = L4Door(
            Plumbing(self.loop, self.wheel, self.edges, self.pipes), self.metrics, cast("AccessLog", self.records), log
        )
        self.door = L7Door(self.live, self._serve, doorstep, self.wheel, self.loop, self.metrics, log)
        self.router.connect_inside = self.door.connect_inside
        self.connections = Connections(
            self.l4_live, self.l4, self.door, doorstep, self.edges, self.wheel, self.loop, self.metrics, log
        )
        self.seen: list[Downstream] = []
        self.budget = Budget(BudgetLimits())
        self.more: list[Listener] = []
        self.plain, self.tls = self._listen("http", tls=False), self._listen("https", tls=True)

    def adopt(self, config: Config) -> None:
        """A reload."""
        old = self.live.snapshot
        self.live.snapshot = compile_config(config, old.generation + 1, self.loop, self.wheel, old)
        old.retire(self.live.snapshot)
        self.l4_live.adopt(self._settings(), self.live.snapshot.limits)
        self.door.judge_again()

    def register(self, host: str, backend: EchoBackend | int, /, **more: Any) -> None:
        parsed = parse_message(json.dumps(message(host, backend=backend, **more)).encode())
        assert isinstance(parsed, RegistryMessage), parsed
        self.ledger.register(parsed, host.encode() + str(more).encode(), self.loop.time())
        self.live.table = self.ledger.publish()

    async def get(self, host: str, target: str = "/", tls: Tls | None = None, **request: Any) -> Response:
        """One request on a connection of its own."""

        def call() -> Response:
            with self.client(tls) as client:
                return client.request(host, target, **request)

        return cast("Response", await in_thread(call))

    def client(self, tls: Tls | None = None) -> Client:
        return Client(self.port(tls is not None), tls)

    def port(self, tls: bool = False) -> int:
        return (self.tls if tls else self.plain).port

    def counted(self, name: str) -> dict[str, float]:
        """The samples of a metric by their labels."""
        samples = {}
        for line in self.metrics.render().decode().splitlines():
            if line.startswith(name) and line[len(name)] in " {":
                labels, _, value = line[len(name) :].rpartition(" ")
                samples[labels.strip("{}")] = float(value)
        return samples

    async def idle(self) -> None:
        await until(lambda: not len(self.connections), "every connection to end")

    async def _serve(self, downstream: Downstream) -> None:
        self.seen.append(downstream)
        await serve(downstream, self.router)

    def _settings(self) -> L4Settings:
        return compile_l4(self.live.snapshot.config)

    def _listen(self, name: str, *, tls: bool) -> Listener:
        listener = Listener(
            name,
            bind("127.0.0.1", 0),
            tls=tls,
            budget=self.budget,
            loop=self.loop,
            serve=self.connections.accept,
            shed=lambda reason: None,
            pause_seconds=0.1,
        )
        listener.open()
        return listener

    def listen(self, plan: str) -> Listener:
        """Open the listener of this plan (`tls:8443`), on a port that is free."""
        kind = self.l4_live.plans[plan].kind
        made = self._listen(plan, tls=kind in ("tls", "ssl_port"))
        self.more.append(made)
        return made

    async def close(self) -> None:
        for listener in self.more:
            listener.close()
        self.plain.close()
        self.tls.close()
        self.connections.abort()
        await self.connections.wait_closed(self.loop.time() + 5)
        self.live.snapshot.retire()
        self.edges.close()
        self.pipes.close()
        self.wheel.close()


@asynccontextmanager
async def desk(**config: Any) -> AsyncIterator[Desk]:
    """A desk with these changes to its configuration; at the end no connection failed unexpectedly."""
    made = Desk(settings(**config))
    try:
        yield made
    finally:
        await made.close()
    failed = made.log.of("connection-failed")
    assert failed == [], failed


async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, call, *arguments)


@contextlib.contextmanager
def raw(made: Desk, tls: bool = False) -> Iterator[socket.socket]:
    """A plain socket to one of the listeners."""
    with socket.create_connection(("127.0.0.1", made.port(tls)), 10) as sock:
        yield sock
