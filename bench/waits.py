"""How long requests waited: a histogram with steps of two per cent, small enough to be said in a line.

Promises: quantiles within a step, and histograms of several processes add up. Refuses to know: what a wait was for.
"""

import math
from collections import Counter
from collections.abc import Iterable

STEPS = 32
"""For each doubling."""
LEAST = 1e-6

Waits = Counter[int]
"""How often, by step."""


def gather(seconds: Iterable[float]) -> Waits:
    """Count single waits."""
    return Counter(round(math.log2(max(wait, LEAST) / LEAST) * STEPS) for wait in seconds)


def quantile(waits: Waits, share: float) -> float:
    """Seconds within which that share of the waits ended; NaN where there is none."""
    left = math.ceil(share * waits.total())
    for step in sorted(waits):
        left -= waits[step]
        if left <= 0:
            return float(LEAST * 2 ** (step / STEPS))
    return math.nan
