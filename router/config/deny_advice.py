"""What is legal but unwise in `deny`: entries that change nothing, and those that take out more than anybody means.

Promises: only what the file itself proves: an entry that another one covers, a network of every address, a GUID that is denied
and yet listed among a domain's callers. Refuses to know errors (model.py), and routes or callers that exist.
"""

from collections.abc import Iterator, Sequence

from authz.networks import Network, plain_network
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
    firsts: dict[str, int] = {}
    for index, entry in enumerate(entries):
        first = firsts.setdefault(entry, index)
        if first < index:
            yield Notice(("deny", name, index), f"the same as deny.{name}[{first}]", _REMEDY)


def _hosts(hosts: Sequence[str]) -> Iterator[Notice]:
    yield from _twice("hosts", hosts)
    listed = frozenset(hosts)
    for index, host in enumerate(hosts):
        above = next((pattern for pattern in _above(host) if pattern in listed), None)
        if above is not None:
            yield Notice(("deny", "hosts", index), f"`{above}` on the same list covers it: it changes nothing", _REMEDY)


def _above(host: str) -> Iterator[str]:
    """The patterns that cover a host or pattern, itself not among them; the widest first."""
    rest = host.removeprefix("*")
    ends = [at for at in range(len(rest)) if rest[at] == "." and at > 0]
    yield from (f"*{rest[at:]}" for at in reversed(ends))


def _networks(networks: Sequence[Network]) -> Iterator[Notice]:
    plain = [plain_network(network) for network in networks]
    listed, seen = frozenset(plain), set[Network]()
    lengths = sorted({(network.version, network.prefixlen) for network in plain})
    for index, network in enumerate(plain):
        where = ("deny", "backend_networks", index)
        wider = (length for version, length in lengths if version == network.version and length < network.prefixlen)
        around = next((other for length in wider if (other := network.supernet(new_prefix=length)) in listed), None)
        if around is None and network in seen:
            around = network
        seen.add(network)
        if around is not None:
            yield Notice(where, f"{around} on the same list covers it: it changes nothing", _REMEDY)
        if network.prefixlen == 0:
            yield Notice(
                where, f"every IPv{network.version} address: no such backend is reached", "list the nodes that are meant"
            )


def _listed_and_denied(config: Config, deny: Deny) -> Iterator[Notice]:
    orgs, spaces = frozenset(deny.orgs), frozenset(deny.spaces)
    for index, domain in enumerate(config.mtls_domains):
        lists = domain.authorization.config
        for name, listed, denied in (("orgs", lists.orgs, orgs), ("spaces", lists.spaces, spaces)):
            for at, guid in enumerate(listed or ()):
                if guid in denied:
                    said = f"{guid} is also in deny.{name}, which comes first: this entry admits nobody"
                    where = ("mtls_domains", index, "authorization", "config", name, at)
                    yield Notice(where, said, "remove it from the list that is not meant")
