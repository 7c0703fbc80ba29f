"""The promise: however many workers serve, an operator sees one router: one scrape, one log of whole lines, one tap."""

import json
import os
import re
import signal
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.test_tap import Tapped
from tests.conftest import EAST, OPEN
from tests.support.backend import EchoBackend
from tests.support.certs import CA
from tests.support.client import Client, Tls, get
from tests.support.nats import NatsConnection, NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain, wait_until

WORKERS = 2
LONG = "x" * 15_000
"""A word of a client in the log: two of them are far more than a pipe takes at once."""


class Fleet(RouterProcess):
    """A router with workers, a host of its own, and connections to each worker."""

    def started(self, registrar: Registrar, backend: EchoBackend) -> None:
        self.registrar, self.backend = registrar, backend
        self.host = unique_host(OPEN)
        self.app = registrar.register(self.host, backend=backend)["app"]
        self.whole()

    def whole(self) -> None:
        """Wait until as many serve as should."""
        wait_until(lambda: self.metric("workers_serving") == WORKERS, "all workers to serve")

    def pids(self) -> dict[int, int]:
        """The number of each worker that lives, and its process."""
        serving = [json.loads(line)["data"] for line in self.events if '"worker-serving"' in line]
        return {data["worker"]: data["pid"] for data in serving if os.path.exists(f"/proc/{data['pid']}")}

    def kill_one(self) -> None:
        """kill -9 one worker, and wait for its replacement."""
        replaced = self.metric("workers_replaced")
        os.kill(next(iter(self.pids().values())), signal.SIGKILL)
        wait_until(lambda: self.metric("workers_replaced") == replaced + 1, "a worker to be replaced")
        self.whole()

    def connections(self, stack: ExitStack, path: str) -> list[Client]:
        """Connections of which each worker has some, with a request on each: the kernel spreads them by their ports."""
        clients: list[Client] = []
        while not clients or not all(self.held(pid) for pid in self.pids().values()):
            assert len(clients) < 200
            for _ in range(10):
                clients.append(stack.enter_context(Client(self.port)))
                assert clients[-1].request(self.host, path).status == 200
        return clients

    def held(self, pid: int) -> int:
        """How many clients' connections a process has."""
        table = Path("/proc/net/tcp6").read_text() + Path("/proc/net/tcp").read_text()
        rows = [line.split() for line in table.splitlines()]
        inodes = {row[9] for row in rows if row[1].endswith(f":{self.port:04X}") and row[3] == "01"}
        links = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
        return len({f"socket:[{inode}]" for inode in inodes} & links)


@pytest.fixture(scope="module")
def backend() -> Iterator[EchoBackend]:
    with EchoBackend() as made:
        yield made


@pytest.fixture(scope="module", name="fleet")
def _fleet(
    nats_server: NatsServer, backend: EchoBackend, east_ca: CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """One router for all, since it outlives the death of any worker."""
    fleet = Fleet(
        tmp_path_factory.mktemp("workers"), nats=nats_server, workers=WORKERS, publish_active_apps_interval="50ms",
        mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)], logging={"extra_access_log_fields": ["caller_cf_app_name"]},
    )  # fmt: skip
    with fleet, Registrar(nats_server.port, fleet) as registrar:
        fleet.started(registrar, backend)
        yield fleet


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def families(page: str) -> list[tuple[str, str]]:
    return sorted(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))


def test_a_scrape_shows_what_all_workers_did_and_no_death_takes_it_back(
    fleet: Fleet, router: RouterProcess, stack: ExitStack
) -> None:
    """Issue, part 2: no label or type of metric is lost, nothing is counted twice, no counter goes back."""
    before = fleet.metric("responses", status_group="2xx")

    def grew() -> list[float]:
        named = (fleet.metric(name) for name in ("total_requests", "latency_count", "gorouter_time_count"))
        return [value - before for value in (fleet.metric("responses", status_group="2xx"), *named)]

    clients = fleet.connections(stack, "/")
    assert grew() == [len(clients)] * 4
    assert fleet.metric("connections_open") == len(clients)
    assert fleet.metric("nats_connected") == 1
    wait_until(lambda: fleet.metric("total_routes") == len(fleet.routes()), "the registrar's marker to be gone from both")
    assert families(fleet.metrics()) == families(router.metrics())
    lost = fleet.held(next(iter(fleet.pids().values())))
    fleet.kill_one()
    assert fleet.metric("connections_open") == len(clients) - lost
    assert grew() == [len(clients)] * 4
    for _ in range(10):
        assert get(fleet.port, fleet.host).status == 200
    assert grew() == [len(clients) + 10] * 4
    assert fleet.metric("worker_reports_rejected") == 0


@pytest.mark.parametrize("where", ["file", "standard output"])
def test_lines_are_whole_whoever_writes_them(
    fleet: Fleet, where: str, nats_server: NatsServer, backend: EchoBackend, tmp_path: Path, stack: ExitStack
) -> None:
    """Issue, part 2: no line stands in another, however long it is."""
    if where == "standard output":
        fleet = stack.enter_context(Fleet(tmp_path, nats=nats_server, workers=WORKERS, access_log={}))
        fleet.started(stack.enter_context(Registrar(nats_server.port, fleet)), backend)
    clients = fleet.connections(stack, "/")
    request = f"HTTP/1.1\r\nHost: {fleet.host}\r\nUser-Agent: {LONG}\r\nReferer: {LONG}\r\n\r\n"
    for turn in range(3):
        for client in clients:
            client.send(f"GET /long-{turn} {request}".encode())
        for client in clients:
            assert client.read_response().status == 200

    def lines() -> list[str]:
        found = fleet.access_log or fleet.stdout.splitlines()
        return [line.replace(LONG, "LONG") for line in found if "/long-" in line]

    wait_until(lambda: len(lines()) >= 3 * len(clients), "the log to be written")
    whole = re.compile(rf'{fleet.host} - \[\S+\] "GET /long-\d HTTP/1.1" 200 \d+ \d+ "LONG" "LONG" [^x]+ x_[^xL]+ x_[^L]+')
    assert [line for line in lines() if whole.fullmatch(line) is None or line.count(" - [") != 1] == []
    assert len(lines()) == 3 * len(clients)
    assert [line for line in fleet.stdout.splitlines() if not line.startswith(("{", fleet.host))] == []


def test_a_worker_says_which_it_is(fleet: Fleet, stack: ExitStack) -> None:
    """Its number stands in each of its lines; those of the supervisor have it where they speak of a worker."""

    def speakers(event: str) -> set[int | None]:
        return {json.loads(line)["data"].get("worker") for line in fleet.events if f'"{event}"' in line}

    for client in fleet.connections(stack, "/"):
        client.send(b"no request\r\n\r\n")
    wait_until(lambda: speakers("malformed-request") == fleet.pids().keys(), "a line of each worker")
    assert speakers("router-started") == {None}


def test_a_rotated_log_is_left_by_every_worker(fleet: Fleet, stack: ExitStack) -> None:
    """Move the file, send SIGHUP: from then on all write the new one, and no line is lost."""
    old = fleet.directory / "access.log.1"
    clients = fleet.connections(stack, "/before")
    (fleet.directory / "access.log").rename(old)
    assert fleet.reload() == {'result="ok"': 1.0}
    for client in clients:
        assert client.request(fleet.host, "/after").status == 200
    wait_until(lambda: sum("/after" in line for line in fleet.access_log) == len(clients), "every line in the new file")
    assert [old.read_text().count(f'"GET {path} ') for path in ("/before", "/after")] == [len(clients), 0]


def test_the_tap_hears_every_worker(fleet: Fleet, stack: ExitStack) -> None:
    """One stream, whoever served the exchange, a worker that began later too; nobody else's exchanges."""
    tapped = stack.enter_context(Tapped(fleet, host=fleet.host))
    for path in ("/first", "/second"):
        clients = fleet.connections(stack, path)
        assert {(event["host"], event["path"]) for event in (tapped.next() for _ in clients)} == {(fleet.host, path)}
        fleet.kill_one()
    get(fleet.port, "nobody.open.example")
    assert not tapped.has_more()


def test_active_apps_are_those_of_all_workers(fleet: Fleet, nats_server: NatsServer, stack: ExitStack) -> None:
    """Contract b.1: the app's GUID once, in the lists of the whole router."""
    with NatsConnection(nats_server.port) as nats:
        nats.subscribe("router.active_apps")
        fleet.connections(stack, "/")
        told = iter(lambda: json.loads(zlib.decompress(nats.next_message().data)), None)
        assert next(apps for apps in told if apps) == [fleet.app]


def test_names_that_registrations_say_stand_in_every_workers_log(fleet: Fleet, east_ca: CA) -> None:
    """The supervisor hears them, the workers show them."""
    host, app = unique_host(EAST), "6a4f1b6e-0001-4000-8000-00000000000a"
    tags = {"app_id": app, "app_name": "checkout", "component": "route-emitter"}
    options: dict[str, Any] = {"mtls_allow_any": True}
    fleet.registrar.register(host, backend=fleet.backend, app=app, tags=tags, options=options)
    tls = Tls(host, credential=east_ca.issue_instance(app, "space", "org"))

    def named() -> bool:
        for _ in range(8):
            assert get(fleet.ssl_port, host, "/named", tls=tls).status == 200
        lines = [line for line in fleet.access_log if host in line]
        return ['caller_cf_app_name:"checkout"' in line for line in lines[-8:]] == [True] * 8

    wait_until(named, "the name in eight lines in a row")
