"""Tests of registry/hostname.py: one spelling for each host."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.hostname import canonical, canonical_pattern, covers

LABEL = st.text(st.sampled_from("abcXYZ019-_"), min_size=1, max_size=6)
SPELLED = st.one_of(
    st.text(max_size=300),
    st.lists(LABEL, min_size=1, max_size=5).map(".".join),
    st.text(st.characters(min_codepoint=0x80, max_codepoint=0x30FF) | st.sampled_from("a.-"), max_size=20),
    st.text(st.sampled_from("[]:.0123456789abcdefx%"), max_size=20),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.Com", "example.com"),
        ("example.com.", "example.com"),
        ("localhost", "localhost"),
        ("my_app-.example.com", "my_app-.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example.", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("_dmarc.bücher.example", "_dmarc.xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("app。example", "app.example"),
        ("１２７.0.0.1", "127.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1.", "10.0.0.1"),
        ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
        ("[::1]", "[::1]"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_spellings_of_one_host_become_one_name(name: str, expected: str) -> None:
    """Case, one trailing dot, Unicode and IPv6 zeros make no difference."""
    assert expected == canonical(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".example.com",
        "example..com",
        "example.com..",
        "example.com:80",
        "exa mple.com",
        "example.com/path",
        "user@example.com",
        "example.com\n",
        "*.example.com",
        "a" * 64 + ".example",
        ".".join(["a" * 49] * 6),
        "256.0.0.1",
        "1.2.3",
        "01.2.3.4",
        "example.42",
        "::1",
        "[::1",
        "[::1]:80",
        "[fe80::1%eth0]",
        "[10.0.0.1]",
        "xn--\N{SNOWMAN}.example",
        "a\N{ZERO WIDTH SPACE}.\ud800",
    ],
)
def test_what_is_no_host_has_no_name(name: str) -> None:
    """A port, a path, an empty or long label, a number that is no address, or an unfinished literal: None."""
    assert canonical(name) is None


def test_the_longest_name_is_253_characters() -> None:
    """RFC 1035: 253 with or without the trailing dot, no more."""
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    assert (longest, longest, None) == (
        canonical(longest),
        canonical(longest + "."),
        canonical("x" + longest),
    )


@given(SPELLED)
def test_a_canonical_name_is_its_own_name(name: str) -> None:
    """Idempotent, whatever was sent; never raises; bounded; ASCII."""
    once = canonical(name)
    if once is not None:
        assert once == canonical(once)
        assert once.isascii()
        assert len(once) <= 253


@given(st.lists(LABEL, min_size=1, max_size=5).map(".".join))
def test_case_and_the_last_dot_never_matter(name: str) -> None:
    """No spelling of a host is another host."""
    assert canonical(name) == canonical(name.upper()) == canonical(name.lower() + ".")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("*.Example.com.", "*.example.com"),
        ("*.com", "*.com"),
        ("App.example.com", "app.example.com"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("*", None),
        ("*.", None),
        ("*.*.com", None),
        ("a*.com", None),
        ("a.*.com", None),
        ("*.10.0.0.1", None),
        ("*.[::1]", None),
        ("*." + ".".join(["a" * 63] * 3 + ["b" * 60]), None),
    ],
)
def test_a_pattern_is_a_host_or_a_star_as_the_whole_first_label(name: str, expected: str | None) -> None:
    """`*.suffix` has the suffix's canonical form; an address has no subdomains."""
    assert expected == canonical_pattern(name)


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("a.example", "a.example", True),
        ("a.example", "b.a.example", False),
        ("*.a.example", "b.a.example", True),
        ("*.a.example", "c.b.a.example", True),
        ("*.a.example", "*.b.a.example", True),
        ("*.a.example", "*.a.example", True),
        ("*.a.example", "a.example", False),
        ("*.a.example", "ba.example", False),
        ("a.example", "*.a.example", False),
    ],
)
def test_a_pattern_covers_what_lies_below_it(pattern: str, host: str, expected: bool) -> None:
    """At any depth, never its bare suffix."""
    assert expected == covers(pattern, host)


@given(st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,4}){2,4}", fullmatch=True))
def test_numbers_and_dots_are_an_ipv4_address_or_nothing(text: str) -> None:
    """As the standard library reads addresses; no leading zero, no octal, nothing above 255."""
    try:
        expected: str | None = str(ipaddress.IPv4Address(text))
    except ValueError:
        expected = None
    assert canonical(text) == expected
