"""Certificates and keys from PEM text, and which server certificate answers for a name.

Promise: a `ServerCertificate` exists only if its chain parses, its key fits its leaf and the leaf names at least one DNS
name or address (a name in the subject's CN alone is not a name: RFC 9110 section 4.3.4). `CertificateTable.choose` prefers
an exact name to a wildcard (one label, RFC 6125 section 6.4.3), and falls back to the first certificate. Errors are
`ValueError`s that never contain key material.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

PrivateKey = (
    rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey | dsa.DSAPrivateKey
)


UNREADABLE: Final = (
    ValueError, TypeError, KeyError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType,
)  # fmt: skip
"""What the parser of a certificate's fields raises for one that OpenSSL could read."""


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A leaf with its chain and key; `names` are the leaf's DNS names, lower-case."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey
    names: tuple[str, ...]
    fingerprint: str

    @property
    def label(self) -> str:
        return self.names[0] if self.names else self.fingerprint[:16]

    @property
    def not_after(self) -> float:
        """Expiry in epoch seconds."""
        return self.chain[0].not_valid_after_utc.timestamp()


def read_server_certificate(chain_pem: str, key_pem: str) -> ServerCertificate:
    """A pair that can answer for a name; raises ValueError saying which part is wrong."""
    chain, key = read_pair(chain_pem, key_pem)
    names, addresses = subject_alternative_names(chain[0])
    if not names and not addresses:
        raise ValueError("the certificate has no subject alternative name")
    return ServerCertificate(chain, key, names, fingerprint(chain))


def read_pair(chain_pem: str, key_pem: str) -> tuple[tuple[x509.Certificate, ...], PrivateKey]:
    """A chain and the key of its first certificate; raises ValueError saying which part is wrong."""
    chain = read_certificates(chain_pem)
    try:
        key = serialization.load_pem_private_key(key_pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise ValueError("the private key is not an unencrypted PEM key") from error
    if not isinstance(key, PrivateKey):
        raise ValueError("the private key's type cannot sign for TLS")  # noqa: TRY004
    if _public(key.public_key()) != _public(chain[0].public_key()):
        raise ValueError("the private key does not belong to the first certificate of cert_chain")
    return chain, key


def read_certificates(pem: str) -> tuple[x509.Certificate, ...]:
    """One or more certificates; raises ValueError when there is none or one does not parse."""
    try:
        return tuple(x509.load_pem_x509_certificates(pem.encode()))
    except ValueError as error:
        raise ValueError("no PEM certificate could be read") from error


def subject_alternative_names(cert: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(DNS names in lower case, IP addresses as text)."""
    try:
        san = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return (), ()
    names = tuple(name.lower() for name in san.get_values_for_type(x509.DNSName))
    return names, tuple(str(address) for address in san.get_values_for_type(x509.IPAddress))


def fingerprint(chain: Iterable[x509.Certificate]) -> str:
    digest = hashlib.sha256()
    for cert in chain:
        digest.update(cert.public_bytes(serialization.Encoding.DER))
    return digest.hexdigest()


def name_matches(pattern: str, name: str) -> bool:
    """Does a certificate's DNS name (`*.` stands for exactly one label) cover `name`? Both lower-case."""
    if pattern.startswith("*."):
        _, dot, rest = name.partition(".")
        return bool(dot) and rest == pattern[2:]
    return pattern == name


class CertificateTable:
    """Which certificate answers for a server name; the first is the default."""

    def __init__(self, certificates: Iterable[ServerCertificate]) -> None:
        self.certificates = tuple(certificates)
        self._by_name: dict[str, int] = {}
        for index, certificate in enumerate(self.certificates):
            for name in certificate.names:
                self._by_name.setdefault(name, index)

    def __iter__(self) -> Iterator[ServerCertificate]:
        return iter(self.certificates)

    def choose(self, server_name: str | None) -> int:
        """The index of the certificate for `server_name` (lower-case, without a trailing dot); 0 for an unknown or absent one."""
        if server_name is None:
            return 0
        exact = self._by_name.get(server_name)
        if exact is not None:
            return exact
        return self._by_name.get("*." + server_name.partition(".")[2], 0)

    def bears(self, server_name: str) -> bool:
        """Whether a certificate is for this very name, so that none stands in for it."""
        return server_name in self._by_name or "*." + server_name.partition(".")[2] in self._by_name

    def may_answer(self, pattern: str) -> set[int]:
        """Indexes that `choose` can return for a host that the domain pattern (`*.suffix`: any depth) covers; none where there
        is no certificate, for then nobody can ask.
        """
        default = {0} if self.certificates else set()
        return default | {index for name, index in self._by_name.items() if _overlap(pattern, name)}


def _overlap(pattern: str, name: str) -> bool:
    if not pattern.startswith("*."):
        return name_matches(name, pattern)
    return name.removeprefix("*.").endswith("." + pattern[2:]) or name == pattern


def _public(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
