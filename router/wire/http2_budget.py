"""A bucket of tokens: what a peer may do before it is asked to calm down.

Promises: never more tokens than at first; time and useful work bring them back. Refuses to know: what a token
stands for (``http2_limits`` does), and what time it is.
"""


class Budget:
    """``most`` tokens, of which ``rate`` come back a second."""

    __slots__ = ("_at", "_left", "_most", "_rate")

    def __init__(self, most: int, rate: float) -> None:
        self._most = most
        self._rate = rate
        self._left: float = most
        self._at = 0.0

    def spend(self, cost: int, now: float) -> bool:
        """Take ``cost`` tokens at ``now`` (seconds, monotonic); False where there are not as many."""
        left = min(self._most, self._left + (now - self._at) * self._rate) - cost
        self._at = now
        self._left = left if left > 0 else 0
        return left >= 0

    def earn(self, tokens: int) -> None:
        """Give tokens back for useful work."""
        self._left = min(self._most, self._left + tokens)
