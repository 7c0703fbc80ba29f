"""Ops-files."""

import pytest

from registry.problems import Problem
from router.bosh.document import plain
from router.bosh.ops import apply_ops, read_ops
from tests.router.bosh.parts import node


def applied(document: str, ops: str) -> tuple[object, tuple[Problem, ...]]:
    operations, problems = read_ops(node(ops, "ops.yml"))
    assert problems == ()
    done, problems = apply_ops(node(document), operations)
    return plain(done), problems


def test_operations_are_applied_in_order() -> None:
    """A later one sees what an earlier one made."""
    ops = """
- {type: replace, path: /a?, value: {b: [1]}}
- {type: test, path: /a/b/0, value: 1}
- {type: replace, path: /a/b/-, value: 2}
- {type: remove, path: /x}
- {type: test, path: /x, absent: true}
"""
    assert applied("x: 1", ops) == ({"a": {"b": (1, 2)}}, ())


def test_the_first_that_does_not_fit_ends_it() -> None:
    """What comes behind may build on it."""
    ops = "- {type: remove, path: /b}\n- {type: replace, path: /no/deep/er, value: 1}\n- {type: remove, path: /other}\n"
    tree, problems = applied("{a: 1, b: 2}", ops)
    assert tree == {"a": 1}
    remedy = "correct the path, or apply an ops-file before this one that makes it fit"
    expected = "this key; a key that may be missing ends with ? at /no"
    assert problems == (Problem("ops.yml", 2, "/no/deep/er", "keys: a", expected, remedy),)


def test_an_operation_may_bring_its_own_sentence() -> None:
    """As in go-patch."""
    _, problems = applied("{}", "- {type: remove, path: /b, error: first enable b}")
    assert [problem.remedy for problem in problems] == ["first enable b"]


@pytest.mark.parametrize(
    ("op", "found"),
    [
        ("{type: test, path: /a, value: other}", "a text with another value"),
        ("{type: test, path: /a, absent: true}", "a text"),
        ("{type: test, path: /b?, value: 1}", "nothing"),
        ("{type: test, path: /b, value: 1}", "keys: a"),
    ],
)
def test_a_test_that_fails_shows_no_value(op: str, found: str) -> None:
    """It may be a secret."""
    _, problems = applied("a: secret", f"- {op}")
    assert [problem.value for problem in problems] == [found]


@pytest.mark.parametrize(
    ("ops", "path", "value", "expected"),
    [
        ("a: 1", "", "a mapping", "a list of operations"),
        ("- x", "[0]", "a text", "a mapping with `type` and `path`"),
        ("- {path: /a}", "[0].type", "", "`replace`, `remove` or `test`"),
        ("- {type: copy, path: /a}", "[0].type", "'copy'", "`replace`, `remove` or `test`"),
        ("- {type: remove}", "[0].path", "", "a path such as /a/b"),
        ("- {type: remove, path: 1}", "[0].path", "a number", "a path such as /a/b"),
        ("- {type: remove, path: a}", "[0].path", "'a'", "a path that starts with /"),
        ("- {type: remove, path: /a, value: 1}", "[0].value", "", "a key of `remove`"),
        ("- {type: replace, path: /a}", "[0].value", "", "a value"),
        ("- {type: replace, path: /a, value: 1, vale: 2}", "[0].vale", "", "a key of `replace`"),
    ],
)
def test_what_is_no_operation_is_a_problem_with_its_place(ops: str, path: str, value: str, expected: str) -> None:
    """Each with file, line and what was expected."""
    operations, problems = read_ops(node(ops, "ops.yml"))
    assert operations == ()
    assert [(p.file, p.line, p.path, p.value, p.expected) for p in problems] == [("ops.yml", 1, path, value, expected)]


def test_everything_that_is_wrong_with_a_file_is_said_at_once() -> None:
    """And what is right is kept out, for it would be half."""
    operations, problems = read_ops(node("- x\n- {type: remove, path: /a}\n- {type: no}\n"))
    assert (len(operations), [problem.line for problem in problems]) == (1, [1, 3])
