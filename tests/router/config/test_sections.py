"""The nested sections: their defaults, and what belongs together."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.router.config.support import config, errors
from tests.support.certs import CA

AUTHORITY = CA("section tests")
PAIR = AUTHORITY.issue_server("a.example")
OTHER = AUTHORITY.issue_server("b.example")
NAMELESS = AUTHORITY.issue_instance("app", san=())


def test_status_listens_where_gorouter_does() -> None:
    status = config({}).status
    assert (status.port, status.tls.port, status.routes.port, status.user) == (8080, 8443, 8082, "router-status")


def test_secrets_are_hidden_in_every_repr() -> None:
    found = config({"status": {"pass": "hunter2"}, "nats": {"pass": "hunter2", "nkey_seed": "hunter2"}})
    assert "hunter2" not in repr(found)
    assert found.status.password.get_secret_value() == "hunter2"


def test_queries_are_redacted_by_default() -> None:
    """K44."""
    assert config({}).logging.redact_query_params == "all"


def test_a_server_certificate_says_its_names() -> None:
    pair = {"cert_chain": PAIR.chain_pem, "private_key": PAIR.key_pem}
    assert config({"tls_pem": [pair]}).tls_pem[0].names == ("a.example",)


@pytest.mark.parametrize(
    ("mapping", "path"),
    [
        ({"tls_pem": [{"cert_chain": PAIR.chain_pem, "private_key": OTHER.key_pem}]}, "tls_pem[0]"),
        ({"tls_pem": [{"cert_chain": NAMELESS.chain_pem, "private_key": NAMELESS.key_pem}]}, "tls_pem[0]"),
        ({"tls_pem": [{"cert_chain": PAIR.chain_pem}]}, "tls_pem[0].private_key"),
        ({"backends": {"cert_chain": PAIR.chain_pem}}, "backends"),
        ({"backends": {"max_attempts": -1}}, "backends.max_attempts"),
        ({"backend_health_check": {"path": "healthz"}}, "backend_health_check.path"),
        ({"backend_health_check": {"path": "/a b"}}, "backend_health_check.path"),
        ({"backend_health_check": {"hosts": ["*"]}}, "backend_health_check.hosts[0]"),
        ({"backend_health_check": {"interval": "1ms"}}, "backend_health_check"),
        ({"backend_health_check": {"timeout": 0}}, "backend_health_check"),
        ({"backend_health_check": {"healthy_threshold": 0}}, "backend_health_check"),
        ({"status": {"tls": {"key": PAIR.key_pem}}}, "status.tls"),
        ({"prometheus": {"cert_path": PAIR.chain_pem}}, "prometheus"),
        ({"prometheus": {"ca_path": AUTHORITY.pem}}, "prometheus"),
        ({"metrics": {"addr": "9100"}}, "metrics.addr"),
        ({"metrics": {"path": "metrics"}}, "metrics.path"),
        ({"nats": {"hosts": []}}, "nats.hosts"),
        ({"nats": {"hosts": [{"hostname": "nats://x"}]}}, "nats.hosts[0].hostname"),
        (
            {"http_rewrite": {"responses": {"add_headers_if_not_present": [{"name": "A", "value": "x\ny"}]}}},
            "http_rewrite.responses.add_headers_if_not_present[0].value",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(mapping: dict[str, Any], path: str) -> None:
    """Attack 83 for the first."""
    assert errors(mapping) == [path]


def test_metrics_files_are_read_once_and_kept_as_text(tmp_path: Path) -> None:
    chain, key = PAIR.files(tmp_path)
    section = {"port": 9100, "cert_path": str(chain), "key_path": str(key)}
    found = config({"prometheus": section})
    assert found.prometheus.certificate == PAIR.chain_pem
    assert found.metrics_address == ("", 9100)


@pytest.mark.parametrize(
    ("mapping", "address"),
    [
        ({}, None),
        ({"prometheus": {"port": 9100}}, ("127.0.0.1", 9100)),
        ({"prometheus": {"port": 9100, "enabled": False}}, None),
        ({"metrics": {"addr": "0.0.0.0:9200"}}, ("0.0.0.0", 9200)),
    ],
)
def test_metrics_are_off_unless_configured(mapping: dict[str, Any], address: tuple[str, int] | None) -> None:
    """K37."""
    assert config(mapping).metrics_address == address


def test_older_subjects_have_their_spelling() -> None:
    rule = {"issuer_in_chain": {"organisation": "Example", "organisation_unit": ["CA"], "common_name": "x"}}
    subject = config({"verify_client_certificate_metadata": [rule]}).verify_client_certificate_metadata[0]
    assert (subject.issuer_in_chain.organization, subject.issuer_in_chain.organizational_unit) == (("Example",), ("CA",))


@pytest.mark.parametrize(
    ("section", "wanted"),
    [
        ({}, []),
        ({"hosts": ["*.a.example"]}, []),
        ({"path": "/healthz"}, ["x.a.example", "*.a.example", "b.example"]),
        ({"path": "/", "hosts": ["*.A.example", "c.example"]}, ["x.a.example", "*.a.example"]),
    ],
)
def test_without_a_path_nobody_is_checked_and_with_hosts_only_those(section: dict[str, Any], wanted: list[str]) -> None:
    """R39: off unless the operator asks for it."""
    checks = config({"backend_health_check": section}).backend_health_check
    assert [host for host in ("x.a.example", "*.a.example", "b.example") if checks.wants(host)] == wanted


def test_route_services_are_kept_out_of_private_networks_unless_the_operator_says_otherwise() -> None:
    """Loopback, link-local (where clouds keep secrets) and private networks of either version."""
    networks = config({}).route_services.egress_blocklist
    for text in (
        "127.0.0.1",
        "169.254.169.254",
        "10.9.8.7",
        "172.31.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "fe80::1",
        "fd00::1",
    ):
        assert any(ip_address(text) in network for network in networks), text
    for text in ("192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1", "11.0.0.1"):
        assert not any(ip_address(text) in network for network in networks), text
    assert config({"route_services": {"egress_blocklist": []}}).route_services.egress_blocklist == ()


def test_the_secrets_of_route_services_are_hidden() -> None:
    made = config({"route_services_secret": "tulips-and-roses", "route_services_secret_decrypt_only": "lilies-and-roses"})
    assert "roses" not in repr(made) + str(made.model_dump())
    assert made.route_services_secret.get_secret_value() == "tulips-and-roses"
