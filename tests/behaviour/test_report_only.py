"""authorization.report_only: what would be refused is forwarded, logged and counted; handshake and 421 stay as they are."""

import pytest

from tests.behaviour.conftest import ANY, REPORT, At
from tests.behaviour.place import MISDIRECTED, Seen
from tests.support.certs import Credential
from tests.support.client import Alert, Tls, expect_alert

NO_OPTIONS = "route has no mtls_allowed_* options configured"


@pytest.mark.parametrize(
    ("who", "options", "rule", "reason"),
    [
        ("carol", {"mtls_allow_any": True}, "domain:orgs", f"caller org org-3 not in authorization.config.orgs of {REPORT}"),
        ("alice", {"mtls_allowed_apps": "g1"}, "route:mtls_allowed_apps", "caller app app-a not in mtls_allowed_apps"),
        ("alice", None, "route:no_mtls_allowed_options", NO_OPTIONS),
        ("alice", "not an object", "route:invalid_options", "route options are invalid or too large, so nobody is allowed"),
        ("nameless", {"mtls_allow_any": True}, "identity_extraction", "certificate does not contain CF identity OU fields"),
        (
            "alice",
            {"route_policy_scope": "space", "route_policy_sources": "cf:any"},
            "domain:scope=space",
            "caller space space-1 not in endpoint pool",
        ),
    ],
)
def test_what_would_be_refused_is_forwarded_and_said(
    at: At, request: pytest.FixtureRequest, who: str, options: object, rule: str, reason: str
) -> None:
    """R270, decision 8: every 403 of identity, domain, route and scope becomes `would_deny` with its rule and reason."""
    place = at(REPORT, options)
    before = place.router.metric("mtls_decisions", domain=REPORT, result="would_deny")
    call = place.call(request.getfixturevalue(who))
    assert call.response.status == 200
    assert len(call.received) == 1
    assert call.seen == Seen("would_deny", rule, reason)
    assert place.router.metric("mtls_decisions", domain=REPORT, result="would_deny") == before + 1


def test_what_is_allowed_is_allowed(at: At, alice: Credential) -> None:
    """R270, decision 8: report-only changes nothing for a caller on the list."""
    at(REPORT, {"mtls_allowed_apps": "app-a"}).call(alice).assert_allowed("route:mtls_allowed_apps")


def test_the_handshake_is_not_softened(at: At, west_ca_caller: Credential) -> None:
    """R244, R245, decision 8: no certificate, or another authority's, still ends in the handshake."""
    place = at(REPORT, {"mtls_allow_any": True})
    assert expect_alert(place.router.ssl_port, Tls(place.host)) == Alert.CERTIFICATE_REQUIRED
    assert expect_alert(place.router.ssl_port, Tls(place.host, west_ca_caller)) == Alert.UNKNOWN_CA
    assert place.backends[0].received == []


def test_the_421_is_not_softened(at: At, alice: Credential) -> None:
    """Decision 8: a Host whose domain this handshake did not enforce is misdirected, report-only or not."""
    place, other = at(REPORT, {"mtls_allow_any": True}), at(ANY, {"mtls_allow_any": True})
    for call in (place.call(plain=True), place.call(sni="x.open.example"), place.call(alice, sni=other.host)):
        assert call.refusal == MISDIRECTED
        assert call.received == []


def test_an_unknown_route_and_a_malformed_request_are_not_softened(at: At, alice: Credential) -> None:
    """Decision 8: 404 and 400 stay what they are."""
    place = at(REPORT, {"mtls_allow_any": True})
    assert place.call(alice, host=f"nobody.{REPORT[2:]}").refusal[:2] == (404, "unknown_route")
    assert place.call(alice, headers=[("Content-Length", "1"), ("Transfer-Encoding", "chunked")]).response.status == 400
