"""Certificates that are over, or will be within thirty days."""

import datetime as dt
from typing import Any

import pytest

from router.config.expiry import SOON
from tests.router.config.support import TODAY, loaded
from tests.support.certs import CA

HOUR = dt.timedelta(hours=1)
AUTHORITY = CA("expiry tests")


def until(end: dt.datetime, name: str = "going") -> CA:
    return CA(name, not_before=TODAY - dt.timedelta(days=3), not_after=end)


def pair(end: dt.datetime) -> dict[str, str]:
    server = AUTHORITY.issue_server("a.example", not_before=TODAY - dt.timedelta(days=3), not_after=end)
    return {"cert_chain": server.chain_pem, "private_key": server.key_pem}


def route(own: dict[str, str], mode: str, hostname: str = "a.example") -> dict[str, Any]:
    certificate = {"tls_cert": own["cert_chain"], "tls_key": own["private_key"]}
    return {"hostname": hostname, "mode": mode, "backends": ["10.0.0.7:443"], **certificate}


def said(mapping: dict[str, Any]) -> list[tuple[str, str]]:
    found = loaded({"trusted_proxies": [], **mapping})
    assert found.problems == ()
    return [(one.path, one.expected) for one in found.warnings if "expire" in one.expected]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (TODAY + SOON + HOUR, None),
        (TODAY + SOON - HOUR, "in 29 days"),
        (TODAY + dt.timedelta(days=1, hours=1), "in 1 day"),
        (TODAY + HOUR, "in 0 days"),
        (TODAY - HOUR, "expired on"),
    ],
)
def test_a_certificate_that_the_router_shows_is_warned_of_30_days_before(end: dt.datetime, words: str | None) -> None:
    found = said({"enable_ssl": True, "tls_pem": [pair(end)]})
    assert [path for path, _ in found] == (["tls_pem[0].cert_chain"] if words else [])
    assert all(words is not None and words in text for _, text in found)


def test_every_place_of_a_certificate_is_looked_at() -> None:
    soon = TODAY + HOUR
    own, authority = pair(soon), until(soon).pem
    found = said(
        {
            "enable_ssl": True,
            "tls_pem": [own],
            "backends": own,
            "nats": {**own, "ca_certs": authority},
            "status": {"tls": {"certificate": own["cert_chain"], "key": own["private_key"]}},
            "prometheus": {"port": 1, "cert_path": own["cert_chain"], "key_path": own["private_key"], "ca_path": authority},
            "mtls_domains": [{"domain": "*.a.example", "ca_certs": authority}],
            "domains": [{"domain": "*.b.example", "ca_certs": authority}],
            "client_ca_certs": authority,
            "listeners": [{"port": 9443, "kind": "tls", "routes": [route(own, "l7"), route(own, "l4", "b.example")]}],
            "ca_certs": [AUTHORITY.pem, authority],
        }
    )
    assert sorted(path for path, _ in found) == [
        "backends.cert_chain", "ca_certs[1]", "client_ca_certs", "domains[0].ca_certs", "listeners[0].routes[0].tls_cert",
        "mtls_domains[0].ca_certs",
        "nats.ca_certs", "nats.cert_chain", "prometheus.ca_path", "prometheus.cert_path", "status.tls.certificate",
        "tls_pem[0].cert_chain",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bundle", "words"),
    [
        ([AUTHORITY], None),
        ([AUTHORITY, until(TODAY + HOUR, "first"), until(TODAY + 2 * HOUR, "second")], "`CN=first` (and 1 more) expires on"),
        ([AUTHORITY, until(TODAY - HOUR, "over")], "`CN=over` expired on"),
        ([until(TODAY - HOUR)], "every authority has expired: nobody can enter"),
    ],
)
def test_a_bundle_of_authorities_gives_one_warning_that_names_the_first_to_go(bundle: list[CA], words: str | None) -> None:
    """Time for the three steps of a new authority: add, reissue, remove."""
    domain = {"domain": "*.a.example", "ca_certs": "".join(authority.pem for authority in bundle)}
    found = said({"enable_ssl": True, "tls_pem": [pair(TODAY + 2 * SOON)], "mtls_domains": [domain]})
    assert len(found) == (words is not None)
    assert all(words is not None and words in text for _, text in found)
