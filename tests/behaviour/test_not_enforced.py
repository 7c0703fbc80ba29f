"""Options where nobody enforces them: forwarded, said in the log, never a failed registration."""

import json

import pytest

from tests.behaviour.conftest import OPEN, PARTNER, UNENFORCED, At
from tests.behaviour.place import FORBIDDEN, Place, Seen, make_place
from tests.conftest import MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import RouterProcess, mtls_domain

MTLS_OPTIONS = [
    pytest.param({"mtls_allowed_apps": "g1"}, "mtls_allowed_apps", id="apps"),
    pytest.param({"mtls_allowed_spaces": "g1"}, "mtls_allowed_spaces", id="spaces"),
    pytest.param({"mtls_allowed_orgs": "g1", "mtls_allow_any": False}, "mtls_allowed_orgs, mtls_allow_any", id="two"),
]


@pytest.mark.parametrize(("options", "named"), MTLS_OPTIONS)
def test_options_on_an_open_domain_are_not_enforced(at: At, options: dict[str, object], named: str) -> None:
    """R251, R270, R318: without an mTLS domain the request is forwarded and the log says that the rules were ignored."""
    call = at(OPEN, options).call()
    assert call.response.status == 200
    assert call.seen == Seen("not_enforced", None, f"route specifies {named} but its domain is no mTLS domain; rules ignored")


@pytest.mark.parametrize(("options", "named"), MTLS_OPTIONS)
@pytest.mark.parametrize("domain", [UNENFORCED, PARTNER])
def test_options_on_a_domain_with_mode_none_are_not_enforced(
    at: At, partner_ca: CA, east_ca: CA, domain: str, options: dict[str, object], named: str
) -> None:
    """R270, R315, R318: `mode: none` admits every valid certificate; options are stored and said not to be enforced."""
    caller = (partner_ca if domain == PARTNER else east_ca).issue_instance("app-z", "space-z", "org-z")
    place = at(domain, options)
    before = place.router.metric("mtls_decisions", domain=domain, result="not_enforced")
    call = place.call(caller)
    assert call.response.status == 200
    reason = f"route specifies {named} but domain authorization.mode=none; rules ignored"
    assert call.seen == Seen("not_enforced", None, reason)
    assert place.router.metric("mtls_decisions", domain=domain, result="not_enforced") == before + 1


@pytest.mark.parametrize("domain", [OPEN, UNENFORCED])
def test_a_route_without_options_has_nothing_to_say(at: At, alice: Credential, domain: str) -> None:
    """R315: nothing enforced and nothing asked for: forwarded without a decision in the log."""
    place = at(domain)
    call = place.call(None if domain == OPEN else alice)
    assert call.response.status == 200
    assert call.seen == Seen(None, None, None)


def test_where_no_identity_is_read_none_stands_in_the_log(at: At, partner_ca: CA, alice: Credential) -> None:
    """R314: `identity_extractor: none`: OUs of a partner's certificate name nobody; with `cf_ou` they do, also with mode none."""
    record = at(PARTNER).call(partner_ca.issue_instance("app-a", "space-1", "org-1")).record
    assert (record["caller_cf_app"], record["caller_cf_space"], record["caller_cf_org"]) == (None, None, None)
    assert at(UNENFORCED).call(alice).record["caller_cf_app"] == "app-a"


def test_mode_none_still_demands_a_certificate_with_no_identity_in_it(at: At, nameless: Credential) -> None:
    """R315: `mode: none`: any valid certificate, also one that names no app."""
    assert at(UNENFORCED).call(nameless).response.status == 200


@pytest.mark.parametrize("domain", [OPEN, PARTNER])
def test_route_policies_deny_where_no_identity_is_verified(at: At, partner_ca: CA, domain: str) -> None:
    """R270, decision 8: the second dialect demands an identity; where none is read, it denies instead of opening."""
    place = at(domain, {"route_policy_scope": "any", "route_policy_sources": "cf:app:app-a"})
    call = place.call(partner_ca.issue_instance("app-a") if domain == PARTNER else None)
    assert call.refusal == FORBIDDEN
    assert call.received == []
    assert (call.seen.auth, call.seen.rule) == ("denied", "identity_extraction")


def test_route_policies_are_enforced_with_mode_none_where_identities_are_read(
    at: At, alice: Credential, carol: Credential
) -> None:
    """Decision 8: on a `cf_ou` domain with mode none the second dialect is enforced as anywhere."""
    place = at(UNENFORCED, {"route_policy_scope": "any", "route_policy_sources": "cf:app:app-a"})
    place.call(alice).assert_allowed("route:cf:app:app-a")
    place.call(carol).assert_denied("route:route_policies", "caller app app-c not in route_policies")


@pytest.mark.parametrize("options", ["text", [1], 7, {"big": "x" * 2000}, {"mtls_allowed_apps": "x" * 2000}])
@pytest.mark.parametrize("domain", [OPEN, UNENFORCED])
def test_invalid_options_do_not_close_a_domain_that_enforces_nothing(
    at: At, alice: Credential, domain: str, options: object
) -> None:
    """R321, decision 8: a map that is no object, or too large, is left out where nobody would have enforced it."""
    assert at(domain, options).call(None if domain == OPEN else alice).response.status == 200


@pytest.mark.parametrize("domain", [OPEN, UNENFORCED])
def test_an_oversize_map_with_route_policies_closes_every_domain(at: At, alice: Credential, domain: str) -> None:
    """R321, decision 8: what may have held a route policy never opens."""
    call = at(domain, {"route_policy_sources": "x" * 2000}).call(None if domain == OPEN else alice)
    call.assert_denied("route:invalid_options", "route options are invalid or too large, so nobody is allowed")


def warnings_of(place: Place) -> list[dict[str, str]]:
    lines = (json.loads(line) for line in place.router.events if line.startswith("{"))
    return [
        line["data"] for line in lines if line["message"] == "route-options-not-enforced" and line["data"]["route"] == place.host
    ]


@pytest.fixture
def own(make_router: MakeRouter, nats_server: NatsServer, east_ca: CA) -> RouterProcess:
    return make_router(mtls_domains=[mtls_domain("*.quiet.test", east_ca, mode="none")])


def test_the_warning_names_route_and_option_once_a_change(
    own: RouterProcess, nats_server: NatsServer, backend: EchoBackend, second_backend: EchoBackend
) -> None:
    """R251, R270, R318: the router's log warns once for each change of a route's options, never once a heartbeat."""
    with Registrar(nats_server.port, own) as registrar:
        for domain, why in (
            ("*.open.example", "its domain is no mTLS domain"),
            ("*.quiet.test", "domain authorization.mode=none"),
        ):
            place = make_place(own, registrar, domain)
            place.register({"mtls_allowed_apps": "g1"}, backend=backend, app="target-app")
            (warning,) = warnings_of(place)
            assert warning == {
                "route": place.host,
                "app": "target-app",
                "warning": f"route specifies mtls_allowed_apps but {why}; rules ignored",
            }
            for _ in range(3):
                place.register({"mtls_allowed_apps": "g1"}, backend=backend, app="target-app")
            assert len(warnings_of(place)) == 1
            place.register({"mtls_allowed_orgs": "g1"}, backend=backend, app="target-app")
            assert [one["warning"].split(" ")[2] for one in warnings_of(place)] == ["mtls_allowed_apps", "mtls_allowed_orgs"]
            place.leave()


def test_options_of_a_domain_that_enforces_warn_of_nothing(at: At, house: RouterProcess) -> None:
    """R318: no warning where the rules are in force."""
    place = at("*.any.test", {"mtls_allowed_apps": "g1"})
    assert warnings_of(place) == []
