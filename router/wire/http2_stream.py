"""One stream of an HTTP/2 connection: its two halves and its two windows, in numbers.

Source: RFC 9113 sections 5.1 (states) and 6.9 (windows). A stream that is not open any more has no object:
idle streams have higher numbers than the last, all others are closed.
"""

from typing import Final

UNKNOWN_LENGTH: Final = -1
HEAD_DUE: Final = -2


class Stream:
    """``ended``: the peer has sent all; ``done``: we have. Both: the stream has gone.

    ``window``: bytes of data that we may send, below 0 after a setting shrank it. ``allowed``: bytes that the peer may
    still send; ``held``: of those that it sent, how many nobody has reported as consumed; ``freed``: consumed ones that no
    WINDOW_UPDATE has told it of. ``expected``: bytes of its Content-Length that have not come, UNKNOWN_LENGTH, or HEAD_DUE where
    no body may come yet. ``void``: its head was malformed, its body is dropped.
    """

    __slots__ = ("allowed", "done", "ended", "expected", "freed", "held", "number", "void", "window")

    def __init__(self, number: int, window: int, allowed: int, expected: int, *, ended: bool, void: bool) -> None:
        self.number = number
        self.window = window
        self.allowed = allowed
        self.expected = expected
        self.ended = ended
        self.void = void
        self.held = 0
        self.freed = 0
        self.done = False
