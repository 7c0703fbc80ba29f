"""Who a request that a route service sends back is judged as."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from authz.binding import TlsBinding
from authz.domain import XfccMode
from router.downstream import Downstream, client_of
from router.l7.returning import Returned
from router.l7.route_service import Origin
from router.net.budget import Budget, BudgetLimits
from router.net.listener import Entrance
from router.net.stream import Stream
from tests.router.desk import EAST, Desk, desk, settings
from tests.support.certs import authority
from tests.support.router import mtls_domain

EAST_CA = authority("east instance identity")
CALLER = EAST_CA.issue_instance("app-a", "space-1", "org-1")
SERVICE = EAST_CA.issue_instance("app-s", "space-9", "org-9")
NOW = CALLER.certificate.not_valid_before_utc.timestamp() + 3600
LATE = CALLER.certificate.not_valid_after_utc.timestamp() + 1
PATTERN = f"*.{EAST}"


class Scene:
    """A service's connection, and the seal that it brings."""

    def __init__(self, one: Desk, conn: Downstream) -> None:
        self.one = one
        self.conn = conn
        self.snapshot = one.live.snapshot
        self.domain = self.snapshot.domains.claim(f"app.{EAST}")
        policy = self.snapshot.client_policy(PATTERN)
        assert policy is not None
        self.origin = Origin(CALLER.der, PATTERN, policy.fingerprint, "203.0.113.9", "198.51.100.7, 203.0.113.9", "http")

    def bind(self, domain: str | None, **changed: Any) -> None:
        """The handshake of the service's own connection."""
        policy = self.snapshot.client_policy(domain)
        assert policy is not None
        client = self.conn.client = client_of(SERVICE.der)
        own = TlsBinding("localhost", domain, policy.fingerprint, domain is not None, client.not_after, client.serial_issuer)
        self.conn.binding = TlsBinding(**{name: getattr(own, name) for name in TlsBinding.__slots__} | changed)

    def returned(self, origin: Origin | None = None, *, speaks: bool = True) -> Returned:
        made = Returned(self.conn, self.origin if origin is None else origin, speaks=speaks)
        made.under(self.snapshot)
        return made


@asynccontextmanager
async def scene(*, tls: bool = True, **config: Any) -> AsyncIterator[Scene]:
    async with desk(route_services_secret="tulips", **config) as one:
        ours, theirs = socket.socketpair()
        stream = Stream(ours, asyncio.get_running_loop(), one.wheel)
        conn = Downstream(stream, "192.0.2.80", 4711, Entrance("test", Budget(BudgetLimits()), tls=tls))
        conn.under(one.live.snapshot)
        try:
            yield Scene(one, conn)
        finally:
            stream.close()
            theirs.close()


async def test_the_seal_stands_for_the_certificate() -> None:
    """On whatever connection: plain, under an open name, under another domain or the same one."""
    async with scene() as place:
        for enforced in ("plain", None, PATTERN):
            if enforced != "plain":
                place.bind(enforced)
            bound = place.returned().check_today(place.snapshot, place.domain, NOW)
            assert (bound.passed, bound.rule) == (True, "route_service")
            assert place.returned().caller_for(place.domain) == client_of(CALLER.der).caller


OWN: list[tuple[Callable[[Scene], object], str]] = [
    (lambda place: place.bind(PATTERN, client_policy="older"), "policy_changed"),
    (lambda place: place.bind(PATTERN, not_after=NOW - 1), "certificate_expired"),
]


@pytest.mark.parametrize(("bind", "rule"), OWN)
async def test_a_connection_of_the_past_is_of_no_use(bind: Callable[[Scene], object], rule: str) -> None:
    """Whatever it brings, its own certificate is judged too."""
    async with scene() as place:
        bind(place)
        assert place.returned().check_today(place.snapshot, place.domain, NOW).rule == rule


@pytest.mark.parametrize(
    ("change", "late", "rule"),
    [
        ({"client_policy": "older"}, False, "policy_changed"),
        ({"domain": "*.elsewhere.example"}, False, "policy_changed"),
        ({"domain": None}, False, "policy_changed"),
        ({}, True, "certificate_expired"),
    ],
)
async def test_the_sealed_certificate_is_judged_as_it_would_be_today(change: dict[str, Any], late: bool, rule: str) -> None:
    async with scene() as place:
        party = place.returned(place.origin._replace(**change))
        bound = party.check_today(place.snapshot, place.domain, LATE if late else NOW)
        assert (bound.passed, bound.rule) == (False, rule)


async def test_a_revoked_caller_has_not_returned() -> None:
    crls = [EAST_CA.crl([CALLER])]
    async with scene(mtls_domains=[mtls_domain(PATTERN, EAST_CA, crls=crls)]) as place:
        assert place.returned().check_today(place.snapshot, place.domain, NOW).rule == "certificate_revoked"


@pytest.mark.parametrize("origin", [Origin(), None])
async def test_a_seal_without_a_certificate_stands_for_none(origin: Origin | None) -> None:
    async with scene() as place:
        party = Returned(place.conn, origin, speaks=True)
        party.under(place.snapshot)
        assert party.check_today(place.snapshot, place.domain, NOW).rule == "plain_http"
        assert (party.client, party.caller_for(place.domain)) == (None, None)


async def test_for_another_path_the_seal_does_not_speak() -> None:
    async with scene() as place:
        party = place.returned(speaks=False)
        assert party.client is None
        assert not party.check_today(place.snapshot, place.domain, NOW).passed


async def test_an_open_host_still_asks_for_a_fitting_connection() -> None:
    """421 for an open host on an mTLS handshake, seal or not."""
    async with scene() as place:
        place.bind(PATTERN)
        assert place.returned(Origin()).check_today(place.snapshot, None, NOW).rule == "outside_domain"
        assert place.returned().check_today(place.snapshot, None, NOW).rule == "outside_domain"


@pytest.mark.parametrize(
    ("tls", "mode", "expected"),
    [
        (True, "sanitize_set", ("sanitize_set", True)),
        (False, "sanitize_set", ("sanitize_set", False)),
        (True, "forward", ("sanitize_set", False)),
        (False, "forward", ("sanitize_set", False)),
        (True, "always_forward", ("always_forward", False)),
        (False, "always_forward", ("always_forward", False)),
    ],
)
async def test_what_the_app_is_told_of_the_certificate(tls: bool, mode: XfccMode, expected: tuple[str, bool]) -> None:
    """Contract e, the matrix: set where the service came by TLS, deleted in `forward`, untouched in `always_forward`."""
    async with scene(tls=tls) as place:
        said, value = place.returned().shown(mode, "envoy")
        assert (said, value is not None) == expected
        assert value is None or value == client_of(CALLER.der).xfcc("envoy")
        assert place.returned(Origin()).shown(mode, "envoy")[1] is None


async def test_the_app_is_told_of_the_clients_way() -> None:
    """Contract d, row 17, and X-Forwarded-For: as the first leg knew them, with the service added."""
    async with scene() as place:
        facts = place.returned().facts
        assert facts.forwarded == [
            (b"X-Forwarded-For", b"198.51.100.7, 203.0.113.9, 192.0.2.80"),
            (b"X-Forwarded-Proto", b"http"),
            (b"X-Real-IP", b"203.0.113.9"),
        ]
        assert (facts.node, facts.trusted) == (b"203.0.113.9", False)


async def test_a_gorouters_services_are_believed_as_it_believes_them() -> None:
    """Its seal says nothing of the client: then the service's own forwarding fields count."""
    async with scene() as place:
        party = Returned(place.conn, None, speaks=True)
        party.under(place.snapshot)
        assert (party.facts.trusted, party.facts.peer) == (True, b"192.0.2.80")


async def test_a_certificate_that_nobody_can_read_is_an_error() -> None:
    async with scene() as place:
        with pytest.raises(ValueError):
            place.returned(place.origin._replace(leaf=b"no certificate"))


async def test_another_configuration_is_another_judgement() -> None:
    """Decision 6."""
    async with scene() as place:
        party = place.returned()
        place.one.adopt(settings(route_services_secret="tulips", mtls_domains=[mtls_domain(PATTERN, authority("others"))]))
        today = place.one.live.snapshot
        party.under(today)
        assert party.check_today(today, today.domains.claim(f"app.{EAST}"), NOW).rule == "policy_changed"
        assert party.facts.node == b"203.0.113.9"
