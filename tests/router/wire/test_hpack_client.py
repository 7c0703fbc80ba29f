"""router/wire/hpack_client.py: the blocks of requests, read by the library hpack."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.hpack_client import FORGET, encode

names = st.one_of(st.sampled_from([b":status", b"cookie", b"content-type", b"x-a"]), st.binary(max_size=200))
values = st.one_of(
    st.sampled_from([b"200", b"gzip, deflate"]), st.binary(max_size=300).map(lambda value: value.translate(None, b"\r\n\0"))
)
fields = st.lists(st.tuples(names, values), max_size=20)


def decoded(block: bytes) -> list[tuple[bytes, bytes]]:
    return [(bytes(name), bytes(value)) for name, value in hpack.Decoder().decode(block, raw=True)]


@given(fields)
def test_every_block_is_decoded_by_whoever_knows_the_static_table(block: list[tuple[bytes, bytes]]) -> None:
    """Also behind the table size update that says that no table is kept."""
    assert decoded(encode(block)) == block
    assert decoded(FORGET + encode(block)) == block


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\0", b"\r"])
def test_no_value_can_be_taken_for_more_than_one(value: bytes) -> None:
    """H2.CRLF: a backend that speaks HTTP/1.1 behind its HTTP/2 would read a second field, or a second request."""
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        encode([(b"x", value)])


def test_credentials_are_never_to_be_indexed() -> None:
    """RFC 7541 section 7.1.3."""
    for name in (b"authorization", b"cookie", b"x-forwarded-client-cert"):
        (field,) = hpack.Decoder().decode(encode([(name, b"secret")]), raw=True)
        assert isinstance(field, hpack.NeverIndexedHeaderTuple)
