"""authz/binding.py: the 421 of decisions 3 and 6."""

from dataclasses import replace
from typing import get_args

import pytest

from authz.binding import TlsBinding, check_binding, misdirected, must_close
from authz.decision import DENY_LABELS, BindingLabel, Check
from authz.domain import DomainPolicy
from tests.authz.parts import domain

NOW = 1_000_000.0
B = domain(pattern="*.b", client_policy="policy-b")
C = domain(pattern="*.c", client_policy="policy-c")
ON_B = TlsBinding("x.b", "*.b", "policy-b", True, NOW + 60, (1, b"issuer"))
ON_OPEN = TlsBinding("a.example", None, "policy-open", False, None, None)


def _check(binding: TlsBinding | None, host: DomainPolicy | None) -> Check:
    today = "" if binding is None else binding.client_policy
    return check_binding(binding, host, today, NOW, False)


@pytest.mark.parametrize(("binding", "host"), [(ON_B, B), (ON_OPEN, None), (None, None)])
def test_a_host_fits_the_handshake_that_enforced_its_domain(binding: TlsBinding | None, host: DomainPolicy | None) -> None:
    """Contract a.3: mTLS A for A; open for open; plain HTTP for open."""
    assert _check(binding, host).passed
    assert not must_close(_check(binding, host))


def test_two_hosts_of_one_entry_share_a_connection() -> None:
    """Decision 3: entries are compared, never SNI with Host."""
    assert _check(replace(ON_B, sni="other.b"), B).passed
    assert _check(replace(ON_B, sni=None), B).passed


@pytest.mark.parametrize(
    ("binding", "host", "rule"),
    [
        (None, B, "plain_http"),
        (ON_OPEN, B, "no_mtls"),
        (replace(ON_OPEN, sni=None), B, "no_mtls"),
        (replace(ON_OPEN, verified=True), B, "no_mtls"),
        (ON_B, C, "other_domain"),
        (ON_B, domain(pattern="*.x.b", client_policy="policy-b"), "other_domain"),
        (ON_B, None, "outside_domain"),
        (replace(ON_B, verified=False), B, "not_verified"),
    ],
)
def test_a_host_that_does_not_fit_is_misdirected(binding: TlsBinding | None, host: DomainPolicy | None, rule: str) -> None:
    """Attacks 1, 4, 5, 6, 8: 421, and the connection may go on for the hosts that it fits."""
    bound = _check(binding, host)
    denied = misdirected(bound)
    assert (bound.passed, bound.rule, must_close(bound)) == (False, rule, False)
    assert (denied.status, denied.code, denied.label, denied.close) == (
        421,
        "mtls_domain_mismatch",
        rule,
        False,
    )
    assert denied.trail == (bound,)
    assert denied.reason.startswith("mTLS enforcement mismatch: ")


@pytest.mark.parametrize("host", [B, C, None])
@pytest.mark.parametrize(
    ("today", "now", "revoked", "rule"),
    [
        ("policy-b2", NOW, False, "policy_changed"),
        ("", NOW, False, "policy_changed"),
        ("policy-b", NOW + 60.001, False, "certificate_expired"),
        ("policy-b", float("nan"), False, "certificate_expired"),
        ("policy-b", NOW, True, "certificate_revoked"),
    ],
)
def test_a_connection_of_the_past_is_misdirected_and_closed(
    host: DomainPolicy | None, today: str, now: float, revoked: bool, rule: str
) -> None:
    """Attack 26, decision 6: other policy, leaf expired or revoked, whatever Host is asked for."""
    bound = check_binding(ON_B, host, today, now, revoked)
    assert (bound.passed, bound.rule) == (False, rule)
    assert must_close(bound)
    assert misdirected(bound).close


def test_a_leaf_is_good_to_its_last_second() -> None:
    """RFC 5280, 4.1.2.5: notAfter is inclusive."""
    assert check_binding(ON_B, B, "policy-b", NOW + 60, False).passed


def test_the_domain_itself_must_agree_about_today() -> None:
    """When the two accounts of today's policy differ, neither is believed."""
    bound = check_binding(ON_B, domain(pattern="*.b", client_policy="policy-b2"), "policy-b", NOW, False)
    assert (bound.passed, bound.rule) == (False, "policy_changed")


def test_the_sni_is_quoted_and_bounded_in_the_reason() -> None:
    """A name of a peer cannot split a log line."""
    bound = _check(replace(ON_OPEN, sni="é\n" + "x" * 300), B)
    assert bound.detail.isascii()
    assert bound.detail.isprintable()
    assert len(bound.detail) < 300


def test_every_label_of_a_421_is_in_the_fixed_set() -> None:
    """Metric labels are bounded."""
    assert set(get_args(BindingLabel)) < DENY_LABELS


def test_no_421_is_made_of_a_check_that_passed() -> None:
    """A mistake in the router shows at once."""
    with pytest.raises(ValueError, match="no 421"):
        misdirected(_check(ON_B, B))
