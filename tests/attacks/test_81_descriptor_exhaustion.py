"""Attack 81: a flood of connections takes every descriptor that the router may have."""

import contextlib
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.client import Client, get
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess

Shortage = Callable[[RouterProcess], contextlib.AbstractContextManager[None]]

ROOM = 40
"""Descriptors that the router may have beyond those it holds at rest."""


@pytest.fixture
def small_router(make_router: MakeRouter) -> RouterProcess:
    """A router that may hold few descriptors; one process, for each has a limit of its own."""
    router = make_router(workers=0)
    limit = router.open_files() + ROOM
    resource.prlimit(router.pid, resource.RLIMIT_NOFILE, (limit, limit))
    return router


@pytest.fixture
def registered(
    small_router: RouterProcess, nats_server: NatsServer, make_registrar: Callable[..., Registrar]
) -> Callable[[EchoBackend], str]:
    registrar = make_registrar(nats_server, small_router)

    def register(backend: EchoBackend) -> str:
        host = unique_host(OPEN)
        registrar.register(host, backend=backend)
        return host

    return register


@contextlib.contextmanager
def flood(router: RouterProcess) -> Iterator[None]:
    """Twice as many connections as the router has descriptors for, until it accepts no more."""
    sockets: list[socket.socket] = []
    try:
        for _ in range(2 * ROOM):
            with contextlib.suppress(ConnectionResetError):  # who is shed may hear of it before he knows that he is connected
                sockets.append(socket.create_connection(("127.0.0.1", router.port)))
        router.wait_for_metric("connections_shed", 1, reason="out_of_descriptors")
        yield
    finally:
        for one in sockets:
            one.close()


@contextlib.contextmanager
def nothing_left(router: RouterProcess) -> Iterator[None]:
    """Not one descriptor more than the router holds now, and connections that wait to be accepted.

    The limit is on the number of a new descriptor, and the kernel takes the lowest free one.
    """
    limits = resource.prlimit(router.pid, resource.RLIMIT_NOFILE)
    held = {int(name) for name in os.listdir(f"/proc/{router.pid}/fd")}
    lowest_free = next(number for number in range(len(held) + 1) if number not in held)
    resource.prlimit(router.pid, resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(ROOM):
                stack.enter_context(socket.create_connection(("127.0.0.1", router.port)))
            yield
    finally:
        resource.prlimit(router.pid, resource.RLIMIT_NOFILE, limits)


def cpu_seconds(router: RouterProcess) -> float:
    """CPU time that the process has used so far, user and system."""
    fields = Path(f"/proc/{router.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("shortage", [flood, nothing_left])
def test_open_connections_are_served_while_descriptors_are_out(
    small_router: RouterProcess, registered: Callable[[EchoBackend], str], backend: EchoBackend, shortage: Shortage
) -> None:
    """Attack 81: who is connected goes on being served, request after request, and the router does not spin."""
    host = registered(backend)
    with Client(small_router.port) as client:
        assert client.request(host).status == 200
        with shortage(small_router):
            before, began = cpu_seconds(small_router), time.monotonic()
            statuses = []
            while time.monotonic() < began + 1.0:
                statuses.append(client.request(host).status)
                time.sleep(0.05)
            used = cpu_seconds(small_router) - before
    assert set(statuses) == {200}
    assert used < 0.25, f"{used:.2f} s of CPU in one second of exhaustion"


@pytest.mark.parametrize("shortage", [flood, nothing_left])
def test_new_connections_are_served_within_a_second_of_recovery(
    small_router: RouterProcess, registered: Callable[[EchoBackend], str], backend: EchoBackend, shortage: Shortage
) -> None:
    """Attack 81: as soon as descriptors are free again, accepting goes on; what waited in the backlog is served too, but for the
    one that is let in after each rest, to be reset while the clients' share is used up.
    """
    host = registered(backend)
    assert get(small_router.port, host).status == 200
    with shortage(small_router):
        waiting = Client(small_router.port)
        waiting.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    freed = time.monotonic()
    with waiting:
        try:
            assert waiting.read_response().status == 200
        except ConnectionResetError:
            assert shortage is flood
        assert time.monotonic() - freed < 1.0
    assert get(small_router.port, host).status == 200
    assert small_router.metric("connections_shed", reason="out_of_descriptors") >= 1
    assert small_router.health() == 200


def test_a_flood_leaves_descriptors_for_the_backends_of_those_who_are_connected(
    small_router: RouterProcess, registered: Callable[[EchoBackend], str], backend: EchoBackend
) -> None:
    """Attack 81: clients never get the last descriptors, so an open connection can still be given a new backend one."""
    host = registered(backend)
    with Client(small_router.port) as client:
        assert client.request("nobody.invalid").status == 404
        with flood(small_router):
            assert client.request(host).status == 200


def test_a_backend_is_not_blamed_for_our_lack_of_descriptors(
    small_router: RouterProcess, registered: Callable[[EchoBackend], str], backend: EchoBackend
) -> None:
    """Attack 81: where not even a backend connection can be made the answer is ours, and no endpoint is marked or pruned."""
    host = registered(backend)
    with Client(small_router.port) as client:
        assert client.request("nobody.invalid").status == 404
        with nothing_left(small_router):
            answer = client.request(host)
            assert (answer.status, answer.get("x-cf-routererror")) == (502, "unknown_failure")
        assert client.request(host).status == 200
    assert host in small_router.routes()
