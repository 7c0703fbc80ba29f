"""YAML in, plain values and lines out, whatever the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.source import MAX_BYTES, SpelledInt, read_source


@given(st.binary(max_size=400))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    read_source(data)


@given(st.text("[]{}:,-&*#!|>'\"?%@ \nab01~<", max_size=200))
def test_no_text_of_yaml_signs_makes_it_raise(text: str) -> None:
    read_source(text.encode())


def test_every_place_knows_its_line() -> None:
    source = read_source(b"a: 1\nb:\n- x\n- c: y\n")
    assert [source.line_of(where) for where in [("a",), ("b",), ("b", 1), ("b", 1, "c"), ("b", 1, "d")]] == [
        1, 2, 4, 4, 4,
    ]  # fmt: skip


def test_a_number_remembers_its_spelling() -> None:
    tree = read_source(b"a: 42").tree
    assert isinstance(tree, dict)
    assert isinstance(tree["a"], SpelledInt)
    assert tree["a"].spelling == "42"


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
