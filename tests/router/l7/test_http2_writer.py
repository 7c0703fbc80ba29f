"""router/l7/http2_writer.py: one stream's response against the frame layer, without a socket, on both event loops."""

import asyncio
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

from router.faults import Fault
from router.l7.http2_writer import Http2Writer
from router.net.deadline import TICK, Wheel
from router.wire.http2 import Http2Limits, ServerConnection

REQUEST = [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/")]


class Line:
    """A `Sender` whose client is the `h2` library; what is flushed arrives."""

    def __init__(self, window: int = 65_535) -> None:
        self.loop = asyncio.get_running_loop()
        self.wheel = Wheel(self.loop)
        self.h2 = ServerConnection(Http2Limits())
        self.blocked = False
        self.client = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.client.initiate_connection()
        self.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.client.send_headers(1, REQUEST, end_stream=True)
        self.seen: list[object] = []
        self.tell()
        self.flush_soon()

    def tell(self) -> None:
        """What the client has to say."""
        self.h2.receive(self.client.data_to_send(), 0.0)

    def flush_soon(self) -> None:
        self.seen += self.client.receive_data(self.h2.take_output())

    def kinds(self) -> list[type]:
        told = (ResponseReceived, DataReceived, TrailersReceived, StreamEnded, StreamReset)
        return [type(event) for event in self.seen if isinstance(event, told)]

    def writer(self, *, malformed: bool = False) -> Http2Writer:
        return Http2Writer(self, 1, 10.0, malformed=malformed)


@pytest.mark.parametrize(
    ("data", "trailers", "kinds"),
    [
        (b"", [], [ResponseReceived, StreamEnded]),
        (b"x", [], [ResponseReceived, DataReceived, StreamEnded]),
        (b"x", [(b"grpc-status", b"0")], [ResponseReceived, DataReceived, TrailersReceived, StreamEnded]),
        (b"", [(b"grpc-status", b"0")], [ResponseReceived, TrailersReceived, StreamEnded]),
    ],
)
async def test_the_last_frame_ends_the_stream(data: bytes, trailers: list[tuple[bytes, bytes]], kinds: list[type]) -> None:
    """RFC 9113 section 8.1: no empty frame where the head, the data or the trailers can say it."""
    line = Line()
    writer = line.writer()
    assert writer.begin(200, b"OK", [(b"Content-Type", b"x")], 0, keep=True)
    await writer.finish(data, trailers)
    assert (line.kinds(), writer.finished) == (kinds, True)


async def test_the_end_of_what_was_flushed_is_an_empty_frame() -> None:
    """A body whose end came late."""
    line = Line()
    writer = line.writer()
    writer.begin(200, b"OK", [], -1, keep=True)
    await writer.flush()
    await writer.write(b"some")
    assert not writer.finished
    await writer.finish(b"", [])
    assert line.kinds() == [ResponseReceived, DataReceived, DataReceived, StreamEnded]


async def test_what_has_no_room_waits_for_it() -> None:
    """A window that opens, or a system that takes bytes again, lets it go on."""
    line = Line(window=3)
    writer = line.writer()
    writer.begin(200, b"OK", [], 8, keep=True)
    task = line.loop.create_task(writer.finish(b"12345678", []))
    await asyncio.sleep(0)
    assert [event.data for event in line.seen if isinstance(event, DataReceived)] == [b"123"]
    line.blocked = True
    line.client.increment_flow_control_window(100, 1)
    line.tell()
    writer.wake()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    line.blocked = False
    writer.wake()
    await task
    assert b"".join(event.data for event in line.seen if isinstance(event, DataReceived)) == b"12345678"
    line.wheel.close()


async def test_a_client_that_left_is_a_fault_of_its_side() -> None:
    """While something waits for room, and when something is begun."""
    line = Line(window=0)
    writer = line.writer()
    left: list[bool] = []
    writer.watch(lambda: left.append(True))
    writer.begin(200, b"OK", [], 8, keep=True)
    task = line.loop.create_task(writer.finish(b"12345678", []))
    await asyncio.sleep(0)
    writer.leave()
    with pytest.raises(Fault) as caught:
        await task
    assert (caught.value.kind, left, writer.gone()) == ("client_gone_while_streaming", [True], True)
    with pytest.raises(Fault):
        await writer.interim(103, b"", [])
    late: list[bool] = []
    writer.watch(lambda: late.append(True))
    await asyncio.sleep(0)
    assert late == [True]
    line.wheel.close()


async def test_a_client_that_takes_nothing_is_gone() -> None:
    """Attack 68."""
    line = Line(window=0)
    writer = Http2Writer(line, 1, 0.0, malformed=False)
    writer.begin(200, b"OK", [], 8, keep=True)
    with pytest.raises(Fault) as caught:
        await writer.finish(b"12345678", [])
    assert caught.value.detail == "stalled"
    line.wheel.close()


async def test_what_broke_the_protocol_is_answered_and_not_ended() -> None:
    """RFC 9113 section 8.1.1: the stream's end is an error, which whoever serves the connection sends behind the answer."""
    line = Line()
    writer = line.writer(malformed=True)
    writer.begin(400, b"Bad Request", [], 3, keep=True)
    await writer.finish(b"bad", [])
    assert (line.kinds(), writer.finished) == ([ResponseReceived, DataReceived], True)


async def test_an_abort_is_a_reset() -> None:
    """What was sent cannot pass for the whole."""
    line = Line()
    writer = line.writer()
    writer.begin(200, b"OK", [], -1, keep=True)
    await writer.write(b"half")
    writer.abort()
    assert line.kinds() == [ResponseReceived, DataReceived, StreamReset]


@pytest.mark.parametrize("method", ["interim", "flush", "write", "finish"])
async def test_a_head_waits_for_a_connection_that_takes_nothing(method: str) -> None:
    """Attack 68: heads have no window: those of a hundred streams would pile up for a client that does not read."""
    line = Line()
    writer = line.writer()
    line.blocked = True
    writer.begin(200, b"OK", [(b"A", b"x" * 1000)], -1, keep=True)
    before = len(line.seen)
    calls: dict[str, tuple[Any, ...]] = {"interim": (103, b"", []), "flush": (), "write": (b"x",), "finish": (b"x", [])}
    task = line.loop.create_task(getattr(writer, method)(*calls[method]))
    await asyncio.sleep(0.01)
    assert (line.h2.pending, len(line.seen)) == (0, before)
    line.blocked = False
    writer.wake()
    await task
    assert any(isinstance(event, ResponseReceived | InformationalResponseReceived) for event in line.seen)


async def test_a_connection_that_is_slow_to_drain_is_no_stalled_stream() -> None:
    """`client_stall_timeout` are seconds in which a client takes nothing: whoever drains the connection sees what it takes."""
    line = Line()
    writer = Http2Writer(line, 1, 0.0, malformed=False)
    line.blocked = True
    writer.begin(200, b"OK", [], -1, keep=True)
    task = line.loop.create_task(writer.write(b"x"))
    await asyncio.sleep(2 * TICK)
    line.blocked = False
    writer.wake()
    await task
    assert line.kinds() == [ResponseReceived, DataReceived]
