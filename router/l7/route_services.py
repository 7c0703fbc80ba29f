"""The operator's will about route services, compiled: how they are asked, and where they may be.

Promises: a service is asked by HTTPS with its name verified; never at an address that the operator blocks or denies, by whatever
name, nor by a host that is denied; on connections that are used for nothing else. Refuses to know requests and routes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from authz.deny import DenyLists, denied_host
from authz.networks import Network
from registry.endpoint import Endpoint
from router.backend.dial import Dialer
from router.backend.pool import IdlePool
from router.l7.route_service import ServiceUrl
from router.l7.route_service_seal import Seal


@dataclass(frozen=True, slots=True, eq=False)
class RouteServices:
    """Of one configuration generation. `timeout` in seconds; `scheme` of the URL that a service sends on to; `strict`: what
    claims falsely to come from a service is refused on every route; `inside`: the hosts, or `*.` for one label, of services
    that are asked inside the process where they are routes here (None: of none, empty: of all); `blocked`: where none may be.
    """

    seal: Seal
    timeout: float
    scheme: str
    strict: bool
    max_attempts: int
    inside: frozenset[str] | None
    blocked: DenyLists
    dialer: Dialer
    idle: IdlePool

    def stays_inside(self, host: str) -> bool:
        """May a service with this canonical host be asked inside the process?"""
        if self.inside is None:
            return False
        return not self.inside or host in self.inside or "*" + host[max(host.find("."), 0) :] in self.inside


def blocked(networks: Iterable[Network], deny: DenyLists) -> DenyLists:
    """Where no service may be: the blocked networks, and all that is denied to requests anyway."""
    return DenyLists(hosts=deny.hosts, networks=(*networks, *deny.networks))


def blocks(lists: DenyLists, url: ServiceUrl) -> str:
    """Why a service with this URL may not be asked, by its name alone; empty: it may."""
    hit = denied_host(lists, url.host)
    return hit.detail if hit is not None else ""


@lru_cache(maxsize=4096)  # of the URLs that registrations name
def endpoint_of(url: ServiceUrl) -> Endpoint:
    """The service as something to be dialled: its certificate must name the host, or the address."""
    return Endpoint(url.host.strip("[]"), url.port, tls=True, san="" if url.is_address else url.host)
