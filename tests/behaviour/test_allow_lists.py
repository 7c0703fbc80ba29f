"""The developer's door: mtls_allowed_apps, _spaces and _orgs on a domain that enforces them."""

import pytest

from tests.behaviour.conftest import ANY, EXACT, At
from tests.support.certs import CA, Credential

LISTS = [
    pytest.param({"mtls_allowed_apps": "app-x,app-a"}, "route:mtls_allowed_apps", id="apps"),
    pytest.param({"mtls_allowed_spaces": "space-1"}, "route:mtls_allowed_spaces", id="spaces"),
    pytest.param({"mtls_allowed_orgs": "org-1"}, "route:mtls_allowed_orgs", id="orgs"),
]


@pytest.mark.parametrize(("options", "rule"), LISTS)
def test_a_caller_on_the_list_is_allowed(at: At, alice: Credential, options: dict[str, str], rule: str) -> None:
    """R254, R255, R256: an app, any app of a listed space, any app of a listed org; the log names the rule that matched."""
    at(ANY, options).call(alice).assert_allowed(rule)


@pytest.mark.parametrize(
    ("options", "rule", "reason"),
    [
        ({"mtls_allowed_apps": "g1,g2"}, "route:mtls_allowed_apps", "caller app app-a not in mtls_allowed_apps"),
        ({"mtls_allowed_spaces": "g1"}, "route:mtls_allowed_spaces", "caller space space-1 not in mtls_allowed_spaces"),
        ({"mtls_allowed_orgs": "g1"}, "route:mtls_allowed_orgs", "caller org org-1 not in mtls_allowed_orgs"),
        (
            {"mtls_allowed_apps": "g1", "mtls_allowed_orgs": "g2"},
            "route:mtls_allowed_apps",
            "caller app app-a not in mtls_allowed_apps, caller org org-1 not in mtls_allowed_orgs",
        ),
    ],
)
def test_a_caller_on_no_list_is_denied_and_the_log_says_why(
    at: At, alice: Credential, options: dict[str, str], rule: str, reason: str
) -> None:
    """R254, R255, R256: 403 for everybody else, with a reason in the log alone."""
    at(ANY, options).call(alice).assert_denied(rule, reason)


def test_each_guid_of_a_list_counts_and_no_other(at: At, east_ca: CA) -> None:
    """R254: `mtls_allowed_apps: "g1,g2"`: caller g2 is allowed, g3 is denied."""
    place = at(ANY, {"mtls_allowed_apps": "g1,g2"})
    place.call(east_ca.issue_instance("g1")).assert_allowed("route:mtls_allowed_apps")
    place.call(east_ca.issue_instance("g2")).assert_allowed("route:mtls_allowed_apps")
    place.call(east_ca.issue_instance("g3")).assert_denied("route:mtls_allowed_apps", "caller app g3 not in mtls_allowed_apps")


@pytest.mark.parametrize("guid", ["g", "g22", "G2", "g2,", "xg2", "2"])
def test_a_guid_matches_whole_and_byte_for_byte(at: At, east_ca: CA, guid: str) -> None:
    """R254: no prefix, no other case, no substring of a listed GUID passes."""
    call = at(ANY, {"mtls_allowed_apps": "g1,g2"}).call(east_ca.issue_instance(guid))
    assert call.response.status == 403
    assert call.received == []


@pytest.mark.parametrize("options", [{"mtls_allowed_apps": " g1 ,\tapp-a "}, {"mtls_allowed_apps": ",,app-a,"}])
def test_blanks_and_empty_entries_are_tolerated(at: At, alice: Credential, options: dict[str, str]) -> None:
    """R261: a list is comma-separated text as people write it."""
    at(ANY, options).call(alice).assert_allowed("route:mtls_allowed_apps")


def test_a_match_in_any_list_is_enough(at: At, alice: Credential, bob: Credential, carol: Credential, east_ca: CA) -> None:
    """R260: apps, spaces and orgs are alternatives."""
    place = at(ANY, {"mtls_allowed_apps": "app-a", "mtls_allowed_spaces": "space-2", "mtls_allowed_orgs": "org-3"})
    place.call(alice).assert_allowed("route:mtls_allowed_apps")
    place.call(bob).assert_allowed("route:mtls_allowed_spaces")
    place.call(carol).assert_allowed("route:mtls_allowed_orgs")
    assert place.call(east_ca.issue_instance("app-d", "space-4", "org-4")).response.status == 403


def test_a_route_without_options_lets_nobody_in(at: At, alice: Credential) -> None:
    """R252, R259: default deny on a domain that enforces."""
    at(ANY).call(alice).assert_denied("route:no_mtls_allowed_options", "route has no mtls_allowed_* options configured")


@pytest.mark.parametrize(
    "options",
    [
        {"mtls_allowed_apps": ""},
        {"mtls_allow_any": False},
        {"loadbalancing": "round-robin"},
        {"mtls_allowed_app": "app-a"},
        {"MTLS_ALLOWED_APPS": "app-a"},
    ],
)
def test_options_that_name_nobody_let_nobody_in(at: At, alice: Credential, options: dict[str, object]) -> None:
    """R252, R259: an empty list, `false`, other options and misspelt ones are no permission."""
    at(ANY, options).call(alice).assert_denied("route:no_mtls_allowed_options", "route has no mtls_allowed_* options configured")


def test_an_app_that_calls_its_own_route_is_no_exception(at: At, alice: Credential) -> None:
    """R329: no implicit self-allow: the route's own app is denied, and allowed only when it is listed."""
    place = at(ANY, {"mtls_allowed_apps": "app-z"}, app="app-a")
    place.call(alice).assert_denied("route:mtls_allowed_apps", "caller app app-a not in mtls_allowed_apps")
    place.register({"mtls_allowed_apps": "app-a"}, app="app-a")
    place.call(alice).assert_allowed("route:mtls_allowed_apps")


@pytest.mark.parametrize("tags", [None, {}, {"organization_id": "org-9", "space_id": "space-9"}])
def test_nothing_but_the_targets_app_is_needed_of_a_registration(at: At, alice: Credential, tags: dict[str, str] | None) -> None:
    """R273: mtls_* lists decide without the target's org and space: no tag, or a foreign one, changes nothing."""
    call = at(ANY, {"mtls_allowed_orgs": "org-1"}, app="target-app", tags=tags).call(alice)
    call.assert_allowed("route:mtls_allowed_orgs")
    assert call.record["app_id"] == "target-app"


@pytest.mark.parametrize("guid", ["0a0a0a0a-ffff-4fff-8fff-00000000beef", "no-such-app-anywhere", "A_b-9"])
def test_the_form_of_a_guid_is_judged_and_not_its_existence(at: At, east_ca: CA, guid: str) -> None:
    """R317: a GUID of another platform that nobody here ever heard of is as good as any."""
    at(ANY, {"mtls_allowed_apps": guid}).call(east_ca.issue_instance(guid)).assert_allowed("route:mtls_allowed_apps")


@pytest.mark.parametrize("entry", ["app a", "app/a", "äpp", "x" * 65, "*", "app-a;app-b"])
def test_an_entry_that_is_no_guid_is_skipped_and_the_others_stand(at: At, east_ca: CA, alice: Credential, entry: str) -> None:
    """R317, R321: the malformed entry admits nobody, the good one beside it still counts."""
    place = at(ANY, {"mtls_allowed_apps": f"{entry},app-a"})
    place.call(alice).assert_allowed("route:mtls_allowed_apps")
    assert place.call(east_ca.issue_instance("app")).response.status == 403


@pytest.mark.parametrize("multi_valued", [True, False], ids=["one-rdn", "three-rdns"])
def test_identity_is_read_from_the_ous_of_the_certificate(at: At, east_ca: CA, multi_valued: bool) -> None:
    """R253: app, space and org GUID come from the OUs, whether they stand in one RDN or in three, and are in the log."""
    caller = east_ca.issue_instance("app-q", "space-q", "org-q", multi_valued=multi_valued, extra_ous=["something else"])
    call = at(ANY, {"mtls_allowed_spaces": "space-q"}).call(caller)
    call.assert_allowed("route:mtls_allowed_spaces")
    record = call.record
    assert (record["caller_cf_app"], record["caller_cf_space"], record["caller_cf_org"]) == ("app-q", "space-q", "org-q")


def test_the_denied_caller_stands_in_the_log(at: At, alice: Credential) -> None:
    """R253: who was refused is known, with the name that was asked for and the app it would have reached."""
    place = at(ANY, {"mtls_allowed_apps": "g1"}, app="target-app")
    record = place.call(alice).record
    assert (record["caller_cf_app"], record["caller_cf_space"], record["caller_cf_org"]) == ("app-a", "space-1", "org-1")
    assert (record["tls_sni"], record["app_id"], record["status"]) == (place.host, "target-app", 403)
    assert record["x_cf_routererror"] == "mtls_authorization_denied"


@pytest.mark.parametrize(
    ("app", "space", "org", "extra", "reason"),
    [
        (None, "space-1", "org-1", [], "certificate does not contain CF identity OU fields"),
        (None, None, None, [], "certificate does not contain CF identity OU fields"),
        ("app-a", None, None, ["app:app-b"], "certificate has more than one OU app:"),
        ("app-a", "space-1", None, ["space:space-1"], "certificate has more than one OU space:"),
        ("app a", None, None, [], "certificate OU 'app:app a' is not app:<guid>"),
    ],
)
def test_a_certificate_without_one_clear_identity_is_denied_with_a_named_reason(
    at: At, east_ca: CA, app: str | None, space: str | None, org: str | None, extra: list[str], reason: str
) -> None:
    """R328, decision 5: 403 (not 500, not allow) where the OUs are missing, doubled or no GUID, whatever the route allows."""
    caller = east_ca.issue_instance(app, space, org, extra_ous=extra, multi_valued=False)
    call = at(ANY, {"mtls_allow_any": True}).call(caller)
    call.assert_denied("identity_extraction", reason)
    assert call.record["caller_cf_app"] is None


def test_a_missing_space_or_org_never_matches(at: At, east_ca: CA) -> None:
    """R328, decision 5: a caller that has only an app is judged by its app; empty never equals empty."""
    place = at(ANY, {"mtls_allowed_spaces": ",", "mtls_allowed_orgs": ""})
    assert place.call(east_ca.issue_instance("app-a")).response.status == 403
    place.register({"mtls_allowed_spaces": "space-1"})
    place.call(east_ca.issue_instance("app-a")).assert_denied(
        "route:mtls_allowed_spaces", "caller without space not in mtls_allowed_spaces"
    )
    place.register({"mtls_allowed_apps": "app-a"})
    place.call(east_ca.issue_instance("app-a")).assert_allowed("route:mtls_allowed_apps")


def test_a_decision_is_counted_by_domain_result_and_reason(at: At, alice: Credential, carol: Credential) -> None:
    """R254: mtls_decisions tells allowed from denied, without any GUID in a label."""
    place = at(EXACT, {"mtls_allowed_apps": "app-a"})
    router = place.router
    allowed, denied = (
        router.metric("mtls_decisions", domain=EXACT, result="allowed"),
        router.metric("mtls_decisions", domain=EXACT, result="deny", reason="route_not_listed"),
    )
    for caller in (alice, carol, carol):
        place.call(caller)
    assert router.metric("mtls_decisions", domain=EXACT, result="allowed") == allowed + 1
    assert router.metric("mtls_decisions", domain=EXACT, result="deny", reason="route_not_listed") == denied + 2
    assert "app-a" not in router.metrics()
