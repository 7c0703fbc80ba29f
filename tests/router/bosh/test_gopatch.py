"""Paths and operations; the table follows go-patch's own tests."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.bosh.document import Node, plain
from router.bosh.gopatch import End, Index, Item, Key, Misfit, Path, PathError, Step, equal, find, parse_path, path_to_text
from router.bosh.gopatch import remove as remove_at
from router.bosh.gopatch import replace as replace_at
from tests.router.bosh.parts import node

DOCUMENT = """
key: 1
key2:
  nested:
    super_nested: 2
  other: 3
array: [4,5,6]
items:
- name: item7
- name: item8
- name: item8
"""


def path(text: str) -> Path:
    parsed = parse_path(text)
    assert not isinstance(parsed, PathError), parsed
    return parsed


def whole() -> dict[str, object]:
    tree = plain(node(DOCUMENT))
    assert isinstance(tree, dict)
    return tree


def replaced(at: str, value: str = "10", document: str = DOCUMENT) -> object:
    done = replace_at(node(document), path(at), node(value, "ops.yml"))
    return done if isinstance(done, Misfit) else plain(done)


def removed(at: str, document: str = DOCUMENT) -> object:
    done = remove_at(node(document), path(at))
    return done if isinstance(done, Misfit) else plain(done)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", ()),
        ("/", (Key(""),)),
        ("/a/b", (Key("a"), Key("b"))),
        ("/a?/b", (Key("a", True), Key("b", True))),
        ("/0/-1", (Index(0), Index(-1))),
        ("/a/-", (Key("a"), End())),
        ("/-/a", (Key("-"), Key("a"))),
        ("/name=v/x", (Item("name", "v"), Key("x"))),
        ("/name=v?/x", (Item("name", "v", True), Key("x", True))),
        ("/name=a=b", (Item("name", "a=b"),)),
        ("/1:prev", (Index(1, -1),)),
        ("/1:next:next:after", (Index(1, 2, "after"),)),
        ("/name=v:before", (Item("name", "v", False, 0, "before"),)),
        ("/name=v?:before", (Item("name", "v", True, 0, "before"),)),
        ("/a~0~1~2~3~7b", (Key("a~/?=:b"),)),
        ("/~01", (Key("~1"),)),
        ("/~5", (Key("~5"),)),
    ],
)
def test_a_path_is_read(text: str, steps: Path) -> None:
    """Every form of the syntax."""
    assert parse_path(text) == steps


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "a path that starts with /"),
        ("/a:before", "`:` only behind an index"),
        ("/a:b", "`:prev`, `:next`"),
        ("/-:before", "no `:` behind `-`"),
        ("/0:before:prev", "only at the end"),
        ("/0:after/a", "only at the end"),
        ("/a" * 65, "at most 64 steps"),
    ],
)
def test_what_is_no_path_says_why(text: str, expected: str) -> None:
    """The sentence says what was expected."""
    parsed = parse_path(text)
    assert isinstance(parsed, PathError)
    assert expected in parsed.expected


@pytest.mark.parametrize(
    ("at", "changes"),
    [
        ("/key", {"key": 10}),
        ("/new_key?", {"new_key": 10}),
        ("/key2/nested/super_nested", {"key2": {"nested": {"super_nested": 10}, "other": 3}}),
        ("/key2/nested?/another_nested/super_nested",
         {"key2": {"nested": {"super_nested": 2, "another_nested": {"super_nested": 10}}, "other": 3}}),
        ("/array/0", {"array": (10, 5, 6)}),
        ("/array/-1", {"array": (4, 5, 10)}),
        ("/array/-", {"array": (4, 5, 6, 10)}),
        ("/array2?/-", {"array2": (10,)}),
        ("/array/1:prev", {"array": (10, 5, 6)}),
        ("/array/0:next", {"array": (4, 10, 6)}),
        ("/array/0:after", {"array": (4, 10, 5, 6)}),
        ("/array/-1:after", {"array": (4, 5, 6, 10)}),
        ("/array/0:before", {"array": (10, 4, 5, 6)}),
        ("/array/1:prev:next:next:before", {"array": (4, 5, 10, 6)}),
        ("/items/name=item7/count?", {"items": ({"name": "item7", "count": 10}, {"name": "item8"}, {"name": "item8"})}),
        ("/items/name=item7:after", {"items": ({"name": "item7"}, 10, {"name": "item8"}, {"name": "item8"})}),
        ("/items/name=item7:next", {"items": ({"name": "item7"}, 10, {"name": "item8"})}),
        ("/items/name=item9?/count",
         {"items": ({"name": "item7"}, {"name": "item8"}, {"name": "item8"}, {"name": "item9", "count": 10})}),
        ("/items/name=item9?", {"items": ({"name": "item7"}, {"name": "item8"}, {"name": "item8"}, 10)}),
        ("/new?/name=val/efg/name=val", {"new": ({"name": "val", "efg": (10,)},)}),
    ],
)  # fmt: skip
def test_replace_sets_what_is_there_and_makes_what_may_be_missing(at: str, changes: dict[str, object]) -> None:
    """The examples of go-patch's documentation, and the rest of the syntax."""
    assert replaced(at) == {**whole(), **changes}


def test_the_empty_path_is_the_whole_document() -> None:
    """It can be replaced, never removed."""
    assert replaced("", "b") == "b"
    assert removed("") == Misfit("", "a path", "the whole document, which cannot be removed")


@pytest.mark.parametrize(
    ("at", "misfit"),
    [
        ("/missing", Misfit("/missing", "this key; a key that may be missing ends with ?", "keys: array, items, key, key2")),
        ("/key2/no/x", Misfit("/key2/no", "this key; a key that may be missing ends with ?", "keys: nested, other")),
        ("/array/3", Misfit("/array/3", "an item of the list", "a list of 3")),
        ("/array/-4", Misfit("/array/-4", "an item of the list", "a list of 3")),
        ("/array/0:prev", Misfit("/array/0:prev", "an item of the list", "a list of 3")),
        ("/array/-1:next", Misfit("/array/-1:next", "an item of the list", "a list of 3")),
        ("/array/a", Misfit("/array", "a mapping", "a list")),
        ("/key2/0", Misfit("/key2", "a list", "a mapping")),
        ("/key2/name=x", Misfit("/key2", "a list", "a mapping")),
        ("/key/-", Misfit("/key", "a list", "a number")),
        ("/items/name=item8", Misfit("/items/name=item8", "exactly one item that fits", "2 of 3 items")),
        ("/items/name=no", Misfit("/items/name=no", "exactly one item that fits", "items with `name`: item7, item8, item8")),
        ("/items/pass=no", Misfit("/items/pass=no", "exactly one item that fits", "a list of 3")),
        ("/x?/0", Misfit("/x?/0", "a key, `key=value` or `-` behind a key that is missing", "an index")),
    ],
)
def test_a_path_that_does_not_fit_says_where_and_what_is_there(at: str, misfit: Misfit) -> None:
    """As far as it was followed."""
    assert replaced(at) == misfit


@pytest.mark.parametrize(
    ("at", "changes"),
    [
        ("/array/0", {"array": (5, 6)}),
        ("/array/-1", {"array": (4, 5)}),
        ("/array/0:next", {"array": (4, 6)}),
        ("/key2/other", {"key2": {"nested": {"super_nested": 2}}}),
        ("/items/name=item7", {"items": ({"name": "item8"}, {"name": "item8"})}),
        ("/items/name=no?", {}),
        ("/items/name=no?/deep", {}),
        ("/nothing?", {}),
        ("/nothing?/deep/er", {}),
        ("/key2/nested/super_nested", {"key2": {"nested": {}, "other": 3}}),
        ("/items/0/name", {"items": ({}, {"name": "item8"}, {"name": "item8"})}),
    ],
)
def test_remove_takes_away_what_is_there(at: str, changes: dict[str, object]) -> None:
    """And leaves all as it is where that is optional and missing."""
    assert removed(at) == {**whole(), **changes}


@pytest.mark.parametrize("at", ["/no", "/array/7", "/items/name=item8", "/array/-", "/array/0:before", "/key/x", "/key/0"])
def test_what_cannot_be_removed_is_a_misfit(at: str) -> None:
    """Never a silent nothing."""
    assert isinstance(removed(at), Misfit)


def test_values_are_matched_as_texts_only() -> None:
    """As in go-patch: the number 80 is not the text 80."""
    assert isinstance(replaced("/0/port=80", "x", "- [{port: 80}]"), Misfit)
    assert replaced("/0/port=80", "x", '- [{port: "80"}]') == (("x",),)


def test_find_is_for_tests() -> None:
    """What is there, nothing where it may be missing, a misfit otherwise."""
    found = find(node(DOCUMENT), path("/items/0/name"))
    assert isinstance(found, Node)
    assert found.content == "item7"
    assert find(node(DOCUMENT), path("/x?/y")) is None
    assert find(node(DOCUMENT), path("/items/name=x?")) is None
    assert all(isinstance(find(node(DOCUMENT), path(at)), Misfit) for at in ("/x", "/array/-", "/key/0", "/key/a", "/array/9"))
    assert equal(node("[1, a]"), node("\n\n- 1\n- a"))
    assert not equal(node("[1]"), node("[true]"))


def test_the_new_value_keeps_the_place_it_was_written_at() -> None:
    """So that a problem is shown in the ops-file."""
    done = replace_at(node(DOCUMENT), path("/key2/made?/here"), node("\n\n[value]", "ops.yml"))
    assert isinstance(done, Node)
    place = done.nearest(("key2", "made", "here"))
    assert (place.file, place.line) == ("ops.yml", 3)
    assert done.nearest(("key2", "other")).file == "deployment.yml"


NAMES = st.text(max_size=8).filter(lambda name: name != "-" and not re.fullmatch("[-+]?[0-9]+", name))
STEPS = st.one_of(
    st.builds(Key, NAMES, st.just(False)),
    st.builds(Item, st.text(max_size=5), st.text(max_size=5), st.just(False), st.integers(-3, 3), st.none()),
    st.builds(Index, st.integers(-99, 99), st.integers(-3, 3), st.none()),
)


@given(st.lists(STEPS, max_size=5).map(tuple), st.booleans())
def test_a_path_is_read_back_as_it_was_written(steps: tuple[Step, ...], appended: bool) -> None:
    """Names may hold anything."""
    every = (*steps, End()) if appended else steps
    assert parse_path(path_to_text(every)) == every


@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    """A path, or the reason why not; and no document makes it fail later."""
    parsed = parse_path(text)
    if isinstance(parsed, PathError):
        return
    document = node(DOCUMENT)
    for done in (replace_at(document, parsed, document), remove_at(document, parsed), find(document, parsed)):
        assert done is None or isinstance(done, Node | Misfit)
    assert plain(document) == whole()


@given(st.lists(st.sampled_from(["a", "b?", "0", "-1", "name=x", "name=y?", "-", "1:prev", "0:after"]), max_size=4))
def test_what_was_replaced_is_found_at_its_path(tokens: list[str]) -> None:
    """Where a replacement succeeds and nothing was inserted, the value is there afterwards; and can be removed again."""
    text = "".join(f"/{token}" for token in tokens)
    steps = parse_path(text)
    if isinstance(steps, PathError) or any(isinstance(s, End) or (isinstance(s, Index | Item) and s.insert) for s in steps):
        return
    value = node("{name: x}")
    done = replace_at(node("{a: {a: [1, {name: x}]}}"), steps, value)
    if isinstance(done, Misfit):
        return
    if not isinstance(steps[-1] if steps else None, Item):
        found = find(done, steps)
        assert isinstance(found, Node)
        assert equal(found, value)
    if steps:
        assert isinstance(remove_at(done, steps), Node | Misfit)
