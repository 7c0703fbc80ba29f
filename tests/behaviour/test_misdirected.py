"""421: a Host whose domain this handshake did not enforce, and a handshake used outside its domain."""

import pytest

from tests.behaviour.conftest import ANY, LATER, OPEN, WEST, At
from tests.behaviour.place import MISDIRECTED, Call, Place, Seen
from tests.support.certs import Credential

NOT_ENFORCED = "mTLS enforcement mismatch: TLS handshake did not enforce mTLS for requested domain "


def assert_misdirected(call: Call, rule: str, reason: str) -> None:
    """421 with the code and an empty body; the reason stands in the log alone, without mtls_auth; no backend saw it."""
    assert call.refusal == MISDIRECTED
    assert call.received == []
    assert call.seen == Seen(None, rule, reason)
    assert b"enforce" not in call.response.head


@pytest.mark.parametrize("domain", [ANY, LATER])
def test_an_open_handshake_does_not_reach_an_mtls_host(at: At, domain: str) -> None:
    """R263, decision 3: SNI open, Host mTLS: 421, for both dialects of domains."""
    place = at(domain, {"mtls_allow_any": True})
    before = place.router.metric("mtls_misdirected", domain=domain)
    call = place.call(sni="x.open.example")
    assert_misdirected(call, "no_mtls", f"{NOT_ENFORCED}{domain} (SNI 'x.open.example' is in no mTLS domain)")
    assert place.router.metric("mtls_misdirected", domain=domain) == before + 1


def test_another_domains_handshake_does_not_reach_it(at: At, west_ca_caller: Credential) -> None:
    """R279, decision 3: a handshake for one mTLS domain is none for another."""
    place, west = at(ANY, {"mtls_allow_any": True}), at(WEST, {"mtls_allow_any": True})
    call = place.call(west_ca_caller, sni=west.host)
    assert_misdirected(call, "other_domain", f"{NOT_ENFORCED}{ANY} (SNI '{west.host}' enforced {WEST})")


def test_an_mtls_handshake_serves_no_open_host(at: At, alice: Credential) -> None:
    """Decision 3: a connection with a client certificate is not used for a host outside its domain."""
    place, door = at(OPEN), at(ANY, {"mtls_allow_any": True})
    call = place.call(alice, sni=door.host)
    assert_misdirected(
        call, "outside_domain", f"mTLS enforcement mismatch: TLS handshake enforced mTLS for {ANY}, and the Host is outside it"
    )


def test_two_hosts_of_one_domain_share_a_connection(at: At, alice: Credential) -> None:
    """Decision 3: entries are compared, not SNI with Host: browsers and pools may coalesce inside a domain."""
    one, two = at(ANY, {"mtls_allow_any": True}), at(ANY, {"mtls_allowed_apps": "app-a"})
    with one.connect(alice) as client:
        one.ask(client).assert_allowed("route:mtls_allow_any")
        two.ask(client).assert_allowed("route:mtls_allowed_apps")
        one.ask(client).assert_allowed("route:mtls_allow_any")


def test_a_misdirected_request_does_not_end_the_connection(at: At, alice: Credential) -> None:
    """Decision 3: the next request to the right host is served."""
    place, other = at(ANY, {"mtls_allow_any": True}), at(OPEN)
    with place.connect(alice) as client:
        assert other.ask(client).refusal == MISDIRECTED
        place.ask(client).assert_allowed("route:mtls_allow_any")


def test_the_binding_is_judged_before_any_route_is_looked_up(at: At) -> None:
    """Decision 3, K17: a host that does not exist and one that does look the same from outside."""

    def shape(place: Place, host: str) -> tuple[int, bytes, list[str]]:
        response = place.call(host=host, sni="x.open.example").response
        return response.status, response.body, [name for name, _ in response.headers]

    place = at(ANY, {"mtls_allow_any": True})
    assert shape(place, place.host) == shape(place, f"nobody.{ANY[2:]}")
