"""router/net/body.py: the body of one stream among many, filled by its connection, on both event loops."""

import asyncio
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.net.body import BodyTruncated, Inflow
from router.net.deadline import Wheel
from router.wire.http1 import CHUNKED, NO_BODY
from tests.router.net.pairs import soon

PIECES = st.lists(st.binary(max_size=40), max_size=8)


def inflow(framing: int = CHUNKED) -> tuple[Inflow, list[int], Wheel]:
    loop = asyncio.get_running_loop()
    wheel, taken = Wheel(loop), list[int]()
    return Inflow(loop, wheel, framing, taken.append), taken, wheel


async def read_all(body: Inflow) -> bytes:
    data = b""
    while not body.done:
        data += await body.read(soon())
    return data


@given(pieces=PIECES, behind=st.booleans())
def test_what_was_put_is_read_in_order_and_once(pieces: list[bytes], behind: bool) -> None:
    """Whether it came before the reader or while it waited; every byte is told as taken."""

    async def scene() -> None:
        body, taken, wheel = inflow()
        reader = asyncio.get_running_loop().create_task(read_all(body))
        for piece in pieces:
            body.put(piece)
            if behind:
                await asyncio.sleep(0)
        body.end([(b"grpc-status", b"0")])
        assert await reader == b"".join(pieces)
        assert (body.received, sum(taken), body.trailers) == (len(b"".join(pieces)),) * 2 + ([(b"grpc-status", b"0")],)
        wheel.close()

    asyncio.run(scene())


async def test_what_breaks_a_body_off_comes_after_its_pieces() -> None:
    """A reader sees all that came, then why no more does; an end that came first stays an end."""
    body, _, wheel = inflow()
    body.put(b"some")
    body.fail(BodyTruncated())
    assert await body.read(soon()) == b"some"
    with pytest.raises(BodyTruncated):
        await body.read(soon())
    whole, _, _ = inflow()
    whole.end()
    whole.fail(BodyTruncated())
    assert (await whole.read(soon()), whole.done) == (b"", True)
    wheel.close()


async def test_a_reader_who_waits_is_told_of_the_break() -> None:
    """It does not wait for its deadline."""
    body, _, wheel = inflow()
    reader = asyncio.get_running_loop().create_task(body.read(soon()))
    await asyncio.sleep(0)
    body.fail(BodyTruncated())
    with pytest.raises(BodyTruncated):
        await reader
    wheel.close()


async def test_every_wait_has_its_deadline_and_leaves_nothing_in_the_wheel() -> None:
    """A body whose sender is silent ends its reader's patience; nothing is kept for the streams that are over."""
    body, _, wheel = inflow()
    with pytest.raises(TimeoutError):
        await body.read(asyncio.get_running_loop().time())
    slots: Any = wheel._slots
    assert not slots
    wheel.close()


@pytest.mark.parametrize(
    ("framing", "pieces", "trailers", "ended", "whole"),
    [
        (NO_BODY, [], [], True, b""),
        (5, [b"he", b"llo"], [], True, b"hello"),
        (5, [b"he"], [], False, None),
        (CHUNKED, [b"hello"], [(b"a", b"b")], True, None),
    ],
)
async def test_a_body_is_whole_when_its_end_is_here_and_no_trailers(
    framing: int, pieces: list[bytes], trailers: list[tuple[bytes, bytes]], ended: bool, whole: bytes | None
) -> None:
    """What can be kept for another attempt: not what has trailers, for they would be lost."""
    body, taken, wheel = inflow(framing)
    for piece in pieces:
        body.put(piece)
    if ended and framing != NO_BODY:
        body.end(trailers)
    assert body.buffered() == whole
    assert body.done is (whole is not None)
    assert sum(taken) == len(whole or b"")
    wheel.close()


async def test_many_small_pieces_take_no_more_than_one_large_one() -> None:
    """Attack 68: what a window lets in is what it costs, in whatever pieces it comes."""
    body, taken, _ = inflow()
    tracemalloc.start()
    try:
        for number in range(50_000):
            body.put(number.to_bytes(2))
        assert tracemalloc.get_traced_memory()[0] < 300_000
    finally:
        tracemalloc.stop()
    body.end()
    assert body.buffered() == b"".join(number.to_bytes(2) for number in range(50_000))
    assert sum(taken) == 100_000


async def test_trailers_behind_what_has_no_length_are_nobodys() -> None:
    """A stream without a body shares its reader with all others that have none."""
    body, _, _ = inflow(NO_BODY)
    body.end([(b"checksum", b"abc")])
    assert (body.trailers, body.buffered()) == ([], b"")
