"""Router to backend: who the backend must be, and who the router says it is."""

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.behaviour.conftest import ANY, json_log
from tests.behaviour.place import Place, make_place
from tests.support.backend import EchoBackend
from tests.support.certs import CA, CLIENT_ONLY, Credential, authority, plain_name
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import RouterProcess, mtls_domain, wait_until

ANYBODY = {"mtls_allow_any": True}
MakeBackend = Callable[..., EchoBackend]


@pytest.fixture(scope="module")
def backends_ca() -> CA:
    return authority("backends")


@pytest.fixture(scope="module")
def routers_own() -> Credential:
    """The certificate that the router shows to backends."""
    return authority("routers").issue(plain_name("router"), eku=CLIENT_ONLY)


@pytest.fixture(scope="module")
def settings(backends_ca: CA, routers_own: Credential, east_ca: CA) -> dict[str, Any]:
    return {
        "mtls_domains": [mtls_domain(ANY, east_ca)],
        "ca_certs": [backends_ca.pem],
        "backends": {"cert_chain": routers_own.chain_pem, "private_key": routers_own.key_pem},
    }


@pytest.fixture(scope="module")
def verifying(
    nats_server: NatsServer, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RouterProcess]:
    directory = tmp_path_factory.mktemp("verifying")
    with RouterProcess(directory, nats=nats_server, access_log=json_log(directory), **settings) as process:
        yield process


@pytest.fixture
def place(verifying: RouterProcess, nats_server: NatsServer) -> Iterator[Place]:
    with Registrar(nats_server.port, verifying) as registrar:
        made = make_place(verifying, registrar, ANY)
        yield made
        made.leave()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def test_an_allowed_request_goes_on_over_mutual_tls(
    place: Place, make_backend: MakeBackend, backends_ca: CA, routers_own: Credential, alice: Credential, version: ssl.TLSVersion
) -> None:
    """R316: to a backend that demands one the router shows its own certificate, not the caller's, who is in the header."""
    backend = make_backend(credential=backends_ca.issue_server("instance-1"), client_ca=authority("routers"), tls_maximum=version)
    place.register(ANYBODY, backend=backend, server_cert_domain_san="instance-1")
    call = place.call(alice)
    call.assert_allowed("route:mtls_allow_any")
    assert call.at_backend.peer_der == routers_own.der
    assert "OU=app:app-a" in (call.at_backend.get("x-forwarded-client-cert") or "")


def test_a_denied_request_dials_nobody(place: Place, make_backend: MakeBackend, backends_ca: CA, alice: Credential) -> None:
    """R316: 403 Forbidden before the backend is so much as connected to."""
    backend = make_backend(credential=backends_ca.issue_server("instance-1"))
    place.register({"mtls_allowed_apps": "g1"}, backend=backend, server_cert_domain_san="instance-1")
    place.call(alice).assert_denied("route:mtls_allowed_apps", "caller app app-a not in mtls_allowed_apps")
    assert backend.connections == 0


@pytest.mark.parametrize("san", ["instance-1", None])
def test_a_backend_is_known_by_its_name_or_its_address(
    place: Place, make_backend: MakeBackend, backends_ca: CA, alice: Credential, san: str | None
) -> None:
    """Decision 11: `server_cert_domain_san` among the DNS SANs, or without one the address among the IP SANs."""
    backend = make_backend(credential=backends_ca.issue_server("instance-1", "127.0.0.1"))
    place.register(ANYBODY, backend=backend, server_cert_domain_san=san)
    place.call(alice).assert_allowed("route:mtls_allow_any")


@pytest.mark.parametrize(
    ("names", "san", "trusted", "status"),
    [
        (["instance-2"], "instance-1", True, 503),
        (["localhost"], None, True, 503),
        (["instance-1", "127.0.0.1"], "instance-1", False, 526),
    ],
    ids=["another-instance", "no-address", "another-authority"],
)
def test_a_backend_that_is_not_who_was_registered_gets_no_request_and_leaves_the_table(
    place: Place,
    make_backend: MakeBackend,
    backends_ca: CA,
    alice: Credential,
    names: list[str],
    san: str | None,
    trusted: bool,
    status: int,
) -> None:
    """Decision 11: wrong name or authority: refused, pruned, and not a byte of the request was sent."""
    issuer = backends_ca if trusted else authority("strangers")
    backend = make_backend(credential=issuer.issue_server(*names))
    place.register(ANYBODY, backend=backend, server_cert_domain_san=san)
    assert place.call(alice).response.status == status
    assert backend.received == []
    wait_until(lambda: place.host not in place.router.routes(), "the endpoint to be pruned")


def test_only_the_operator_can_switch_verification_off(place: Place, make_backend: MakeBackend, alice: Credential) -> None:
    """Decision 11: `skip_ssl_validation: true` sends to anybody, after a warning in the log."""
    backend = make_backend(credential=authority("strangers").issue_server("whoever"))
    try:
        place.router.reload(skip_ssl_validation=True)
        assert "backends' certificates are not verified" in place.router.wait_for_event('"skip_ssl_validation"')
        place.register(ANYBODY, backend=backend, server_cert_domain_san="instance-1")
        place.call(alice).assert_allowed("route:mtls_allow_any")
    finally:
        place.router.reload(skip_ssl_validation=False)
    assert place.call(alice).response.status == 526


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def test_a_backend_that_refuses_the_routers_certificate_says_so(
    place: Place, make_backend: MakeBackend, backends_ca: CA, alice: Credential, version: ssl.TLSVersion
) -> None:
    """R316: a backend that trusts other routers only: 496, and no request.

    In TLS 1.3 its verdict comes after the handshake, and a reset right behind it may hide it from us: then 502, and we ask again.
    """
    backend = make_backend(
        credential=backends_ca.issue_server("instance-1"), client_ca=authority("other routers"), tls_maximum=version
    )
    place.register(ANYBODY, backend=backend, server_cert_domain_san="instance-1")
    statuses = (place.call(alice).response.status for _ in range(5))
    assert next(status for status in statuses if status != 502) == 496
    assert backend.received == []
