"""router/tls/contexts.py: what each context demands of a client, over real handshakes."""

import contextlib
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from router.tls.certificates import read_server_certificate
from router.tls.contexts import ClientPolicy, Subject, TlsSettings, subject_of
from router.tls.session import VerifyNote
from tests.router.tls.handshakes import Outcome, caller, context_of, contexts_of, require, server_certificate, shake
from tests.support import client as client_module
from tests.support.certs import CA, EMAIL_ONLY, SERVER_ONLY, Credential, authority, plain_name
from tests.support.client import Alert, Tls

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
VERSIONS = pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION], ids=["1.2", "1.3"])

ROOT = authority("instances")
MIDDLE = CA("middle", parent=ROOT)
DEEP = CA("deep", parent=MIDDLE)
SHORT = CA("short", parent=ROOT, path_length=0)
NARROW = CA("narrow", parent=ROOT, name_constraints=x509.NameConstraints([x509.DNSName("only.example")], None))
OLD = CA("old", not_before=NOW - 2 * DAY, not_after=NOW - DAY)
LEAF = caller()
MIDDLE_LEAF = MIDDLE.issue_instance("app-2")


def crls(*texts: str) -> tuple[x509.CertificateRevocationList, ...]:
    return tuple(x509.load_pem_x509_crl(text.encode()) for text in texts)


def tampered(credential: Credential) -> Credential:
    """The same certificate with one bit of its signature changed."""
    der = bytearray(credential.der)
    der[-1] ^= 1
    return Credential(x509.load_der_x509_certificate(bytes(der)), credential.key, credential.intermediates)


def leaf_as_authority() -> Credential:
    """A certificate signed with a leaf's key."""
    issuer = CA("pretender", parent=ROOT)
    issuer.name, issuer.key, issuer.certificate = LEAF.certificate.subject, LEAF.key, LEAF.certificate
    return issuer.issue_instance("app-1")


ANCHOR = require(ROOT.certificate)


@pytest.mark.parametrize(
    ("policy", "credential", "reason", "alert"),
    [
        (ANCHOR, caller(not_before=NOW - 2 * DAY, not_after=NOW - DAY), "expired", Alert.CERTIFICATE_EXPIRED),
        (ANCHOR, caller(not_before=NOW + DAY, not_after=NOW + 2 * DAY), "not_yet_valid", Alert.BAD_CERTIFICATE),
        (ANCHOR, caller("strangers"), "unknown_ca", Alert.UNKNOWN_CA),
        (ANCHOR, tampered(LEAF), "bad_signature", 51),
        (ANCHOR, leaf_as_authority(), "bad_ca", Alert.UNKNOWN_CA),
        (ANCHOR, CA("low", parent=SHORT).issue_instance("a"), "path_length", Alert.UNKNOWN_CA),
        (ANCHOR, caller(eku=SERVER_ONLY), "bad_purpose", Alert.UNSUPPORTED_CERTIFICATE),
        (ANCHOR, caller(eku=EMAIL_ONLY), "bad_purpose", Alert.UNSUPPORTED_CERTIFICATE),
        (ANCHOR, NARROW.issue_instance("a", san=[x509.DNSName("x.example")]), "name_constraint", Alert.CERTIFICATE_UNKNOWN),
        (require(OLD.certificate), OLD.issue_instance("a"), "expired", Alert.CERTIFICATE_EXPIRED),
        (require(MIDDLE.certificate), LEAF, "unknown_ca", Alert.UNKNOWN_CA),
        (require(ROOT.certificate, crls=crls(ROOT.crl([LEAF]))), LEAF, "revoked", Alert.CERTIFICATE_REVOKED),
        (require(ROOT.certificate, crls=()), LEAF, "crl_missing", Alert.UNKNOWN_CA),
        (require(ROOT.certificate, crls=crls(authority("strangers").crl())), LEAF, "crl_missing", Alert.UNKNOWN_CA),
        (require(ROOT.certificate, crls=crls(ROOT.crl(next_update=NOW - dt.timedelta(minutes=1)))), LEAF, "crl_stale", 45),
        (require(ROOT.certificate, crls=crls(ROOT.crl(last_update=NOW + DAY, next_update=NOW + 2 * DAY))), LEAF, "crl_stale", 42),
        (require(ROOT.certificate, crls=crls(ROOT.crl())), MIDDLE_LEAF, "crl_missing", Alert.UNKNOWN_CA),
        (require(ROOT.certificate, crls=crls(ROOT.crl([MIDDLE.certificate]), MIDDLE.crl())), MIDDLE_LEAF, "revoked", 44),
        (require(MIDDLE.certificate, crls=crls(MIDDLE.crl([MIDDLE_LEAF]))), MIDDLE_LEAF, "revoked", Alert.CERTIFICATE_REVOKED),
        (require(MIDDLE.certificate, crls=crls(ROOT.crl())), MIDDLE_LEAF, "crl_missing", Alert.UNKNOWN_CA),
    ],
    ids=[
        "expired", "not yet valid", "unknown authority", "signature", "a leaf as authority", "path length", "for servers",
        "for mail", "name constraint", "expired anchor", "beside the anchor", "revoked", "no CRL", "another's CRL", "old CRL",
        "CRL of tomorrow", "no CRL of the intermediate", "revoked intermediate", "revoked below an intermediate anchor",
        "no CRL of the intermediate anchor",
    ],
)  # fmt: skip
@VERSIONS
async def test_a_certificate_that_does_not_hold_is_refused_with_its_reason_and_an_alert(
    policy: ClientPolicy, credential: Credential, reason: str, alert: int, version: int
) -> None:
    """Attacks 18 to 22: the log and metric learn the bounded reason, the client the alert of RFC 8446 section 6.2."""
    outcome = await shake(context_of(policy), Tls(credential=credential, maximum=version))
    assert (reason, alert) == (outcome.reason, outcome.alert)
    assert not outcome.answered
    assert outcome.chain == []


@pytest.mark.parametrize(
    ("policy", "credential", "length"),
    [
        (ANCHOR, LEAF, 2),
        (ANCHOR, caller(eku=None), 2),
        (ANCHOR, MIDDLE_LEAF, 3),
        (require(MIDDLE.certificate), MIDDLE_LEAF, 2),
        (require(MIDDLE.certificate), DEEP.issue_instance("a"), 3),
        (require(LEAF.certificate), LEAF, 1),
        (require(ROOT.certificate, authority("strangers").certificate), LEAF, 2),
        (require(ROOT.certificate, crls=crls(ROOT.crl([MIDDLE_LEAF]))), LEAF, 2),
        (require(ROOT.certificate, crls=crls(ROOT.crl(), MIDDLE.crl())), MIDDLE_LEAF, 3),
        (require(MIDDLE.certificate, crls=crls(MIDDLE.crl())), MIDDLE_LEAF, 2),
        (require(MIDDLE.certificate, crls=crls(MIDDLE.crl(), DEEP.crl())), DEEP.issue_instance("a"), 3),
    ],
    ids=[
        "root", "no purposes named", "below an intermediate", "intermediate anchor", "two below an intermediate anchor",
        "a leaf as anchor", "one of two anchors", "CRL", "CRLs of the whole chain", "CRL of an intermediate anchor",
        "CRLs below an intermediate anchor",
    ],
)  # fmt: skip
@VERSIONS
async def test_a_certificate_that_holds_is_served_with_its_verified_chain(
    policy: ClientPolicy, credential: Credential, length: int, version: int
) -> None:
    """Each certificate of a CA set is a trust anchor by itself, as in Go, also with CRLs; the leaf comes first."""
    outcome = await shake(context_of(policy), Tls(credential=credential, maximum=version))
    assert outcome.reason == "ok", outcome
    assert outcome.answered
    assert credential.der == outcome.chain[0]
    assert length == len(outcome.chain)


@pytest.mark.parametrize(
    ("mode", "credential", "reason"),
    [
        ("require", None, "no_certificate"),
        ("request", None, "ok"),
        ("request", LEAF, "ok"),
        ("request", caller("strangers"), "unknown_ca"),
        ("none", caller("strangers"), "ok"),
        ("none", None, "ok"),
    ],
)  # fmt: skip
@VERSIONS
async def test_a_mode_asks_for_a_certificate_requests_it_or_insists(
    mode: Any, credential: Credential | None, reason: str, version: int
) -> None:
    """`none` does not look, `request` verifies what is given, `require` insists (alert 116, in TLS 1.2 alert 40)."""
    outcome = await shake(context_of(ClientPolicy(mode, (ROOT.certificate,))), Tls(credential=credential, maximum=version))
    missing = Alert.CERTIFICATE_REQUIRED if version == SSL.TLS1_3_VERSION else Alert.HANDSHAKE_FAILURE
    expected = {"no_certificate": missing, "ok": None, "unknown_ca": Alert.UNKNOWN_CA}[reason]
    assert (reason, expected) == (outcome.reason, outcome.alert)
    assert outcome.answered == (reason == "ok")
    assert bool(outcome.chain) == (credential is LEAF and mode != "none")


async def test_system_roots_are_anchors_only_where_the_policy_says_so(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decision 1: never for a domain; the global setting may."""
    monkeypatch.setenv("SSL_CERT_FILE", str(ROOT.file))
    strict = require(authority("strangers").certificate)
    assert (await shake(context_of(strict), Tls(credential=LEAF))).reason == "unknown_ca"
    loose = require(authority("strangers").certificate, system_roots=True)
    assert (await shake(context_of(loose), Tls(credential=LEAF))).reason == "ok"


# Subjects below a CA


def subject(name: str) -> Subject:
    return subject_of(plain_name(name))


@pytest.mark.parametrize(
    ("rules", "credential", "reason"),
    [
        ([(ROOT, ["allowed"])], ROOT.issue(plain_name("allowed")), "ok"),
        ([(ROOT, ["other", "allowed"])], ROOT.issue(plain_name("allowed")), "ok"),
        ([(ROOT, ["allowed"])], ROOT.issue(plain_name("allowed2")), "certificate_metadata"),
        ([(ROOT, [])], ROOT.issue(plain_name("allowed")), "certificate_metadata"),
        ([(MIDDLE, ["allowed"])], ROOT.issue(plain_name("anyone")), "ok"),
        ([(MIDDLE, ["allowed"])], MIDDLE.issue(plain_name("anyone")), "certificate_metadata"),
        ([(ROOT, ["allowed"])], MIDDLE.issue(plain_name("anyone")), "certificate_metadata"),
        ([(ROOT, ["allowed"]), (MIDDLE, ["other"])], MIDDLE.issue(plain_name("allowed")), "certificate_metadata"),
        ([(ROOT, ["allowed"]), (MIDDLE, ["allowed"])], MIDDLE.issue(plain_name("allowed")), "ok"),
    ],
)  # fmt: skip
@VERSIONS
async def test_a_leaf_below_a_named_authority_has_one_of_the_subjects_listed_for_it(
    rules: list[tuple[CA, list[str]]], credential: Credential, reason: str, version: int
) -> None:
    """verify_client_certificate_metadata: every CA of the chain that is named must list the leaf's subject."""
    metadata = tuple((subject_of(ca.name), tuple(map(subject, names))) for ca, names in rules)
    policy = require(ROOT.certificate, metadata=metadata)
    outcome = await shake(context_of(policy), Tls(credential=credential, maximum=version))
    assert reason == outcome.reason, outcome
    assert outcome.answered == (reason == "ok")


async def test_a_rule_on_the_anchors_issuer_counts_below_an_intermediate_anchor() -> None:
    """The anchor names its issuer, though that is not part of the chain."""
    policy = require(MIDDLE.certificate, metadata=((subject_of(ROOT.name), (subject("allowed"),)),))
    outcome = await shake(context_of(policy), Tls(credential=MIDDLE.issue(plain_name("other"))))
    assert outcome.reason == "certificate_metadata"


# Resumption


@VERSIONS
async def test_an_open_context_resumes_its_own_sessions(version: int) -> None:
    """Tickets keep open domains fast."""
    context = context_of(ClientPolicy())
    first = await shake(context, Tls(maximum=version))
    second = await shake(context, Tls(maximum=version, session=first.session))
    assert (first.resumed, second.resumed) == (False, True)


async def test_an_open_context_resumes_by_session_id_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS 1.2 without tickets."""
    without_tickets(monkeypatch)
    context = context_of(ClientPolicy())
    first = await shake(context, Tls(maximum=SSL.TLS1_2_VERSION))
    second = await shake(context, Tls(maximum=SSL.TLS1_2_VERSION, session=first.session))
    assert (first.resumed, second.resumed) == (False, True)


@pytest.mark.parametrize("tickets", [True, False], ids=["ticket", "session id"])
@VERSIONS
async def test_a_context_that_asks_for_a_certificate_never_resumes(
    version: int, tickets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack 12: each connection shows its certificate anew, so that each has a verified chain."""
    if not tickets:
        without_tickets(monkeypatch)
    for mode in ("request", "require"):
        context = context_of(ClientPolicy(mode, (ROOT.certificate,)))
        first = await shake(context, Tls(credential=LEAF, maximum=version))
        again = await shake(context, Tls(credential=LEAF, maximum=version, session=first.session))
        assert (first.answered, again.answered, again.resumed) == (True, True, False)
        assert LEAF.der == again.chain[0]


@pytest.mark.parametrize("tickets", [True, False], ids=["ticket", "session id"])
@VERSIONS
async def test_no_session_opens_another_context(version: int, tickets: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 12: a session of the open door, offered at a domain's or with another certificate, is worth nothing."""
    if not tickets:
        without_tickets(monkeypatch)
    all_of_them = contexts_of(
        {"*.east.example": ANCHOR, "*.open.example": ClientPolicy()},
        certificates=[server_certificate("one.example"), server_certificate("two.example")],
    )
    first = await shake(all_of_them.choose(None).context, Tls(maximum=version))
    offered = Tls(maximum=version, session=first.session)
    east: Outcome = await shake(all_of_them.choose("a.east.example").context, offered)
    assert (east.reason, east.answered) == ("no_certificate", False)
    for name in ("two.example", "a.open.example"):
        other = await shake(all_of_them.choose(name).context, offered)
        assert (other.answered, other.resumed) == (True, False)


def without_tickets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of this test do not offer to take tickets."""
    original = client_module.client_context

    def context(*arguments: Any) -> SSL.Context:
        made = original(*arguments)
        made.set_options(SSL.OP_NO_TICKET)
        return made

    monkeypatch.setattr(client_module, "client_context", context)


# Choice and reuse


def test_each_name_gets_the_context_of_its_domain_and_certificate() -> None:
    """Decision 3: the SNI decides before OpenSSL sees a byte; none or an unknown one gets the global policy."""
    contexts = contexts_of(
        {"*.east.example": ANCHOR, "*.deep.east.example": require(MIDDLE.certificate), "one.example": ANCHOR},
        certificates=[server_certificate(name) for name in ("localhost", "*.east.example", "*.deep.east.example")],
    )  # fmt: skip
    default = contexts.choose(None)
    assert default.domain is None
    assert contexts.choose("unknown.example") is default
    assert contexts.choose("east.example") is default
    for name, pattern in [
        ("a.east.example", "*.east.example"),
        ("a.b.east.example", "*.east.example"),
        ("a.deep.east.example", "*.deep.east.example"),
        ("one.example", "one.example"),
    ]:
        chosen = contexts.choose(name)
        assert chosen.domain is not None
        assert pattern == chosen.domain.pattern
        assert chosen.policy is contexts.policy_of(pattern)
        assert chosen.context is not default.context
    assert contexts.choose("a.east.example").context is not contexts.choose("a.b.east.example").context


def test_the_policy_of_today_is_known_by_pattern() -> None:
    """None is the global policy; a domain that is gone has none."""
    contexts = contexts_of({"*.east.example": ANCHOR}, default=ClientPolicy("request"))
    assert contexts.policy_of("*.east.example") is ANCHOR
    assert contexts.policy_of(None) == ClientPolicy("request")
    assert contexts.policy_of("*.gone.example") is None


CERTIFICATE = server_certificate("localhost")


@pytest.mark.parametrize(
    ("change", "same_open", "same_east"),
    [
        (lambda old: contexts_of({"*.east.example": ANCHOR}, certificates=[CERTIFICATE], previous=old), True, True),
        (
            lambda old: contexts_of({"*.east.example": require(ROOT.certificate)}, certificates=[CERTIFICATE], previous=old),
            True,
            True,
        ),
        (
            lambda old: contexts_of({"*.east.example": require(MIDDLE.certificate)}, certificates=[CERTIFICATE], previous=old),
            True,
            False,
        ),
        (
            lambda old: contexts_of(
                {"*.east.example": require(ROOT.certificate, crls=crls(ROOT.crl()))}, certificates=[CERTIFICATE], previous=old
            ),
            True,
            False,
        ),
        (lambda old: contexts_of({"*.east.example": ANCHOR}, previous=old), False, False),
        (
            lambda old: contexts_of(
                {"*.east.example": ANCHOR}, certificates=[CERTIFICATE], settings=TlsSettings("TLSv1.3"), previous=old
            ),
            False,
            False,
        ),
        (
            lambda old: contexts_of(
                {"*.east.example": ANCHOR}, certificates=[CERTIFICATE], default=ClientPolicy("request"), previous=old
            ),
            False,
            True,
        ),
    ],
    ids=["nothing", "the same anchors anew", "anchors", "CRLs", "certificate", "version", "global policy"],
)
def test_a_reload_keeps_the_contexts_of_what_it_does_not_change(
    change: Callable[[Any], Any], same_open: bool, same_east: bool
) -> None:
    """Tickets of open domains outlive reloads; what changed is built anew."""
    old = contexts_of({"*.east.example": ANCHOR}, certificates=[CERTIFICATE])
    new = change(old)
    assert same_open == (old.choose(None).context is new.choose(None).context)
    assert same_east == (old.choose("a.east.example").context is new.choose("a.east.example").context)
    again = change(new)
    assert new.choose("a.east.example").context is again.choose("a.east.example").context or not same_east


def test_contexts_of_two_reloads_ago_are_let_go() -> None:
    """A generation keeps only what it uses."""
    first = contexts_of({"*.east.example": ANCHOR}, certificates=[CERTIFICATE])
    second = contexts_of({}, certificates=[CERTIFICATE], previous=first)
    third = contexts_of({"*.east.example": ANCHOR}, certificates=[CERTIFICATE], previous=second)
    assert first.choose(None).context is third.choose(None).context
    assert first.choose("a.east.example").context is not third.choose("a.east.example").context


def test_a_fingerprint_names_mode_and_authorities_but_not_crls() -> None:
    """Decision 6: another mode or CA set closes connections; a CRL judges by leaf."""
    prints = {
        "none": ClientPolicy().fingerprint,
        "request": ClientPolicy("request", (ROOT.certificate,)).fingerprint,
        "require": ANCHOR.fingerprint,
        "two": require(ROOT.certificate, MIDDLE.certificate).fingerprint,
        "system": require(ROOT.certificate, system_roots=True).fingerprint,
        "metadata": require(ROOT.certificate, metadata=((subject("a"), ()),)).fingerprint,
    }
    assert len(set(prints.values())) == len(prints)
    assert require(MIDDLE.certificate, ROOT.certificate).fingerprint == prints["two"]
    listed = require(ROOT.certificate, crls=crls(ROOT.crl([LEAF])))
    assert listed.fingerprint == ANCHOR.fingerprint
    assert {(ROOT.certificate.subject.public_bytes(), LEAF.certificate.serial_number)} == listed.revoked
    assert frozenset() == ANCHOR.revoked


# Protocol


@pytest.mark.parametrize(
    ("settings", "tls", "reason"),
    [
        (TlsSettings("TLSv1.3"), Tls(maximum=SSL.TLS1_2_VERSION), "protocol_version"),
        (TlsSettings(max_version="TLSv1.2"), Tls(minimum=SSL.TLS1_3_VERSION), "protocol_version"),
        (TlsSettings(ciphers="ECDHE-RSA-AES128-GCM-SHA256"), Tls(maximum=SSL.TLS1_2_VERSION), "no_shared_cipher"),
        (TlsSettings(ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"), Tls(maximum=SSL.TLS1_2_VERSION), "ok"),
        (TlsSettings(ciphersuites="TLS_AES_256_GCM_SHA384"), Tls(), "ok"),
    ],
)
async def test_versions_and_ciphers_are_those_of_the_settings(settings: TlsSettings, tls: Tls, reason: str) -> None:
    """What the operator leaves out is not spoken."""
    outcome = await shake(context_of(ClientPolicy(), settings), tls)
    assert reason == outcome.reason, outcome


@pytest.mark.parametrize(
    ("offered", "chosen", "without_http2"),
    [
        ((), b"", b""),
        ((b"http/1.1",), b"http/1.1", b"http/1.1"),
        ((b"http/1.1", b"h2"), b"h2", b"http/1.1"),
        ((b"h2",), b"h2", b""),
        ((b"x",), b"", b""),
    ],
)
async def test_alpn_chooses_the_newest_that_is_spoken(offered: tuple[bytes, ...], chosen: bytes, without_http2: bytes) -> None:
    """R25: both, `enable_http2: false` leaves HTTP/1.1; what is not spoken is not promised."""
    for http2, expected in ((True, chosen), (False, without_http2)):
        outcome = await shake(context_of(ClientPolicy(), TlsSettings(http2=http2)), Tls(alpn=offered))
        assert (outcome.protocol, outcome.answered) == (expected, True)


@VERSIONS
async def test_the_server_name_is_still_known_after_a_resumption(version: int) -> None:
    """OpenSSL forgets it in TLS 1.2 unless somebody listens for it; the SNI check needs it."""
    context = context_of(ClientPolicy())
    first = await shake(context, Tls(sni="a.example", maximum=version))
    second = await shake(context, Tls(sni="a.example", maximum=version, session=first.session))
    assert second.resumed
    assert second.server_name == b"a.example"


def test_a_chain_is_sent_whole() -> None:
    """What OpenSSL refuses is an error when the context is built, not in a handshake."""
    credential = MIDDLE.issue_server("x.example")
    assert context_of(ClientPolicy()) is not None
    good = read_server_certificate(credential.chain_pem, credential.key_pem)
    assert contexts_of(certificates=[good]).certificates.certificates[0].chain[1].public_bytes(Encoding.DER)
    with pytest.raises(SSL.Error):
        context_of(ClientPolicy(), TlsSettings(ciphers="NO-SUCH-CIPHER"))


def test_the_chain_that_is_sent_is_the_configured_one() -> None:
    """What clients are judged by is not searched for the server's own issuer, as OpenSSL would by itself."""
    policy = ClientPolicy("request", (authority("server").certificate,))
    server, client = SSL.Connection(context_of(policy)), SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
    server.set_app_data(VerifyNote())
    server.set_accept_state()
    client.set_connect_state()
    for speaks, hears in ((client, server), (server, client)):
        with contextlib.suppress(SSL.WantReadError):
            speaks.do_handshake()
        hears.bio_write(speaks.bio_read(65536))
    client.do_handshake()
    shown = client.get_peer_cert_chain(as_cryptography=True)
    assert shown is not None
    assert [certificate.subject.rfc4514_string() for certificate in shown] == ["CN=localhost"]
