"""What `check` warns of."""

import datetime as dt
from typing import Any

import pytest

from router.config.advice import claim
from tests.router.config.support import TODAY, config, loaded, warnings
from tests.support.certs import CA

AUTHORITY = CA("advice tests")
DAY = dt.timedelta(days=1)


def with_tls(names: list[str], *patterns: str, **more: Any) -> dict[str, Any]:
    server = AUTHORITY.issue_server(*names)
    domains = [{"domain": pattern, "ca_certs": AUTHORITY.pem, **more} for pattern in patterns]
    pair = {"cert_chain": server.chain_pem, "private_key": server.key_pem}
    return {"enable_ssl": True, "tls_pem": [pair], "mtls_domains": domains}


@pytest.mark.parametrize(
    ("names", "patterns", "places"),
    [
        (["*.d.example"], ["*.d.example"], []),
        (["a.d.example"], ["*.d.example"], []),
        (["d.example", "*.d.example"], ["*.d.example"], ["tls_pem[0]"]),
        (["d.example", "*.d.example"], ["*.d.example", "d.example"], []),
        (["open.example", "*.d.example"], ["*.d.example"], ["tls_pem[0]"]),
        (["*.d.example"], ["one.d.example"], ["tls_pem[0]"]),
        (["one.d.example"], ["one.d.example"], []),
        (["other.example"], ["*.d.example"], ["mtls_domains[0].domain"]),
    ],
)
def test_certificates_and_domains_that_do_not_fit_are_named(names: list[str], patterns: list[str], places: list[str]) -> None:
    """Decision 2: a bare suffix, a certificate for an mTLS and an open host, a domain
    that no certificate covers.
    """
    assert warnings(with_tls(names, *patterns)) == places


@pytest.mark.parametrize(
    ("mapping", "place"),
    [
        ({"forwarded_client_cert": "always_forward"}, "forwarded_client_cert"),
        ({"forwarded_client_cert": "forward"}, "forwarded_client_cert"),
        ({"trusted_proxies": ["0.0.0.0/0"]}, "trusted_proxies[0]"),
        ({"skip_ssl_validation": True}, "skip_ssl_validation"),
        ({"min_tls_version": "TLSv1.0"}, "min_tls_version"),
        ({"cipher_suites": "DES-CBC3-SHA"}, "cipher_suites"),
        ({"client_cert_validation": "request"}, "client_cert_validation"),
        ({"logging": {"redact_query_params": "none"}}, "logging.redact_query_params"),
        ({"logging": {"extra_access_log_fields": ["tls_sni", "nope"]}}, "logging.extra_access_log_fields[1]"),
        ({"endpoint_timeout": 900}, "endpoint_timeout"),
        ({"balancing_algorithm_az_preference": "locally-optimistic"}, "balancing_algorithm_az_preference"),
        ({"mtls_domains": [{"domain": "d.example", "ca_certs": AUTHORITY.pem}]}, "mtls_domains"),
    ],
)
def test_what_is_legal_but_wide_open_is_named(mapping: dict[str, Any], place: str) -> None:
    """Decisions 8, 9 and 11."""
    assert warnings(mapping) == [place]


def test_a_file_without_trusted_proxies_is_told_once() -> None:
    """Decision 9; where there is no HTTP there is nothing to tell."""
    assert [warning.path for warning in loaded("port: 80\n").warnings] == ["trusted_proxies"]
    route = "{mode: tcp_raw, backends: ['10.0.0.1:1']}"
    passed = f"disable_http: true\nl7: {{enabled: false}}\nlisteners: [{{port: 1, kind: tcp, routes: [{route}]}}]\n"
    assert list(loaded(passed).warnings) == []
    assert loaded(passed).config is not None


@pytest.mark.parametrize("mode", ["always_forward", "forward"])
def test_a_domain_that_lets_its_clients_write_the_header_is_named(mode: str) -> None:
    """Issue 3, part 6: at the domain's own key; the default says nothing."""
    place = "mtls_domains[1].forwarded_client_cert"
    safe, wide = ({"domain": name, "ca_certs": AUTHORITY.pem} for name in ("a.example", "b.example"))
    assert place not in warnings({"mtls_domains": [safe, wide]})
    assert place in warnings({"mtls_domains": [safe, {**wide, "forwarded_client_cert": mode}]})


def test_report_only_is_told() -> None:
    more = {"xfcc": {"identity_extractor": "cf_ou"}, "authorization": {"mode": "cf_identity", "report_only": True}}
    found = warnings(with_tls(["*.d.example"], "*.d.example", **more))
    assert found == ["mtls_domains[0].authorization.report_only"]


def test_an_expired_certificate_is_a_warning() -> None:
    server = AUTHORITY.issue_server("a.example", not_before=TODAY - 3 * DAY, not_after=TODAY - DAY)
    pair = {"cert_chain": server.chain_pem, "private_key": server.key_pem}
    assert warnings({"enable_ssl": True, "tls_pem": [pair]}) == ["tls_pem[0].cert_chain"]


def test_an_expired_authority_is_a_warning() -> None:
    expired = CA("expired", not_before=TODAY - 3 * DAY, not_after=TODAY - DAY)
    mapping = with_tls(["d.example"], "d.example")
    mapping["mtls_domains"][0]["ca_certs"] = expired.pem
    assert warnings(mapping) == ["mtls_domains[0].ca_certs"]


@pytest.mark.parametrize(
    ("crl", "places"),
    [
        (AUTHORITY.crl(), []),
        (AUTHORITY.crl(last_update=TODAY - 3 * DAY, next_update=TODAY - DAY), ["mtls_domains[0].crls"]),
        (CA("someone else").crl(), ["mtls_domains[0].crls"]),
    ],
)
def test_a_revocation_list_that_refuses_everybody_is_a_warning(crl: str, places: list[str]) -> None:
    assert warnings(with_tls(["d.example"], "d.example", crls=[crl])) == places


@pytest.mark.parametrize(
    ("host", "pattern"),
    [
        ("a.b.d.example", "*.d.example"), ("x.b.d.example", "*.b.d.example"), ("one.d.example", "one.d.example"),
        ("d.example", None), ("*.d.example", "*.d.example"), ("*.example", None), ("other", None),
    ],
)  # fmt: skip
def test_a_name_belongs_to_the_most_specific_domain(host: str, pattern: str | None) -> None:
    """K6: at any depth, exact first, longest suffix next."""
    domains = config(with_tls(["d.example"], "*.d.example", "*.b.d.example", "one.d.example")).client_domains
    found = claim(host, domains)
    expected = ["*.b.d.example"] if host == "a.b.d.example" else [pattern]
    assert [found.pattern if found else None] == expected


def test_streaming_to_nowhere_is_a_warning() -> None:
    """Contract g.1: the access log is streamed to `logging.syslog_addr`."""
    assert warnings({"access_log": {"enable_streaming": True}}) == ["access_log.enable_streaming"]
    assert warnings({"access_log": {"enable_streaming": True}, "logging": {"syslog_addr": "127.0.0.1:514"}}) == []


LONG = "a robust passphrase"


@pytest.mark.parametrize(
    ("mapping", "places"),
    [
        ({"route_services_secret": LONG}, []),
        ({"route_services_secret": "short"}, ["route_services_secret"]),
        ({"route_services_secret_decrypt_only": LONG}, ["route_services_secret_decrypt_only"]),
        ({"route_services_secret": LONG, "route_services": {"egress_blocklist": []}}, ["route_services.egress_blocklist"]),
        ({"route_services_secret": LONG, "route_services_recommend_https": False}, ["route_services_recommend_https"]),
        ({"route_services": {"egress_blocklist": []}, "route_services_recommend_https": False}, []),
    ],
)
def test_what_weakens_route_services_is_named_where_they_are_on(mapping: dict[str, Any], places: list[str]) -> None:
    assert warnings(mapping) == places


def test_more_workers_than_cores_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs memory and makes nothing faster; `auto` never does."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert [warnings({"workers": workers}) for workers in (0, 2, 3, "auto")] == [[], [], ["workers"], []]
