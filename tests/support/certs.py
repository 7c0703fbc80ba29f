"""Certificates in milliseconds: authorities, Diego-like instance certificates, server certificates, odd ones.

All keys are ECDSA P-256. A `Credential` is what a TLS peer holds: leaf, intermediates, key; as objects, PEM,
files.
"""

import atexit
import datetime as dt
import functools
import ipaddress
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

CLIENT_AND_SERVER = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
CLIENT_ONLY = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER_ONLY = (ExtendedKeyUsageOID.SERVER_AUTH,)
EMAIL_ONLY = (ExtendedKeyUsageOID.EMAIL_PROTECTION,)

Rdns = Sequence[Sequence[tuple[ObjectIdentifier, str]]]
"""A subject, RDN by RDN: two attributes in one inner list make a multi-valued RDN."""


@functools.cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory(prefix="vestibule-certs-")
    atexit.register(made.cleanup)
    return made


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True, eq=False)
class Credential:
    """A certificate with its key and the intermediates up to, not including, the root."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    intermediates: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def chain_pem(self) -> str:
        """The leaf, then the intermediates."""
        return "".join(pem(c) for c in (self.certificate, *self.intermediates))

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def files(self, directory: Path | None = None) -> tuple[Path, Path]:
        """Write and name (chain file, key file); by default in a directory that goes with the process."""
        directory = directory or Path(_directory().name)
        stem = uuid.uuid4().hex
        chain, key = directory / f"{stem}.crt", directory / f"{stem}.key"
        chain.write_text(self.chain_pem)
        key.write_text(self.key_pem)
        return chain, key


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def plain_name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def name_of(rdns: Rdns) -> x509.Name:
    """A subject exactly as given; values that X.520 forbids (empty, over-long) are not checked."""
    return x509.Name(
        [x509.RelativeDistinguishedName([x509.NameAttribute(o, v, _validate=False) for o, v in rdn]) for rdn in rdns]
    )


class CA:
    """An authority. `parent` makes it an intermediate of another one."""

    def __init__(
        self,
        name: str,
        parent: "CA | None" = None,
        *,
        path_length: int | None = None,
        name_constraints: x509.NameConstraints | None = None,
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> None:
        self.name = plain_name(name)
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.parent = parent
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=True, path_length=path_length), True),
            (_key_usage(authority=True), True),
        ]
        if name_constraints is not None:
            extensions.append((name_constraints, True))
        issuer = parent or self
        self.certificate = issuer._sign(self.name, self.key, extensions, not_before, not_after)

    @property
    def pem(self) -> str:
        return pem(self.certificate)

    @property
    def intermediates(self) -> tuple[x509.Certificate, ...]:
        """What a leaf of this authority must send along: empty for a root."""
        return (self.certificate, *self.parent.intermediates) if self.parent is not None else ()

    @property
    def file(self) -> Path:
        """This authority's certificate as a file."""
        path = Path(_directory().name) / f"ca-{self.certificate.serial_number:x}.crt"
        if not path.exists():
            path.write_text(self.pem)
        return path

    def issue(
        self,
        subject: x509.Name,
        *,
        eku: Iterable[ObjectIdentifier] | None = CLIENT_AND_SERVER,
        san: Sequence[x509.GeneralName] = (),
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
        authority: bool = False,
        key_usage: bool = True,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> Credential:
        """Any leaf. `eku=None` leaves the extension out; `authority` marks the leaf as a CA."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        extensions: list[tuple[x509.ExtensionType, bool]] = [(x509.BasicConstraints(ca=authority, path_length=None), True)]
        if key_usage:
            extensions.append((_key_usage(authority=authority), True))
        if eku is not None:
            extensions.append((x509.ExtendedKeyUsage(list(eku)), False))
        if san:
            extensions.append((x509.SubjectAlternativeName(list(san)), False))
        certificate = self._sign(subject, key, extensions, not_before, not_after)
        return Credential(certificate, key, self.intermediates)

    def issue_instance(
        self,
        app: str | None = None,
        space: str | None = None,
        org: str | None = None,
        *,
        multi_valued: bool = True,
        extra_ous: Sequence[str] = (),
        instance: str | None = None,
        eku: Iterable[ObjectIdentifier] | None = CLIENT_AND_SERVER,
        san: Sequence[x509.GeneralName] | None = None,
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
    ) -> Credential:
        """A Diego-like instance identity certificate: OUs in one RDN, as Go writes them, or one RDN each."""
        instance = instance or str(uuid.uuid4())
        named = (("organization", org), ("space", space), ("app", app))
        units = [(NameOID.ORGANIZATIONAL_UNIT_NAME, f"{kind}:{guid}") for kind, guid in named if guid is not None]
        units += [(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in extra_ous]
        organizational = [units] if multi_valued else [[unit] for unit in units]
        subject = name_of([*(rdn for rdn in organizational if rdn), [(NameOID.COMMON_NAME, instance)]])
        if san is None:
            san = [x509.DNSName(instance), x509.IPAddress(ipaddress.ip_address("10.255.0.7"))]
        return self.issue(subject, eku=eku, san=san, not_before=not_before, not_after=not_after)

    def issue_server(
        self,
        *names: str,
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> Credential:
        """A server certificate for DNS names (wildcards too) and IP addresses."""
        san = [_general_name(name) for name in names]
        subject = plain_name(names[0])
        return self.issue(subject, eku=SERVER_ONLY, san=san, not_before=not_before, not_after=not_after, key=key)

    def crl(
        self,
        revoked: Iterable[Credential | x509.Certificate | int] = (),
        *,
        last_update: dt.datetime | None = None,
        next_update: dt.datetime | None = None,
    ) -> str:
        """A revocation list in PEM, good for a day unless told otherwise."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(last_update or _now() - dt.timedelta(hours=1))
            .next_update(next_update or _now() + dt.timedelta(days=1))
        )
        for entry in revoked:
            serial = entry if isinstance(entry, int) else _serial(entry)
            revocation = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_now()).build()
            builder = builder.add_revoked_certificate(revocation)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extensions: Iterable[tuple[x509.ExtensionType, bool]],
        not_before: dt.datetime | None,
        not_after: dt.datetime | None,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before or _now() - dt.timedelta(hours=1))
            .not_valid_after(not_after or _now() + dt.timedelta(days=90))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())


@functools.cache
def authority(name: str) -> CA:
    """One authority a name for the whole test process."""
    return CA(name)


def _serial(entry: Credential | x509.Certificate) -> int:
    return (entry.certificate if isinstance(entry, Credential) else entry).serial_number


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
