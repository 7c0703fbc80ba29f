"""router/observe/registry_counts.py: what the registry counts, as it shows on the metrics page."""

import time

import pytest

from router.observe.metrics import Metrics
from router.observe.registry_counts import RegistryCounts


def counts() -> tuple[RegistryCounts, Metrics]:
    metrics = Metrics()
    return RegistryCounts(metrics), metrics


def shown(metrics: Metrics, name: str) -> dict[str, float]:
    lines = [line for line in metrics.render().decode().splitlines() if line.startswith((name + " ", name + "{"))]
    return {line[len(name) :].rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_registrations_are_counted_by_component_and_what_they_did() -> None:
    """An added route counts as registered too; a heartbeat does not."""
    one, metrics = counts()
    for component, action in (("", "unmodified"), ("", "unmodified"), ("route-emitter", "added"), ("", "added"), ("", "updated")):
        one.registry_message(component, action)
    samples = shown(metrics, "registry_message")
    assert samples['{component="",action="unmodified"}'] == 2
    assert samples['{component="route-emitter",action="added"}'] == 1
    assert samples['{component="",action="added"}'] == 1
    assert samples['{component="",action="updated"}'] == 1
    assert metrics.routes_registered.value == 2


def test_unregistrations_prunings_drops_and_rejections_are_counted() -> None:
    """Each under its own name, with its bounded label."""
    one, metrics = counts()
    one.unregistry_message("tcp")
    one.message_dropped("bad_json")
    one.routes_pruned(3)
    one.route_options_rejected("too_large")
    assert shown(metrics, "unregistry_message") == {'{component="tcp"}': 1}
    assert shown(metrics, "nats_messages_dropped") == {'{reason="bad_json"}': 1}
    assert shown(metrics, "route_options_rejected") == {'{reason="too_large"}': 1}
    assert (metrics.routes_unregistered.value, metrics.routes_pruned.value) == (1, 3)


def test_component_names_without_end_cost_no_memory() -> None:
    """Attack 78: an emitter's tag is its own word."""
    one, metrics = counts()
    for number in range(10_000):
        one.registry_message(f"component-{number}", "unmodified")
    samples = shown(metrics, "registry_message")
    assert len(samples) < 2_000
    assert sum(samples.values()) == 10_000


@pytest.mark.parametrize(("ago", "seen", "least"), [(0.5, 1, 500.0), (-60.0, 1, 0.0)])
def test_the_latency_of_a_registration_is_in_milliseconds(ago: float, seen: int, least: float) -> None:
    """From the platform's change; a clock ahead of ours counts as none."""
    one, metrics = counts()
    one.registered_at(time.time_ns() - int(ago * 1e9))
    assert shown(metrics, "route_registration_latency_count") == {"": seen}
    (total,) = shown(metrics, "route_registration_latency_sum").values()
    assert least <= total < least + 10_000
    one.registered_at(0)
    assert shown(metrics, "route_registration_latency_count") == {"": seen}


def test_latencies_of_the_first_while_are_not_counted() -> None:
    """`route_latency_metric_muzzle_duration`: after a start every route is new to the router, and none to the platform."""
    metrics = Metrics()
    RegistryCounts(metrics, muzzle=3600.0).registered_at(time.time_ns() - 10**12)
    assert shown(metrics, "route_registration_latency_count") == {"": 0}
