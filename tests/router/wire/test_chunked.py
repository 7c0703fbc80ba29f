"""The chunked coding: what may be read is read the same in any pieces, the rest is refused early."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.chunked import ChunkedDecoder, encode_chunk, encode_last_chunk
from router.wire.headers import Fields
from router.wire.malformed import Malformed


def decode(pieces: list[bytes]) -> tuple[bytes, bool, Fields, bytes] | Malformed:
    decoder = ChunkedDecoder(max_line=64, max_trailer_bytes=128, max_trailer_fields=3)
    payload = b""
    for piece in pieces:
        out = decoder.feed(piece)
        if isinstance(out, Malformed):
            assert out == decoder.feed(b"0\r\n\r\n"), "a refusal stands"
            assert not decoder.done
            return out
        payload += b"".join(out)
    return payload, decoder.done, decoder.trailers, decoder.rest


def one_by_one(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


GOOD = [
    (b"0\r\n\r\n", b"", [], b""),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", [], b""),
    (b"5;a=b;c=\"d e\"\r\nhello\r\n00;x\r\n\r\nGET", b"hello", [], b"GET"),
    (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2, [], b""),
    (b"0000000000000001\r\n\n\r\n0\r\n\r\n", b"\n", [], b""),
    (b"0\r\nX-Sum: 1\r\nY:2 \r\n\r\nrest", b"", [(b"x-sum", b"1"), (b"y", b"2")], b"rest"),
    (b"0\r\nContent-Length: 9\r\nX_Forwarded_For: a\r\nX-Sum: 0\r\n\r\n", b"", [(b"x-sum", b"0")], b""),
]  # fmt: skip

BAD = [
    (b"\r\nhello", "bad_chunk_size"), (b";x\r\n", "bad_chunk_size"), (b"g\r\n", "bad_chunk_size"),
    (b"0x5\r\nhello\r\n", "bad_chunk_size"), (b"1_0\r\n", "bad_chunk_size"), (b"+5\r\n", "bad_chunk_size"),
    (b"-5\r\n", "bad_chunk_size"), (b" 5\r\n", "bad_chunk_size"), (b"5 \r\n", "bad_chunk_size"),
    (b"5 ;a\r\n", "bad_chunk_size"), (b"5\nhello", "bad_chunk_size"), (b"5\rh", "bad_chunk_size"),
    (b"5;a\nb\r\n", "bad_chunk_size"), (b"5;a\rb\r\n", "bad_chunk_size"), (b"5;\0\r\n", "bad_chunk_size"),
    (b"5;\xe9\r\n", "bad_chunk_size"), (b"00000000000000005\r\n", "bad_chunk_size"),
    (b"ffffffffffffffff\r\n", "chunk_too_large"), (b"8000000000000000\r\n", "chunk_too_large"),
    (b"5;" + b"a" * 65536 + b"\r\n", "chunk_line_too_long"),
    ((b"1;" + b"a" * 40 + b"\r\nx\r\n") * 3, "chunk_extensions_too_large"),
    (b"5\r\nhello!\r\n", "bad_chunk_end"), (b"5\r\nhello\n0\r\n", "bad_chunk_end"),
    (b"5\r\nhello\rx", "bad_chunk_end"),
    (b"0\r\nA: b\n", "bare_lf"), (b"0\r\n\n", "bare_lf"),
    (b"0\r\nA: b\rC", "bare_cr"), (b"0\r\nA: \0", "control_byte"),
    (b"0\r\n A: b\r\n", "folded_line"), (b"0\r\nA: b\r\n c\r\n", "folded_line"),
    (b"0\r\nA : b\r\n", "bad_field_name"),
    (b"0\r\n: b\r\n", "bad_field_name"), (b"0\r\nA: " + b"b" * 200, "trailers_too_large"),
    (b"0\r\nA:\r\nA:\r\nA:\r\nA:\r\n\r\n", "too_many_trailers"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "payload", "trailers", "rest"), GOOD)
def test_a_body_is_decoded_whole_and_byte_by_byte(data: bytes, payload: bytes, trailers: Fields, rest: bytes) -> None:
    """Payload, trailers that may be heard (attack 48), and the bytes after the end."""
    assert (payload, True, trailers, rest) == decode([data])
    assert (payload, True, trailers, rest) == decode(one_by_one(data))


@pytest.mark.parametrize(("data", "reason"), BAD)
def test_a_broken_body_is_refused_whole_and_byte_by_byte(data: bytes, reason: str) -> None:
    """Attacks 46 and 47, and broken trailers (38): as soon as the bytes that break it are there."""
    outcomes = [decode([data]), decode(one_by_one(data))]
    assert [reason] * 2 == [outcome.reason for outcome in outcomes if isinstance(outcome, Malformed)]


@pytest.mark.parametrize("data", [data for data, *_ in GOOD])
def test_a_body_split_anywhere_is_the_same(data: bytes) -> None:
    """All ways to cut it once."""
    for cut in range(len(data)):
        assert decode([data]) == decode([data[:cut], data[cut:]])


def test_payload_is_handed_on_before_the_chunk_is_complete() -> None:
    """A large chunk is never collected, and bytes that are all payload are not copied."""
    decoder = ChunkedDecoder(64, 128, 3)
    assert decoder.feed(b"ffffff\r\n") == []
    piece = b"x" * 65536
    out = decoder.feed(piece)
    assert isinstance(out, list)
    assert out[0] is piece


def test_bytes_after_the_end_are_kept_in_order() -> None:
    """They are the next message, fed or not."""
    decoder = ChunkedDecoder(64, 128, 3)
    decoder.feed(b"0\r\n\r\nGET")
    decoder.feed(b" /")
    assert decoder.rest == b"GET /"


def test_an_empty_piece_is_no_chunk() -> None:
    """It would end the body."""
    assert encode_chunk(b"") == b""


@given(
    st.lists(st.binary(max_size=20)),
    st.lists(
        st.tuples(st.sampled_from([b"x-sum", b"grpc-status"]), st.sampled_from([b"", b"0", b"a b"])),
        max_size=3,
    ),
    st.binary(max_size=5),
    st.lists(st.integers(1, 30)),
)
def test_what_is_encoded_decodes_to_the_same_in_any_pieces(
    chunks: list[bytes], trailers: Fields, rest: bytes, cuts: list[int]
) -> None:
    """The two halves of this module agree."""
    data = b"".join(encode_chunk(chunk) for chunk in chunks) + encode_last_chunk(trailers) + rest
    pieces = []
    for cut in cuts:
        pieces.append(data[:cut])
        data = data[cut:]
    assert (b"".join(chunks), True, trailers, rest) == decode([*pieces, data])


@given(st.lists(st.sampled_from([b"0", b"5", b"\r\n", b"\n", b"\r", b";", b"a", b"hello", b": ", b" "]), max_size=20))
def test_any_bytes_decode_alike_whole_and_byte_by_byte(parts: list[bytes]) -> None:
    """Nothing raises, and no cut makes a refusal a body or a body a refusal."""
    data = b"".join(parts)
    assert decode([data]) == decode(one_by_one(data))
