"""Routes of manifests and domains of a configuration that do not meet."""

from typing import Any

import pytest

from registry.manifest import ManifestRoute
from router.config.compile import compile_domains
from router.config.manifest_advice import advise_routes, idle_domains
from router.config.model import Config
from tests.router.config.support import config
from tests.support.certs import CA

AUTHORITY = CA("manifest advice tests")
ENFORCED = {"xfcc": {"identity_extractor": "cf_ou"}, "authorization": {"mode": "cf_identity"}}
APPS = {"mtls_allowed_apps": "g"}
POLICIES = {"route_policy_scope": "any", "route_policy_sources": "cf:any"}


@pytest.fixture(scope="module")
def three() -> Config:
    """An enforcing domain, one that takes every certificate, one of the second dialect."""

    def entry(domain: str, **more: Any) -> dict[str, Any]:
        return {"domain": domain, "ca_certs": AUTHORITY.pem, **more}

    ours = [entry("*.apps.internal", **ENFORCED), entry("*.partners.example")]
    return config({"mtls_domains": ours, "domains": [entry("*.apps.identity")]})


def route(uri: str, options: dict[str, Any]) -> ManifestRoute:
    return ManifestRoute("a", uri, "http1", options, "m.yml", 4)


@pytest.mark.parametrize(
    ("uri", "options", "words"),
    [
        ("a.apps.internal", APPS, None),
        ("*.a.apps.internal/x", APPS, None),
        ("a.apps.internal", POLICIES, None),
        ("a.apps.identity", APPS, None),
        ("a.apps.identity", POLICIES, None),
        ("a.example.com", {}, None),
        ("a.example.com", APPS, "`mtls_allowed_apps` has no effect: the host is on no domain, and everybody is let in"),
        ("a.example.com", POLICIES, "`route_policy_scope` lets nobody in: the host is on no domain"),
        ("a.partners.example", APPS, "with authorization.mode: none, and every certificate of it is let in"),
        (
            "a.partners.example",
            POLICIES,
            "`route_policy_scope` lets nobody in: the host is on *.partners.example, which reads no",
        ),
        ("apps.internal/x", {}, "apps.internal is open: the domain `*.apps.internal` claims only what is below it"),
    ],
)
def test_a_route_that_its_domain_treats_otherwise_than_it_reads_is_warned_of(
    three: Config, uri: str, options: dict[str, Any], words: str | None
) -> None:
    """R251, R275, decisions 2 and 8."""
    found = list(advise_routes([route(uri, options)], compile_domains(three)[0]))
    assert [(one.file, one.line, one.path) for one in found] == ([("m.yml", 4, uri)] if words else [])
    assert all(words is not None and words in one.expected for one in found)


def test_a_domain_without_a_route_is_named_at_its_place(three: Config) -> None:
    routes = [route("*.x.apps.internal", {}), route("a.example.com", {})]
    assert [(where, said) for where, said, _ in idle_domains(routes, three, compile_domains(three)[0])] == [
        (("mtls_domains", 1, "domain"), "no route of the manifests is on *.partners.example"),
        (("domains", 0, "domain"), "no route of the manifests is on *.apps.identity"),
    ]
