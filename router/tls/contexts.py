"""A TLS context per (client-certificate policy, server certificate), all built before the first handshake.

Promise: `Contexts.choose(server_name)` returns that name's whole context, so OpenSSL never changes its mind in a callback
(switching a context or a verify mode there fails open). Contexts that ask for a client certificate never resume a session:
`OP_NO_TICKET` *and* `SESS_CACHE_OFF` (the first alone still resumes from the cache), because a resumed session carries no
verified chain. Each CA certificate of a policy is a trust anchor by itself (`PARTIAL_CHAIN`); system roots are anchors only
where the operator's global setting says so.

An unchanged (policy, certificate) pair keeps its context over reloads, so that tickets of open domains stay good; a used
context is never modified.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL, crypto

from authz.domain import DomainPolicy, DomainTable
from router.tls.certificates import UNREADABLE, CertificateTable, ServerCertificate, fingerprint
from router.tls.session import CERTIFICATE_METADATA, LEAF_IS_CA, LEAF_UNREADABLE, VerifyNote

VERSIONS: Final = {
    "TLSv1.0": SSL.TLS1_VERSION,
    "TLSv1.1": SSL.TLS1_1_VERSION,
    "TLSv1.2": SSL.TLS1_2_VERSION,
    "TLSv1.3": SSL.TLS1_3_VERSION,
}

_UNABLE_TO_GET_CRL: Final = 3
_MODE_NO_AUTO_CHAIN: Final = 8
"""SSL_MODE_NO_AUTO_CHAIN, which pyOpenSSL does not name: a chain of one is sent as it is configured, and not searched for an
issuer among the authorities for clients, and verified, in every handshake.
"""
_MODE_ENABLE_PARTIAL_WRITE: Final = 1
"""SSL_MODE_ENABLE_PARTIAL_WRITE, which pyOpenSSL sets and does not name: a call returns after each record of 16 KiB. Without it
one call writes every record that the kernel takes, and how many those were is not said before the last has left. Connections to
backends keep it: a request of which a byte left is not sent again.
"""
HTTP2: Final = b"h2"
_HTTP1: Final = b"http/1.1"


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Versions and ciphers; `ciphers` is an OpenSSL list for TLS 1.2 and below, `ciphersuites` for 1.3; empty = the default.
    `http2`: is it offered beside HTTP/1.1?
    """

    min_version: str = "TLSv1.2"
    max_version: str = "TLSv1.3"
    ciphers: str = ""
    ciphersuites: str = ""
    http2: bool = True


Subject = frozenset[tuple[str, str]]
"""A distinguished name without its order: pairs of attribute OID and value."""

SubjectRule = tuple[Subject, tuple[Subject, ...]]
"""(a CA's subject, the leaf subjects allowed below it): verify_client_certificate_metadata."""


def subject_of(name: x509.Name) -> Subject:
    return frozenset((attribute.oid.dotted_string, str(attribute.value)) for attribute in name)


@dataclass(frozen=True, slots=True)
class ClientPolicy:
    """What a handshake demands of the client: `none` asks for nothing, `request` verifies what is given, `require` insists."""

    mode: Literal["none", "request", "require"] = "none"
    anchors: tuple[x509.Certificate, ...] = ()
    crls: tuple[x509.CertificateRevocationList, ...] | None = None
    system_roots: bool = False
    metadata: tuple[SubjectRule, ...] = ()
    fingerprint: str = field(init=False)
    revoked: frozenset[tuple[bytes, int]] = field(init=False)

    def __post_init__(self) -> None:
        """`fingerprint` names mode and CA set (a change of either closes connections), not the CRLs (`revoked` judges those
        by leaf).
        """
        parts = [
            self.mode,
            str(self.system_roots),
            repr(self.metadata),
            *sorted(fingerprint([ca]) for ca in self.anchors),
        ]
        object.__setattr__(self, "fingerprint", hashlib.sha256("|".join(parts).encode()).hexdigest())
        revoked = {(crl.issuer.public_bytes(), entry.serial_number) for crl in self.crls or () for entry in crl}
        object.__setattr__(self, "revoked", frozenset(revoked))


class Chosen(NamedTuple):
    """The context for a server name, and what it will have enforced once the handshake is done."""

    context: SSL.Context
    domain: DomainPolicy | None
    policy: ClientPolicy


class Contexts:
    """All contexts of one configuration generation."""

    def __init__(
        self,
        certificates: Iterable[ServerCertificate],
        settings: TlsSettings,
        default_policy: ClientPolicy,
        domains: DomainTable,
        domain_policies: Mapping[str, ClientPolicy],
        previous: Contexts | None = None,
    ) -> None:
        """`domain_policies` maps a domain's pattern to its policy. Raises ValueError or SSL.Error when a context cannot be
        built.
        """
        self.certificates = CertificateTable(certificates)
        self.default_policy = default_policy
        self._domains = domains
        self._policies = domain_policies
        self._settings = settings
        self._built: dict[tuple[object, ...], SSL.Context] = {}
        self._reusable = previous._built if previous is not None else {}
        self._chosen: dict[tuple[str, int], Chosen] = {}
        for index in range(len(self.certificates.certificates)):
            self._build(None, default_policy, index)
        for domain in domains.policies:
            for index in self.certificates.may_answer(domain.pattern):
                self._build(domain, domain_policies[domain.pattern], index)
        self._reusable = {}

    def choose(self, server_name: str | None) -> Chosen:
        """`server_name`: lower-case, no trailing dot; None or unknown gets the default certificate and the global policy."""
        domain = self._domains.claim(server_name) if server_name is not None else None
        pattern = domain.pattern if domain is not None else ""
        return self._chosen[pattern, self.certificates.choose(server_name)]

    def policy_of(self, pattern: str | None) -> ClientPolicy | None:
        """Today's client-certificate policy of a domain (None: of every host that no domain claims); None when there is none
        any more.
        """
        return self.default_policy if pattern is None else self._policies.get(pattern)

    def expiries(self) -> dict[tuple[str, ...], float]:
        """When each server certificate, and the first authority of each domain, ends: epoch seconds by name."""
        ends: dict[tuple[str, ...], float] = {(item.label,): item.not_after for item in self.certificates}
        for pattern, policy in self._policies.items():
            ends[f"ca:{pattern}",] = min(anchor.not_valid_after_utc.timestamp() for anchor in policy.anchors)
        return ends

    def _build(self, domain: DomainPolicy | None, policy: ClientPolicy, index: int) -> None:
        certificate = self.certificates.certificates[index]
        name = domain.pattern if domain is not None else ""
        crl_print = None if policy.crls is None else tuple(crl.fingerprint(hashes.SHA256()) for crl in policy.crls)
        key = (name, policy.fingerprint, crl_print, certificate.fingerprint, self._settings)
        context = self._reusable.get(key) or make_context(name, policy, certificate, self._settings)
        self._built[key] = context
        self._chosen[name, index] = Chosen(context, domain, policy)


def make_context(name: str, policy: ClientPolicy, certificate: ServerCertificate, settings: TlsSettings) -> SSL.Context:
    """One server context; raises ValueError or SSL.Error when OpenSSL refuses a part of it."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    _set_protocol(context, settings)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | _MODE_NO_AUTO_CHAIN)
    context.clear_mode(_MODE_ENABLE_PARTIAL_WRITE)
    context.set_options(
        SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_SINGLE_ECDH_USE
    )
    context.set_session_id(hashlib.sha256(f"{name}|{policy.fingerprint}".encode()).digest())
    # OpenSSL forgets the name on a TLS 1.2 resumption unless someone listens for it.
    context.set_tlsext_servername_callback(_keep_server_name)
    context.set_alpn_select_callback(_select_http2 if settings.http2 else _select_http1)
    context.use_privatekey(certificate.key)
    context.use_certificate(certificate.chain[0])
    for issuer in certificate.chain[1:]:
        context.add_extra_chain_cert(issuer)
    context.check_privatekey()
    if policy.mode == "none":
        context.set_verify(SSL.VERIFY_NONE, None)
        context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    else:
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        _demand_certificate(context, policy)
    return context


def _set_protocol(context: SSL.Context, settings: TlsSettings) -> None:
    context.set_min_proto_version(VERSIONS[settings.min_version])
    context.set_max_proto_version(VERSIONS[settings.max_version])
    if settings.ciphers:
        context.set_cipher_list(settings.ciphers.encode())
    if settings.ciphersuites:
        context.set_tls13_ciphersuites(settings.ciphersuites.encode())


def _demand_certificate(context: SSL.Context, policy: ClientPolicy) -> None:
    store = context.get_cert_store()
    if store is None:
        raise ValueError("OpenSSL has no certificate store")
    for anchor in policy.anchors:
        store.add_cert(crypto.X509.from_cryptography(anchor))
        context.add_client_ca(anchor)
    if policy.system_roots:
        context.set_default_verify_paths()
    flags = crypto.X509StoreFlags.PARTIAL_CHAIN
    if policy.crls is not None:
        flags |= crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL
        for crl in policy.crls:
            store.add_crl(crl)
    store.set_flags(flags)
    mode = SSL.VERIFY_PEER | SSL.VERIFY_CLIENT_ONCE
    if policy.mode == "require":
        mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    context.set_verify(mode, _verifier(policy))


def _verifier(policy: ClientPolicy) -> SSL._VerifyCallback:
    """The verify callback: notes OpenSSL's first error for the log and metric, and adds the checks OpenSSL does not know.

    It must not raise: pyOpenSSL would raise that out of the handshake, past the alert.
    """
    anchors = {fingerprint([anchor]) for anchor in policy.anchors}

    def verify(connection: SSL.Connection, cert: crypto.X509, error: int, depth: int, ok: int) -> bool:
        note: VerifyNote = connection.get_app_data()
        if not ok and error == _UNABLE_TO_GET_CRL and depth > 0:
            # CRL_CHECK_ALL asks for a CRL of the trust anchor's own issuer too; an anchor is trusted as it stands.
            ok = hashlib.sha256(crypto.dump_certificate(crypto.FILETYPE_ASN1, cert)).hexdigest() in anchors
        if not ok:
            note.error = note.error or error
            return False
        if policy.metadata:
            note.subjects.append(cert)
        if depth == 0:
            note.error = note.error or _judge_leaf(cert, policy.metadata, note.subjects)
        return not note.error

    return verify


def _judge_leaf(cert: crypto.X509, rules: tuple[SubjectRule, ...], seen: list[crypto.X509]) -> int:
    """The number of what speaks against a leaf whose chain is good, 0 for nothing.

    An authority's certificate is nobody's identity, and one that the parser of its fields cannot read proves nothing.
    """
    flaw = _flaw_of(crypto.dump_certificate(crypto.FILETYPE_ASN1, cert))
    if flaw or not rules:
        return flaw
    try:
        with warnings.catch_warnings(action="ignore"):
            return 0 if _subject_allowed(rules, seen) else CERTIFICATE_METADATA
    except UNREADABLE:
        return LEAF_UNREADABLE


@lru_cache(maxsize=1024)  # a pure function of bytes; one certificate opens many connections
def _flaw_of(der: bytes) -> int:
    """What a leaf says against itself: the number, 0 for nothing."""
    try:
        with warnings.catch_warnings(action="ignore"):
            for extension in x509.load_der_x509_certificate(der).extensions:
                if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
                    return LEAF_IS_CA
    except UNREADABLE:
        return LEAF_UNREADABLE
    return 0


def _subject_allowed(rules: tuple[SubjectRule, ...], seen: list[crypto.X509]) -> bool:
    """`seen`: the chain as OpenSSL walked it, leaf last. A leaf below a named CA must have one of the subjects listed for it."""
    chain = [cert.to_cryptography() for cert in seen]
    leaf = subject_of(chain[-1].subject)
    authorities = {subject_of(cert.subject) for cert in chain[:-1]} | {subject_of(cert.issuer) for cert in chain}
    return all(leaf in allowed for authority, allowed in rules if authority in authorities)


def _keep_server_name(connection: SSL.Connection) -> None:
    """Nothing to do: that a callback exists makes OpenSSL keep the name."""


def _select_http2(connection: SSL.Connection, offered: list[bytes]) -> bytes | SSL._NoOverlappingProtocols:
    return HTTP2 if HTTP2 in offered else _select_http1(connection, offered)


def _select_http1(connection: SSL.Connection, offered: list[bytes]) -> bytes | SSL._NoOverlappingProtocols:
    return _HTTP1 if _HTTP1 in offered else SSL.NO_OVERLAPPING_PROTOCOLS
