"""Certificates with any subject, made for one test: the shapes that no ordinary issuer writes included."""

import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

OU = NameOID.ORGANIZATIONAL_UNIT_NAME
CN = NameOID.COMMON_NAME

Rdn = Sequence[tuple[x509.ObjectIdentifier, str]]


@cache
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def leaf(*rdns: Rdn) -> bytes:
    """Return the DER of a self-signed certificate with these RDNs, each a list of (OID, text)."""
    with warnings.catch_warnings(action="ignore"):
        name = x509.Name(
            x509.RelativeDistinguishedName([x509.NameAttribute(*pair, _validate=False) for pair in rdn]) for rdn in rdns
        )
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.Name([x509.NameAttribute(CN, "test issuer")]))
        .public_key(_key().public_key())
        .serial_number(7)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
        .sign(_key(), hashes.SHA256())
    )
    return built.public_bytes(Encoding.DER)


def ous(*texts: str) -> bytes:
    """Return a certificate with one OU an RDN."""
    return leaf(*([(OU, text)] for text in texts))
