"""HTTP/1.x heads: the good are read, the bad refused early, in any pieces; rendering is parsing backwards."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.http1 import (
    CHUNKED,
    NO_BODY,
    UNTIL_CLOSE,
    Fields,
    HeadLimits,
    HeadMemory,
    Malformed,
    RequestHead,
    ResponseHead,
    parse_request_head,
    parse_response_head,
    render_request_head,
    render_response_head,
)

FIXTURES = Path(__file__).parents[3] / "fixtures" / "http"
LIMITS = HeadLimits(16 * 1024, 100)
WIDE = HeadLimits(1 << 20, 100)


def named(pattern: str) -> list[Path]:
    found = sorted(FIXTURES.glob(pattern))
    assert found, f"no fixture matches {pattern}"
    return found


def request(data: bytes, limits: HeadLimits = LIMITS) -> RequestHead:
    head = parse_request_head(data, limits)
    assert isinstance(head, RequestHead), head
    return head


def response(data: bytes, method: bytes = b"GET") -> ResponseHead:
    head = parse_response_head(data, LIMITS, method)
    assert isinstance(head, ResponseHead), head
    return head


def good_request(name: str) -> RequestHead:
    return request((FIXTURES / "good" / f"request-{name}.http").read_bytes())


def good_response(name: str, method: bytes = b"GET") -> ResponseHead:
    return response((FIXTURES / "good" / f"response-{name}.http").read_bytes(), method)


def request_in_pieces(data: bytes, pieces: list[bytes]) -> RequestHead | Malformed | None:
    """What a reader of a socket gets: bytes are added, the parser is told how many it has seen."""
    arrived, searched = bytearray(), 0
    for piece in pieces:
        arrived += piece
        head = parse_request_head(arrived, LIMITS, searched)
        if head is not None:
            return head
        searched = len(arrived)
    return None


def one_by_one(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("path", named("good/request-*"), ids=lambda path: path.stem)
def test_a_good_request_is_read_the_same_in_any_pieces(path: Path) -> None:
    """Whole, byte by byte, and cut once anywhere; each beginning of its head asks for more."""
    data = path.read_bytes()
    whole = request(data)
    assert whole == request(data[: whole.size])
    assert whole == request_in_pieces(data, one_by_one(data))
    for cut in range(whole.size):
        assert parse_request_head(data[:cut], LIMITS) is None
        assert whole == parse_request_head(data, LIMITS, cut)


@pytest.mark.parametrize("path", named("bad/request-*"), ids=lambda path: path.stem)
def test_a_bad_request_is_refused_with_its_status_and_reason(path: Path) -> None:
    """Attacks 38, 43 to 45, 49 to 53 (the wire's part): the same whole and byte by byte."""
    _, status, reason = path.name.split(".")[0].split("-", 2)
    data = path.read_bytes()
    assert Malformed(reason, int(status)) == parse_request_head(data, LIMITS)
    assert Malformed(reason, int(status)) == request_in_pieces(data, one_by_one(data))


@pytest.mark.parametrize("path", named("good/response-*"), ids=lambda path: path.stem)
def test_a_good_response_is_read_the_same_in_any_pieces(path: Path) -> None:
    """As for requests."""
    data = path.read_bytes()
    whole = response(data)
    for cut in range(whole.size):
        assert parse_response_head(data[:cut], LIMITS, b"GET") is None
        assert whole == parse_response_head(bytearray(data), LIMITS, b"GET", cut)


@pytest.mark.parametrize("path", named("bad/response-*"), ids=lambda path: path.stem)
def test_a_bad_response_is_refused_with_its_reason(path: Path) -> None:
    """Attack 55 (the wire's part): always 502 for the client."""
    _, status, reason = path.name.split(".")[0].split("-", 2)
    assert Malformed(reason, int(status)) == parse_response_head(path.read_bytes(), LIMITS, b"GET")


def test_all_of_a_request_head_is_read() -> None:
    """Every part of the value, once."""
    data = (
        b"POST /a?b HTTP/1.1\r\nHost: X.example\r\nContent-Length: 3\r\nExpect: 100-continue\r\n"
        b"Connection: Upgrade, X-Hop\r\nUPGRADE: websocket\r\nX-A: 1\r\nx-a: 2\r\n\r\nabcGET"
    )
    expected = RequestHead(
        method=b"POST", target=b"/a?b", minor=1,
        fields=[
            (b"host", b"X.example"), (b"content-length", b"3"), (b"expect", b"100-continue"),
            (b"connection", b"Upgrade, X-Hop"), (b"upgrade", b"websocket"), (b"x-a", b"1"), (b"x-a", b"2"),
        ],
        host=b"X.example", body=3, keep_alive=True, expect_continue=True,
        connection=frozenset({b"upgrade", b"x-hop"}), upgrade=b"websocket", size=len(data) - 6,
    )  # fmt: skip
    assert expected == request(data)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("get", (b"app.example.com", NO_BODY, True)),
        ("post-content-length", (b"app.example.com", 5, True)),
        ("post-chunked", (b"app.example.com", CHUNKED, True)),
        ("largest-content-length", (b"app.example.com", 2**63 - 1, True)),
        ("http10-without-host", (None, NO_BODY, False)),
        ("http10-keep-alive", (b"app.example.com", NO_BODY, True)),
        ("empty-host", (b"", NO_BODY, True)),
        ("connection-empty-elements", (b"app.example.com", NO_BODY, False)),
    ],
)
def test_host_body_and_persistence_follow_from_the_fields(name: str, expected: tuple[bytes | None, int, bool]) -> None:
    """RFC 9112 3.2, 6.3 and 9.3; an empty Host is for the router to refuse."""
    head = good_request(name)
    assert expected == (head.host, head.body, head.keep_alive)


def test_blanks_around_a_value_are_no_part_of_it_and_bytes_in_it_stay() -> None:
    """No decoding, no repair."""
    assert good_request("blanks-around-values").fields[1:] == [
        (b"a", b"b"), (b"c", b"d"), (b"e", b""), (b"f", b""),
    ]  # fmt: skip
    assert good_request("obs-text-value").fields[1:] == [(b"x-name", b"Zo\xeb \xc3\xa9")]
    assert good_request("odd-target").target == b'/%7Euser/%zz?q=[]{}|\\^`"<>'


def test_an_upgrade_counts_only_when_connection_names_it_and_not_in_http_1_0() -> None:
    """RFC 9110 7.8."""
    fields = b"Host: a\r\nUpgrade: websocket\r\n"
    assert request(b"GET / HTTP/1.1\r\n" + fields + b"\r\n").upgrade is None
    assert request(b"GET / HTTP/1.0\r\n" + fields + b"Connection: upgrade\r\n\r\n").upgrade is None
    assert good_request("websocket").upgrade == b"websocket"


def test_a_client_of_http_1_0_never_waits_for_100() -> None:
    """RFC 9110 10.1.1: its expectation is ignored."""
    assert good_request("expect-continue").expect_continue
    assert not request(b"PUT / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expect_continue


def test_the_second_of_two_pipelined_requests_starts_where_the_first_ends() -> None:
    """``size`` counts the empty line."""
    data = (FIXTURES / "good" / "request-two-pipelined.http").read_bytes()
    assert request(data[request(data).size :]).target == b"/second"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\n", "bare_lf"),
        (b"GET / HTTP/1.1\r\nHost: a\n", "bare_lf"),
        (b"GET / HTTP/1.1\rX", "bare_cr"),
        (b"G\0", "control_byte"),
        (b"\r", "leading_blank"),
        (b" ", "leading_blank"),
        (b"\x16\x03\x01", "control_byte"),
        (b"GET /\r\n", "bad_request_line"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n", "bad_field_name"),
        (b"PRI * HTTP/2.0\r\n", "version_not_supported"),
    ],
)
def test_a_broken_beginning_is_refused_before_the_head_is_complete(data: bytes, reason: str) -> None:
    """Attack 49: a client with other line ends is told at once, not at its deadline."""
    head = parse_request_head(data, LIMITS)
    assert isinstance(head, Malformed)
    assert reason == head.reason


def test_a_head_may_have_exactly_its_limit_and_not_a_byte_or_field_more() -> None:
    """Attack 52: both limits, whether the head is complete or not."""
    data = b"GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n"
    assert request(data, HeadLimits(len(data), 2)).size == len(data)
    assert parse_request_head(data, HeadLimits(len(data) - 1, 2)) == Malformed("head_too_large", 431)
    assert parse_request_head(data[:-1], HeadLimits(len(data) - 2, 2)) == Malformed("head_too_large", 431)
    assert parse_request_head(data, HeadLimits(len(data), 1)) == Malformed("too_many_fields", 431)
    assert parse_request_head(data, HeadLimits(10, 1)) == Malformed("start_line_too_long", 414)


@pytest.mark.parametrize(
    ("name", "method", "expected"),
    [
        ("ok", b"GET", (2, True)),
        ("ok", b"HEAD", (NO_BODY, True)),
        ("chunked", b"GET", (CHUNKED, True)),
        ("chunked", b"HEAD", (NO_BODY, True)),
        ("until-close", b"GET", (UNTIL_CLOSE, False)),
        ("until-close", b"HEAD", (NO_BODY, True)),
        ("http10", b"GET", (2, False)),
        ("continue", b"PUT", (NO_BODY, True)),
        ("early-hints", b"GET", (NO_BODY, True)),
        ("switching-protocols", b"GET", (NO_BODY, True)),
        ("no-content", b"GET", (NO_BODY, True)),
        ("not-modified", b"GET", (NO_BODY, True)),
        ("no-content-with-coding", b"GET", (NO_BODY, False)),
        ("connection-no-token-list", b"GET", (2, False)),
    ],
)
def test_the_body_of_a_response_follows_from_status_method_and_fields(
    name: str, method: bytes, expected: tuple[int, bool]
) -> None:
    """RFC 9112 6.3; a connection about which a doubt is left is not kept."""
    head = good_response(name, method)
    assert expected == (head.body, head.keep_alive)


def test_a_response_may_lack_a_reason_and_repeat_a_cookie() -> None:
    """Many servers do both."""
    assert good_response("no-reason").reason == b""
    assert good_response("no-reason-no-space").reason == b""
    assert [value for name, value in good_response("two-cookies").fields if name == b"set-cookie"] == [
        b"a=1",
        b"b=2",
    ]
    assert good_response("two-cookies").sets_cookie
    assert not good_response("no-reason").sets_cookie


TOKENS = st.text("!#$%&'*+.^_`|~0123456789abcxyz-", min_size=1, max_size=8).map(str.encode)
VALUES = st.binary(max_size=12).map(lambda raw: bytes(b for b in raw if b >= 32 and b != 127).strip(b" "))
OTHERS = st.lists(st.tuples(TOKENS.map(lambda name: b"x-" + name), VALUES), max_size=8)
TARGETS = st.binary(max_size=12).map(lambda raw: b"/" + bytes(b for b in raw if 33 <= b < 127 and b != 35))


@given(TOKENS, TARGETS, OTHERS)
def test_a_rendered_request_parses_to_itself(method: bytes, target: bytes, others: Fields) -> None:
    """Fields keep order, bytes and duplicates."""
    fields = [(b"host", b"a"), *others]
    data = render_request_head(method, target, fields)
    head = request(data, WIDE)
    assert (method, target, fields, len(data)) == (head.method, head.target, head.fields, head.size)


@given(st.integers(200, 599), VALUES, OTHERS)
def test_a_rendered_response_parses_to_itself(status: int, reason: bytes, fields: Fields) -> None:
    """As for requests."""
    head = response(render_response_head(status, reason, fields))
    assert (status, reason, fields) == (head.status, head.reason, head.fields)


@pytest.mark.parametrize("bad", [b"a\r\nx: y", b"a\nb", b"a\rb", b"a\0b"])
def test_a_value_that_would_break_out_of_its_line_is_not_rendered(bad: bytes) -> None:
    """Response splitting ends here; the message names the field and keeps the value to itself."""
    with pytest.raises(ValueError, match=r"\[b'x-bad'\]") as caught:
        render_response_head(200, b"OK", [(b"a", b"b"), (b"x-bad", bad)])
    assert repr(bad) not in str(caught.value)
    with pytest.raises(ValueError, match="its first line"):
        render_request_head(b"GET", bad, [])


PARTS = st.sampled_from(
    [
        b"GET", b" ", b"/", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"GET / HTTP/1.1\r\n", b"Host: a\r\n",
        b"Host", b":", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
        b"\r\n", b"\r\n\r\n", b"\r", b"\n", b"\t", b"\0", b"\xff", b"a", b"#",
    ]
)  # fmt: skip


@given(st.lists(PARTS, max_size=16).map(b"".join), st.lists(st.integers(1, 12), max_size=12))
def test_any_bytes_mean_the_same_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    """Nothing raises; a value, a refusal and its reason do not depend on how the bytes came."""
    pieces, left = [], data
    for cut in cuts:
        pieces.append(left[:cut])
        left = left[cut:]
    assert parse_request_head(data, LIMITS) == request_in_pieces(data, [*pieces, left])
    assert parse_request_head(data, LIMITS) == request_in_pieces(data, one_by_one(data))


LINES = st.sampled_from([b"GET / HTTP/1.1", b"PUT /b?c HTTP/1.1", b"GET / HTTP/1.0", b"GET /", b"GET / HTTP/1.1\r\nx: y"])
BLOCKS = st.sampled_from(
    [b"", b"host: a\r\n", b"Host: a\r\n", b"x: y\r\nhost: a\r\n", b"host: a\r\nexpect: 100-continue\r\n", b"host : a\r\n"]
    + [
        b"host: a\r\nconnection: upgrade\r\nupgrade: b\r\n",
        b"host: a\r\ncontent-length: 3\r\n",
        b"host: a\r\nx:" + b"y" * 5000 + b"\r\n",
    ]
)


@given(st.lists(st.tuples(LINES, BLOCKS, st.binary(max_size=8), st.integers(0, 3)), max_size=12))
def test_what_a_connection_remembers_changes_no_head(heads: list[tuple[bytes, bytes, bytes, int]]) -> None:
    """Field lines that came before are not read again, and mean the same; limits hold for them too."""
    memory = HeadMemory()
    for line, block, tail, most in heads:
        data, limits = line + b"\r\n" + block + b"\r\n" + tail, HeadLimits(16 * 1024, most)
        assert parse_request_head(data, limits) == parse_request_head(data, limits, 0, memory)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n" + b"ab:\r\n" * 700 + b"\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 60_000 + b"\r\n\r\n",
    ],
    ids=["target", "many", "long"],
)
def test_what_a_connection_remembers_is_small(data: bytes) -> None:
    """Thousands of connections remember: neither a long target, nor long field lines, nor many of them."""
    memory = HeadMemory()
    parse_request_head(data, HeadLimits(1 << 20, 1000))  # the interpreter keeps empty tuples for the next time
    tracemalloc.start()
    try:
        parse_request_head(data, HeadLimits(1 << 20, 1000), 0, memory)
        assert tracemalloc.get_traced_memory()[0] < 4096
    finally:
        tracemalloc.stop()


@given(TOKENS, TARGETS, OTHERS, TARGETS, OTHERS)
def test_heads_of_any_fields_are_remembered_as_they_are_read(
    method: bytes, target: bytes, fields: Fields, second: bytes, others: Fields
) -> None:
    """The same fields behind another target, and other fields behind the same."""
    memory = HeadMemory()
    for where, what in ((target, fields), (second, fields), (second, others), (target, fields)):
        data = render_request_head(method, where, [(b"host", b"a"), *what])
        assert parse_request_head(data, WIDE) == parse_request_head(data, WIDE, 0, memory)


@given(st.binary(max_size=40))
def test_bytes_after_a_head_change_nothing(tail: bytes) -> None:
    """They belong to a body or to the next head."""
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert request(data) == request(data + tail)


@given(st.binary(max_size=64), st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n"]))
def test_no_bytes_raise(tail: bytes, start: bytes) -> None:
    """Requests and responses."""
    parse_request_head(start + tail + b"\r\n\r\n", LIMITS)
    parse_response_head(start + tail + b"\r\n\r\n", LIMITS, b"GET")
