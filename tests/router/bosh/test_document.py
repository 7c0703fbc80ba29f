"""Trees that know their lines."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.source import SpelledInt, read_source
from router.bosh.document import Node, dump, graft, kind_of, plain, scalars
from tests.router.bosh.parts import node

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(10**17), 10**17), st.text(max_size=30))
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\ufeff", exclude_categories=("Cs", "Cc")), max_size=12)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4).map(tuple), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
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


@pytest.mark.parametrize(
    ("text", "kind"),
    [("{}", "a mapping"), ("[]", "a list"), ("", "nothing"), ("true", "a boolean"), ("x", "a text"), ("1", "a number")],
)
def test_a_kind_is_said_without_the_value(text: str, kind: str) -> None:
    """For messages that must not show secrets."""
    assert kind_of(node(f"k: {text}").nearest(("k",))) == kind


@given(VALUES)
def test_what_is_dumped_is_read_back_as_it_was(value: object) -> None:
    """Whatever a text looks like, it stays a text."""
    source = read_source(dump({"k": value}).encode())
    assert source.flaws == []
    assert source.tree == {"k": value}
    assert kinds(source.tree) == kinds({"k": value})


def kinds(value: object) -> object:
    """The shape of a value: True is not 1."""
    if isinstance(value, Mapping):
        return {key: kinds(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [kinds(item) for item in value]
    return int if isinstance(value, int) and not isinstance(value, bool) else type(value)


def test_numbers_keep_their_spelling_and_pem_is_a_block() -> None:
    """What a person wrote can be compared with what was rendered."""
    assert dump(plain(node("a: 0.50\nb: -0"))) == "a: 0.50\nb: -0\n"
    assert isinstance(read_source(b"a: 12").tree, dict)
    assert dump({"a": spelled("+7")}) == "a: +7\n"
    assert dump({"pem": "-----BEGIN X-----\nAA\n-----END X-----\n"}) == "pem: |\n  -----BEGIN X-----\n  AA\n  -----END X-----\n"


def spelled(text: str) -> SpelledInt:
    """A number with its spelling."""
    number = SpelledInt(text)
    number.spelling = text
    return number
