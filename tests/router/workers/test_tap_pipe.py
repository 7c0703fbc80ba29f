"""router/workers/tap_pipe.py: what a worker's exchanges look like to a stream of the supervisor."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.decision import Check, Deny
from router.observe.tap import EVENTS_PER_SECOND, MAX_CHECKS, Listener, Tap, TapFilter
from router.workers import tap_pipe
from router.workers.tap_pipe import MAX_EVENT, MAX_MISSED, WorkerTap, asked, hear, read_event
from tests.router.observe.test_tap import ANY, Clock, heard, record, subscribed

OTHER = TapFilter(app=ANY.app, host=None, org=ANY.org)


class Pipe:
    """A supervisor and a worker, and what passes between them, as JSON."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.sent: list[str] = []
        self.worker = WorkerTap(lambda told: self.sent.append(json.dumps(told)), self.clock)
        self.supervisor = Tap(self.clock)
        self.supervisor.changed = self.ask

    def ask(self) -> None:
        self.worker.seek(json.loads(json.dumps(asked(self.supervisor))))

    def pass_on(self) -> list[bool]:
        told, self.sent = self.sent, []
        return [hear(self.supervisor, json.loads(one)) for one in told]


async def missed_in_a_full_second(pipe: Pipe, listener: Listener) -> object:
    """Hear all that a second has room for; what the first event of the next says was missed."""
    for _ in range(EVENTS_PER_SECOND):
        await heard(listener)
    pipe.clock.now += 1
    pipe.worker.offer(record(), "a.example", "/", None)
    pipe.pass_on()
    return (await heard(listener))[1]["missed"]


async def test_a_stream_hears_a_workers_exchange_as_if_it_were_its_own() -> None:
    """Byte for byte, to those whom it fits."""
    pipe = Pipe()
    here = Tap(pipe.clock)
    fits, own, fits_not = subscribed(pipe.supervisor), subscribed(here), subscribed(pipe.supervisor, TapFilter(app=None, org="o"))  # type: ignore[arg-type]
    trail = (Check("route", "rule", False, 'a "detail"\n'),)
    denied = Deny(403, "mtls_authorization_denied", "rule", "reason", "route_not_listed", trail)
    made = record(mtls_denied_reason="reason", caller_cf_app="app", caller_cf_space="space")
    for tap in (pipe.worker, here):
        tap.offer(made, "a.example", "/päth\n", denied)
    assert pipe.pass_on() == [True]
    for listener in (fits, own, fits_not):
        await heard(listener)
    assert fits._events == own._events
    assert (len(fits._events), len(fits_not._events)) == (1, 0)


def test_a_worker_looks_only_for_what_is_listened_for() -> None:
    """Nobody listens: nothing is offered; who leaves is forgotten, and who stays keeps what it missed."""
    pipe = Pipe()
    assert pipe.worker.listeners == []
    first, second = subscribed(pipe.supervisor), subscribed(pipe.supervisor)
    assert len(pipe.worker.listeners) == 2
    kept = pipe.worker.listeners[1]
    first.close()
    assert pipe.worker.listeners == [kept]
    second.close()
    assert pipe.worker.listeners == []


async def test_what_a_worker_holds_back_is_told_as_missed() -> None:
    """The pipe carries no more than the streams would take."""
    pipe = Pipe()
    listener = subscribed(pipe.supervisor)
    await heard(listener)
    for _ in range(EVENTS_PER_SECOND + 7):
        pipe.worker.offer(record(), "a.example", "/", None)
    assert pipe.pass_on() == [True] * EVENTS_PER_SECOND
    assert await missed_in_a_full_second(pipe, listener) == 7


def test_an_event_that_is_too_long_is_missed_and_never_more_than_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client made long keeps nobody from hearing the next."""
    pipe = Pipe()
    subscribed(pipe.supervisor)
    monkeypatch.setattr(tap_pipe, "MAX_MISSED", 2)
    trail = tuple(Check("route", "rule", True, "\U0001f600" * 500) for _ in range(MAX_CHECKS))
    denied = Deny(403, "mtls_authorization_denied", "rule", "", "route_not_listed", trail)
    for _ in range(3):
        pipe.worker.offer(record(), "a.example", "/", denied)
    assert pipe.sent == []
    pipe.worker.offer(record(), "a.example", "/", None)
    assert json.loads(pipe.sent[0])[:2] == [1, 2]
    assert pipe.pass_on() == [True]


async def test_two_workers_together_get_the_rate_of_one_stream() -> None:
    """What is too much for the stream is counted there."""
    pipe = Pipe()
    listener = subscribed(pipe.supervisor)
    await heard(listener)
    for _ in range(2):
        pipe.worker.seek([])
        pipe.ask()
        for _ in range(EVENTS_PER_SECOND):
            pipe.worker.offer(record(), "a.example", "/", None)
        assert pipe.pass_on() == [True] * EVENTS_PER_SECOND
    assert await missed_in_a_full_second(pipe, listener) == EVENTS_PER_SECOND


def test_an_event_for_a_stream_that_has_ended_is_nobodys_fault() -> None:
    """It was on its way."""
    pipe = Pipe()
    listener = subscribed(pipe.supervisor)
    pipe.worker.offer(record(), "a.example", "/", None)
    listener.close()
    assert pipe.pass_on() == [True]


def event(**changes: object) -> str:
    """What a worker sends, with changes."""
    sent: list[Any] = []
    worker = WorkerTap(sent.append, Clock())
    worker.seek([(1, None, None, None, None)])
    worker.offer(record(caller_cf_app="app"), "a.example", "/", None)
    return json.dumps(json.loads(sent[0][2]) | changes)


def bare(listener: Listener) -> int:
    return len(listener._events)


@pytest.mark.parametrize(
    "told",
    [
        None, [], [1], [1, 0], [1, 0, "x", 1], ["1", 0, event()], [1, -1, event()], [1, MAX_MISSED + 1, event()], [1, 0, None],
        [1, 0, ""], [1, 0, "{"], [1, 0, "[]"], [1, 0, "{}"], [1, 0, "[" * 10_000], [1, 0, "7" * (MAX_EVENT + 1)],
        [1, 0, event(more=1)], [1, 0, event(time=None)], [1, 0, event(time=7)], [1, 0, event(status="200")],
        [1, 0, event(status=True)], [1, 0, event(status=1000)], [1, 0, event(host="x" * 256)], [1, 0, event(path="x" * 1040)],
        [1, 0, event(response_time=float("nan"))], [1, 0, event(response_time=True)], [1, 0, event(response_time=1e300)],
        [1, 0, event(response_time=10**400)], [1, 0, event(response_time=float("-inf"))],
        [1, 0, event(caller={"app": "x"})], [1, 0, event(caller={"app": None, "space": None, "org": None})],
        [1, 0, event(caller=[])], [1, 0, event(trail={})], [1, 0, event(trail=[{}])], [1, 0, event(trail=[None] * 99)],
        [1, 0, event(trail=[{"layer": "l", "rule": "r", "passed": 1, "detail": "d"}])],
    ],
)  # fmt: skip
def test_what_no_worker_would_send_reaches_no_stream(told: Any) -> None:
    """A worker faces clients: whoever took one over writes nothing into an operator's terminal."""
    tap = Tap(Clock())
    listener = subscribed(tap)
    assert hear(tap, told) is False
    assert bare(listener) == 1
    assert hear(tap, [1, 0, event()]) is True
    assert bare(listener) == 2


def test_an_event_is_written_anew() -> None:
    """Twice the same key, or a line's end between its fields: the stream gets one line of ASCII with each field once."""
    text = event(path="/ü\n")
    spread = '{"status": 500,\n\n"' + text[2:]
    found = read_event(spread)
    assert found is not None
    assert found.isascii()
    assert b"\n" not in found
    assert found.count(b'"status"') == 1


@given(st.text())
def test_no_text_raises(text: str) -> None:
    read_event(text)
