"""Combinations that contradict each other: errors before start, with the way out."""

from typing import Any

import pytest

from router.config.rules import broken_rules
from tests.router.config.support import errors, loaded
from tests.support.certs import CA

AUTHORITY = CA("rule tests").pem
ENFORCING: dict[str, Any] = {"xfcc": {"identity_extractor": "cf_ou"}}


def domain(**more: Any) -> dict[str, Any]:
    return {"mtls_domains": [{"domain": "*.d.example", "ca_certs": AUTHORITY, **more}]}


def enforced(**config: Any) -> dict[str, Any]:
    return domain(**ENFORCING, authorization={"mode": "cf_identity", "config": config})


AT = "mtls_domains[0]"


@pytest.mark.parametrize(
    ("mapping", "path"),
    [
        (enforced(orgs=["a"], spaces=["b"]), f"{AT}.authorization.config"),
        (enforced(orgs=[]), f"{AT}.authorization.config.orgs"),
        (enforced(spaces=None), f"{AT}.authorization.config.spaces"),
        (enforced(scope="org"), f"{AT}.authorization.config.scope"),
        (domain(authorization={"mode": "cf_identity"}), f"{AT}.authorization.mode"),
        (domain(authorization={"config": {"orgs": ["a"]}}), f"{AT}.authorization.config"),
        (domain(authorization={"report_only": True}), f"{AT}.authorization.report_only"),
        (domain(authorization={"report_only": "yes"}), f"{AT}.authorization.report_only"),
        (domain(crls=[]), f"{AT}.crls"),
        (domain(forwarded_client_cert="always_forward", xfcc={"format": "envoy"}), f"{AT}.forwarded_client_cert"),
        (domain(allowed_sources={"any": True}), f"{AT}.allowed_sources"),
        (domain(mtls_allowed_sources={"apps": ["a"]}), f"{AT}.mtls_allowed_sources"),
        (domain(mtls_allowed_apps="a"), f"{AT}.mtls_allowed_apps"),
        ({"enable_ssl": True}, "enable_ssl"),
        ({"disable_http": True}, "disable_http"),
        ({"min_tls_version": "TLSv1.3", "max_tls_version": "TLSv1.2"}, "min_tls_version"),
        ({"client_cert_validation": "require", "only_trust_client_ca_certs": True}, "client_ca_certs"),
        ({"status": {"enable_nontls_health_checks": False}}, "status"),
        ({"status": {"port": 0}}, "status"),
        ({"routing_table_sharding_mode": "segments"}, "routing_table_sharding_mode"),
        ({"metrics": {"addr": ":1"}, "prometheus": {"port": 2}}, "metrics.addr"),
    ],
)  # fmt: skip
def test_a_contradiction_is_one_error_at_its_whole_path(mapping: dict[str, Any], path: str) -> None:
    """R262, R267, R269, R271, R315; K1, K2; contract a.7."""
    assert errors(mapping) == [path]


def test_a_null_list_of_domains_is_an_error() -> None:
    """An operator who wrote the key meant a lock; no list is no lock."""
    assert "mtls_domains" in errors("mtls_domains:\n")


@pytest.mark.parametrize("second", ["*.D.example.", "*.d.EXAMPLE"])
def test_a_domain_twice_is_an_error_in_any_spelling_and_dialect(second: str) -> None:
    mapping = {**domain(), "domains": [{"name": second, "ca_certs": AUTHORITY}]}
    (problem,) = loaded(mapping).problems
    assert (problem.path, problem.remedy) == ("domains[0].name", "remove one; it is also mtls_domains[0]")


def test_scope_is_refused_with_the_reason_and_the_way_out() -> None:
    """R269, K2: the target's org and space are unknown to the router; lists or a domain per org instead."""
    (problem,) = loaded(enforced(scope="org")).problems
    assert "cannot know the org or space of a target" in problem.expected
    assert "authorization.config.orgs" in problem.remedy
    assert "one domain per org" in problem.remedy


def test_nested_sources_are_refused_with_the_flat_form() -> None:
    """R262, K1."""
    (problem,) = loaded(domain(allowed_sources={"apps": ["a"]})).problems
    assert 'mtls_allowed_apps: "guid1,guid2"' in problem.remedy


@pytest.mark.parametrize("value", [5, "x", (), {}, (1, None, {"domain": 3}), {"authorization": (1,)}, None, True])
@pytest.mark.parametrize("key", ["mtls_domains", "domains", "status", "nats", "prometheus", "metrics", "tls_pem"])
def test_no_type_in_a_wrong_place_makes_a_rule_raise(key: str, value: object) -> None:
    broken_rules({key: value, "metrics": value})


def test_a_good_domain_breaks_no_rule() -> None:
    assert errors(enforced(orgs=["a"])) == []
