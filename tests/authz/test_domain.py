"""authz/domain.py: which domain claims a host, and that a policy is consistent."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.domain import DomainTable
from identity.caller import Guid
from tests.authz.parts import domain

TABLE = DomainTable(
    domain(pattern=pattern)
    for pattern in (
        "*.apps.internal",
        "*.east.apps.internal",
        "one.east.apps.internal",
        "exact.example",
        "*.internal",
    )
)


@pytest.mark.parametrize(
    ("host", "pattern"),
    [
        ("a.apps.internal", "*.apps.internal"),
        ("c.b.a.apps.internal", "*.apps.internal"),
        (".".join(["x"] * 120) + ".apps.internal", "*.apps.internal"),
        ("east.apps.internal", "*.apps.internal"),
        ("a.east.apps.internal", "*.east.apps.internal"),
        ("b.a.east.apps.internal", "*.east.apps.internal"),
        ("one.east.apps.internal", "one.east.apps.internal"),
        ("a.one.east.apps.internal", "*.east.apps.internal"),
        ("apps.internal", "*.internal"),
        ("exact.example", "exact.example"),
    ],
)
def test_a_host_belongs_to_the_most_specific_domain_at_any_depth(host: str, pattern: str) -> None:
    """R311, attack 8: no label more lets a host fall out of its domain."""
    claimed = TABLE.claim(host)
    assert claimed is not None
    assert claimed.pattern == pattern


@pytest.mark.parametrize(
    "host",
    [
        "internal",
        "a.exact.example",
        "example",
        "xinternal",
        "a.xinternal",
        "internal.example",
        "",
        "127.0.0.1",
        "[::1]",
    ],
)
def test_a_bare_or_merely_similar_suffix_is_open(host: str) -> None:
    """`*.suffix` claims neither the suffix itself nor a name that only ends in the same letters."""
    assert TABLE.claim(host) is None


def test_a_similar_suffix_is_not_claimed() -> None:
    """`*.apps.identity` does not claim `x.appsxidentity` or `xapps.identity`."""
    table = DomainTable([domain(pattern="*.apps.identity")])
    assert table.claim("x.appsxidentity") is None
    assert table.claim("xapps.identity") is None
    assert table.claim("apps.identity") is None
    assert table.claim("a.apps.identity") is table.policies[0]


def test_without_domains_every_host_is_open() -> None:
    """The router of today is the router without domains."""
    assert DomainTable(()).claim("a.b") is None


def test_the_order_of_entries_does_not_matter() -> None:
    """Most specific means longest, not first."""
    for patterns in (["*.a.b", "*.b"], ["*.b", "*.a.b"]):
        claimed = DomainTable(domain(pattern=pattern) for pattern in patterns).claim("x.a.b")
        assert claimed is not None
        assert claimed.pattern == "*.a.b"


@given(st.lists(st.sampled_from(["a", "bb", "c-1"]), min_size=1, max_size=9))
def test_every_host_below_a_suffix_is_claimed(labels: list[str]) -> None:
    """K6: any depth."""
    assert DomainTable([domain(pattern="*.b.c")]).claim(".".join([*labels, "b", "c"])) is not None


def test_a_domain_twice_is_an_error() -> None:
    """Two entries would leave to their order which one is enforced."""
    with pytest.raises(ValueError, match="configured twice"):
        DomainTable([domain(), domain()])


SOME = frozenset({Guid("g")})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"orgs": SOME, "spaces": SOME}, "authorization.config.orgs and authorization.config.spaces exclude"),
        ({"orgs": SOME, "mode": "none"}, "authorization.config needs authorization.mode: cf_identity"),
        ({"spaces": SOME, "dialect": "domains"}, "authorization.config needs"),
        ({"report_only": True, "mode": "none"}, "authorization.report_only needs"),
        ({"report_only": True, "dialect": "domains"}, "authorization.report_only needs"),
        ({"identity_extractor": "none"}, "needs xfcc.identity_extractor: cf_ou"),
        ({"pattern": ""}, "domain must be"),
        ({"pattern": "*."}, "domain must be"),
        ({"pattern": "*"}, "domain must be"),
        ({"pattern": "a.*.b"}, "domain must be"),
        ({"pattern": "*a.b"}, "domain must be"),
        ({"pattern": "*..b"}, "domain must be"),
        ({"pattern": "*.Apps.internal"}, "domain must be"),
        ({"pattern": "*.apps.internal."}, "domain must be"),
    ],
)
def test_a_policy_that_contradicts_itself_cannot_be_built(changes: dict[str, Any], message: str) -> None:
    """R267, R271, R315; a pattern that could never match would leave its hosts open."""
    with pytest.raises(ValueError, match=message):
        domain(**changes)
