"""Certificates of a configuration that have expired, or will soon.

Promises: one warning a place, which names the first to go; nothing is raised and nothing is changed. Refuses to know who
renews them.

Source: RFC 5280 section 4.1.2.5.
"""

import datetime as dt
from collections.abc import Iterator

from cryptography import x509

from registry.problems import Where, printable
from router.config.legacy import Notice
from router.config.model import Config
from router.config.pem import parse_certificates

SOON = dt.timedelta(days=30)
"""Warned of so long before: time for the three steps of a new authority."""


def expiring(config: Config, today: dt.datetime) -> Iterator[Notice]:
    """A warning for every certificate and bundle of authorities that is over, or will be within SOON of `today`."""
    for where, pem in _own(config):
        leaf = parse_certificates(pem)[0]
        if leaf.not_valid_after_utc <= today + SOON:
            yield Notice(where, _when(leaf, today), "renew it")
    for where, pem, clients in _authorities(config):
        found = _of_authorities(parse_certificates(pem), today, clients=clients)
        if found is not None:
            yield Notice(where, *found)


def _of_authorities(bundle: list[x509.Certificate], today: dt.datetime, *, clients: bool) -> tuple[str, str] | None:
    over = [ca for ca in bundle if ca.not_valid_after_utc <= today]
    soon = [ca for ca in bundle if today < ca.not_valid_after_utc <= today + SOON]
    if over and len(over) == len(bundle):
        return "every authority has expired: nobody can enter" if clients else "every authority has expired", "renew them"
    if soon:
        first = min(soon, key=lambda ca: ca.not_valid_after_utc)
        return _named(first, soon, today), "add its successor now; take it out when no certificate of it is in use any more"
    if over:
        return _named(over[0], over, today), "take it out"
    return None


def _named(first: x509.Certificate, all_of_them: list[x509.Certificate], today: dt.datetime) -> str:
    more = f" (and {len(all_of_them) - 1} more)" if len(all_of_them) > 1 else ""
    return f"the authority `{printable(first.subject.rfc4514_string(), 120)}`{more} {_when(first, today)}"


def _when(certificate: x509.Certificate, today: dt.datetime) -> str:
    end = certificate.not_valid_after_utc
    if end <= today:
        return f"expired on {end:%Y-%m-%d}"
    days = (end - today).days
    return f"expires on {end:%Y-%m-%d}, in {days} day{'' if days == 1 else 's'}"


def _own(config: Config) -> Iterator[tuple[Where, str]]:
    """The certificates that the router shows."""
    for index, pair in enumerate(config.tls_pem):
        yield ("tls_pem", index, "cert_chain"), pair.cert_chain
    for at, listener in enumerate(config.listeners):
        for number, route in enumerate(listener.routes):
            if route.mode == "l7":
                yield ("listeners", at, "routes", number, "tls_cert"), route.tls_cert
    others: tuple[tuple[Where, str], ...] = (
        (("backends", "cert_chain"), config.backends.cert_chain),
        (("nats", "cert_chain"), config.nats.cert_chain),
        (("status", "tls", "certificate"), config.status.tls.certificate),
        (("prometheus", "cert_path"), config.prometheus.certificate),
    )
    yield from ((where, pem) for where, pem in others if pem)


def _authorities(config: Config) -> Iterator[tuple[Where, str, bool]]:
    """The bundles that others are verified with; whether those are clients of domains."""
    yield from ((("mtls_domains", at, "ca_certs"), domain.ca_certs, True) for at, domain in enumerate(config.mtls_domains))
    yield from ((("domains", at, "ca_certs"), domain.ca_certs, True) for at, domain in enumerate(config.domains))
    others: tuple[tuple[Where, str], ...] = (
        (("client_ca_certs",), config.client_ca_certs),
        (("nats", "ca_certs"), config.nats.ca_certs),
        (("prometheus", "ca_path"), config.prometheus.client_ca),
        *((("ca_certs", index), pem) for index, pem in enumerate(config.ca_certs)),
    )
    yield from ((where, pem, False) for where, pem in others if pem)
