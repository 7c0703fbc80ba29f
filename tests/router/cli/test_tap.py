"""`vestibule tap`: what a person sees of each event, and how it ends."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from registry.names import NO_NAMES, Names
from router.cli import main
from router.cli import tap as module
from router.cli.event_stream import Event
from router.cli.tap import lines, verdict

START = Event("start", {"seconds": 900})
EXCHANGE: dict[str, Any] = {
    "missed": 0, "time": "2026-01-02T03:04:05.678901234Z", "host": "a.example", "method": "GET", "path": "/p", "status": 200,
    "router_error": None, "mtls_auth": "allowed", "rule": "route:mtls_allowed_apps", "reason": None, "trail": [],
    "caller": {"app": "app-1", "space": None, "org": None}, "backend": "10.0.0.1:80", "response_time": 0.0123, "request_id": "id",
}  # fmt: skip
TRAIL = [
    {"layer": "binding", "rule": "domain", "passed": True, "detail": "fits"},
    {"layer": "route", "rule": "route:x", "passed": False, "detail": "not listed"},
]


def shown(**more: Any) -> list[str]:
    return list(lines({**EXCHANGE, **more}, NO_NAMES))


def test_an_exchange_is_one_line() -> None:
    (line,) = shown()
    assert line == (
        "03:04:05.678  allowed       200  GET  a.example/p  by app-1  to 10.0.0.1:80  12.3 ms  route:mtls_allowed_apps  id"
    )


def test_a_name_stands_before_its_guid() -> None:
    """R304: a GUID is never hidden behind its name."""
    assert "by billing (app-1)" in next(lines(EXCHANGE, Names({"app-1": "billing"})))


def test_a_denial_has_its_trail_below() -> None:
    line, first, second = shown(
        mtls_auth="denied", status=403, backend=None, router_error="mtls_authorization_denied", trail=TRAIL
    )
    assert "DENIED" in line
    assert "  mtls_authorization_denied  " in line
    assert first.split() == ["passed", "binding", "domain:", "fits"]
    assert second.split() == ["FAILED", "route", "route:x:", "not", "listed"]


@pytest.mark.parametrize(
    ("more", "word", "checks"),
    [
        ({"mtls_auth": "would_deny"}, "would deny", 2),
        ({"mtls_auth": None, "status": 421, "router_error": "mtls_domain_mismatch"}, "MISDIRECTED", 2),
        ({"mtls_auth": "not_enforced"}, "not enforced", 0),
        ({"mtls_auth": None}, "forwarded", 0),
        ({"mtls_auth": None, "status": 404, "router_error": "unknown_route"}, "refused", 0),
    ],
)
def test_every_outcome_has_its_word(more: dict[str, Any], word: str, checks: int) -> None:
    assert verdict({**EXCHANGE, **more})[0] == word
    assert len(shown(**more, trail=TRAIL)) == 1 + checks


def test_what_was_missed_is_told_before_what_came() -> None:
    assert shown(missed=7)[0] == "... 7 more, too many to show"


@pytest.mark.parametrize(
    "more", [{"caller": {"app": ["x"]}}, {"caller": {"app": 5}}, {"response_time": 10**400}, {"response_time": float("nan")}]
)
def test_no_event_ends_it_by_its_types(more: dict[str, Any]) -> None:
    """What answers need not be a router."""
    assert len(shown(**more)) == 1


def test_an_event_of_another_shape_gives_dashes() -> None:
    evil = "\x1b]0;x"
    said = [
        *lines({}, NO_NAMES),
        *shown(path=evil, rule=evil, caller={"app": evil}, trail=[3, {"detail": evil}], mtls_auth="denied"),
    ]
    assert "\x1b" not in "".join(said)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event | BaseException]:
    """What the router will say."""
    coming: list[Event | BaseException] = [START]

    def listen(place: object, path: str, query: dict[str, str]) -> Iterator[Event]:
        assert (path, query) == ("/tap", {"host": "a.example"})
        for event in coming:
            if isinstance(event, BaseException):
                raise event
            yield event

    monkeypatch.setattr(module, "listen", listen)
    return coming


def tapped(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["tap", "--host", "a.example", *words])
    out, err = capsys.readouterr()
    return status, out, err


def test_it_ends_after_as_many_as_are_wanted(events: list[Event], capsys: pytest.CaptureFixture[str]) -> None:
    events += [Event("exchange", EXCHANGE)] * 3
    status, out, err = tapped(capsys, "--count", "2")
    assert (status, len(out.splitlines()), err) == (0, 2, "listening; Ctrl-C ends it\n")


def test_for_programs_it_is_json_or_yaml(events: list[Event], capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON a line, or one YAML document an exchange."""
    events += [Event("exchange", EXCHANGE)] * 2
    assert [json.loads(line) for line in tapped(capsys, "--count", "2", "-o", "json")[1].splitlines()] == [EXCHANGE] * 2
    assert list(yaml.safe_load_all(tapped(capsys, "--count", "2", "-o", "yaml")[1])) == [EXCHANGE] * 2


@pytest.mark.parametrize(
    ("last", "status", "said"),
    [
        (Event("end", {"reason": "time"}), 0, "the router ends every stream after a while; 0 exchanges were shown"),
        (Event("message", {}), 1, "the router ended the connection; is it stopping?"),
        (ValueError("nothing was heard"), 1, "vestibule tap: nothing was heard"),
        (KeyboardInterrupt(), 0, ""),
    ],
)
def test_it_says_why_it_ended(
    events: list[Event | BaseException], last: Event | BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And does not begin anew: who listens should know that something was missed."""
    events.append(last)
    assert (found := tapped(capsys))[:2] == (status, "")
    assert said in found[2]


@pytest.mark.parametrize(
    ("words", "said"), [([], "give --host, --app, --space or --org"), (["--count", "x"], "is no number from 1")]
)
def test_a_wrong_call_exits_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tap", *words]) == 2
    assert said in capsys.readouterr().err
