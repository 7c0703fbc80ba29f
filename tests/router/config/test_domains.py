"""Both dialects of a domain, and the one thing they become."""

from typing import Any

import pytest

from identity.caller import Guid
from tests.router.config.support import config, errors
from tests.support.certs import CA

AUTHORITY = CA("domain tests").pem


def domain(**more: Any) -> dict[str, Any]:
    return {"mtls_domains": [{"domain": "*.apps.mtls.internal", "ca_certs": AUTHORITY, **more}]}


def test_a_domain_needs_only_a_name_and_authorities() -> None:
    """R310-315: every default is the safe one."""
    (found,) = config(domain()).client_domains
    assert (
        found.dialect, found.pattern, found.crls, found.forwarded_client_cert, found.xfcc_format,
        found.identity_extractor, found.mode, found.orgs, found.spaces, found.report_only,
    ) == ("mtls_domains", "*.apps.mtls.internal", (), "sanitize_set", "raw", "none", "none", None, None, False)  # fmt: skip


def test_a_whole_domain_is_read() -> None:
    """R310: the shape of `mtls_domains`."""
    (found,) = config(
        domain(
            forwarded_client_cert="forward",
            xfcc={"format": "envoy", "identity_extractor": "cf_ou"},
            authorization={"mode": "cf_identity", "config": {"orgs": ["o1", "o2"]}, "report_only": True},
        )
    ).client_domains
    assert (found.forwarded_client_cert, found.xfcc_format, found.identity_extractor, found.mode) == (
        "forward", "envoy", "cf_ou", "cf_identity",
    )  # fmt: skip
    assert (found.orgs, found.spaces, found.report_only) == (frozenset({Guid("o1"), Guid("o2")}), None, True)


@pytest.mark.parametrize("key", ["domain", "name"])
def test_the_second_dialect_takes_either_name_and_empty_modes(key: str) -> None:
    """K24, contract a.7: `name` is `domain`; "" is the default; identity comes from the OUs."""
    entry = {key: "*.apps.identity", "ca_certs": AUTHORITY, "forwarded_client_cert": "", "xfcc_format": ""}
    (found,) = config({"domains": [entry]}).client_domains
    assert (found.dialect, found.forwarded_client_cert, found.xfcc_format, found.identity_extractor, found.mode) == (
        "domains", "sanitize_set", "raw", "cf_ou", "none",
    )  # fmt: skip


def test_mtls_domains_come_first() -> None:
    found = config({**domain(), "domains": [{"name": "b.example", "ca_certs": AUTHORITY}]}).client_domains
    assert [item.pattern for item in found] == ["*.apps.mtls.internal", "b.example"]


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"domain": "a.*.b"}, "domain"),
        ({"domain": "*"}, "domain"),
        ({"ca_certs": ""}, "ca_certs"),
        ({"ca_certs": "missing.pem"}, "ca_certs"),
        ({"forwarded_client_cert": "sanitize"}, "forwarded_client_cert"),
        ({"xfcc": {"identity_extractor": "spiffe"}}, "xfcc.identity_extractor"),
        ({"authorization": {"mode": "spiffe_authz"}}, "authorization.mode"),
        ({"crls": [AUTHORITY]}, "crls[0]"),
    ],
)
def test_a_wrong_value_is_named_by_its_whole_path(more: dict[str, Any], path: str) -> None:
    """R271, R317; attack 25."""
    assert errors(domain(**more)) == [f"mtls_domains[0].{path}"]


def test_a_guid_is_validated_by_form() -> None:
    """R317: the format, not the existence."""
    more = {
        "xfcc": {"identity_extractor": "cf_ou"},
        "authorization": {"mode": "cf_identity", "config": {"spaces": ["good-1", "not good", 7]}},
    }
    expected = [f"mtls_domains[0].authorization.config.spaces[{i}]" for i in (1, 2)]
    assert errors(domain(**more)) == expected


def test_neither_authorities_nor_lists_are_in_a_repr() -> None:
    (found,) = config(domain()).client_domains
    assert "BEGIN" not in repr(found)


def test_one_revocation_list_may_stand_alone() -> None:
    crl = CA("crl tests").crl()
    (found,) = config(domain(crls=crl)).client_domains
    assert found.crls == (crl,)
