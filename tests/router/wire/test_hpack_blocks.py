"""Header blocks that clients make: the pairs, the table's changes, and the three ways to go wrong."""

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from router.wire.hpack_blocks import BlockDecoder, BlockFault
from router.wire.http2_frames import ErrorCode
from tests.support.http2 import GET, Pairs, literal

COMPRESSION = ErrorCode.COMPRESSION_ERROR


def test_blocks_of_one_connection_share_a_table() -> None:
    """RFC 7541 section 2.2, by another encoder."""
    encoder, decoder = Encoder(), BlockDecoder(65_536)
    for _ in range(3):
        assert decoder.decode(encoder.encode([*GET, (b"x-a", b"b" * 40)])) == [*GET, (b"x-a", b"b" * 40)]


@pytest.mark.parametrize(
    ("block", "changed"),
    [
        (b"", False),
        (b"\x82\x87", False),
        (b"\x00\x01a\x01b", False),
        (b"\x10\x01a\x01b", False),
        (b"\x40\x01a\x01b", True),
        (b"\x41\x01b", True),
        (b"\x40\x01a\x7f\xe1\x1f" + b"b" * 4_192, True),  # too large for the table: empties it
        (b"\x20\x82", True),
        (b"\x3f\xe1\x1f\x82", True),  # to the size that it has
        (b"\x20\x3f\xe1\x1f\x82", True),
    ],
)
def test_it_tells_whether_a_block_may_have_changed_the_table(block: bytes, changed: bool) -> None:
    """What was kept of earlier blocks holds as long as the number stays: the library must add through our own table."""
    decoder = BlockDecoder(65_536)
    assert not isinstance(decoder.decode(block), BlockFault)
    assert (decoder.changes != 0) is changed


@pytest.mark.parametrize(
    ("block", "code", "reason"),
    [
        (b"\x80", COMPRESSION, "bad_header_block"),
        (b"\xbe", COMPRESSION, "bad_header_block"),
        (b"\x00\x05a", COMPRESSION, "bad_header_block"),
        (b"\x00", COMPRESSION, "bad_header_block"),
        (b"\x00\x81\x00\x01a", COMPRESSION, "bad_header_block"),
        (b"\x82\x20", COMPRESSION, "bad_header_block"),
        (b"\x3f\xe2\x1f", COMPRESSION, "bad_header_block"),
        (b"\xff" * 12, COMPRESSION, "bad_header_block"),
        (b"\x20\x20\x20\x82", COMPRESSION, "table_resizes"),
        (b"\x20" * 16_384, COMPRESSION, "table_resizes"),
        (b"\x3f\xff\xff\xff\x20\x20\x20", COMPRESSION, "table_resizes"),
        (b"\x82" * 60, ErrorCode.ENHANCE_YOUR_CALM, "header_list_too_large"),
        (b"\x40\x01a\x7f\x81\x0f" + b"b" * 2_048, ErrorCode.ENHANCE_YOUR_CALM, "header_list_too_large"),
    ],
)
def test_a_bad_block_is_a_fault_of_the_connection(block: bytes, code: ErrorCode, reason: str) -> None:
    """Attack 67: bombs by indexed fields and by long ones; sizes of the table without end."""
    assert BlockDecoder(2_048).decode(block) == BlockFault(code, reason)


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_no_bytes_raise(blocks: list[bytes]) -> None:
    """Pairs or a fault, one block after the other."""
    decoder = BlockDecoder(4_096)
    for block in blocks:
        assert isinstance(decoder.decode(block), list | BlockFault)


PAIRS = st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=200)), max_size=6)


@given(PAIRS)
def test_every_literal_is_read_as_it_stands(pairs: Pairs) -> None:
    """Text is judged elsewhere."""
    assert BlockDecoder(65_536).decode(literal(pairs)) == pairs
