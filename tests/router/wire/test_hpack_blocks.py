"""Header blocks that clients make: the pairs, the table's changes, and the three ways to go wrong."""

from typing import Any

import pytest
from hpack import Decoder, Encoder, HPACKError
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
        (b"\x3f\xe1\x1f\x20\x20", COMPRESSION, "table_resizes"),
        (b"\x7f\x80\x80\x80\x80\x80\x80\x00", COMPRESSION, "bad_header_block"),
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


def theirs(decoder: Decoder, block: bytes) -> Pairs | None:
    try:
        return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
    except HPACKError:
        return None


REPRESENTATIONS = st.one_of(
    st.integers(0x80, 0xFF).map(lambda byte: bytes((byte,))),  # indexed
    st.integers(0, 40).map(lambda more: bytes((0xFF, more))),
    st.tuples(st.sampled_from([0x00, 0x10, 0x40]), st.binary(max_size=9), st.binary(max_size=300)).map(
        lambda parts: bytes((parts[0],)) + literal([(parts[1], parts[2])])[1:]
    ),
    st.tuples(st.sampled_from([0x01, 0x1F, 0x41, 0x6E, 0x7E]), st.binary(max_size=9)).map(
        lambda parts: bytes((parts[0],)) + (b"\x2f" if parts[0] == 0x1F else b"") + bytes((len(parts[1]),)) + parts[1]
    ),
    st.binary(max_size=3),
)
RESIZES = st.sampled_from([b"", b"", b"", b"\x20", b"\x3f\x21", b"\x3f\xe1\x1f", b"\x20\x3f\xe1\x1f"])
BLOCKS = st.lists(st.tuples(RESIZES, st.lists(REPRESENTATIONS, max_size=8).map(b"".join)).map(b"".join), max_size=12)


@given(BLOCKS)
def test_blocks_of_any_bytes_read_as_another_decoder_reads_them(blocks: list[bytes]) -> None:
    """RFC 7541, table and all, up to the first block that is broken: broken for both."""
    ours, other = BlockDecoder(65_536), Decoder(65_536)
    for block in blocks:
        pairs, expected = ours.decode(block), theirs(other, block)
        if isinstance(pairs, BlockFault):
            assert expected is None or pairs.reason == "table_resizes"
            return
        assert expected == pairs
        assert list(other.header_table.dynamic_entries) == ours._entries[::-1]


FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b":path", b"cookie", b"x-a", b"x-b", b"accept"]), st.text("abcXYZ/~ ", max_size=60).map(str.encode)
    ),
    max_size=8,
)


@given(st.lists(st.tuples(FIELDS, st.sampled_from([0, 50, 200, 1_000, 4_096])), max_size=10), st.booleans())
def test_what_another_encoder_says_is_heard(blocks: list[tuple[Pairs, int]], huffman: bool) -> None:
    """With and without Huffman coding, while the table is resized and entries leave it."""
    encoder, decoder = Encoder(), BlockDecoder(65_536)
    for pairs, size in blocks:
        encoder.header_table_size = size
        assert decoder.decode(encoder.encode(pairs, huffman=huffman)) == pairs


def test_the_work_for_a_block_grows_with_its_bytes_only() -> None:
    """Attack 67: thousands of small literals in front of a long one are not copied over and over."""
    seen = 0

    class Counted(bytes):
        def __getitem__(self, key: Any) -> Any:
            nonlocal seen
            found: Any = super().__getitem__(key)
            seen += len(found) if isinstance(found, bytes) else 1
            return found

    block = Counted(b"\x01\x00" * 1_000 + literal([(b"a", b"b" * 50_000)]))
    assert len(BlockDecoder(131_072).decode(block)) == 1_001
    assert seen < 2 * len(block)
