"""mtls_allow_any: the route lets in every caller that the domain let in, and then checks for itself."""

import pytest

from tests.behaviour.conftest import ANY, ORGS, At
from tests.support.certs import Credential

LISTS = ({"mtls_allowed_apps": "app-a"}, {"mtls_allowed_spaces": "space-1"}, {"mtls_allowed_orgs": "org-1"})


@pytest.mark.parametrize("value", [True, "true"])
def test_any_caller_that_passed_the_domain_is_allowed(at: At, alice: Credential, carol: Credential, value: object) -> None:
    """R257: `mtls_allow_any: true`, also as a string, admits every caller with an identity."""
    place = at(ANY, {"mtls_allow_any": value})
    place.call(alice).assert_allowed("route:mtls_allow_any")
    place.call(carol).assert_allowed("route:mtls_allow_any")


def test_any_does_not_open_the_domain(at: At, alice: Credential, carol: Credential, nameless: Credential) -> None:
    """R257, R264: `any` means any caller inside the operator's boundary; without an identity nobody is a caller."""
    place = at(ORGS, {"mtls_allow_any": True})
    place.call(alice).assert_allowed("route:mtls_allow_any")
    place.call(carol).assert_denied("domain:orgs", f"caller org org-3 not in authorization.config.orgs of {ORGS}")
    place.call(nameless).assert_denied("identity_extraction", "certificate does not contain CF identity OU fields")


@pytest.mark.parametrize("lists", LISTS)
@pytest.mark.parametrize("value", [True, "true"])
def test_any_beside_a_list_is_dropped_and_the_list_stands(
    at: At, alice: Credential, carol: Credential, lists: dict[str, str], value: object
) -> None:
    """R258, K3, decision 4: the two exclude each other; at run time the wide one loses."""
    place = at(ANY, {"mtls_allow_any": value, **lists})
    place.call(alice).assert_allowed("route:" + next(iter(lists)))
    call = place.call(carol)
    assert (call.response.status, call.seen.auth) == (403, "denied")
    assert call.received == []


def test_false_beside_a_list_is_no_conflict(at: At, alice: Credential) -> None:
    """R258, decision 8: `false` takes nothing away from a list."""
    at(ANY, {"mtls_allow_any": False, "mtls_allowed_apps": "app-a"}).call(alice).assert_allowed("route:mtls_allowed_apps")


@pytest.mark.parametrize("value", [False, "false", "True", "yes", 1, 0, "", "1", " true", None, ["true"], {"any": True}])
def test_nothing_but_true_means_any(at: At, alice: Credential, value: object) -> None:
    """R257, R321, decision 8: a value that is not exactly true never opens a route."""
    at(ANY, {"mtls_allow_any": value}).call(alice).assert_denied(
        "route:no_mtls_allowed_options", "route has no mtls_allowed_* options configured"
    )
