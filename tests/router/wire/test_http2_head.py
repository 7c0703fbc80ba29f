"""Heads of HTTP/2 requests: the rules of RFC 9113 section 8, one a row."""

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from router.wire.http1 import CHUNKED, NO_BODY, HeadLimits, RequestHead, parse_request_head, render_request_head
from router.wire.http2_head import HeadReader, parse_request
from router.wire.http2_limits import Http2Limits
from router.wire.malformed import Malformed
from tests.support.http2 import GET, POST, Pairs, literal

LIMITS = Http2Limits()
BAD_PSEUDO, BAD_NAME, BAD_VALUE = Malformed("bad_pseudo_field"), Malformed("bad_field_name"), Malformed("bad_field_value")
CONNECTION_FIELD, MISSING, BAD_TARGET = Malformed("connection_field"), Malformed("pseudo_field_missing"), Malformed("bad_target")


def parse(pairs: Pairs, *, ended: bool = True) -> RequestHead | Malformed:
    return parse_request(pairs, LIMITS, ended=ended)


def good(pairs: Pairs, *, ended: bool = True) -> RequestHead:
    head = parse(pairs, ended=ended)
    assert isinstance(head, RequestHead), head
    return head


def with_field(name: bytes, value: bytes) -> Pairs:
    return [*GET, (name, value)]


def with_pseudo(name: bytes, value: bytes | None) -> Pairs:
    return [(key, value if key == name else old) for key, old in GET if key != name or value is not None]  # type: ignore[misc]


def test_all_of_a_request_is_read() -> None:
    """As HTTP/1.1 would have it: Host first, pseudo-fields gone, cookies in one piece."""
    pairs = [
        *POST, (b"x-a", b"1"), (b"cookie", b"a=b"), (b"content-length", b"3"), (b"expect", b"100-continue"),
        (b"cookie", b"c=d"), (b"x-a", b"2"), (b"te", b"trailers"),
    ]  # fmt: skip
    expected = RequestHead(
        method=b"POST", target=b"/", minor=1,
        fields=[
            (b"host", b"a.example"), (b"x-a", b"1"), (b"cookie", b"a=b; c=d"), (b"content-length", b"3"),
            (b"expect", b"100-continue"), (b"x-a", b"2"), (b"te", b"trailers"),
        ],
        host=b"a.example", body=3, keep_alive=True, expect_continue=True, connection=frozenset(), upgrade=None, size=0,
    )  # fmt: skip
    assert expected == good(pairs, ended=False)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        # 8.2.1: names
        (with_field(b"X-A", b"b"), BAD_NAME),
        (with_field(b"", b"b"), BAD_NAME),
        (with_field(b"a b", b"b"), BAD_NAME),
        (with_field(b"a:b", b"b"), BAD_NAME),
        (with_field(b"a\r\nb", b"b"), BAD_NAME),
        (with_field(b"a\nb", b"b"), BAD_NAME),
        (with_field(b"a\0", b"b"), BAD_NAME),
        (with_field(b"a\x7f", b"b"), BAD_NAME),
        (with_field(b"\xe9", b"b"), BAD_NAME),
        # 8.2.1: values
        (with_field(b"a", b"b\r\nc: d"), BAD_VALUE),
        (with_field(b"a", b"b\nc"), BAD_VALUE),
        (with_field(b"a", b"b\n"), BAD_VALUE),
        (with_field(b"a", b"b\rc"), BAD_VALUE),
        (with_field(b"a", b"b\0c"), BAD_VALUE),
        (with_field(b"a", b"\x01"), BAD_VALUE),
        (with_field(b"a", b"\x7f"), BAD_VALUE),
        (with_field(b"a", b" b"), BAD_VALUE),
        (with_field(b"a", b"b "), BAD_VALUE),
        (with_field(b"a", b"\tb"), BAD_VALUE),
        (with_field(b"a", b"b\t"), BAD_VALUE),
        (with_field(b"a", b" "), BAD_VALUE),
        # 8.2.2: fields that belong to a connection
        (with_field(b"connection", b"close"), CONNECTION_FIELD),
        (with_field(b"keep-alive", b"1"), CONNECTION_FIELD),
        (with_field(b"proxy-connection", b"close"), CONNECTION_FIELD),
        (with_field(b"transfer-encoding", b"chunked"), CONNECTION_FIELD),
        (with_field(b"upgrade", b"websocket"), CONNECTION_FIELD),
        (with_field(b"te", b"gzip"), CONNECTION_FIELD),
        (with_field(b"te", b"trailers, gzip"), CONNECTION_FIELD),
        (with_field(b"te", b""), CONNECTION_FIELD),
        ([*GET, (b"te", b"gzip"), (b"te", b"trailers")], CONNECTION_FIELD),
        # 8.3: pseudo-fields
        ([*GET[:1], (b"a", b"b"), *GET[1:]], BAD_PSEUDO),
        (with_field(b":path", b"/"), BAD_PSEUDO),
        ([*GET[:2], *GET[1:]], BAD_PSEUDO),
        ([*GET, (b":status", b"200")], BAD_PSEUDO),
        ([*GET, (b":", b"200")], BAD_PSEUDO),
        ([*GET, (b":Path", b"/")], BAD_PSEUDO),
        (with_pseudo(b":method", None), MISSING),
        (with_pseudo(b":scheme", None), MISSING),
        (with_pseudo(b":path", None), MISSING),
        ([], Malformed("host_missing")),
        (with_pseudo(b":method", b""), Malformed("bad_method")),
        (with_pseudo(b":method", b"GET "), Malformed("bad_method")),
        (with_pseudo(b":method", b"GET / HTTP/1.1\r\na:"), Malformed("bad_method")),
        (with_pseudo(b":method", b"G\0T"), Malformed("bad_method")),
        (with_pseudo(b":scheme", b""), Malformed("bad_scheme")),
        (with_pseudo(b":scheme", b"ftp"), Malformed("bad_scheme")),
        (with_pseudo(b":scheme", b"https\r\n"), Malformed("bad_scheme")),
        (with_pseudo(b":path", b""), BAD_TARGET),
        (with_pseudo(b":path", b"a"), BAD_TARGET),
        (with_pseudo(b":path", b"*"), BAD_TARGET),
        (with_pseudo(b":path", b"http://b.example/"), BAD_TARGET),
        (with_pseudo(b":path", b"/ HTTP/1.1\r\na: b"), BAD_TARGET),
        (with_pseudo(b":path", b"/a b"), BAD_TARGET),
        (with_pseudo(b":path", b"/#a"), BAD_TARGET),
        (with_pseudo(b":path", b"/\xe9"), BAD_TARGET),
        (with_pseudo(b":path", b"/\t"), BAD_TARGET),
        (with_pseudo(b":authority", b"user@a.example"), Malformed("bad_authority")),
        (with_pseudo(b":authority", b"a.example\r\nb: c"), BAD_VALUE),
        (with_pseudo(b":authority", b" a.example"), BAD_VALUE),
        (with_pseudo(b":authority", None), Malformed("host_missing")),
        # 8.3.1 and attack 60: one host
        (with_field(b"host", b"b.example"), Malformed("host_mismatch")),
        (with_field(b"host", b"a.example:443"), Malformed("host_mismatch")),
        (with_field(b"host", b""), Malformed("host_mismatch")),
        ([*GET, (b"host", b"a.example"), (b"host", b"a.example")], Malformed("host_repeated")),
        ([*with_pseudo(b":authority", None), (b"host", b"u@a.example")], Malformed("bad_authority")),
        # 8.5: CONNECT
        ([(b":method", b"CONNECT"), *GET[1:]], Malformed("bad_connect")),
        ([(b":method", b"CONNECT"), (b":scheme", b"https"), GET[3]], Malformed("bad_connect")),
        ([(b":method", b"CONNECT"), (b"host", b"a.example")], Malformed("bad_connect")),
        ([(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]], BAD_PSEUDO),
        # 8.1.1 and attack 61: lengths, by the rules of HTTP/1.1
        (with_field(b"content-length", b"1"), Malformed("content_length_mismatch")),
        (with_field(b"content-length", b"+1"), Malformed("bad_content_length")),
        (with_field(b"content-length", b"1, 1"), Malformed("bad_content_length")),
        (with_field(b"content-length", b""), Malformed("empty_content_length")),
        ([*GET, (b"content-length", b"0"), (b"content-length", b"0")], Malformed("content_length_repeated")),
        # RFC 9110 10.1.1
        (with_field(b"expect", b"200-ok"), Malformed("expectation_unknown", 417)),
        ([*GET, (b"expect", b"100-continue"), (b"expect", b"100-continue")], Malformed("expectation_unknown", 417)),
    ],
)  # fmt: skip
def test_a_malformed_request_is_refused_with_its_reason(pairs: Pairs, expected: Malformed) -> None:
    """Attacks 58 to 61 and 69 (the wire's part)."""
    assert expected == parse(pairs)


@pytest.mark.parametrize(
    ("pairs", "ended", "expected"),
    [
        (GET, True, (b"GET", b"/", b"a.example", NO_BODY)),
        (POST, False, (b"POST", b"/", b"a.example", CHUNKED)),
        ([*POST, (b"content-length", b"9")], False, (b"POST", b"/", b"a.example", 9)),
        ([*POST, (b"content-length", b"0")], False, (b"POST", b"/", b"a.example", NO_BODY)),
        ([*POST, (b"content-length", b"0")], True, (b"POST", b"/", b"a.example", NO_BODY)),
        (with_pseudo(b":path", b"/%7Ea?b={}|\\^`\"<>"), True, (b"GET", b"/%7Ea?b={}|\\^`\"<>", b"a.example", NO_BODY)),
        (with_pseudo(b":path", b"//b.example/"), True, (b"GET", b"//b.example/", b"a.example", NO_BODY)),
        (with_pseudo(b":scheme", b"http"), True, (b"GET", b"/", b"a.example", NO_BODY)),
        ([(b":method", b"OPTIONS"), (b":path", b"*"), *GET[1:2], GET[3]], True, (b"OPTIONS", b"*", b"a.example", NO_BODY)),
        ([(b":method", b"CONNECT"), (b":authority", b"a:443")], False, (b"CONNECT", b"a:443", b"a:443", CHUNKED)),
        ([*GET[:3], (b"host", b"A.example")], True, (b"GET", b"/", b"A.example", NO_BODY)),
        ([*GET, (b"host", b"A.EXAMPLE")], True, (b"GET", b"/", b"a.example", NO_BODY)),
        (with_pseudo(b":authority", b""), True, (b"GET", b"/", b"", NO_BODY)),
        (with_field(b"te", b"Trailers"), True, (b"GET", b"/", b"a.example", NO_BODY)),
        (with_field(b"expect", b"100-Continue"), True, (b"GET", b"/", b"a.example", NO_BODY)),
        (with_field(b"a", b"b\tc \xe9"), True, (b"GET", b"/", b"a.example", NO_BODY)),
    ],
)  # fmt: skip
def test_method_target_host_and_body_follow_from_a_head(
    pairs: Pairs, ended: bool, expected: tuple[bytes, bytes, bytes, int]
) -> None:
    """An empty host, and CONNECT, are for the router to refuse; Host comes first and once."""
    head = good(pairs, ended=ended)
    assert expected == (head.method, head.target, head.host, head.body)
    assert head.fields[0] == (b"host", head.host)
    assert [name for name, _ in head.fields].count(b"host") == 1


def test_nobody_waits_for_100_when_there_is_no_body() -> None:
    """RFC 9110 10.1.1."""
    asked = [*POST, (b"expect", b"100-continue")]
    assert good(asked, ended=False).expect_continue
    assert not good(asked, ended=True).expect_continue


def test_a_head_may_have_exactly_its_limits_and_not_a_byte_or_field_more() -> None:
    """Attack 52: 32 bytes a field count, pseudo-fields too; Host counts as a field."""
    pairs = [*GET, (b"a", b"b"), (b"c", b"d")]
    size = sum(32 + len(name) + len(value) for name, value in pairs)
    assert isinstance(parse_request(pairs, LIMITS._replace(max_head_bytes=size, max_fields=3), ended=True), RequestHead)
    assert parse_request(pairs, LIMITS._replace(max_head_bytes=size - 1), ended=True) == Malformed("head_too_large", 431)
    assert parse_request(pairs, LIMITS._replace(max_fields=2), ended=True) == Malformed("too_many_fields", 431)


TEXTS = st.text("!#az09-", min_size=1, max_size=9).map(str.encode)
VALUES = st.binary(max_size=12).map(lambda raw: bytes(byte for byte in raw if byte >= 32 and byte != 127).strip(b" "))
TARGETS = st.binary(max_size=12).map(lambda raw: b"/" + bytes(byte for byte in raw if 33 <= byte < 127 and byte != 35))


@given(TEXTS, TARGETS, st.lists(st.tuples(TEXTS.map(lambda name: b"x-" + name), VALUES), max_size=6))
def test_a_good_head_reads_as_the_same_head_of_http_1_1(method: bytes, target: bytes, fields: Pairs) -> None:
    """What goes on to a backend as HTTP/1.1 means there what it meant here."""
    pairs = [(b":method", method), (b":scheme", b"https"), (b":authority", b"a"), (b":path", target), *fields]
    head = good(pairs)
    again = parse_request_head(render_request_head(head.method, head.target, head.fields), HeadLimits(1 << 20, 100))
    assert isinstance(again, RequestHead)
    assert head == again._replace(size=0)


@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=5), st.booleans(), st.booleans())
def test_what_is_read_never_breaks_out_of_its_line(pairs: Pairs, ended: bool, framed: bool) -> None:
    """Attack 58: any bytes, behind a good beginning or alone."""
    head = parse([*GET, *pairs] if framed else pairs, ended=ended)
    if isinstance(head, RequestHead):
        again = parse_request_head(render_request_head(head.method, head.target, head.fields), HeadLimits(1 << 20, 100))
        assert isinstance(again, RequestHead)
        assert (head.method, head.target, head.fields) == (again.method, again.target, again.fields)


def test_a_block_that_changes_nothing_is_read_once() -> None:
    """The same head, until the table changes; with and without a body apart."""
    encoder, reader = Encoder(), HeadReader(LIMITS)
    first, block, other = encoder.encode(GET), encoder.encode(GET), encoder.encode([*GET, (b"a", b"b")])
    assert reader.request(first, ended=True) == good(GET)
    kept = reader.request(block, ended=True)
    assert kept is reader.request(block, ended=True)
    without = reader.request(block, ended=False)
    assert isinstance(without, RequestHead)
    assert without.body == CHUNKED
    assert kept is reader.request(block, ended=True)
    reader.request(other, ended=True)
    assert kept is not reader.request(encoder.encode(GET), ended=True)


def test_the_same_bytes_mean_what_the_table_says_now() -> None:
    """A stale head would be a request to another host."""
    reader = HeadReader(LIMITS)
    short = b"\x82\x87\x84\xbe"  # GET https / and whatever stands first in the table
    hosts = []
    for host in (b"a.example", b"b.example"):
        reader.request(b"\x82\x87\x84\x41" + bytes((len(host),)) + host, ended=True)
        for _ in range(3):
            head = reader.request(short, ended=True)
            assert isinstance(head, RequestHead)
            hosts.append(head.host)
    assert hosts == [b"a.example"] * 3 + [b"b.example"] * 3
    assert reader.skip(b"\x41\x01c") is None
    head = reader.request(short, ended=True)
    assert isinstance(head, RequestHead)
    assert head.host == b"c"
    assert reader.trailers(b"\x20") == []
    assert not isinstance(reader.request(short, ended=True), RequestHead)


def test_what_is_kept_of_a_connection_is_bounded() -> None:
    """Blocks without end, each of them another."""
    reader = HeadReader(LIMITS)
    for number in range(200):
        assert isinstance(reader.request(literal(with_pseudo(b":path", b"/%d" % number)), ended=True), RequestHead)
        assert len(reader._kept) <= 16
    large = literal([*GET, (b"a", b"b" * 20_000)])
    reader.request(large, ended=True)
    assert (large, True) not in reader._kept
    for number in range(20):
        reader.request(literal([*GET, (b"a", b"%d" % number * 3_000)]), ended=True)
        assert sum(len(block) for block, _ in reader._kept) <= 16_384


def test_no_operator_makes_heads_boundless() -> None:
    """1 MiB, and twice as much of a block."""
    assert HeadReader(LIMITS._replace(max_head_bytes=2**63 - 1)).max_block_bytes == 2 << 20
