"""A valid `Config` -> the `Snapshot` that the data plane reads, with every TLS context really built.

Promise: either a whole snapshot, or a `CompileError` that says which key could not be built; nothing of the running
configuration is touched. What a reload does not change is carried over: idle backend connections while their TLS settings
stand, and the contexts of unchanged (policy, certificate) pairs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from authz.deny import DenyLists
from authz.domain import DomainPolicy, DomainTable
from registry.names import NO_NAMES, HeardNames, Names
from registry.sieve import Sieve
from router.backend.dial import BackendTls, Dialer
from router.backend.http2_pool import Http2Pool
from router.backend.pool import IdlePool
from router.config.compile_error import CompileError
from router.config.compile_l4 import static_routes
from router.config.deny import deny_lists
from router.config.domains import DomainConfig
from router.config.model import Config
from router.config.sections import Subject as SubjectConfig
from router.config.template import read_template
from router.l7.error_page import ErrorPage
from router.l7.hygiene import HeaderPolicy, header_policy
from router.l7.policies import L7Policies, Policy
from router.l7.route_service_seal import Seal
from router.l7.route_services import RouteServices, blocked
from router.l7.sticky import sticky_policy
from router.limits import Limits
from router.live import Snapshot
from router.net.deadline import Wheel
from router.tls.certificates import PrivateKey, ServerCertificate, read_certificates, read_pair, read_server_certificate
from router.tls.contexts import VERSIONS, ClientPolicy, Contexts, Subject, SubjectRule, TlsSettings
from router.wire.http1 import HeadLimits


def compile_config(
    config: Config,
    generation: int,
    loop: asyncio.AbstractEventLoop,
    wheel: Wheel,
    previous: Snapshot | None = None,
) -> Snapshot:
    """Raises CompileError."""
    limits = Limits.from_config(config)
    domains, policies = compile_domains(config)
    contexts = _contexts(config, domains, policies, previous.contexts if previous is not None else None)
    deny = deny_lists(config.deny)
    idle = _idle(config, limits, previous)
    return Snapshot(
        generation=generation,
        config=config,
        limits=limits,
        request_limits=HeadLimits(limits.request_head_bytes, limits.request_fields),
        response_limits=HeadLimits(limits.response_head_bytes, limits.response_fields),
        domains=domains,
        deny=deny,
        sieve=Sieve(deny),
        l7_policies=_l7_policies(config),
        contexts=contexts,
        headers=_headers(config),
        xfcc_mode=config.forwarded_client_cert,
        xfcc_format="raw",
        dialer=_dialer(config, limits, loop, wheel, deny),
        idle=idle,
        http2=_http2(config, limits, idle, previous, loop),
        healthcheck_user_agent=config.healthcheck_user_agent.encode(),
        zone=config.zone if config.balancing_algorithm_az_preference == "locally-optimistic" else "",
        names=_names(config, previous),
        sticky=sticky_policy(
            config.sticky_session_cookie_names,
            secure=config.secure_cookies,
            negotiate=config.sticky_sessions_for_auth_negotiate,
        ),
        error_page=_error_page(config),
        route_services=_route_services(config, limits, loop, wheel, deny, previous),
    )


def _l7_policies(config: Config) -> L7Policies | None:
    policies = [Policy(*entry.place, entry.type, entry.value) for entry in config.l7_policies]
    policies += [Policy(route.host, "", terms.type, terms.value) for route in static_routes(config) for terms in route.policies]
    return L7Policies(policies) if policies else None


def compile_domains(config: Config) -> tuple[DomainTable, Mapping[str, ClientPolicy]]:
    """The domains, and by pattern what a handshake of each must enforce, without building a TLS context. Raises CompileError."""
    policies = {domain.pattern: _domain_client_policy(domain) for domain in config.client_domains}
    domains = DomainTable(_domain_policy(domain, policies[domain.pattern]) for domain in config.client_domains)
    return domains, policies


def compile_open_policy(config: Config) -> ClientPolicy:
    """The global client_cert_validation, for hosts that no domain claims; GoRouter's meaning. Raises CompileError."""
    if config.client_cert_validation == "none":
        return ClientPolicy()
    texts = [config.client_ca_certs] if config.client_ca_certs else []
    if not config.only_trust_client_ca_certs:
        texts += config.ca_certs
    try:
        anchors = tuple(cert for text in texts if text for cert in read_certificates(text))
    except ValueError as error:
        raise CompileError("client_ca_certs", str(error)) from error
    rules: tuple[SubjectRule, ...] = ()
    if config.enable_verify_client_certificate_metadata:
        rules = tuple(
            (_subject(rule.issuer_in_chain), tuple(_subject(subject) for subject in rule.valid_cert_subjects))
            for rule in config.verify_client_certificate_metadata
        )
    return ClientPolicy(
        config.client_cert_validation,
        anchors,
        system_roots=not config.only_trust_client_ca_certs,
        metadata=rules,
    )


def why_not(config: Config) -> CompileError | None:
    """What keeps a valid configuration from being built, for `check`: the same building, thrown away."""
    loop = asyncio.new_event_loop()
    try:
        compile_config(config, 0, loop, Wheel(loop))
    except CompileError as error:
        return error
    finally:
        loop.close()
    return None


def _contexts(config: Config, domains: DomainTable, policies: Mapping[str, ClientPolicy], previous: Contexts | None) -> Contexts:
    terminating = config.enable_ssl or any(listener.kind == "tls" for listener in config.listeners)
    certificates = list(_server_certificates(config)) if terminating else []
    settings = TlsSettings(
        config.min_tls_version,
        config.max_tls_version,
        ":".join(config.cipher_suites.tls12),
        ":".join(config.cipher_suites.tls13),
        http2=config.enable_http2,
    )
    try:
        return Contexts(certificates, settings, compile_open_policy(config), domains, policies, previous)
    except (SSL.Error, ValueError) as error:
        raise CompileError("tls_pem", f"a TLS context could not be built: {error}") from error


def _server_certificates(config: Config) -> Iterable[ServerCertificate]:
    """Those of `tls_pem`, the default first; then those of static routes, each for its own host and for no other."""
    static = static_routes(config)
    own = {route.host for route in static}
    for index, pair in enumerate(config.tls_pem):
        certificate = _server_certificate(f"tls_pem[{index}]", pair.cert_chain, pair.private_key.get_secret_value())
        yield replace(certificate, names=tuple(name for name in certificate.names if name not in own))
    for route in static:
        certificate = _server_certificate(f"listeners[hostname={route.host}]", route.certificate, route.key)
        yield replace(certificate, names=(route.host,))


def _server_certificate(path: str, chain: str, key: str) -> ServerCertificate:
    try:
        return read_server_certificate(chain, key)
    except ValueError as error:
        raise CompileError(path, str(error)) from error


def _domain_client_policy(domain: DomainConfig) -> ClientPolicy:
    try:
        crls = tuple(crl for text in domain.crls for crl in _read_crls(text)) if domain.crls else None
        return ClientPolicy("require", read_certificates(domain.ca_certs), crls)
    except ValueError as error:
        raise CompileError(f"{domain.dialect}[domain={domain.pattern}]", str(error)) from error


def _read_crls(pem: str) -> Iterable[x509.CertificateRevocationList]:
    """Every CRL of a PEM text."""
    end = "-----END X509 CRL-----"
    for part in pem.split(end)[:-1]:
        yield x509.load_pem_x509_crl((part.strip() + "\n" + end + "\n").encode())


def _subject(subject: SubjectConfig) -> Subject:
    many = (
        (NameOID.COUNTRY_NAME, subject.country),
        (NameOID.ORGANIZATION_NAME, subject.organization),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, subject.organizational_unit),
        (NameOID.LOCALITY_NAME, subject.locality),
        (NameOID.STATE_OR_PROVINCE_NAME, subject.province),
        (NameOID.STREET_ADDRESS, subject.street_address),
        (NameOID.POSTAL_CODE, subject.postal_code),
        (NameOID.COMMON_NAME, (subject.common_name,) if subject.common_name else ()),
        (NameOID.SERIAL_NUMBER, (subject.serial_number,) if subject.serial_number else ()),
    )
    return frozenset((oid.dotted_string, value) for oid, values in many for value in values)


def _domain_policy(domain: DomainConfig, client_policy: ClientPolicy) -> DomainPolicy:
    return DomainPolicy(
        pattern=domain.pattern,
        dialect=domain.dialect,
        mode=domain.mode,
        identity_extractor=domain.identity_extractor,
        orgs=domain.orgs,
        spaces=domain.spaces,
        report_only=domain.report_only,
        xfcc_mode=domain.forwarded_client_cert,
        xfcc_format=domain.xfcc_format,
        client_policy=client_policy.fingerprint,
    )


def _headers(config: Config) -> HeaderPolicy:
    responses = config.http_rewrite.responses
    try:
        return header_policy(
            trusted_proxies=[str(network) for network in config.trusted_proxies],
            sanitize_forwarded_proto=config.sanitize_forwarded_proto,
            force_forwarded_proto_https=config.force_forwarded_proto_https,
            hop_by_hop_headers_to_filter=config.hop_by_hop_headers_to_filter,
            add_headers_if_not_present=[(item.name, item.value) for item in responses.add_headers_if_not_present],
            remove_headers=[item.name for item in responses.remove_headers],
            enable_w3c=config.tracing.enable_w3c,
            w3c_tenant_id=config.tracing.w3c_tenant_id,
            enable_zipkin=config.tracing.enable_zipkin,
            trace_key=config.trace_key,
        )
    except ValueError as error:
        raise CompileError("http_rewrite", str(error)) from error


def _dialer(config: Config, limits: Limits, loop: asyncio.AbstractEventLoop, wheel: Wheel, deny: DenyLists) -> Dialer:
    backends = config.backends
    try:
        pair = read_pair(backends.cert_chain, backends.private_key.get_secret_value()) if backends.cert_chain else ((), None)
        tls = _backend_tls(config, *pair)
        return Dialer(
            tls, loop, wheel, limits.dial_deadline, limits.backend_handshake_deadline, limits.keep_alive_probe_interval, deny
        )
    except (SSL.Error, ValueError) as error:
        raise CompileError("backends", str(error)) from error


def _backend_tls(
    config: Config,
    chain: tuple[x509.Certificate, ...],
    key: PrivateKey | None,
    versions: tuple[int, int] = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION),
) -> BackendTls:
    return BackendTls(
        roots=tuple(cert for text in config.ca_certs if text for cert in read_certificates(text)),
        system_roots=True,
        verify=not config.skip_ssl_validation,
        ciphers=":".join(config.cipher_suites.tls12),
        chain=chain,
        key=key,
        versions=versions,
    )


def _route_services(
    config: Config,
    limits: Limits,
    loop: asyncio.AbstractEventLoop,
    wheel: Wheel,
    deny: DenyLists,
    previous: Snapshot | None,
) -> RouteServices | None:
    secret, own = config.route_services_secret.get_secret_value(), config.route_services
    if not secret:
        return None
    before = previous.route_services if previous is not None else None
    lists = blocked(own.egress_blocklist, deny)
    same = before is not None and previous is not None and _service_view(previous.config) == _service_view(config)
    try:
        chain, key = read_pair(own.cert_chain, own.private_key.get_secret_value()) if own.cert_chain else ((), None)
        versions = VERSIONS[config.min_tls_version], VERSIONS[config.max_tls_version]
        tls = _backend_tls(config, chain, key, versions)
        dialer = Dialer(
            tls, loop, wheel, limits.dial_deadline, limits.backend_handshake_deadline, limits.keep_alive_probe_interval, lists
        )
    except (SSL.Error, ValueError) as error:
        raise CompileError("route_services", str(error)) from error
    return RouteServices(
        seal=before.seal
        if before is not None and same
        else Seal(secret, config.route_services_secret_decrypt_only.get_secret_value()),
        timeout=config.route_services_timeout,
        scheme="https" if config.route_services_recommend_https else "http",
        strict=own.strict_signature_validation,
        max_attempts=max(1, own.max_attempts),
        inside=frozenset(config.route_services_hairpinning_allowlist) if config.route_services_hairpinning else None,
        blocked=lists,
        dialer=dialer,
        idle=before.idle if before is not None and same else _new_pool(limits),
    )


def _names(config: Config, previous: Snapshot | None) -> Names:
    """The file's names, over all that registrations have said since the start."""
    heard = previous.names.heard if previous is not None else None
    return (config.logging.names_file or NO_NAMES).with_heard(HeardNames() if heard is None else heard)


def _error_page(config: Config) -> ErrorPage | None:
    if not config.html_error_template_file:
        return None
    template = read_template(config.html_error_template_file)
    if isinstance(template, list):
        raise CompileError("html_error_template_file", template[0].expected)
    return ErrorPage(template)


def _idle(config: Config, limits: Limits, previous: Snapshot | None) -> IdlePool:
    if previous is not None and _backend_view(previous.config) == _backend_view(config):
        return previous.idle
    return _new_pool(limits)


def _new_pool(limits: Limits) -> IdlePool:
    return IdlePool(limits.max_idle_backends, limits.max_idle_per_endpoint, limits.backend_idle_deadline)


def _http2(
    config: Config, limits: Limits, idle: IdlePool, previous: Snapshot | None, loop: asyncio.AbstractEventLoop
) -> Http2Pool | None:
    """Shared connections live as long as idle ones, and as what a response may be stays the same."""
    if not config.enable_http2:
        return None
    bounds = limits.http2_backends()
    if previous is not None and previous.http2 is not None and previous.idle is idle and previous.http2.limits == bounds:
        return previous.http2
    return Http2Pool(idle, bounds, loop)


def _backend_view(config: Config) -> tuple[object, ...]:
    """What an idle backend connection was made under: if it changes, old connections are not used again."""
    return (
        config.backends, config.ca_certs, config.skip_ssl_validation, config.cipher_suites,
        config.disable_keep_alives, config.max_idle_conns, config.max_idle_conns_per_host,
    )  # fmt: skip


def _service_view(config: Config) -> tuple[object, ...]:
    """What keys and idle connections of route services were made under; the secrets themselves stay in the configurations."""
    own = config.route_services
    return (
        config.route_services_secret, config.route_services_secret_decrypt_only, own.cert_chain, own.private_key, config.ca_certs,
        config.skip_ssl_validation, config.cipher_suites, config.min_tls_version, config.max_tls_version,
        config.disable_keep_alives, config.max_idle_conns, config.max_idle_conns_per_host,
    )  # fmt: skip
