"""What is legal but unwise in `deny`: entries that change nothing, and those that take out more than anybody means.

Promises: only what the file itself proves: an entry that another one covers, a network of every address, a GUID that is denied
and yet listed among a domain's callers. Refuses to know errors (model.py), and routes or callers that exist.
"""

from collections.abc import Iterator, Sequence

from authz.deny import Network, plain_network
from router.config.deny import Deny
from router.config.legacy import Notice, Tree
from router.config.model import Config

_REMEDY = "remove it, so that taking the other one out is enough"


def advise_deny(config: Config, _tree: Tree) -> Iterator[Notice]:
    """Every warning about the deny lists."""
    deny = config.deny
    for name in ("apps", "spaces", "orgs"):
        yield from _twice(name, getattr(deny, name))
    yield from _hosts(deny.hosts)
    yield from _networks(deny.backend_networks)
    yield from _listed_and_denied(config, deny)


def _twice(name: str, entries: Sequence[str]) -> Iterator[Notice]:
    for index, entry in enumerate(entries):
        first = entries.index(entry)
        if first < index:
            yield Notice(("deny", name, index), f"the same as deny.{name}[{first}]", _REMEDY)


def _hosts(hosts: Sequence[str]) -> Iterator[Notice]:
    yield from _twice("hosts", hosts)
    for index, host in enumerate(hosts):
        above = next((other for other in hosts if other != host and other.startswith("*.") and host.endswith(other[1:])), None)
        if above is not None:
            yield Notice(("deny", "hosts", index), f"`{above}` on the same list covers it: it changes nothing", _REMEDY)


def _networks(networks: Sequence[Network]) -> Iterator[Notice]:
    plain = [plain_network(network) for network in networks]
    for index, network in enumerate(plain):
        where = ("deny", "backend_networks", index)
        around = next(
            (other for at, other in enumerate(plain) if _covers(other, network) and (at < index or other != network)), None
        )
        if around is not None:
            yield Notice(where, f"{around} on the same list covers it: it changes nothing", _REMEDY)
        if network.prefixlen == 0:
            yield Notice(
                where, f"every IPv{network.version} address: no such backend is reached", "list the nodes that are meant"
            )


def _covers(one: Network, other: Network) -> bool:
    """Is every address of `other` one of `one`'s?"""
    if one.version != other.version or one.prefixlen > other.prefixlen:
        return False
    return other.network_address in one


def _listed_and_denied(config: Config, deny: Deny) -> Iterator[Notice]:
    for index, domain in enumerate(config.mtls_domains):
        lists = domain.authorization.config
        for name, listed, denied in (("orgs", lists.orgs, deny.orgs), ("spaces", lists.spaces, deny.spaces)):
            for at, guid in enumerate(listed or ()):
                if guid in denied:
                    said = f"{guid} is also in deny.{name}, which comes first: this entry admits nobody"
                    where = ("mtls_domains", index, "authorization", "config", name, at)
                    yield Notice(where, said, "remove it from the list that is not meant")
