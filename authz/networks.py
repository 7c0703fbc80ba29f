"""Networks, and the one that an address lies in: ten thousand cost what ten do.

Promises: a look-up takes one step a length of prefix, the longest first, so that the narrowest network answers; IPv4 inside IPv6
(`::ffff:10.0.0.1`) is IPv4, in networks and, once made plain, in addresses. Refuses to know what a hit means.

Source: RFC 4291, 2.5.5.2 for IPv4 inside IPv6.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

_MAPPED = 96  # bits of ::ffff:0:0/96, which holds every IPv4 address


class Networks:
    """A frozen set of networks; false where it is empty. `listed` has them in the order given, IPv4 as IPv4."""

    __slots__ = ("_by_length", "listed")

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self.listed = tuple(plain_network(network) for network in networks)
        found: dict[tuple[int, int], dict[int, Network]] = {}
        for network in self.listed:
            behind = network.max_prefixlen - network.prefixlen
            found.setdefault((behind, network.version), {}).setdefault(int(network.network_address) >> behind, network)
        self._by_length = tuple((version, behind, found[behind, version]) for behind, version in sorted(found))

    def __bool__(self) -> bool:
        return bool(self.listed)

    def find(self, address: Address) -> Network | None:
        """The narrowest network that `address` lies in, as it is spelled: an IPv6 address lies in IPv6 networks only."""
        number, version = int(address), address.version
        for of_version, behind, networks in self._by_length:
            if of_version == version and (network := networks.get(number >> behind)) is not None:
                return network
        return None


def plain_network(network: Network) -> Network:
    """A network of IPv4 addresses inside IPv6 as the IPv4 network it is; every other as it is."""
    mapped = isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED and network.network_address.ipv4_mapped
    return IPv4Network((mapped, network.prefixlen - _MAPPED)) if mapped else network


def plain_address(text: str) -> Address | None:
    """The address that a socket's or a header's text names, without its zone, IPv4 as IPv4; None for what is none."""
    try:
        if ":" not in text:
            return IPv4Address(text)
        address = IPv6Address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address
