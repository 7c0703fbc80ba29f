"""Attacks 62, 64 and 66: requests whose answers nobody will read, because the client resets them, makes the server reset them, or
sends only what is refused. All three are one cost, and one budget pays for it.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.attacks.floods import assert_calmed, assert_ended, attacker, unharmed
from tests.support.backend import Exchange
from tests.support.client import Tls
from tests.support.http2_client import (
    Code,
    FrameClient,
    Http2Client,
    data_frame,
    headers_frame,
    raw_frame,
    reset_frame,
    window_frame,
)
from tests.support.register import Registrar
from tests.support.router import RouterProcess, wait_until
from tests.support.site import Site, site

MOST = 5_000
"""Requests that an attacker has time for."""
WORK = 1_000
"""Requests of one connection that a backend may see of it."""


@pytest.fixture
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    """One of each test's own: a busy backend may hear of requests long after their attacker has gone."""
    with site(router, registrar) as made:
        yield made


@pytest.fixture(scope="module")
def neighbour(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


def _repeat(client: FrameClient, frames: Callable[[FrameClient], bytes]) -> int:
    """Send what `frames` makes until the server ends the connection: how many times."""
    for count in range(0, MOST, 20):
        if client.goodbye is not None or not client.write(b"".join(frames(client) for _ in range(20))):
            return count
    client.wait(lambda: client.goodbye is not None, f"an end after {MOST}")
    return MOST


def _ended(place: Site, neighbour: Site, frames: Callable[[FrameClient], bytes]) -> None:
    with unharmed(neighbour), attacker(place) as client:
        _repeat(client, frames)
        assert assert_calmed(client.wait_end(), place).last < 2 * WORK  # streams are odd numbers
    assert len(place.backend.received) <= WORK


def test_requests_that_are_reset_at_once_end_the_connection(place: Site, neighbour: Site) -> None:
    """Attack 62: HEADERS and RST_STREAM, over and over (CVE-2023-44487): GOAWAY ENHANCE_YOUR_CALM after a bounded number."""

    def reset(client: FrameClient) -> bytes:
        stream = client.next_stream()
        return headers_frame(stream, client.head(place.host)) + reset_frame(stream)

    _ended(place, neighbour, reset)
    assert place.backend.received == []  # both frames came at once: nobody is asked for what nobody waits for


def test_bodies_that_are_broken_off_at_once_end_the_connection(place: Site, neighbour: Site) -> None:
    """Attack 62: the same with a part of a body, so that a backend is at work each time."""

    def reset(client: FrameClient) -> bytes:
        stream = client.next_stream()
        head = client.head(place.host, method="POST", more=[("content-length", "1000")])
        return headers_frame(stream, head, end=False) + data_frame(stream, b"x" * 100) + reset_frame(stream)

    _ended(place, neighbour, reset)


def test_streams_beyond_the_number_that_is_allowed_are_refused(place: Site, neighbour: Site) -> None:
    """Attack 62: more at a time than is allowed: REFUSED_STREAM, no backend sees them, and too many are the end."""
    place.backend.always(lambda exchange: exchange.recv())
    try:
        with unharmed(neighbour), attacker(place) as client:
            count = _repeat(client, lambda client: headers_frame(client.next_stream(), client.head(place.host)))
            assert_calmed(client.wait_end(), place)
            refused = [answer for answer in client.answers.values() if answer.reset == Code.REFUSED_STREAM]
            assert refused
            assert count < MOST
        assert len(place.backend.received) <= 128
    finally:
        place.backend.always(None)
        place.backend.close_connections()


def test_a_client_that_changes_its_mind_now_and_then_is_served(place: Site) -> None:
    """Attack 62: who cancels every second request of a thousand is no attacker."""

    def slow(exchange: Exchange) -> None:
        exchange.recv()

    with Http2Client(place.router.ssl_port, Tls(place.host)) as client:
        for _ in range(100):
            streams = [client.open(place.host) for _ in range(10)]
            for stream in streams[::2]:
                client.reset(stream)
            for stream in streams[1::2]:
                assert client.response(stream).status == 200
        assert client.goodbye is None


# 64: the server is made to reset


def _after_the_end(client: FrameClient, stream: int) -> bytes:
    return data_frame(stream, b"late")


TRIGGERS: dict[str, Callable[[FrameClient, int], bytes]] = {
    "window of 0": lambda _, stream: window_frame(stream, 0),
    "window too large": lambda _, stream: window_frame(stream, 2**31 - 1),
    "data after the end": lambda _, stream: data_frame(stream, b"late"),
    "head after the end": lambda client, stream: headers_frame(stream, client.block([("x", "y")])),
    "priority of a wrong size": lambda _, stream: raw_frame(2, stream, b"\0\0\0\0"),
    "priority upon itself": lambda _, stream: raw_frame(2, stream, stream.to_bytes(4, "big") + b"\x10"),
}
"""Frames that make a server reset a stream whose request is whole (the five of CVE-2025-8671, and self-dependency)."""


@pytest.mark.parametrize("trigger", TRIGGERS.values(), ids=list(TRIGGERS))
def test_a_server_that_is_made_to_reset_counts_it_too(
    place: Site, neighbour: Site, trigger: Callable[[FrameClient, int], bytes]
) -> None:
    """Attack 64: MadeYouReset (CVE-2025-8671): the connection ends after a bounded number of such streams, or at the first."""
    with unharmed(neighbour), attacker(place) as client:

        def provoke(client: FrameClient) -> bytes:
            stream = client.next_stream()
            return headers_frame(stream, client.head(place.host)) + trigger(client, stream)

        _repeat(client, provoke)
        goodbye = assert_ended(
            client.wait_end(), place, Code.ENHANCE_YOUR_CALM, Code.PROTOCOL_ERROR, Code.STREAM_CLOSED, Code.FRAME_SIZE_ERROR
        )
        assert goodbye.last < 2 * WORK
    assert len(place.backend.received) <= WORK


@pytest.mark.parametrize(
    "body",
    [
        lambda stream: data_frame(stream, b"too long"),
        lambda stream: data_frame(stream, b"x", end=True),
        lambda stream: raw_frame(0, stream, b"\x09x", flags=8),
    ],
    ids=["longer than said", "shorter than said", "too much padding"],
)
def test_bodies_that_make_the_server_reset_count_too(place: Site, neighbour: Site, body: Callable[[int], bytes]) -> None:
    """Attack 64: a body against its Content-Length is a reset that the client provoked."""

    def provoke(client: FrameClient) -> bytes:
        stream = client.next_stream()
        head = client.head(place.host, method="POST", more=[("content-length", "5")])
        return headers_frame(stream, head, end=False) + body(stream)

    with unharmed(neighbour), attacker(place) as client:
        _repeat(client, provoke)
        goodbye = assert_ended(client.wait_end(), place, Code.ENHANCE_YOUR_CALM, Code.PROTOCOL_ERROR)
        assert goodbye.last < 2 * WORK
    assert [one.request_line for one in place.backend.received if one.complete] == []


# 66: nothing but bad requests


@pytest.mark.parametrize(
    "more",
    [[("connection", "close")], [("X-Capital", "x")], [(":path", "/again")], [("host", "other.open.example")], [("te", "x")]],
    ids=["connection", "capital", "late pseudo-field", "another host", "te"],
)
def test_nothing_but_bad_requests_ends_the_connection(place: Site, neighbour: Site, more: list[tuple[str, str]]) -> None:
    """Attack 66: malformed requests are a flood of resets (CVE-2019-9514): GOAWAY after a budget, no backend sees one."""
    _ended(place, neighbour, lambda client: headers_frame(client.next_stream(), client.head(place.host, more=more)))
    assert place.backend.received == []


def test_backends_are_let_go(place: Site) -> None:
    """Attack 62: what was reset is given up at the backend: no connection is left in the middle of a request."""

    def hold(exchange: Exchange) -> None:
        exchange.recv()

    place.backend.always(hold)
    try:
        with Http2Client(place.router.ssl_port, Tls(place.host)) as client:
            streams = [client.open(place.host) for _ in range(20)]
            wait_until(lambda: len(place.backend.received) == 20, "20 requests at the backend")
            for stream in streams:
                client.reset(stream)
            place.wait_for_connections(0)
            client.ping()
    finally:
        place.backend.always(None)
