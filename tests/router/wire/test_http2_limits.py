"""The defaults hold against floods and let honest clients be: each played through."""

import inspect

from router.wire import http2_limits
from router.wire.http2 import Ended, Event, Http2Limits
from tests.support.http2 import GET, PING, POST, PRIORITY, RST_STREAM, WINDOW_UPDATE, Client, data, head, raw


def ended(events: list[Event]) -> bool:
    return any(isinstance(event, Ended) for event in events)


def test_every_bound_says_why() -> None:
    """A docstring below each field, in the order of the fields."""
    source = inspect.getsource(Http2Limits)
    at = [source.index(f"    {name}: ") for name in Http2Limits._fields]
    assert at == sorted(at)
    for begin, end in zip(at, [*at[1:], len(source)], strict=True):
        assert '"""' in source[begin:end]
    assert http2_limits.MAX_HEAD_BYTES == 2**20


def test_a_browser_that_leaves_a_full_page_is_no_flood() -> None:
    """A hundred requests in flight, dropped at once, three times in a row."""
    client = Client()
    for turn in range(3):
        streams = [2 * (100 * turn + number) + 1 for number in range(100)]
        assert not ended(client.say(*[head(stream) for stream in streams]))
        assert not ended(client.say(*[raw(RST_STREAM, 0, stream, (8).to_bytes(4)) for stream in streams]))


def test_a_download_whose_windows_are_opened_for_each_piece_is_no_flood() -> None:
    """1 GiB a second, in time that stands still."""
    client = Client()
    client.say(head(1))
    client.server.send_head(1, 200, [], end=False)
    for _ in range(5_000):
        client.server.send_data(1, bytes(16_384), end=False)
        client.server.take_output()
        grown = (4_096).to_bytes(4)
        assert not ended(client.say(*[raw(WINDOW_UPDATE, 0, stream, grown) for stream in (0, 1) * 4], raw(PING, 0, 0, bytes(8))))


def test_a_stream_of_small_messages_is_no_flood() -> None:
    """gRPC both ways: 4,000 messages of 20 bytes a second for ten seconds."""
    client = Client()
    client.say(head(1, POST, end=False))
    for number in range(40_000):
        assert not ended(client.say(data(1, bytes(20)), now=number / 4_000))
        client.server.consumed(1, 20)
        client.server.send_data(1, bytes(20), end=False)
        client.server.take_output()
        client.say(raw(WINDOW_UPDATE, 0, 0, (20).to_bytes(4)), raw(WINDOW_UPDATE, 0, 1, (20).to_bytes(4)), now=number / 4_000)


def test_an_idle_client_that_pings_each_second_is_no_flood() -> None:
    """A day of it."""
    client = Client()
    assert not any(ended(client.say(raw(PING, 0, 0, bytes(8)), now=float(second))) for second in range(86_400))


def test_a_client_with_priorities_is_no_flood() -> None:
    """Firefox of old: a tree at its start, then one for each request."""
    client = Client()
    tree = [raw(PRIORITY, 0, number, bytes(5)) for number in (3, 5, 7, 9, 11, 13)]
    assert not ended(client.say(*tree))
    for number in range(3_000):
        stream = 2 * number + 15
        assert not ended(client.say(head(stream, GET), raw(PRIORITY, 0, stream, bytes(5))))
        client.server.send_head(stream, 200, [], end=True)


def test_each_flood_ends_within_its_budget() -> None:
    """Attacks 62 and 65 with the defaults: within a thousand frames, in time that stands still."""
    client = Client()
    assert ended(client.say(*[raw(PING, 0, 0, bytes(8))] * 1_001))
    client = Client()
    resets = [head(2 * number + 1) + raw(RST_STREAM, 0, 2 * number + 1, bytes(4)) for number in range(401)]
    assert ended(client.say(*resets))
