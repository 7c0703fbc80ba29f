"""Variables of a manifest."""

import pytest

from router.bosh.document import plain
from router.bosh.variables import interpolate
from tests.router.bosh.parts import node

VALUES = {"port": 80, "on": True, "name": "x", "ca": {"certificate": "PEM", "keys": {"a": 1}}, "a.b": "dotted", "list": (1, 2)}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("((port))", 80),
        ("((!port))", 80),
        ("((ca.certificate))", "PEM"),
        ("((ca.keys))", {"a": 1}),
        ("((ca.keys.a))", 1),
        ("((a.b))", "dotted"),
        ("((list))", (1, 2)),
        ("*.((name)).example", "*.x.example"),
        ("((name)):((port))/((on))", "x:80/true"),
        ("((not a name))", "((not a name))"),
        ("(name)", "(name)"),
    ],
)
def test_a_variable_gives_way_to_its_value(text: str, value: object) -> None:
    """Alone of any kind, within a text as text."""
    done, problems = interpolate(node(f'k: ["{text}"]'), VALUES)
    assert (plain(done), problems) == ({"k": (value,)}, ())


@pytest.mark.parametrize(
    ("text", "said", "expected"),
    [
        ("((no))", "((no))", "a variable with a value"),
        ("a ((no)) b", "((no))", "a variable with a value"),
        ("((ca.no))", "((ca.no)); ((ca)) has certificate, keys", "a variable with a value"),
        ("((port.no))", "((port.no)); ((port)) holds no keys", "a variable with a value"),
        ("a ((list))", "((list)): a list", "a text, number or boolean within a longer text"),
    ],
)
def test_what_has_no_value_is_a_problem_where_it_stands(text: str, said: str, expected: str) -> None:
    """With the variables below it, never their values."""
    _, problems = interpolate(node(f'\nk:\n- "{text}"'), VALUES, ("properties",))
    assert [(p.line, p.path, p.value, p.expected) for p in problems] == [(3, "properties.k[0]", said, expected)]


def test_what_comes_from_a_variable_is_not_looked_at_again() -> None:
    """A password may hold two parentheses."""
    done, problems = interpolate(node("k: ((a))"), {"a": "((b))"})
    assert (plain(done), problems) == ({"k": "((b))"}, ())
