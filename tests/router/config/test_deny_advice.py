"""What `check` says of deny lists that load."""

from typing import Any

import pytest

from router.config.deny import Deny
from router.config.deny_advice import advise_deny
from tests.router.config.support import loaded, warnings
from tests.support.certs import CA

AUTHORITY = CA("deny advice tests")


@pytest.mark.parametrize(
    ("deny", "places"),
    [
        ({"apps": ["a", "b"], "spaces": ["a"], "orgs": ["a"]}, []),
        ({"apps": ["a", "b", "a"]}, ["deny.apps[2]"]),
        ({"spaces": ["a", "a"], "orgs": ["b", "b"]}, ["deny.orgs[1]", "deny.spaces[1]"]),
        ({"hosts": ["a.example", "b.example", "*.c.example", "c.example"]}, []),
        ({"hosts": ["a.example", "A.EXAMPLE."]}, ["deny.hosts[1]"]),
        ({"hosts": ["a.b.example", "*.example"]}, ["deny.hosts[0]"]),
        ({"hosts": ["*.example", "*.b.example"]}, ["deny.hosts[1]"]),
        ({"backend_networks": ["10.0.0.0/8", "11.0.0.0/8", "fd00::/8"]}, []),
        ({"backend_networks": ["10.0.0.0/8", "10.1.2.3"]}, ["deny.backend_networks[1]"]),
        ({"backend_networks": ["10.1.2.3", "10.0.0.0/8"]}, ["deny.backend_networks[0]"]),
        ({"backend_networks": ["10.1.2.3", "10.1.2.3/32"]}, ["deny.backend_networks[1]"]),
        ({"backend_networks": ["10.1.2.3", "::ffff:10.1.2.3"]}, ["deny.backend_networks[1]"]),
        ({"backend_networks": ["0.0.0.0/0", "::/0"]}, ["deny.backend_networks[0]", "deny.backend_networks[1]"]),
    ],
)
def test_entries_that_change_nothing_or_too_much_are_named(deny: dict[str, Any], places: list[str]) -> None:
    """Duplicates after their canonical form, what another entry covers, and a network of every address."""
    assert sorted(warnings({"deny": deny})) == places


@pytest.mark.parametrize("kind", ["orgs", "spaces"])
def test_a_domains_caller_that_is_denied_is_named(kind: str) -> None:
    """Provable: the deny list comes first, so the domain's entry admits nobody."""
    domain = {
        "domain": "*.d.example",
        "ca_certs": AUTHORITY.pem,
        "xfcc": {"identity_extractor": "cf_ou"},
        "authorization": {"mode": "cf_identity", "config": {kind: ["x", "y"]}},
    }
    outcome = loaded({"trusted_proxies": [], "mtls_domains": [domain], "deny": {kind: ["y"]}})
    found = {warning.path: warning for warning in outcome.warnings}
    said = found[f"mtls_domains[0].authorization.config.{kind}[1]"]
    assert said.expected == f"y is also in deny.{kind}, which comes first: this entry admits nobody"
    assert said.line > 0
    assert f"mtls_domains[0].authorization.config.{kind}[0]" not in found


def test_long_lists_are_advised_on_in_linear_time() -> None:
    """Each entry against all others took minutes, longer than the suite gives a test."""
    count = 30_000
    deny = {
        "orgs": tuple(f"org-{n}" for n in range(count)),
        "hosts": tuple(f"a{n}.b{n}.example" for n in range(count)),
        "backend_networks": tuple(f"10.{n >> 8 & 255}.{n & 255}.0/24" for n in range(count)),
    }
    config = loaded({}).config
    assert config is not None
    lists = Deny.model_validate(deny)
    assert list(advise_deny(config.model_copy(update={"deny": lists}), {})) == []
