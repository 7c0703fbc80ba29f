"""The promise: an upgraded connection lives under the policy of the day, within its deadlines, in bounded memory, and no longer
than the router.
"""

import contextlib
import datetime as dt
import json
import queue
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import EAST, OPEN, MakeRouter
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import CA, Credential
from tests.support.client import Client, Tls, TlsRefusedError
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain, wait_until
from tests.support.websocket import PING, Reader, echo, frame, open_websocket, read_frame, server

MakeRegistrar = Callable[[NatsServer, RouterProcess], Registrar]

JUDGED_WITHIN = 2.25
"""Seconds: what docs/operations.md promises of the policy of the day, with a tick of the wheel."""


class Yard:
    """A router of a test's own, with a host behind each door."""

    def __init__(self, router: RouterProcess, registrar: Registrar, backend: EchoBackend, east: CA) -> None:
        self.router, self.registrar, self.backend, self.east = router, registrar, backend, east
        self.strict, self.plain = unique_host(EAST), unique_host(OPEN)
        self.allow("app-a")
        registrar.register(self.plain, backend=backend)
        backend.always(echo)

    def allow(self, *apps: str) -> None:
        """The route's list, by registering anew."""
        self.registrar.register(self.strict, backend=self.backend, options={"mtls_allowed_apps": ",".join(apps)})

    def caller(self, app: str = "app-a", **more: Any) -> Credential:
        return self.east.issue_instance(app, "space-1", "org-1", **more)

    @contextlib.contextmanager
    def websocket(self, credential: Credential | None = None) -> Iterator[Client]:
        """An upgraded connection, through the strict door where there is a credential."""
        host, tls = (self.plain, None) if credential is None else (self.strict, Tls(self.strict, credential))
        with Client(self.router.port if tls is None else self.router.ssl_port, tls) as client:
            open_websocket(client, host)
            yield client

    def record(self, host: str) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self.router.wait_for_log(host))
        return line


MakeYard = Callable[..., Yard]


@pytest.fixture
def make_yard(
    make_router: MakeRouter,
    make_registrar: MakeRegistrar,
    nats_server: NatsServer,
    backend: EchoBackend,
    east_ca: CA,
    tmp_path: Any,
) -> MakeYard:
    def make(**config: Any) -> Yard:
        log = {"file": str(tmp_path / "router-0" / "access.log"), "format": "json"}
        router = make_router(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)], access_log=log, **config)
        return Yard(router, make_registrar(nats_server, router), backend, east_ca)

    return make


def echoes(client: Client, text: bytes = b"hello") -> bool:
    client.send(frame(text, masked=True))
    return read_frame(Reader(client.recv)) == text


def cut_after(client: Client, started: float) -> float:
    """Seconds until the router ends the connection."""
    assert client.closed_by_server()
    return time.monotonic() - started


# The policy of the day


def test_a_changed_policy_cuts_who_it_denies_and_nobody_else(make_yard: MakeYard) -> None:
    """Attack 26: another list of the route, a list of the operator's, a boundary of the domain: each within the bound, with
    a line in the log, a count and the reason in the record; what the change does not deny goes on.
    """
    yard = make_yard()
    changes: list[tuple[Callable[[], object], str, str]] = [
        (lambda: yard.allow("app-b"), "route_not_listed", "route:mtls_allowed_apps"),
        (lambda: yard.router.reload(deny={"apps": ["app-a"]}), "deny_apps", "deny:apps"),
        (
            lambda: yard.router.reload(deny={}, mtls_domains=[mtls_domain(f"*.{EAST}", yard.east, orgs=["org-2"])]),
            "domain_orgs",
            "domain:orgs",
        ),
    ]
    with yard.websocket() as open_one:
        for change, label, rule in changes:
            yard.allow("app-a", "app-b")
            yard.router.reload(deny={}, mtls_domains=[mtls_domain(f"*.{EAST}", yard.east)])
            with yard.websocket(yard.caller("app-b")) as other, yard.websocket(yard.caller()) as client:
                assert echoes(other)
                assert echoes(client)
                change()
                assert cut_after(client, time.monotonic()) < JUDGED_WITHIN + 1
                if label != "domain_orgs":
                    assert echoes(other)
            line = json.loads(yard.router.wait_for_log(_of_app_a_by(rule)))
            assert (line["status"], line["mtls_auth"], line["mtls_rule"]) == (101, "denied", rule)
            assert line["x_cf_routererror"] == "mtls_authorization_denied"
            assert yard.router.metric("websocket_terminated", reason=label) >= 1
        assert echoes(open_one)
    assert len([line for line in yard.router.events if "upgrade-cut" in line]) >= 3


def _of_app_a_by(rule: str) -> Callable[[str], bool]:
    return lambda line: f'"mtls_rule":"{rule}","mtls_denied_reason":"' in line and '"caller_cf_app":"app-a"' in line


def test_the_end_of_a_certificate_ends_its_connection(make_yard: MakeYard) -> None:
    """Attack 26: one that runs out, and one that is revoked by a list that was loaded later."""
    yard = make_yard()
    soon = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=2)
    with yard.websocket(yard.caller(not_after=soon)) as client:
        assert echoes(client)
        assert cut_after(client, time.monotonic()) < 3 + JUDGED_WITHIN + 1
    assert yard.router.metric("websocket_terminated", reason="certificate_expired") == 1
    revoked, other = yard.caller(), yard.caller()
    yard.router.reload(mtls_domains=[mtls_domain(f"*.{EAST}", yard.east, crls=[yard.east.crl([])])])
    with yard.websocket(revoked) as client, yard.websocket(other) as neighbour:
        yard.router.reload(mtls_domains=[mtls_domain(f"*.{EAST}", yard.east, crls=[yard.east.crl([revoked])])])
        assert cut_after(client, time.monotonic()) < JUDGED_WITHIN + 1
        assert echoes(neighbour)
    assert yard.router.metric("websocket_terminated", reason="certificate_revoked") == 1


def test_an_endpoint_that_unregisters_keeps_its_connections(make_yard: MakeYard) -> None:
    """It may be shutting down; where the operator denies its network, a connection without identity is cut too."""
    yard = make_yard()
    with yard.websocket() as client, yard.websocket(yard.caller()) as strict:
        yard.registrar.unregister(yard.plain, backend=yard.backend)
        yard.registrar.unregister(yard.strict, backend=yard.backend)
        until = time.monotonic() + JUDGED_WITHIN
        while time.monotonic() < until:
            assert echoes(client)
            assert echoes(strict)
            select.select([], [], [], 0.1)
        yard.router.reload(deny={"backend_networks": ["127.0.0.0/8"]})
        assert cut_after(client, time.monotonic()) < JUDGED_WITHIN + 1
        assert client_ended(strict)
    assert yard.router.metric("websocket_terminated", reason="deny_backend_networks") == 2


def client_ended(client: Client) -> bool:
    try:
        return client.closed_by_server()
    except TlsRefusedError:
        return True


# Deadlines


def test_an_idle_connection_ends_and_a_ping_keeps_it(make_yard: MakeYard) -> None:
    """websocket_idle_timeout: seconds in which no byte moves either way."""
    yard = make_yard(websocket_idle_timeout="1500ms")
    started = time.monotonic()
    with yard.websocket() as quiet, yard.websocket() as pinging:
        while select.select([quiet.socket], [], [], 0.1)[0] == []:
            pinging.send(frame(b"", PING, masked=True))
        assert quiet.closed_by_server()
        assert 1.5 <= time.monotonic() - started < 15
        assert read_frame(Reader(pinging.recv)) == b""
        assert yard.router.metric("websocket_terminated", reason="idle") == 1


def test_a_client_that_takes_nothing_is_cut(make_yard: MakeYard) -> None:
    """Attack 76: `client_stall_timeout` holds for upgraded connections too, so that nobody can hold a full buffer for long."""
    yard = make_yard(client_stall_timeout="500ms")
    sent = threading.Event()

    def flood(exchange: Exchange) -> None:
        with contextlib.suppress(OSError):
            while True:
                exchange.send(bytes(65536))
        sent.set()

    yard.backend.always(server(flood))
    with yard.websocket():
        assert sent.wait(10)
        assert yard.router.wait_for_metric("websocket_terminated", 1, reason="stalled") == 1


# Memory


@pytest.mark.parametrize("slow", ["client", "backend"])
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_whoever_reads_slowly_holds_back_the_other_side(make_yard: MakeYard, slow: str, over_tls: bool) -> None:
    """R37: 64 MiB pass through bounded memory; the sender waits for the reader."""
    yard = make_yard()
    size, piece, growth_kib = 1 << 26, bytes(range(256)) * 1024, 4 * 1024
    taken: queue.SimpleQueue[int] = queue.SimpleQueue()
    go = threading.Event()

    def write(send: Callable[[bytes], object]) -> None:
        for _ in range(size // len(piece)):
            send(piece)

    def read(recv: Callable[[int], bytes]) -> int:
        assert go.wait(10)
        count = 0
        while count < size:
            data = recv(1 << 20)
            assert data
            assert data[0] == count % 256
            count += len(data)
        return count

    def after(exchange: Exchange) -> None:
        if slow == "backend":
            taken.put(read(exchange.recv))
        else:
            write(exchange.send)
            exchange.recv()
        exchange.close()

    yard.backend.always(server(after))
    with yard.websocket(yard.caller() if over_tls else None) as client:
        before = yard.router.resident_kib()
        sender = threading.Thread(target=write, args=(client.send,))
        if slow == "backend":
            sender.start()
        wait_until(lambda: settled(yard.router), "the router to wait for the reader")
        most = yard.router.resident_kib()
        go.set()
        if slow == "backend":
            sender.join(30)
            assert taken.get(timeout=30) == size
        else:
            assert read(client.recv) == size
        assert max(most, yard.router.resident_kib()) - before < growth_kib


def settled(router: RouterProcess) -> bool:
    """Has the router used no processor time for a moment?"""
    used = router.cpu_seconds()
    select.select([], [], [], 0.2)
    return router.cpu_seconds() - used < 0.03


def test_an_idle_websocket_costs_little_memory(make_yard: MakeYard) -> None:
    """At most 60 KiB each, over mutual TLS, with its backend connection; and all of it comes back."""
    yard = make_yard()
    released = threading.Event()
    yard.backend.always(server(lambda exchange: released.wait(60)))
    caller = yard.caller()
    with contextlib.ExitStack() as warm:
        for _ in range(20):
            warm.enter_context(yard.websocket(caller))
        before = yard.router.resident_kib()
        count = 300
        with contextlib.ExitStack() as many:
            for _ in range(count):
                many.enter_context(yard.websocket(caller))
            assert yard.router.metric("websocket_open") == count + 20
            each = (yard.router.resident_kib() - before) / count
            assert each < 60, f"{each:.1f} KiB an idle websocket"
        released.set()
    wait_until(lambda: yard.router.metric("websocket_open") == 0, "all of them to end")


# The router's end


def test_a_drain_gives_upgraded_connections_until_its_deadline(make_yard: MakeYard) -> None:
    """Contract h: they go on while the drain lasts, are closed then, and are no reason for an exit status of 1."""
    yard = make_yard(drain_timeout="900ms")
    with yard.websocket() as client, yard.websocket(yard.caller()) as strict:
        yard.router.signal(signal.SIGUSR1)
        yard.router.wait_for_event("drain-started")
        started = time.monotonic()
        assert echoes(client)
        assert echoes(strict)
        assert client.closed_by_server()
        assert 0.5 < time.monotonic() - started < 5
        assert client_ended(strict)
    assert yard.router.wait_exit() == 0
    assert [json.loads(line)["status"] for line in yard.router.access_log] == [101, 101]
    yard.router.wait_for_event("relays-drained")


def test_a_drain_is_over_when_the_last_upgraded_connection_has_ended(make_yard: MakeYard) -> None:
    """Contract h: nothing waits for a deadline that nobody needs."""
    yard = make_yard(drain_timeout="60s")
    with yard.websocket() as client:
        yard.router.signal(signal.SIGUSR1)
        yard.router.wait_for_event("drain-started")
        assert echoes(client, b"bye")
    assert yard.router.wait_exit() == 0


def test_a_stop_closes_upgraded_connections_at_once(make_yard: MakeYard) -> None:
    """Contract h: SIGTERM; each has its record all the same."""
    yard = make_yard()
    with yard.websocket() as client, yard.websocket(yard.caller()) as strict:
        assert echoes(client)
        started = time.monotonic()
        yard.router.signal(signal.SIGTERM)
        assert client_ended(client)
        assert client_ended(strict)
        assert yard.router.wait_exit() == 0
        assert time.monotonic() - started < 5
    assert [json.loads(line)["status"] for line in yard.router.access_log] == [101, 101]


# Either side is gone


@pytest.mark.parametrize("how", ["reset", "close"])
def test_whoever_is_gone_takes_the_other_along(make_yard: MakeYard, how: str) -> None:
    """R37: a connection that breaks breaks the other; the record is written, and the next request is served."""
    yard = make_yard()
    gone = threading.Event()

    def leave(exchange: Exchange) -> None:
        assert read_frame(Reader(exchange.recv)) == b"go"
        exchange.reset() if how == "reset" else exchange.close()

    def stay(exchange: Exchange) -> None:
        with contextlib.suppress(OSError):
            while exchange.recv():
                pass
        gone.set()
        exchange.close()

    yard.backend.script(server(leave), server(stay))
    with yard.websocket() as client:
        client.send(frame(b"go", masked=True))
        assert client_ended(client)
    with yard.websocket() as client:
        client.reset() if how == "reset" else client.close()
        assert gone.wait(5)
    wait_until(lambda: len(yard.router.access_log) == 2, "both records")
    assert yard.router.metric("websocket_open") == 0
    with yard.websocket() as client:
        assert echoes(client)


def test_nothing_of_an_upgraded_connection_is_used_again(make_yard: MakeYard) -> None:
    """The backend's connection goes to no other request, and the client's is closed when the backend ends."""
    yard = make_yard()
    for _ in range(2):
        with yard.websocket() as client:
            assert echoes(client, b"bye")
            assert client.closed_by_server()
    yard.backend.always(None)
    with Client(yard.router.port) as client:
        assert client.request(yard.plain).status == 200
    assert [one.connection for one in yard.backend.received] == [1, 2, 3]
