"""The promise: server-sent events, and all that trickles, is passed on at once and for as long as it flows."""

import queue
from collections.abc import Iterator

import pytest

from tests.support.backend import Exchange
from tests.support.client import Client, Tls
from tests.support.http2_client import Http2Client
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import RouterProcess, wait_until
from tests.support.site import Site, site

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"


@pytest.fixture(scope="module")
def place(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """On a router whose clients and connections may not be silent for long, unlike its endpoints."""
    directory = tmp_path_factory.mktemp("events")
    with (
        RouterProcess(directory, nats=nats_server, frontend_idle_timeout="300ms", client_stall_timeout="300ms") as router,
        Registrar(nats_server.port, router) as registrar,
        site(router, registrar) as made,
    ):
        yield made


class Stream:
    """A backend's step that sends each event when the test says so; None ends it."""

    def __init__(self, *, chunked: bool) -> None:
        self.events: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.chunked = chunked
        self.left = False

    def __call__(self, exchange: Exchange) -> None:
        exchange.send(HEAD + (b"Transfer-Encoding: chunked\r\n\r\n" if self.chunked else b"Connection: close\r\n\r\n"))
        try:
            while (event := self.events.get(timeout=15)) is not None:
                exchange.send(b"%x\r\n%b\r\n" % (len(event), event) if self.chunked else event)
        except OSError:
            self.left = True
            return
        if self.chunked:
            exchange.send(b"0\r\n\r\n")
        else:
            exchange.close()


EVENTS = [b"data: one\n\n", b": a comment\n\n", b"id: 3\ndata: three\n\n"]


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "until close"])
@pytest.mark.parametrize("over_tls", [True, False], ids=["tls", "plain"])
def test_events_are_flushed_at_once_over_http_1_1(place: Site, chunked: bool, over_tls: bool) -> None:
    """The head is here before the first event, each event before the next is sent."""
    stream = Stream(chunked=chunked)
    place.backend.script(stream)
    with place.client(Tls(place.host) if over_tls else None) as client:
        client.send(f"GET /events HTTP/1.1\r\nHost: {place.host}\r\nAccept: text/event-stream\r\n\r\n".encode())
        _until(client, b"\r\n\r\n")
        for event in EVENTS:
            stream.events.put(event)
            _until(client, event)
        stream.events.put(None)


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "until close"])
def test_events_are_flushed_at_once_over_http2(place: Site, chunked: bool) -> None:
    """The same on two streams of one connection, turn by turn; neither ends because it is silent for a while."""
    streams = [Stream(chunked=chunked), Stream(chunked=chunked)]
    place.backend.script(*streams)
    with Http2Client(place.router.ssl_port, Tls(place.host)) as client:
        numbers = []
        for _ in streams:
            numbers.append(client.open(place.host, "/events", headers=[("accept", "text/event-stream")]))
            client.wait(lambda: client.answer(numbers[-1]).status, "the head before the first event")
        for event in EVENTS:
            for number, stream in zip(numbers, streams, strict=True):
                stream.events.put(event)
                client.wait(lambda: client.answer(number).body.endswith(event), "an event")  # noqa: B023
        for stream in streams:
            stream.events.put(None)
        for number in numbers:
            answer = client.response(number)
            assert (answer.body, answer.get("content-type"), answer.ended) == (b"".join(EVENTS), "text/event-stream", True)


def test_a_silent_stream_outlives_the_idle_deadline_of_connections(place: Site) -> None:
    """An open stream is not an idle connection: an event comes long after `frontend_idle_timeout` and `client_stall_timeout`."""
    stream = Stream(chunked=True)
    place.backend.script(stream)
    with Http2Client(place.router.ssl_port, Tls(place.host)) as client, Client(place.router.port) as marker:
        number = client.open(place.host, "/events")
        client.wait(lambda: client.answer(number).status, "the head")
        assert marker.request(place.host).status == 200
        assert marker.closed_by_server()  # an idle connection that began later has been ended
        with place.client() as second:
            assert second.request(place.host).status == 200
            assert second.closed_by_server()
        stream.events.put(EVENTS[0])
        client.wait(lambda: client.answer(number).body == EVENTS[0], "an event after the silence")
        stream.events.put(None)
        assert client.response(number).ended


ASSETS = {
    "/": ("text/html; charset=utf-8", b"<!doctype html><script src=/htmx.js></script><div hx-ext=sse sse-connect=/events></div>"),
    "/htmx.js": ("text/javascript", b"x" * 50_000),
    "/logo.png": ("image/png", bytes(range(256)) * 40),
}


def _asset(exchange: Exchange) -> None:
    kind, data = ASSETS[exchange.request.request_line.split(" ")[1]]
    head = f'HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\nETag: "1"\r\n\r\n'
    exchange.send(head.encode() + data)


@pytest.mark.parametrize("http2", [True, False], ids=["http2", "http1"])
def test_a_web_interface_works(place: Site, http2: bool) -> None:
    """R121: a page, its script and its picture, byte for byte, while its events are open beside them."""
    events = Stream(chunked=True)
    place.backend.script(events, *[_asset] * len(ASSETS))
    if http2:
        with Http2Client(place.router.ssl_port, Tls(place.host)) as client:
            number = client.open(place.host, "/events")
            client.wait(lambda: client.answer(number).status, "the head of the events")
            streams = {path: client.open(place.host, path) for path in ASSETS}
            answers = {path: client.response(stream) for path, stream in streams.items()}
            assert {path: (one.get("content-type"), one.body) for path, one in answers.items()} == ASSETS
            events.events.put(EVENTS[0])
            client.wait(lambda: client.answer(number).body == EVENTS[0], "an event")
    else:
        with place.client(Tls(place.host)) as listening, place.client(Tls(place.host)) as client:
            listening.send(f"GET /events HTTP/1.1\r\nHost: {place.host}\r\n\r\n".encode())
            _until(listening, b"\r\n\r\n")
            for path, (kind, data) in ASSETS.items():
                response = client.request(place.host, path)
                assert (response.get("content-type"), response.body) == (kind, data)
            events.events.put(EVENTS[0])
            _until(listening, EVENTS[0])
    events.events.put(None)


def test_a_listener_that_leaves_ends_its_source(place: Site) -> None:
    """EventSource.close() resets the stream: the backend's connection ends, and it does not sing to nobody."""
    stream = Stream(chunked=True)
    place.backend.script(stream)
    with Http2Client(place.router.ssl_port, Tls(place.host)) as client:
        number = client.open(place.host, "/events")
        client.wait(lambda: client.answer(number).status, "the head")
        client.reset(number)

        def let_go() -> bool:
            stream.events.put(EVENTS[0])
            return stream.left

        wait_until(let_go, "the backend to notice")
        assert client.request(place.host).status == 200


def _until(client: Client, end: bytes) -> bytes:
    got = b""
    while end not in got:
        piece = client.recv()
        assert piece, f"ended after {got!r}"
        got += piece
    return got
