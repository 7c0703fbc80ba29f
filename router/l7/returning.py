"""A request that comes back from a route service: whose it is, by the seal of the router that sent it there.

Promises: a seal speaks for its own host alone, and for the caller only on the very path that the caller asked for; in an mTLS
domain it stands for the client's certificate, as that is judged today: domain, authorities, revocation and expiry. No header
says who calls. A connection that is of the past is misdirected whatever it brings. In an mTLS domain a return in plain text
counts only where the operator tells services to return by http. Refuses to know routes' policies, and what becomes of the answer.
"""

from __future__ import annotations

from typing import Final

from authz.binding import TlsBinding, must_close
from authz.decision import Check
from authz.domain import DomainPolicy, XfccFormat, XfccMode
from router.downstream import Downstream, client_of
from router.l7.hygiene import facts_by_way_of
from router.l7.route_service import FORWARDED_URL, METADATA, SIGNATURE, Origin, Sealed, read_return
from router.l7.state import Exchange
from router.l7.target import normalised_path
from router.live import Snapshot
from router.tls.certificates import UNREADABLE
from router.wire.http1 import Fields

_BY_SEAL: Final = Check(
    "binding", "route_service", True, "the handshake of the request that went to the route service fits the Host"
)


class Returned(Downstream):
    """The client that a route service speaks for, on the service's connection."""

    __slots__ = ("_conn", "_origin")

    def __init__(self, conn: Downstream, origin: Origin | None, *, speaks: bool) -> None:
        """`speaks`: the seal is good for who called. Raises ValueError for a certificate that nobody can read."""
        super().__init__(conn.stream, conn.address, conn.port, conn.listener)
        self._conn = conn
        self._origin = origin
        if origin is None or not speaks or not origin.leaf:
            return
        try:
            client = self.client = client_of(origin.leaf)
        except UNREADABLE as error:
            raise ValueError(str(error)) from error
        sni = conn.binding.sni if conn.binding is not None else None
        self.binding = TlsBinding(sni, origin.domain, origin.client_policy, True, client.not_after, client.serial_issuer)

    def check_today(self, snapshot: Snapshot, domain: DomainPolicy | None, now_epoch: float) -> Check:
        own = self._conn.check_today(snapshot, domain, now_epoch)
        if self.client is None or must_close(own) or (domain is None and not own.passed):
            return own
        bound = super().check_today(snapshot, domain, now_epoch)
        return _BY_SEAL if bound.passed else bound

    def under(self, snapshot: Snapshot) -> None:
        fresh = self.snapshot is not snapshot
        super().under(snapshot)
        if not fresh:
            return
        origin = self._origin
        if origin is None:  # a GoRouter of ours: its services are believed as it believes them
            self.facts = self.facts._replace(trusted=True)
        else:
            self.facts = facts_by_way_of(self.facts, origin.address, origin.forwarded_for, origin.proto)

    def shown(self, mode: XfccMode, form: XfccFormat) -> tuple[XfccMode, bytes | None]:
        """The certificate that was sealed, where it may be told: by `sanitize_set`, to who came back by TLS. In `forward` the
        field is the service's own word by now.
        """
        if mode == "always_forward":
            return mode, None
        told = mode == "sanitize_set" and self.client is not None and self._conn.secure
        return "sanitize_set", self.client.xfcc(form) if told and self.client is not None else None


def read_seal(exchange: Exchange, snapshot: Snapshot) -> None:
    """What the request says of a route service; once a request, so that it does not age while it is tried again."""
    services = snapshot.route_services
    if services is not None:
        exchange.seal = read_return(exchange.head.fields, services.seal, exchange.record.started_at, services.timeout)


def recognise(exchange: Exchange, snapshot: Snapshot) -> None:
    """Set the party whom the request of a route service is judged as; by the route table and the configuration of now."""
    exchange.party = exchange.conn
    seal = exchange.seal
    if snapshot.route_services is None or not isinstance(seal, Sealed) or not _fits(exchange, seal):
        return
    domain, conn = snapshot.domains.claim(exchange.target.host), exchange.conn
    exact = _plain(seal.path) == _plain(exchange.target.path)
    if domain is not None and not (exact and seal.origin is not None and seal.origin.leaf):
        return
    if domain is not None and not conn.secure and snapshot.route_services.scheme == "https":
        return
    try:
        exchange.party = Returned(conn, seal.origin, speaks=exact)
    except ValueError:
        return
    exchange.party.under(snapshot)
    exchange.describe_party()


def carried(exchange: Exchange, seal: Sealed) -> Fields:
    """The headers of a request that is on its way to a service which is itself a route here; the URL is the sealed one."""
    kept = [field for field in exchange.head.fields if field[0] in (SIGNATURE, METADATA)]
    return [(FORWARDED_URL, seal.url.encode("latin-1", "replace")), *kept]


def _fits(exchange: Exchange, seal: Sealed) -> bool:
    """Was the seal made for this host, and for what is the same route?"""
    table, target = exchange.router.live.table, exchange.target
    if seal.host != target.host:
        return False
    route = table.lookup(target.host, target.path)
    return route is not None and table.lookup(seal.host, seal.path) is route


def _plain(path: str) -> str:
    return normalised_path(path) or path
