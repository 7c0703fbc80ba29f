"""Framing fields: one reading of a body's length, or a refusal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.framing import (
    CHUNKED,
    MAX_LENGTH,
    body_length,
    connection_tokens,
    keeps_alive,
    merge_repeated,
)
from router.wire.headers import Fields
from router.wire.malformed import Malformed


@pytest.mark.parametrize(
    ("known", "minor", "expected"),
    [
        ({}, 1, None),
        ({b"content-length": b"0"}, 1, 0),
        ({b"content-length": b"007"}, 0, 7),
        ({b"content-length": b"%d" % MAX_LENGTH}, 1, MAX_LENGTH),
        ({b"content-length": b"%d" % (MAX_LENGTH + 1)}, 1, Malformed("bad_content_length")),
        ({b"content-length": b"1_0"}, 1, Malformed("bad_content_length")),
        ({b"content-length": b""}, 1, Malformed("empty_content_length")),
        ({b"transfer-encoding": b"CHUNKED"}, 1, CHUNKED),
        ({b"transfer-encoding": b"chunked"}, 0, Malformed("transfer_coding_in_http10")),
        ({b"transfer-encoding": b"gzip, chunked"}, 1, Malformed("transfer_coding_unknown", 501)),
        ({b"transfer-encoding": b"gzip"}, 1, Malformed("bad_transfer_coding")),
        ({b"transfer-encoding": b"chunked", b"content-length": b"1"}, 1, Malformed("length_and_coding")),
    ],
)
def test_a_body_has_one_length(known: dict[bytes, bytes], minor: int, expected: int | Malformed | None) -> None:
    """Attacks 43 to 45."""
    assert expected == body_length(known, minor)


@given(st.binary(max_size=24))
def test_only_digits_are_a_length(value: bytes) -> None:
    """Attack 44: whatever is read as a number is that number, written in digits."""
    length = body_length({b"content-length": value}, 1)
    if not isinstance(length, Malformed):
        assert length is not None
        assert value.lstrip(b"0") == (b"%d" % length if length else b"")


@pytest.mark.parametrize(
    ("name", "status"),
    [(b"host", 400), (b"content-length", 400), (b"transfer-encoding", 400), (b"expect", 417)],
)
def test_a_framing_field_stands_once(name: bytes, status: int) -> None:
    """Equal duplicates are refused as well."""
    fields: Fields = [(name, b"1"), (name, b"1")]
    fault = merge_repeated(fields, dict(fields))
    assert fault is not None
    assert status == fault.status


def test_lists_are_joined_in_order_and_other_fields_left_alone() -> None:
    """Connection: a, then Connection: b, is Connection: a, b."""
    fields: Fields = [(b"connection", b"a"), (b"x", b"1"), (b"connection", b"b"), (b"x", b"2")]
    known = dict(fields)
    assert merge_repeated(fields, known) is None
    assert known == {b"connection": b"a, b", b"x": b"2"}


@pytest.mark.parametrize(
    ("value", "minor", "expected"),
    [
        (b"", 1, True), (b"keep-alive", 1, True), (b"Close", 1, False), (b"keep-alive, close", 1, False),
        (b"", 0, False), (b"Keep-Alive", 0, True), (b"x, keep-ALIVE", 0, True),
        (b"keep-alive, close", 0, False),
    ],
)  # fmt: skip
def test_a_connection_goes_on_by_version_and_token(value: bytes, minor: int, expected: bool) -> None:
    """RFC 9112 9.3."""
    tokens = connection_tokens(value)
    assert tokens is not None
    assert expected is keeps_alive(tokens, minor)
