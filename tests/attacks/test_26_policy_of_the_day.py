"""Attack 26: the policy changes while a connection that it would not admit any more is open."""

import datetime as dt
from typing import Any, NamedTuple

import pytest

from tests.attacks.conftest import Door, MakeRegistrar, assert_misdirected
from tests.conftest import EAST, OPEN, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential
from tests.support.client import Client, Tls, get
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain, wait_until


class Site(NamedTuple):
    """A router of the test's own with a strict and an open host."""

    router: RouterProcess
    strict: Door
    plain: Door
    east: CA

    def reload(self, *domains: dict[str, Any], **more: Any) -> None:
        assert self.router.reload(mtls_domains=list(domains), **more) == {'result="ok"': 1}

    def strict_domain(self, ca: CA | str | None = None, **more: Any) -> dict[str, Any]:
        return mtls_domain(f"*.{EAST}", ca or self.east, **more)


@pytest.fixture
def site(
    make_router: MakeRouter, make_registrar: MakeRegistrar, nats_server: NatsServer, backend: EchoBackend, east_ca: CA
) -> Site:
    router = make_router(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)])
    strict, plain = unique_host(EAST), unique_host(OPEN)
    make_registrar(nats_server, router).register(strict, plain, backend=backend, options={"mtls_allow_any": True})
    return Site(router, Door(strict, backend), Door(plain, backend), east_ca)


def assert_closed_with_421(client: Client, door: Door) -> None:
    seen = len(door.backend.received)
    assert_misdirected(client.request(door.host))
    assert client.closed_by_server()
    assert len(door.backend.received) == seen


def test_another_authority_ends_a_live_connection(site: Site, west_ca: CA, caller: Credential) -> None:
    """Attack 26: the next request on a connection whose authority was replaced gets 421, and the connection is closed."""
    with Client(site.router.ssl_port, Tls(site.strict.host, caller)) as client:
        assert client.request(site.strict.host).status == 200
        site.reload(site.strict_domain(west_ca))
        assert_closed_with_421(client, site.strict)


def test_an_authority_that_is_taken_away_ends_a_live_connection(site: Site, west_ca: CA, caller: Credential) -> None:
    """Attack 26: so does taking one of two away, and adding one: the set is another."""
    for before, after in ((site.east.pem + west_ca.pem, site.east.pem), (site.east.pem, site.east.pem + west_ca.pem)):
        site.reload(site.strict_domain(before))
        with Client(site.router.ssl_port, Tls(site.strict.host, caller)) as client:
            assert client.request(site.strict.host).status == 200
            site.reload(site.strict_domain(after))
            assert_closed_with_421(client, site.strict)
            assert get(site.router.ssl_port, site.strict.host, tls=Tls(site.strict.host, caller)).status == 200


def test_a_domain_that_becomes_strict_ends_open_connections_to_it(site: Site, caller: Credential) -> None:
    """Attack 26: a connection made while the host was open does not reach it once it is strict."""
    with Client(site.router.ssl_port, Tls(site.plain.host)) as client, Client(site.router.port) as bare:
        assert client.request(site.plain.host).status == 200
        assert bare.request(site.plain.host).status == 200
        seen = len(site.plain.backend.received)
        site.reload(site.strict_domain(), mtls_domain(f"*.{OPEN}", site.east))
        assert_misdirected(client.request(site.plain.host))
        assert_misdirected(bare.request(site.plain.host))
        assert len(site.plain.backend.received) == seen


def test_a_domain_that_goes_ends_the_connections_it_enforced(site: Site, caller: Credential) -> None:
    """Attack 26: what a handshake enforced for a domain that is no more is no binding to anything."""
    with Client(site.router.ssl_port, Tls(site.strict.host, caller)) as client:
        assert client.request(site.strict.host).status == 200
        site.reload()
        assert_closed_with_421(client, site.strict)


def test_a_narrower_entry_takes_a_host_from_a_live_connection(site: Site, west_ca: CA, caller: Credential) -> None:
    """Attack 26: a host that gets a domain entry of its own is out of reach for a connection of the wider one."""
    with Client(site.router.ssl_port, Tls(f"other.{EAST}", caller)) as client:
        assert client.request(site.strict.host).status == 200
        site.reload(site.strict_domain(), mtls_domain(site.strict.host, west_ca))
        seen = len(site.strict.backend.received)
        assert_misdirected(client.request(site.strict.host))
        assert len(site.strict.backend.received) == seen


def test_a_revocation_reaches_a_live_connection(site: Site, caller: Credential) -> None:
    """Attack 26: a leaf on a list that was loaded since the handshake gets 421 and a close; a list without it closes nothing."""
    with Client(site.router.ssl_port, Tls(site.strict.host, caller)) as client:
        assert client.request(site.strict.host).status == 200
        site.reload(site.strict_domain(crls=[site.east.crl([])]))
        assert client.request(site.strict.host).status == 200
        site.reload(site.strict_domain(crls=[site.east.crl([caller])]))
        assert_closed_with_421(client, site.strict)


def test_a_boundary_reaches_a_live_connection(site: Site, caller: Credential) -> None:
    """Attack 26: another list of orgs judges the next request: 403, and 200 again when it is changed back; nothing closes."""
    with Client(site.router.ssl_port, Tls(site.strict.host, caller)) as client:
        for orgs, status in ((None, 200), (["other-org"], 403), (["caller-org"], 200)):
            site.reload(site.strict_domain(orgs=orgs))
            assert client.request(site.strict.host).status == status
    assert len(site.strict.backend.received) == 2


def test_an_expiry_reaches_a_live_connection(site: Site) -> None:
    """Attack 26: a certificate that runs out during a connection takes it along."""
    soon = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=2)
    credential = site.east.issue_instance("a", not_after=soon)
    with Client(site.router.ssl_port, Tls(site.strict.host, credential)) as client:
        assert client.request(site.strict.host).status == 200
        answer = wait_until(lambda: found if (found := client.request(site.strict.host)).status != 200 else None, "the expiry")
        assert_misdirected(answer)
        assert client.closed_by_server()


def test_route_options_reach_a_live_connection(
    router: RouterProcess, registrar: Registrar, strict: Door, caller: Credential
) -> None:
    """Attack 26: a registration with other options judges the next request on an open connection."""
    steps: list[tuple[dict[str, object] | None, int]] = [
        ({"mtls_allowed_apps": "caller-app"}, 200),
        ({"mtls_allowed_apps": "other-app"}, 403),
        ({"mtls_allowed_spaces": "caller-space"}, 200),
        (None, 403),
        ({"mtls_allow_any": True}, 200),
    ]
    with Client(router.ssl_port, Tls(strict.host, caller)) as client:
        for options, status in steps:
            registrar.register(strict.host, backend=strict.backend, options=options)
            assert client.request(strict.host).status == status
    assert len(strict.backend.received) == 3


def test_a_server_certificate_closes_nothing(site: Site, caller: Credential) -> None:
    """Attack 26: the control: a reload that changes nothing of who may enter leaves live connections alone."""
    with Client(site.router.ssl_port, Tls(site.strict.host, caller)) as client:
        assert client.request(site.strict.host).status == 200
        site.reload(site.strict_domain(), max_request_body_bytes=12345)
        assert client.request(site.strict.host).status == 200
