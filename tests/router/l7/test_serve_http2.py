"""router/l7/serve_http2.py: many requests on one connection, in this process, on both event loops."""

import asyncio
import gc
import socket
import threading
import weakref
from typing import Any, cast

import pytest

from registry.endpoint import Endpoint
from registry.table import RouteTable
from router.backend.dial import Dialer
from router.backend.http1 import Http1Upstream
from router.l7.serve_http2 import Http2Session
from router.wire.http2 import ErrorCode
from tests.router.desk import desk, in_thread, settings
from tests.router.h2_caller import Caller
from tests.support.backend import EchoBackend, Exchange
from tests.support.waiting import until

HOST = "app.open.example"


async def test_requests_of_one_connection_are_answered_each_when_its_backend_is_ready(backend: EchoBackend) -> None:
    """The second does not wait for the first; each leaves a record."""
    release = threading.Event()

    def slow(exchange: Exchange) -> None:
        exchange.read_body()
        release.wait(10)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")

    async with desk(enable_h2c=True) as one:
        one.register(HOST, backend)
        backend.script(slow)
        with Caller(one.port()) as caller:
            first = caller.send(HOST, "/first", body=b"")
            await until(lambda: bool(backend.received), "the request")
            assert (await in_thread(caller.get, HOST, "/second")).status == 200
            release.set()
            assert (await in_thread(caller.wait, first)).body == b"slow"
        await one.idle()
        assert sorted(record.uri for record in one.records.records) == [b"/first", b"/second"]


async def test_a_large_answer_waits_for_the_reader_of_its_stream_alone(backend: EchoBackend) -> None:
    """RFC 9113 section 5.2: a stream whose window is closed holds back its backend, and no other stream."""
    big = bytes(8 << 20)
    async with desk(enable_h2c=True) as one:
        one.register(HOST, backend)
        backend.script(lambda exchange: exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(big) + big))
        with Caller(one.port(), window=1000) as caller:
            caller.credit = False
            large = caller.send(HOST, "/large", body=b"")
            while len(caller.answers[large].body) < 1000:
                await in_thread(caller.turn)
            small = caller.send(HOST, "/small", body=b"")
            caller.h2.increment_flow_control_window(100_000, small)
            caller.flush()
            assert (await in_thread(caller.wait, small)).status == 200
            assert len(caller.answers[large].body) == 1000
            assert [record.uri for record in one.records.records] == [b"/small"]
            caller.credit = True
            caller.h2.increment_flow_control_window(1 << 30, large)
            caller.h2.increment_flow_control_window(1 << 30)
            caller.flush()
            assert (await in_thread(caller.wait, large)).body == big


async def test_a_body_streams_to_its_backend_and_trailers_follow_it(backend: EchoBackend) -> None:
    """Without a length it becomes chunks; more than the window goes through."""
    data = bytes(range(256)) * 2000
    async with desk(enable_h2c=True) as one:
        one.register(HOST, backend)
        with Caller(one.port()) as caller:
            stream = caller.send(HOST, "/", "POST")

            def upload() -> None:
                rest = data
                while rest:
                    size = min(len(rest), caller.h2.local_flow_control_window(stream), 16_384)
                    if not size:
                        caller.turn()
                        continue
                    caller.h2.send_data(stream, rest[:size])
                    caller.flush()
                    rest = rest[size:]
                caller.h2.send_headers(stream, [("checksum", "abc")], end_stream=True)
                caller.flush()
                caller.wait(stream)

            await in_thread(upload)
            assert caller.answers[stream].status == 200
        assert backend.last.body == data
        assert backend.last.get("transfer-encoding") == "chunked"


async def test_a_client_that_resets_a_stream_is_waited_for_no_more(backend: EchoBackend) -> None:
    """499, its backend connection ends; the other streams do not notice."""
    heard = threading.Event()

    def listen(exchange: Exchange) -> None:
        exchange.read_body()
        if not exchange.recv():
            heard.set()

    backend.script(listen)
    async with desk(enable_h2c=True) as one:
        one.register(HOST, backend)
        with Caller(one.port()) as caller:
            stream = caller.send(HOST, body=b"")
            await until(lambda: bool(backend.received), "the request")
            caller.h2.reset_stream(stream, ErrorCode.CANCEL)
            caller.flush()
            assert await in_thread(heard.wait, 10)
            assert (await in_thread(caller.get, HOST)).status == 200
        await one.idle()
        assert [record.status for record in one.records.records] == [499, 200]


async def test_an_answer_before_the_end_of_its_request_ends_the_stream_and_nothing_else(backend: EchoBackend) -> None:
    """RFC 9113 section 8.1: the answer is whole, then RST_STREAM with NO_ERROR."""
    async with desk(enable_h2c=True) as one:
        one.register(HOST, backend)
        with Caller(one.port()) as caller:
            stream = caller.send("nobody.example", "/", "POST")
            answer = await in_thread(caller.wait, stream)
            while answer.reset is None:
                await in_thread(caller.turn)
            assert (answer.status, answer.reset) == (404, ErrorCode.NO_ERROR)
            assert (await in_thread(caller.get, HOST)).status == 200


@pytest.mark.parametrize(
    ("headers", "status"), [([("content-length", "0")], 200), ([("x-large", "0" * 66_000)], 431)], ids=["no length", "too large"]
)
async def test_a_request_without_a_body_that_does_not_end_holds_no_stream(
    backend: EchoBackend, headers: list[tuple[str, str]], status: int
) -> None:
    """Attack 68: its answer is whole, so the stream ends too; else a hundred of them would be all that a connection has."""
    async with desk(enable_h2c=True) as one:
        one.register(HOST, backend)
        with Caller(one.port()) as caller:
            for _ in range(2):
                answer = await in_thread(caller.wait, caller.send(HOST, "/", "POST", headers))
                while answer.reset is None:
                    await in_thread(caller.turn)
                assert (answer.status, answer.reset) == (status, ErrorCode.NO_ERROR)


async def test_a_response_that_breaks_off_is_no_whole_one(backend: EchoBackend) -> None:
    """RST_STREAM INTERNAL_ERROR behind what had come."""

    def break_off(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        exchange.close()

    backend.script(break_off)
    async with desk(enable_h2c=True) as one:
        one.register(HOST, backend)
        with Caller(one.port()) as caller:
            answer = await in_thread(caller.get, HOST)
            assert (answer.status, answer.body, answer.reset) == (200, b"half", ErrorCode.INTERNAL_ERROR)
            assert (await in_thread(caller.get, HOST)).status == 200


async def test_a_connection_that_breaks_the_protocol_ends_with_a_reason(backend: EchoBackend) -> None:
    """GOAWAY, a line in the log and a count; the request that was under way leaves its record."""

    def listen(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.recv()

    backend.script(listen)
    async with desk(enable_h2c=True) as one:
        one.register(HOST, backend)
        with Caller(one.port()) as caller:
            caller.send(HOST, body=b"")
            await until(lambda: bool(backend.received), "the request")
            caller.sock.sendall(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00")  # WINDOW_UPDATE by 0
            goodbye = await in_thread(caller.wait_end)
            assert goodbye is not None
            assert goodbye.error_code == ErrorCode.PROTOCOL_ERROR
        await one.idle()
        assert [record.status for record in one.records.records] == [499]
        [event] = one.log.of("http2-connection-ended")
        assert event["code"] == "PROTOCOL_ERROR"
        assert sum(one.counted("http2_connections_ended").values()) == 1


async def test_a_drain_says_goodbye_and_answers_what_is_under_way(backend: EchoBackend) -> None:
    """RFC 9113 section 6.8: idle connections end at once, busy ones with the last stream that was taken."""
    release = threading.Event()

    def slow(exchange: Exchange) -> None:
        exchange.read_body()
        release.wait(10)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")

    async with desk(enable_h2c=True) as one:
        one.register(HOST, backend)
        backend.script(slow)
        with Caller(one.port()) as idle, Caller(one.port()) as busy:
            await until(lambda: len(one.connections) == 2, "both connections")
            stream = busy.send(HOST, body=b"")
            await until(lambda: bool(backend.received), "the request")
            one.connections.close_idle()
            goodbye = await in_thread(idle.wait_end)
            assert goodbye is not None
            assert goodbye.error_code == ErrorCode.NO_ERROR
            while busy.goodbye is None:
                await in_thread(busy.turn)
            assert busy.goodbye.last_stream_id == stream
            release.set()
            await in_thread(busy.wait_end)
            assert b"slow" in busy.late
        await one.idle()


async def test_silence_ends_at_the_idle_deadline_but_not_under_a_stream(backend: EchoBackend) -> None:
    """`frontend_idle_timeout` counts where no request is under way; it ends with GOAWAY."""
    release = threading.Event()

    def slow(exchange: Exchange) -> None:
        exchange.read_body()
        release.wait(10)
        exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with desk(enable_h2c=True, frontend_idle_timeout="300ms") as one:
        one.register(HOST, backend)
        backend.script(slow)
        with Caller(one.port()) as idle, Caller(one.port()) as busy:
            stream = busy.send(HOST, body=b"")
            goodbye = await in_thread(idle.wait_end)
            assert goodbye is not None
            release.set()
            assert (await in_thread(busy.wait, stream)).status == 204
            await in_thread(busy.wait_end)
        await one.idle()


@pytest.mark.parametrize("data", [b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04"])
async def test_what_does_not_come_to_its_end_is_waited_for_no_longer_than_a_head(data: bytes) -> None:
    """Attack 76: a frame that stops in the middle; `frontend_idle_timeout` where nothing came at all."""
    async with desk(enable_h2c=True, read_header_timeout="300ms", frontend_idle_timeout="300ms") as one:
        with socket.create_connection(("127.0.0.1", one.port()), 10) as sock:
            sock.sendall(data)
            await one.idle()


async def test_a_client_that_takes_nothing_is_given_up(backend: EchoBackend) -> None:
    """Attack 68: `client_stall_timeout`, whether its window is closed or its socket full; memory is bounded by both."""
    big = bytes(4 << 20)
    async with desk(enable_h2c=True, client_stall_timeout="300ms") as one:
        one.register(HOST, backend)
        backend.always(lambda exchange: exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(big) + big))
        with Caller(one.port(), window=0) as closed:
            stream = closed.send(HOST, body=b"")
            answer = await in_thread(closed.wait, stream)
            assert (answer.status, answer.reset) == (200, ErrorCode.INTERNAL_ERROR)
        with Caller(one.port(), window=1 << 30) as full:
            full.h2.increment_flow_control_window(1 << 30)
            for _ in range(8):
                full.send(HOST, body=b"")
            await one.idle()
        assert {record.status for record in one.records.records} == {200}
        # What the kernel took counts as sent; of 32 MiB that is the smaller part.
        broken = [
            record for record in one.records.records if record.router_error == "client-conn-closed-during-response-streaming"
        ]
        assert len(broken) > len(one.records.records) / 2


async def test_a_frame_that_has_begun_is_due_though_an_answer_came_meanwhile(backend: EchoBackend) -> None:
    """Attack 76: the idle deadline, which begins with the last answer, does not take the place of a sooner one."""
    release = threading.Event()

    def slow(exchange: Exchange) -> None:
        release.wait(10)
        exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with desk(enable_h2c=True, client_stall_timeout="500ms") as one:
        one.register(HOST, backend)
        backend.script(slow)
        with Caller(one.port()) as caller:
            await in_thread(caller.get, "nobody.example")  # whose answers leave the caller nothing more to say
            stream = caller.send(HOST, body=b"")
            await until(lambda: bool(backend.received), "the request")
            caller.sock.sendall(b"\x00\x00\x08\x06")
            await asyncio.sleep(0.1)  # or it would come after the answer
            release.set()
            assert (await in_thread(caller.wait, stream)).status == 204
            goodbye = await in_thread(caller.wait_end)
            assert goodbye is not None
            assert goodbye.error_code == ErrorCode.NO_ERROR
        await one.idle()


async def test_streams_share_a_window_that_is_too_narrow_for_one(backend: EchoBackend) -> None:
    """RFC 9113 section 5.2.1: the first that asked does not take all that the connection lets through."""
    big = bytes(1 << 20)
    backend.always(lambda exchange: exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(big) + big))
    async with desk(enable_h2c=True) as one:
        one.register(HOST, backend)
        with Caller(one.port(), window=1 << 30) as caller:
            caller.credit = False
            streams = [caller.send(HOST, body=b"") for _ in range(4)]

            def read() -> None:
                room = 65_535
                while not all(answer.status for answer in caller.answers.values()):
                    caller.turn()
                while not any(answer.over for answer in caller.answers.values()):
                    while sum(len(answer.body) for answer in caller.answers.values()) < room:
                        caller.turn()
                    caller.h2.increment_flow_control_window(65_535)
                    caller.flush()
                    room = min(room + 65_535, 4 * len(big))

            await in_thread(read)
            assert min(len(caller.answers[stream].body) for stream in streams) > len(big) // 8


async def test_requests_that_were_reset_while_their_endpoint_was_dialled_are_bounded_and_not_sent(
    backend: EchoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack 62: the streams go at once, their exchanges do not: four for each stream at most, and no backend hears of them."""
    release, dial = asyncio.Event(), Dialer.dial

    async def slow(self: Dialer, endpoint: Endpoint, until: float, within: float | None = None) -> Http1Upstream:
        await release.wait()
        return await dial(self, endpoint, until, within)

    monkeypatch.setattr(Dialer, "dial", slow)
    async with desk(enable_h2c=True, backends={"max_conns": 0}) as one:
        one.register(HOST, backend)
        with Caller(one.port()) as caller:

            def reset_ninety() -> None:
                streams = [caller.send(HOST, body=b"") for _ in range(90)]
                caller.wait(caller.send("nobody.example", body=b""))  # they are being dealt with
                for stream in streams:
                    caller.h2.reset_stream(stream, ErrorCode.CANCEL)
                caller.flush()

            for _ in range(4):
                await in_thread(reset_ninety)
            more = [caller.send(HOST, body=b"") for _ in range(50)]
            await in_thread(caller.wait, more[-1])
            refused = [stream for stream in more if caller.answers[stream].reset == ErrorCode.REFUSED_STREAM]
            assert refused == more[40:]
            release.set()
            for stream in more[:40]:
                assert (await in_thread(caller.wait, stream)).status == 200
        await one.idle()
        assert len(backend.received) == 40
        assert [record.status for record in one.records.records].count(499) == 360


async def test_a_client_that_leaves_does_not_wait_for_a_backend_that_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 62: a request that is here as a whole, and that the backend's system does not take: its reset ends the exchange."""
    start = Http1Upstream.start

    def choked(self: Http1Upstream, *request: Any) -> memoryview | None:
        self.stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return start(self, *request)

    monkeypatch.setattr(Http1Upstream, "start", choked)
    with socket.socket() as backend:
        backend.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        backend.bind(("127.0.0.1", 0))
        backend.listen()
        async with desk(enable_h2c=True) as one:
            one.register(HOST, backend.getsockname()[1])
            with Caller(one.port()) as caller:
                stream = caller.send(HOST, "/", "POST", [("content-length", "60000")])
                for at in range(0, 60_000, 15_000):
                    caller.h2.send_data(stream, bytes(15_000), end_stream=at == 45_000)
                caller.flush()
                await until(lambda: one.live.snapshot.idle.size == 0 and bool(one.seen) and one.seen[0].busy, "the request")
                await asyncio.sleep(0.1)
                caller.h2.reset_stream(stream, ErrorCode.CANCEL)
                caller.flush()
                await until(lambda: bool(one.records.records), "its end")
                assert one.records.records[0].status == 499


async def test_a_reload_that_changes_the_client_policy_says_goodbye() -> None:
    """Decision 6: a connection without streams ends, one of another domain does not notice."""
    async with desk(enable_h2c=True) as one:
        with Caller(one.port()) as caller:
            await until(lambda: len(one.connections) == 1, "the connection")
            one.adopt(settings(enable_h2c=True))
            assert (await in_thread(caller.get, "nobody.example")).status == 404
            assert caller.goodbye is None


async def test_an_exchange_that_fails_ends_its_stream_and_is_told(backend: EchoBackend) -> None:
    """A fault of ours ends one stream, is logged and counted; the connection serves on."""

    class Broken:
        def lookup(self, host: str, path: str) -> None:
            raise RuntimeError("unforeseen")

    async with desk(enable_h2c=True) as one:
        one.register(HOST, backend)
        table, one.live.table = one.live.table, cast("RouteTable", Broken())
        with Caller(one.port()) as caller:
            answer = await in_thread(caller.get, HOST)
            one.live.table = table
            assert answer.reset == ErrorCode.INTERNAL_ERROR
            assert (await in_thread(caller.get, HOST)).status == 200
        assert "stream-failed" in one.log.names


@pytest.mark.parametrize("how", ["whole", "reset", "broken off"])
async def test_a_connection_that_has_ended_is_freed_at_once(backend: EchoBackend, how: str) -> None:
    """Not when the collector comes round, a thousand connections later: what each holds is much. Faults hold nothing either."""

    def break_off(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        exchange.close()

    gc.collect()
    gc.disable()
    try:
        async with desk(enable_h2c=True) as one:
            one.register(HOST, backend)
            with Caller(one.port()) as caller:
                if how == "reset":
                    stream = caller.send(HOST, "/", "POST")
                    await until(lambda: bool(backend.received), "the request")
                    caller.h2.reset_stream(stream)
                    caller.flush()
                elif how == "broken off":
                    backend.script(break_off)
                    assert (await in_thread(caller.get, HOST)).reset is not None
                assert (await in_thread(caller.get, HOST)).status == 200
                (session,) = [weakref.ref(each) for each in gc.get_objects() if isinstance(each, Http2Session)]
            await until(lambda: session() is None, "the session to go")
    finally:
        gc.enable()
