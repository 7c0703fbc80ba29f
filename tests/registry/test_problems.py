"""Findings that a person can act on, and that give nothing away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.problems import Problem, did_you_mean, path_text, printable, render, show


def test_a_path_is_written_as_the_file_is_nested() -> None:
    """R271: the whole path, not only the last key."""
    where = ("mtls_domains", 1, "authorization", "config", "orgs")
    assert path_text(where) == "mtls_domains[1].authorization.config.orgs"


@pytest.mark.parametrize(
    ("value", "where", "expected"),
    [
        ("secret", ("nats", "pass"), "(hidden)"),
        ({"a": 1}, ("status", "pass"), "(hidden)"),
        ("nats://user:word@host", ("nats", "hosts"), "(hidden)"),
        ("-----BEGIN CERTIFICATE-----", ("ca_certs",), "(PEM text)"),
        ({"a": 1}, ("nats",), "(a mapping)"),
        ((1, 2), ("nats",), "(a list of 2)"),
        (True, ("port",), "true"),
        ("a\nb", ("port",), "'a\\nb'"),
        (None, ("port",), "(nothing)"),
    ],
)
def test_a_value_is_shown_escaped_and_never_when_secret(value: object, where: tuple[str, ...], expected: str) -> None:
    assert show(value, where) == expected


@given(st.text(), st.integers(1, 200))
def test_whatever_is_printed_is_bounded_ascii_without_control_characters(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= limit + 3


def test_a_finding_is_printed_with_all_its_parts() -> None:
    problem = Problem("x.yml", 3, "port", "'http'", "a valid integer", "write a number")
    assert render(problem, "error").splitlines() == [
        "x.yml:3: error: port",
        "    value:    'http'",
        "    expected: a valid integer",
        "    remedy:   write a number",
    ]


def test_the_nearest_name_is_asked_for_and_none_that_is_far() -> None:
    """Whatever the word holds: only names that are known are shown."""
    assert did_you_mean("prot", ["host", "port"]) == "did you mean `port`?"
    assert did_you_mean("zzz", ["host", "port"]) == did_you_mean("\x1b[2J" * 10_000, ["port"]) == did_you_mean("x", []) == ""
