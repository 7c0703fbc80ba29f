"""The numbers of one stream."""

from router.wire.http2_stream import UNKNOWN_LENGTH, Stream


def test_a_new_stream_holds_nothing_and_has_said_nothing() -> None:
    """Only the client's half may have ended, with its head."""
    stream = Stream(1, 10, 20, UNKNOWN_LENGTH, ended=True, void=False)
    assert (stream.held, stream.freed, stream.done, stream.ended) == (0, 0, False, True)
    assert (stream.number, stream.window, stream.allowed, stream.expected) == (1, 10, 20, -1)
