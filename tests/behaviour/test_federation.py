"""Several installations: each has its own mTLS domain and its own authority, and its GUIDs mean nothing elsewhere."""

import pytest

from tests.behaviour.conftest import ANY, ORGS, WEST, At
from tests.behaviour.place import MISDIRECTED
from tests.support.certs import Credential
from tests.support.client import Alert, Tls, expect_alert

LISTED = {"mtls_allowed_apps": "app-a"}


def test_each_installation_enters_by_its_own_domain(at: At, alice: Credential, west_ca_caller: Credential) -> None:
    """R278: one domain per installation, each with its authority; equal GUIDs are judged by each domain's routes."""
    at(ANY, LISTED).call(alice).assert_allowed("route:mtls_allowed_apps")
    at(WEST, LISTED).call(west_ca_caller).assert_allowed("route:mtls_allowed_apps")


@pytest.mark.parametrize("domain", [ANY, ORGS])
def test_equal_guids_of_another_installation_never_pass(at: At, west_ca_caller: Credential, domain: str) -> None:
    """R279: West's app-a of org-1 is not East's, whatever lists name it."""
    place = at(domain, LISTED)
    assert expect_alert(place.router.ssl_port, Tls(place.host, west_ca_caller)) == Alert.UNKNOWN_CA
    assert place.backends[0].received == []


def test_and_the_other_way_round(at: At, alice: Credential) -> None:
    """R279: East's certificate does not open West."""
    place = at(WEST, LISTED)
    assert expect_alert(place.router.ssl_port, Tls(place.host, alice)) == Alert.UNKNOWN_CA
    assert place.backends[0].received == []


def test_a_connection_of_one_installation_is_none_of_the_other(at: At, alice: Credential, west_ca_caller: Credential) -> None:
    """R279: the handshake with West's domain does not carry a request to East's host, nor back."""
    east, west = at(ANY, LISTED), at(WEST, LISTED)
    assert east.call(west_ca_caller, sni=west.host).refusal == MISDIRECTED
    assert west.call(alice, sni=east.host).refusal == MISDIRECTED
    assert east.backends[0].received == west.backends[0].received == []
