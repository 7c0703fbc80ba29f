"""The options of one route, judged where somebody can still mend them; the tables stand in fixtures/manifests."""

import pytest

from registry.findings import Findings
from registry.route_limits import LIMIT_OPTIONS
from registry.route_options_check import OPTIONS, check_options, flat_form, misplaced, nearest
from registry.source import Source


def check(raw: dict[str, object], *unknown: str) -> tuple[dict[str, object], list[str]]:
    found = Findings("m.yml", Source())
    flat = check_options(raw, ("options",), found, 1024, unknown)
    return dict(flat), [f"{problem.path}: {problem.expected}" for problem in found.problems]


def test_good_options_come_back_flat() -> None:
    assert check({"mtls_allow_any": True, "trim-path": True}) == ({"mtls_allow_any": True, "trim-path": True}, [])


def test_an_option_of_unknown_value_is_told_once() -> None:
    """Its absence is no second problem: it is there."""
    assert check({"loadbalancing": "hash", "hash_header": object()}, "hash_header") == ({"loadbalancing": "hash"}, [])


@pytest.mark.parametrize("key", LIMIT_OPTIONS)
def test_a_limit_that_the_router_would_leave_out_is_a_mistake(key: str) -> None:
    """One table of bounds for both: a manifest says no where the router would only warn."""
    assert check({key: "a b"})[1] == [f"options.{key}: {LIMIT_OPTIONS[key].expected}"]


@pytest.mark.parametrize(
    ("nested", "flat"),
    [
        ({"apps": ["a", "b"], "spaces": "s"}, 'mtls_allowed_apps: "a,b"; mtls_allowed_spaces: "s"'),
        ({"apps": [], "any": True}, "mtls_allow_any: true"),
        ({"apps": ["a"], "any": True}, 'mtls_allowed_apps: "a"'),
        ({}, "mtls_allow_any: false"),
        ("x", 'mtls_allowed_apps: "guid1,guid2"'),
    ],
)
def test_a_nested_form_is_printed_flat(nested: object, flat: str) -> None:
    """K1: what is printed can be pasted, and of a nested form with `any` and lists the lists stand (K3)."""
    assert flat_form(nested) == flat


def test_a_flat_form_of_a_nested_one_passes() -> None:
    """R262: the remedy is one."""
    assert check({"mtls_allowed_apps": "a,b", "mtls_allowed_spaces": "s"})[1] == []


@pytest.mark.parametrize(
    ("key", "is_one"), [("mtls_x", True), ("allowed_sources", True), ("hash_header", True), ("memory", False)]
)
def test_an_option_beside_options_is_recognised(key: str, is_one: bool) -> None:
    assert misplaced(key) == is_one


def test_a_name_that_is_nearly_known_is_put_right() -> None:
    assert nearest("mtls_allow_all", OPTIONS) == "did you mean `mtls_allow_any`?"
    assert nearest("zzz", ("a", "b")) == "remove it; known here: a, b"
