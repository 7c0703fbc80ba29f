"""router/l7/http1_writer.py: the response on an HTTP/1.x connection, on both event loops."""

import socket

import pytest

from router.faults import Fault
from router.l7.http1_writer import Http1Writer
from router.net.channel import Channel
from router.wire.http1 import CHUNKED, UNTIL_CLOSE, Fields
from tests.router.net.pairs import connected

STALL = 10.0
HEAD = b"HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n"
CHUNKS = b"4\r\nbody\r\n0\r\nT: v\r\n\r\n"


@pytest.mark.parametrize(
    ("minor", "framing", "is_head", "keep", "sent"),
    [
        (1, 4, False, True, b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"),
        (1, CHUNKED, False, True, HEAD + b"\r\n" + CHUNKS),
        (1, UNTIL_CLOSE, False, False, HEAD + b"Connection: close\r\n\r\n" + CHUNKS),
        (0, CHUNKED, False, True, b"HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\nbody"),
        (0, 4, False, True, b"HTTP/1.1 200 OK\r\nA: b\r\nConnection: keep-alive\r\n\r\nbody"),
    ],
)  # fmt: skip
async def test_the_framing_is_one_that_the_client_can_read(
    minor: int, framing: int, is_head: bool, keep: bool, sent: bytes
) -> None:
    """RFC 9112 section 6: chunks for HTTP/1.1 where no length is known, the end of the connection for HTTP/1.0."""
    with connected() as (stream, peer):
        writer = Http1Writer(Channel(stream), minor, STALL, is_head=is_head)
        fields: Fields = [(b"A", b"b")]
        kept = writer.begin(200, b"OK", fields, framing, keep=keep)
        assert kept is (keep and (framing >= 0 or minor == 1))
        await writer.finish(b"body", [(b"T", b"v")])
        stream.close()
        assert received(peer) == sent


async def test_a_bodiless_answer_from_a_version_without_lengths_gets_one() -> None:
    """RFC 9112 section 6.3: without it a client would read until the connection ends; HEAD, 204 and 304 have none to state."""
    for status, is_head, stated in ((200, False, True), (200, True, False), (204, False, False), (304, False, False)):
        with connected() as (stream, peer):
            writer = Http1Writer(Channel(stream), 1, STALL, is_head=is_head)
            writer.begin(status, b"", [], 0, keep=True)
            await writer.finish(b"", [])
            stream.close()
            assert (b"Content-Length: 0\r\n" in received(peer)) is stated


async def test_head_and_first_piece_leave_together_unless_the_body_lets_wait() -> None:
    """speed.md: one send; but a head is not held back for a body that is not there yet."""
    with connected() as (stream, peer):
        writer = Http1Writer(Channel(stream), 1, STALL, is_head=False)
        writer.begin(200, b"OK", [], CHUNKED, keep=True)
        await writer.flush()
        assert peer.recv(65536).endswith(b"chunked\r\n\r\n")
        await writer.write(b"one")
        assert peer.recv(65536) == b"3\r\none\r\n"


async def test_interim_responses_are_not_for_http_1_0() -> None:
    """RFC 9110 section 15.2."""
    with connected() as (stream, peer):
        await Http1Writer(Channel(stream), 0, STALL, is_head=False).interim(103, b"Early Hints", [])
        await Http1Writer(Channel(stream), 1, STALL, is_head=False).interim(103, b"Early Hints", [])
        stream.close()
        assert received(peer) == b"HTTP/1.1 103 Early Hints\r\n\r\n"


async def test_a_client_that_is_gone_is_a_fault_of_its_side() -> None:
    """And it is seen to be gone, behind what it sent before."""
    with connected() as (stream, peer):
        writer = Http1Writer(Channel(stream), 1, STALL, is_head=False)
        assert not writer.gone()
        peer.close()
        writer.begin(200, b"OK", [], 1 << 30, keep=True)
        with pytest.raises(Fault) as caught:
            await writer.write(bytes(1 << 26))
        assert caught.value.kind == "client_gone_while_streaming"
        assert writer.gone()


def received(peer: socket.socket) -> bytes:
    data = b""
    while more := peer.recv(65536):
        data += more
    return data
