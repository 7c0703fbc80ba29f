"""The security group of the routers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.bosh.document import Node
from router.bosh.security_group import destination_of, security_group


def test_each_address_has_one_rule() -> None:
    """R289: TCP to the router's port, each address once."""
    rules, problems = security_group([Node(text, "d.yml", 1) for text in ("10.0.1.5", "10.0.1.5", "10.0.2.0/24")], 443)
    about = "apps to the router's mTLS domains"
    assert problems == ()
    assert rules == [
        {"protocol": "tcp", "destination": "10.0.1.5", "ports": "443", "description": about},
        {"protocol": "tcp", "destination": "10.0.2.0/24", "ports": "443", "description": about},
    ]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.0.1.5 - 10.0.1.9", "10.0.1.5-10.0.1.9"),
        ("10.0.1.5-10.0.1.5", "10.0.1.5-10.0.1.5"),
        ("2001:DB8::1", "2001:db8::1"),
        ("10.0.1.9-10.0.1.5", None),
        ("10.0.1.5-::1", None),
        ("10.0.1.5/24", None),
        ("10.0.1", None),
        ("router.example", None),
        ("", None),
        (5, None),
    ],
)
def test_an_address_has_one_form(text: object, canonical: str | None) -> None:
    """A network with host bits is a mistake, not a network."""
    assert destination_of(text) == canonical


def test_what_is_no_address_is_a_problem_with_its_place() -> None:
    """And the others are still told."""
    rules, (problem,) = security_group([Node("x", "d.yml", 7), Node("10.0.1.5", "d.yml", 8)], 443)
    assert (len(rules), problem.file, problem.line, problem.value) == (1, "d.yml", 7, "'x'")


@given(st.text(max_size=40))
def test_no_text_raises(text: str) -> None:
    """And what has a form keeps it."""
    found = destination_of(text)
    assert found is None or destination_of(found) == found
