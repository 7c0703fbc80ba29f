"""Field lines: faults are found where they are, and what decides a message is no trailer."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.headers import (
    FIELD_LINES,
    HOP_BY_HOP,
    find_fault,
    loose_tokens,
    may_be_trailer,
    split_fields,
    token_list,
)
from router.wire.malformed import Malformed

BLOCK = re.compile(FIELD_LINES)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"", []),
        (b"A:b\r\n", [(b"a", b"b")]),
        (b"A: \t b c\t \r\nB:\r\nC:   \r\n", [(b"a", b"b c"), (b"b", b""), (b"c", b"")]),
        (b"X: a:b\r\nx: 2\r\n", [(b"x", b"a:b"), (b"x", b"2")]),
        (b"N: Zo\xeb\r\n", [(b"n", b"Zo\xeb")]),
    ],
)
def test_a_block_is_split_into_lower_case_names_and_trimmed_values(block: bytes, expected: list[tuple[bytes, bytes]]) -> None:
    """Order and duplicates stay; nothing else of a value changes."""
    assert BLOCK.fullmatch(block)
    assert expected == split_fields(block)


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        (b"line\r\nA: b\n", "bare_lf"),
        (b"li\nne", "bare_lf"),
        (b"line\r\nA: b\rC", "bare_cr"),
        (b"line\r\nA: b\r\r", "bare_cr"),
        (b"line\r\nA: b\r\n c", "folded_line"),
        (b"line\r\nA: \0", "control_byte"),
        (b"line\r\nA: \x7f", "control_byte"),
        (b"line\r\nA : b\r\n", "bad_field_name"),
        (b"line\r\n: b\r\n", "bad_field_name"),
        (b"line\r\nA b\r\n", "bad_field_name"),
        (b"line\r\nA b\r\nC: \0", "bad_field_name"),
    ],
)
def test_the_first_fault_is_named_before_the_section_is_complete(section: bytes, reason: str) -> None:
    """Attacks 38 and 49: whole, and byte by byte with what was already searched."""
    assert Malformed(reason) == find_fault(section, 0)
    steps = [find_fault(section[: end + 1], end) for end in range(len(section))]
    assert Malformed(reason) == next(step for step in steps if step is not None)


@pytest.mark.parametrize("section", [b"", b"line", b"line\r", b"line\r\n", b"line\r\nA", b"line\r\nA: b\r\nC: d\r"])
def test_a_beginning_of_a_valid_section_has_no_fault(section: bytes) -> None:
    """A CR at the very end may still get its LF."""
    assert find_fault(section, 0) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", set()),
        (b"close", {b"close"}),
        (b"Keep-Alive, Upgrade", {b"keep-alive", b"upgrade"}),
        (b", ,a ,\tb,,", {b"a", b"b"}),
        (b"a b", None),
        (b'"a"', None),
        (b"a;q=1", None),
        (b"a\xe9", None),
    ],
)
def test_a_token_list_is_its_tokens_or_nothing(value: bytes, expected: set[bytes] | None) -> None:
    """RFC 9110 5.6.1: empty elements do not count; one bad element spoils the list."""
    assert expected == token_list(value)


def test_loose_tokens_hold_all_that_any_reader_could_take_for_one() -> None:
    """What a sloppy Connection field names is still removed."""
    assert {b"keep-alive", b"timeout", b"5"} == loose_tokens(b"Keep-Alive; timeout=5")


@pytest.mark.parametrize(
    "name",
    [
        *sorted(HOP_BY_HOP),
        b"content-length", b"host", b"authorization", b"cookie", b"set-cookie", b"content-type", b"expect",
        b"x-forwarded-client-cert", b"x-forwarded-for", b"x_forwarded_client_cert", b"x-forwarded_proto",
        b"client-cert", b"client-cert-chain", b"x-ssl-client-verify", b"x-cf-app-instance",
        b"x-cf-proxy-signature",
        b"x-vcap-request-id", b"x-b3-traceid", b"traceparent", b"forwarded",
        b"content_length", b"transfer_encoding",
    ],
)  # fmt: skip
def test_what_decides_a_message_is_not_heard_as_a_trailer(name: bytes) -> None:
    """Attacks 38 and 48, RFC 9110 6.5.1; look-alikes with an underscore too."""
    assert not may_be_trailer(name)


@pytest.mark.parametrize("name", [b"grpc-status", b"grpc-message", b"server-timing", b"x-checksum", b"etag", b"x_sum"])
def test_what_describes_the_end_is_a_trailer(name: bytes) -> None:
    """gRPC and checksums live from them."""
    assert may_be_trailer(name)


@given(st.binary(max_size=60), st.integers(0, 60))
def test_any_bytes_are_judged_without_raising(data: bytes, searched: int) -> None:
    """No input of a peer raises here."""
    find_fault(data, min(searched, len(data)))
    token_list(data)
    may_be_trailer(data)
