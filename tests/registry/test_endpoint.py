"""Tests of registry/endpoint.py: frozen values, equal by what was registered."""

import math
from dataclasses import FrozenInstanceError, replace

import pytest

from authz.policy import NO_POLICY
from registry.endpoint import NO_TAGS, Pool, Pulse, Tags, Turn
from tests.registry.parts import endpoint, tags


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("10.0.0.1", "10.0.0.1:8080"),
        ("web.internal", "web.internal:8080"),
        ("2001:db8::1", "[2001:db8::1]:8080"),
    ],
)
def test_the_address_brackets_ipv6_only(host: str, expected: str) -> None:
    """`host` is what is dialled; `address` is what logs and keys show."""
    assert expected == endpoint(host=host).address


def test_a_hash_table_is_made_once_for_the_same_names() -> None:
    """A new generation whose endpoints have the same names keeps it; equal tags or none, whatever the order."""
    turn = Turn()
    one, two = endpoint(1, instance_id="i-1"), endpoint(2)
    table = turn.table((one, two))
    assert table.names == ("10.0.0.2:8080", "i-1")
    assert turn.table((two, endpoint(3, instance_id="i-1"))) is table
    assert turn.table((one,)).names == ("i-1",)


def test_liveness_is_not_part_of_equality() -> None:
    """Two registrations that say the same are equal, whenever each was last heard."""
    assert endpoint(expires=1.0) == endpoint(expires=2.0)
    assert endpoint() != endpoint(tags=tags(component="x"))
    assert hash(endpoint()) == hash(endpoint())


def test_a_turn_is_not_part_of_equality() -> None:
    """The cursor moves on every request; the pool stays what it is."""
    one, other = (Pool((endpoint(),), NO_POLICY, turn=Turn(start)) for start in (1, 2))
    assert one == other


def test_an_endpoint_cannot_be_changed() -> None:
    """A request keeps what it looked up."""
    with pytest.raises(FrozenInstanceError):
        endpoint().port = 1  # type: ignore[misc]


def test_a_generation_can_share_the_pulse() -> None:
    """A changed endpoint keeps the cell that requests in flight count in."""
    pulse = Pulse(7.0)
    assert replace(endpoint(pulse=pulse), app="new").pulse is pulse


def test_tags_are_a_mapping_equal_by_content() -> None:
    """Whatever the order, and against a plain dict too; a missing tag is missing."""
    both = tags(component="x", app_id="y")
    assert both == tags(app_id="y", component="x") == {"component": "x", "app_id": "y"}
    assert hash(both) == hash(tags(app_id="y", component="x"))
    assert both != tags(component="x", app_id="z")
    assert both["app_id"] == "y"
    assert both.get("space_id") is None
    assert (Tags(), len(both)) == (NO_TAGS, 2)
    assert both.columns() == (("component", "app_id"), ("x", "y"))
    assert "component" in repr(both)


def test_results_in_a_row_change_what_an_endpoint_is_and_others_begin_the_row_anew() -> None:
    """R39: three failed in a row take it out, two passed let it back in."""
    pulse = Pulse()

    def take(results: str) -> list[bool]:
        return [pulse.checked(passed=each == "+", needed=2 if each == "+" else 3) for each in results]

    assert take("+--+--") == [False] * 6
    assert take("-") == [True]
    assert (pulse.unhealthy, pulse.failed_until) == (True, math.inf)
    assert take("-+-+-") == [False] * 5
    assert take("++") == [False, True]
    assert (pulse.unhealthy, pulse.failed_until) == (False, 0.0)
    assert take("--") == [False, False]


def test_a_passing_check_lifts_no_other_mark() -> None:
    """R42: it says nothing of what requests found out."""
    pulse = Pulse(expires=5.0)
    pulse.failed_until = 99.0
    assert [pulse.checked(passed=True, needed=1) for _ in range(3)] == [False] * 3
    assert (pulse.expires, pulse.failed_until) == (5.0, 99.0)


def test_a_copy_for_a_route_differs_in_its_liveness_alone() -> None:
    """One message may name a hundred routes."""
    one, pulse = endpoint(app="a", tags=tags(x="y"), updated_at_ns=5, send_proxy="v2"), Pulse(3.0)
    copy = one.at_a_route(pulse, one.options)
    assert (copy, copy.address) == (one, one.address)
    assert copy.pulse is pulse is not one.pulse
