"""router/net/countries.py: countries out of a database that is written by hand, byte for byte."""

import random
import sys
from ipaddress import ip_address

import pytest

from router.net.countries import Countries, NoReader
from tests.support.mmdb import database

DATA = database(
    {
        "192.0.2.0/24": {"country": {"iso_code": "NO"}, "registered_country": {"iso_code": "SE"}},
        "198.51.100.0/25": {"registered_country": {"iso_code": "KP"}},
        "203.0.113.0/24": {"continent": {"code": "EU"}},
        "2001:db8::/32": {"country": {"iso_code": "DE", "names": {"en": "Germany"}}},
        "2001:db9::/32": {"country": "odd"},
    }
)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "NO"),
        ("198.51.100.1", "KP"),
        ("198.51.100.200", None),
        ("203.0.113.1", None),
        ("2001:db8:1::1", "DE"),
        ("2001:db9::1", None),
        ("8.8.8.8", None),
    ],
)
def test_an_address_has_the_country_that_the_database_says(address: str, expected: str | None) -> None:
    """Where it is, else where it is registered, else nothing."""
    assert expected == Countries(DATA).of(ip_address(address))


def test_an_ipv6_address_in_a_database_of_ipv4_has_no_country() -> None:
    """Not known is no reason to refuse."""
    countries = Countries(database({"192.0.2.0/24": {"country": {"iso_code": "NO"}}}, ip_version=4))
    assert countries.of(ip_address("192.0.2.1")) == "NO"
    assert countries.of(ip_address("2001:db8::1")) is None


def test_what_is_no_database_is_said_so() -> None:
    """At the check, not at the first connection."""
    for data in (b"", b"PK\3\4", DATA[:-20], b"\xab\xcd\xefMaxMind.com", b"x" * 1000):
        with pytest.raises(ValueError, match="not a MaxMind database"):
            Countries(data)


def test_a_damaged_database_is_refused_or_says_nothing_but_never_raises() -> None:
    """A disk that lies must not end a connection's task."""
    dice = random.Random(7)
    asked = [ip_address(text) for text in ("192.0.2.7", "198.51.100.1", "2001:db8::1", "255.255.255.255")]
    for _ in range(400):
        data = bytearray(DATA)
        for _ in range(dice.randrange(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            countries = Countries(bytes(data))
        except ValueError:
            continue
        assert all(countries.of(address) is None or isinstance(countries.of(address), str) for address in asked)


def test_a_database_is_known_by_its_bytes() -> None:
    """A reload with the same file changes nothing; what is shown says which file it is."""
    one, same, other = Countries(DATA), Countries(DATA), Countries(database({"10.0.0.0/8": {"country": {"iso_code": "NO"}}}))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "Test-Country"
    assert str(one).startswith("Test-Country (sha256 ")


def test_without_the_extra_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who does not ask for countries needs the reader."""
    monkeypatch.setitem(sys.modules, "maxminddb", None)
    with pytest.raises(NoReader):
        Countries(DATA)
