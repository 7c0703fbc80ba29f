"""Header blocks that we make, read by another library."""

import pytest
from hpack import Decoder, NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from router.wire.headers import Fields
from router.wire.hpack_encoder import TABLE_SIZE_ZERO, encode_fields, encode_head, encode_request

NAMES = st.one_of(
    st.sampled_from([b"content-type", b"age", b"vary", b"set-cookie", b"authorization", b"x-a", b"accept-encoding"]),
    st.text("abcxyz0-", min_size=1, max_size=200).map(str.encode),
)
VALUES = st.one_of(
    st.sampled_from([b"", b"gzip, deflate", b"text/plain"]),
    st.binary(max_size=300).map(lambda raw: bytes(byte for byte in raw if byte >= 32).strip(b" ")),
)


def decoded(block: bytes) -> list[tuple[bytes, bytes]]:
    decoder = Decoder(1 << 20)
    pairs = [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
    assert not decoder.header_table.dynamic_entries, "a block of ours left something in the table"
    return pairs


@given(st.integers(100, 599), st.lists(st.tuples(NAMES, VALUES), max_size=10))
def test_every_head_reads_as_it_was_given_and_leaves_the_table_alone(status: int, fields: Fields) -> None:
    """RFC 7541 section 6, twice: what was kept is what was made."""
    expected = [(b":status", b"%d" % status), *fields]
    assert expected == decoded(encode_head(status, fields))
    assert expected == decoded(encode_head(status, fields))


@given(
    st.sampled_from([b"GET", b"POST", b"PROPFIND"]), st.sampled_from([b"http", b"https"]), st.sampled_from([b"", b"a.example"]),
    st.sampled_from([b"/", b"/index.html", b"*", b"/a?" + b"b" * 200]), st.lists(st.tuples(NAMES, VALUES), max_size=10),
)  # fmt: skip
def test_every_request_reads_as_it_was_given(method: bytes, scheme: bytes, host: bytes, path: bytes, fields: Fields) -> None:
    """Pseudo-fields first; also behind the resize that says that no table is kept."""
    authority = [(b":authority", host)] if host else []
    expected = [(b":method", method), (b":scheme", scheme), *authority, (b":path", path), *fields]
    assert expected == decoded(encode_request(method, scheme, host, path, fields))
    assert expected == decoded(TABLE_SIZE_ZERO + encode_request(method, scheme, host, path, fields))


@pytest.mark.parametrize(
    "request_line", [(b"A\n", b"http", b"a", b"/"), (b"GET", b"http", b"a\r", b"/"), (b"GET", b"http", b"a", b"/\0")]
)
def test_no_pseudo_field_can_be_taken_for_more_than_one(request_line: tuple[bytes, bytes, bytes, bytes]) -> None:
    """H2.CRLF: a backend that speaks HTTP/1.1 behind its HTTP/2 would read a second field, or a second request."""
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        encode_request(*request_line, [])


def test_names_are_lower_case_and_values_without_blanks_around_them() -> None:
    """RFC 9113 8.2.1: a client calls anything else malformed."""
    assert decoded(encode_fields([(b"X-Cf-RouterError", b" unknown_route\t")])) == [(b"x-cf-routererror", b"unknown_route")]


@pytest.mark.parametrize("name", [b"X-Vcap-Request-Id", b"etag", b"Location", b"traceparent"])
@pytest.mark.parametrize("value", [b"", b"a" * 126, b"a" * 127, b"a" * 300, b"a b"])
def test_a_field_whose_value_differs_every_time_reads_as_it_was_given(name: bytes, value: bytes) -> None:
    """Whether it takes the short way or not: a length of 127 has a second byte (RFC 7541 section 5.1)."""
    assert decoded(encode_fields([(name, value)])) == [(name.lower(), value)]
    with pytest.raises(ValueError, match="cannot encode"):
        encode_fields([(name, value[:100] + b"\r\nb: c")])


@pytest.mark.parametrize("name", [b"Connection", b"keep-alive", b"PROXY-connection", b"transfer-encoding", b"Upgrade"])
def test_a_field_that_belongs_to_a_connection_is_left_out(name: bytes) -> None:
    """RFC 9113 8.2.2."""
    assert decoded(encode_fields([(b"a", b"b"), (name, b"x"), (b"c", b"d")])) == [(b"a", b"b"), (b"c", b"d")]


@pytest.mark.parametrize("name", [b"Set-Cookie", b"Cookie", b"authorization", b"proxy-authorization", b"X-Forwarded-Client-Cert"])
def test_a_secret_is_never_indexed_by_anybody(name: bytes) -> None:
    """RFC 7541 7.1.3: nor by the next proxy."""
    (field,) = Decoder().decode(encode_fields([(name, b"secret")]), raw=True)
    assert isinstance(field, NeverIndexedHeaderTuple)


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b", b"\r"])
def test_a_value_that_would_break_out_of_a_line_is_not_encoded(value: bytes) -> None:
    """As in http1: it would break out behind the next proxy. The message names the field and keeps the value to itself."""
    for _ in range(2):
        with pytest.raises(ValueError, match="the field b'x-bad'") as caught:
            encode_head(200, [(b"a", b"b"), (b"X-Bad", value)])
        assert repr(value) not in str(caught.value)


@pytest.mark.parametrize("name", [b"", b":status", b"a b", b"a\n", b"a:"])
def test_a_name_that_is_none_is_not_encoded(name: bytes) -> None:
    """Our fault, found at once."""
    with pytest.raises(ValueError, match="cannot encode the field"):
        encode_fields([(name, b"x")])


def test_what_is_kept_is_bounded_whatever_backends_send() -> None:
    """Some 300 KiB a process."""
    from router.wire import hpack_encoder

    for number in range(3_000):
        encode_fields([(b"x-a", b"%d" % number), (b"x-b", b"%d" % number * 200), (b"set-cookie", b"%d" % number)])
    kept = hpack_encoder._kept
    assert 0 < len(kept) <= 1_024
    assert b"set-cookie" not in {name for name, _ in kept}
    assert max(len(value) for _, value in kept) <= 128
