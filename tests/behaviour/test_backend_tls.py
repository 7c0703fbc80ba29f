"""TLS to backends: who answers is verified against the configured authorities and the registered name (decision 11)."""

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential, authority, plain_name
from tests.support.client import Client
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess

NAME = "instance-guid"

Ask = Callable[..., int]


@pytest.fixture(scope="module")
def backend_ca() -> CA:
    return authority("backends")


@pytest.fixture(scope="module")
def own() -> Credential:
    """The router's own client certificate."""
    return authority("router's own").issue(plain_name("router"))


@pytest.fixture(scope="module")
def speaking(
    nats_server: NatsServer, backend_ca: CA, own: Credential, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RouterProcess]:
    with RouterProcess(
        tmp_path_factory.mktemp("speaking"),
        nats=nats_server,
        ca_certs=[authority("somebody else").pem, backend_ca.pem],
        backends={"cert_chain": own.chain_pem, "private_key": own.key_pem},
    ) as process:
        yield process


@pytest.fixture(scope="module")
def speaking_registrar(nats_server: NatsServer, speaking: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, speaking) as made:
        yield made


@pytest.fixture
def ask(speaking: RouterProcess, speaking_registrar: Registrar) -> Ask:
    """Register a backend under a host of its own and send it requests on one connection; the last status."""

    def asked(backend: EchoBackend, count: int = 1, **registration: Any) -> int:
        host = unique_host("open.example")
        speaking_registrar.register(host, backend=backend, **registration)
        with Client(speaking.port) as client:
            return [client.request(host, method="POST", body=b"x").status for _ in range(count)][-1]

    return asked


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_backend_of_the_registered_name_is_served(
    ask: Ask, make_backend: Callable[..., EchoBackend], backend_ca: CA, version: ssl.TLSVersion
) -> None:
    """R316: A certificate by a configured authority that has the registered name among its DNS names; the connection is kept."""
    backend = make_backend(credential=backend_ca.issue_server("another", NAME), tls_maximum=version)
    assert ask(backend, 3, server_cert_domain_san=NAME) == 200
    assert backend.connections == 1


@pytest.mark.parametrize(
    ("registered", "certified"),
    [("Instance-GUID", "instance-guid"), ("instance-guid", "INSTANCE-guid"), ("a.apps.example", "*.apps.example")],
)
def test_names_compare_as_dns_names_do(
    ask: Ask, make_backend: Callable[..., EchoBackend], backend_ca: CA, registered: str, certified: str
) -> None:
    """R316: Case does not count, and a wildcard stands for one whole label."""
    backend = make_backend(credential=backend_ca.issue_server(certified))
    assert ask(backend, server_cert_domain_san=registered) == 200


def test_an_intermediate_authority_is_followed(ask: Ask, make_backend: Callable[..., EchoBackend], backend_ca: CA) -> None:
    """R316: A chain over an intermediate that the backend sends along is verified up to the configured authority."""
    backend = make_backend(credential=CA("an intermediate", backend_ca).issue_server(NAME))
    assert ask(backend, server_cert_domain_san=NAME) == 200


@pytest.mark.parametrize(
    ("names", "status"), [(("127.0.0.1",), 200), ((NAME, "127.0.0.1"), 200), ((NAME,), 503), (("127.0.0.2",), 503)]
)
def test_without_a_registered_name_the_address_must_fit(
    ask: Ask, make_backend: Callable[..., EchoBackend], backend_ca: CA, names: tuple[str, ...], status: int
) -> None:
    """R316: Where a registration names nobody, the address it gives must be among the certificate's IP addresses, else 503."""
    backend = make_backend(credential=backend_ca.issue_server(*names))
    assert ask(backend) == status
    assert len(backend.received) == (1 if status == 200 else 0)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_router_shows_its_own_certificate(
    ask: Ask, make_backend: Callable[..., EchoBackend], backend_ca: CA, own: Credential, version: ssl.TLSVersion
) -> None:
    """R316: A backend that asks gets the router's client certificate (`backends.cert_chain`), never a caller's."""
    backend = make_backend(credential=backend_ca.issue_server(NAME), client_ca=authority("router's own"), tls_maximum=version)
    assert ask(backend, server_cert_domain_san=NAME) == 200
    assert backend.last.peer_der == own.der


def test_the_systems_authorities_and_the_callers_do_not_count(
    ask: Ask, make_backend: Callable[..., EchoBackend], east_ca: CA
) -> None:
    """R316: An authority for callers says nothing about backends: 526."""
    backend = make_backend(credential=east_ca.issue_server(NAME))
    assert ask(backend, server_cert_domain_san=NAME) == 526


def test_verification_can_be_switched_off(
    nats_server: NatsServer,
    make_router: Callable[..., RouterProcess],
    make_registrar: Callable[..., Registrar],
    make_backend: Callable[..., EchoBackend],
) -> None:
    """R316: `skip_ssl_validation: true` serves a backend of any certificate and any name."""
    router = make_router(skip_ssl_validation=True)
    backend = make_backend(credential=authority("strangers").issue_server("another"))
    host = unique_host("open.example")
    make_registrar(nats_server, router).register(host, backend=backend, server_cert_domain_san=NAME)
    with Client(router.port) as client:
        assert client.request(host).status == 200
