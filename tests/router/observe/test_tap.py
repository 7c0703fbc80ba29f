"""router/observe/tap.py: what a listener hears, and what it can never do to the requests."""

import asyncio
import contextlib
import json
from typing import Any

import pytest

from authz.decision import Allow, Check, Deny
from identity.caller import Guid
from registry.hostname import Host
from router.observe import tap as module
from router.observe.access_record import AccessRecord
from router.observe.tap import EVENTS_PER_SECOND, MAX_CHECKS, MAX_LISTENERS, MAX_SECONDS, MAX_WAITING, Listener, Tap, TapFilter

HOST = Host("a.example")
ANY = TapFilter(HOST)


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def record(**more: Any) -> AccessRecord:
    """A finished exchange that has a secret wherever a client could put one."""
    made = AccessRecord(1_700_000_000.25)
    made.host, made.method, made.uri = b"a.example:443", b"GET", b"/path?token=hush"
    made.user_agent = made.referer = made.x_forwarded_for = made.request_id = b"hush"
    made.extra_headers = (b"hush",)
    made.status, made.backend_addr, made.response_time, made.vcap_request_id = 200, "10.0.0.1:80", 0.25, b"vcap-id"
    for name, value in more.items():
        setattr(made, name, value)
    return made


def subscribed(tap: Tap, wanted: TapFilter = ANY) -> Listener:
    listener = tap.subscribe(wanted)
    assert listener is not None
    return listener


async def heard(listener: Listener) -> tuple[str, Any]:
    """The next piece: the event's name and its data; a comment is named `:`."""
    async with asyncio.timeout(5):
        piece = (await anext(listener)).decode("ascii")
    assert piece.endswith("\n\n")
    if piece.startswith(":"):
        return ":", None
    event, data, rest = piece.split("\n", 2)
    assert rest == "\n"
    return event.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def test_an_event_tells_of_the_exchange_and_of_nothing_that_is_secret() -> None:
    """R55, R215: no query, no field, no body."""
    tap = Tap()
    listener = subscribed(tap)
    assert await heard(listener) == ("start", {"seconds": MAX_SECONDS, "events_per_second": EVENTS_PER_SECOND})
    trail = (Check("route", "route:mtls_allowed_apps", True, "the caller is allowed by the route"),)
    made = record(mtls_auth="allowed", mtls_rule="route:mtls_allowed_apps", caller_cf_app="app", caller_cf_space="space")
    tap.offer(made, "a.example", "/path", Allow("allowed", "route:mtls_allowed_apps", None, frozenset(), None, trail))
    name, event = await heard(listener)
    assert name == "exchange"
    assert "hush" not in json.dumps(event)
    assert event == {
        "missed": 0, "time": "2023-11-14T22:13:20.250000000Z", "host": "a.example", "method": "GET", "path": "/path",
        "status": 200, "router_error": None, "mtls_auth": "allowed", "rule": "route:mtls_allowed_apps", "reason": None,
        "trail": [trail[0]._asdict()], "caller": {"app": "app", "space": "space", "org": None}, "backend": "10.0.0.1:80",
        "response_time": 0.25, "request_id": "vcap-id",
    }  # fmt: skip


async def test_what_a_client_sent_is_bounded_and_cannot_make_events_of_its_own() -> None:
    """A line's end in a path is an escape; a long trail keeps its end, which decided."""
    tap = Tap()
    listener = subscribed(tap)
    trail = tuple(Check("route", f"rule-{n}", n < 99, "x" * 5000) for n in range(100))
    denied = Deny(403, "mtls_authorization_denied", "rule-99", "x" * 5000, "route_not_listed", trail)
    tap.offer(record(method=b"M" * 900, mtls_denied_reason="x" * 5000), "a.example", "/a\n\ndata: x" + "y" * 5000, denied)
    await heard(listener)
    _, event = await heard(listener)
    assert event["path"].startswith("/a\n\ndata: xyyy")
    assert max(len(event[name]) for name in ("path", "method", "reason")) < 1100
    assert [check["rule"] for check in event["trail"]] == [f"rule-{n}" for n in range(100 - MAX_CHECKS, 100)]
    assert max(len(check["detail"]) for check in event["trail"]) < 600


async def test_what_was_never_understood_is_null() -> None:
    """A malformed request has neither host nor path nor decision."""
    tap = Tap()
    listener = subscribed(tap, TapFilter(app=Guid("app")))
    tap.offer(record(caller_cf_app="app", status=None, method=b"", backend_addr="", vcap_request_id=b""), "", "", None)
    await heard(listener)
    _, event = await heard(listener)
    assert [name for name, value in event.items() if value is None] == [
        "host", "method", "path", "status", "router_error", "mtls_auth", "rule", "reason", "trail", "backend", "request_id",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (TapFilter(HOST), True),
        (TapFilter(Host("*.example")), True),
        (TapFilter(Host("b.example")), False),
        (TapFilter(app=Guid("app")), True),
        (TapFilter(app=Guid("app"), org=Guid("org")), True),
        (TapFilter(HOST, space=Guid("space")), True),
        (TapFilter(HOST, space=Guid("other")), False),
        (TapFilter(org=Guid("other")), False),
    ],
)
def test_a_listener_hears_what_it_asked_for(wanted: TapFilter, fits: bool) -> None:
    """All that is named must be so."""
    assert fits == wanted.fits("a.example", record(caller_cf_app="app", caller_cf_space="space", caller_cf_org="org"))


def test_who_calls_without_an_identity_is_no_caller() -> None:
    assert not TapFilter(app=Guid("app")).fits("a.example", record())


async def test_more_than_the_rate_is_counted_and_told_with_the_next_event() -> None:
    """Each listener by its own rate; the next second brings room."""
    clock = Clock()
    tap = Tap(clock)
    listener = subscribed(tap)
    await heard(listener)
    for _ in range(EVENTS_PER_SECOND + 7):
        tap.offer(record(), "a.example", "/", None)
    assert [(await heard(listener))[1]["missed"] for _ in range(EVENTS_PER_SECOND)] == [0] * EVENTS_PER_SECOND
    clock.now += 1
    for _ in range(2):
        tap.offer(record(), "a.example", "/", None)
    assert [(await heard(listener))[1]["missed"] for _ in range(2)] == [7, 0]


async def test_who_does_not_read_loses_events_and_keeps_nobodys_memory() -> None:
    """MAX_WAITING pieces and not one more, however long it goes on."""
    clock = Clock()
    tap = Tap(clock)
    sleepy, awake = subscribed(tap), subscribed(tap)
    for _ in range(3 * MAX_WAITING):
        clock.now += 1
        tap.offer(record(), "a.example", "/", None)
        while awake._events:
            await heard(awake)
    assert len(sleepy._events) == MAX_WAITING
    await heard(sleepy)
    tap.offer(record(), "a.example", "/", None)
    pieces = [await heard(sleepy) for _ in range(MAX_WAITING)]
    assert pieces[-1][1]["missed"] == 2 * MAX_WAITING + 1


def test_an_event_is_made_once_for_all_and_not_at_all_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond the rate costs no rendering either."""
    made: list[AccessRecord] = []

    def render(_: Tap, record: AccessRecord, *__: object) -> bytes:
        made.append(record)
        return b"{}"

    monkeypatch.setattr(Tap, "_event", render)
    tap = Tap(Clock())
    for _ in range(3):
        subscribed(tap)
    tap.offer(record(), "b.example", "/", None)
    assert made == []
    for _ in range(EVENTS_PER_SECOND + 10):
        tap.offer(record(), "a.example", "/", None)
    assert len(made) == EVENTS_PER_SECOND


def test_a_few_listen_at_a_time() -> None:
    """One more gets nothing; leaving twice is no harm."""
    tap = Tap()
    listening = [subscribed(tap) for _ in range(MAX_LISTENERS)]
    assert tap.subscribe(ANY) is None
    for _ in range(2):
        listening[0].close()
    assert len(tap.listeners) == MAX_LISTENERS - 1
    subscribed(tap)


async def test_silence_is_broken_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a client that is gone is noticed."""
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.01)
    listener = subscribed(Tap())
    await heard(listener)
    assert [await heard(listener) for _ in range(2)] == [(":", None)] * 2


async def test_a_stream_ends_after_its_time_and_says_so() -> None:
    clock = Clock()
    tap = Tap(clock)
    listener = subscribed(tap)
    await heard(listener)
    for _ in range(EVENTS_PER_SECOND + 1):
        tap.offer(record(), "a.example", "/", None)
    for _ in range(EVENTS_PER_SECOND):
        await heard(listener)
    clock.now += MAX_SECONDS
    assert await heard(listener) == ("end", {"reason": "time", "missed": 1})
    assert tap.listeners == []
    with pytest.raises(StopAsyncIteration):
        await anext(listener)


async def test_close_ends_the_wait_for_the_next_piece() -> None:
    """The client has gone: nobody waits for a heartbeat."""
    listener = subscribed(Tap())
    await heard(listener)
    waiting = asyncio.get_running_loop().create_task(heard(listener))
    await asyncio.sleep(0)
    listener.close()
    with contextlib.suppress(StopAsyncIteration):
        await waiting
    assert [piece async for piece in listener] == []


def test_whoever_has_to_know_is_told_when_somebody_begins_or_ends_to_listen() -> None:
    """Each stream has a number that no other ever has; leaving twice is told once."""
    told: list[list[int]] = []
    tap = Tap()
    tap.changed = lambda: told.append([*tap.streams])
    first, second = subscribed(tap), subscribed(tap)
    for listener in (first, first, second):
        listener.close()
    subscribed(tap)
    assert told == [[1], [1, 2], [2], [], [3]]
