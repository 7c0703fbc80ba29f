"""What is different between two configurations, and what only looks so."""

from typing import Any

import pytest

from router.config.compare import Difference, Misdirected, compare, misdirected
from router.config.compile import compile_domains
from tests.router.config.support import config
from tests.support.certs import CA

EAST, WEST = CA("East"), CA("West")
ENFORCED: dict[str, Any] = {"xfcc": {"identity_extractor": "cf_ou"}, "authorization": {"mode": "cf_identity"}}
OF_ONE_ORG: dict[str, Any] = ENFORCED | {"authorization": {"mode": "cf_identity", "config": {"orgs": ["o"]}}}
TWO_HOSTS = {"nats": {"hosts": [{"hostname": "a"}, {"hostname": "b"}]}}
SERVER = EAST.issue_server("a.example", "b.example")
L4 = {"port": 8443, "kind": "tls", "routes": [{"hostname": "db.example", "backends": ["10.0.0.7:5432"]}]}
PAIR = {"cert_chain": SERVER.chain_pem, "private_key": SERVER.key_pem}


def domain(pattern: str, authority: str = EAST.pem, **more: Any) -> dict[str, Any]:
    return {"domain": pattern, "ca_certs": authority, **more}


def differences(old: dict[str, Any] | str, new: dict[str, Any] | str) -> list[Difference]:
    return list(compare(config(old), config(new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {}),
        ({}, {"port": 80, "drain_wait": "20s", "status": {"user": "router-status"}}),
        ({"endpoint_timeout": "15m"}, {"endpoint_timeout": "900s"}),
        ("port: 81\nssl_port: 82\n", "# a comment\nssl_port: 82\nport: 81\n"),
        ({"trusted_proxies": ["10.0.0.0/8", "::1"]}, {"trusted_proxies": ["::1", "10.0.0.0/8"]}),
        ({"firewall": {"blocked_ips": ["::1", "::2"]}}, {"firewall": {"blocked_ips": ["::2", "::1"]}}),
        ({"ca_certs": [EAST.pem, WEST.pem]}, {"ca_certs": [WEST.pem + "# east\n" + EAST.pem]}),
        ({"mtls_domains": [domain("*.a", EAST.pem + WEST.pem)]}, {"mtls_domains": [domain("*.a", WEST.pem + "\n" + EAST.pem)]}),
    ],
)
def test_what_means_the_same_is_no_difference(old: dict[str, Any] | str, new: dict[str, Any] | str) -> None:
    assert differences(old, new) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {"port": 81}, ("port", "80", "81")),
        ({"enable_http2": False}, {}, ("enable_http2", "false", "true")),
        ({}, {"endpoint_timeout": 0}, ("endpoint_timeout", "900s", "unlimited")),
        ({}, {"max_request_headers": "unlimited"}, ("max_request_headers", "128", "unlimited")),
        ({}, {"logging": {"level": "debug"}}, ("logging.level", "info", "debug")),
        ({}, {"isolation_segments": ["a", "b"]}, ("isolation_segments", "(nothing)", "a, b")),
        ({"metrics": {"addr": "127.0.0.1:9"}}, {}, ("metrics.addr", "127.0.0.1:9", "(absent)")),
        ({}, {"listeners": [L4]}, ("listeners[8443]", "(absent)", "port: 8443, kind: tls, routes: db.example")),
        (
            {"listeners": [L4]}, {"listeners": [{**L4, "routes": [{"hostname": "db.example", "backends": ["[fd00::7]:5432"]}]}]},
            ("listeners[8443].routes[db.example].backends", "10.0.0.7:5432", "[fd00::7]:5432"),
        ),
        ({}, {"firewall": {"blocked_ips": ["192.0.2.7"]}}, ("firewall.blocked_ips", "(nothing)", "192.0.2.7/32")),
        ({}, {"prometheus": {"enabled": False}}, ("prometheus.enabled", "(absent)", "false")),
        (
            TWO_HOSTS,
            {"nats": {"hosts": [{"hostname": "b"}, {"hostname": "a"}]}},
            ("nats.hosts", "order: a:4222, b:4222", "order: b:4222, a:4222"),
        ),
        (
            {}, {"nats": {"hosts": [{"hostname": "localhost"}, {"hostname": "b"}]}},
            ("nats.hosts[b:4222]", "(absent)", "hostname: b"),
        ),
        (
            {"mtls_domains": [domain("*.a", **ENFORCED)]},
            {"mtls_domains": [domain("*.a", **OF_ONE_ORG)]},
            ("mtls_domains[*.a].authorization.config.orgs", "(absent)", "o"),
        ),
    ],
)  # fmt: skip
def test_a_difference_has_its_path_and_both_values(
    old: dict[str, Any], new: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    assert [tuple(one) for one in differences(old, new)] == [expected]


def test_entries_are_compared_by_their_names_not_their_numbers() -> None:
    old = {"mtls_domains": [domain("*.a"), domain("*.b")]}
    new = {"mtls_domains": [domain("*.c", WEST.pem), domain("*.b", forwarded_client_cert="forward")]}
    found = differences(old, new)
    assert [one.path for one in found] == ["mtls_domains[*.c]", "mtls_domains[*.b].forwarded_client_cert", "mtls_domains[*.a]"]
    assert found[0].old == found[2].new == "(absent)"
    assert found[0].new.startswith("domain: *.c, ca_certs: CN=West (sha256 ")


def test_certificates_are_told_by_subject_and_fingerprint() -> None:
    (found,) = differences({"mtls_domains": [domain("*.a")]}, {"mtls_domains": [domain("*.a", EAST.pem + WEST.pem)]})
    assert found.path == "mtls_domains[*.a].ca_certs"
    assert found.new.startswith(found.old + ", CN=West (sha256 ")
    assert "BEGIN" not in repr(found)


def test_of_a_long_list_only_what_differs_is_shown() -> None:
    many = [f"10.0.{number}.0/24" for number in range(40)]
    (found,) = differences({"trusted_proxies": many}, {"trusted_proxies": [*many[1:], "10.1.0.0/24"]})
    assert (found.old, found.new) == ("10.0.0.0/24 (and 39 that stay)", "10.1.0.0/24 (and 39 that stay)")


def test_a_secret_is_never_shown_only_that_it_changed() -> None:
    """R21: passwords, keys, tokens."""
    other = EAST.issue_server("a.example", "b.example")
    old = {"status": {"pass": "hunter2"}, "enable_ssl": True, "tls_pem": [PAIR], "trace_key": "hunter4"}
    pair = {"cert_chain": other.chain_pem, "private_key": other.key_pem}
    new = {
        "status": {"pass": "hunter3"},
        "enable_ssl": True,
        "tls_pem": [pair],
        "trace_key": "hunter5",
        "nats": {"token": "hunter6"},
    }
    found = {one.path: (one.old, one.new) for one in differences(old, new)}
    assert found.pop("tls_pem[a.example,b.example].cert_chain") is not None
    changed = ("(hidden)", "(hidden) (changed)")
    assert found == {
        "tls_pem[a.example,b.example].private_key": changed, "status.pass": changed, "trace_key": changed,
        "nats.token": ("(absent)", "(hidden)"),
    }  # fmt: skip


def test_domains_whose_handshakes_enforced_something_else_are_named() -> None:
    """Decision 6: another CA set, a domain come or gone; a changed list closes nothing."""
    old = {"mtls_domains": [domain("*.a"), domain("*.b"), domain("*.d", **ENFORCED), domain("*.e")]}
    new = {"mtls_domains": [domain("*.b", WEST.pem), domain("*.c"), domain("*.d", **OF_ONE_ORG)], "domains": [domain("*.e")]}
    tables = [compile_domains(config(mapping))[0] for mapping in (old, new)]
    assert misdirected(*tables) == (
        Misdirected("*.a", "the domain is gone: connections were made for it and for nothing else"),
        Misdirected("*.b", "its authorities changed: connections were verified by the old ones"),
        Misdirected("*.c", "the domain is new: connections to its hosts showed no certificate for it"),
    )
