"""`domains` and route_policy_*: the names of RFC-0055, decided by the same two doors."""

import pytest

from tests.behaviour.conftest import ANY, LATER, At
from tests.support.certs import CA, Credential
from tests.support.client import Alert, Tls, expect_alert

SOURCES = [
    ("cf:app:app-a", "route:cf:app:app-a"),
    ("cf:space:space-1", "route:cf:space:space-1"),
    ("cf:org:org-1", "route:cf:org:org-1"),
    ("cf:any", "route:cf:any"),
    ("cf:app:g1, cf:org:org-1 ,cf:app:g2", "route:cf:org:org-1"),
]


def policy(sources: object, scope: object = "any") -> dict[str, object]:
    return {"route_policy_scope": scope, "route_policy_sources": sources}


@pytest.mark.parametrize(("sources", "rule"), SOURCES)
@pytest.mark.parametrize("domain", [LATER, ANY])
def test_a_source_that_matches_allows(at: At, alice: Credential, domain: str, sources: str, rule: str) -> None:
    """R310, decision 8: route_policy_sources is enforced in both dialects of domains; the log names the source."""
    at(domain, policy(sources)).call(alice).assert_allowed(rule)


@pytest.mark.parametrize("sources", ["cf:app:g1", "cf:space:org-1", "cf:app:space-1,cf:org:g1"])
@pytest.mark.parametrize("domain", [LATER, ANY])
def test_no_matching_source_denies(at: At, alice: Credential, domain: str, sources: str) -> None:
    """R310, decision 8: 403 for a caller whom no source names; a GUID counts only as what it is listed as."""
    at(domain, policy(sources)).call(alice).assert_denied("route:route_policies", "caller app app-a not in route_policies")


@pytest.mark.parametrize(
    "sources", ["", " , ", "CF:APP:app-a", "cf:app:", "app-a", "spiffe://x/app-a", 7, True, None, ["cf:any"]]
)
def test_sources_that_name_nobody_deny(at: At, alice: Credential, sources: object) -> None:
    """R321, decision 8: empty, misspelt, nested or no text: default deny, never `any`."""
    at(LATER, policy(sources)).call(alice).assert_denied("route:no_route_policies", "route has no route policies configured")


def test_any_beside_another_source_is_dropped(at: At, alice: Credential, carol: Credential) -> None:
    """R258, decision 4: the wide source loses, the narrow one stands."""
    place = at(LATER, policy("cf:any,cf:app:app-a"))
    place.call(alice).assert_allowed("route:cf:app:app-a")
    place.call(carol).assert_denied("route:route_policies", "caller app app-c not in route_policies")


@pytest.mark.parametrize("scope", ["everything", "", "ORG", None, True, ["any"]])
def test_a_scope_that_is_none_denies(at: At, alice: Credential, scope: object) -> None:
    """R321, decision 8: an unknown or missing route_policy_scope lets nobody in."""
    at(LATER, policy("cf:any", scope)).call(alice).assert_denied(
        "domain:scope=unknown", "route_policy_scope is missing or unknown"
    )


def test_no_options_forward_and_the_app_decides(at: At, alice: Credential, nameless: Credential) -> None:
    """R247, decision 8: in this dialect a route without options is open to every verified certificate; the app sees who calls."""
    place = at(LATER)
    for caller in (alice, nameless):
        call = place.call(caller)
        assert call.response.status == 200
        assert (call.at_backend.get("x-forwarded-client-cert") or "").startswith("Hash=")
        assert call.seen.auth is None


def test_no_certificate_or_anothers_does_not_enter(at: At, west_ca_caller: Credential) -> None:
    """R244, R245: an entry of `domains` demands the certificate of its authority like one of `mtls_domains`."""
    place = at(LATER)
    assert expect_alert(place.router.ssl_port, Tls(place.host)) == Alert.CERTIFICATE_REQUIRED
    assert expect_alert(place.router.ssl_port, Tls(place.host, west_ca_caller)) == Alert.UNKNOWN_CA


def test_a_caller_without_identity_is_denied_where_policies_ask_for_one(at: At, nameless: Credential) -> None:
    """R328: identity always comes from the OUs here; without them 403 with its reason."""
    at(LATER, policy("cf:any")).call(nameless).assert_denied(
        "identity_extraction", "certificate does not contain CF identity OU fields"
    )


def test_the_first_dialects_options_are_enforced_here_too(at: At, alice: Credential, carol: Credential) -> None:
    """Decision 8: mtls_* on an entry of `domains` is a lock like anywhere."""
    place = at(LATER, {"mtls_allowed_apps": "app-a"})
    place.call(alice).assert_allowed("route:mtls_allowed_apps")
    place.call(carol).assert_denied("route:mtls_allowed_apps", "caller app app-c not in mtls_allowed_apps")


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ("text", 200),
        ({"padding": "x" * 2000}, 200),
        ({"mtls_allowed_apps": "app-a", "padding": "x" * 2000}, 403),
        ({"mtls_future": "x" * 2000}, 403),
        ({"route_policy_scope": "any", "padding": "x" * 2000}, 403),
    ],
)
def test_invalid_options_deny_where_they_held_a_policy(at: At, alice: Credential, options: object, status: int) -> None:
    """R281, R321, decision 8: an oversize map denies if one of its keys speaks of access; else it is as if there were none."""
    call = at(LATER, options).call(alice)
    assert call.response.status == status
    if status == 403:
        call.assert_denied("route:invalid_options", "route options are invalid or too large, so nobody is allowed")


def test_guids_are_compared_byte_for_byte(at: At, east_ca: CA) -> None:
    """R317, decision 8: sources are case-sensitive."""
    place = at(LATER, policy("cf:app:App-A"))
    assert place.call(east_ca.issue_instance("app-a")).response.status == 403
    place.call(east_ca.issue_instance("App-A")).assert_allowed("route:cf:app:App-A")
