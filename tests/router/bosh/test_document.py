"""Trees that know their lines."""

import pytest

from router.bosh.document import Node, graft, kind_of, scalars
from tests.router.bosh.parts import node

TEXT = """
a: 1
b:
  - x
  - {c: 0.50}
"""


def test_each_value_knows_its_line() -> None:
    """Scalars, items and keys of inner mappings."""
    assert {where: (item.content, item.line) for where, item in scalars(node(TEXT))} == {
        ("a",): (1, 2),
        ("b", 0): ("x", 4),
        ("b", 1, "c"): (0.5, 5),
    }


def test_the_nearest_node_stands_for_what_is_missing() -> None:
    """So that a problem with a key that is not there has a line."""
    assert node(TEXT).nearest(("b", 1, "missing", "more")).line == 5
    assert node(TEXT).nearest(("b", 7)).line == 3


def test_what_is_grafted_stands_where_its_place_does() -> None:
    """A variable's value has the line of its name."""
    place = Node(None, "file", 7)
    assert [item.line for _, item in scalars(graft({"a": [1, {"b": "c"}]}, place))] == [7, 7]
    with pytest.raises(TypeError):
        graft(object(), place)


def test_a_problem_stands_where_its_value_does() -> None:
    """In the operator's own file."""
    problem = Node("x", "ops.yml", 7).problem("[0].type", "'x'", "replace", "correct it")
    assert (problem.file, problem.line, problem.path, problem.value) == ("ops.yml", 7, "[0].type", "'x'")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("{}", "a mapping"), ("[]", "a list"), ("", "nothing"), ("true", "a boolean"), ("x", "a text"), ("1", "a number")],
)
def test_a_kind_is_said_without_the_value(text: str, kind: str) -> None:
    """For messages that must not show secrets."""
    assert kind_of(node(f"k: {text}").nearest(("k",))) == kind
