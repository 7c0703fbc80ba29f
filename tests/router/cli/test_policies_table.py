"""router/cli/policies_table.py: what `/policies` and `/warnings` answer, as lines for people."""

from typing import Any

import pytest

from router.cli.policies_table import Json, age_text, as_table, brief, duration, names_heard, policy_text, warning_lines


def plain(guid: str | None) -> str:
    return guid or "-"


def part(options: str = "mtls", outcome: str = "enforce", **more: Any) -> dict[str, Any]:
    lists = {"any": False, "apps": [], "spaces": [], "orgs": [], "scope": None}
    return {"options": options, "outcome": outcome, **lists, **more}


def route(*parts: Json, **more: Any) -> dict[str, Any]:
    return {"route": "a.example", "row": "cf_identity", "effect": "enforce", "policy": list(parts), **more}


ENDPOINT = {
    "address": "10.0.0.1:80",
    "app": "app-1",
    "age_seconds": 7.9,
    "expires_in_seconds": 112.1,
    "tls": True,
    "in_flight": 0,
}
OWNER = {"app": "app-1", "app_name": "orders", "space": "s", "space_name": None, "org": "o", "org_name": "acme"}


def test_a_route_has_a_line_an_endpoint_and_routes_are_sorted() -> None:
    b = {**route(part(apps=["x", "y"]), domain="*.example", warnings=["w"], owners=[OWNER]), "endpoints": [ENDPOINT, ENDPOINT]}
    a = {**b, "route": "0.example", "endpoints": [], "owners": [], "warnings": [], "domain": None}
    lines = [line.split() for line in as_table({"routes": [b, a]}, plain, wide=False).splitlines()]
    assert lines == [
        ["ROUTE", "DOMAIN", "POLICY", "ENDPOINT", "AGE", "OWNER", "WARNINGS"],
        ["0.example", "-", "apps(2)", "-", "-", "-", "-"],
        *[["a.example", "*.example", "apps(2)", "10.0.0.1:80", "7s", "app-1", "1"]] * 2,
    ]


def test_a_guid_behind_a_name_is_cut_short() -> None:
    """And neither one without a name, nor a short one; the wide table has all of it."""
    guid = "5b3f1e7c-6f0e-4a52-8f0d-0d4f6f0f8a11"
    for shown, expected in ((f"shop ({guid})", "shop (5b3f1e7c...)"), (guid, guid)):
        assert expected == brief(shown, guid)
    assert brief("shop (app-1)", "app-1") == "shop (app-1)"
    named = {**route(part()), "owners": [{"app": guid}], "endpoints": [{"app": guid}]}
    for wide, expected in ((False, "shop (5b3f1e7c...)"), (True, f"shop ({guid})")):
        assert expected in as_table({"routes": [named]}, lambda one: f"shop ({one})", wide=wide)


def test_the_wide_table_has_the_lists_and_the_owner_of_each_endpoint() -> None:
    shared = {
        **route(part(apps=["x"], orgs=["p", "q"])),
        "owners": [OWNER, {**OWNER, "app": "app-2", "space": "t"}],
        "endpoints": [{**ENDPOINT, "denied": "by hand"}, {**ENDPOINT, "app": "app-2"}],
    }
    header, first, second = as_table({"routes": [shared]}, plain, wide=True).splitlines()
    assert header.split()[7:] == [
        "SPACE",
        "ORG",
        "INSTANCE",
        "TLS",
        "TTL",
        "PROTOCOL",
        "SEGMENT",
        "IN",
        "FLIGHT",
        "FAILED",
        "DENIED",
    ]
    assert "apps: x orgs: p, q" in first
    assert "10.0.0.1:80 (denied)" in first
    assert first.endswith("by hand")
    assert (" app-1 " in first, " app-2 " in second, "  t  " in second) == (True, True, True)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (route(part(apps=["a"], orgs=["o", "p"])), "apps(1) orgs(2)"),
        (route(part(any=True)), "any"),
        (route(part(), effect="deny"), "none: denies"),
        (route(part("no_options", "deny"), effect="deny"), "none: denies"),
        (route(part("no_options", "forward"), effect="forward", row="open"), "open"),
        (route(part("no_options", "forward"), effect="forward", row="none"), "any certificate"),
        (route(part(outcome="not_enforced", apps=["a"]), effect="not_enforced", row="open"), "apps(1) (not enforced)"),
        (route(part("invalid_mtls", "deny"), effect="deny"), "invalid options: denies"),
        (route(part("route_policy", scope="org", any=True)), "any in scope=org"),
        (route(part("route_policy", scope="any", apps=["a"])), "apps(1)"),
        (route(part(any=True), part("route_policy", scope="any", spaces=["s"])), "any and spaces(1)"),
        (route(part(any=True), report_only=True), "any (report only)"),
        (route(part(any=True), denied="listed"), "any: denied by the operator"),
        ({}, ""),
    ],
)
def test_a_policy_is_told_in_a_few_words(shown: dict[str, Any], expected: str) -> None:
    assert expected == policy_text(shown)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0s"), (119.9, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172_800, "2d")]
)
def test_a_duration_is_in_the_largest_unit_of_which_there_are_two(seconds: float, expected: str) -> None:
    assert expected == duration(seconds)


def test_an_endpoint_that_is_overdue_is_silent() -> None:
    assert age_text({"age_seconds": 300.0, "expires_in_seconds": -180.0}) == "5m silent"
    assert age_text({}) is None


def test_names_are_those_of_the_registrations() -> None:
    assert names_heard({"routes": [{"owners": [OWNER]}]}) == {"app-1": "orders", "o": "acme"}


def test_warnings_are_a_line_each_of_routes_first() -> None:
    policies = {"routes": [{"route": "b", "warnings": ["two"]}, {"route": "a", "warnings": ["one"]}]}
    assert list(warning_lines(policies, None)) == ["warning: a: one", "warning: b: two"]
    everything = {
        "domains": [{"domain": "*.x", "warning": "no route"}],
        "certificates": [
            {"key": "tls_pem[0]", "subject": "CN=x", "not_after": "2026", "expires_in_seconds": 864_000},
            {"key": "ca_certs[0]", "subject": "CN=y", "not_after": "2020", "expires_in_seconds": -1},
        ],
        "silent_endpoints": [{"route": "r", "address": "10.0.0.1:80", "silent_for_seconds": 600}],
        "config": [{"file": "f.yml", "line": 3, "path": "nats", "expected": "more", "remedy": "do it"}],
    }
    assert list(warning_lines({}, everything)) == [
        "warning: *.x: no route",
        "warning: tls_pem[0]: CN=x ends in 10d (2026)",
        "warning: ca_certs[0]: CN=y has ended (2020)",
        "warning: r: 10.0.0.1:80 was last heard of 10m ago",
        "warning: f.yml:3 nats: more; do it",
    ]


def test_control_characters_do_not_reach_the_terminal() -> None:
    evil = "\x1b]0;x\x07"
    shown = {"route": evil, "domain": evil, "warnings": [evil], "owners": [{"app": evil}], "endpoints": [{"address": evil}]}
    assert "\x1b" not in as_table({"routes": [shown]}, plain, wide=True)
    assert "\x1b" not in "".join(warning_lines({"routes": [shown]}, None))


@pytest.mark.parametrize("value", [None, 3, [], ["x", 3], [{}], [{"endpoints": 3, "owners": [3], "policy": "x", "warnings": 3}]])
def test_another_shape_gives_dashes_and_no_error(value: object) -> None:
    as_table({"routes": value}, plain, wide=True)
    assert list(warning_lines({"routes": value}, {"domains": value, "config": 3})) == [
        "warning: -: None" for one in (value if isinstance(value, list) else []) if isinstance(one, dict)
    ]
