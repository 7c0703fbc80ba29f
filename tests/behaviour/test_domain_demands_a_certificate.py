"""A domain of mtls_domains demands a certificate of its own authority in the handshake; the caller is told on to the app."""

import hashlib
from pathlib import Path

import pytest
from OpenSSL import SSL

from tests.behaviour.conftest import ANY, EXACT, PARTNER, WEST, At
from tests.support.certs import CA, Credential
from tests.support.client import Alert, Client, Tls, curl, expect_alert, render_request

VERSIONS = [
    pytest.param(SSL.TLS1_2_VERSION, Alert.HANDSHAKE_FAILURE, id="tls12"),
    pytest.param(SSL.TLS1_3_VERSION, Alert.CERTIFICATE_REQUIRED, id="tls13"),
]
ANYBODY = {"mtls_allow_any": True}


@pytest.mark.parametrize(("version", "alert"), VERSIONS)
@pytest.mark.parametrize("domain", [ANY, EXACT, PARTNER])
def test_without_a_certificate_the_handshake_fails(at: At, domain: str, version: int, alert: int) -> None:
    """R244, R315: refused in the handshake with an alert the client can read, counted by domain; no request is answered."""
    place = at(domain, ANYBODY)
    reason = "no_certificate"
    before = place.router.metric("tls_handshakes", domain=domain, result=reason)
    request = render_request(place.host)
    assert expect_alert(place.router.ssl_port, Tls(place.host, minimum=version, maximum=version), request) == alert
    assert place.router.metric("tls_handshakes", domain=domain, result=reason) == before + 1
    assert place.backends[0].received == []


def test_plain_http_is_misdirected(at: At) -> None:
    """R244, decision 3: without TLS there is no certificate: 421, empty, and no backend sees it."""
    place = at(ANY, ANYBODY)
    before = place.router.metric("mtls_misdirected", domain=ANY)
    call = place.call(plain=True)
    assert call.refusal == (421, "mtls_domain_mismatch", b"")
    assert call.received == []
    assert place.router.metric("mtls_misdirected", domain=ANY) == before + 1


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION], ids=["tls12", "tls13"])
def test_a_certificate_of_the_domains_authority_is_accepted(at: At, alice: Credential, version: int) -> None:
    """R245: the handshake succeeds and is counted, and the request arrives."""
    place = at(ANY, ANYBODY)
    before = place.router.metric("tls_handshakes", domain=ANY, result="ok")
    with Client(place.router.ssl_port, Tls(place.host, alice, minimum=version, maximum=version)) as client:
        place.ask(client).assert_allowed("route:mtls_allow_any")
    assert place.router.metric("tls_handshakes", domain=ANY, result="ok") == before + 1


@pytest.mark.parametrize("domain", [ANY, EXACT])
def test_a_certificate_of_another_authority_is_refused(at: At, west_ca_caller: Credential, domain: str) -> None:
    """R245: another domain's authority is nobody here: alert unknown_ca, counted."""
    place = at(domain, ANYBODY)
    before = place.router.metric("tls_handshakes", domain=domain, result="unknown_ca")
    assert expect_alert(place.router.ssl_port, Tls(place.host, west_ca_caller)) == Alert.UNKNOWN_CA
    assert place.router.metric("tls_handshakes", domain=domain, result="unknown_ca") == before + 1
    assert place.backends[0].received == []


def test_exactly_the_domains_authorities_are_named_as_acceptable(at: At, east_ca: CA, west_ca: CA, alice: Credential) -> None:
    """R245, R278: the handshake asks for certificates of that domain's authority and of no other."""
    for domain, ca, other in ((ANY, east_ca, west_ca), (WEST, west_ca, east_ca)):
        place = at(domain, ANYBODY)
        with Client(place.router.ssl_port, Tls(place.host, ca.issue_instance("app-a"), maximum=SSL.TLS1_2_VERSION)) as client:
            assert client.tls is not None
            names = [name.CN for name in client.tls.get_client_ca_list()]
        assert names == [ca.name.rfc4514_string().removeprefix("CN=")]
        assert other.name.rfc4514_string() not in names


@pytest.mark.parametrize("depth", ["x", "x.y", "x.y.z"])
def test_a_wildcard_domain_claims_hosts_at_any_depth(at: At, depth: str) -> None:
    """R311, decision 2: a host any number of labels below `*.suffix` cannot fall out of mutual TLS."""
    router = at(ANY, ANYBODY).router
    host = f"{depth}.{ANY[2:]}"
    assert expect_alert(router.ssl_port, Tls(host), render_request(host)) == Alert.CERTIFICATE_REQUIRED


def test_an_exact_domain_is_that_host_alone(at: At, alice: Credential) -> None:
    """R311: `exact.test` claims itself; what stands below it is another host, and open."""
    place = at(EXACT, ANYBODY)
    place.call(alice).assert_allowed("route:mtls_allow_any")
    place.registrar.register(f"below.{EXACT}", backend=place.backends[0])
    assert place.call(sni=f"below.{EXACT}", host=f"below.{EXACT}").response.status == 200


def test_the_bare_suffix_is_not_claimed(at: At) -> None:
    """R311, decision 2, K6: `*.any.test` does not claim `any.test` (`check` warns of it)."""
    place = at(ANY[2:])
    assert place.call().response.status == 200


def test_the_identity_is_forwarded_and_the_backend_may_judge_it(at: At, partner_ca: CA) -> None:
    """R247, R249: a partner's certificate, no authorization in the router: validated, forwarded, judged by the app."""
    device = partner_ca.issue_instance(extra_ous=["meters"], instance="device-7")
    call = at(PARTNER).call(device)
    assert call.response.status == 200
    value = call.at_backend.get("x-forwarded-client-cert") or ""
    assert value == "".join(device.chain_pem.split("-----")[2].split())


def test_the_xfcc_header_names_the_caller_of_each_connection(at: At, alice: Credential, bob: Credential) -> None:
    """R249: X-Forwarded-Client-Cert is made from the certificate of the connection the request came on."""
    place = at(ANY, ANYBODY)
    for caller in (alice, bob, alice):
        value = place.call(caller).at_backend.get("x-forwarded-client-cert") or ""
        assert value.startswith(f"Hash={hashlib.sha256(caller.der).hexdigest()};")


def test_a_common_client_needs_nothing_special(at: At, alice: Credential) -> None:
    """R244, R245: curl with --cert gets in, without it reports the refused handshake."""
    place = at(ANY, ANYBODY)
    chain, key = alice.files()
    url = f"https://{place.host}:{place.router.ssl_port}/"
    common = ["--insecure", "--noproxy", "*", "--resolve", f"{place.host}:{place.router.ssl_port}:127.0.0.1", url]
    assert curl("--cert", str(chain), "--key", str(key), *common).status == 200
    refused = curl(*common)
    assert (refused.status, refused.exit_status in (35, 52, 55, 56)) == (0, True)


def test_no_further_process_is_needed(at: At, alice: Credential) -> None:
    """R248: the router alone does it all: it has no child process but its workers, and one port serves every domain."""
    place = at(ANY, ANYBODY)
    place.call(alice).assert_allowed("route:mtls_allow_any")
    children = Path(f"/proc/{place.router.pid}/task/{place.router.pid}/children").read_text().split()
    assert len(children) <= (place.router.width + 1 if place.router.config.get("workers") else 0)


def test_the_first_door_alone_is_for_partners_and_never_for_apps(at: At, partner_ca: CA, alice: Credential) -> None:
    """R319: both doors come together: between apps a valid certificate opens nothing by itself; to partners it is enough."""
    assert at(PARTNER).call(partner_ca.issue_instance(instance="device")).response.status == 200
    for domain in (ANY, EXACT):
        at(domain).call(alice).assert_denied("route:no_mtls_allowed_options", "route has no mtls_allowed_* options configured")
