"""route_policy_scope org and space: only endpoints that the caller may reach are candidates."""

import pytest

from tests.behaviour.conftest import ANY, LATER, At
from tests.behaviour.place import Place
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential

TAGS = {"organization_id": "org-1", "space_id": "space-1"}
ELSEWHERE = {"organization_id": "org-1", "space_id": "space-9"}


def scoped(scope: str, sources: str = "cf:any") -> dict[str, object]:
    return {"route_policy_scope": scope, "route_policy_sources": sources}


@pytest.fixture
def shared(at: At, second_backend: EchoBackend) -> Place:
    """A route of two spaces of one org, scope space."""
    place = at(LATER, scoped("space"), tags=TAGS)
    place.register(scoped("space"), backend=second_backend, tags=ELSEWHERE, index=1)
    return place


def test_a_shared_route_gives_no_intermittent_refusal(shared: Place, alice: Credential, second_backend: EchoBackend) -> None:
    """Decision 7: of the endpoints of two spaces, every request goes to the caller's own; none is refused."""
    assert [shared.call(alice).response.status for _ in range(6)] == [200] * 6
    assert len(shared.backends[0].received) == 6
    assert second_backend.received == []


def test_each_caller_reaches_its_own_space(shared: Place, east_ca: CA, second_backend: EchoBackend) -> None:
    """Decision 7: the neighbour's caller reaches the neighbour's endpoint, by round-robin among none but its own."""
    neighbour = east_ca.issue_instance("app-n", "space-9", "org-1")
    assert [shared.call(neighbour).response.status for _ in range(4)] == [200] * 4
    assert len(second_backend.received) == 4
    assert shared.backends[0].received == []


def test_when_no_endpoint_is_in_scope_the_answer_is_a_denial_that_says_so(shared: Place, bob: Credential) -> None:
    """Decision 7: 403, not 503, with the rule and the caller's space in the log, and counted."""
    router = shared.router
    before = router.metric("mtls_decisions", domain=LATER, result="deny", reason="domain_scope")
    errors = router.metric("backend_selection_errors", reason="scope")
    shared.call(bob).assert_denied("domain:scope=space", "caller space space-2 not in endpoint pool")
    assert router.metric("mtls_decisions", domain=LATER, result="deny", reason="domain_scope") == before + 1
    assert router.metric("backend_selection_errors", reason="scope") == errors + 1


@pytest.mark.parametrize("domain", [LATER, ANY])
def test_scope_org_admits_the_org_and_no_other(at: At, alice: Credential, bob: Credential, domain: str) -> None:
    """R264, decision 7: `org`: any space of the target's org, in both dialects of domains."""
    place = at(domain, scoped("org"), tags={"organization_id": "org-1"})
    place.call(alice).assert_allowed("route:cf:any")
    place.call(bob).assert_denied("domain:scope=org", "caller org org-2 not in endpoint pool")


@pytest.mark.parametrize("tags", [{}, {"organization_id": "", "space_id": ""}, {"space": "space-1", "org": "org-1"}])
@pytest.mark.parametrize("scope", ["org", "space"])
def test_an_endpoint_without_the_tag_is_in_nobodys_scope(
    at: At, alice: Credential, east_ca: CA, scope: str, tags: dict[str, str]
) -> None:
    """Decision 7, K2: missing or empty on either side never matches."""
    place = at(LATER, scoped(scope), tags=tags)
    assert place.call(alice).seen.rule == f"domain:scope={scope}"
    call = place.call(east_ca.issue_instance("app-a"))
    call.assert_denied(f"domain:scope={scope}", f"caller has no {scope} in its certificate to compare with the endpoint pool")


def test_inside_the_scope_the_sources_still_decide(at: At, alice: Credential, east_ca: CA) -> None:
    """R263, decision 7: scope and sources must both admit."""
    place = at(LATER, scoped("org", "cf:app:app-a"), tags=TAGS)
    place.call(alice).assert_allowed("route:cf:app:app-a")
    place.call(east_ca.issue_instance("app-n", "space-1", "org-1")).assert_denied(
        "route:route_policies", "caller app app-n not in route_policies"
    )


def test_a_failed_endpoint_is_not_replaced_by_one_outside_the_scope(
    shared: Place, alice: Credential, second_backend: EchoBackend
) -> None:
    """Decision 7: with the only endpoint in scope gone, the request fails; it never goes to another space's."""
    shared.backends[0].stop()
    call = shared.call(alice)
    assert call.response.status == 502
    assert second_backend.received == []


def test_an_instance_asked_for_outside_the_scope_is_denied(shared: Place, alice: Credential, second_backend: EchoBackend) -> None:
    """Decision 7: X-CF-App-Instance does not lead around the scope."""
    app = "0a0a0a0a-1111-4111-8111-0a0a0a0a0a0a"
    shared.register(scoped("space"), tags=TAGS, app=app, index=0)
    shared.register(scoped("space"), backend=second_backend, tags=ELSEWHERE, app=app, index=1)
    assert shared.call(alice, headers=[("X-CF-App-Instance", f"{app}:0")]).response.status == 200
    call = shared.call(alice, headers=[("X-CF-App-Instance", f"{app}:1")])
    assert (call.response.status, second_backend.received) == (403, [])
