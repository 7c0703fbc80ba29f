"""Attack 65: floods of frames that move nothing and cost the server an answer, a decision or a turn of its loop."""

from collections.abc import Iterator

import pytest

from tests.attacks.floods import assert_calmed, assert_ended, attacker, flood, unharmed
from tests.support.client import Tls
from tests.support.http2_client import Code, Http2Client, data_frame, headers_frame, raw_frame, window_frame
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site

SETTINGS, PING = 4, 6
ACK, END_STREAM = 1, 1


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.fixture(scope="module")
def neighbour(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh(place: Site) -> None:
    place.backend.clear()


FLOODS = {
    "empty settings": raw_frame(SETTINGS, 0),
    "a setting": raw_frame(SETTINGS, 0, b"\0\4\0\0\xff\xff"),
    "many settings": raw_frame(SETTINGS, 0, b"\0\4\0\0\xff\xff" * 100),
    "unknown settings": raw_frame(SETTINGS, 0, b"\x99\x99\0\0\0\0" * 100),
    "acknowledged settings": raw_frame(SETTINGS, 0, flags=ACK),
    "ping": raw_frame(PING, 0, b"12345678"),
    "answered ping": raw_frame(PING, 0, b"12345678", flags=ACK),
    "priority": raw_frame(2, 1, b"\0\0\0\0\x10"),
    "priority of streams that are not there": raw_frame(2, 2**30 + 1, b"\0\0\0\0\x10"),
    "unknown frames": raw_frame(0xBA, 0, b"x" * 16),
    "unknown frames on a stream": raw_frame(0xBA, 1),
    "windows of the connection": window_frame(0, 1),
    "windows of a stream": window_frame(1, 1),
    "goodbyes": raw_frame(7, 0, b"\0\0\0\0\0\0\0\0"),
}


@pytest.mark.parametrize("frame", FLOODS.values(), ids=list(FLOODS))
def test_a_flood_of_frames_that_do_nothing_ends_the_connection(place: Site, neighbour: Site, frame: bytes) -> None:
    """Attack 65: GOAWAY ENHANCE_YOUR_CALM after a budget (CVE-2019-9512, -9513, -9515), with a stream open or not."""
    with unharmed(neighbour), attacker(place) as client:
        client.ask(client.head(place.host, method="POST"), end=False)
        assert_calmed(flood(client, frame, most=2**24), place)


@pytest.mark.parametrize(
    "data", [data_frame(1), raw_frame(0, 1, b"\0", flags=8), raw_frame(0, 1, b"\xff" + b"\0" * 255, flags=8)]
)
def test_a_flood_of_empty_data_ends_the_connection(place: Site, neighbour: Site, data: bytes) -> None:
    """Attack 65: DATA frames without data, padded or not (CVE-2019-9518)."""
    with unharmed(neighbour), attacker(place) as client:
        client.ask(client.head(place.host, method="POST"), end=False)
        assert_calmed(flood(client, data, most=2**25), place)
    assert [one.body for one in place.backend.received if one.complete] == []


def test_a_flood_of_tiny_data_ends_the_connection(place: Site, neighbour: Site) -> None:
    """Attack 65: a body byte by byte: bounded work, then the end."""
    with unharmed(neighbour, cpu=4.0), attacker(place) as client:
        client.ask(client.head(place.host, method="POST"), end=False)
        assert_calmed(flood(client, data_frame(1, b"x"), most=2**24), place)


def test_answers_that_nobody_reads_do_not_pile_up(place: Site, neighbour: Site) -> None:
    """Attack 65: PINGs from a client that does not read: their answers are bounded, and so is the time they take."""
    with unharmed(neighbour), attacker(place) as client:
        client.reading = False  # of the socket, for now
        for _ in range(200):
            if client.ended or not client.write(raw_frame(PING, 0, b"12345678") * 100):
                break
        client.reading = True
        assert_calmed(client.wait_end(), place)


def test_frames_for_streams_that_are_over_are_bounded(place: Site, neighbour: Site) -> None:
    """Attack 65: WINDOW_UPDATE and PRIORITY for a stream whose answer is whole are no fault, until there are too many."""
    with unharmed(neighbour), attacker(place) as client:
        assert client.response(client.ask(client.head(place.host))).status == 200
        client.write(window_frame(1, 1) + raw_frame(2, 1, b"\0\0\0\0\x10"))
        assert client.response(client.ask(client.head(place.host))).status == 200
        assert_calmed(flood(client, window_frame(1, 1), most=2**24), place)


def test_an_honest_share_of_such_frames_is_served(place: Site) -> None:
    """Attack 65: a PING, a changed setting, a priority and a window for each request: no connection ends for that."""
    with attacker(place) as client:
        for _ in range(100):
            stream = client.next_stream()
            client.write(
                raw_frame(PING, 0, b"12345678")
                + raw_frame(SETTINGS, 0, b"\0\4\0\0\xff\xff")
                + raw_frame(2, stream, b"\0\0\0\0\x10")
                + headers_frame(stream, client.head(place.host))
                + window_frame(0, 2_000)
                + raw_frame(0xBA, stream)
            )
            assert client.response(stream).status == 200
        assert client.goodbye is None


def test_every_ping_is_answered(place: Site) -> None:
    """Attack 65: within the budget PINGs are answered, in order, with their bytes (RFC 9113 section 6.7)."""
    with Http2Client(place.router.ssl_port, Tls(place.host)) as client:
        for _ in range(50):
            client.ping()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (raw_frame(SETTINGS, 1), Code.PROTOCOL_ERROR),
        (raw_frame(SETTINGS, 0, b"\0\4\0\0\0"), Code.FRAME_SIZE_ERROR),
        (raw_frame(SETTINGS, 0, b"\0\4\0\0\0\0", flags=ACK), Code.FRAME_SIZE_ERROR),
        (raw_frame(SETTINGS, 0, b"\0\2\0\0\0\2"), Code.PROTOCOL_ERROR),
        (raw_frame(SETTINGS, 0, b"\0\4\x80\0\0\0"), Code.FLOW_CONTROL_ERROR),
        (raw_frame(SETTINGS, 0, b"\0\5\0\0\0\1"), Code.PROTOCOL_ERROR),
        (raw_frame(SETTINGS, 0, b"\0\5\1\0\0\0"), Code.PROTOCOL_ERROR),
        (raw_frame(PING, 1, b"12345678"), Code.PROTOCOL_ERROR),
        (raw_frame(PING, 0, b"1234567"), Code.FRAME_SIZE_ERROR),
        (raw_frame(8, 0, b"\0\0\0\0"), Code.PROTOCOL_ERROR),
        (raw_frame(8, 0, b"\x7f\xff\xff\xff") * 2, Code.FLOW_CONTROL_ERROR),
        (raw_frame(8, 0, b"\0\0\1"), Code.FRAME_SIZE_ERROR),
        (raw_frame(8, 101, b"\0\0\0\1"), Code.PROTOCOL_ERROR),
        (raw_frame(3, 0, b"\0\0\0\0"), Code.PROTOCOL_ERROR),
        (raw_frame(3, 101, b"\0\0\0\0"), Code.PROTOCOL_ERROR),
        (raw_frame(3, 1, b"\0\0\0"), Code.FRAME_SIZE_ERROR),
        (raw_frame(2, 0, b"\0\0\0\0\0"), Code.PROTOCOL_ERROR),
        (raw_frame(0, 0, b"x"), Code.PROTOCOL_ERROR),
        (raw_frame(0, 101, b"x"), Code.PROTOCOL_ERROR),
        (raw_frame(1, 0, b""), Code.PROTOCOL_ERROR),
        (raw_frame(1, 2, b"\x82", flags=5), Code.PROTOCOL_ERROR),
        (raw_frame(5, 1, b"\0\0\0\2", flags=4), Code.PROTOCOL_ERROR),
        (raw_frame(7, 1, b"\0\0\0\0\0\0\0\0"), Code.PROTOCOL_ERROR),
        (raw_frame(0, 1, b"", length=16_385), Code.FRAME_SIZE_ERROR),
        (raw_frame(0xBA, 0, b"", length=2**24 - 1), Code.FRAME_SIZE_ERROR),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Code.FRAME_SIZE_ERROR),
    ],
)
def test_a_frame_against_the_rules_ends_the_connection(place: Site, frame: bytes, code: int) -> None:
    """Attack 65: RFC 9113 sections 4 to 6: GOAWAY with the error the section names, and nothing that comes later is looked at."""
    with attacker(place) as client:
        stream = client.ask(client.head(place.host, method="POST"), end=False)
        assert stream == 1
        client.write(frame)
        client.write(headers_frame(103, client.head(place.host, "/later")))
        assert_ended(client.wait_end(), place, code)
    assert [one.request_line for one in place.backend.received if one.complete] == []


def test_the_log_says_who_was_ended_and_why(place: Site) -> None:
    """Attack 65: a line with a reason out of a fixed set, the code and the client's address."""
    with attacker(place) as client:
        client.write(raw_frame(PING, 1, b"12345678"))
        assert_ended(client.wait_end(), place, Code.PROTOCOL_ERROR)
    line = place.router.wait_for_event("http2-connection-ended")
    assert '"reason":' in line
    assert '"remote":"127.0.0.1:' in line
