"""An application security group that lets apps reach the routers: by default theirs cannot, for it is an inner address.

Promises: pure; one rule for each address, network or range, in the order given, each once; an address that is none is a
Problem. Refuses to talk to a Cloud Controller: `cf create-security-group` takes what is printed.

Source: requirement 289; Cloud Foundry's security groups: `protocol`, `destination`, `ports`.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final

from registry.problems import Problem, printable
from router.bosh.document import Node

Rule = dict[str, str]

FORM: Final = "an address, a network (10.0.1.0/24) or a range (10.0.1.5-10.0.1.9)"


def security_group(addresses: Iterable[Node], port: int) -> tuple[list[Rule], tuple[Problem, ...]]:
    """The rules for TCP to this port of the addresses. A range is `first-last`, blanks around `-` or not."""
    rules: dict[str, Rule] = {}
    problems: list[Problem] = []
    for address in addresses:
        destination = destination_of(address.content)
        if destination is None:
            said = f"'{printable(str(address.content), 80)}'"
            problems.append(address.problem("static_ips", said, FORM, "correct it"))
        else:
            about = "apps to the router's mTLS domains"
            rules[destination] = {"protocol": "tcp", "destination": destination, "ports": str(port), "description": about}
    return list(rules.values()), tuple(problems)


def destination_of(value: object) -> str | None:
    """The canonical form of an address, network or range of addresses; None for anything else."""
    if not isinstance(value, str):
        return None
    first, dash, last = (part.strip() for part in value.partition("-"))
    try:
        if dash:
            low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
            ordered = low.version == high.version and int(low) <= int(high)
            return f"{low}-{high}" if ordered else None
        return str(ipaddress.ip_network(first)) if "/" in first else str(ipaddress.ip_address(first))
    except ValueError:
        return None
