"""Each way in which a backend fails has its status, its X-Cf-RouterError and GoRouter's body; no reason of a backend's own
reaches a client (contract d and f.2).
"""

import datetime as dt
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import CA, authority, plain_name
from tests.support.client import Client, Response, render_request
from tests.support.failing import Babbler, Mute
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess

BODIES = {
    496: b"496 SSL Certificate Required\n",
    502: b"502 Bad Gateway: Registered endpoint failed to handle the request.\n",
    503: b"503 Service Unavailable\n",
    525: b"525 SSL Handshake Failed\n",
    526: b"526 Invalid SSL Certificate\n",
}
NAME = "instance-guid"

MakeBackend = Callable[..., EchoBackend]


@pytest.fixture(scope="module")
def backend_ca() -> CA:
    return authority("backends")


@pytest.fixture(scope="module")
def hasty(nats_server: NatsServer, backend_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """A router with short deadlines that knows the backends' authority and has a client certificate of its own."""
    shown = authority("router's own").issue(plain_name("router"))
    config: dict[str, Any] = {
        "ca_certs": [backend_ca.pem],
        "backends": {"cert_chain": shown.chain_pem, "private_key": shown.key_pem},
        "endpoint_timeout": "700ms",
        "endpoint_dial_timeout": "300ms",
        "tls_handshake_timeout": "400ms",
    }
    with RouterProcess(tmp_path_factory.mktemp("hasty"), nats=nats_server, **config) as process:
        yield process


@pytest.fixture(scope="module")
def hasty_registrar(nats_server: NatsServer, hasty: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, hasty) as made:
        yield made


@pytest.fixture
def ask(hasty: RouterProcess, hasty_registrar: Registrar) -> Callable[..., Response]:
    """Register one backend (or a port) under a host of its own and send it one GET."""

    def once(backend: EchoBackend | int, *, method: str = "GET", body: bytes = b"", **registration: Any) -> Response:
        host = unique_host("open.example")
        hasty_registrar.register(host, backend=backend, **registration)
        with Client(hasty.port) as client:
            return client.request(host, method=method, body=body)

    return once


def _assert_failure(response: Response, status: int, text: str) -> None:
    assert (response.status, response.get("x-cf-routererror")) == (status, f"endpoint_failure ({text})")
    assert response.body == BODIES[status]
    assert response.get("content-type") == "text/plain; charset=utf-8"
    assert response.get("x-content-type-options") == "nosniff"


def test_a_refused_dial(ask: Callable[..., Response], backend: EchoBackend) -> None:
    """R103: Nobody listens: 502, dial failed."""
    backend.stop_listening()
    _assert_failure(ask(backend), 502, "dial failed")


def test_a_dial_that_takes_too_long(ask: Callable[..., Response]) -> None:
    """R103: `endpoint_dial_timeout` passes: 502, dial timeout."""
    with Mute(full=True) as mute:
        _assert_failure(ask(mute.port), 502, "dial timeout")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_answer_that_takes_too_long(ask: Callable[..., Response], backend: EchoBackend, method: str) -> None:
    """R103: `endpoint_timeout` passes before an answer: 502 (never 504), and the request is not sent again."""
    released = threading.Event()

    def silent(exchange: Exchange) -> None:
        exchange.read_body()
        released.set() if exchange.recv() == b"" else None

    backend.script(silent)
    _assert_failure(ask(backend, method=method, body=b"x"), 502, "timeout")
    assert released.wait(5)
    assert len(backend.received) == 1


def test_an_answer_whose_body_takes_too_long(hasty: RouterProcess, hasty_registrar: Registrar, backend: EchoBackend) -> None:
    """R103: `endpoint_timeout` passes inside the answer: the client's connection ends, for there is no other way to tell it."""

    def stuck(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        exchange.recv()

    backend.script(stuck)
    host = unique_host("open.example")
    hasty_registrar.register(host, backend=backend)
    with Client(hasty.port) as client, pytest.raises((EOFError, ConnectionResetError)):
        client.request(host)
    line = hasty.wait_for_log(host)
    assert '" 200 ' in line
    assert 'x_cf_routererror:"endpoint_failure (timeout)"' in line


def test_a_head_request_gets_the_status_alone(ask: Callable[..., Response], backend: EchoBackend) -> None:
    """R103: HEAD: the same status and fields, no body."""
    backend.stop_listening()
    response = ask(backend, method="HEAD")
    assert (response.status, response.body) == (502, b"")
    assert response.get("content-length") == str(len(BODIES[502]))


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"])
def test_a_backend_that_speaks_no_tls(ask: Callable[..., Response], words: bytes) -> None:
    """R103: A plain server behind a TLS registration: 525."""
    with Babbler(words) as babbler:
        response = ask(babbler.port, port=0, tls_port=babbler.port, server_cert_domain_san=NAME)
    _assert_failure(response, 525, "endpoint does not speak TLS")


def test_a_backend_that_ends_the_handshake(ask: Callable[..., Response]) -> None:
    """R103: A connection that ends inside the handshake: 525."""
    with Babbler(b"") as babbler:
        response = ask(babbler.port, port=0, tls_port=babbler.port, server_cert_domain_san=NAME)
    _assert_failure(response, 525, "TLS handshake failed")


def test_a_backend_without_a_shared_cipher(ask: Callable[..., Response], make_backend: MakeBackend, backend_ca: CA) -> None:
    """R103: No cipher in common: 525."""
    backend = make_backend(credential=backend_ca.issue_server(NAME), tls_maximum=ssl.TLSVersion.TLSv1_2)
    backend.use_ciphers("ECDHE-ECDSA-CAMELLIA256-SHA384")
    _assert_failure(ask(backend, server_cert_domain_san=NAME), 525, "TLS handshake failed")


def test_a_handshake_that_takes_too_long(ask: Callable[..., Response]) -> None:
    """R103: `tls_handshake_timeout` passes: 502."""
    with Mute() as mute:
        response = ask(mute.port, port=0, tls_port=mute.port, server_cert_domain_san=NAME)
    _assert_failure(response, 502, "TLS handshake timeout")


def test_a_route_that_goes_while_its_last_endpoint_fails(hasty: RouterProcess, hasty_registrar: Registrar) -> None:
    """R103: a route that disappears during the attempt does not turn the failure into a 404: the request was routed."""
    host = unique_host("open.example")
    with Mute() as mute, Client(hasty.port) as client:
        registration: dict[str, Any] = {"port": 0, "tls_port": mute.port, "server_cert_domain_san": NAME}
        hasty_registrar.register(host, backend=mute.port, **registration)
        client.send(render_request(host))
        mute.accept()
        hasty_registrar.unregister(host, backend=mute.port, **registration)
        _assert_failure(client.read_response(), 502, "TLS handshake timeout")


def test_a_certificate_of_another_authority(ask: Callable[..., Response], make_backend: MakeBackend) -> None:
    """R103: A backend's certificate that no configured authority signed: 526; the backend sees no request."""
    backend = make_backend(credential=authority("strangers").issue_server(NAME))
    _assert_failure(ask(backend, server_cert_domain_san=NAME), 526, "certificate not trusted")
    assert backend.received == []


@pytest.mark.parametrize("days", [(-20, -10), (10, 20)], ids=["expired", "not_yet_valid"])
def test_a_certificate_out_of_date(
    ask: Callable[..., Response], make_backend: MakeBackend, backend_ca: CA, days: tuple[int, int]
) -> None:
    """R103: An expired certificate, or one that is not valid yet: 526; the backend sees no request."""
    first, last = (dt.datetime.now(dt.UTC) + dt.timedelta(days=number) for number in days)
    backend = make_backend(credential=backend_ca.issue_server(NAME, not_before=first, not_after=last))
    _assert_failure(ask(backend, server_cert_domain_san=NAME), 526, "certificate expired or not yet valid")
    assert backend.received == []


@pytest.mark.parametrize("names", [("another-instance",), ("*.instance-guid",), ("instance-guid.example",), ("127.0.0.1",)])
def test_a_certificate_of_another_name(
    ask: Callable[..., Response], make_backend: MakeBackend, backend_ca: CA, names: tuple[str, ...]
) -> None:
    """R103: A certificate without the registered name (misrouting!): 503; the backend sees no request."""
    backend = make_backend(credential=backend_ca.issue_server(*names))
    _assert_failure(ask(backend, server_cert_domain_san=NAME), 503, "certificate name mismatch")
    assert backend.received == []


def test_a_certificate_whose_common_name_alone_fits(
    ask: Callable[..., Response], make_backend: MakeBackend, backend_ca: CA
) -> None:
    """R103: The common name never counts: 503."""
    backend = make_backend(credential=backend_ca.issue(plain_name(NAME)))
    _assert_failure(ask(backend, server_cert_domain_san=NAME), 503, "certificate name mismatch")
    assert backend.received == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_backend_that_rejects_the_routers_certificate(
    ask: Callable[..., Response], make_backend: MakeBackend, backend_ca: CA, version: ssl.TLSVersion, method: str
) -> None:
    """R103: A backend that does not trust the router's own certificate: 496, in TLS 1.2 and in 1.3 (where it says so later)."""
    backend = make_backend(credential=backend_ca.issue_server(NAME), client_ca=authority("strangers"), tls_maximum=version)
    _assert_failure(ask(backend, method=method, server_cert_domain_san=NAME), 496, "client certificate rejected")
    assert backend.received == []


def test_no_word_of_a_backend_reaches_the_client(ask: Callable[..., Response], backend: EchoBackend) -> None:
    """R103: What a broken backend says stays in the log: the client reads our texts only."""
    backend.script(b"SECRET nonsense\r\n\r\n")
    response = ask(backend)
    _assert_failure(response, 502, "malformed response")
    assert b"SECRET" not in response.head + response.body
