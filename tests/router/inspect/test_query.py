"""router/inspect/query.py: what may be asked, and how a question is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.inspect.query import MAX_QUERY, MAX_VALUE, BadQuery, read_guid, read_host, read_query

KNOWN = ("host", "app")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/p", {}),
        (b"/p?", {}),
        (b"/p?host=a.example", {"host": "a.example"}),
        (b"/p?host=b%C3%BCcher.example&app=a+b", {"host": "bücher.example", "app": "a b"}),
        (b"/p?host=a?b", {"host": "a?b"}),
    ],
)
def test_parameters_are_read(target: bytes, expected: dict[str, str]) -> None:
    assert expected == read_query(target, KNOWN)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (b"/p?x=1", "parameter 'x' is not known; expected host, app"),
        (b"/p?host=a&host=b", "parameter host comes twice"),
        (b"/p?host", "parameter host has 0 characters"),
        (b"/p?host=" + b"a" * (MAX_VALUE + 1), f"parameter host has {MAX_VALUE + 1} characters"),
        (b"/p?" + b"a" * (MAX_QUERY + 1), f"the query has {MAX_QUERY + 1} bytes"),
        (b"/p?host=%ff", "is no parameter; expected name=value in UTF-8"),
        (b"/p?host=a=b", "is no parameter"),
        (b"/p?&", "parameter '' is not known"),
        (b"/p?\x1b[2J=x", r"parameter '\x1b[2J' is not known"),
    ],
)
def test_what_is_not_understood_is_said_in_a_sentence(target: bytes, why: str) -> None:
    found = read_query(target, KNOWN)
    assert isinstance(found, BadQuery)
    assert why in found.why


def test_where_nothing_may_be_asked_it_says_so() -> None:
    assert read_query(b"/p?x=1", ()) == BadQuery("parameter 'x' is not known; expected none")


@given(st.binary(max_size=200))
def test_whatever_comes_there_is_an_answer(query: bytes) -> None:
    """Attack 79: nothing raises; a refusal is one bounded line of printable ASCII."""
    found = read_query(b"/p?" + query, KNOWN)
    if isinstance(found, BadQuery):
        assert len(found.why) < 400
        assert found.why.isascii()
        assert found.why.isprintable()
    else:
        assert set(found) <= set(KNOWN)


@given(st.text(max_size=100))
def test_hosts_and_guids_are_canonical_or_refused(text: str) -> None:
    host, guid = read_host(text), read_guid("app", text)
    assert isinstance(host, BadQuery) or host == read_host(host)
    assert isinstance(guid, BadQuery) or guid == text
    assert all(one.why.isascii() and one.why.isprintable() for one in (host, guid) if isinstance(one, BadQuery))


def test_a_pattern_is_a_host_too() -> None:
    assert read_host("*.A.Example.") == "*.a.example"
    assert isinstance(read_host("a.*.example"), BadQuery)
