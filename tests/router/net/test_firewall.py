"""router/net/firewall.py: who may connect, by lists, countries and rate."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.networks import Address, Networks
from router.net import budget
from router.net.firewall import EVERYBODY, NO_RULES, Blocked, Firewall, FirewallRules


def networks(*texts: str) -> Networks:
    return Networks(ip_network(text) for text in texts)


def country_of(address: Address) -> str | None:
    return "KP" if address.version == 6 else {"198": "SE"}.get(str(address).split(".")[0])


RULES = FirewallRules(networks("10.0.0.0/8", "10.1.0.0/16", "fd00::/8"), frozenset({"KP"}), country_of)


@pytest.mark.parametrize(
    ("address", "allowed", "expected"),
    [
        ("192.0.2.1", EVERYBODY, None),
        ("198.51.100.1", EVERYBODY, None),
        ("10.2.3.4", EVERYBODY, Blocked("blocked_address", "10.0.0.0/8")),
        ("10.1.3.4", EVERYBODY, Blocked("blocked_address", "10.1.0.0/16")),
        ("::ffff:10.2.3.4", EVERYBODY, Blocked("blocked_address", "10.0.0.0/8")),
        ("fd00::1%eth0", EVERYBODY, Blocked("blocked_address", "fd00::/8")),
        ("2001:db8::1", EVERYBODY, Blocked("blocked_country", "KP")),
        ("192.0.2.1", networks("192.0.2.0/24"), None),
        ("192.0.3.1", networks("192.0.2.0/24"), Blocked("not_allowed", "")),
        ("10.2.3.4", networks("0.0.0.0/0"), Blocked("blocked_address", "10.0.0.0/8")),
        ("", EVERYBODY, Blocked("unreadable_address", "")),
        ("db.internal", networks("0.0.0.0/0"), Blocked("unreadable_address", "")),
    ],
)
def test_an_address_is_judged_by_the_listeners_list_the_networks_and_the_countries(
    address: str, allowed: Networks, expected: Blocked | None
) -> None:
    """R134, R136: the first that blocks gives its reason, and the rule as the operator knows it."""
    assert expected == Firewall(RULES).admit(address, 0.0, allowed)


def test_without_rules_everybody_may_connect() -> None:
    """Off unless configured: no address is even read."""
    assert NO_RULES.empty
    assert Firewall().admit("what a socket calls it", 0.0) is None


def test_the_rate_of_an_address_is_limited_in_a_window_and_others_are_not_touched() -> None:
    """R45: the next window begins with nothing; a blocked connection counts too, so that hammering does not help."""
    wall = Firewall(FirewallRules(rate_limit=2, rate_window=60.0))
    refused = Blocked("rate", "2 in 60s")
    assert [wall.admit("192.0.2.1", now) for now in (0.0, 1.0, 2.0, 59.0)] == [None, None, refused, refused]
    assert wall.admit("::ffff:192.0.2.1", 59.0) == refused
    assert wall.admit("192.0.2.2", 59.0) is None
    assert wall.admit("192.0.2.1", 60.0) is None


def test_a_client_with_a_64_of_addresses_is_one_client() -> None:
    """R45: IPv6 hosts choose their addresses in their /64 as they like."""
    wall = Firewall(FirewallRules(rate_limit=1))
    assert wall.admit("2001:db8:0:1::1", 0.0) is None
    assert wall.admit("2001:db8:0:1:ffff::2", 0.0) == Blocked("rate", "1 in 60s")
    assert wall.admit("2001:db8:0:2::1", 0.0) is None


def test_who_is_blocked_by_a_list_is_not_counted() -> None:
    """The lists cost no memory an attacker could fill."""
    wall = Firewall(FirewallRules(networks("10.0.0.0/8"), rate_limit=1))
    assert wall.admit("10.0.0.1", 0.0) == Blocked("blocked_address", "10.0.0.0/8")
    assert len(wall._recent) == 0


def test_a_flood_of_addresses_costs_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 76: beyond the bound, new addresses share one count."""
    monkeypatch.setattr(budget, "MAX_ADDRESSES", 3)
    wall = Firewall(FirewallRules(rate_limit=2))
    answers = [wall.admit(f"192.0.2.{number}", 0.0) is None for number in range(8)]
    assert answers == [True] * 5 + [False] * 3
    assert len(wall._recent) == 4


def test_other_rules_keep_the_counts() -> None:
    """A reload neither forgives nor forgets."""
    wall = Firewall(FirewallRules(rate_limit=3))
    assert [wall.admit("192.0.2.1", 0.0), wall.admit("192.0.2.1", 0.0)] == [None, None]
    wall.rules = FirewallRules(rate_limit=2)
    assert wall.admit("192.0.2.1", 1.0) == Blocked("rate", "2 in 60s")
    wall.rules = NO_RULES
    assert wall.admit("192.0.2.1", 1.0) is None


@given(st.text(max_size=60), st.booleans())
def test_no_text_of_an_address_raises_or_slips_through(text: str, listed: bool) -> None:
    """An allow list admits only what it can read and find."""
    allowed = networks("192.0.2.1/32") if listed else EVERYBODY
    answer = Firewall(RULES).admit(text, 0.0, allowed)
    if listed and answer is None:
        assert "192.0.2.1" in text or "c000:201" in text.lower()
