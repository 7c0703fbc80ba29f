"""The operator's deny lists: callers, hosts and backends that are out at once, whatever any other rule says.

    apps | spaces | orgs    as callers (where a domain reads identities), and as owners of endpoints
    hosts                   exact, or `*.suffix` for every host below it, at any depth
    backend_networks        addresses of endpoints, and of whom was really reached

Promises: pure; an answer is the failed Check of the first list that hits, or None; a missing GUID hits no list. An address is
matched whatever its spelling: IPv4 inside IPv6 (`::ffff:10.0.0.1`) is that IPv4 address too. Refuses to know: what becomes of a
hit (decide.py: a 403 that nothing softens), and names: whoever dials one asks again with the address that answered.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Final, Literal

from authz.decision import Check
from authz.domain import DomainPolicy
from authz.networks import Address, Network, Networks
from identity.caller import Caller, Guid
from identity.certificate import IdentityError

ListName = Literal["apps", "spaces", "orgs", "hosts", "backend_networks"]

_NO_GUIDS: frozenset[Guid] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class DenyLists:
    """All lists of one configuration. `hosts` are canonical patterns. `empty` is the data path's one question."""

    apps: frozenset[Guid] = _NO_GUIDS
    spaces: frozenset[Guid] = _NO_GUIDS
    orgs: frozenset[Guid] = _NO_GUIDS
    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    empty: bool = field(init=False)
    matcher: Networks = field(init=False)

    def __post_init__(self) -> None:
        matcher = Networks(self.networks)
        object.__setattr__(self, "networks", matcher.listed)
        object.__setattr__(self, "matcher", matcher)
        object.__setattr__(self, "empty", not (self.apps or self.spaces or self.orgs or self.hosts or matcher))


NO_DENY: Final = DenyLists()


def denied_request(
    lists: DenyLists, host: str, domain: DomainPolicy | None, caller: Caller | IdentityError | None
) -> Check | None:
    """What is known before a route is looked up: the host, then the caller where `domain` (the host's) reads identities."""
    hit = denied_host(lists, host)
    if hit is None and domain is not None and domain.reads_identity and isinstance(caller, Caller):
        hit = denied_caller(lists, caller)
    return hit


def denied_host(lists: DenyLists, host: str) -> Check | None:
    """`host` must be canonical (registry/hostname.py): no port, lower case, no trailing dot."""
    hosts = lists.hosts
    if not hosts:
        return None
    pattern, dot = host, host.find(".", 1)
    while pattern not in hosts:
        if dot < 0:
            return None
        pattern, dot = "*" + host[dot:], host.find(".", dot + 1)
    return _hit("hosts", f"host {host} is on deny.hosts ({pattern})")


def denied_caller(lists: DenyLists, caller: Caller) -> Check | None:
    """The caller by its app, else its space, else its org."""
    return _denied_owner(lists, "caller", caller.app, caller.space, caller.org)


def bars(lists: DenyLists, app: str, space: str | None, org: str | None, address_host: str) -> Check | None:
    """An endpoint by its owner, else by its address; a host that is a name is judged once it has been dialled."""
    return _denied_owner(lists, "endpoint", app, space, org) or denied_address(lists, address_host)


def denied_address(lists: DenyLists, host: str) -> Check | None:
    """An address, in brackets or not; None for what is none."""
    if not lists.networks:
        return None
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return None
    for spelling in _spellings(address):
        if (network := lists.matcher.find(spelling)) is not None:
            return _hit("backend_networks", f"endpoint address {spelling} is in deny.backend_networks ({network})")
    return None


def _spellings(address: Address) -> Iterable[Address]:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (address,) if mapped is None else (mapped, address)


def _denied_owner(lists: DenyLists, who: str, app: str, space: str | None, org: str | None) -> Check | None:
    if app in lists.apps:
        return _hit("apps", f"{who} app {app} is on deny.apps")
    if space in lists.spaces:
        return _hit("spaces", f"{who} space {space} is on deny.spaces")
    if org in lists.orgs:
        return _hit("orgs", f"{who} org {org} is on deny.orgs")
    return None


def _hit(name: ListName, detail: str) -> Check:
    return Check("deny", "deny:" + name, False, detail)
