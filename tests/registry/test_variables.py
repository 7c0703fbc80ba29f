"""`((name))` and what stands in its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.variables import MAX_TEXT, Unfilled, fill, read_variables


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"), ("((a))", "x"), ("((!a))", "x"), ("((b))", True), ("((c))", {"d": 1}), ("((c.d))", 1),
        ("((e.f))", "dot"), ("1((a))2((a))", "1x2x"), ("((a))((n))", "x7"), ("((loop))", "((loop))"),
        ("((a b))", "((a b))"), ("(())", "(())"),
    ],
)  # fmt: skip
def test_a_variable_is_replaced_once(text: str, value: object) -> None:
    variables = {"a": "x", "b": True, "c": {"d": 1}, "e.f": "dot", "n": 7, "loop": "((loop))"}
    assert fill(text, variables) == value


def test_a_number_in_a_text_keeps_its_spelling() -> None:
    variables, _ = read_variables(b"n: +07\nm: +7\n", "v.yml")
    assert fill("x((n))y((m))", variables) == "x+07y+7"


def test_an_unknown_variable_is_named_with_the_way_out() -> None:
    unfilled = fill("a.((hots))", {"host": "x"})
    assert unfilled == Unfilled(
        "a value for the variable `hots`", "did you mean `host`? give it with --vars-file FILE or --var hots=VALUE"
    )


@pytest.mark.parametrize("value", [True, None, 1.5, {"a": 1}, ("a",)])
def test_only_texts_and_whole_numbers_fit_into_a_text(value: object) -> None:
    """As the cf CLI has it."""
    unfilled = fill("x((v))", {"v": value})
    assert isinstance(unfilled, Unfilled)
    assert unfilled.expected == "a text or a whole number in `((v))`"


def test_a_text_does_not_grow_without_end() -> None:
    unfilled = fill("((v))" * 1000, {"v": "x" * MAX_TEXT})
    assert isinstance(unfilled, Unfilled)
    assert unfilled.expected == f"at most {MAX_TEXT} characters, variables filled in"


def test_no_value_of_a_variable_is_part_of_a_problem() -> None:
    """Variables files hold secrets."""
    assert "hunter2" not in repr(fill("x((v))", {"v": {"password": "hunter2"}}))
    assert "hunter2" not in repr(read_variables(b"hunter2", "v.yml"))


@given(st.text("(())!a.b \n"), st.dictionaries(st.text("ab.", max_size=2), st.text(max_size=3)))
def test_no_text_makes_it_raise(text: str, variables: dict[str, object]) -> None:
    fill(text, variables)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n", "a mapping of names to values"), ("a: 1\n---\nb: 2\n", "one YAML document"), ("a: 1\na: 2\n", "each key once"),
        ("a: [", "valid YAML: did not find expected node content"),
    ],
)  # fmt: skip
def test_a_variables_file_that_is_none_has_a_problem(text: str, expected: str) -> None:
    variables, problems = read_variables(text.encode(), "v.yml")
    assert (dict(variables), [problem.expected for problem in problems]) == ({}, [expected])
    assert problems[0].line > 0


def test_an_empty_variables_file_has_no_variables() -> None:
    assert read_variables(b"# none\n", "v.yml") == ({}, ())


def test_looking_for_a_name_that_was_meant_takes_bounded_time() -> None:
    """A thousand long names alike once cost a quarter of a second for each unknown name: over a minute."""
    known = {f"{n:04d}" + "abcd" * 31: "x" for n in range(1000)}
    for number in range(200):
        assert isinstance(fill(f"(({'dcba' * 31}{number:04d}))", known), Unfilled)
        assert isinstance(fill(f"(({'dcba' * 15}{number:04d}))", known), Unfilled)
