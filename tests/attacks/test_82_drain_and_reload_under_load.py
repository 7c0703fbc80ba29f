"""Attack 82: the router is drained and reloaded in the middle of traffic. Zero requests may fail."""

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import EAST, OPEN, MakeRouter
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import CA
from tests.support.client import Client, Tls, render_request
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain, wait_until

CLIENTS = 9


class Balancer:
    """A load balancer and its clients: keep-alive connections, new ones only while /health is good, no second try."""

    def __init__(self, router: RouterProcess, host: str, *, tls: Tls | None = None, clients: int = CLIENTS) -> None:
        self._router = router
        self._host = host
        self._tls = tls
        self._port = router.ssl_port if tls is not None else router.port
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.open = True
        self.served = 0
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(clients)]
        self._threads.append(threading.Thread(target=self._watch_health))

    def __enter__(self) -> "Balancer":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def serves(self, more: int) -> None:
        """Wait until so many more requests have been served."""
        target = self.served + more
        wait_until(lambda: self.served >= target or self.failures, f"{more} more requests")

    def _watch_health(self) -> None:
        while self.open and not self._stop.is_set():
            if self._router.health() != 200:
                self.open = False
            time.sleep(0.02)

    def _client(self, number: int) -> None:
        """Requests on one connection after the other; every other client sends bodies, every third one thinks."""
        thinks = 0.01 if number % 3 == 0 else 0.0
        body = b"x" * 3000 if number % 2 else b""
        request = render_request(self._host, "/", method="POST" if body else "GET", body=body)
        while self.open and not self._stop.is_set():
            try:
                with Client(self._port, self._tls) as client:
                    self._use(client, request, thinks)
            except Exception as error:  # whatever it is, the request failed
                self.failures.append(f"{type(error).__name__}: {error}")
                return

    def _use(self, client: Client, request: bytes, thinks: float) -> None:
        while not self._stop.is_set():
            client.send(request)
            response = client.read_response()
            if response.status != 200:
                self.failures.append(f"{response.status} {response.headers}")
            with self._lock:
                self.served += 1
            if response.get("connection") == "close":
                return
            time.sleep(thinks)


@pytest.fixture
def slow_backend(backend: EchoBackend) -> EchoBackend:
    """Answers after a moment, so that requests are in flight whenever something happens."""

    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        time.sleep(0.01)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    backend.always(answer)
    return backend


def refused(port: int) -> bool:
    """Whether nobody listens; each worker closes its own sockets."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionResetError:
        return False
    except ConnectionRefusedError:
        return True
    return False


Loaded = Callable[..., contextlib.AbstractContextManager[tuple[RouterProcess, Balancer]]]


@pytest.fixture
def loaded(
    make_router: MakeRouter, nats_server: NatsServer, make_registrar: Callable[..., Registrar], slow_backend: EchoBackend,
    east_ca: CA,
) -> Loaded:  # fmt: skip
    """A router under load: plain, or on an mTLS domain."""

    @contextlib.contextmanager
    def make(*, secure: bool = False, **config: Any) -> Iterator[tuple[RouterProcess, Balancer]]:
        router = make_router(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)], **config)
        host = unique_host(EAST if secure else OPEN)
        make_registrar(nats_server, router).register(
            host, backend=slow_backend, options={"mtls_allow_any": True} if secure else None
        )
        tls = Tls(host, credential=east_ca.issue_instance("app-1")) if secure else None
        with Balancer(router, host, tls=tls) as balancer:
            balancer.serves(50)
            yield router, balancer

    return make


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "mtls"])
def test_a_drain_fails_no_request(loaded: Loaded, secure: bool) -> None:
    """Attack 82: requests that come until the balancer has turned away are all answered; then the router ends with 0."""
    with loaded(secure=secure, drain_wait="800ms") as (router, balancer):
        router.signal(signal.SIGUSR1)
        wait_until(lambda: not balancer.open, "the balancer to see the bad health")
        assert router.wait_exit() == 0
    assert balancer.failures == []


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "mtls"])
def test_reloads_fail_no_request(loaded: Loaded, secure: bool) -> None:
    """Attack 82: ten reloads, good and bad ones, while requests are in flight: none fails, no connection is closed."""
    with loaded(secure=secure) as (router, balancer):
        wait_until(lambda: router.metric("connections_open") == CLIENTS, "all clients to be connected")
        for number in range(10):
            bad = number % 3 == 2
            grown = router.reload(port="no port" if bad else router.port, max_request_headers=100 + number)
            assert list(grown) == ['result="error"' if bad else 'result="ok"']
            balancer.serves(10)
        assert router.metric("connections_open") == CLIENTS
    assert balancer.failures == []


def test_sighup_during_a_drain_fails_no_request_and_reopens_nothing(loaded: Loaded) -> None:
    """Attack 82: a reload while draining neither fails a request, nor undoes the drain, nor listens again."""
    with loaded(drain_wait="3s") as (router, balancer):  # the reloads are done before it is over, on a busy machine too
        router.signal(signal.SIGUSR1)
        for _ in range(5):
            router.signal(signal.SIGHUP)
            time.sleep(0.02)
        router.wait_for_event("config-reloaded")
        wait_until(lambda: not balancer.open, "the balancer to see the bad health")
        assert router.health() == 503
        assert router.wait_exit() == 0
    assert balancer.failures == []


def test_a_request_in_flight_when_the_listeners_close_is_finished(
    make_router: MakeRouter, nats_server: NatsServer, make_registrar: Callable[..., Registrar], backend: EchoBackend
) -> None:
    """Attack 82: a slow exchange begun before the drain ends whole inside the deadline, with the news that we close."""
    router = make_router()
    host = unique_host(OPEN)
    make_registrar(nats_server, router).register(host, backend=backend)
    go_on = threading.Event()

    def answer(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        go_on.wait(10)
        exchange.send(b"half")

    backend.script(answer)
    with Client(router.port) as client, Client(router.port) as idle:
        assert idle.request("nobody.invalid").status == 404
        client.send(render_request(host))
        wait_until(lambda: backend.received, "the request to reach the backend")
        router.signal(signal.SIGUSR1)
        assert idle.closed_by_server()
        wait_until(lambda: refused(router.port), "the last worker to close its listeners")
        router.signal(signal.SIGHUP)
        assert router.running
        go_on.set()
        assert client.read_response().body == b"halfhalf"
        assert client.closed_by_server()
    assert router.wait_exit() == 0
