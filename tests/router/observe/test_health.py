"""router/observe/health.py: a state that only moves forward."""

from collections.abc import Callable

import pytest

from router.observe.health import Health, HealthState


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        ([], HealthState.INITIALIZING),
        ([Health.started], HealthState.HEALTHY),
        ([Health.started, Health.degrade], HealthState.DEGRADED),
        ([Health.degrade], HealthState.DEGRADED),
        ([Health.degrade, Health.started], HealthState.DEGRADED),
    ],
)
def test_health_never_goes_back(steps: list[Callable[[Health], None]], state: HealthState) -> None:
    """Once it drains, a router is never healthy again; only Healthy is good, only Degraded asks clients to leave."""
    health = Health()
    for step in steps:
        step(health)
    assert (state, state is HealthState.HEALTHY) == (health.state, health.good)
    assert (state is HealthState.DEGRADED) == health.draining
