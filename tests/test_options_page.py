"""docs/reference/options.md, kept true: its options, its examples and its errors are the code's."""

import re
from pathlib import Path

import pytest

from registry.manifest import ManifestRead, read_manifest
from registry.options import DEFAULT_LIMIT
from registry.route_options_check import ALGORITHMS, OPTIONS, SCOPES, WITHOUT_EFFECT

TEXT = (Path(__file__).parents[1] / "docs/reference/options.md").read_text()
OPTION = re.compile(r"^\| `([a-z_-]+)` \| (.+?) \| (.*?) ?\| (.+) \|$", re.MULTILINE)
ERROR = re.compile(r"^\| `(\{.+\})` \| (.+) \|$", re.MULTILINE)


def read(text: str) -> ManifestRead:
    return read_manifest(text.encode(), "manifest.yml", {"shop_space_guid": "5b3f1e7c"})


def test_every_option_has_one_row() -> None:
    """Nothing that the router reads is undocumented, and nothing is documented that it does not read."""
    assert sorted(name for name, *_ in OPTION.findall(TEXT)) == sorted(OPTIONS)


@pytest.mark.parametrize(("option", "names"), [("loadbalancing", ALGORITHMS), ("route_policy_scope", SCOPES)])
def test_the_names_that_an_option_takes_stand_in_its_row(option: str, names: tuple[str, ...]) -> None:
    values = {name: value for name, value, *_ in OPTION.findall(TEXT)}
    assert values[option] == ", ".join(f"`{name}`" for name in names)


def test_the_options_without_effect_are_named() -> None:
    """R322: RFC-0027's examples are no mistakes, and do nothing."""
    assert [name for name in WITHOUT_EFFECT if f"`{name}`" not in TEXT] == []
    assert f"at most {DEFAULT_LIMIT} bytes" in TEXT


def test_every_example_is_accepted_without_a_warning() -> None:
    examples = re.findall(r"```yaml\n(.+?)```", TEXT, re.DOTALL)
    assert examples != []
    assert [(read(one).problems, read(one).warnings) for one in examples] == [((), ())] * len(examples)


@pytest.mark.parametrize(("options", "said"), ERROR.findall(TEXT))
def test_every_error_is_said_as_the_page_says_it(options: str, said: str) -> None:
    """R262, K1: a nested form is answered with the flat one."""
    found = read(f"applications: [{{name: a, routes: [{{route: a.example.com, options: {options}}}]}}]").problems
    assert [one for one in found if said in f"{one.expected} | {one.remedy}"] != [], found


def test_the_table_of_errors_is_not_empty() -> None:
    assert len(ERROR.findall(TEXT)) > 15
