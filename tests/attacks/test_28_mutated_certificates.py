"""Attack 28: certificates and proofs of the key with any byte wrong, in transit and under a good signature.

In transit: over TLS 1.2 the client's Certificate and CertificateVerify are in the clear, and are changed on their way. Under a
good signature: the authority itself signs the changed certificate, so OpenSSL's checks may pass and our own reading is tried.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest
from cryptography import x509
from OpenSSL import SSL, crypto

from tests.attacks.conftest import Door, assert_unseen
from tests.attacks.forgery import der, sign_again
from tests.conftest import MakeRouter
from tests.support.certs import CA, SERVER_ONLY, Credential, name_of
from tests.support.client import Alert, Client, Tls, TlsRefusedError, get, render_request
from tests.support.client_hellos import vector
from tests.support.mangled import CERTIFICATE, CERTIFICATE_VERIFY, MangledClient, open_flight, seal_flight, with_certificate
from tests.support.router import RouterProcess, mtls_domain

Bodies = dict[int, bytes]
FLIPS = (0x01, 0x80, 0xFF)


class Watch:
    """That the router took no harm between two moments."""

    def __init__(self, router: RouterProcess) -> None:
        self.router = router
        self.errors = router.metric("internal_errors")
        self.stderr = router.stderr

    def assert_unharmed(self) -> None:
        assert self.router.metric("internal_errors") == self.errors
        assert not any("connection-failed" in line for line in self.router.events)
        assert self.router.stderr == self.stderr
        self.router.assert_clean()


def refused(router: RouterProcess, host: str, caller: Credential, change: Callable[[bytes], bytes]) -> int | None:
    """The alert for a second flight that was changed; a request is sent behind it and must not be answered."""
    tls = Tls(host, caller, maximum=SSL.TLS1_2_VERSION)
    with MangledClient(router.ssl_port, tls, lambda number, said: [change(said) if number else said]) as client:
        assert client.ask(render_request(host)) == b""
        return client.alert


def changed(kind: int, change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """A change of one message's body."""

    def apply(flight: bytes) -> bytes:
        bodies, rest = open_flight(flight)
        bodies[kind] = change(bodies[kind])
        return seal_flight(bodies.items(), rest)

    return apply


def flipped(at: int, flip: int) -> Callable[[bytes], bytes]:
    return lambda body: body[:at] + bytes([body[at] ^ flip]) + body[at + 1 :] if at < len(body) else body + b"\0"


def test_the_flight_itself_is_good(router: RouterProcess, strict: Door, caller: Credential) -> None:
    """Attack 28: the control: taken apart and put together again, the flight opens the door."""
    tls = Tls(strict.host, caller, maximum=SSL.TLS1_2_VERSION)

    def again(number: int, said: bytes) -> Iterable[bytes]:
        if number == 0:
            return [said]
        bodies, rest = open_flight(said)
        return [seal_flight(bodies.items(), rest)]

    with MangledClient(router.ssl_port, tls, again) as client:
        assert client.ask(render_request(strict.host)).startswith(b"HTTP/1.1 200 ")


def test_any_changed_byte_of_a_certificate_is_an_alert(router: RouterProcess, strict: Door, caller: Credential) -> None:
    """Attack 28: every second byte of the Certificate message, lengths included, flipped one after the other."""
    watch, size = Watch(router), len(caller.der) + 6
    alerts = {
        at: refused(router, strict.host, caller, changed(CERTIFICATE, flipped(at, FLIPS[at % 3]))) for at in range(0, size, 2)
    }
    assert [at for at, alert in alerts.items() if alert is None] == []
    assert_unseen(strict)
    watch.assert_unharmed()


def test_any_changed_byte_of_the_proof_of_the_key_is_an_alert(router: RouterProcess, strict: Door, caller: Credential) -> None:
    """Attack 28: every byte of CertificateVerify flipped: a fatal alert, and decrypt_error for the signature's own bytes."""
    watch = Watch(router)
    alerts = {at: refused(router, strict.host, caller, changed(CERTIFICATE_VERIFY, flipped(at, 0x01))) for at in range(76)}
    assert [at for at, alert in alerts.items() if alert is None] == []
    assert {alert for at, alert in alerts.items() if 10 <= at < 36} == {51}
    assert_unseen(strict)
    watch.assert_unharmed()


class Shape(NamedTuple):
    """Another order or number of the flight's messages."""

    arrange: Callable[[Bodies], list[tuple[int, bytes]]]
    alert: int


def _body(bodies: Bodies, value: bytes) -> list[tuple[int, bytes]]:
    return list({**bodies, CERTIFICATE: value}.items())


def _without(bodies: Bodies, *kinds: int) -> list[tuple[int, bytes]]:
    return [(kind, body) for kind, body in bodies.items() if kind not in kinds]


SHAPES = {
    "no-certificate-message": Shape(lambda b: _without(b, CERTIFICATE, CERTIFICATE_VERIFY), Alert.UNEXPECTED_MESSAGE),
    "no-proof": Shape(lambda b: _without(b, CERTIFICATE_VERIFY), Alert.UNEXPECTED_MESSAGE),
    "proof-first": Shape(lambda b: sorted(b.items(), reverse=True), Alert.UNEXPECTED_MESSAGE),
    "certificate-twice": Shape(lambda b: [(CERTIFICATE, b[CERTIFICATE]), *b.items()], Alert.UNEXPECTED_MESSAGE),
    "proof-twice": Shape(lambda b: [*b.items(), (CERTIFICATE_VERIFY, b[CERTIFICATE_VERIFY])], Alert.UNEXPECTED_MESSAGE),
    "empty-list": Shape(lambda b: _body(b, vector(3, b"")), Alert.HANDSHAKE_FAILURE),
    "empty-list-and-no-proof": Shape(
        lambda b: [(k, vector(3, b"") if k == CERTIFICATE else v) for k, v in _without(b, CERTIFICATE_VERIFY)],
        Alert.HANDSHAKE_FAILURE,
    ),
    "empty-message": Shape(lambda b: _body(b, b""), Alert.DECODE_ERROR),
    "empty-certificate": Shape(lambda b: _body(b, vector(3, vector(3, b""))), Alert.DECODE_ERROR),
    "zeros": Shape(lambda b: _body(b, vector(3, vector(3, bytes(500)))), Alert.DECODE_ERROR),
    "list-longer-than-the-message": Shape(lambda b: _body(b, b"\xff\xff\xff" + b[CERTIFICATE][3:]), Alert.DECODE_ERROR),
    "list-shorter-than-the-message": Shape(lambda b: _body(b, b[CERTIFICATE] + b"\0\0\0"), Alert.DECODE_ERROR),
    "bytes-behind-the-certificate": Shape(
        lambda b: _body(b, vector(3, vector(3, b[CERTIFICATE][6:] + b"\0"))), Alert.DECODE_ERROR
    ),
    "a-hundred-kib-and-more": Shape(lambda b: _body(b, vector(3, b[CERTIFICATE][3:] * 300)), Alert.ILLEGAL_PARAMETER),
    "empty-proof": Shape(lambda b: list({**b, CERTIFICATE_VERIFY: b""}.items()), Alert.DECODE_ERROR),
    "deep-nesting": Shape(lambda b: _body(b, vector(3, vector(3, _nested(2000)))), Alert.DECODE_ERROR),
}


def _nested(depth: int) -> bytes:
    value = b""
    for _ in range(depth):
        value = der(0x30, value)
    return value


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_flight_of_another_shape_is_an_alert(router: RouterProcess, strict: Door, caller: Credential, shape: Shape) -> None:
    """Attack 28: messages missing, twice, out of order, empty, cut, over-long: an alert, and no request behind them counts."""

    def arrange(flight: bytes) -> bytes:
        bodies, rest = open_flight(flight)
        return seal_flight(shape.arrange(bodies), rest)

    watch = Watch(router)
    assert refused(router, strict.host, caller, arrange) == shape.alert
    assert_unseen(strict)
    watch.assert_unharmed()


def as_openssl_reads(certificate: bytes, holder: Credential) -> Credential:
    """A credential with a certificate (DER) that cryptography need not understand. Raises crypto.Error."""
    return Credential(crypto.load_certificate(crypto.FILETYPE_ASN1, certificate), holder.key)  # type: ignore[arg-type]


def outcome(router: RouterProcess, host: str, certificate: bytes, holder: Credential) -> str:
    """What comes of a certificate (DER) that its authority signed: a status, `alert`, or what else happened."""
    try:
        client = Client(router.ssl_port, Tls(host, as_openssl_reads(certificate, holder)))
    except TlsRefusedError as refusal:
        return "alert" if refusal.alert is not None else "no alert"
    except (SSL.Error, crypto.Error):
        # No client can hold it: put it into the place of a good one, so that at least our server reads it.
        alert = refused(router, host, holder, lambda flight: with_certificate(certificate, flight))
        return "alert" if alert is not None else "no alert"
    with client:
        try:
            return str(client.request(host).status)
        except TlsRefusedError as refusal:
            return "alert" if refusal.alert is not None else "no alert"


def test_any_byte_may_be_wrong_under_a_good_signature(
    router: RouterProcess, strict: Door, east_ca: CA, caller: Credential
) -> None:
    """Attack 28: every byte of what is signed, changed and signed again: an alert, a 403 without an identity, or another 200."""
    watch, signed = Watch(router), caller.certificate.tbs_certificate_bytes
    found: dict[str, list[int]] = {}
    for at in range(len(signed)):
        value = bytes([signed[at] ^ FLIPS[at % 3]])
        forged = sign_again(east_ca, signed[:at] + value + signed[at + 1 :])
        found.setdefault(outcome(router, strict.host, forged, caller), []).append(at)
    assert set(found) == {"alert", "200", "403"}
    assert all(received.get("x-forwarded-client-cert") for received in strict.backend.received)
    assert len(strict.backend.received) == len(found["200"])
    watch.assert_unharmed()


ODD_FIELDS = {
    "version-4": lambda signed: signed.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020103"), 1),
    "extensions-twice": lambda signed: signed + signed[signed.index(b"\xa3\x81") :],
    "no-such-date": lambda signed: signed.replace(b"\x17\x0d", b"\x17\x0d9913", 1),
}


@pytest.mark.parametrize("change", ODD_FIELDS.values(), ids=ODD_FIELDS)
def test_a_certificate_of_another_shape_is_an_alert(
    router: RouterProcess, strict: Door, east_ca: CA, caller: Credential, change: Callable[[bytes], bytes]
) -> None:
    """Attack 28: a version or a structure that X.509 v3 does not have is refused in the handshake, signed or not."""
    header = 3 if caller.certificate.tbs_certificate_bytes[1] == 0x81 else 4
    signed = caller.certificate.tbs_certificate_bytes
    forged = sign_again(east_ca, der(0x30, change(signed[header:])))
    watch = Watch(router)
    assert outcome(router, strict.host, forged, caller) == "alert"
    assert_unseen(strict)
    watch.assert_unharmed()


def as_version_1(ca: CA, credential: Credential) -> bytes:
    """The certificate without its version field, which makes it a version 1 that has extensions all the same."""
    signed = credential.certificate.tbs_certificate_bytes
    header = 3 if signed[1] == 0x81 else 4
    return sign_again(ca, der(0x30, signed[header:].replace(bytes.fromhex("a003020102"), b"", 1)))


def test_an_older_version_hides_no_extension(router: RouterProcess, strict: Door, east_ca: CA, caller: Credential) -> None:
    """Attack 28: what a version 1 says of its purpose, or of being an authority, is held against it as in version 3."""
    for credential in (east_ca.issue_instance("a", eku=SERVER_ONLY), east_ca.issue(caller.certificate.subject, authority=True)):
        assert outcome(router, strict.host, as_version_1(east_ca, credential), credential) == "alert"
    assert_unseen(strict)
    assert outcome(router, strict.host, as_version_1(east_ca, caller), caller) == "200"


def test_what_openssl_takes_and_our_parser_does_not_is_an_alert(make_router: MakeRouter, east_ca: CA, caller: Credential) -> None:
    """Attack 28: an X.509 version 4 under lists of revocation and under `verify_client_certificate_metadata`: still an alert."""
    metadata = [{"issuer_in_chain": {"common_name": "east instance identity"}, "valid_cert_subjects": [{"common_name": "x"}]}]
    router = make_router(
        mtls_domains=[mtls_domain("*.east.example", east_ca, crls=[east_ca.crl([])])],
        client_cert_validation="require", client_ca_certs=east_ca.pem, only_trust_client_ca_certs=True,
        enable_verify_client_certificate_metadata=True, verify_client_certificate_metadata=metadata,
    )  # fmt: skip
    signed = caller.certificate.tbs_certificate_bytes
    forged = sign_again(east_ca, signed.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020103"), 1))
    for host in ("x.east.example", "x.open.example"):
        with pytest.raises(TlsRefusedError) as refusal:
            get(router.ssl_port, host, tls=Tls(host, as_openssl_reads(forged, caller)))
        assert refusal.value.alert == 80
    assert router.metric("internal_errors") == 0
    assert get_status(router, "x.open.example", east_ca.issue(name_of([[(x509.NameOID.COMMON_NAME, "x")]]))) == 404


def get_status(router: RouterProcess, host: str, credential: Credential) -> int:
    return get(router.ssl_port, host, tls=Tls(host, credential)).status


def test_refused_certificates_leave_no_memory_behind(router: RouterProcess, strict: Door, caller: Credential) -> None:
    """Attack 28: hundreds of refused handshakes more do not make the router grow."""
    resident = []
    for _ in range(3):
        for at in range(100):
            assert refused(router, strict.host, caller, changed(CERTIFICATE, flipped(6 + 4 * at, 0x01))) is not None
        resident.append(router.resident_kib())
    assert resident[-1] - resident[0] < 2048, f"KiB after each hundred: {resident}"
    assert get_status(router, strict.host, caller) == 200
