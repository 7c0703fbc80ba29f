"""What a handshake would make of a client's certificate, without the client and without its key.

Promise: the context of `contexts.py` itself judges, with its anchors, CRLs, flags, purpose and verify callback, and OpenSSL
itself chooses the alert: two peers in memory speak TLS 1.2 up to the client's Certificate message (RFC 5246, section 7.4.6),
which the server judges as it arrives, before the client must prove that it has the key. TLS 1.3 judges alike; only the alert
for no certificate at all differs, and is named here as TLS 1.3 sends it.
Refuses to know: whether the key is there, which cipher would be agreed, whose turn it is afterwards.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from router.tls.certificates import ServerCertificate, fingerprint
from router.tls.contexts import ClientPolicy, TlsSettings, make_context
from router.tls.session import VerifyNote, reason_of

MAX_CHAIN_BYTES: Final = 100 * 1024
"""OpenSSL reads no longer Certificate message (SSL_CTX_set_max_cert_list's default)."""

ALERTS: Final = {
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    50: "decode_error",
    51: "decrypt_error",
    80: "internal_error",
    116: "certificate_required",
}
"""Numbers and names of alerts (RFC 8446, section 6.2) that a client's certificate, or its absence, can bring about."""

_SETTINGS: Final = TlsSettings("TLSv1.2", "TLSv1.2")
_RECORD: Final = 16384
_HANDSHAKE, _ALERT, _CERTIFICATE = 22, 21, 11


class Rehearsed(NamedTuple):
    """How it went: `reason` is "ok" or one of `session.REASONS`; `alert` the number that the client would be sent."""

    reason: str
    alert: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the handshake would go on."""
        return self.reason == "ok"

    @property
    def alert_name(self) -> str:
        """The alert as RFC 8446 calls it; empty for none."""
        return "" if self.alert is None else ALERTS.get(self.alert, f"alert_{self.alert}")


NO_CERTIFICATE: Final = Rehearsed("no_certificate", 116)


def rehearse(policy: ClientPolicy, chain: Sequence[bytes]) -> Rehearsed:
    """Show `chain` (DER, leaf first, then what the client sends along; empty: no certificate) to a handshake of `policy`, now."""
    if policy.mode == "none":
        return Rehearsed("ok")
    if not chain:
        return NO_CERTIFICATE if policy.mode == "require" else Rehearsed("ok")
    if sum(map(len, chain)) > MAX_CHAIN_BYTES:
        return Rehearsed("other", 47)
    server, note = _server(policy)
    try:
        server.bio_write(_hello())
        _advance(server)
        server.bio_read(MAX_CHAIN_BYTES)
        server.bio_write(b"".join(_records(_certificate_message(chain))))
        _advance(server)
    except SSL.Error as error:
        return Rehearsed(reason_of(error, note)[0], _alert_of(server))
    return Rehearsed("ok")


def _server(policy: ClientPolicy) -> tuple[SSL.Connection, VerifyNote]:
    server, note = SSL.Connection(make_context("rehearsal", policy, _stand_in(), _SETTINGS)), VerifyNote()
    server.set_app_data(note)
    server.set_accept_state()
    return server, note


def _hello() -> bytes:
    """A ClientHello of OpenSSL's own making."""
    client = SSL.Connection(SSL.Context(SSL.TLSv1_2_METHOD))
    client.set_connect_state()
    _advance(client)
    return client.bio_read(_RECORD)


def _advance(peer: SSL.Connection) -> None:
    """Go as far as the bytes that are there."""
    try:
        peer.do_handshake()
    except SSL.WantReadError:
        return


def _certificate_message(chain: Iterable[bytes]) -> bytes:
    listed = b"".join(_counted(der) for der in chain)
    return bytes([_CERTIFICATE]) + _counted(_counted(listed))


def _counted(data: bytes) -> bytes:
    return len(data).to_bytes(3, "big") + data


def _records(message: bytes) -> Iterable[bytes]:
    for at in range(0, len(message), _RECORD):
        part = message[at : at + _RECORD]
        yield bytes([_HANDSHAKE, 3, 3]) + len(part).to_bytes(2, "big") + part


def _alert_of(server: SSL.Connection) -> int | None:
    try:
        said = server.bio_read(_RECORD)
    except SSL.WantReadError:
        return None
    return said[-1] if len(said) >= 7 and said[-7] == _ALERT else None


@cache
def _stand_in() -> ServerCertificate:
    """A server certificate that nobody is shown: a handshake cannot begin without one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "rehearsal")])
    start = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    certificate = builder.not_valid_before(start).not_valid_after(start + dt.timedelta(days=1)).sign(key, hashes.SHA256())
    return ServerCertificate((certificate,), key, (), fingerprint([certificate]))
