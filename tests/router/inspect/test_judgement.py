"""router/inspect/judgement.py: expectations against answers."""

import pytest

from authz.policy import NO_POLICY
from registry.endpoint import Pool, Route
from registry.hostname import Host
from router.inspect.callers import KnownCaller
from router.inspect.expectations import Case
from router.inspect.judgement import Asked, Seen, judge, untouched

FRONT = KnownCaller("front")
CASE = Case("one", 3, FRONT, Host("a.example"), "/v1", "allow")
FORWARDED = Seen(True, "forwarded", None, "route:mtls_allow_any", "", None, "a.example/v1")
DENIED = Seen(False, "403", 403, "route:mtls_allowed_apps", "not listed", "add it", "a.example/v1")


@pytest.mark.parametrize(
    ("case", "seen", "differences"),
    [
        (CASE, FORWARDED, ()),
        (CASE, DENIED, ("expected allow, seen deny (403)",)),
        (CASE._replace(expect="deny"), FORWARDED, ("expected deny, seen allow (forwarded)",)),
        (CASE._replace(rule="route:mtls_allow_any"), FORWARDED, ()),
        (CASE._replace(rule="domain:any"), FORWARDED, ("expected rule domain:any, seen route:mtls_allow_any",)),
        (CASE._replace(rule="domain:any"), FORWARDED._replace(rule=None), ("expected rule domain:any, seen no rule",)),
        (CASE._replace(expect="deny", status=403), DENIED, ()),
        (CASE._replace(expect="deny", status="alert"), DENIED._replace(status="alert", outcome="alert"), ()),
        (CASE._replace(expect="deny", status=421), DENIED, ("expected status 421, seen 403",)),
        (
            CASE._replace(expect="deny", status=421),
            DENIED._replace(status="alert", outcome="alert"),
            ("expected status 421, seen alert",),
        ),
        (
            CASE._replace(expect="deny", status=403, rule="x"),
            FORWARDED,
            (
                "expected deny, seen allow (forwarded)",
                "expected rule x, seen route:mtls_allow_any",
                "expected status 403, seen forwarded",
            ),
        ),
    ],
)
def test_a_case_holds_when_everything_it_says_is_seen(case: Case, seen: Seen, differences: tuple[str, ...]) -> None:
    (verdict,) = judge([case], lambda asked: seen)
    assert (verdict.differences, verdict.holds) == (differences, not differences)


def test_the_whole_case_is_asked() -> None:
    asked: list[Asked] = []

    def ask(question: Asked) -> Seen:
        asked.append(question)
        return DENIED

    judge([CASE._replace(sni=Host("b.example")), CASE._replace(plain=True)], ask)
    assert asked == [
        Asked(FRONT, "a.example", "/v1", "b.example", plain=False),
        Asked(FRONT, "a.example", "/v1", None, plain=True),
    ]


def test_a_verdict_is_json_for_programs() -> None:
    (verdict,) = judge([CASE], lambda asked: DENIED)
    assert verdict.as_json() == {
        "name": "one",
        "line": 3,
        "ok": False,
        "caller": "front",
        "host": "a.example",
        "path": "/v1",
        "expected": {"expect": "allow", "rule": None, "status": None},
        "seen": {
            "result": "deny",
            "allowed": False,
            "outcome": "403",
            "status": 403,
            "rule": "route:mtls_allowed_apps",
            "reason": "not listed",
            "remedy": "add it",
            "route": "a.example/v1",
        },
        "differences": ["expected allow, seen deny (403)"],
    }


def test_routes_that_no_case_came_to_are_named() -> None:
    """A test that asks about half of the routes should say so."""
    routes = [Route(key, Host(key), "", Pool((), NO_POLICY)) for key in ("z.example", "a.example/v1", "b.example")]
    assert untouched(routes, judge([CASE], lambda asked: DENIED)) == ("b.example", "z.example")


@pytest.mark.parametrize(
    ("seen", "answer"),
    [
        (FORWARDED, "allow route:mtls_allow_any"),
        (DENIED, "deny 403 route:mtls_allowed_apps"),
        (Seen(False, "alert", "alert", "handshake:expired"), "deny alert handshake:expired"),
        (Seen(True, "forwarded"), "allow"),
    ],
)
def test_an_answer_is_told_in_a_few_words(seen: Seen, answer: str) -> None:
    assert seen.answer == answer
