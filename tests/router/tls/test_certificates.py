"""router/tls/certificates.py: pairs that can answer for a name, and which one does."""

import datetime as dt
import ipaddress
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from authz.domain import DomainTable
from router.tls.certificates import (
    CertificateTable,
    PrivateKey,
    ServerCertificate,
    fingerprint,
    name_matches,
    read_certificates,
    read_pair,
    read_server_certificate,
    subject_alternative_names,
)
from router.tls.contexts import ClientPolicy
from tests.router.tls.handshakes import domain_policy
from tests.support.certs import CA, authority, plain_name

SERVER = authority("server")
PAIR = SERVER.issue_server("One.Example", "*.two.example", "192.0.2.7")


def named(*names: str) -> ServerCertificate:
    return ServerCertificate((), cast("PrivateKey", None), names, "f" * 64)


def test_a_pair_knows_its_names_its_chain_and_its_end() -> None:
    """DNS names in lower case; `not_after` is the leaf's, in epoch seconds."""
    credential = CA("below", parent=SERVER).issue_server("A.example", not_after=dt.datetime(2040, 1, 2, tzinfo=dt.UTC))
    made = read_server_certificate(credential.chain_pem, credential.key_pem)
    assert made.names == ("a.example",)
    assert made.label == "a.example"
    assert [cert.serial_number for cert in made.chain] == [
        credential.certificate.serial_number,
        credential.intermediates[0].serial_number,
    ]
    assert made.not_after == dt.datetime(2040, 1, 2, tzinfo=dt.UTC).timestamp()


def test_a_pair_for_an_address_alone_is_labelled_by_its_fingerprint() -> None:
    """An IP SAN is a name to answer for too."""
    credential = SERVER.issue_server("192.0.2.7")
    made = read_server_certificate(credential.chain_pem, credential.key_pem)
    assert made.names == ()
    assert fingerprint(made.chain)[:16] == made.label


def other_key(key: PrivateKey | x25519.X25519PrivateKey, encryption: bool = False) -> str:
    how = BestAvailableEncryption(b"secret") if encryption else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()


@pytest.mark.parametrize(
    ("chain", "key", "why"),
    [
        ("", PAIR.key_pem, "no PEM certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", PAIR.key_pem, "no PEM certificate"),
        (PAIR.key_pem, PAIR.key_pem, "no PEM certificate"),
        (PAIR.chain_pem, "", "not an unencrypted PEM key"),
        (PAIR.chain_pem, "not a key", "not an unencrypted PEM key"),
        (PAIR.chain_pem, other_key(PAIR.key, encryption=True), "not an unencrypted PEM key"),
        (PAIR.chain_pem, other_key(x25519.X25519PrivateKey.generate()), "cannot sign"),
        (PAIR.chain_pem, other_key(ed25519.Ed25519PrivateKey.generate()), "does not belong"),
        (PAIR.chain_pem, other_key(rsa.generate_private_key(65537, 1024)), "does not belong"),
        (SERVER.pem + PAIR.chain_pem, PAIR.key_pem, "does not belong"),
    ],
    ids=["none", "broken", "a key", "no key", "no PEM", "encrypted", "key agreement", "another type", "another key", "order"],
)
def test_a_pair_that_does_not_fit_says_which_part_is_wrong(chain: str, key: str, why: str) -> None:
    """ValueError without a byte of the key."""
    with pytest.raises(ValueError, match=why) as raised:
        read_pair(chain, key)
    assert not any(line and line in str(raised.value) for line in key.splitlines() if line != "not a key")


def test_a_certificate_without_names_answers_for_none() -> None:
    """A common name is not a name (RFC 9110 section 4.3.4)."""
    bare = SERVER.issue(plain_name("bare.example"))
    with pytest.raises(ValueError, match="no subject alternative name"):
        read_server_certificate(bare.chain_pem, bare.key_pem)
    assert read_pair(bare.chain_pem, bare.key_pem)[0][0] == bare.certificate


def test_names_and_addresses_are_told_apart() -> None:
    """An address among the DNS names is a name, never an address."""
    assert subject_alternative_names(PAIR.certificate) == (("one.example", "*.two.example"), ("192.0.2.7",))
    san = [x509.DNSName("192.0.2.7"), x509.IPAddress(ipaddress.ip_address("2001:db8::1"))]
    odd = SERVER.issue(plain_name("x"), san=san).certificate
    assert subject_alternative_names(odd) == (("192.0.2.7",), ("2001:db8::1",))
    assert subject_alternative_names(SERVER.issue(plain_name("x")).certificate) == ((), ())


def test_several_certificates_are_read_in_order() -> None:
    """A bundle of authorities."""
    other = authority("other server")
    assert read_certificates(SERVER.pem + other.pem) == (SERVER.certificate, other.certificate)
    assert fingerprint([SERVER.certificate, other.certificate]) != fingerprint([other.certificate, SERVER.certificate])


@pytest.mark.parametrize(
    ("pattern", "name", "covers"),
    [
        ("a.example", "a.example", True),
        ("a.example", "b.a.example", False),
        ("*.example", "a.example", True),
        ("*.example", "b.a.example", False),
        ("*.example", "example", False),
        ("*.example", ".example", True),
        ("*", "a", False),
        ("a*.example", "ab.example", False),
        ("*.*.example", "a.b.example", False),
    ],
)
def test_a_wildcard_stands_for_exactly_one_leftmost_label(pattern: str, name: str, covers: bool) -> None:
    """RFC 6125 section 6.4.3, its strictest reading."""
    assert covers == name_matches(pattern, name)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        (None, 0),
        ("unknown.example", 0),
        ("a.example", 1),
        ("b.wild.example", 2),
        ("exact.wild.example", 3),
        ("c.b.wild.example", 0),
        ("wild.example", 0),
        ("twice.example", 1),
    ],
)
def test_the_most_exact_certificate_answers(name: str | None, index: int) -> None:
    """Exact before wildcard, the first of two that claim the same, the first of all for the rest."""
    table = CertificateTable(
        [
            named("default.example"),
            named("a.example", "twice.example"),
            named("*.wild.example"),
            named("exact.wild.example", "twice.example"),
        ]
    )
    assert index == table.choose(name)


LABEL = st.sampled_from(["a", "b", "c"])
HOST = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
PATTERN = st.one_of(HOST, HOST.map("*.".__add__))


@given(st.lists(st.lists(PATTERN, max_size=3), min_size=1, max_size=4), st.lists(PATTERN, unique=True, max_size=3), HOST)
def test_a_context_is_built_for_every_certificate_that_can_answer_in_a_domain(
    certificates: list[list[str]], patterns: list[str], host: str
) -> None:
    """No server name, whatever it is, finds a (domain, certificate) pair that no context was built for."""
    table = CertificateTable(named(*names) for names in certificates)
    domain = DomainTable(domain_policy(pattern, ClientPolicy()) for pattern in patterns).claim(host)
    if domain is not None:
        assert table.choose(host) in table.may_answer(domain.pattern)
    assert 0 in table.may_answer("*.unknown")


@pytest.mark.parametrize(
    ("name", "bears"),
    [
        ("a.example", True),
        ("x.b.example", True),
        ("b.example", False),
        ("x.y.b.example", False),
        ("c.example", False),
        ("", False),
    ],
)
def test_a_name_is_borne_by_a_certificate_or_by_none(name: str, bears: bool) -> None:
    """K43: the default stands in for a name on GoRouter's port only."""
    assert CertificateTable([named("a.example"), named("*.b.example")]).bears(name) is bears


def test_without_a_certificate_nothing_can_answer() -> None:
    """A domain may be configured before there is a TLS listener."""
    assert CertificateTable(()).may_answer("*.apps.example") == set()
