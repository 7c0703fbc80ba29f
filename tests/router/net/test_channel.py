"""router/net/channel.py: message bodies read off a stream, whatever pieces the bytes come in."""

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.net.body import BodyMalformed, BodyTruncated
from router.net.channel import Body, Channel
from router.net.stream import Stream
from router.wire.chunked import ChunkedDecoder, encode_chunk, encode_last_chunk
from router.wire.http1 import CHUNKED, NO_BODY, UNTIL_CLOSE
from router.wire.malformed import Malformed
from tests.router.net.pairs import connected, soon

PAYLOADS = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
CUTS = st.lists(st.integers(0, 400), max_size=8)
REST = b"GET /next HTTP/1.1\r\n"


class Pieces:
    """Stands for a stream that receives exactly these pieces, then the end."""

    def __init__(self, data: bytes, cuts: list[int]) -> None:
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        self.pieces = [data[a:b] for a, b in itertools.pairwise(edges)]

    async def recv(self, until: float) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


def channel_of(data: bytes, cuts: list[int], *, buffered: bool) -> Channel:
    """A channel that has the first piece in its buffer already, or has none."""
    source = Pieces(data, cuts)
    channel = Channel(cast("Stream", source))
    if buffered and source.pieces:
        channel.buffer = source.pieces.pop(0)
    return channel


def left(channel: Channel) -> bytes:
    return channel.buffer + b"".join(cast("Pieces", channel.stream).pieces)


def decoder() -> ChunkedDecoder:
    return ChunkedDecoder(128, 1024, 16)


def now(work: Coroutine[Any, Any, list[bytes]]) -> list[bytes]:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return cast("list[bytes]", done.value)
    raise AssertionError("it waits")


async def drained(body: Body) -> list[bytes]:
    pieces = []
    while piece := await body.read(0.0):
        pieces.append(piece)
    return pieces


@given(PAYLOADS, CUTS, st.booleans())
def test_a_body_of_a_stated_length_ends_with_its_last_byte(payload: list[bytes], cuts: list[int], buffered: bool) -> None:
    """Exactly its bytes are handed out and counted; what follows stays."""
    data = b"".join(payload)
    channel = channel_of(data + REST, cuts, buffered=buffered)
    body = Body(channel, len(data))
    assert data == b"".join(now(drained(body)))
    assert body.done
    assert len(data) == body.received
    assert left(channel) == REST


@given(PAYLOADS, CUTS, st.booleans())
def test_a_chunked_body_reads_as_the_wire_decoder_reads_it_whole(payload: list[bytes], cuts: list[int], buffered: bool) -> None:
    """The same payload, trailers and rest, whatever the pieces."""
    data = b"".join(encode_chunk(piece) for piece in payload) + encode_last_chunk([(b"x-sum", b"1")]) + REST
    whole = decoder()
    expected = whole.feed(data)
    assert not isinstance(expected, Malformed)
    channel = channel_of(data, cuts, buffered=buffered)
    body = Body(channel, CHUNKED, decoder())
    assert b"".join(expected) == b"".join(now(drained(body)))
    assert body.done
    assert body.received == sum(map(len, payload))
    assert whole.trailers == body.trailers == [(b"x-sum", b"1")]
    assert left(channel) == REST


@given(PAYLOADS, CUTS, st.booleans())
def test_a_body_until_close_is_everything(payload: list[bytes], cuts: list[int], buffered: bool) -> None:
    """The end of the connection is its end."""
    data = b"".join(payload)
    body = Body(channel_of(data, cuts, buffered=buffered), UNTIL_CLOSE)
    assert data == b"".join(now(drained(body)))
    assert body.done
    assert len(data) == body.received


@given(PAYLOADS.filter(bool), CUTS, st.data())
def test_a_body_cut_short_is_never_taken_for_whole(payload: list[bytes], cuts: list[int], data: st.DataObject) -> None:
    """A peer that ends early is a BodyTruncated for a stated length and for chunks, wherever it ends."""
    chunked = data.draw(st.booleans())
    whole = b"".join(map(encode_chunk, payload)) + encode_last_chunk([]) if chunked else b"".join(payload)
    short = whole[: data.draw(st.integers(0, len(whole) - 1))]
    channel = channel_of(short, cuts, buffered=False)
    body = Body(channel, CHUNKED, decoder()) if chunked else Body(channel, len(whole))
    with pytest.raises(BodyTruncated):
        now(drained(body))


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_a_body_that_is_here_already_is_taken_without_a_wait(data: bytes, rest: bytes) -> None:
    """`buffered` gives all of it or nothing, and leaves what follows."""
    channel = channel_of(data + rest, [], buffered=True)
    body = Body(channel, len(data))
    assert body.buffered() == data
    assert body.done
    assert len(data) == body.received
    assert channel.buffer == rest
    longer = Body(channel, len(rest) + 1)
    assert longer.buffered() is None
    assert channel.buffer == rest
    assert Body(channel, CHUNKED, decoder()).buffered() is None
    assert Body(channel, UNTIL_CLOSE).buffered() is None


def test_no_body_is_done_from_the_start() -> None:
    """Nothing is read for it."""
    channel = channel_of(REST, [], buffered=True)
    body = Body(channel, NO_BODY)
    assert body.done
    assert now(drained(body)) == []
    assert body.buffered() == b""
    assert body.trailers == []
    assert channel.buffer == REST


def test_a_broken_chunk_says_why() -> None:
    """BodyMalformed with the decoder's bounded reason; afterwards there is no more."""
    broken = b"zz\r\nhello"
    reason = decoder().feed(broken)
    assert isinstance(reason, Malformed)
    body = Body(channel_of(broken, [], buffered=False), CHUNKED, decoder())
    with pytest.raises(BodyMalformed) as raised:
        now(drained(body))
    assert raised.value.reason == reason.reason
    assert now(drained(body)) == []


async def test_a_body_waits_on_its_stream_and_keeps_its_deadline() -> None:
    """Over real TCP: pieces as they come, TimeoutError when none does."""
    with connected() as (stream, peer):
        body = Body(Channel(stream), 6)
        peer.sendall(b"abc")
        assert await body.read(soon()) == b"abc"
        with pytest.raises(TimeoutError):
            await body.read(asyncio.get_running_loop().time())
        peer.sendall(b"defGET")
        assert await body.read(soon()) == b"def"
        assert body.channel.buffer == b"GET"
        assert await body.read(soon()) == b""
