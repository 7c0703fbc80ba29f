"""One registry message in: read, applied, logged, counted."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.endpoint import Endpoint
from registry.hostname import Host
from registry.intake import REGISTER, UNREGISTER, Intake, IntakeLimits
from registry.ledger import Ledger, LedgerSettings
from registry.message import MAX_BYTES
from tests.support.recorder import RecordingLog, RecordingRegistryMetrics


class Desk:
    """An intake with all its neighbours."""

    def __init__(self, **limits: Any) -> None:
        self.ledger = Ledger(LedgerSettings())
        self.log = RecordingLog()
        self.metrics = RecordingRegistryMetrics()
        self.intake = Intake(self.ledger, self.log, self.metrics, IntakeLimits(**limits))

    def take(self, body: dict[str, Any] | bytes, subject: str = REGISTER, now: float = 0.0) -> bool:
        """Whether routing changed."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.intake.take(subject, data, now) is not None

    @property
    def routes(self) -> set[str]:
        return {route.key for route in self.ledger.publish()}


def app(*uris: str, **fields: Any) -> dict[str, Any]:
    return {"host": "10.0.0.1", "port": 8080, "uris": list(uris), "tags": {"component": "emitter"}, **fields}


def test_a_registration_becomes_a_route() -> None:
    """It is counted by component and action, and logged once for the route and once for the endpoint."""
    desk = Desk()
    assert (True, {"a.example"}) == (desk.take(app("A.example")), desk.routes)
    assert desk.metrics.counts == {("registry_message", "emitter", "added"): 1, ("registered_at",): 1}
    assert [e[:2] for e in desk.log.events] == [("info", "route-registered"), ("info", "endpoint-registered")]


def test_a_registration_for_a_host_of_the_configuration_is_counted_and_ignored() -> None:
    """K15: the configuration wins; the log says so, held back in a flood, and an unregistration takes nothing."""
    desk = Desk()
    desk.ledger.hold({Host("a.example"): (Endpoint("10.9.0.1", 443),)}, 0.0)
    assert (False, {"a.example"}) == (desk.take(app("a.example")), desk.routes)
    assert desk.metrics.counts == {("registry_message", "emitter", "held"): 1}
    assert [e[1] for e in desk.log.events] == ["registration-ignored"]
    assert not desk.take(app("a.example"), UNREGISTER)
    assert [e[1] for e in desk.log.events] == ["registration-ignored", "endpoint-not-unregistered"]


def test_a_heartbeat_changes_nothing_and_is_not_logged() -> None:
    """R280: the same bytes again are only counted."""
    desk = Desk()
    desk.take(app("a.example"))
    before = list(desk.log.events)
    assert (False, before) == (desk.take(app("a.example"), now=20.0), desk.log.events)
    assert desk.metrics.counts["registry_message", "", "unmodified"] == 1


def test_an_unregistration_with_the_bytes_of_a_registration_unregisters() -> None:
    """What a message means is its subject's to say; bytes alone are no heartbeat."""
    desk = Desk()
    desk.take(app("a.example"))
    assert (True, set()) == (desk.take(app("a.example"), UNREGISTER), desk.routes)
    assert "route-unregistered" in desk.log.names


def test_an_unregistration_of_a_foreign_endpoint_is_ignored() -> None:
    """Attack 78: another host or port, or another instance at that address, takes nothing away."""
    desk = Desk()
    desk.take(app("a.example", private_instance_id="one"))
    desk.take(app("a.example", host="10.0.0.2"), UNREGISTER)
    desk.take(app("a.example", private_instance_id="two"), UNREGISTER)
    assert {"a.example"} == desk.routes
    assert [data["reason"] for data in desk.log.of("endpoint-not-unregistered")] == ["unknown-endpoint"] * 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not_json"),
        (b"\xff\x00", "not_json"),
        (b"[" * 60_000, "not_json"),
        (b"[]", "not_an_object"),
        (json.dumps(app("a.example", port=0)).encode(), "bad_port"),
        (json.dumps(app(*(f"h{n}.example" for n in range(101)))).encode(), "too_many_uris"),
        (b" " * (MAX_BYTES + 1), "too_large"),
    ],
)
@pytest.mark.parametrize("subject", [REGISTER, UNREGISTER])
def test_a_message_that_does_not_parse_is_counted_logged_and_dropped(data: bytes, reason: str, subject: str) -> None:
    """Attack 78: dropped with its reason; the routes stay as they are, and the log line is bounded."""
    desk = Desk()
    desk.take(app("kept.example"))
    assert (False, {"kept.example"}) == (desk.take(data, subject), desk.routes)
    assert desk.metrics.counts["message_dropped", reason] == 1
    logged = desk.log.of("validation-error")
    assert [(subject, reason)] == [(entry["subject"], entry["reason"]) for entry in logged]
    assert len(str(logged)) < 4000


@pytest.mark.parametrize("subject", ["router.start", "router.greet", "router.active_apps", "router.registerx"])
def test_other_subjects_are_not_read(subject: str) -> None:
    """The subscription is a wildcard; what is not ours is not even counted."""
    desk = Desk()
    assert (desk.take(b"not json", subject), desk.log.events) == (False, [])
    assert not desk.metrics.counts


def test_options_that_were_not_used_are_logged_and_counted_once_a_change() -> None:
    """One line says which option, which value, why, and what holds; a second route or heartbeat adds none."""
    desk = Desk()
    options = {"loadbalancing": "fastest", "mtls_allowed_apps": {"nested": 1}}
    desk.take(app("a.example", "b.example", options=options))
    desk.take(app("a.example", "b.example", options=options), now=20.0)
    told = {entry["option"].__str__() for entry in desk.log.of("route-option-rejected")}
    assert {"loadbalancing", "mtls_allowed_apps"} <= {text.strip("'\"") for text in told}
    assert len(desk.log.of("route-option-rejected")) == 2


def test_a_policy_that_is_not_taken_as_written_is_counted_once_a_change() -> None:
    """R258, R321: a dropped `any` or a skipped GUID shows in the metric like any other rejected option."""
    desk = Desk()
    for now in (0.0, 20.0):
        desk.take(app("a.example", options={"mtls_allow_any": True, "mtls_allowed_apps": "not a guid,b"}), now=now)
    assert len(desk.log.of("malformed-route-policy")) == 2
    counted = {key: count for key, count in desk.metrics.counts.items() if key[0] == "route_options_rejected"}
    assert counted == {("route_options_rejected", "bad_policy"): 1}


def test_the_operators_option_limit_holds() -> None:
    """R281: the limit is the operator's."""
    desk = Desk(max_options=16)
    desk.take(app("a.example", options={"mtls_allowed_apps": "a-guid-that-is-too-long"}))
    assert desk.metrics.counts["route_options_rejected", "too_large"] == 1


def test_a_silent_endpoint_is_pruned_and_logged() -> None:
    """Its time to live is over: gone, counted."""
    desk = Desk()
    desk.take(app("a.example", stale_threshold_in_seconds=10))
    desk.intake.prune(9.0)
    assert {"a.example"} == desk.routes
    desk.intake.prune(11.0)
    assert (set(), 1) == (desk.routes, desk.metrics.counts["routes_pruned",])
    assert [entry["uri"] for entry in desk.log.of("pruned-route")] == ["a.example"]


@given(st.binary(max_size=400), st.sampled_from([REGISTER, UNREGISTER, "router.other"]))
def test_no_bytes_raise(data: bytes, subject: str) -> None:
    """Attack 78: whatever the bytes, the intake returns."""
    desk = Desk()
    desk.take(data, subject)
    assert set() == desk.routes
