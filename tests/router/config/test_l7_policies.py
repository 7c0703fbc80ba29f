"""The `l7_policies` list, as it is read."""

import pytest

from tests.router.config.support import config, loaded


def test_a_policy_is_read_with_its_route_in_canonical_form() -> None:
    """R128: a list of types and values, each on a route; a number is the text that the file spells."""
    text = """
l7_policies:
- {route: Shop.Example./Admin/, type: required_header, value: X-Api-Key}
- {route: "*.open.example", type: user_agent_block, value: 12.50}
"""
    first, second = config(text).l7_policies
    assert (first.route, first.place, first.type, first.value) == (
        "shop.example/admin", ("shop.example", "/admin"), "required_header", "X-Api-Key",
    )  # fmt: skip
    assert (second.place, second.value) == (("*.open.example", ""), "12.50")


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ("{route: a.example, type: user_agent, value: x}", "type"),
        ("{route: a.example, type: user_agent_block}", "value"),
        ("{type: user_agent_block, value: x}", "route"),
        ("{route: a.example, type: user_agent_block, value: ''}", ""),
        ("{route: a.example, type: user_agent_block, value: " + "x" * 257 + "}", ""),
        ('{route: a.example, type: user_agent_block, value: "a\\nb"}', ""),
        ("{route: a.example, type: required_header, value: 'X Y'}", ""),
        ("{route: 'https://a.example', type: required_header, value: X}", "route"),
        ("{route: 'a.example:443', type: required_header, value: X}", "route"),
        ("{route: 'a.example/../b', type: required_header, value: X}", "route"),
        ("{route: '*', type: required_header, value: X}", "route"),
        ("{route: '[::1]', type: required_header, value: X}", "route"),
        ("{route: 7, type: required_header, value: X}", "route"),
        ("{route: a.example, type: required_header, value: X, mode: l4}", "mode"),
    ],
)
def test_a_bad_policy_is_an_error_with_its_path(entry: str, path: str) -> None:
    """R128: an unknown type is rejected; a lock that cannot be read is never silently none."""
    outcome = loaded(f"trusted_proxies: []\nl7_policies:\n- {entry}\n")
    assert outcome.config is None
    assert [problem.path for problem in outcome.problems] == ["l7_policies[0]" + (f".{path}" if path else "")]
    assert all(problem.expected for problem in outcome.problems)
    assert all(problem.line >= 2 for problem in outcome.problems)
