"""router/wire/http2_client_heads.py: heads of HTTP/2 as those of HTTP/1.1, a table."""

from typing import Any

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from router.wire.http1 import CHUNKED, NO_BODY, Fields, ResponseHead
from router.wire.http2_client_heads import request_block, response_head
from router.wire.malformed import Malformed

OK = (b":status", b"200")


@pytest.mark.parametrize(
    ("fields", "method", "ended", "body"),
    [
        ([OK], b"GET", False, CHUNKED),
        ([OK], b"GET", True, NO_BODY),
        ([OK, (b"content-length", b"5")], b"GET", False, 5),
        ([OK, (b"content-length", b"0")], b"GET", True, NO_BODY),
        ([OK, (b"content-length", b"5")], b"HEAD", True, NO_BODY),
        ([OK], b"HEAD", False, NO_BODY),
        ([(b":status", b"204")], b"GET", False, NO_BODY),
        ([(b":status", b"304"), (b"content-length", b"5")], b"GET", True, NO_BODY),
        ([(b":status", b"103"), (b"link", b"<x>")], b"GET", False, NO_BODY),
    ],
)
def test_a_head_says_how_long_its_body_is(fields: Fields, method: bytes, ended: bool, body: int) -> None:
    """The end with the head, the method and the status, else the length, else nobody knows before the end."""
    head = response_head(fields, method, ended=ended)
    assert isinstance(head, ResponseHead)
    assert (head.status, head.body, head.fields) == (int(fields[0][1]), body, fields[1:])
    assert (head.reason, head.minor, head.keep_alive, head.connection) == (b"", 1, True, frozenset())


def test_set_cookie_is_seen() -> None:
    head = response_head([OK, (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")], b"GET", ended=True)
    assert isinstance(head, ResponseHead)
    assert head.sets_cookie


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([], "status_missing"),
        ([(b"server", b"x"), OK], "status_missing"),
        ([(b":status", b"20")], "bad_status"),
        ([(b":status", b"600")], "bad_status"),
        ([(b":status", b"+20")], "bad_status"),
        ([OK, OK], "bad_field_name"),
        ([OK, (b":path", b"/")], "bad_field_name"),
        ([OK, (b"Server", b"x")], "bad_field_name"),
        ([OK, (b"", b"x")], "bad_field_name"),
        ([OK, (b"a b", b"x")], "bad_field_name"),
        ([OK, (b"a\r\nb", b"x")], "bad_field_name"),
        ([OK, (b"a", b"x\r\nset-cookie: y")], "bad_field_value"),
        ([OK, (b"a", b"x\0")], "bad_field_value"),
        ([OK, (b"a", b" x")], "bad_field_value"),
        ([OK, (b"a", b"x\t")], "bad_field_value"),
        ([OK, (b"connection", b"close")], "connection_field"),
        ([OK, (b"transfer-encoding", b"chunked")], "connection_field"),
        ([OK, (b"upgrade", b"websocket")], "connection_field"),
        ([OK, (b"content-length", b"5"), (b"content-length", b"5")], "content_length_repeated"),
        ([OK, (b"content-length", b"+5")], "bad_content_length"),
        ([(b":status", b"101")], "bad_interim"),
        ([(b":status", b"100"), (b"content-length", b"5")], "bad_interim"),
    ],
)
def test_what_would_be_malformed_in_http1_is_here_too(fields: Fields, reason: str) -> None:
    """Attack 55: no byte of a backend's can begin a line of the response that a client reads."""
    assert response_head(fields, b"GET", ended=False) == Malformed(reason, 502)


def test_a_head_that_ends_the_stream_has_no_body() -> None:
    assert response_head([OK, (b"content-length", b"5")], b"GET", ended=True) == Malformed("body_too_short", 502)
    assert response_head([(b":status", b"103")], b"GET", ended=True) == Malformed("bad_interim", 502)


@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=6), st.booleans())
def test_any_fields_are_a_head_or_malformed(fields: Fields, ended: bool) -> None:
    """And no head holds a control byte or an upper-case name."""
    for head in (response_head(fields, b"GET", ended=ended), response_head([OK, *fields], b"GET", ended=ended)):
        if isinstance(head, ResponseHead):
            text = b"".join([name + value for name, value in head.fields])
            assert not set(text) & {0, 10, 13}
            assert all(name == name.lower() and name for name, _ in head.fields)


def decoded(*request: Any) -> Fields:
    """What another library reads in a request's block."""
    return [(bytes(name), bytes(value)) for name, value in Decoder().decode(request_block(*request), raw=True)]


def test_a_request_leaves_what_belongs_to_a_connection_behind() -> None:
    """Names in lower case; Host is the authority."""
    fields = [
        (b"Host", b"app.example"), (b"X-Forwarded-For", b"1.2.3.4"), (b"Connection", b"TE"), (b"TE", b"gzip, trailers"),
        (b"Transfer-Encoding", b"chunked"), (b"Keep-Alive", b"5"), (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"x"),
    ]  # fmt: skip
    assert decoded(b"POST", b"https", b"/a?b", fields) == [
        (b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"app.example"), (b":path", b"/a?b"),
        (b"x-forwarded-for", b"1.2.3.4"), (b"te", b"trailers"),
    ]  # fmt: skip


def test_a_request_without_a_host_has_no_authority() -> None:
    """HTTP/1.0 may be so; an empty one is none."""
    assert decoded(b"GET", b"http", b"/", []) == [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a/b?c", b"/a/b?c"),
        (b"*", b"*"),
        (b"http://app.example/a?b", b"/a?b"),
        (b"http://app.example", b"/"),
        (b"http://app.example?b=/c", b"/?b=/c"),
    ],
)
def test_a_path_is_what_an_absolute_target_says(target: bytes, path: bytes) -> None:
    assert dict(decoded(b"GET", b"http", target, []))[b":path"] == path
