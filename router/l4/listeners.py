"""What a listener is made of: its addresses, whose PROXY headers it believes, whom it lets connect and how many.

Promises: frozen values. Refuses to know sockets, and what its connections are served with.

Source: requirements 72, 84, 123, 226; K33, K47; attack 71.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from authz.networks import Networks, plain_address
from router.net.budget import BudgetLimits
from router.net.firewall import EVERYBODY

NO_LIMITS: Final = BudgetLimits()
Kind: TypeAlias = Literal["tls", "ssl_port", "tcp", "http"]
"""`ssl_port` is GoRouter's: a name that nobody claims gets the first certificate there; on a `tls` listener it is reset."""


@dataclass(frozen=True, slots=True, eq=False)
class ProxyTrust:
    """Where every connection begins with a PROXY header: from whom it is believed. `networks` None: from everybody."""

    networks: Networks | None

    def believes(self, peer: str) -> bool:
        """Whether a header of the socket's peer counts; a connection of any other is reset. Never optional, never guessed."""
        if self.networks is None:
            return True
        address = plain_address(peer)
        return address is not None and self.networks.find(address) is not None


@dataclass(frozen=True, slots=True, eq=False)
class ListenerPlan:
    """One port as the configuration wants it. `name` is what logs and metrics call it, `addresses` where it is bound.

    `proxy` None: no header is read, and the socket's peer is the client. `allowed` empty: everybody's connections.
    `budget` is asked at accept; `clients`, what holds for one address, once a header has told the address: the socket's is the
    balancer's there.
    """

    name: str
    kind: Kind
    port: int
    addresses: tuple[str, ...]
    proxy: ProxyTrust | None = None
    allowed: Networks = EVERYBODY
    budget: BudgetLimits = NO_LIMITS
    clients: BudgetLimits = NO_LIMITS
