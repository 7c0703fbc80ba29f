"""Attacks 18 to 23: client certificates that must not open a strict domain, and their innocent neighbours that must.

One router with a domain for each state of revocation. Every refusal is asserted by its alert, over TLS 1.2 and 1.3, by the
counted reason, and by a backend that saw nothing. Where OpenSSL has no number for what we refuse, its alert is internal_error:
pyOpenSSL gives a verify callback no way to name another.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL

from tests.attacks.forgery import as_authority, impostor, leaf, self_signed
from tests.conftest import MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import CA, CLIENT_ONLY, EMAIL_ONLY, SERVER_ONLY, Credential, name_of, plain_name
from tests.support.client import Alert, Client, Tls, expect_alert, get, render_request
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain, server_credential, tls_pem, wait_until

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
INTERNAL_ERROR, DECRYPT_ERROR = 80, 51

east = CA("east")
west = CA("west")
one_level = CA("one level", path_length=0)
only_ok = CA("only ok", name_constraints=x509.NameConstraints([x509.DNSName("ok.example")], None))
never_bad = CA("never bad", name_constraints=x509.NameConstraints(None, [x509.DNSName("bad.example")]))
middle = CA("middle", east)
leaf_only = CA("leaf only", east, path_length=0)
constrained = CA("constrained", east, name_constraints=x509.NameConstraints([x509.DNSName("ok.example")], None))

good = east.issue_instance("app-good", "space-1", "org-1")
revoked = east.issue_instance("app-revoked", "space-1", "org-1")
ANCHORS = "".join(ca.pem for ca in (east, one_level, only_ok, never_bad))

DOMAINS: dict[str, dict[str, Any]] = {
    "plain": {},
    "listed": {"crls": [east.crl([revoked])]},
    "stale": {"crls": [east.crl([], last_update=NOW - 3 * DAY, next_update=NOW - DAY)]},
    "early": {"crls": [east.crl([], last_update=NOW + DAY, next_update=NOW + 2 * DAY)]},
    "foreign": {"crls": [west.crl([])]},
    "empty": {"crls": [east.crl([])]},
    "whole": {"crls": [east.crl([middle.certificate]), middle.crl([])]},
}


@pytest.fixture(scope="module")
def gate(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Gate"]:
    """The router with those domains, and one backend behind `app.<domain>.example` of each."""
    domains = [mtls_domain(f"*.{name}.example", ANCHORS if name == "plain" else east, **more) for name, more in DOMAINS.items()]
    process = RouterProcess(tmp_path_factory.mktemp("router"), nats=nats_server, mtls_domains=domains)
    with process as router, EchoBackend() as backend, Registrar(nats_server.port, router) as registrar:
        registrar.register(*(f"app.{name}.example" for name in DOMAINS), backend=backend, options={"mtls_allow_any": True})
        yield Gate(router, backend)


class Gate:
    """Asks as a client with this certificate, over both versions of TLS."""

    def __init__(self, router: RouterProcess, backend: EchoBackend) -> None:
        self.router = router
        self.backend = backend

    def refuses(self, domain: str, credential: Credential, alert: int, reason: str) -> None:
        host, before = f"app.{domain}.example", len(self.backend.received)
        labels = {"domain": f"*.{domain}.example", "result": reason}
        counted = self.router.metric("tls_handshakes", **labels)
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            tls = Tls(host, credential, minimum=version, maximum=version)
            assert expect_alert(self.router.ssl_port, tls, render_request(host)) == alert
        wait_until(lambda: self.router.metric("tls_handshakes", **labels) >= counted + 2, "the handshakes to be counted")
        assert self.router.metric("tls_handshakes", **labels) == counted + 2
        assert len(self.backend.received) == before

    def answers(self, domain: str, credential: Credential) -> list[int]:
        host = f"app.{domain}.example"
        versions = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)
        return [get(self.router.ssl_port, host, tls=Tls(host, credential, minimum=v, maximum=v)).status for v in versions]


def with_chain(credential: Credential, *issuers: x509.Certificate) -> Credential:
    return replace(credential, intermediates=issuers)


def test_the_right_authority_lets_in(gate: Gate) -> None:
    """Attack 18: the control: a leaf of the domain's authority passes, directly or over intermediates that it brings."""
    assert gate.answers("plain", good) == [200, 200]
    assert gate.answers("plain", CA("lower", middle).issue_instance("a")) == [200, 200]


identifiers = east.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
same_name = impostor(east)
same_everything = leaf(
    same_name,
    name_of([[(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "app:app-good")]]),
    x509.AuthorityKeyIdentifier(identifiers.digest, None, None),
)


@pytest.mark.parametrize(
    ("credential", "alert", "reason"),
    [
        pytest.param(west.issue_instance("app-good"), Alert.UNKNOWN_CA, "unknown_ca", id="foreign"),
        pytest.param(
            with_chain(west.issue_instance("a"), west.certificate), Alert.UNKNOWN_CA, "unknown_ca", id="brings-its-root"
        ),
        pytest.param(with_chain(west.issue_instance("a"), east.certificate), Alert.UNKNOWN_CA, "unknown_ca", id="brings-ours"),
        pytest.param(self_signed("x"), Alert.UNKNOWN_CA, "unknown_ca", id="self-signed"),
        pytest.param(CA("east").issue_instance("app-good"), Alert.UNKNOWN_CA, "unknown_ca", id="same-subject"),
        pytest.param(with_chain(middle.issue_instance("a")), Alert.UNKNOWN_CA, "unknown_ca", id="missing-intermediate"),
        pytest.param(same_everything, DECRYPT_ERROR, "bad_signature", id="same-subject-and-key-id"),
        pytest.param(
            with_chain(same_everything, same_name.certificate), DECRYPT_ERROR, "bad_signature", id="same-and-brings-its-root"
        ),
    ],
)
def test_no_other_authority_lets_in(gate: Gate, credential: Credential, alert: int, reason: str) -> None:
    """Attack 18: foreign, self-signed, or named and numbered like ours: unknown_ca, or decrypt_error for the false signature."""
    gate.refuses("plain", credential, alert, reason)


def test_the_system_roots_let_nobody_in(make_router: MakeRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 18: an authority that the machine trusts is none to a domain."""
    monkeypatch.setenv("SSL_CERT_FILE", str(west.file))
    router = make_router(mtls_domains=[mtls_domain("*.east.example", east)])
    assert expect_alert(router.ssl_port, Tls("x.east.example", west.issue_instance("a"))) == Alert.UNKNOWN_CA


@pytest.mark.parametrize(
    ("credential", "alert", "reason"),
    [
        (east.issue_instance("a", not_before=NOW - 2 * DAY, not_after=NOW - DAY), Alert.CERTIFICATE_EXPIRED, "expired"),
        (east.issue_instance("a", not_before=NOW + DAY, not_after=NOW + 2 * DAY), Alert.BAD_CERTIFICATE, "not_yet_valid"),
        (
            CA("old", east, not_before=NOW - 2 * DAY, not_after=NOW - DAY).issue_instance("a"),
            Alert.CERTIFICATE_EXPIRED,
            "expired",
        ),
    ],
    ids=["expired", "not-yet-valid", "expired-intermediate"],
)
def test_a_certificate_out_of_its_time_is_refused(gate: Gate, credential: Credential, alert: int, reason: str) -> None:
    """Attack 19: expired or not yet valid, the leaf or what signed it: certificate_expired, bad_certificate."""
    gate.refuses("plain", credential, alert, reason)


@pytest.mark.parametrize(
    ("domain", "credential", "alert", "reason"),
    [
        ("listed", revoked, Alert.CERTIFICATE_REVOKED, "revoked"),
        ("stale", good, Alert.CERTIFICATE_EXPIRED, "crl_stale"),
        ("early", good, Alert.BAD_CERTIFICATE, "crl_stale"),
        ("foreign", good, Alert.UNKNOWN_CA, "crl_missing"),
        ("listed", middle.issue_instance("a"), Alert.UNKNOWN_CA, "crl_missing"),
        ("whole", middle.issue_instance("a"), Alert.CERTIFICATE_REVOKED, "revoked"),
    ],
    ids=["revoked", "stale", "not-yet-valid", "list-of-another", "no-list-of-the-intermediate", "revoked-intermediate"],
)
def test_a_list_that_revokes_or_cannot_be_used_refuses(
    gate: Gate, domain: str, credential: Credential, alert: int, reason: str
) -> None:
    """Attack 19: revoked is certificate_revoked; a list that is missing, stale or early does not open the door."""
    gate.refuses(domain, credential, alert, reason)


def test_a_list_revokes_nobody_else(gate: Gate) -> None:
    """Attack 19: the control: who is not on the list passes, also where it is empty; without lists nobody is checked."""
    assert [gate.answers(domain, good) for domain in ("listed", "empty", "whole")] == [[200, 200]] * 3
    assert gate.answers("plain", revoked) == [200, 200]


@pytest.mark.parametrize(
    "usages",
    [
        SERVER_ONLY,
        EMAIL_ONLY,
        (ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.TIME_STAMPING),
        (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,),
    ],
    ids=["server", "e-mail", "code", "any"],
)
def test_a_certificate_for_another_purpose_is_refused(gate: Gate, usages: tuple[x509.ObjectIdentifier, ...]) -> None:
    """Attack 20: extended key usages without clientAuth: unsupported_certificate."""
    gate.refuses("plain", east.issue_instance("a", eku=usages), Alert.UNSUPPORTED_CERTIFICATE, "bad_purpose")


def test_a_certificate_for_clients_or_for_anything_passes(gate: Gate) -> None:
    """Attack 20: clientAuth, or no extended key usage at all, is accepted."""
    assert gate.answers("plain", east.issue_instance("a", eku=CLIENT_ONLY)) == [200, 200]
    assert gate.answers("plain", east.issue_instance("a", eku=None)) == [200, 200]


by_a_leaf = as_authority(good).issue_instance("app-good")


@pytest.mark.parametrize(
    ("credential", "alert", "reason"),
    [
        pytest.param(east.issue(plain_name("x"), authority=True), INTERNAL_ERROR, "leaf_is_ca", id="leaf-is-a-ca"),
        pytest.param(Credential(middle.certificate, middle.key), INTERNAL_ERROR, "leaf_is_ca", id="intermediate-as-leaf"),
        pytest.param(Credential(east.certificate, east.key), INTERNAL_ERROR, "leaf_is_ca", id="anchor-as-leaf"),
        pytest.param(with_chain(by_a_leaf, good.certificate), Alert.UNKNOWN_CA, "bad_ca", id="signed-by-a-leaf"),
        pytest.param(with_chain(by_a_leaf), Alert.UNKNOWN_CA, "unknown_ca", id="signed-by-a-leaf-alone"),
        pytest.param(CA("below", leaf_only).issue_instance("a"), Alert.UNKNOWN_CA, "path_length", id="too-long"),
        pytest.param(CA("below", one_level).issue_instance("a"), Alert.UNKNOWN_CA, "path_length", id="too-long-for-the-anchor"),
    ],
)
def test_authorities_are_no_callers_and_callers_no_authorities(
    gate: Gate, credential: Credential, alert: int, reason: str
) -> None:
    """Attack 21: a leaf that is a CA, a leaf signed by a leaf, a path too long: an alert."""
    gate.refuses("plain", credential, alert, reason)


def test_a_path_of_the_allowed_length_passes(gate: Gate) -> None:
    """Attack 21: the control: directly below an authority of path length 0."""
    assert gate.answers("plain", one_level.issue_instance("a")) == [200, 200]
    assert gate.answers("plain", leaf_only.issue_instance("a")) == [200, 200]


@pytest.mark.parametrize(
    "credential",
    [
        pytest.param(only_ok.issue_instance("a", san=[x509.DNSName("x.example")]), id="not-permitted"),
        pytest.param(
            only_ok.issue_instance("a", san=[x509.DNSName("x.ok.example"), x509.DNSName("y.example")]), id="second-name"
        ),
        pytest.param(never_bad.issue_instance("a", san=[x509.DNSName("x.bad.example")]), id="excluded"),
        pytest.param(constrained.issue_instance("a", san=[x509.DNSName("x.example")]), id="by-an-intermediate"),
        pytest.param(
            CA("below", constrained).issue_instance("a", san=[x509.DNSName("x.example")]), id="by-a-higher-intermediate"
        ),
    ],
)
def test_a_broken_name_constraint_refuses(gate: Gate, credential: Credential) -> None:
    """Attack 22: a name outside what any authority of the chain may vouch for: certificate_unknown."""
    gate.refuses("plain", credential, Alert.CERTIFICATE_UNKNOWN, "name_constraint")


def test_a_kept_name_constraint_passes(gate: Gate) -> None:
    """Attack 22: the control: a permitted name, and names of a type that the constraint is not about."""
    inside = [x509.DNSName("x.ok.example"), x509.UniformResourceIdentifier("spiffe://elsewhere/x")]
    assert gate.answers("plain", only_ok.issue_instance("a", san=inside)) == [200, 200]


SPIFFE = "spiffe://other.example/app:app-good"


@pytest.mark.parametrize(
    "san",
    [
        [x509.UniformResourceIdentifier("app:app-good")],
        [x509.UniformResourceIdentifier(SPIFFE)],
        [x509.UniformResourceIdentifier(SPIFFE), x509.UniformResourceIdentifier("spiffe://east/app:app-good")],
        [x509.RFC822Name("app:app-good@east.example")],
        [x509.DNSName("app-good.apps.internal"), x509.DNSName("app:app-good")],
        [x509.DirectoryName(name_of([[(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "app:app-good")]]))],
        [x509.OtherName(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, b"\x0c\x0capp:app-good")],
    ],
    ids=["uri", "foreign-spiffe-id", "two-uris", "e-mail", "dns", "directory-name", "other-name"],
)
def test_no_alternative_name_is_an_identity(gate: Gate, san: list[x509.GeneralName]) -> None:
    """Attacks 22 and 23: names of any type in the SAN give no identity: 403 where the domain demands one.

    Vestibule has no SPIFFE extractor, so it rejects two URI SANs and a foreign SPIFFE id neither more nor less than a good one:
    the handshake stands on the authority alone, and a certificate whose OUs name no app is nobody.
    """
    before = len(gate.backend.received)
    denied = gate.router.metric("mtls_decisions", domain="*.plain.example", result="deny", reason="no_identity")
    assert gate.answers("plain", east.issue(plain_name("app:app-good"), san=san)) == [403, 403]
    after = gate.router.metric("mtls_decisions", domain="*.plain.example", result="deny", reason="no_identity")
    assert (after - denied, len(gate.backend.received) - before) == (2, 0)


def test_a_uri_never_contradicts_the_units(gate: Gate, nats_server: NatsServer) -> None:
    """Attack 23: a leaf whose OUs name one app and whose URI names another is the app of its OUs; with two URIs it is nobody."""
    host = unique_host("plain.example")
    lie, foreign = x509.UniformResourceIdentifier("spiffe://east/app:app-good"), x509.UniformResourceIdentifier(SPIFFE)
    with Registrar(nats_server.port, gate.router) as registrar:
        registrar.register(host, backend=gate.backend, options={"mtls_allowed_apps": "app-good"})
    for app, names, status in (
        ("app-other", [lie], 403),
        ("app-good", [foreign], 200),
        ("app-good", [lie, foreign], 403),
        ("app-good", [lie, lie], 403),
    ):
        leaf = east.issue_instance(app, san=list(names))
        assert get(gate.router.ssl_port, host, tls=Tls(host, leaf)).status == status


@pytest.mark.parametrize("kind", [x509.UniformResourceIdentifier, x509.RFC822Name], ids=["uri", "e-mail"])
def test_a_backend_is_not_known_by_a_name_of_another_type(
    make_router: MakeRouter, make_backend: Callable[..., EchoBackend], nats_server: NatsServer,
    kind: Callable[[str], x509.GeneralName],
) -> None:  # fmt: skip
    """Attack 22: a backend whose URI or e-mail SAN (or CN) reads like its DNS name is not that backend: 503, no request."""
    name, host = "backend.internal", unique_host("open.example")
    router = make_router(ca_certs=[east.pem], tls_pem=[tls_pem(server_credential())])
    false = make_backend(credential=east.issue(plain_name(name), san=[kind(name)]))
    true = make_backend(credential=east.issue(plain_name("x"), san=[x509.DNSName(name)]))
    with Registrar(nats_server.port, router) as registrar:
        registrar.register(host, backend=false, server_cert_domain_san=name)
        with Client(router.port) as client:
            answer = client.request(host)
        error = "endpoint_failure (certificate name mismatch)"
        assert (answer.status, answer.get("x-cf-routererror"), false.received) == (503, error, [])
        registrar.register(host, backend=true, server_cert_domain_san=name)
        assert get(router.port, host).status == 200
