"""A MaxMind database of a few networks, written by hand: the format's version 2.0, records of 28 bits."""

import struct
from collections.abc import Mapping
from ipaddress import ip_network

Value = str | int | Mapping[str, "Value"]
_MARKER = b"\xab\xcd\xefMaxMind.com"


def database(networks: Mapping[str, Value], *, ip_version: int = 6, kind: str = "Test-Country") -> bytes:
    """The bytes of a database with a record for each of the (disjoint) networks; IPv4 below ::/96, as MaxMind does."""
    tree: list[list[object]] = [[None, None]]
    section, places = b"", {}
    for text, value in networks.items():
        places[text] = len(section)
        section += _encode(value)
        bits = _bits(text, ip_version)
        node = 0
        for bit in bits[:-1]:
            child = tree[node][bit]
            if child is None:
                child = tree[node][bit] = len(tree)
                tree.append([None, None])
            assert isinstance(child, int), "networks must be disjoint"
            node = child
        tree[node][bits[-1]] = text
    count = len(tree)

    def record(value: object) -> int:
        if value is None:
            return count
        return value if isinstance(value, int) else count + 16 + places[str(value)]

    nodes = b"".join(_node(record(left), record(right)) for left, right in tree)
    metadata: dict[str, Value] = {
        "binary_format_major_version": 2, "binary_format_minor_version": 0, "build_epoch": 1, "database_type": kind,
        "description": {"en": "test"}, "ip_version": ip_version, "languages": "en", "node_count": count, "record_size": 28,
    }  # fmt: skip
    return nodes + bytes(16) + section + _MARKER + _encode(metadata)


def _bits(text: str, ip_version: int) -> list[int]:
    network = ip_network(text)
    number = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
    length = network.prefixlen + (96 if network.version == 4 and ip_version == 6 else 0)
    return [number >> (length - 1 - at) & 1 for at in range(length)]


def _node(left: int, right: int) -> bytes:
    middle = (left >> 24) << 4 | right >> 24
    return (left & 0xFFFFFF).to_bytes(3) + bytes((middle,)) + (right & 0xFFFFFF).to_bytes(3)


def _encode(value: Value) -> bytes:
    if isinstance(value, str):
        return _control(2, len(value.encode())) + value.encode()
    if isinstance(value, int):
        return _control(6, 4) + struct.pack("!I", value)
    return _control(7, len(value)) + b"".join(_encode(key) + _encode(item) for key, item in value.items())


def _control(kind: int, size: int) -> bytes:
    assert size < 285
    return bytes((kind << 5 | size,)) if size < 29 else bytes((kind << 5 | 29, size - 29))
