"""Fields and trailers of HTTP/2, whoever sent them: the rules of RFC 9113 section 8.2, one a row."""

import pytest

from router.wire.http2_fields import field_fault, parse_trailers, size_of
from router.wire.http2_limits import Http2Limits
from router.wire.malformed import Malformed
from tests.support.http2 import Pairs

LIMITS = Http2Limits()
BAD_NAME, BAD_VALUE, CONNECTION_FIELD = Malformed("bad_field_name"), Malformed("bad_field_value"), Malformed("connection_field")
TWO: Pairs = [(b"a", b"b"), (b"a", b"\xe9 c")]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], None),
        (TWO, None),
        ([(b"a", b"")], None),
        ([(b"te", b"trailers"), (b"te", b"Trailers")], None),
        ([*TWO, (b"", b"x")], BAD_NAME),
        ([*TWO, (b"A", b"x")], BAD_NAME),
        ([*TWO, (b"a\nb", b"x")], BAD_NAME),
        ([(b"a\na", b"x"), (b"a\na", b"x")], BAD_NAME),
        ([*TWO, (b":status", b"200")], BAD_NAME),
        ([*TWO, (b"b", b"x\ny")], BAD_VALUE),
        ([*TWO, (b"b", b"x\r")], BAD_VALUE),
        ([*TWO, (b"b", b"\0")], BAD_VALUE),
        ([*TWO, (b"b", b"x\t")], BAD_VALUE),
        ([*TWO, (b"b", b" x")], BAD_VALUE),
        ([*TWO, (b"b", b" ")], BAD_VALUE),
        ([*TWO, (b"upgrade", b"x")], CONNECTION_FIELD),
        ([(b"te", b"trailers"), (b"te", b"gzip")], CONNECTION_FIELD),
    ],
)
def test_all_fields_of_a_message_are_judged(pairs: Pairs, expected: Malformed | None) -> None:
    """Attack 58: one of them is enough, also where two have the same name."""
    assert expected == field_fault(pairs, dict(pairs))


def test_the_size_of_fields_counts_more_than_their_text() -> None:
    """RFC 9113 6.5.2: 32 bytes for each."""
    assert size_of(TWO) == 2 * 32 + 2 + 1 + 3


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], []),
        ([(b"grpc-status", b"0"), (b"a", b"")], [(b"grpc-status", b"0"), (b"a", b"")]),
        ([(b"content-length", b"3"), (b"host", b"b"), (b"authorization", b"x"), (b"x-forwarded-for", b"y"), (b"a", b"b")],
         [(b"a", b"b")]),
        ([(b":path", b"/")], BAD_NAME),
        ([(b"A", b"b")], BAD_NAME),
        ([(b"a", b"b\r\n")], BAD_VALUE),
        ([(b"transfer-encoding", b"chunked")], CONNECTION_FIELD),
        ([(b"a", b"b" * 16_384)], Malformed("trailers_too_large", 431)),
        ([(b"a", b"b")] * 65, Malformed("too_many_trailers", 431)),
    ],
)  # fmt: skip
def test_trailers_are_what_may_be_one_and_no_pseudo_field_is(pairs: Pairs, expected: Pairs | Malformed) -> None:
    """RFC 9113 8.1; attack 48 by HTTP/2."""
    assert expected == parse_trailers(pairs, LIMITS)
