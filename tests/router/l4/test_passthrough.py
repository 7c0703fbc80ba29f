"""router/l4/passthrough.py: from an arrival to its record, over real TCP on both event loops."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import cast

import pytest

from router.l4 import passthrough as module
from router.l4.passthrough import L4Door
from router.l4.relay import Plumbing
from router.l4.routes import L4Route
from router.net.arrival import Arrival, spelt
from router.net.listener import Listener
from router.observe.access_log import AccessLog
from router.observe.log import Logger
from router.observe.metrics import Metrics
from router.observe.passthrough_record import PassthroughRecord
from router.wire.proxy_protocol import ProxyHeader, parse_proxy_header
from tests.router.l4.plumbing import descriptors, plumbing, reset
from tests.router.net.pairs import SOON, tcp_pair
from tests.support.failing import Mute
from tests.support.recorder import RecordingLog

CLIENT = ("203.0.113.7", 40_000)


class Records:
    """Stands for the access log."""

    def __init__(self) -> None:
        self.records: list[PassthroughRecord] = []

    def add_passthrough(self, record: PassthroughRecord) -> None:
        self.records.append(record)


class Door:
    """The L4 door of a process, and a client before it."""

    def __init__(self, around: Plumbing) -> None:
        self.around = around
        self.metrics, self.log, self.records = Metrics(), RecordingLog(), Records()
        self.passthrough = L4Door(around, self.metrics, cast("AccessLog", self.records), cast("Logger", self.log))

    def visit(self, route: L4Route, hello: bytes = b"hello") -> tuple[socket.socket, "asyncio.Future[Arrival]"]:
        """A client that says hello, and its story."""
        ours, theirs = tcp_pair()
        theirs.sendall(hello)
        around, listener = self.around, cast("Listener", SimpleNamespace(name="edge"))
        arrival = Arrival(ours, theirs.getsockname(), listener, around.loop, around.wheel, around.edges)
        arrival.client = CLIENT
        arrival.look(65536)
        over: asyncio.Future[Arrival] = around.loop.create_future()
        self.passthrough.pass_on(arrival, route, "a.example", over.set_result)
        return theirs, over

    def counted(self, name: str) -> list[str]:
        """The samples of a metric that are not zero."""
        return [
            line
            for family in self.metrics.families
            if family.name == name
            for line in family.samples()
            if not line.endswith(" 0")
        ]


@contextmanager
def door() -> Iterator[Door]:
    with plumbing() as around:
        yield Door(around)


def route(*backends: tuple[str, int], **more: object) -> L4Route:
    return L4Route("web", 443, ("a.example",), backends, **more)  # type: ignore[arg-type]


@contextmanager
def server(count: int = 1) -> Iterator[list[socket.socket]]:
    """Listening sockets on loopback; accepted ones wait for at most SOON."""
    made = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    for one in made:
        one.settimeout(SOON)
    yield made
    for one in made:
        one.close()


def address(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return str(host), int(port)


async def accepted(sock: socket.socket) -> socket.socket:
    connection, _ = await asyncio.get_running_loop().run_in_executor(None, sock.accept)
    connection.settimeout(SOON)
    return connection


async def heard(sock: socket.socket, size: int = 65536) -> bytes:
    return cast("bytes", await asyncio.get_running_loop().run_in_executor(None, sock.recv, size))


async def test_a_connection_passes_from_its_first_byte_and_leaves_one_record() -> None:
    """Client, route, backend, bytes both ways, seconds and ending are in it, and in the metrics."""
    with door() as one, server() as (listening,):
        client, story = one.visit(route(address(listening)))
        backend = await accepted(listening)
        assert await heard(backend) == b"hello"
        backend.sendall(b"welcome")
        assert await heard(client) == b"welcome"
        assert len(one.passthrough.passages) == 1
        client.close()
        backend.close()
        await story
        (record,) = one.records.records
        assert (record.route, record.sni, record.listener) == ("web", "a.example", "edge")
        assert (record.client, record.backend) == ("203.0.113.7:40000", spelt(address(listening)))
        assert record.peer.startswith("127.0.0.1:")
        assert (record.bytes_in, record.bytes_out, record.ending, record.broken_by) == (5, 7, "ended", "")
        assert 0 <= record.dial_time <= record.seconds
        assert one.counted("l4_connections") == ['l4_connections{route="web",ending="ended"} 1']
        assert one.counted("l4_bytes") == ['l4_bytes{direction="in"} 5', 'l4_bytes{direction="out"} 7']
        assert "l4_dial_seconds_count 1" in one.counted("l4_dial_seconds")
        assert (len(one.passthrough.passages), len(one.around.edges)) == (0, 0)


@pytest.mark.parametrize(("version", "begins"), [("v1", b"PROXY TCP4 203.0.113.7 "), ("v2", b"\r\n\r\n\0\r\nQUIT\n")])
async def test_the_proxy_header_stands_before_the_first_byte_and_is_not_counted(version: str, begins: bytes) -> None:
    """R98, R99: the real client, and the backend's address; then what the client said."""
    with door() as one, server() as (listening,):
        client, story = one.visit(route(address(listening), send_proxy=version))
        backend = await accepted(listening)
        data = b""
        while not data.endswith(b"hello"):
            data += await heard(backend)
        assert data.startswith(begins)
        header = parse_proxy_header(data)
        assert isinstance(header, ProxyHeader)
        assert (header.source, header.destination) == (CLIENT, address(listening))
        assert data[header.size :] == b"hello"
        client.close()
        backend.close()
        await story
        assert one.records.records[0].bytes_in == 5


async def test_backends_take_turns() -> None:
    """Round robin, whichever connection ends when."""
    with door() as one, server(3) as listening:
        spread = route(*map(address, listening))
        visits = [one.visit(spread) for _ in range(6)]
        for listener in listening * 2:
            backend = await accepted(listener)
            assert await heard(backend) == b"hello"
            backend.close()
        for client, story in visits:
            client.close()
            await story
        assert [record.backend for record in one.records.records].count(spelt(address(listening[0]))) == 2


async def test_a_backend_that_refuses_is_passed_over() -> None:
    """The next one is tried; the failure is logged and counted, the client notices nothing."""
    with server() as (gone,):
        nobody = address(gone)
    with door() as one, server() as (listening,):
        client, story = one.visit(route(nobody, address(listening)))
        backend = await accepted(listening)
        assert await heard(backend) == b"hello"
        client.close()
        backend.close()
        await story
        (record,) = one.records.records
        assert (record.failed_attempts, record.backend, record.ending) == (1, spelt(address(listening)), "ended")
        assert one.counted("l4_dial_failures") == ['l4_dial_failures{reason="dial_failed"} 1']
        (event,) = one.log.of("l4-dial-failed")
        assert (event["backend"], event["detail"]) == (spelt(nobody), "ECONNREFUSED")


async def test_a_backend_that_does_not_answer_leaves_the_others_their_share_of_the_deadline() -> None:
    """One black hole does not cost the connection."""
    with door() as one, server() as (listening,), Mute(full=True) as mute:
        client, story = one.visit(route(("127.0.0.1", mute.port), address(listening), connect_deadline=0.8))
        backend = await accepted(listening)
        assert await heard(backend) == b"hello"
        client.close()
        backend.close()
        await story
        assert one.records.records[0].failed_attempts == 1
        assert 0.4 <= one.records.records[0].dial_time < 1.5


async def test_without_any_backend_the_client_is_reset_within_the_deadline() -> None:
    """One record all the same, with the reason; nothing stays behind."""
    with server() as (gone,):
        nobody = address(gone)
    with door() as one:
        before = descriptors()
        client, story = one.visit(route(nobody, nobody))
        with pytest.raises(ConnectionResetError):
            await heard(client)
        client.close()
        await story
        (record,) = one.records.records
        assert (record.ending, record.failed_attempts, record.bytes_in) == ("dial_failed", 2, 0)
        assert one.counted("l4_connections") == ['l4_connections{route="web",ending="dial_failed"} 1']
        assert (descriptors(), len(one.around.edges)) == (before, 0)


async def test_a_route_without_backends_is_a_reset_too() -> None:
    """The configuration forbids it; the door does not depend on that."""
    with door() as one:
        client, story = one.visit(route())
        with pytest.raises(ConnectionResetError):
            await heard(client)
        client.close()
        await story
        assert one.records.records[0].ending == "no_backend"


async def test_a_backend_that_is_gone_before_its_proxy_header_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must never hear the client's bytes without the header; no descriptor stays."""

    def fail(*_: object) -> bytes:
        raise ValueError("no address")

    monkeypatch.setattr(module, "render_v2", fail)
    with door() as one, server() as (listening,):
        before = descriptors()
        client, story = one.visit(route(address(listening), send_proxy="v2"))
        with pytest.raises(ConnectionResetError):
            await heard(client)
        client.close()
        await story
        backend = await accepted(listening)
        assert await heard(backend) == b""
        backend.close()
        assert one.records.records[0].ending == "dial_failed"
        assert (descriptors(), len(one.around.edges)) == (before, 0)


async def test_the_routes_deadlines_are_the_relays() -> None:
    """Idle and total."""
    with door() as one, server() as (listening,):
        for more, ending in (({"idle_deadline": 0.3}, "idle"), ({"total_deadline": 0.3}, "late")):
            client, story = one.visit(route(address(listening), **more))
            backend = await accepted(listening)
            await story
            assert one.records.records[-1].ending == ending
            client.close()
            backend.close()


async def test_a_broken_side_is_named() -> None:
    """Who reset the connection is what an operator asks first."""
    with door() as one, server() as (listening,):
        client, story = one.visit(route(address(listening)))
        backend = await accepted(listening)
        await heard(backend)
        reset(backend)
        await story
        client.close()
        assert (one.records.records[0].ending, one.records.records[0].broken_by) == ("broken", "backend")


@pytest.mark.parametrize("when", ["dialling", "joined"])
async def test_a_passage_that_is_ended_closes_both_sides_and_is_recorded(when: str) -> None:
    """The end of the process."""
    with door() as one, server() as (listening,), Mute(full=True) as mute:
        before = descriptors()
        client, story = one.visit(route(("127.0.0.1", mute.port) if when == "dialling" else address(listening)))
        (passage,) = one.passthrough.passages
        passage.end("drained")
        passage.end("idle")
        assert story.done()
        with pytest.raises(ConnectionResetError):
            await heard(client)
        client.close()
        assert [record.ending for record in one.records.records] == ["drained"]
        assert (descriptors(), len(one.around.edges), len(one.passthrough.passages)) == (before, 0, 0)


@pytest.mark.parametrize("when", ["at once", "later"])
async def test_what_nobody_foresaw_ends_one_connection_alone(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logged, counted, recorded; nothing stays behind, whether the backend was there at once or had to be waited for."""

    def fail(*_: object) -> None:
        raise ArithmeticError("unforeseen")

    with door() as one, server() as (listening,):
        before = descriptors()
        monkeypatch.setattr(module.Passage, "_join", fail)
        name = "127.0.0.1" if when == "at once" else "localhost"
        client, story = one.visit(route((name, address(listening)[1])))
        assert story.done() == (when == "at once")
        await story
        with pytest.raises(ConnectionResetError):
            await heard(client)
        client.close()
        assert [record.ending for record in one.records.records] == ["broken"]
        assert one.log.of("connection-failed")[0]["error"] == "ArithmeticError"
        assert one.counted("internal_errors") == ["internal_errors 1"]
        assert (descriptors(), len(one.around.edges), len(one.passthrough.passages)) == (before, 0, 0)


async def test_turns_are_remembered_for_so_many_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reloads with new names forever do not grow the process."""
    monkeypatch.setattr(module, "MAX_TURNS", 2)
    with door() as one:
        for number in range(5):
            one.passthrough.in_turn(L4Route(f"r{number}", 1, (), (("127.0.0.1", 1), ("127.0.0.1", 2))))
        assert len(one.passthrough._turns) <= 2
