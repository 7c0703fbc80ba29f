"""router/downstream.py: what is known of a client's connection, and how long a decision on it is remembered."""

import gc
from pathlib import Path
from typing import cast

import pytest
from cryptography import x509

from authz.binding import TlsBinding
from authz.decision import Check, Decision
from authz.domain import DomainPolicy
from authz.policy import NO_POLICY, PoolPolicy
from identity.caller import Caller, Guid
from identity.certificate import IdentityError
from identity.xfcc import render_envoy, render_raw
from router.downstream import MAX_CACHED_DECISIONS, Client, Downstream, Inside
from router.live import MAX_KNOWN_ADDRESSES
from router.net.budget import Budget, BudgetLimits
from router.net.listener import Entrance, Listener
from router.net.stream import Stream
from router.tls.contexts import ClientPolicy
from tests.router.desk import EAST, desk, settings
from tests.router.tls.handshakes import domain_policy, require
from tests.support.certs import authority
from tests.support.router import mtls_domain

CA = authority("east instance identity")
LEAF = CA.issue_instance("app-1", "space-1", "org-1")
NOBODY: tuple[str | None, ...] = (None, None, None)


class Nowhere:
    tls = True


def downstream(address: str = "192.0.2.7") -> Downstream:
    return Downstream(cast("Stream", None), address, 1234, cast("Listener", Nowhere()))


def bound(domain: str | None) -> TlsBinding:
    return TlsBinding(f"a.{EAST}", domain, "", True, None, None)


@pytest.mark.parametrize(("address", "remote"), [("192.0.2.7", "192.0.2.7:1234"), ("2001:db8::1", "[2001:db8::1]:1234")])
def test_the_remote_address_is_written_once(address: str, remote: str) -> None:
    """As logs and access records show it."""
    one = downstream(address)
    assert (one.remote, one.binding_domain, one.buffer, one.busy, one.closing) == (remote, "", b"", False, False)


async def test_facts_are_those_of_the_configuration_and_go_with_it() -> None:
    """Two connections of one address share them; a reload tells them anew, and lets go of the policy they were told by."""
    async with desk() as made:
        before = made.live.snapshot
        first, second, other = downstream(), downstream(), downstream("192.0.2.8")
        for each in (first, second, other):
            each.under(before)
        assert first.facts is second.facts
        assert (first.facts.trusted, first.facts.peer, other.facts.peer) == (False, b"192.0.2.7", b"192.0.2.8")
        made.adopt(settings(trusted_proxies=["192.0.2.0/24"]))
        old = before.headers
        del before, each, other
        for each in (first, second):
            each.under(made.live.snapshot)
        assert first.facts.trusted
        del each
        gc.collect()
        assert [type(each).__name__ for each in gc.get_referrers(old) if isinstance(each, tuple | dict)] == []


async def test_what_is_known_of_addresses_is_bounded() -> None:
    """However many come."""
    async with desk() as made:
        for number in range(MAX_KNOWN_ADDRESSES + 1):
            made.live.snapshot.facts_of(f"192.0.{number >> 8}.{number & 255}", tls=True)
        assert len(made.live.snapshot.known) == 1


def test_a_client_is_what_its_certificate_proves() -> None:
    """Caller, last second and serial number; the XFCC value in either form, rendered once."""
    client = Client(LEAF.der)
    assert client.caller == Caller(Guid("app-1"), Guid("space-1"), Guid("org-1"))
    assert client.not_after == LEAF.certificate.not_valid_after_utc.timestamp()
    assert client.xfcc("raw") == render_raw(LEAF.der)
    assert client.xfcc("envoy") == render_envoy(LEAF.der)
    assert client.xfcc("raw") is client.xfcc("raw")
    assert isinstance(Client(CA.issue_instance(None).der).caller, IdentityError)


def test_a_crl_names_a_client_by_issuer_and_serial_number() -> None:
    """The same number of another authority is somebody else."""
    client = Client(LEAF.der)
    crl = x509.load_pem_x509_crl(CA.crl([LEAF]).encode())
    other = x509.load_pem_x509_crl(authority("strangers").crl([LEAF.certificate.serial_number]).encode())
    assert client.is_on(ClientPolicy("require", crls=(crl,)).revoked)
    assert not client.is_on(ClientPolicy("require", crls=(other,)).revoked)
    assert not client.is_on(require(CA.certificate).revoked)


def test_a_caller_exists_only_where_a_domain_reads_identities() -> None:
    """No certificate, no domain, or a domain that reads none: no caller."""
    one = downstream()
    reading = domain_policy(f"*.{EAST}", ClientPolicy())
    deaf = DomainPolicy("*.x", "mtls_domains", "none", "none", None, None, False, "sanitize_set", "raw", "")
    assert one.caller_for(reading) is None
    one.client = Client(LEAF.der)
    assert one.caller_for(None) is None
    assert one.caller_for(deaf) is None
    assert one.caller_for(reading) is one.client.caller


async def test_what_was_decided_is_forgotten_with_its_configuration() -> None:
    """Decision 6: a new snapshot, a blank page; the same one keeps what it knows."""
    async with desk() as here:
        one = downstream()
        first = here.live.snapshot
        one.under(first)
        one.bound[None] = cast("Check", "a check")
        one.decisions[None, NO_POLICY] = cast("Decision", "a decision")
        facts = one.facts
        one.under(first)
        assert (len(one.bound), len(one.decisions)) == (1, 1)
        assert one.facts is facts
        here.adopt(settings())
        one.under(here.live.snapshot)
        assert (one.bound, one.decisions) == ({}, {})
        assert one.facts is not facts


async def test_remembered_decisions_are_bounded() -> None:
    """A connection that asks for every route costs no more than MAX_CACHED_DECISIONS of them."""
    async with desk() as here:
        one = downstream()
        one.under(here.live.snapshot)
        for number in range(3 * MAX_CACHED_DECISIONS):
            one.under(here.live.snapshot)
            one.decisions[None, cast("PoolPolicy", number)] = cast("Decision", "a decision")
            assert len(one.decisions) <= MAX_CACHED_DECISIONS + 1


async def test_the_log_names_a_caller_only_by_the_domain_that_verified_it() -> None:
    """OUs of a certificate that was verified for anything else are a stranger's words."""
    async with desk(mtls_domains=[mtls_domain(f"*.{EAST}", CA)]) as here:
        for domain, named in ((f"*.{EAST}", True), (None, False), ("*.gone.example", False)):
            one = downstream()
            one.client, one.binding = Client(LEAF.der), bound(domain)
            one.under(here.live.snapshot)
            assert (one.caller is not None) == named, domain
            assert one.binding_domain == (domain or "")


async def test_a_caller_has_the_names_of_the_day(tmp_path: Path) -> None:
    """For logs only; a reload takes them anew, and nobody has the names of another caller."""
    file = tmp_path / "names.yml"
    file.write_text("orgs: {org-1: shop}\napps: {app-1: cart}\n")
    async with desk() as one:
        caller = downstream()
        caller.client, caller.binding = Client(LEAF.der), bound(f"*.{EAST}")
        caller.under(one.live.snapshot)
        assert tuple(caller.caller_names) == NOBODY
        one.adopt(settings(logging={"names_file": str(file)}))
        caller.under(one.live.snapshot)
        assert tuple(caller.caller_names) == ("cart", None, "shop")
        caller.binding = bound(None)
        one.adopt(settings(logging={"names_file": str(file)}))
        caller.under(one.live.snapshot)
        assert tuple(caller.caller_names) == NOBODY


async def test_the_certificate_is_shown_as_the_mode_says() -> None:
    """The mode is the domain's; a connection without a certificate has nothing to show."""
    one = downstream()
    assert one.shown("sanitize_set", "raw") == ("sanitize_set", None)
    one.client = Client(LEAF.der)
    assert one.shown("sanitize_set", "raw") == ("sanitize_set", render_raw(LEAF.der))
    assert one.shown("forward", "envoy") == ("forward", render_envoy(LEAF.der))
    assert one.secure


async def test_a_connection_from_inside_is_believed() -> None:
    """What the router says to itself of a client stands: its fields, its scheme, its certificate."""
    async with desk() as made:
        one = Inside(cast("Stream", None), "127.0.0.1", 0, Entrance("inside", Budget(BudgetLimits()), tls=False))
        one.under(made.live.snapshot)
        assert (one.facts.trusted, one.facts.scheme, one.secure) == (True, b"https", True)
        assert one.shown("sanitize_set", "raw") == ("always_forward", None)
        made.adopt(settings(trusted_proxies=[]))
        one.under(made.live.snapshot)
        assert one.facts.trusted
        assert not one.check_today(made.live.snapshot, made.live.snapshot.domains.claim(f"app.{EAST}"), 0).passed
