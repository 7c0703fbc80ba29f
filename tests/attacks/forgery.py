"""Certificates that no honest authority writes: borrowed names and key identifiers, odd extensions, any bytes signed.

The parts of a certificate are taken from one that `tests.support.certs` made, changed, and signed again.
"""

import datetime as dt
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.certs import CA, CLIENT_ONLY, Credential, plain_name

ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
"""The AlgorithmIdentifier of ecdsa-with-SHA256, DER."""


def der(tag: int, value: bytes) -> bytes:
    """One DER element."""
    size = len(value)
    length = (
        bytes([size])
        if size < 0x80
        else bytes([0x80 | (size.bit_length() + 7) // 8]) + size.to_bytes((size.bit_length() + 7) // 8)
    )
    return bytes([tag]) + length + value


def sign_again(ca: CA, to_be_signed: bytes) -> bytes:
    """A certificate (DER) of these bytes, whatever they say, with a good signature of the CA."""
    signature = ca.key.sign(to_be_signed, ec.ECDSA(hashes.SHA256()))
    return der(0x30, to_be_signed + ECDSA_SHA256 + der(0x03, b"\0" + signature))


def impostor(genuine: CA) -> CA:
    """A CA with the subject and the key identifiers of `genuine`, and another key."""
    made = CA("impostor")
    made.name = genuine.name
    made.key = ec.generate_private_key(ec.SECP256R1())
    identifier = genuine.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    made.certificate = certificate(made, genuine.name, made.key, [(x509.BasicConstraints(True, None), True), (identifier, False)])
    return made


def certificate(
    ca: CA, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extensions: Sequence[tuple[x509.ExtensionType, bool]]
) -> x509.Certificate:
    """A certificate with exactly these extensions."""
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(ca.name, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=1))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(ca.key, hashes.SHA256())


def leaf(ca: CA, subject: x509.Name, *extensions: x509.ExtensionType, issuers: Sequence[x509.Certificate] = ()) -> Credential:
    """A client's leaf with these extensions besides clientAuth; `issuers` go along with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    every = [(x509.ExtendedKeyUsage(list(CLIENT_ONLY)), False), *((extension, False) for extension in extensions)]
    return Credential(certificate(ca, subject, key, every), key, tuple(issuers))


def as_authority(credential: Credential) -> CA:
    """A CA whose certificate is this one, whatever it may sign."""
    made = CA("leaf as authority")
    made.name, made.key, made.certificate = credential.certificate.subject, credential.key, credential.certificate
    return made


def self_signed(name: str) -> Credential:
    """A leaf that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    own = CA("self")
    own.name, own.key = plain_name(name), key
    return Credential(certificate(own, own.name, key, [(x509.ExtendedKeyUsage(list(CLIENT_ONLY)), False)]), key)
