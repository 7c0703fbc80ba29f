"""The demo's authorities, and certificates as Diego gives them to app instances.

Promises: keys are ECDSA P-256 and certificates good for a day. Refuses to know: files, who trusts whom.
"""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_SIGNS = x509.KeyUsage(
    digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
)  # fmt: skip


class Pair(NamedTuple):
    """A certificate and its key, in PEM."""

    certificate: str
    key: str


class Authority:
    """One certificate authority."""

    def __init__(self, name: str) -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self._certificate = self._sign(self._name, self._key, [(constraints, True), (_SIGNS, True)])

    @property
    def pem(self) -> str:
        """The authority's own certificate."""
        return self._certificate.public_bytes(Encoding.PEM).decode()

    def issue_server(self, *names: str) -> Pair:
        """A certificate for DNS names, wildcards too."""
        names_of = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        return self._issue(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]), names_of, usage)

    def issue_instance(self, instance: str, *, app: str, space: str, org: str) -> Pair:
        """An instance identity: three OUs in one RDN, as Diego's authority writes them."""
        units = (f"organization:{org}", f"space:{space}", f"app:{app}")
        subject = x509.Name(
            [
                x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units]),
                x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, instance)]),
            ]
        )
        names = x509.SubjectAlternativeName([x509.DNSName(instance), x509.IPAddress(ipaddress.ip_address("10.255.0.7"))])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
        return self._issue(subject, names, usage)

    def _issue(self, subject: x509.Name, names: x509.SubjectAlternativeName, usage: x509.ExtendedKeyUsage) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = x509.BasicConstraints(ca=False, path_length=None)
        certificate = self._sign(subject, key, [(leaf, True), (names, False), (usage, False)])
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Pair(certificate.public_bytes(Encoding.PEM).decode(), pem.decode())

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extensions: Sequence[tuple[x509.ExtensionType, bool]]
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - dt.timedelta(minutes=5),
            not_valid_after=now + dt.timedelta(days=1),
        )
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        for extension, critical in (*extensions, (own, False), (issuer, False)):
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())
