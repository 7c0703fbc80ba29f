"""YAML in, plain values and lines out, whatever the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.source import MAX_BYTES, MAX_DOCUMENTS, MAX_VALUES, SpelledInt, read_documents, read_source, spelled
from tests.support.effort import at_most


@given(st.binary(max_size=400))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    read_source(data)
    assert read_documents(data) != []


@given(st.text("[]{}:,-&*#!|>'\"?%@ \nab01~<", max_size=200))
def test_no_text_of_yaml_signs_makes_it_raise(text: str) -> None:
    read_source(text.encode())
    for source in read_documents(text.encode()):
        for flaw in source.flaws:
            source.line_of(flaw.where)


def test_every_place_knows_its_line() -> None:
    source = read_source(b"a: 1\nb:\n- x\n- c: y\n")
    assert [source.line_of(where) for where in [("a",), ("b",), ("b", 1), ("b", 1, "c"), ("b", 1, "d")]] == [
        1, 2, 4, 4, 4,
    ]  # fmt: skip


def test_a_number_remembers_its_spelling() -> None:
    tree = read_source(b"{a: 42, b: 1.50, c: x, d: true}").tree
    assert isinstance(tree, dict)
    assert isinstance(tree["a"], SpelledInt)
    assert [spelled(value) for value in tree.values()] == ["42", "1.50", "x", True]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0123", "0123"), ("20:30", "20:30"), ("2024-01-01", "2024-01-01"), ("yes", "yes"), ("true", True),
        ("~", None), ("'1'", "1"), ("1.5", 1.5), ("[1, a]", (1, "a")),
    ],
)  # fmt: skip
def test_scalars_are_read_by_the_core_schema(text: str, value: object) -> None:
    assert read_source(f"a: {text}".encode()).tree == {"a": value}


def test_a_key_that_stands_twice_is_a_flaw_with_both_lines() -> None:
    (flaw,) = read_source(b"a: 1\nb: 2\na: 3\n").flaws
    assert (flaw.where, flaw.line, flaw.remedy) == (("a",), 3, "keep one of the two; the first is on line 1")


@pytest.mark.parametrize(
    "text",
    [
        "a: [", "a: !!binary x", "a: 1\n---\nb: 2", "? [a]\n: 1", "a: *b", "a: &a [*a]", "[" * 40 + "]" * 40,
        "a: \t-\x00", "a: &x 1\n*x : 2",
    ],
)  # fmt: skip
def test_what_no_gorouter_yml_has_is_refused(text: str) -> None:
    assert read_source(text.encode()).flaws != []


def test_aliases_that_expand_without_end_are_refused() -> None:
    """A few hundred bytes must not become billions of values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (flaw,) = read_source("\n".join(lines).encode()).flaws
    assert flaw.expected == "at most 200000 values, aliases expanded"


def test_an_alias_stands_for_its_value() -> None:
    assert read_source(b"a: &x [1]\nb: *x").tree == {"a": (1,), "b": (1,)}


def test_a_huge_file_is_refused_unread() -> None:
    assert read_source(b" " * (MAX_BYTES + 1)).flaws[0].expected == f"at most {MAX_BYTES} bytes"


def test_a_syntax_error_shows_its_line_but_no_text_of_the_file() -> None:
    (flaw,) = read_source(b"pass: hunter2\nx: [hunter2").flaws
    assert "hunter2" not in repr(flaw)


def test_an_alias_leads_to_the_lines_that_it_stands_for() -> None:
    """Who must mend a value is shown where it is written, not where it is used."""
    source = read_source(b"a: &x\n  b: 1\n  c: [1,\n    2]\nd: *x\n")
    assert [source.line_of(where) for where in [("d",), ("d", "b"), ("d", "c", 1), ("d", "none")]] == [5, 2, 4, 1]


def test_a_router_configuration_has_neither_merge_keys_nor_documents() -> None:
    """`<<` is a key like any other there, and as such unknown."""
    assert read_source(b"a: &x {b: 1}\nc:\n  <<: *x\n").tree == {"a": {"b": 1}, "c": {"<<": {"b": 1}}}
    second = read_source(b"a: 1\n---\nb: 2\n")
    assert (second.tree, [flaw.line for flaw in second.flaws]) == (None, [2])


def test_several_documents_are_several_sources_with_lines_of_the_file() -> None:
    first, second = read_documents(b"---\na: 1\n---\nb:\n  c: 2\n")
    assert (first.tree, second.tree) == ({"a": 1}, {"b": {"c": 2}})
    assert (first.line_of(("a",)), second.line_of(("b", "c"))) == (2, 5)


def test_a_text_without_documents_is_one_without_a_value() -> None:
    (source,) = read_documents(b"# nothing\n")
    assert (source.tree, source.flaws) == (None, [])


def test_a_document_that_breaks_leaves_those_before_it() -> None:
    first, second = read_documents(b"a: 1\n---\nb: [\n")
    assert (first.tree, first.flaws, second.tree) == ({"a": 1}, [], None)
    assert second.flaws != []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}", {"a": 1, "b": 3}),
        ("x: &x {a: 1, b: 2}\ny: {b: 3, <<: *x}", {"a": 1, "b": 3}),
        ("x: [&x {a: 1}, &z {a: 2, c: 4}]\ny: {<<: [*x, *z]}", {"a": 1, "c": 4}),
        ("x: 0\ny: {<<: {a: 1}}", {"a": 1}),
        ("x: 0\ny: {'<<': {a: 1}}", {"<<": {"a": 1}}),
        ("x: &x {<<: {a: 1}}\ny: {<<: *x}", {"a": 1}),
    ],
)
def test_a_merge_key_gives_what_the_mapping_itself_does_not_say(text: str, value: object) -> None:
    (source,) = read_documents(text.encode())
    assert isinstance(source.tree, dict)
    assert (source.tree["y"], source.flaws) == (value, [])


def test_a_merged_value_knows_the_line_on_which_it_is_written() -> None:
    text = b"x: &x\n  a:\n    b: 1\ny:\n  <<: *x\n  c: 2\nz:\n  <<:\n    - *x\n    - {d: 1}\n"
    (source,) = read_documents(text)
    places = [("y", "a", "b"), ("y", "a"), ("y", "c"), ("z", "a", "b"), ("z", "d")]
    assert [source.line_of(where) for where in places] == [3, 2, 6, 3, 10]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y: {<<: 1}", "a mapping, or a list of mappings, to merge"),
        ("y: {<<: [{a: 1}, 1]}", "a mapping, or a list of mappings, to merge"),
        ("y: {<<: {a: 1}, <<: {b: 1}}", "each key once"),
        ("x: &x 1\n---\ny: *x", "an alias of an anchor that is complete"),
        ("a: !!binary x", "no tag (`tag:yaml.org,2002:binary`)"),
        ("---\na\n" * (MAX_DOCUMENTS + 1), f"at most {MAX_DOCUMENTS} documents"),
    ],
)
def test_what_cannot_be_merged_or_read_is_a_flaw(text: str, expected: str) -> None:
    assert [flaw.expected for source in read_documents(text.encode()) for flaw in source.flaws] == [expected]


def test_merges_that_expand_without_end_are_refused() -> None:
    lines = ["a0: &a0 {k: [x, x, x, x, x, x, x, x, x]}"]
    lines += [f"a{n}: &a{n} {{l: [{', '.join([f'*a{n - 1}'] * 9)}], <<: *a{n - 1}}}" for n in range(1, 12)]
    flaws = [flaw for source in read_documents("\n".join(lines).encode()) for flaw in source.flaws]
    assert [flaw.expected for flaw in flaws] == [f"at most {MAX_VALUES} values, aliases expanded"]


def test_documents_share_one_bound_of_values() -> None:
    """Many documents are no way around it."""
    one = b"---\n[" + b"x," * 90_000 + b"x]\n"
    flaws = [flaw for source in read_documents(one * 3) for flaw in source.flaws]
    assert [flaw.expected for flaw in flaws] == [f"at most {MAX_VALUES} values, aliases expanded"]


def test_aliases_nest_no_deeper_than_brackets() -> None:
    """Whoever walks a tree may recurse: 3,300 levels of aliases would end the reader of a configuration."""
    lines = [b"a0: &a0 " + b"[" * 30 + b"]" * 30]
    lines += [b"a%d: &a%d " % (n, n) + b"[" * 30 + b"*a%d" % (n - 1) + b"]" * 30 for n in range(1, 110)]
    assert [flaw.expected for flaw in read_source(b"\n".join(lines)).flaws] == ["at most 32 levels of nesting, aliases expanded"]


def test_an_alias_may_use_all_levels_that_are_left() -> None:
    source = read_source(b"a: &a " + b"[" * 30 + b"]" * 30 + b"\nb: [*a]\n")
    assert source.flaws == []
    assert [f.line for f in read_source(b"a: &a " + b"[" * 30 + b"]" * 30 + b"\nb: [[*a]]\n").flaws] == [2]


@pytest.mark.parametrize(
    "merge",
    [b"  <<: *e\n" * 120_000, b"  <<: [" + b"*e," * 60_000 + b"]\n" + b"".join(b"  k%d: 1\n" % n for n in range(60_000))],
    ids=["many keys", "one key beside many"],
)
def test_many_merges_cost_no_more_than_they_are_long(merge: bytes) -> None:
    """Each used to cost as much as all before it, or as all keys beside it: more than the deadline."""
    with at_most(20):
        assert read_documents(b"e: &e {}\nb:\n" + merge)


def test_directives_that_the_parser_compares_with_each_other_are_bounded() -> None:
    data = b"".join(b"%%TAG !a%d! x\n" % n for n in range(30_000)) + b"--- a\n"
    assert [flaw.expected for flaw in read_source(data).flaws] == ["at most 100 %TAG directives"]
