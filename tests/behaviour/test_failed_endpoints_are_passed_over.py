"""Retries, marks and pruning: what a failure means for its endpoint and for the requests that follow (contract f.1 and f.2)."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import CA, authority
from tests.support.client import Client
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, lone, wait_until

NAME = "instance-guid"
MARK_SECONDS = 0.5


@pytest.fixture(scope="module")
def backend_ca() -> CA:
    return authority("backends")


@pytest.fixture(scope="module")
def marking(nats_server: NatsServer, backend_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """A router whose marks last half a second, and whose access log tells of failed attempts."""
    directory = tmp_path_factory.mktemp("marking")
    with RouterProcess(
        directory,
        nats=nats_server,
        workers=lone(),  # marks are a worker's own
        ca_certs=[backend_ca.pem],
        droplet_stale_threshold=f"{MARK_SECONDS * 4}s",
        prune_stale_droplets_interval="1h",
        logging={"level": "debug", "enable_attempts_details": True},
    ) as process:
        yield process


@pytest.fixture(scope="module")
def marking_registrar(nats_server: NatsServer, marking: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, marking) as made:
        yield made


class Pair:
    """A host with a good endpoint and another one, and how requests to it fare."""

    def __init__(self, router: RouterProcess, registrar: Registrar, good: EchoBackend) -> None:
        self.router = router
        self.registrar = registrar
        self.good = good
        self.host = unique_host("open.example")
        registrar.register(self.host, backend=good)

    def add(self, backend: EchoBackend, **registration: Any) -> None:
        self.registrar.register(self.host, backend=backend, index=1, **registration)

    def ask(self, count: int, method: str = "GET") -> list[int]:
        """The statuses of `count` requests, each on a connection of its own."""
        statuses = []
        for _ in range(count):
            with Client(self.router.port) as client:
                statuses.append(client.request(self.host, method=method).status)
        return statuses

    def failed_attempts(self, count: int) -> list[int]:
        """How many attempts failed in each of the host's `count` requests, as the access log has it."""
        lines: list[str] = wait_until(
            lambda: found if len(found := [x for x in self.router.access_log if self.host in x]) >= count else None,
            f"{count} lines of the access log",
        )
        return [int(line.partition("failed_attempts:")[2].split()[0].strip('"')) for line in lines]

    def endpoints(self) -> int:
        return len(self.router.routes().get(self.host, []))


@pytest.fixture
def pair(marking: RouterProcess, marking_registrar: Registrar, backend: EchoBackend) -> Pair:
    return Pair(marking, marking_registrar, backend)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refused_dial_is_retried_and_remembered(pair: Pair, make_backend: Callable[..., EchoBackend], method: str) -> None:
    """A dead endpoint costs one request one attempt; then it is passed over until the mark has passed, then tried again."""
    dead = make_backend()
    dead.stop_listening()
    pair.add(dead)
    assert pair.ask(6, method) == [200] * 6
    assert sum(pair.failed_attempts(6)) == 1
    wait_until(lambda: pair.ask(2, method) and sum(pair.failed_attempts(8)) == 2, "the mark to pass", 5)
    assert pair.endpoints() == 2


def _reset(exchange: Exchange) -> None:
    exchange.reset()


def _close(exchange: Exchange) -> None:
    exchange.close()


def test_a_reset_marks_its_endpoint(pair: Pair, make_backend: Callable[..., EchoBackend]) -> None:
    """A connection that is reset after the request left is a 502, and its endpoint is passed over for a while."""
    bad = make_backend()
    bad.always(_reset)
    pair.add(bad)
    statuses = pair.ask(5)
    assert sorted(statuses) == [200, 200, 200, 200, 502]
    assert len(bad.received) == 1
    bad.always(None)
    wait_until(lambda: pair.ask(1) and len(bad.received) > 1, "the mark to pass", 5)


def test_a_closed_connection_marks_nobody(pair: Pair, make_backend: Callable[..., EchoBackend]) -> None:
    """A connection that a backend ends in order after the request left is a 502, but no mark: it may be one bad request."""
    bad = make_backend()
    bad.always(_close)
    pair.add(bad)
    assert sorted(pair.ask(6)) == [200, 200, 200, 502, 502, 502]


def test_a_malformed_answer_marks_nobody(pair: Pair, make_backend: Callable[..., EchoBackend]) -> None:
    """An answer that cannot be understood is a 502, but no mark."""
    bad = make_backend()
    bad.always(b"nonsense\r\n\r\n")
    pair.add(bad)
    assert sorted(pair.ask(4)) == [200, 200, 502, 502]


def test_marks_are_lifted_when_all_have_one(marking: RouterProcess, marking_registrar: Registrar, backend: EchoBackend) -> None:
    """A route whose only endpoint is marked still tries it: a mark is a preference, not a verdict."""
    host = unique_host("open.example")
    marking_registrar.register(host, backend=backend)
    backend.script(_reset)
    with Client(marking.port) as client:
        assert client.request(host).status == 502
        assert client.request(host).status == 200


@pytest.mark.parametrize("fault", ["refused", "untrusted", "misnamed"])
def test_a_tls_endpoint_that_fails_its_check_is_removed(
    pair: Pair, make_backend: Callable[..., EchoBackend], backend_ca: CA, fault: str
) -> None:
    """A TLS endpoint that refuses the dial or shows another identity leaves the route at once; the request goes elsewhere."""
    issuer = authority("strangers") if fault == "untrusted" else backend_ca
    bad = make_backend(credential=issuer.issue_server("another" if fault == "misnamed" else NAME))
    if fault == "refused":
        bad.stop_listening()
    pair.add(bad, server_cert_domain_san=NAME)
    assert pair.endpoints() == 2
    assert pair.ask(4, "POST") == [200] * 4
    wait_until(lambda: pair.endpoints() == 1, "the endpoint to be removed")
    assert sum(pair.failed_attempts(4)) == 1
    assert bad.received == []


def test_the_last_failure_is_told_when_none_is_left(
    marking: RouterProcess, marking_registrar: Registrar, make_backend: Callable[..., EchoBackend]
) -> None:
    """When attempts have used up the endpoints the client reads the last failure; the next one reads that none is left."""
    host = unique_host("open.example")
    for index in range(2):
        backend = make_backend(credential=authority("strangers").issue_server(NAME))
        marking_registrar.register(host, backend=backend, index=index, server_cert_domain_san=NAME)
    with Client(marking.port) as client:
        response = client.request(host)
        assert (response.status, response.get("x-cf-routererror")) == (526, "endpoint_failure (certificate not trusted)")
        wait_until(lambda: host not in marking.routes(), "the endpoints to be removed")
        response = client.request(host)
        assert (response.status, response.get("x-cf-routererror")) == (404, "unknown_route")


def test_a_retry_keeps_the_body(pair: Pair, make_backend: Callable[..., EchoBackend]) -> None:
    """A body that still streams in goes whole to the endpoint that takes the request."""
    dead = make_backend()
    dead.stop_listening()
    pair.add(dead)
    body = b"".join(b"%x\r\n%b\r\n" % (1000, b"%04d" % number * 250) for number in range(100)) + b"0\r\n\r\n"
    for _ in range(2):
        with Client(pair.router.port) as client:
            coding = [("Transfer-Encoding", "chunked")]
            assert client.request(pair.host, method="POST", headers=coding, body=body).status == 200
    assert {len(one.body) for one in pair.good.received} == {100_000}
