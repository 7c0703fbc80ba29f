"""A token bucket: how often something may happen, and how long to wait where it may not.

Promises: over any stretch of time no more than its rate and one burst; constant memory and no timer. Refuses to know clocks
(`now` is monotonic seconds) and what is counted.
"""


class Bucket:
    """Full at first. It holds one second's worth, at least one. The rate may be another at every call."""

    __slots__ = ("_at", "_tokens")

    def __init__(self) -> None:
        self._at = 0.0
        self._tokens = float("inf")

    def take(self, rate: float, now: float) -> float:
        """0.0 and one token less, or the seconds until there is one. `rate`: tokens a second, above 0 and finite."""
        now = max(now, self._at)
        tokens = min(self._tokens + (now - self._at) * rate, max(rate, 1.0))
        self._at = now
        if tokens >= 1.0:
            self._tokens = tokens - 1.0
            return 0.0
        self._tokens = tokens
        return (1.0 - tokens) / rate
