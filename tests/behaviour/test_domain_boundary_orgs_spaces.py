"""The operator's door: who may enter a domain at all, before any route is asked."""

import pytest

from tests.behaviour.conftest import ANY, ORGS, SPACES, At
from tests.support.certs import CA, Credential

NOT_IN_ORGS = f"not in authorization.config.orgs of {ORGS}"
NOT_IN_SPACES = f"not in authorization.config.spaces of {SPACES}"
ANYBODY = {"mtls_allow_any": True}


def test_only_callers_of_the_listed_orgs_enter(at: At, alice: Credential, bob: Credential, carol: Credential) -> None:
    """R265: `authorization.config.orgs`: every listed org passes the domain layer, another gets 403."""
    place = at(ORGS, ANYBODY)
    place.call(alice).assert_allowed("route:mtls_allow_any")
    place.call(bob).assert_allowed("route:mtls_allow_any")
    place.call(carol).assert_denied("domain:orgs", f"caller org org-3 {NOT_IN_ORGS}")


def test_only_callers_of_the_listed_spaces_enter(at: At, alice: Credential, east_ca: CA) -> None:
    """R266: `authorization.config.spaces`: another space of the same org gets 403."""
    place = at(SPACES, ANYBODY)
    place.call(alice).assert_allowed("route:mtls_allow_any")
    place.call(east_ca.issue_instance("app-a", "space-9", "org-1")).assert_denied(
        "domain:spaces", f"caller space space-9 {NOT_IN_SPACES}"
    )


@pytest.mark.parametrize(
    ("domain", "rule", "reason"),
    [
        (ORGS, "domain:orgs", f"caller without org {NOT_IN_ORGS}"),
        (SPACES, "domain:spaces", f"caller without space {NOT_IN_SPACES}"),
    ],
)
def test_a_caller_without_org_or_space_does_not_enter(at: At, east_ca: CA, domain: str, rule: str, reason: str) -> None:
    """R265, R266, decision 5: what the certificate does not say is in no list."""
    at(domain, ANYBODY).call(east_ca.issue_instance("app-a")).assert_denied(rule, reason)


def test_without_a_boundary_every_authenticated_caller_passes_the_domain(at: At, alice: Credential, carol: Credential) -> None:
    """R268: no `authorization.config`: the domain asks for nothing more, and the route's options still apply."""
    place = at(ANY, {"mtls_allowed_apps": "app-c"})
    place.call(carol).assert_allowed("route:mtls_allowed_apps")
    place.call(alice).assert_denied("route:mtls_allowed_apps", "caller app app-a not in mtls_allowed_apps")


def test_both_doors_must_let_the_caller_pass(at: At, alice: Credential, bob: Credential, carol: Credential) -> None:
    """R263: inside the boundary and not on the route's list: the route denies; on the list and outside: the domain does."""
    place = at(ORGS, {"mtls_allowed_apps": "app-a,app-c"})
    place.call(alice).assert_allowed("route:mtls_allowed_apps")
    place.call(bob).assert_denied("route:mtls_allowed_apps", "caller app app-b not in mtls_allowed_apps")
    place.call(carol).assert_denied("domain:orgs", f"caller org org-3 {NOT_IN_ORGS}")


def test_the_domain_is_asked_before_the_route(at: At, carol: Credential) -> None:
    """R263: who is outside the boundary and on no list is told of the boundary, also where the route has no options at all."""
    at(ORGS, {"mtls_allowed_apps": "g1"}).call(carol).assert_denied("domain:orgs", f"caller org org-3 {NOT_IN_ORGS}")
    at(ORGS).call(carol).assert_denied("domain:orgs", f"caller org org-3 {NOT_IN_ORGS}")


@pytest.mark.parametrize(
    "options",
    [
        ANYBODY,
        {"mtls_allowed_apps": "app-c"},
        {"mtls_allowed_spaces": "space-3"},
        {"mtls_allowed_orgs": "org-3"},
        {"route_policy_scope": "any", "route_policy_sources": "cf:any"},
        {"route_policy_scope": "any", "route_policy_sources": "cf:org:org-3"},
        {"orgs": "org-3"},
        {"authorization": {"mode": "none"}},
    ],
)
@pytest.mark.parametrize("domain", [ORGS, SPACES])
def test_no_option_of_a_route_widens_the_boundary(at: At, carol: Credential, domain: str, options: dict[str, object]) -> None:
    """R264, R305, decision 4: a developer can only narrow what the operator admits; across the boundary nothing is allowed."""
    call = at(domain, options).call(carol)
    call.assert_denied(
        *(
            ("domain:orgs", f"caller org org-3 {NOT_IN_ORGS}")
            if domain == ORGS
            else ("domain:spaces", f"caller space space-3 {NOT_IN_SPACES}")
        )
    )


def test_nothing_is_shared_across_orgs_unless_somebody_says_so(at: At, alice: Credential, carol: Credential) -> None:
    """R305: by default no caller of another org, nor of the same, gets in: it takes the operator's list and the developer's."""
    for caller in (alice, carol):
        assert at(ORGS).call(caller).response.status == 403
        assert at(ANY).call(caller).response.status == 403


def test_a_refusal_at_the_boundary_is_counted_as_such(at: At, carol: Credential) -> None:
    """R265, R266: mtls_decisions names the layer."""
    router = at(ORGS, ANYBODY).router
    for domain, reason in ((ORGS, "domain_orgs"), (SPACES, "domain_spaces")):
        before = router.metric("mtls_decisions", domain=domain, result="deny", reason=reason)
        at(domain, ANYBODY).call(carol)
        assert router.metric("mtls_decisions", domain=domain, result="deny", reason=reason) == before + 1
