"""Attack 68: clients that ask for much and take nothing: windows of 0 or 1, windows that shrink, sockets that nobody reads."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.attacks.floods import assert_ended, unharmed
from tests.support.backend import Exchange
from tests.support.client import Tls
from tests.support.http2_client import Code, FrameClient, Http2Client, data_frame, headers_frame, raw_frame, window_frame
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import RouterProcess, wait_until
from tests.support.site import Site, site

STALL = 0.6
"""Seconds in which a client must take something."""
INITIAL_WINDOW_SIZE = 4
STREAMS = 100
MIB = 1 << 20


@pytest.fixture(scope="module")
def stalling(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    directory = tmp_path_factory.mktemp("stalling")
    with RouterProcess(directory, nats=nats_server, client_stall_timeout=f"{STALL}s") as process:
        yield process


@pytest.fixture(scope="module")
def stalling_registrar(nats_server: NatsServer, stalling: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, stalling) as made:
        yield made


@pytest.fixture
def place(stalling: RouterProcess, stalling_registrar: Registrar) -> Iterator[Site]:
    """Its backend answers each request with a MiB."""
    with site(stalling, stalling_registrar) as made:
        made.backend.always(_megabyte)
        yield made


@pytest.fixture(scope="module")
def neighbour(stalling: RouterProcess, stalling_registrar: Registrar) -> Iterator[Site]:
    with site(stalling, stalling_registrar) as made:
        yield made


def _megabyte(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MIB + bytes(MIB))


def _greedy(place: Site, window: int) -> FrameClient:
    """A hundred requests on one connection, with this window for each answer."""
    client = FrameClient(place.router.ssl_port, Tls(place.host), settings={INITIAL_WINDOW_SIZE: window})
    for _ in range(STREAMS):
        client.ask(client.head(place.host))
    return client


def _given_up(client: FrameClient) -> bool:
    """Every stream was reset, or the connection ended."""
    return client.ended or all(answer.reset is not None for number, answer in client.answers.items() if number)


@pytest.mark.parametrize("window", [0, 1, 100], ids=["no window", "one byte", "a hundred bytes"])
def test_streams_without_a_window_are_given_up(place: Site, neighbour: Site, window: int) -> None:
    """Attack 68: CVE-2019-9517: after the write deadline the streams are reset or the connection ends, no backend is held any
    longer, and what was kept meanwhile is far less than what was asked for.
    """
    with unharmed(neighbour), _greedy(place, window) as client:
        wait_until(lambda: len(place.backend.received) >= STREAMS // 2, "the requests at the backend")
        while not _given_up(client):
            client.wait(lambda: client.ended or _given_up(client), "the streams to be given up")
        place.wait_for_connections(0)


def test_a_connection_window_of_nothing_is_given_up_too(place: Site, neighbour: Site) -> None:
    """Attack 68: streams with large windows behind a connection window that never opens."""
    with unharmed(neighbour), _greedy(place, 2**31 - 1) as client:
        client.wait(lambda: client.ended or _given_up(client), "the streams to be given up")
        place.wait_for_connections(0)
        assert sum(len(answer.body) for answer in client.answers.values()) <= 65_535


def test_a_socket_that_nobody_reads_is_given_up(place: Site, neighbour: Site) -> None:
    """Attack 68: CVE-2019-9511: windows are open, the socket is not read: what waits to be sent is bounded, then the end."""
    with unharmed(neighbour, kib=48 * 1024), FrameClient(place.router.ssl_port, Tls(place.host)) as client:
        client.reading = False
        client.write(raw_frame(4, 0, b"\0\4\x7f\xff\xff\xff") + window_frame(0, 2**31 - 1 - 65_535))
        client.write(b"".join(headers_frame(client.next_stream(), client.head(place.host)) for _ in range(STREAMS)))
        wait_until(lambda: len(place.backend.received) >= STREAMS // 2, "the requests at the backend")
        wait_until(lambda: place.backend.open_connections < STREAMS // 4, "all but the answered ones to be given up")
        client.reading = True
        client.wait_end()
        assert sum(len(answer.body) for answer in client.answers.values()) < STREAMS * MIB // 2


def test_a_window_opened_byte_by_byte_ends_the_connection(place: Site, neighbour: Site) -> None:
    """Attack 68: one byte at a time keeps the write deadline away and the server busy: the budget for such frames ends it."""
    with unharmed(neighbour), _greedy(place, 0) as client:
        client.wait(lambda: any(answer.status for answer in client.answers.values()), "a head")
        piece = b"".join(window_frame(stream, 1) for stream in range(1, 2 * STREAMS, 2))
        for _ in range(2_000):
            if not client.write(piece):
                break
        assert_ended(client.wait_end(), place, Code.ENHANCE_YOUR_CALM)


def test_a_window_that_overflows_is_an_error(place: Site) -> None:
    """Attack 68: SETTINGS that lift an open stream's window above 2^31-1: FLOW_CONTROL_ERROR (RFC 9113 section 6.9.2)."""
    with FrameClient(place.router.ssl_port, Tls(place.host), settings={INITIAL_WINDOW_SIZE: 0}) as client:
        stream = client.ask(client.head(place.host))
        client.write(window_frame(stream, 2**31 - 1) + raw_frame(4, 0, b"\0\4\0\0\0\1"))
        assert_ended(client.wait_end(), place, Code.FLOW_CONTROL_ERROR)


def test_a_window_that_shrinks_and_grows_loses_no_byte(place: Site) -> None:
    """Attack 68: a window may fall below 0 and rise again while a body flows (RFC 9113 section 6.9.2)."""
    with FrameClient(place.router.ssl_port, Tls(place.host)) as client:
        stream = client.ask(client.head(place.host))
        answer = client.answer(stream)
        client.wait(lambda: len(answer.body) == 65_535, "the first window")
        client.write(raw_frame(4, 0, b"\0\4\0\0\0\0") + window_frame(0, 2 * MIB) + window_frame(stream, 65_535))
        client.write(raw_frame(6, 0, b"12345678"))
        client.wait(lambda: client.pings, "the answer to the PING")
        assert len(answer.body) == 65_535
        client.write(window_frame(stream, 10))
        client.wait(lambda: len(answer.body) == 65_545, "ten bytes more")
        client.write(raw_frame(4, 0, b"\0\4\0\1\0\0") + window_frame(stream, 2 * MIB))
        assert client.response(stream).body == bytes(MIB)


def test_one_stream_that_stalls_does_not_hold_back_the_others(place: Site) -> None:
    """Attack 68: a stream whose window is shut is given up by itself; others of its connection are served before and after."""
    with Http2Client(place.router.ssl_port, Tls(place.host), credit=False) as client:
        client.connection.increment_flow_control_window(2**30)
        client.flush()
        stalled = client.open(place.host)
        client.wait(lambda: len(client.answer(stalled).body) == 65_535, "all that the window lets through")
        place.backend.always(None)
        assert client.request(place.host).status == 200
        assert client.response(stalled).reset is not None
        assert client.request(place.host).status == 200


# The other direction: clients that send slowly


def test_an_upload_that_moves_is_no_stall_however_its_frames_are_cut(place: Site, neighbour: Site) -> None:
    """Attack 68: what comes always ends inside a frame, for longer than the deadline: frames become whole, so nobody stalls."""
    place.backend.always(None)
    with (
        FrameClient(place.router.ssl_port, Tls(place.host)) as client,
        Http2Client(place.router.ssl_port, Tls(neighbour.host)) as pace,
    ):
        stream = client.ask(client.head(place.host, method="POST"), end=False)
        began, sent = time.monotonic(), 0
        piece = data_frame(stream, b"x" * 100)
        client.write(piece[:50])
        while time.monotonic() - began < 2.5 * STALL:
            client.write(piece[50:] + piece[:50])
            sent += 1
            assert pace.request(neighbour.host).status == 200
            assert not client.ended, f"after {time.monotonic() - began} s"
        client.write(piece[50:] + data_frame(stream, end=True))
        answer = client.response(stream)
        assert json.loads(answer.body)["length"] == 100 * (sent + 1)


@pytest.mark.parametrize("kept", [1, 9, 30], ids=["half a frame's head", "a frame's head", "half a frame"])
def test_a_frame_that_does_not_come_to_its_end_is_not_waited_for(place: Site, neighbour: Site, kept: int) -> None:
    """Attack 76 over HTTP/2: a stall inside a frame ends the connection at the deadline, and the backend is let go."""
    place.backend.always(lambda exchange: exchange.recv())
    with unharmed(neighbour), FrameClient(place.router.ssl_port, Tls(place.host)) as client:
        stream = client.ask(client.head(place.host, method="POST", more=[("content-length", "100")]), end=False)
        client.write(data_frame(stream, b"x" * 100)[:kept])
        client.wait_end(5)
        place.wait_for_connections(0)


def test_a_body_that_does_not_come_is_not_waited_for(place: Site, neighbour: Site) -> None:
    """Attack 76 over HTTP/2: a stall between frames ends its stream, and the connection goes on."""
    place.backend.always(None)
    with unharmed(neighbour), FrameClient(place.router.ssl_port, Tls(place.host)) as client:
        stream = client.ask(client.head(place.host, method="POST", more=[("content-length", "100")]), end=False)
        client.write(data_frame(stream, b"x" * 50))
        answer = client.response(stream)
        assert answer.status == 408 or answer.reset is not None
        assert client.response(client.ask(client.head(place.host))).status == 200
    assert [one.body for one in place.backend.received if one.complete and one.request_line.startswith("POST")] == []
