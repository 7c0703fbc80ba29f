"""What is legal but unwise: warnings about a configuration that loads.

Promises: one warning a finding; changes nothing, raises nothing. Refuses to know errors (rules.py) and keys
without effect (legacy.py).

Source: K6, K28, K47; decisions 2, 8, 9, 11.
"""

import datetime as dt
import os
from collections.abc import Callable, Iterator

from cryptography import x509

from registry.problems import Where, printable
from registry.source import SpelledInt
from router.config.ciphers import BROKEN
from router.config.deny_advice import advise_deny
from router.config.domains import DomainConfig
from router.config.expiry import expiring
from router.config.legacy import Notice, Tree
from router.config.listener_advice import advise_listeners
from router.config.model import Config
from router.config.pem import parse_certificates, parse_crls
from router.config.scalars import is_duration, parse_duration

LEAST_SECRET = 16
"""Characters of a secret that seals requests to route services."""

KNOWN_LOG_FIELDS = frozenset(
    {
        "backend_time", "dial_time", "dns_time", "tls_time", "failed_attempts",
        "failed_attempts_time", "local_address", "caller_cf_app", "caller_cf_space",
        "caller_cf_org", "caller_cf_app_name", "caller_cf_space_name", "caller_cf_org_name",
        "route_policy", "tls_sni", "mtls_auth", "mtls_rule", "mtls_denied_reason",
        "request_id", "trace_id", "generation",
    }
)  # fmt: skip


def advise(config: Config, tree: Tree, today: dt.datetime) -> list[Notice]:
    """Every warning about a valid configuration; `tree` tells what the file says itself, `today` is aware
    (UTC).
    """
    found = [notice for look in _LOOKS for notice in look(config, tree)]
    return found + list(expiring(config, today)) + list(_revocation(config, today))


def claim(host: str, domains: tuple[DomainConfig, ...]) -> DomainConfig | None:
    """The domain that a host, or a certificate's `*.name`, belongs to: exact first, then the longest
    `*.suffix`.
    """
    by_pattern = {domain.pattern: domain for domain in domains}
    if host in by_pattern:
        return by_pattern[host]
    labels = host.removeprefix("*.").split(".")
    start = 0 if host.startswith("*.") else 1
    suffixes = ("*." + ".".join(labels[i:]) for i in range(start, len(labels)))
    return next((by_pattern[suffix] for suffix in suffixes if suffix in by_pattern), None)


def _certificates_and_domains(config: Config, _tree: Tree) -> Iterator[Notice]:
    domains = config.client_domains
    if not domains:
        return
    for index, pair in enumerate(config.tls_pem):
        where: Where = ("tls_pem", index)
        bare = [n for n in pair.names if "*." + n in {d.pattern for d in domains} and claim(n, domains) is None]
        for name in bare:
            said = f"`{printable(name, 80)}` is served here but not claimed by the domain `*.{printable(name, 80)}`: it is open"
            yield Notice(
                where,
                said,
                f"add a domain entry for {printable(name, 80)}, or take the name off the certificate",
            )
        closed = [name for name in pair.names if _may_be_claimed(name, domains)]
        opened = [name for name in pair.names if claim(name, domains) is None and name not in bare]
        if closed and opened:
            said = f"one certificate for an mTLS host ({printable(closed[0], 80)}) and an open one ({printable(opened[0], 80)})"
            yield Notice(where, said, ("browsers coalesce such connections and get 421: use a certificate for each"))
    for place, domain in _places(config):
        if config.enable_ssl and not any(_covers(name, domain.pattern) for pair in config.tls_pem for name in pair.names):
            said = f"no certificate covers {printable(domain.pattern, 80)}: the first of tls_pem is shown"
            yield Notice(place, said, "add a certificate for the domain to tls_pem")


def _places(config: Config) -> Iterator[tuple[Where, DomainConfig]]:
    ours = len(config.mtls_domains)
    for index, domain in enumerate(config.client_domains):
        key, at = ("mtls_domains", index) if index < ours else ("domains", index - ours)
        yield (key, at, "domain"), domain


def _may_be_claimed(name: str, domains: tuple[DomainConfig, ...]) -> bool:
    exact = (domain.pattern for domain in domains if not domain.pattern.startswith("*."))
    return claim(name, domains) is not None or any(_covers(name, pattern) for pattern in exact)


def _covers(name: str, pattern: str) -> bool:
    """A certificate's name is good for hosts of the pattern: itself, one label below, or any host below
    `*.suffix`.
    """
    if pattern.startswith("*."):
        return name == pattern or name.endswith(pattern[1:])
    return name == pattern or (name.startswith("*.") and name[1:] == pattern[pattern.find(".") :])


def _domains(config: Config, _tree: Tree) -> Iterator[Notice]:
    if config.client_domains and not config.enable_ssl and not any(listener.kind == "tls" for listener in config.listeners):
        said = "enable_ssl is off: every request for these domains is answered 421"
        yield Notice(
            ("mtls_domains" if config.mtls_domains else "domains",),
            said,
            "set enable_ssl: true and give tls_pem",
        )
    for where, domain in _places(config):
        if domain.report_only:
            said = "report_only: what would be refused is forwarded"
            yield Notice(
                (*where[:2], "authorization", "report_only"),
                said,
                "remove it when the log shows no `would_deny`",
            )
        if domain.forwarded_client_cert != "sanitize_set":
            yield _trusting((*where[:2], "forwarded_client_cert"), domain.forwarded_client_cert)


def _trusting(where: Where, mode: str) -> Notice:
    said = f"`{mode}` lets the client write X-Forwarded-Client-Cert; backends must not believe it"
    return Notice(where, said, "use sanitize_set unless a proxy in front verifies certificates")


def _wide_open(config: Config, tree: Tree) -> Iterator[Notice]:
    if config.forwarded_client_cert != "sanitize_set":
        yield _trusting(("forwarded_client_cert",), config.forwarded_client_cert)
    if "trusted_proxies" not in tree and config.l7.enabled:
        said = "absent: X-Forwarded-For, -Proto and -Host of every client are replaced (GoRouter believes them)"
        yield Notice(("trusted_proxies",), said, ("list the networks of your balancers, or [] if there are none"))
    for index, network in enumerate(config.trusted_proxies):
        if network.prefixlen == 0:
            yield Notice(("trusted_proxies", index), "every client is believed", ("list the balancers' networks only"))
    if config.skip_ssl_validation:
        yield Notice(("skip_ssl_validation",), "backends' certificates are not verified", "set it to false")
    if config.min_tls_version in ("TLSv1.0", "TLSv1.1"):
        yield Notice(("min_tls_version",), "TLS 1.0 and 1.1 are broken (RFC 8996)", "set TLSv1.2")
    broken = BROKEN & set(config.cipher_suites.tls12)
    if broken:
        yield Notice(("cipher_suites",), f"{min(broken)} is broken", "remove it")
    if config.client_cert_validation != "none" and not config.only_trust_client_ca_certs:
        said = "certificates of every public authority are good outside mtls_domains"
        yield Notice(("client_cert_validation",), said, ("set only_trust_client_ca_certs: true and client_ca_certs"))
    if config.logging.redact_query_params == "none":
        said = "queries are logged whole; they may carry tokens"
        yield Notice(("logging", "redact_query_params"), said, "use `all` or `hash`")


def _no_zone(config: Config, _tree: Tree) -> Iterator[Notice]:
    if config.balancing_algorithm_az_preference != "none" and not config.zone:
        said = "without `zone` no availability zone is preferred"
        yield Notice(("balancing_algorithm_az_preference",), said, "set zone to this router's, as registrations name it")


def _route_services(config: Config, _tree: Tree) -> Iterator[Notice]:
    secret, other = (one.get_secret_value() for one in (config.route_services_secret, config.route_services_secret_decrypt_only))
    if other and not secret:
        said = "without route_services_secret no route service is asked"
        yield Notice(("route_services_secret_decrypt_only",), said, "give route_services_secret too, or remove it")
    if not secret:
        return
    if len(secret) < LEAST_SECRET:
        said = f"shorter than {LEAST_SECRET} characters: a route service could guess it, and then pass for any caller"
        yield Notice(("route_services_secret",), said, "use a random one, the same on every router")
    if not config.route_services.egress_blocklist:
        said = "whoever may bind a route service chooses where the router connects to, private networks included"
        yield Notice(("route_services", "egress_blocklist"), said, "list the networks that no route service is in")
    if not config.route_services_recommend_https:
        said = "services are told to return in plain text, and such a return opens mTLS domains too"
        yield Notice(("route_services_recommend_https",), said, "set it to true where clients reach the router by TLS")


def _unknown_log_fields(config: Config, _tree: Tree) -> Iterator[Notice]:
    for index, name in enumerate(config.logging.extra_access_log_fields):
        if name not in KNOWN_LOG_FIELDS:
            said = f"`{printable(name, 60)}` is no field of the access log"
            yield Notice(
                ("logging", "extra_access_log_fields", index),
                said,
                "one of " + ", ".join(sorted(KNOWN_LOG_FIELDS)),
            )


def _streaming_nowhere(config: Config, _tree: Tree) -> Iterator[Notice]:
    if config.access_log.enable_streaming and config.logging.syslog_addr is None:
        said = "without logging.syslog_addr nothing is streamed"
        yield Notice(("access_log", "enable_streaming"), said, "name the syslog server as host:port")


def _more_workers_than_cores(config: Config, _tree: Tree) -> Iterator[Notice]:
    cores = len(os.sched_getaffinity(0))
    if isinstance(config.workers, int) and config.workers > cores:
        said = f"{config.workers} workers where this process may use {cores} cores: more memory, no more speed"
        yield Notice(("workers",), said, "use `auto`: one a core")


def _nanoseconds(_config: Config, tree: Tree) -> Iterator[Notice]:
    for name, field in Config.model_fields.items():
        value = tree.get(name)
        if is_duration(field.metadata) and isinstance(value, SpelledInt) and 0 < parse_duration(value) < 1e-3:
            said = f"a bare number is nanoseconds: this is {value.spelling} ns"
            yield Notice((name,), said, f"write {value.spelling}s if seconds are meant")


def _revocation(config: Config, today: dt.datetime) -> Iterator[Notice]:
    for where, domain in _places(config):
        lists = [crl for text in domain.crls for crl in parse_crls(text)]
        if not domain.crls:
            continue
        for crl in lists:
            if crl.next_update_utc is not None and crl.next_update_utc <= today:
                said = f"a list ran out on {crl.next_update_utc:%Y-%m-%d}: certificates of its issuer are refused"
                yield Notice((*where[:2], "crls"), said, "fetch a fresh list")
        without = _without_list(parse_certificates(domain.ca_certs), lists)
        if without:
            said = f"{without} of the authorities have no list: their certificates are refused"
            yield Notice((*where[:2], "crls"), said, "add a list of each authority of ca_certs")


def _without_list(authorities: list[x509.Certificate], lists: list[x509.CertificateRevocationList]) -> int:
    issuers = {crl.issuer.public_bytes() for crl in lists}
    return sum(ca.subject.public_bytes() not in issuers for ca in authorities)


_LOOKS: tuple[Callable[[Config, Tree], Iterator[Notice]], ...] = (
    _certificates_and_domains, _domains, advise_listeners, advise_deny, _wide_open, _no_zone, _unknown_log_fields,
    _streaming_nowhere, _nanoseconds, _route_services,
    _more_workers_than_cores,
)  # fmt: skip
