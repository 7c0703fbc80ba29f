"""Attack 83: a reload finds a certificate whose key is another one's, or that is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.conftest import EAST, OPEN, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential, authority
from tests.support.client import Alert, Client, Tls, expect_alert, get
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain, server_credential, tls_pem

OTHER = authority("server").issue_server("localhost", f"*.{OPEN}")
BROKEN: dict[str, Callable[[Credential, Credential], dict[str, str]]] = {
    "key of another": lambda one, two: {"cert_chain": one.chain_pem, "private_key": two.key_pem},
    "no key": lambda one, two: {"cert_chain": one.chain_pem, "private_key": "no key"},
    "no certificate": lambda one, two: {"cert_chain": "no certificate", "private_key": two.key_pem},
    "an empty certificate": lambda one, two: {"cert_chain": "", "private_key": two.key_pem},
    "a certificate cut short": lambda one, two: {"cert_chain": one.chain_pem[:300], "private_key": one.key_pem},
}


@pytest.fixture
def router(make_router: MakeRouter, east_ca: CA) -> RouterProcess:
    return make_router(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)])


@pytest.fixture
def host(router: RouterProcess, nats_server: NatsServer, backend: EchoBackend, make_registrar: Callable[..., Registrar]) -> str:
    name = unique_host(OPEN)
    make_registrar(nats_server, router).register(name, backend=backend)
    return name


def shown(router: RouterProcess, name: str) -> x509.Certificate:
    with Client(router.ssl_port, Tls(name)) as client:
        return client.server_certificate


@pytest.mark.parametrize("entry", BROKEN.values(), ids=BROKEN)
def test_the_old_pair_is_kept_and_the_error_is_seen(router: RouterProcess, host: str, entry: Callable[..., Any]) -> None:
    """Attack 83: old pair and old configuration serve on, config_reloads counts an error, the log names the key's place."""
    own = server_credential()
    with Client(router.ssl_port, Tls(host)) as client:
        assert client.request(host).status == 200
        assert router.reload(tls_pem=[tls_pem(own), entry(OTHER, own)]) == {'result="error"': 1}
        assert client.request(host).status == 200
    assert shown(router, host) == own.certificate
    problem = router.wait_for_event("config-problem")
    assert "tls_pem[1]" in problem
    assert '"log_level":3' in problem
    assert "PRIVATE KEY" not in "".join(router.events)
    router.wait_for_event("config-reload-failed")
    assert get(router.ssl_port, host, tls=Tls()).status == 200


def test_the_next_good_pair_is_taken(router: RouterProcess, host: str) -> None:
    """Attack 83: after the failure a reload with a matching pair shows the new certificate to new connections."""
    own = server_credential()
    with Client(router.ssl_port, Tls(host)) as client:
        assert client.request(host).status == 200
        router.reload(tls_pem=[BROKEN["key of another"](OTHER, own)])
        assert router.reload(tls_pem=[tls_pem(OTHER)]) == {'result="ok"': 1}
        assert client.request(host).status == 200
        assert client.server_certificate == own.certificate
    assert shown(router, host) == OTHER.certificate


def test_a_file_that_changed_under_its_key_is_refused(router: RouterProcess, host: str, tmp_path: Path) -> None:
    """Attack 83: certificates named by path: a rotation that replaced only the certificate's file keeps the old pair."""
    own = server_credential()
    chain, key = own.files(tmp_path)
    assert router.reload(tls_pem=[{"cert_chain": str(chain), "private_key": str(key)}]) == {'result="ok"': 1}
    chain.write_text(OTHER.chain_pem)
    assert router.reload() == {'result="error"': 1}
    assert shown(router, host) == own.certificate
    key.write_text(OTHER.key_pem)
    assert router.reload() == {'result="ok"': 1}
    assert shown(router, host) == OTHER.certificate


def test_a_broken_authority_keeps_the_old_one_in_force(router: RouterProcess, host: str, west_ca: CA) -> None:
    """Attack 83: a bad ca_certs of an mTLS domain keeps the domain's old authorities: nobody new gets in, nobody is let go."""
    bad = {**mtls_domain(f"*.{EAST}", west_ca), "ca_certs": "no certificate"}
    assert router.reload(mtls_domains=[bad]) == {'result="error"': 1}
    name = f"x.{EAST}"
    assert expect_alert(router.ssl_port, Tls(name)) == Alert.CERTIFICATE_REQUIRED
    assert expect_alert(router.ssl_port, Tls(name, credential=west_ca.issue_instance("app-1"))) == Alert.UNKNOWN_CA
    assert "mtls_domains[0]" in router.wait_for_event("config-problem")
