"""Whether a load balancer should send traffic here: Initializing, then Healthy, then Degraded, never back.

Promises: the state only moves forward; good is only who is Healthy and serves at this moment. Refuses to know why: whoever starts
or drains the router says so.
"""

from collections.abc import Callable
from enum import IntEnum


class HealthState(IntEnum):
    """In the only order there is."""

    INITIALIZING = 0
    HEALTHY = 1
    DEGRADED = 2


class Health:
    """The state of this router. `serves`: does anybody here, at this moment? `moved` is called when the state has changed."""

    __slots__ = ("_state", "moved", "serves")

    def __init__(self) -> None:
        self._state = HealthState.INITIALIZING
        self.serves: Callable[[], bool] = _always
        self.moved: Callable[[], None] = _nobody_asks

    @property
    def state(self) -> HealthState:
        """The state now."""
        return self._state

    @property
    def good(self) -> bool:
        """Should traffic come?"""
        return self._state is HealthState.HEALTHY and self.serves()

    @property
    def draining(self) -> bool:
        """Should clients that are here leave?"""
        return self._state is HealthState.DEGRADED

    def started(self) -> None:
        """The router serves. Does nothing once it drains."""
        self.reach(HealthState.HEALTHY)

    def degrade(self) -> None:
        """The router drains, or can no longer serve."""
        self.reach(HealthState.DEGRADED)

    def reach(self, state: HealthState) -> None:
        """Go on to this state; from a later one there is no way back."""
        if state > self._state:
            self._state = state
            self.moved()


def _always() -> bool:
    return True


def _nobody_asks() -> None:
    """One process looks at the state when it needs it."""
