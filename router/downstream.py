"""A client's connection: its stream, who is at the other end, and what was decided on it.

Promise: what depends on the connection alone (caller, XFCC value, forwarded address) is computed once; what was decided is
kept only as long as the configuration it was decided under. Refuses to know: how bytes move and how a request is answered.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from cryptography import x509

from authz.binding import TlsBinding, check_binding
from authz.decision import Check, Decision
from authz.domain import DomainPolicy, XfccFormat, XfccMode
from authz.policy import PoolPolicy
from identity.caller import Caller
from identity.certificate import IdentityError, read_caller
from identity.xfcc import render_envoy, render_raw
from registry.names import Names
from router.l7.hygiene import DownstreamFacts
from router.live import Snapshot
from router.net.channel import Channel
from router.net.listener import Entrance
from router.net.stream import Stream
from router.observe.access_record import NO_CALLER_NAMES, CallerNames

MAX_CACHED_DECISIONS: Final = 256


MAX_KNOWN_CLIENTS: Final = 1024


class Client:
    """Who is at the other end, as far as the handshake proved it: a pure function of the certificate, rendered once."""

    __slots__ = ("_xfcc", "caller", "der", "not_after", "serial_issuer")

    def __init__(self, der: bytes) -> None:
        self.der = der
        self.caller: Caller | IdentityError = read_caller(der)
        with warnings.catch_warnings(action="ignore"):  # the library warns of odd fields; no peer may write to our stderr
            leaf = x509.load_der_x509_certificate(der)
            self.not_after = leaf.not_valid_after_utc.timestamp()
            self.serial_issuer = (leaf.serial_number, leaf.issuer.public_bytes())
        self._xfcc: dict[str, bytes] = {}

    def is_on(self, revoked: frozenset[tuple[bytes, int]]) -> bool:
        """Does a CRL (pairs of issuer and serial number) name this certificate?"""
        serial, issuer = self.serial_issuer
        return (issuer, serial) in revoked

    def xfcc(self, form: str) -> bytes:
        """The X-Forwarded-Client-Cert value in `raw` or `envoy` form."""
        value = self._xfcc.get(form)
        if value is None:
            value = self._xfcc[form] = render_raw(self.der) if form == "raw" else render_envoy(self.der)
        return value


@lru_cache(maxsize=MAX_KNOWN_CLIENTS)
def client_of(der: bytes) -> Client:
    """The client of a verified leaf; one certificate opens many connections. Raises as `Client` does; no failure is kept."""
    return Client(der)


def _names_of(caller: Caller, names: Names) -> CallerNames:
    return CallerNames(names.get(caller.app), names.get(caller.space), names.get(caller.org))


class Downstream(Channel):
    """A client's connection: its stream, what is known of it, and what was decided on it (under one pair of snapshots)."""

    __slots__ = (
        "address",
        "binding",
        "bound",
        "busy",
        "caller",
        "caller_names",
        "client",
        "closing",
        "decisions",
        "facts",
        "http2",
        "leave",
        "listed",
        "listener",
        "port",
        "remote",
        "served",
        "snapshot",
    )

    def __init__(self, stream: Stream, address: str, port: int, listener: Entrance) -> None:
        super().__init__(stream)
        self.address = address
        self.port = port
        self.remote = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        self.listener = listener
        self.binding: TlsBinding | None = None
        self.client: Client | None = None
        self.caller: Caller | None = None
        self.caller_names = NO_CALLER_NAMES
        self.facts: DownstreamFacts
        self.busy = False
        self.closing = False
        self.http2 = False  # was that agreed upon in the handshake?
        self.leave: Callable[[], None] | None = None  # how to end a connection on which several requests may be under way
        self.served = 0
        self.snapshot: Snapshot | None = None
        self.bound: dict[DomainPolicy | None, Check] = {}
        self.decisions: dict[tuple[DomainPolicy | None, PoolPolicy], Decision] = {}
        self.listed: dict[str, Check | None] = {}  # by host: what the deny lists say of it and of the caller

    def check_today(self, snapshot: Snapshot, domain: DomainPolicy | None, now_epoch: float) -> Check:
        """The 421 check of this connection for a host in `domain`, by the policy in `snapshot`."""
        binding = self.binding
        policy = snapshot.client_policy(binding.domain) if binding is not None else None
        revoked = policy is not None and self.client is not None and self.client.is_on(policy.revoked)
        return check_binding(binding, domain, policy.fingerprint if policy is not None else "", now_epoch, revoked)

    def caller_for(self, domain: DomainPolicy | None) -> Caller | IdentityError | None:
        """The caller where the domain reads an identity at all; None where no certificate was verified."""
        if self.client is None or domain is None or not domain.reads_identity:
            return None
        return self.client.caller

    @property
    def secure(self) -> bool:
        """Can nobody on the way read along?"""
        return self.listener.tls

    def shown(self, mode: XfccMode, form: XfccFormat) -> tuple[XfccMode, bytes | None]:
        """How X-Forwarded-Client-Cert is treated where `mode` is configured, and its value for the verified certificate."""
        return mode, self.client.xfcc(form) if self.client is not None else None

    @property
    def binding_domain(self) -> str:
        """The pattern that the handshake enforced, "" for none."""
        return (self.binding.domain or "") if self.binding is not None else ""

    def under(self, snapshot: Snapshot) -> None:
        """Forget what was found and decided under another configuration."""
        if self.snapshot is not snapshot:
            self.snapshot = snapshot
            self.facts = snapshot.facts_of(self.address, tls=self.listener.tls)
            caller = self.caller = self._named_caller(snapshot)
            self.caller_names = _names_of(caller, snapshot.names) if caller is not None else NO_CALLER_NAMES
            self.bound.clear()
            self.decisions.clear()
            self.listed.clear()
        elif len(self.decisions) > MAX_CACHED_DECISIONS or len(self.listed) > MAX_CACHED_DECISIONS:
            self.decisions.clear()
            self.listed.clear()

    def _named_caller(self, snapshot: Snapshot) -> Caller | None:
        """Who the log may say is calling: OUs of a certificate that was verified for anything but a domain which reads
        identities are a stranger's words.
        """
        domain = snapshot.domains.claim(self.binding_domain)
        if domain is None or domain.pattern != self.binding_domain:
            return None
        caller = self.caller_for(domain)
        return caller if isinstance(caller, Caller) else None


class Inside(Downstream):
    """A connection of the router to itself, without a way that anybody could stand in: what it says of the client is our word."""

    __slots__ = ()

    @property
    def secure(self) -> bool:
        return True

    def shown(self, mode: XfccMode, form: XfccFormat) -> tuple[XfccMode, bytes | None]:
        return "always_forward", None

    def under(self, snapshot: Snapshot) -> None:
        fresh = self.snapshot is not snapshot
        super().under(snapshot)
        if fresh:
            self.facts = self.facts._replace(trusted=True, scheme=b"https")
