"""Whether a load balancer should send traffic here: Initializing, then Healthy, then Degraded, never back.

Promises: the state only moves forward. Refuses to know why: whoever starts or drains the router says so.
"""

from enum import IntEnum


class HealthState(IntEnum):
    """In the only order there is."""

    INITIALIZING = 0
    HEALTHY = 1
    DEGRADED = 2


class Health:
    """The state of this process; good only while it is Healthy."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = HealthState.INITIALIZING

    @property
    def state(self) -> HealthState:
        """The state now."""
        return self._state

    @property
    def good(self) -> bool:
        """Should traffic come?"""
        return self._state is HealthState.HEALTHY

    @property
    def draining(self) -> bool:
        """Should clients that are here leave?"""
        return self._state is HealthState.DEGRADED

    def started(self) -> None:
        """The router serves. Does nothing once it drains."""
        self._state = max(self._state, HealthState.HEALTHY)

    def degrade(self) -> None:
        """The router drains, or can no longer serve."""
        self._state = HealthState.DEGRADED
