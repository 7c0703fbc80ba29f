"""X-Forwarded-Client-Cert: three modes and two formats, on mTLS domains and on the rest."""

import base64
import hashlib

import pytest

from tests.behaviour.conftest import ALWAYS, ANY, FORWARD, LATER, OPEN, PARTNER, RAW, At
from tests.support.certs import CA, Credential

XFCC = "x-forwarded-client-cert"
FORGED = ("X-Forwarded-Client-Cert", 'Hash=00;Subject="CN=x,OU=app:app-z"')
ANYBODY = {"mtls_allow_any": True}


def raw(caller: Credential) -> str:
    return base64.b64encode(caller.der).decode()


def envoy(caller: Credential, subject: str) -> str:
    return f'Hash={hashlib.sha256(caller.der).hexdigest()};Subject="{subject}"'


def test_the_envoy_format_is_hash_and_subject_as_gorouter_writes_them(at: At, east_ca: CA) -> None:
    """R313: `envoy`: lower-case SHA-256 of the certificate and the subject, CN first, OUs in the certificate's order."""
    caller = east_ca.issue_instance("app-a", "space-1", "org-1", multi_valued=False, instance="i-1")
    call = at(ANY, ANYBODY).call(caller)
    assert call.at_backend.get(XFCC) == envoy(caller, "CN=i-1,OU=organization:org-1,OU=space:space-1,OU=app:app-a")


def test_the_raw_format_is_the_certificate_in_base64(at: At, alice: Credential) -> None:
    """R313: `raw`: the leaf's DER in base64 on one line."""
    assert at(RAW, ANYBODY).call(alice).at_backend.get(XFCC) == raw(alice)


def test_raw_and_sanitize_set_are_the_defaults(at: At, partner_ca: CA) -> None:
    """R310, R312, R313: an entry with nothing but `domain` and `ca_certs` strips what comes and sets the raw certificate."""
    device = partner_ca.issue_instance("device")
    assert at(PARTNER).call(device, headers=[FORGED]).at_backend.get(XFCC) == raw(device)


@pytest.mark.parametrize("domain", [ANY, LATER])
def test_sanitize_set_replaces_every_spelling_of_what_the_client_sent(at: At, alice: Credential, domain: str) -> None:
    """R312: one header arrives, ours, whatever the client wrote and however often."""
    names = ["X-Forwarded-Client-Cert", "x-forwarded-client-cert", "X_Forwarded_Client_Cert", "X-Forwarded-Client_Cert"]
    received = (
        at(domain, ANYBODY if domain == ANY else None).call(alice, headers=[(name, FORGED[1]) for name in names]).at_backend
    )
    assert (received.get(XFCC) or "").startswith(f"Hash={hashlib.sha256(alice.der).hexdigest()};")
    assert FORGED[1].encode() not in received.head


def test_forward_keeps_what_a_client_with_a_certificate_sent(at: At, alice: Credential) -> None:
    """R312: `forward`: the incoming header stays as it is, and none is added where there was none."""
    place = at(FORWARD)
    assert place.call(alice, headers=[FORGED]).at_backend.all(XFCC) == [FORGED[1]]
    assert place.call(alice).at_backend.all(XFCC) == []


def test_always_forward_keeps_it_too(at: At, alice: Credential) -> None:
    """R312: `always_forward`: the header is the client's word, whatever it is."""
    place = at(ALWAYS)
    assert place.call(alice, headers=[FORGED, FORGED]).at_backend.all(XFCC) == [FORGED[1]] * 2
    assert place.call(alice).at_backend.all(XFCC) == []


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "tls"])
def test_outside_mtls_domains_nobody_can_write_it(at: At, plain: bool) -> None:
    """R312, decision 9: the global default is sanitize_set: without a verified certificate the header is removed."""
    assert at(OPEN).call(plain=plain, headers=[FORGED]).at_backend.all(XFCC) == []


def test_the_header_never_gives_an_identity(at: At, nameless: Credential, carol: Credential) -> None:
    """R253, decision 5: identity comes from the certificate alone: a forged header admits nobody, in any mode."""
    forged = [("X-Forwarded-Client-Cert", 'Hash=00;Subject="CN=x,OU=app:app-a,OU=org:org-1"')]
    place = at(ANY, {"mtls_allowed_apps": "app-a"})
    assert place.call(nameless, headers=forged).response.status == 403
    assert place.call(carol, headers=forged).response.status == 403
    policy = {"route_policy_scope": "any", "route_policy_sources": "cf:app:app-a"}
    for domain in (FORWARD, ALWAYS):
        call = at(domain, policy).call(carol, headers=forged)
        call.assert_denied("route:route_policies", "caller app app-c not in route_policies")


def test_a_connection_header_cannot_remove_it(at: At, alice: Credential) -> None:
    """R249, decision 9: `Connection: X-Forwarded-Client-Cert` takes nothing away."""
    call = at(ANY, ANYBODY).call(alice, headers=[("Connection", "X-Forwarded-Client-Cert")])
    assert len(call.at_backend.all(XFCC)) == 1


@pytest.mark.parametrize("name", ["Client-Cert", "Client-Cert-Chain", "X-SSL-Client-Cert", "X-Client-Cert", "SSL_CLIENT_CERT"])
def test_other_routers_certificate_headers_are_removed(at: At, alice: Credential, name: str) -> None:
    """R249, decision 9: no backend is led to believe another header than ours."""
    call = at(ANY, ANYBODY).call(alice, headers=[(name, "forged-value")])
    assert b"forged-value" not in call.at_backend.head


def test_a_subject_with_special_characters_stays_one_line_and_one_subject(at: At, east_ca: CA) -> None:
    """R313: quotes, commas and controls of a subject are escaped; they neither end the value nor name another app."""
    caller = east_ca.issue_instance("app-a", instance='x",OU=app:app-z;Hash=00')
    value = at(ANY, ANYBODY).call(caller).at_backend.get(XFCC) or ""
    assert value.count('"') == 2
    assert "OU=app:app-z" not in value
    assert value.endswith(',OU=app:app-a"')
