"""authz/networks.py: the network that an address lies in, against asking each network."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.networks import Address, Network, Networks, plain_address, plain_network

FEW = st.sampled_from(["10.0.0.0", "10.0.0.1", "10.128.0.0", "fd00::", "fd00::1", "::", "::ffff:10.0.0.0", "::ffff:10.0.0.1"])
ADDRESSES = FEW | st.ip_addresses().map(str)


@given(st.lists(st.tuples(ADDRESSES, st.integers(0, 128)), max_size=8), ADDRESSES)
def test_the_narrowest_network_around_an_address_is_found_and_no_other(listed: list[tuple[str, int]], text: str) -> None:
    """R136: what looking at each network finds, whatever the families."""
    networks: list[Network] = [ip_network((one, length if ":" in one else length % 33), strict=False) for one, length in listed]
    address = plain_address(text)
    assert address is not None
    fitting = [network for network in map(plain_network, networks) if address in network]
    expected = max(fitting, key=lambda network: network.prefixlen, default=None)
    assert expected == Networks(networks).find(address)


def test_no_networks_are_false_and_hold_nobody() -> None:
    """The data path's one question."""
    assert not Networks()
    assert Networks([ip_network("0.0.0.0/0")])
    assert Networks().find(IPv4Address("10.0.0.1")) is None


def test_networks_keep_their_order_and_lose_their_mapping() -> None:
    """What is shown is what is matched."""
    networks = Networks([ip_network("fd00::/8"), ip_network("::ffff:10.0.0.0/104")])
    assert networks.listed == (ip_network("fd00::/8"), ip_network("10.0.0.0/8"))


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_a_mapped_network_is_the_network_it_maps(address: IPv4Address, length: int) -> None:
    """`::ffff:a.b.c.d/(96+n)` and `a.b.c.d/n` are one network; a wider one stays what it is."""
    plain = ip_network((address, length), strict=False)
    assert plain == plain_network(ip_network((IPv6Address(f"::ffff:{plain.network_address}"), 96 + length)))
    assert plain_network(ip_network("::/0")) == ip_network("::/0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("::192.0.2.1", "::c000:201"),
    ],
)
def test_an_address_has_one_form(text: str, expected: str) -> None:
    """IPv4 inside IPv6 is IPv4; a zone means nothing to a rule."""
    assert ip_address(expected) == plain_address(text)


@given(st.text(max_size=50) | st.from_regex(r"[0-9a-f:.%\[\]/]{0,50}", fullmatch=True))
def test_no_text_is_taken_for_an_address_that_it_is_not(text: str) -> None:
    """An answer, never an exception."""
    found: Address | None = plain_address(text)
    if found is not None:
        plain = ip_address(text.partition("%")[0])
        assert found == (plain.ipv4_mapped if isinstance(plain, IPv6Address) and plain.ipv4_mapped else plain)


def test_ten_thousand_networks_are_as_many_steps_as_ten() -> None:
    """R136: one step a length of prefix, so that a long list of rules costs what a short one does."""
    few = Networks(ip_network(f"10.{n}.0.0/16") for n in range(10))
    many = Networks(ip_network(f"10.{n >> 8}.{n & 255}.0/24") for n in range(10_000))
    assert len(few._by_length) == len(many._by_length) == 1
