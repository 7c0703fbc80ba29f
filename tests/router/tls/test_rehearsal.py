"""router/tls/rehearsal.py: what it says of a certificate is what a real handshake makes of it."""

import datetime as dt
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from router.tls.contexts import ClientPolicy
from router.tls.rehearsal import MAX_CHAIN_BYTES, Rehearsed, rehearse
from router.tls.session import REASONS
from tests.router.tls.handshakes import caller, context_of, require, shake
from tests.support.certs import CA, EMAIL_ONLY, SERVER_ONLY, Credential, authority
from tests.support.client import Tls

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
ROOT = authority("instances")
MIDDLE = CA("middle", parent=ROOT)
SHORT = CA("short", parent=ROOT, path_length=0)
NARROW = CA("narrow", parent=ROOT, name_constraints=x509.NameConstraints([x509.DNSName("only.example")], None))
LEAF = caller()
ANCHOR = require(ROOT.certificate)


def crls(*texts: str) -> tuple[x509.CertificateRevocationList, ...]:
    return tuple(x509.load_pem_x509_crl(text.encode()) for text in texts)


def chain_of(credential: Credential | None) -> list[bytes]:
    if credential is None:
        return []
    return [credential.der, *(one.public_bytes(Encoding.DER) for one in credential.intermediates)]


def tampered(credential: Credential) -> Credential:
    """The same certificate with one bit of its signature changed."""
    der = bytearray(credential.der)
    der[-1] ^= 1
    return Credential(x509.load_der_x509_certificate(bytes(der)), credential.key, credential.intermediates)


CASES = {
    "good": (ANCHOR, LEAF),
    "below an intermediate": (ANCHOR, MIDDLE.issue_instance("a")),
    "without its intermediate": (ANCHOR, replace(MIDDLE.issue_instance("a"), intermediates=())),
    "intermediate anchor": (require(MIDDLE.certificate), MIDDLE.issue_instance("a")),
    "a leaf as anchor": (require(LEAF.certificate), LEAF),
    "expired": (ANCHOR, caller(not_before=NOW - 2 * DAY, not_after=NOW - DAY)),
    "not yet valid": (ANCHOR, caller(not_before=NOW + DAY, not_after=NOW + 2 * DAY)),
    "unknown authority": (ANCHOR, caller("strangers")),
    "signature": (ANCHOR, tampered(LEAF)),
    "path length": (ANCHOR, CA("low", parent=SHORT).issue_instance("a")),
    "for servers": (ANCHOR, caller(eku=SERVER_ONLY)),
    "for mail": (ANCHOR, caller(eku=EMAIL_ONLY)),
    "name constraint": (ANCHOR, NARROW.issue_instance("a", san=[x509.DNSName("x.example")])),
    "an authority's own": (ANCHOR, ROOT.issue(x509.Name([]), authority=True)),
    "revoked": (require(ROOT.certificate, crls=crls(ROOT.crl([LEAF]))), LEAF),
    "on a good CRL": (require(ROOT.certificate, crls=crls(ROOT.crl())), LEAF),
    "no CRL": (require(ROOT.certificate, crls=()), LEAF),
    "old CRL": (require(ROOT.certificate, crls=crls(ROOT.crl(next_update=NOW - dt.timedelta(minutes=1)))), LEAF),
    "intermediate anchor with its CRL": (require(MIDDLE.certificate, crls=crls(MIDDLE.crl())), MIDDLE.issue_instance("a")),
    "no certificate": (ANCHOR, None),
    "none requested, stranger": (ClientPolicy(), caller("strangers")),
    "requested, none": (ClientPolicy("request", (ROOT.certificate,)), None),
    "requested, stranger": (ClientPolicy("request", (ROOT.certificate,)), caller("strangers")),
}


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION], ids=["1.2", "1.3"])
@pytest.mark.parametrize("name", CASES)
async def test_a_rehearsal_ends_as_the_handshake_does(name: str, version: int) -> None:
    """Reason and alert are those that log and client would get; only no certificate at all has another alert in TLS 1.2."""
    policy, credential = CASES[name]
    outcome = await shake(context_of(policy), Tls(credential=credential, maximum=version))
    rehearsed = rehearse(policy, chain_of(credential))
    alert = 116 if outcome.reason == "no_certificate" else outcome.alert
    assert Rehearsed(outcome.reason, alert) == rehearsed
    assert rehearsed.ok == outcome.answered


def test_the_alert_has_its_name() -> None:
    """As RFC 8446, section 6.2 spells it."""
    assert rehearse(ANCHOR, chain_of(CASES["expired"][1])).alert_name == "certificate_expired"
    assert rehearse(ANCHOR, chain_of(LEAF)).alert_name == ""
    assert Rehearsed("other", 199).alert_name == "alert_199"


@pytest.mark.parametrize(
    "chain", [[b""], [b"\x30\x00"], [b"x" * 40_000], [LEAF.der, b"junk"], [LEAF.der[:-1]], [LEAF.der + b"x"]]
)
def test_bytes_that_are_no_certificate_are_refused(chain: list[bytes]) -> None:
    """With an alert and a bounded reason, and never by raising."""
    rehearsed = rehearse(ANCHOR, chain)
    assert rehearsed.reason in REASONS
    assert rehearsed.alert is not None


def test_a_chain_is_bounded_as_openssl_bounds_it() -> None:
    """Long ones come in several records; too long ones are refused."""
    padding = [MIDDLE.certificate.public_bytes(Encoding.DER)] * 60
    assert rehearse(ANCHOR, [LEAF.der, *padding]).ok
    assert rehearse(ANCHOR, [LEAF.der, *padding * 10]) == Rehearsed("other", 47)
    assert sum(map(len, padding * 10)) > MAX_CHAIN_BYTES
