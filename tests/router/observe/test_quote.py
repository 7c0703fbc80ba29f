"""router/observe/quote.py: Go's quoting, for bytes that a peer chose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.observe.quote import escape, quote


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        (b"", '""'),
        (b"plain text/1.0", '"plain text/1.0"'),
        (b'a"b\\c', '"a\\"b\\\\c"'),
        (b"\a\b\f\n\r\t\v", '"\\a\\b\\f\\n\\r\\t\\v"'),
        (b"\x00\x1b\x7f", '"\\x00\\x1b\\x7f"'),
        (b"\xff\xc3", '"\\xff\\xc3"'),
        ("é€😀".encode(), '"é€😀"'),
        ("\u00a0\u00ad\u200b\u2028\ufeff".encode(), '"\\u00a0\\u00ad\\u200b\\u2028\\ufeff"'),
        ("\U000e0001\U0010ffff".encode(), '"\\U000e0001\\U0010ffff"'),
        ("\x85".encode(), '"\\u0085"'),
        ("\ufffd".encode(), '"\ufffd"'),
        (b"\xed\xa0\x80", '"\\xed\\xa0\\x80"'),
    ],
)
def test_quoting_is_gos(text: bytes, quoted: str) -> None:
    """Each expected text is what Go's strconv.Quote gives for these bytes."""
    assert quoted == quote(text).decode()


@given(st.binary(max_size=200))
def test_whatever_the_bytes_the_result_is_one_printable_line(text: bytes) -> None:
    """Nothing a peer sends can split a line, end a quoted field or be invalid UTF-8."""
    shown = escape(text).decode("utf-8", "strict")
    assert not [character for character in shown if not character.isprintable() and character != " "]
    assert '"' not in shown.replace("\\\\", "").replace('\\"', "")


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_different_bytes_look_different(one: bytes, other: bytes) -> None:
    """The log is exact: two texts never share a quoted form."""
    assert (one == other) == (quote(one) == quote(other))
