"""The promise: where client and backend both speak HTTP/2, a stream passes as a stream: bodies, trailers, windows and resets, and
what one client does to its stream touches nobody else's on the backend's shared connection.
"""

import json
import threading
from collections.abc import Iterator

import pytest
from h2.errors import ErrorCodes

from tests.attacks.floods import assert_calmed, unharmed
from tests.support.client import Tls
from tests.support.http2_backend import Http2Backend, Stream
from tests.support.http2_client import Code, FrameClient, Http2Client, data_frame, headers_frame, reset_frame
from tests.support.register import Registrar
from tests.support.router import RouterProcess, wait_until
from tests.support.site import Site, site

MIB = 1 << 20


class Place:
    """A host of an HTTP/2 backend of its own."""

    def __init__(self, router: RouterProcess, host: str, backend: Http2Backend) -> None:
        self.router, self.host, self.backend = router, host, backend

    def client(self, *, credit: bool = True) -> Http2Client:
        return Http2Client(self.router.ssl_port, Tls(self.host), credit=credit)


@pytest.fixture
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Place]:
    with site(router, registrar) as made, Http2Backend() as backend:
        registrar.unregister(made.host, backend=made.backend)
        registrar.register(made.host, backend=backend, protocol="http2")
        yield Place(router, made.host, backend)
        registrar.unregister(made.host, backend=backend, protocol="http2", wait=False)


@pytest.fixture(scope="module")
def neighbour(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


def test_heads_bodies_and_trailers_pass_both_ways(place: Place) -> None:
    """A request with trailers, interim answers, an answer with trailers: all of it in its order."""

    def answer(stream: Stream) -> None:
        stream.head(103, [("link", "</a.css>")])
        body = stream.wait()
        stream.head(200, [("content-type", "text/plain"), ("x-one", "1")])
        stream.data(body[::-1])
        stream.end([("x-sum", "5"), ("x-up", str(dict(stream.trailers).get("x-up")))])

    place.backend.next(answer)
    with place.client() as client:
        got = client.request(place.host, "/a?b=c", method="POST", body=b"abc" * 50_000, trailers=[("x-up", "7")])
    assert [status for status, _ in got.interim] == [103]
    assert (got.status, got.get("x-one"), got.body) == (200, "1", b"cba" * 50_000)
    assert got.trailers == [("x-sum", "5"), ("x-up", "7")]
    (request,) = place.backend.requests
    assert dict(request.headers)[":path"] == "/a?b=c"
    assert request.all("cookie") == request.all("host") == []


def test_an_answer_that_is_all_head_passes(place: Place) -> None:
    """A head that ends its stream, as gRPC's trailers-only: one HEADERS frame to the client, too."""
    place.backend.next(lambda stream: stream.head(200, [("grpc-status", "5")], end=True))
    with FrameClient(place.router.ssl_port, Tls(place.host)) as client:
        answer = client.response(client.ask(client.head(place.host, method="POST")))
        assert (answer.status, answer.get("grpc-status"), answer.ended) == (200, "5", True)
        assert [frame.type for frame in client.frames if frame.stream_id] == [1]


def test_many_streams_share_one_connection_on_either_side(place: Place) -> None:
    """Fifty requests at once: one connection in, one out, and answers in another order than the requests."""
    held: list[Stream] = []
    place.backend.each(held.append)
    with place.client() as client:
        streams = {f"/{number}": client.open(place.host, f"/{number}") for number in range(50)}
        wait_until(lambda: len(held) == 50, "fifty requests at the backend")
        for stream in reversed(held):
            stream.respond(stream.path.encode())
        assert all(client.response(number).body == path.encode() for path, number in streams.items())
    assert len(place.backend.links) == 1


def test_a_slow_reader_holds_back_its_own_stream_alone(place: Place) -> None:
    """A stream that is not read stops at bounded bytes, on the connection that the quick one passes on, too."""
    sent = 0

    def endless(stream: Stream) -> None:
        nonlocal sent
        stream.head()
        for _ in range(64):
            stream.data(bytes(MIB))
            sent += MIB

    with place.client(credit=False) as client:
        client.connection.increment_flow_control_window(2**30)
        client.flush()
        place.backend.next(endless)
        slow = client.open(place.host)
        client.wait(lambda: len(client.answer(slow).body) == 65_535, "a full window")
        place.backend.next(lambda stream: stream.respond(bytes(2 * MIB)))
        quick = client.open(place.host)
        client.connection.increment_flow_control_window(2**30, quick)
        client.flush()
        assert len(client.response(quick).body) == 2 * MIB
        assert (len(client.answer(slow).body), sent < 16 * MIB) == (65_535, True)
        client.reset(slow)
        wait_until(lambda: place.backend.requests[0].reset_code is not None, "the reset at the backend")
        assert client.request(place.host).status == 200
    assert len(place.backend.links) == 1


def test_a_reset_is_passed_on_as_a_reset(place: Place) -> None:
    """Cancelled by the client: the backend's stream is reset, its connection and its other streams go on."""
    held: list[Stream] = []
    place.backend.next(held.append, held.append)
    with place.client() as client:
        cancelled, kept = client.open(place.host, "/cancelled"), client.open(place.host, "/kept")
        wait_until(lambda: len(held) == 2, "both requests at the backend")
        client.reset(cancelled)
        first, second = sorted(held, key=lambda stream: stream.path)
        wait_until(lambda: first.reset_code is not None, "the reset at the backend")
        assert first.reset_code == ErrorCodes.CANCEL
        second.respond(b"whole")
        assert client.response(kept).body == b"whole"
    assert len(place.backend.links) == 1


def test_a_reset_by_the_backend_ends_the_clients_stream(place: Place) -> None:
    """Behind half an answer: a reset; before any of it: 502. The others go on."""

    def half(stream: Stream) -> None:
        stream.head()
        stream.data(b"half")
        stream.reset(ErrorCodes.INTERNAL_ERROR)

    with place.client() as client:
        place.backend.next(half)
        answer = client.request(place.host)
        assert not answer.ended or answer.status == 502
        assert client.request(place.host).status == 200
        place.backend.next(lambda stream: stream.reset(ErrorCodes.INTERNAL_ERROR))
        assert client.request(place.host).status == 502
        assert client.request(place.host).status == 200


def test_an_early_answer_ends_the_upload(place: Place) -> None:
    """RFC 9113 section 8.1, on both sides: the answer is whole, the rest of the body is asked of nobody."""

    def refuse(stream: Stream) -> None:
        stream.respond(b"no", 413)

    place.backend.next(refuse)
    with place.client() as client:
        stream = client.open(place.host, method="POST", end=False)
        client.send(stream, bytes(1_000))
        client.wait(lambda: client.answer(stream).over, "the early answer")
        assert (client.answer(stream).status, client.answer(stream).body) == (413, b"no")
        assert client.request(place.host).status == 200
    assert len(place.backend.links) == 1


def test_large_bodies_pass_through_four_windows(place: Place) -> None:
    """Four uploads and downloads of half a MiB at a time."""

    def echo(stream: Stream) -> None:
        stream.respond(stream.wait())

    data = bytes(range(256)) * (MIB // 512)
    place.backend.each(echo)
    with place.client() as client:
        streams = [client.open(place.host, method="POST", end=False) for _ in range(4)]
        for at in range(0, len(data), 60_000):
            for stream in streams:
                client.send(stream, data[at : at + 60_000], end=at + 60_000 >= len(data))
        assert all(client.response(stream).body == data for stream in streams)


# Attacks that would reach others by the shared connection


def test_rapid_resets_do_not_end_the_connection_that_others_share(place: Place, neighbour: Site) -> None:
    """Attack 62 with a backend that multiplexes: the attacker is ended, the backend hears of few of its streams, and another's
    stream on the same backend connection is answered.
    """
    release = threading.Event()

    def slow(stream: Stream) -> None:
        release.wait(20)
        stream.respond(b"patience")

    with place.client() as honest:
        place.backend.next(slow)
        waiting = honest.open(place.host, "/waiting")
        place.backend.wait_for_requests(1)
        with unharmed(neighbour), FrameClient(place.router.ssl_port, Tls(place.host)) as attacker:
            for _ in range(250):
                frames = []
                for _ in range(20):
                    stream = attacker.next_stream()
                    frames += [headers_frame(stream, attacker.head(place.host)), reset_frame(stream)]
                if not attacker.write(b"".join(frames)):
                    break
            assert_calmed(attacker.wait_end(), neighbour)
        assert len(place.backend.requests) < 100
        release.set()
        assert honest.response(waiting).body == b"patience"
        assert honest.request(place.host).status == 200
    assert len(place.backend.links) == 1


@pytest.mark.parametrize(
    ("length", "body", "end"),
    [("5", b"1234", True), ("5", b"123456", True), ("5", b"123456", False)],
    ids=["short", "long", "open"],
)
def test_a_length_that_is_not_kept_resets_both_streams(place: Place, length: str, body: bytes, end: bool) -> None:
    """Attack 61 with a backend that multiplexes: it never has a whole request, and its connection goes on."""
    with FrameClient(place.router.ssl_port, Tls(place.host)) as client:
        stream = client.ask(client.head(place.host, "/bad", method="POST", more=[("content-length", length)]), end=False)
        client.write(data_frame(stream, body, end=end))
        assert client.response(stream).reset == Code.PROTOCOL_ERROR
        answer = client.response(client.ask(client.head(place.host, "/next")))
        assert json.loads(answer.body)["length"] == 0
    assert [request.path for request in place.backend.requests if request.complete] == ["/next"]
    assert len(place.backend.links) <= 1


def test_no_field_of_a_client_breaks_out_of_its_head(place: Place) -> None:
    """Attack 58 with a backend that speaks HTTP/2: what is refused for HTTP/1.1 backends is refused for these."""
    with FrameClient(place.router.ssl_port, Tls(place.host)) as client:
        for name, value in (
            ("x", "a\r\nb: c"),
            ("transfer-encoding", "chunked"),
            ("x\0", "y"),
            (":path", "/other"),
            ("te", "gzip"),
        ):
            answer = client.response(client.ask(client.head(place.host, "/bad", more=[(name, value)])))
            assert answer.status in (0, 400)
        assert client.response(client.ask(client.head(place.host, "/next"))).status == 200
    assert [request.path for request in place.backend.requests] == ["/next"]
