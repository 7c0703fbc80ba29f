"""The promise: a limit is one limit, however many workers there are; and what a dead worker held is free."""

import base64
import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import OPEN
from tests.support.backend import EchoBackend, Exchange
from tests.support.client import Client, get, render_request
from tests.support.register import Registrar, unique_host
from tests.support.router import STATUS_PASSWORD, STATUS_USER, RouterProcess, wait_until

WORKERS = 2
CROWD = 40
"""So many come: had each worker a limit of its own, not even once in a thousand million runs would one worker get them all."""
MOST = 6
NEARLY = range(MOST - WORKERS + 1, MOST + 1)
"""Of a crowd in one window of time: where two workers count the last two at the very same moment, both are refused."""
FAR, OTHER = "127.0.0.66", "127.0.0.77"


@pytest.fixture
def router(crew: RouterProcess) -> RouterProcess:
    """Each test gives it limits by a reload, and takes them back."""
    return crew


@pytest.fixture
def registrar(crew_registrar: Registrar) -> Registrar:
    return crew_registrar


@pytest.fixture
def host(registrar: Registrar, backend: EchoBackend) -> str:
    name = unique_host(OPEN)
    registrar.register(name, backend=backend)
    return name


@contextlib.contextmanager
def under(router: RouterProcess, **limits: Any) -> Iterator[None]:
    """With these keys in force."""
    with router.restored():
        assert router.reload(**limits) == {'result="ok"': 1}
        yield


class Crowd:
    """Connections that come and stay."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *exc: object) -> None:
        for sock in self._sockets:
            sock.close()

    def come(self, port: int, source: str = "127.0.0.1") -> None:
        for _ in range(CROWD):
            with contextlib.suppress(ConnectionResetError):
                self._sockets.append(socket.create_connection(("127.0.0.1", port), 10, (source, 0)))

    def inside(self) -> int:
        """How many are open."""
        for sock in list(self._sockets):
            sock.setblocking(False)
            try:
                gone = not sock.recv(1)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                gone = True
            assert gone
            sock.close()
            self._sockets.remove(sock)
        return len(self._sockets)

    def __iter__(self) -> Iterator[socket.socket]:
        return iter(self._sockets)

    def leave(self, count: int) -> None:
        for _ in range(count):
            self._sockets.pop().close()


def shed(router: RouterProcess, reason: str) -> float:
    return router.metric("connections_shed", reason=reason)


def wait_shed(router: RouterProcess, reason: str, count: float) -> None:
    """All that came have been let in or shed."""
    wait_until(lambda: shed(router, reason) >= count, f"{count:g} connections to be shed for {reason}")
    assert shed(router, reason) == count


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("max_connections", "max_connections"),
        ("max_total_connections", "total"),
        ("max_connections_per_address", "per_address"),
    ],
)
def test_so_many_connections_are_open_and_not_one_more(router: RouterProcess, key: str, reason: str) -> None:
    """R45, R123: of a crowd as many stay as may, over all workers; who leaves makes room for one, whoever served him."""
    before = shed(router, reason)
    with under(router, **{key: MOST}), Crowd() as crowd:
        crowd.come(router.port)
        wait_shed(router, reason, before + CROWD - MOST)
        assert crowd.inside() == MOST
        crowd.leave(4)
        wait_until(lambda: router.metric("connections_open") == MOST - 4, "four to be gone")
        crowd.come(router.port)
        wait_shed(router, reason, before + 2 * (CROWD - MOST) + MOST - 4)
        assert crowd.inside() == MOST


def test_each_address_has_its_own_number(router: RouterProcess) -> None:
    """R45: one that fills its places on all workers takes none of another's."""
    before = shed(router, "per_address")
    with under(router, max_connections_per_address=MOST), Crowd() as near, Crowd() as far:
        near.come(router.port)
        far.come(router.port, FAR)
        wait_shed(router, "per_address", before + 2 * (CROWD - MOST))
        assert (near.inside(), far.inside()) == (MOST, MOST)


def test_a_limit_counts_what_was_there_before_it(router: RouterProcess) -> None:
    """R45: a reload's limit finds the connections of all workers, and sends none of them away."""
    before = shed(router, "per_address")
    with Crowd() as crowd:
        crowd.come(router.port)
        wait_until(lambda: router.metric("connections_open") == CROWD, "all to be there")
        with under(router, max_connections_per_address=CROWD + 1), Crowd() as more:
            more.come(router.port)
            wait_shed(router, "per_address", before + CROWD - 1)
            assert (crowd.inside(), more.inside()) == (CROWD, 1)


@pytest.mark.parametrize("key", ["connection_rate", "connection_rate_per_address"])
def test_so_many_come_in_a_second_and_not_one_more(router: RouterProcess, key: str) -> None:
    """R45: the second is the same one for all workers."""
    with under(router, **{key: MOST}):
        assert wait_until(lambda: let_in_in_a_second(router), "a crowd within one second") in NEARLY


def let_in_in_a_second(router: RouterProcess) -> int:
    """How many of a crowd; 0 where it took longer."""
    last = time.monotonic() // 1
    second = wait_until(lambda: (now := time.monotonic() // 1) > last and now, "the next second")
    accepted, before = router.metric("connections_accepted"), shed(router, "rate")
    with Crowd() as crowd:
        crowd.come(router.port)
        come = before + accepted + CROWD
        wait_until(lambda: router.metric("connections_accepted") + shed(router, "rate") == come, "all to be judged")
        return crowd.inside() if time.monotonic() // 1 == second else 0


def test_the_firewalls_rate_of_an_address(router: RouterProcess) -> None:
    """R45: one count for an address, and others are not touched."""
    with under(router, firewall={"rate_limit": MOST, "rate_window": "10m"}), Crowd() as crowd, Crowd() as other:
        before = router.metric("connections_blocked", reason="rate")

        def judged() -> float:
            return crowd.inside() + other.inside() + router.metric("connections_blocked", reason="rate") - before

        crowd.come(router.port, FAR)
        other.come(router.port, OTHER)
        wait_until(lambda: judged() == 2 * CROWD, "the crowds to be judged")
        assert (crowd.inside() in NEARLY, other.inside() in NEARLY) == (True, True)


def test_handshakes_in_flight_are_each_workers_own(router: RouterProcess) -> None:
    """Attack 27, max_handshakes: the bound is against what they cost one process; the oldest of each give way."""
    before = shed(router, "max_handshakes")
    with under(router, max_handshakes=MOST), Crowd() as crowd:
        crowd.come(router.ssl_port)
        wait_until(lambda: crowd.inside() <= WORKERS * MOST, "the oldest to give way")
        assert crowd.inside() >= MOST
        assert shed(router, "max_handshakes") == before + CROWD - crowd.inside()


@pytest.mark.parametrize("by", ["backends.max_conns", "connection-limit"])
def test_so_many_requests_are_in_flight_at_an_endpoint(
    router: RouterProcess, registrar: Registrar, host: str, backend: EchoBackend, by: str
) -> None:
    """Contract d, backends.max_conns: whichever workers they come through; a response makes room for one more."""
    registrar.register(host, backend=backend, options={"connection-limit": MOST} if by == "connection-limit" else None)
    with under(router, backends={"max_conns": MOST}) if by == "backends.max_conns" else contextlib.nullcontext():
        for turn in (1, 2):
            exhausted = router.metric("backend_exhausted_conns")
            with busy(router, host, backend) as answers:
                wait_until(lambda: len(backend.received) == turn * MOST, "the endpoint to be full")  # noqa: B023
                full = exhausted + CROWD - MOST
                wait_until(lambda: router.metric("backend_exhausted_conns") == full, "the others to be refused")  # noqa: B023
                assert in_flight(router, host) == MOST
            assert sorted(answers) == [204] * MOST + [503] * (CROWD - MOST)
            assert len(backend.received) == turn * MOST


def in_flight(router: RouterProcess, host: str) -> int:
    """As the supervisor tells it."""
    token = base64.b64encode(f"{STATUS_USER}:{STATUS_PASSWORD}".encode()).decode()
    answer = router.fetch(router.routes_port, f"/policies?host={host}", [("Authorization", f"Basic {token}")])
    (route,) = json.loads(answer.body)["routes"]
    return sum(endpoint["in_flight"] for endpoint in route["endpoints"])


@contextlib.contextmanager
def busy(router: RouterProcess, host: str, backend: EchoBackend) -> Iterator[list[int]]:
    """A crowd of requests; those that reach the backend end with the block. The list is the statuses, afterwards."""
    go_on, statuses = threading.Event(), list[int]()

    def wait(exchange: Exchange) -> None:
        go_on.wait(10)
        exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    backend.script(*[wait] * MOST)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(router.port)) for _ in range(CROWD)]
        for client in clients:
            client.send(render_request(host))
        try:
            yield statuses
        finally:
            go_on.set()
        statuses += [client.read_response().status for client in clients]


def test_a_route_has_one_rate(router: RouterProcess, registrar: Registrar, host: str, backend: EchoBackend) -> None:
    """`rate-limit-rps`: one burst for all workers; registering again does not fill the bucket."""
    for registrations in (1, 2):
        registrar.register(host, backend=backend, options={"rate-limit-rps": 0.02 / registrations})
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(router.port)) for _ in range(CROWD)]
            statuses = sorted(client.request(host).status for client in clients)
        assert statuses == ([200] if registrations == 1 else [429]) + [429] * (CROWD - 1)


def test_what_a_killed_worker_held_is_free(router: RouterProcess) -> None:
    """R45, R123: the places of its connections, and no other's."""
    with under(router, max_connections=MOST), Crowd() as crowd:
        crowd.come(router.port)
        wait_until(lambda: crowd.inside() == MOST, "the others to be shed")
        served = Counter(server_of(router, sock) for sock in crowd)
        victim = next(iter(served))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: crowd.inside() == MOST - served[victim], "its connections to end")
        wait_until(lambda: _fills_up(router, crowd), "the free places to be taken")
        crowd.come(router.port)
        wait_until(lambda: crowd.inside() == MOST, "the others to be shed")


def _fills_up(router: RouterProcess, crowd: Crowd) -> bool:
    crowd.come(router.port)
    return crowd.inside() >= MOST


def test_a_request_that_died_with_its_worker_is_in_flight_no_more(
    router: RouterProcess, registrar: Registrar, host: str, backend: EchoBackend
) -> None:
    """Contract d, backends.max_conns: else an endpoint would be full for ever."""
    registrar.register(host, backend=backend, options={"connection-limit": 1})
    backend.script(lambda exchange: exchange.recv())
    with socket.create_connection(("127.0.0.1", router.port), 10) as client:
        client.sendall(render_request(host))
        wait_until(lambda: backend.received, "the request to be in flight")
        assert get(router.port, host).status == 503
        os.kill(server_of(router, client), signal.SIGKILL)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    wait_until(lambda: _answers(router, host), "a successor, or the other worker")


def _answers(router: RouterProcess, host: str) -> bool:
    try:
        return get(router.port, host).status == 200
    except (OSError, EOFError):
        return False


def server_of(router: RouterProcess, client: socket.socket) -> int:
    """The worker that has the other end of a connection."""
    near, far = (f"{port:04X}" for port in (client.getsockname()[1], router.port))
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    (inode,) = [line[9] for line in lines if line[1].endswith(f":{far}") and line[2].endswith(f":{near}")]
    for pid in router.workers():
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it has been closed meanwhile
                if os.readlink(descriptor) == f"socket:[{inode}]":
                    return pid
    raise AssertionError("nobody has it")
