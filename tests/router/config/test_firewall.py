"""The `firewall` section and the rules that it becomes."""

import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from router.config.firewall import firewall_rules
from router.net.firewall import NO_RULES, Blocked, Firewall
from tests.router.config.support import config, loaded
from tests.support.mmdb import database

DATA = database({"192.0.2.0/24": {"country": {"iso_code": "NO"}}, "2001:db8::/32": {"country": {"iso_code": "SE"}}})


def test_nothing_configured_is_no_rules_at_all() -> None:
    """Off unless configured: the very constant."""
    for text in ("{}", "firewall: {}", "firewall: {rate_limit: 0, blocked_ips: []}"):
        assert firewall_rules(config(text).firewall) is NO_RULES


def test_every_rule_is_taken(tmp_path: Path) -> None:
    """R136: addresses and networks are one list, countries are capitals; `NO` is Norway, not a boolean."""
    (tmp_path / "geo.mmdb").write_bytes(DATA)
    text = """
firewall:
  blocked_ips: [192.0.2.7, "2001:db8::7"]
  blocked_cidrs: [198.51.100.0/24, "::ffff:10.0.0.0/104"]
  blocked_countries: [NO, se]
  geoip_db: geo.mmdb
  rate_limit: 20
  rate_window: 10s
"""
    found = loaded(text, folder=tmp_path)
    assert found.config is not None
    assert found.files == (tmp_path / "geo.mmdb",)
    rules = firewall_rules(found.config.firewall)
    assert rules.blocked.listed == tuple(map(ip_network, ("192.0.2.7", "2001:db8::7", "198.51.100.0/24", "10.0.0.0/8")))
    assert (sorted(rules.countries), rules.rate_limit, rules.rate_window) == (["NO", "SE"], 20, 10.0)
    assert rules.country_of is not None
    assert rules.country_of(ip_address("192.0.2.1")) == "NO"
    assert Firewall(rules).admit("192.0.2.1", 0.0) == Blocked("blocked_country", "NO")


@pytest.mark.parametrize(
    ("firewall", "path", "words"),
    [
        ({"blocked_ips": ["db.example"]}, "firewall.blocked_ips[0]", "a network"),
        ({"blocked_cidrs": ["10.0.0.1/8"]}, "firewall.blocked_cidrs[0]", "a network"),
        ({"blocked_cidrs": None}, "firewall.blocked_cidrs", "list"),
        ({"blocked_countries": ["Norway"]}, "firewall.blocked_countries[0]", "two letters"),
        ({"blocked_countries": [7]}, "firewall.blocked_countries[0]", "two letters"),
        ({"blocked_countries": ["NO"]}, "firewall", "geoip_db"),
        ({"geoip_db": "nowhere.mmdb"}, "firewall.geoip_db", "can be read"),
        ({"geoip_db": "text.mmdb"}, "firewall.geoip_db", "MaxMind database"),
        ({"geoip_db": ["a"]}, "firewall.geoip_db", "path"),
        ({"geoip_db": "a\0b"}, "firewall.geoip_db", "can be read"),
        ({"rate_limit": -1}, "firewall.rate_limit", "greater"),
        ({"rate_limit": 5, "rate_window": "0s"}, "firewall", "rate_window"),
        ({"rate_window": "soon"}, "firewall.rate_window", "duration"),
        ({"blocked": ["10.0.0.0/8"]}, "firewall.blocked", "known key"),
        (None, "firewall", "FirewallConfig"),
    ],
)
def test_a_bad_rule_is_an_error_at_its_path(firewall: Any, path: str, words: str, tmp_path: Path) -> None:
    """A lock that cannot be read is never silently none."""
    (tmp_path / "text.mmdb").write_text("GeoLite2")
    (problem,) = loaded({"firewall": firewall}, folder=tmp_path).problems
    assert problem.path == path
    assert words in problem.expected
    assert problem.remedy


def test_without_the_extra_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optional, and imported only where it is configured."""
    (tmp_path / "geo.mmdb").write_bytes(DATA)
    monkeypatch.setitem(sys.modules, "maxminddb", None)
    (problem,) = loaded({"firewall": {"geoip_db": "geo.mmdb"}}, folder=tmp_path).problems
    assert problem.path == "firewall.geoip_db"
    assert "pip install 'vestibule[geoip]'" in problem.remedy
    assert loaded({"firewall": {"blocked_ips": ["192.0.2.7"]}}).problems == ()


def test_ten_thousand_networks_are_read() -> None:
    """R136: a block list of an operator's."""
    networks = [f"10.{n >> 8}.{n & 255}.0/24" for n in range(10_000)]
    rules = firewall_rules(config({"firewall": {"blocked_cidrs": networks}}).firewall)
    assert Firewall(rules).admit("10.39.15.200", 0.0) == Blocked("blocked_address", "10.39.15.0/24")
    assert Firewall(rules).admit("10.39.16.1", 0.0) is None
