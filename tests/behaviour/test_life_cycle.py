"""The promise: the router starts, drains and stops as GoRouter's operators and systemd expect."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend, Exchange
from tests.support.client import Client, get, render_request
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, lone, wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def serving(
    make_router: MakeRouter, nats_server: NatsServer, make_registrar: Callable[..., Registrar], backend: EchoBackend
) -> Callable[..., tuple[RouterProcess, str]]:
    """Makes a router with one route."""

    def make(**config: object) -> tuple[RouterProcess, str]:
        router = make_router(**config)  # type: ignore[arg-type]
        host = unique_host(OPEN)
        make_registrar(nats_server, router).register(host, backend=backend)
        return router, host

    return make


Serving = Callable[..., tuple[RouterProcess, str]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_at_once_and_ends_with_0(serving: Serving, backend: EchoBackend, number: signal.Signals) -> None:
    """Contract h: SIGTERM and SIGINT end the process without waiting for anybody, with status 0."""
    router, host = serving()
    backend.always(lambda exchange: exchange.recv())
    with Client(router.port) as idle, Client(router.port) as client:
        assert idle.request("nobody.invalid").status == 404
        client.send(render_request(host))
        wait_until(lambda: backend.received, "the request to be in flight")
        began = time.monotonic()
        router.signal(number)
        assert router.wait_exit() == 0
        assert time.monotonic() - began < 3
        assert idle.closed_by_server()
        assert client.closed_by_server()
    assert "router-stopped" in router.stdout


def test_a_drain_says_bad_health_first_and_still_serves(serving: Serving) -> None:
    """Contract h: during drain_wait /health is 503 and new connections are served; then the listeners close; exit 0."""
    router, host = serving(drain_wait="600ms")
    began = time.monotonic()
    router.signal(signal.SIGUSR1)
    wait_until(lambda: router.health() == 503, "the health to turn bad")
    assert get(router.port, host).status == 200
    assert router.wait_exit() == 0
    assert time.monotonic() - began >= 0.6
    with pytest.raises(ConnectionRefusedError):
        Client(router.port)


def test_a_drain_closes_idle_connections_and_waits_for_requests(serving: Serving, backend: EchoBackend) -> None:
    """Contract h: a request in flight is finished before the process ends with 0."""
    router, host = serving(workers=lone())  # what one worker has closed says nothing of another
    go_on = threading.Event()

    def slow(exchange: Exchange) -> None:
        go_on.wait(10)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    backend.script(slow)
    with Client(router.port) as idle, Client(router.port) as client:
        assert idle.request("nobody.invalid").status == 404
        client.send(render_request(host))
        wait_until(lambda: backend.received, "the request to be in flight")
        router.signal(signal.SIGUSR1)
        assert idle.closed_by_server()
        assert router.running
        go_on.set()
        answer = client.read_response()
        assert (answer.body, answer.get("connection")) == (b"done", "close")
    assert router.wait_exit() == 0


def test_a_drain_that_takes_too_long_ends_with_1(serving: Serving, backend: EchoBackend) -> None:
    """Contract h: when drain_timeout is passed what is left is cut off, the log says so, exit 1."""
    router, host = serving(drain_timeout="400ms")
    backend.always(lambda exchange: exchange.recv())
    with Client(router.port) as client:
        client.send(render_request(host))
        wait_until(lambda: backend.received, "the request to be in flight")
        began = time.monotonic()
        router.signal(signal.SIGUSR1)
        assert router.wait_exit() == 1
        assert 0.4 <= time.monotonic() - began < 5
        assert client.closed_by_server()
    router.wait_for_event("drain-deadline-passed")


def test_a_second_drain_changes_nothing_and_a_stop_cuts_it_short(serving: Serving, backend: EchoBackend) -> None:
    """Contract h: a repeated SIGUSR1 is ignored; SIGTERM during a drain stops at once with 0."""
    router, host = serving(drain_wait="30s")
    router.signal(signal.SIGUSR1)
    router.signal(signal.SIGUSR1)
    wait_until(lambda: router.health() == 503, "the drain")
    router.wait_for_event("drain-started")  # a thread writes the log: the health is a moment ahead of it
    assert get(router.port, host).status == 200
    router.signal(signal.SIGTERM)
    assert router.wait_exit() == 0
    assert sum("drain-started" in line for line in router.events) == 1


def test_a_bad_configuration_does_not_start(make_router: MakeRouter) -> None:
    """R265: `Error loading config` with every problem at once, exit 1, nothing listens."""
    router = make_router(start=False, endpoint_timeout="soon", no_such_key=1)
    with pytest.raises(AssertionError, match="did not start"):
        router.start()
    assert "Error loading config" in router.stderr
    assert "endpoint_timeout" in router.stderr
    assert "no_such_key" in router.stderr


def test_a_port_that_is_taken_does_not_start(make_router: MakeRouter, backend: EchoBackend) -> None:
    """Contract g: a port that cannot be had is said in a sentence, without a traceback; exit 1."""
    router = make_router(start=False, port=backend.port)
    router.directory.mkdir(parents=True)
    router._choose_ports()
    router.write_config()
    router._launch()
    assert router.wait_exit() == 1
    assert "cannot start" in router.stderr


# systemd


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager's notify socket; routers started in the test know it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def test_systemd_is_told_how_it_goes(manager: socket.socket, make_router: MakeRouter) -> None:
    """sd_notify(3): ready once it listens, reloading and ready again, stopping."""
    router = make_router()
    assert manager.recv(100) == b"READY=1"
    router.signal(signal.SIGHUP)
    reloading = manager.recv(100)
    assert reloading.startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert manager.recv(100) == b"READY=1"
    router.stop()
    assert manager.recv(100) == b"STOPPING=1"


def test_systemd_may_wait_until_balancers_know(manager: socket.socket, make_router: MakeRouter) -> None:
    """Contract g, `load_balancer_healthy_threshold`: ready only so long after health turned good."""
    router = make_router(load_balancer_healthy_threshold="500ms")
    asked = time.monotonic()
    assert router.health() == 200
    assert manager.recv(100) == b"READY=1"
    assert time.monotonic() - asked > 0.2


ACTIVATE = """
import os, sys
given = int(sys.argv[1])
for at, fd in enumerate(map(int, sys.argv[2].split(","))):
    os.dup2(fd, 100 + at)
for at in range(given):
    os.dup2(100 + at, 3 + at)
    os.set_inheritable(3 + at, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(given))
os.execv(sys.executable, [sys.executable, "-m", "router", "run", "-c", sys.argv[3]])
"""


def test_sockets_of_systemd_are_used(
    make_router: MakeRouter, nats_server: NatsServer, make_registrar: Callable[..., Registrar], backend: EchoBackend
) -> None:
    """sd_listen_fds(3): a listening socket that was passed is taken for its port: a connection made before we ran is served."""
    router = make_router(start=False)
    router.directory.mkdir(parents=True)
    router._choose_ports()
    with socket.create_server(("127.0.0.1", 0)) as plain, socket.create_server(("127.0.0.1", 0)) as secure:
        router.port, router.ssl_port = plain.getsockname()[1], secure.getsockname()[1]
        router.write_config()
        early = Client(router.port)
        early.send(render_request("nobody.invalid"))
        descriptors = f"{plain.fileno()},{secure.fileno()}"
        command = [sys.executable, "-c", ACTIVATE, "2", descriptors, str(router.config_file)]
        with (router.directory / "stdout").open("wb") as out, (router.directory / "stderr").open("wb") as err:
            router._process = subprocess.Popen(
                command, stdout=out, stderr=err, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
                pass_fds=(plain.fileno(), secure.fileno()),
            )  # fmt: skip
    with early:
        assert early.read_response().status == 404
    wait_until(lambda: router.health() == 200, "the router to be healthy")
    host = unique_host(OPEN)
    make_registrar(nats_server, router).register(host, backend=backend)
    assert get(router.port, host).status == 200
