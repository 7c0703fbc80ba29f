"""Attack 55 over HTTP/2: a backend that shares one connection among many clients and misbehaves on it. Whatever it sends, nobody
but the client it answered reads it, its floods end its connection and cost no memory, and requests to others are served.
"""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from h2.errors import ErrorCodes

from tests.support.client import Client, Response
from tests.support.http2_backend import Http2Backend, Stream, in_order
from tests.support.register import Registrar
from tests.support.router import RouterProcess, wait_until
from tests.support.site import Site, site

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4
OK = b"\x88"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def field(name: bytes, value: bytes) -> bytes:
    """A literal of at most 126 bytes each."""
    return b"\0%c%b%c%b" % (len(name), name, len(value), value)


@pytest.fixture
def backend() -> Iterator[Http2Backend]:
    with Http2Backend() as made:
        yield made


@pytest.fixture
def place(lone_router: RouterProcess, lone_registrar: Registrar, backend: Http2Backend) -> Iterator[Site]:
    with site(lone_router, lone_registrar) as neighbour:
        lone_registrar.register(neighbour.host + ".bad.example", backend=backend, protocol="http2")
        yield neighbour


def ask(place: Site, target: str = "/") -> Response:
    with Client(place.router.port) as client:
        return client.request(place.host + ".bad.example", target)


def refused(response: Response) -> tuple[int, str | None]:
    return response.status, response.get("x-cf-routererror")


MALFORMED = (502, "endpoint_failure (malformed response)")
TOO_LARGE = (502, "endpoint_failure (response head too large)")


def once(data: bytes) -> Callable[[Stream], None]:
    """A step that sends `data` after what the library still had to say: its acknowledgement of the settings, which else may fall
    into the midst of a head.
    """
    return lambda stream: stream.connection.send_raw(data)


def flood(data: bytes, most: int = 64 << 20) -> Callable[[Stream], None]:
    """A step that sends `data` for ever, until nobody takes it, or `most` bytes were taken."""

    def step(stream: Stream) -> None:
        sock, sent = stream.connection.socket, 0
        try:
            while sent < most:
                sock.sendall(data)
                sent += len(data)
        except OSError:
            stream.connection.backend.errors.append(f"flood ended after {sent}")

    return step


@pytest.mark.parametrize(
    "useless",
    [
        frame(SETTINGS, 0, 0, b"\x00\x04\x00\x01\x00\x00"),
        frame(PING, 0, 0, bytes(8)),
        frame(PRIORITY, 0, 1, bytes(5)),
        frame(0xBE, 0, 1, b"unknown"),
        frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        frame(DATA, 0, 1),
        frame(HEADERS, END_HEADERS, 1, b"\x48\x03103"),
        frame(GOAWAY, 0, 0, (2**31 - 1).to_bytes(4) + bytes(4)),
    ],
    ids=["settings", "ping", "priority", "unknown", "window_update", "empty_data", "interim", "goaway"],
)
def test_a_flood_of_frames_that_bring_nothing_ends_the_connection(place: Site, backend: Http2Backend, useless: bytes) -> None:
    """Attacks 55, 65: after a budget; the answer is a 502, memory stays, and others are served in between."""
    before = place.router.resident_kib()
    start = frame(HEADERS, END_HEADERS, 1, OK) if useless[3] == DATA else b""
    backend.next(in_order(once(start), flood(useless * 500)))
    with Client(place.router.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: %b.bad.example\r\n\r\n" % place.host.encode())
        began = time.monotonic()
        with place.client() as other:
            assert other.request(place.host).status == 200
        assert time.monotonic() - began < 1.0
        if start:
            with pytest.raises((EOFError, ConnectionError)):
                client.read_response()
        else:
            assert refused(client.read_response()) == MALFORMED
    wait_until(lambda: [error for error in backend.errors if error.startswith("flood ended")], "the flood to end")
    assert place.router.resident_kib() - before < 20_000
    assert ask(place).status == 200
    assert backend.connections == 2


def test_a_head_that_never_ends_ends_the_connection(place: Site, backend: Http2Backend) -> None:
    """Attacks 55, 63: CONTINUATION for ever, with bytes or without."""
    before = place.router.resident_kib()
    for piece in (b"x" * 16384, b""):
        data = frame(HEADERS, 0, 1, OK + b"\0\x01a\x7f\xff\xff\xff\x07")
        backend.next(in_order(once(data), flood(frame(CONTINUATION, 0, 1, piece) * (1 if piece else 500))))
        assert refused(ask(place)) == (TOO_LARGE if piece else MALFORMED)
        wait_until(lambda: [error for error in backend.errors if error.startswith("flood ended")], "the flood to end")
        backend.errors.clear()
    assert place.router.resident_kib() - before < 20_000
    assert ask(place).status == 200


def test_a_head_that_grows_when_it_is_decoded_is_refused(place: Site, backend: Http2Backend) -> None:
    """Attacks 55, 67: 16 KiB that stand for 48 MiB."""
    before = place.router.resident_kib()
    block = OK + b"\x40\x01x\x7f\xb9\x16" + b"v" * 3000 + b"\xbe" * 13_000
    backend.next(lambda stream: stream.connection.send_raw(frame(HEADERS, END_HEADERS | END_STREAM, 1, block)))
    assert refused(ask(place)) == TOO_LARGE
    assert place.router.resident_kib() - before < 20_000
    assert ask(place).status == 200
    assert backend.links[0].goaway == ErrorCodes.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "block",
    [
        OK + field(b"a", b"x\r\nset-cookie: evil=1"),
        OK + field(b"a\r\nset-cookie", b"evil=1"),
        OK + field(b"A", b"x"),
        OK + field(b"transfer-encoding", b"chunked"),
        OK + field(b"connection", b"close"),
        OK + field(b":path", b"/"),
        OK + field(b"content-length", b"4") + field(b"content-length", b"5"),
        field(b"a", b"x") + OK,
        field(b":status", b"200 OK"),
        field(b":status", b"101"),
        field(b":status", b"099"),
    ],
)
def test_no_head_is_read_in_two_ways(place: Site, backend: Http2Backend, block: bytes) -> None:
    """Attack 58, from the other side: a field that would end its line in HTTP/1.1 ends its stream instead, and no other."""
    beside = threading.Event()
    backend.next(
        lambda stream: stream.connection.send_raw(frame(HEADERS, END_HEADERS, 1, block)),
        in_order(lambda _: beside.wait(10), lambda stream: stream.respond(b"beside")),
    )
    with Client(place.router.port) as other:
        first = ask(place)
        other.send(b"GET / HTTP/1.1\r\nHost: %b.bad.example\r\n\r\n" % place.host.encode())
        assert refused(first) == MALFORMED
        assert b"evil" not in first.head
        beside.set()
        assert other.read_response().body == b"beside"
    assert backend.connections == 1


@pytest.mark.parametrize(("length", "body"), [(b"3", [b"four"]), (b"9", [b"four"]), (b"3", [b"fo", b"ur"]), (b"0", [b"x"])])
def test_a_body_of_another_length_than_was_said_is_no_whole_one(
    place: Site, backend: Http2Backend, length: bytes, body: list[bytes]
) -> None:
    """Attack 61, from the other side: not a byte beyond the length, and no end that looks like one."""

    def step(stream: Stream) -> None:
        head = frame(HEADERS, END_HEADERS, stream.number, OK + field(b"content-length", length))
        pieces = [frame(DATA, END_STREAM if each is body[-1] else 0, stream.number, each) for each in body]
        stream.connection.send_raw(head + b"".join(pieces))

    backend.next(step)
    with Client(place.router.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: %b.bad.example\r\n\r\n" % place.host.encode())
        if length == b"0":
            assert client.read_response().body == b""
        else:
            with pytest.raises((EOFError, ConnectionError)):
                client.read_response()
    assert ask(place).status == 200
    assert backend.connections == 1


@pytest.mark.parametrize(
    "frames",
    [
        frame(HEADERS, END_HEADERS | END_STREAM, 3, OK),
        frame(HEADERS, END_HEADERS | END_STREAM, 2, OK),
        frame(PUSH_PROMISE, END_HEADERS, 1, (2).to_bytes(4) + b"\x82\x86\x84\x41\x01a"),
        frame(DATA, END_STREAM, 99, b"poison"),
        frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
        (16385).to_bytes(3) + b"\0\0\0\0\0\1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
    ],
    ids=["not_asked", "even", "push", "idle", "not_hpack", "too_long", "http1"],
)
def test_what_nobody_asked_for_ends_the_connection(place: Site, backend: Http2Backend, frames: bytes) -> None:
    """Attack 55: a response for a stream to come would be the next client's (response-queue poisoning)."""
    backend.next(lambda stream: stream.connection.send_raw(frames))
    assert refused(ask(place)) == MALFORMED
    for number in range(3):
        answer = ask(place, f"/next{number}")
        assert answer.status == 200
        assert f'"/next{number}"'.encode() in answer.body
    assert backend.connections == 2
    wait_until(lambda: backend.links[0].gone, "the connection to end")


def test_more_than_a_window_allows_is_not_kept(place: Site, backend: Http2Backend) -> None:
    """Attack 68: whoever ignores flow control loses the stream; what a slow client has not read stays one window."""
    before = place.router.resident_kib()
    start = frame(HEADERS, END_HEADERS, 1, OK)
    backend.next(in_order(once(start), flood(frame(DATA, 0, 1, b"z" * 16384))))
    with Client(place.router.port) as slow:
        slow.send(b"GET / HTTP/1.1\r\nHost: %b.bad.example\r\n\r\n" % place.host.encode())
        wait_until(lambda: [error for error in backend.errors if error.startswith("flood ended")], "the flood to end")
        assert place.router.resident_kib() - before < 20_000
        with place.client() as other:
            assert other.request(place.host).status == 200


def test_a_backend_that_resets_everything_is_asked_no_more_than_allowed(place: Site, backend: Http2Backend) -> None:
    """Attack 57: REFUSED_STREAM lets a request be sent again, as often as attempts are allowed."""
    backend.each(lambda stream: stream.reset(ErrorCodes.REFUSED_STREAM))
    assert refused(ask(place)) == (502, "endpoint_failure (stream refused)")
    assert len(backend.requests) == 3
