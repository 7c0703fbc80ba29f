"""Tests of `python -m bench scale`: what the simulated apps say is what a router takes, and the plot is well formed."""

import json
from xml.etree import ElementTree as ET

import pytest

from bench.plot import Line, Panel, Phase, plot
from bench.simulation import Run, Sample
from bench.simulation_apps import Platform, bandwidth, said
from bench.simulation_memory import _filled, _grown, _told
from registry.message import RegistryMessage, parse_message

PLATFORM = Platform(routes=40, instances=10, interval=20.0, options=512)


def test_an_instance_says_what_a_router_takes() -> None:
    """Its share of the routes, and options without a fault."""
    message = parse_message(said(PLATFORM, 3))
    assert isinstance(message, RegistryMessage)
    assert (len(message.uris), message.notes, message.endpoint.options.warnings) == (4, (), ())
    assert message.endpoint.options.policy.warnings == ()


def test_a_restarted_instance_is_another_at_another_address() -> None:
    """Its routes stay."""
    old, new = (parse_message(said(PLATFORM, 3, life)) for life in (0, 1))
    assert isinstance(old, RegistryMessage)
    assert isinstance(new, RegistryMessage)
    assert old.uris == new.uris
    assert old.endpoint.address != new.endpoint.address
    assert old.endpoint.instance_id != new.endpoint.instance_id


@pytest.mark.parametrize("size", [64, 512, 1024, 4096])
def test_options_have_about_the_size_that_is_asked_for(size: int) -> None:
    """A GUID less, at most."""
    options = json.loads(said(PLATFORM._replace(options=size), 3))["options"]
    assert size - 37 < len(json.dumps(options, separators=(",", ":"))) <= size


def test_a_longer_interval_takes_less_of_the_network() -> None:
    """Half as often, half as much."""
    assert bandwidth(PLATFORM) == 2 * bandwidth(PLATFORM._replace(interval=40.0))


def test_a_worker_is_told_every_route_that_is_weighed() -> None:
    """A process that was told fewer ends in an error; one that holds routes has not become smaller."""
    table = _filled(40, 2, 64)
    assert (len(table), {len(route.pool.endpoints) for route in table}) == (40, {2})
    assert _told(table) >= 0
    assert min(_grown(40, 2, 64)) >= 0


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("values", [[0.0, 0.0], [1.0, 250.0], [3.0, 0.01]])
def test_a_plot_is_well_formed(values: list[float], *, logarithmic: bool) -> None:
    """One line a series, whatever its values, and names that XML could take for its own."""
    lines = [Line("a < b", [(0.0, values[0]), (9.0, values[1])])]
    drawn = ET.fromstring(plot("a & b", "s", [Panel("x", lines, logarithmic)], [Phase("p", 0.0, 9.0)]))
    assert len(drawn.findall("{http://www.w3.org/2000/svg}polyline")) == 1


@pytest.mark.parametrize(("started", "ended", "lacking"), [(40, 40, 0), (38, 40, 2), (40, 39, 1)])
def test_routes_that_are_lacking_are_said(started: int, ended: int, lacking: int) -> None:
    """After a start that took too long, and at the end."""
    phases = {"start": [10, started], "NATS back": [40, ended]}
    samples = [Sample(0.0, name, 0.0, 0.0, 0.0, {"routes": count}) for name, seen in phases.items() for count in seen]
    assert Run(PLATFORM, samples).lacking == lacking
