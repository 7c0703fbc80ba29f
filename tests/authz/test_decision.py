"""authz/decision.py: what a decision says to log, JSON and people."""

import json

import pytest

from authz.binding import BOUND_DOMAIN, BOUND_OPEN, misdirected
from authz.decide import decide
from authz.decision import Check, Decision, LogFields
from authz.policy import NO_POLICY
from tests.authz.parts import APP, CALLER, domain, pool

ALLOWED = decide(BOUND_DOMAIN, domain(), CALLER, pool({"mtls_allowed_apps": APP}))
DENIED = decide(BOUND_DOMAIN, domain(), CALLER, pool({"mtls_allowed_apps": "g"}))
IGNORED = decide(BOUND_OPEN, None, None, pool({"mtls_allowed_apps": "g"}))
REPORTED = decide(BOUND_DOMAIN, domain(report_only=True), CALLER, pool({"mtls_allowed_apps": "g"}))
SILENT = decide(BOUND_OPEN, None, None, NO_POLICY)
MISDIRECTED = misdirected(Check("binding", "plain_http", False, "why"))
WHY = "caller app app-1 not in mtls_allowed_apps"


@pytest.mark.parametrize(
    ("decision", "fields"),
    [
        (ALLOWED, ("allowed", "route:mtls_allowed_apps", None)),
        (DENIED, ("denied", "route:mtls_allowed_apps", WHY)),
        (REPORTED, ("would_deny", "route:mtls_allowed_apps", WHY)),
        (SILENT, (None, None, None)),
        (MISDIRECTED, (None, "plain_http", "why")),
    ],
)
def test_the_log_fields_are_those_of_the_contract(decision: Decision, fields: tuple[str | None, ...]) -> None:
    """Contract a.2 and a.3: a 421 has no mtls_auth."""
    assert decision.log_fields() == LogFields(*fields)


@pytest.mark.parametrize(
    ("decision", "sentence"),
    [
        (ALLOWED, "Allowed by route:mtls_allowed_apps."),
        (DENIED, f"Denied (403) by route:mtls_allowed_apps: {WHY}."),
        (REPORTED, f"Forwarded in report-only mode; route:mtls_allowed_apps would deny: {WHY}."),
        (SILENT, "Forwarded: nothing here asks who is calling."),
        (MISDIRECTED, "Misdirected (421) by plain_http: why."),
        (
            IGNORED,
            ("Forwarded without enforcement: route specifies mtls_allowed_apps but its domain is no mTLS domain; rules ignored."),
        ),
    ],
)
def test_a_decision_is_one_sentence(decision: Decision, sentence: str) -> None:
    """A person reads why."""
    assert decision.sentence() == sentence


@pytest.mark.parametrize("decision", [ALLOWED, DENIED, REPORTED, SILENT, MISDIRECTED, IGNORED])
def test_a_decision_is_plain_json_with_its_trail(decision: Decision) -> None:
    """Every check is there, in order, and the last of a refusal is the one that failed."""
    data = json.loads(json.dumps(decision.as_json()))
    assert data["result"] == ("allow" if "auth" in data else "deny")
    assert [check["rule"] for check in data["trail"]] == [check.rule for check in decision.trail]
    assert set(data["trail"][0]) == {"layer", "rule", "passed", "detail"}
