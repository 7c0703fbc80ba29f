"""One route with options of both dialects: both must allow."""

import pytest

from tests.behaviour.conftest import ANY, LATER, At
from tests.support.certs import CA, Credential


@pytest.mark.parametrize("domain", [ANY, LATER])
def test_both_dialects_must_allow(at: At, domain: str, alice: Credential, bob: Credential, east_ca: CA) -> None:
    """R264, decision 4: a caller passes only if the mtls_* lists and the route policies both admit it."""
    place = at(
        domain,
        {"mtls_allowed_apps": "app-a,app-b", "route_policy_scope": "any", "route_policy_sources": "cf:org:org-1,cf:app:app-d"},
    )
    place.call(alice).assert_allowed("route:mtls_allowed_apps")
    place.call(bob).assert_denied("route:route_policies", "caller app app-b not in route_policies")
    place.call(east_ca.issue_instance("app-d")).assert_denied(
        "route:mtls_allowed_apps", "caller app app-d not in mtls_allowed_apps"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"mtls_allow_any": True, "route_policy_scope": "any", "route_policy_sources": ""},
        {"mtls_allow_any": True, "route_policy_sources": "cf:any"},
        {"mtls_allowed_apps": "", "route_policy_scope": "any", "route_policy_sources": "cf:any"},
        {"mtls_allow_any": "maybe", "route_policy_scope": "any", "route_policy_sources": "cf:any"},
        {"mtls_allow_any": True, "route_policy_sourcez": "cf:any"},
    ],
)
@pytest.mark.parametrize("domain", [ANY, LATER])
def test_one_dialect_that_says_nothing_usable_denies(at: At, alice: Credential, domain: str, options: dict[str, object]) -> None:
    """R321, decision 4: the presence of one key of a dialect is enough for it to be asked, and it admits nobody."""
    call = at(domain, options).call(alice)
    assert call.response.status == 403
    assert call.received == []
    assert call.seen.auth == "denied"


def test_any_in_both_dialects_admits_everybody_with_an_identity(at: At, carol: Credential, nameless: Credential) -> None:
    """R257: two open lists leave only the question of who is calling."""
    place = at(ANY, {"mtls_allow_any": True, "route_policy_scope": "any", "route_policy_sources": "cf:any"})
    place.call(carol).assert_allowed("route:mtls_allow_any")
    assert place.call(nameless).response.status == 403
