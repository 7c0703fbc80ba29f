"""The top-level keys: defaults that are safe, values that are honoured."""

from typing import Any

import pytest
from pydantic import ValidationError

from router.config.model import Config
from tests.router.config.support import config, errors


@pytest.mark.parametrize(
    ("key", "default"),
    [
        ("port", 80), ("ssl_port", 443), ("min_tls_version", "TLSv1.2"), ("max_tls_version", "TLSv1.3"),
        ("client_cert_validation", "none"), ("forwarded_client_cert", "sanitize_set"), ("trusted_proxies", ()),
        ("endpoint_timeout", 900.0), ("start_response_delay_interval", 20.0), ("droplet_stale_threshold", 120.0),
        ("suspend_pruning_if_nats_unavailable", True), ("max_route_options_size", 1024), ("drain_wait", 20.0),
        ("drain_timeout", 900.0), ("read_header_timeout", 10.0), ("max_request_body_bytes", 0), ("trace_key", ""),
        ("skip_ssl_validation", False), ("enable_proxy", False), ("mtls_domains", ()), ("domains", ()),
    ],
)  # fmt: skip
def test_an_absent_key_takes_the_documented_default(key: str, default: object) -> None:
    """Decision 13; R250 for the domains."""
    assert getattr(config({}), key) == default


def test_no_fewer_than_a_hundred_fields_are_let_through() -> None:
    assert (config({}).max_request_headers or 0) >= 100


@pytest.mark.parametrize(
    "key", ["read_header_timeout", "frontend_idle_timeout", "max_request_headers", "max_response_header_bytes"]
)
def test_unlimited_switches_a_bound_off(key: str) -> None:
    assert getattr(config({key: "unlimited"}), key) is None


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        config({}).port = 1


@pytest.mark.parametrize(
    ("mapping", "path"),
    [
        ({"port": "80"}, "port"),
        ({"port": 80.0}, "port"),
        ({"enable_ssl": 1}, "enable_ssl"),
        ({"cipher_suites": "AES"}, "cipher_suites"),
        ({"cipher_suites": 5}, "cipher_suites"),
        ({"trusted_proxies": ["balancer"]}, "trusted_proxies[0]"),
        ({"routing_table_sharding_mode": "some"}, "routing_table_sharding_mode"),
        ({"balancing_algorithm": "random"}, "balancing_algorithm"),
    ],
)
def test_a_value_of_another_kind_is_refused(mapping: dict[str, Any], path: str) -> None:
    assert errors(mapping) == [path]


def test_every_key_says_what_it_is_for() -> None:
    assert [name for name, field in Config.model_fields.items() if not field.description] == []
