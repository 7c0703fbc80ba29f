"""The promise: who may see the route table can listen to one host or one caller, live; no secret is told and nobody suffers."""

import base64
import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Self

import pytest

from router.observe.tap import EVENTS_PER_SECOND, MAX_LISTENERS, MAX_WAITING
from tests.behaviour.conftest import ANY, OPEN, REPORT, At
from tests.conftest import EAST, MakeRouter
from tests.support.certs import CA, Credential
from tests.support.client import Client, Tls
from tests.support.router import STATUS_PASSWORD, STATUS_USER, RouterProcess, mtls_domain, wait_until

CREDENTIALS = ("Authorization", "Basic " + base64.b64encode(f"{STATUS_USER}:{STATUS_PASSWORD}".encode()).decode())
LISTENER = {"app": "app-a"}


class Tapped:
    """One stream of a router; `raw` is all that came of it."""

    def __init__(self, router: RouterProcess, **query: str) -> None:
        self._client = Client(router.routes_port)
        question = "&".join(f"{name}={value}" for name, value in query.items())
        head = f"GET /tap?{question} HTTP/1.0\r\nHost: x\r\n{CREDENTIALS[0]}: {CREDENTIALS[1]}\r\n\r\n"
        self._client.send(head.encode())
        self.raw = b""
        self._at = 0
        self.status = int(self._piece(b"\r\n\r\n").split()[1])
        if self.status == 200:
            assert b"event: start" in self._piece(b"\n\n")

    def next(self) -> dict[str, Any]:
        """The next exchange."""
        while True:
            name, _, data = self._piece(b"\n\n").partition(b"\ndata: ")
            if name == b"event: exchange":
                event: dict[str, Any] = json.loads(data)
                return event

    def has_more(self) -> bool:
        """Whether something came, or comes within a moment."""
        return len(self.raw) > self._at or bool(select.select([self._client.socket], [], [], 0.02)[0])

    def _piece(self, end: bytes) -> bytes:
        while end not in self.raw[self._at :]:
            more = self._client.recv()
            if not more:
                raise EOFError("the stream ended")
            self.raw += more
        start, self._at = self._at, self.raw.index(end, self._at) + len(end)
        return self.raw[start : self._at]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()


@pytest.fixture(name="busy")
def _busy(house: RouterProcess) -> Iterator[None]:
    """Whoever listens here has left before the next test wants to."""
    yield
    wait_until(lambda: listeners(house) == 0, "everybody to stop listening")


def listeners(router: RouterProcess) -> int:
    """How many listen, as far as can be asked: those that are refused are few."""
    with contextlib.ExitStack() as stack:
        free = 0
        while free < MAX_LISTENERS and stack.enter_context(Tapped(router, host="nobody.example")).status == 200:
            free += 1
    return MAX_LISTENERS - free


def test_a_tapped_call_shows_its_decision_within_its_event(
    at: At, house: RouterProcess, alice: Credential, carol: Credential
) -> None:
    """Allowed and denied, each with its whole trail, by the very rule of the access log."""
    place = at(ANY, {"mtls_allowed_apps": "app-a"})
    with Tapped(house, host=place.host) as tapped:
        allowed, denied = place.call(alice), place.call(carol)
        first, second = tapped.next(), tapped.next()
    assert (first["status"], first["mtls_auth"], first["rule"], first["reason"]) == (200, *allowed.seen)
    assert (second["status"], second["mtls_auth"], second["rule"], second["reason"]) == (403, *denied.seen)
    assert [(check["layer"], check["passed"]) for check in second["trail"]] == [
        ("binding", True), ("identity", True), ("domain", True), ("route", False),
    ]  # fmt: skip
    assert second["caller"] == {"app": "app-c", "space": "space-3", "org": "org-3"}
    assert (first["backend"], second["backend"]) == (place.backends[0].address, None)
    assert first["request_id"] == allowed.response.get("x-vcap-request-id")
    assert second["router_error"] == "mtls_authorization_denied"


def test_a_call_at_the_wrong_door_is_heard_too(at: At, house: RouterProcess) -> None:
    """421: no decision about a caller, and yet a trail."""
    place = at(ANY, {"mtls_allow_any": True})
    with Tapped(house, host=place.host) as tapped:
        place.call(plain=True)
        event = tapped.next()
    assert (event["status"], event["mtls_auth"], event["caller"]) == (421, None, None)
    assert [(check["layer"], check["passed"]) for check in event["trail"]] == [("binding", False)]


def test_what_report_only_lets_pass_is_told_with_the_check_that_failed(at: At, house: RouterProcess, carol: Credential) -> None:
    place = at(REPORT, {"mtls_allow_any": True})
    with Tapped(house, host=place.host) as tapped:
        place.call(carol)
        event = tapped.next()
    assert (event["status"], event["mtls_auth"], event["rule"]) == (200, "would_deny", "domain:orgs")
    assert event["trail"][-1]["passed"] is False


def test_a_call_that_a_deny_list_stops_is_heard_with_the_list(make_router: MakeRouter, east_ca: CA) -> None:
    """R239: before any other rule, and before a route is looked up."""
    router = make_router(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)], deny={"hosts": [f"*.out.{EAST}"]})
    host = f"app.out.{EAST}"
    with Tapped(router, host=host) as tapped:
        with Client(router.ssl_port, Tls(host, east_ca.issue_instance("app-a", "space-1", "org-1"))) as client:
            assert client.request(host).status == 403
        event = tapped.next()
    assert (event["status"], event["rule"], event["trail"][-1]["layer"]) == (403, "deny:hosts", "deny")


def test_a_caller_is_heard_wherever_it_calls_and_nobody_else_is(
    at: At, house: RouterProcess, alice: Credential, bob: Credential
) -> None:
    """By app, by space, by org; together with a host both must fit."""
    one, other = at(ANY, {"mtls_allow_any": True}), at(ANY, {"mtls_allow_any": True})
    with Tapped(house, app="app-a") as app, Tapped(house, space="space-2", host=other.host) as space:
        for place in (one, other):
            place.call(bob)
            place.call(alice)
        assert [app.next()["host"] for _ in range(2)] == [one.host, other.host]
        assert (event := space.next())["host"] == other.host
        assert event["caller"]["app"] == "app-b"
    with Tapped(house, org="org-1", host="*." + ANY[2:]) as org:
        one.call(bob)
        one.call(alice)
        assert org.next()["caller"]["app"] == "app-a"


def test_nothing_secret_is_heard(at: At, house: RouterProcess) -> None:
    """R55, R215: neither query nor fields nor bodies, of the request and of the response; the path is there."""
    place = at(OPEN)
    with Tapped(house, host=place.host) as tapped:
        headers = [("X-Api-Key", "hush-1"), ("Cookie", "hush-2"), ("Referer", "http://x/?hush-3"), ("User-Agent", "hush-4")]
        with place.connect(plain=True) as client:
            client.request(place.host, "/pay?token=hush-5", method="POST", body=b"hush-7", headers=headers)
        event = tapped.next()
    assert event["path"] == "/pay"
    assert event["method"] == "POST"
    assert place.backends[0].received[-1].body == b"hush-7"
    assert b"hush" not in tapped.raw


def test_a_path_cannot_forge_an_event(at: At, house: RouterProcess) -> None:
    """Bytes beyond ASCII are escaped; a line's end cannot come that far."""
    place = at(OPEN)
    with Tapped(house, host=place.host) as tapped, place.connect(plain=True) as client:
        client.send(b"GET /\xff\xe2\x80\xa8%0A%0Adata:x HTTP/1.1\r\nHost: " + place.host.encode() + b"\r\n\r\n")
        client.read_response()
        assert tapped.raw.isascii()


def test_beyond_the_rate_exchanges_are_counted_and_told(at: At, house: RouterProcess) -> None:
    """What is not shown is not hidden: events and what they say was missed add up to the calls."""
    place = at(OPEN)
    calls = 4 * EVENTS_PER_SECOND
    with Tapped(house, host=place.host) as tapped, place.connect(plain=True) as client:
        for _ in range(calls):
            client.request(place.host)
        told = 0
        while told < EVENTS_PER_SECOND:
            told += 1 + tapped.next()["missed"]
        while told < calls:  # until a second has passed and there is room for one more
            client.request(place.host)
            calls += 1
            while tapped.has_more():
                told += 1 + tapped.next()["missed"]
        assert told == calls


def test_a_listener_that_does_not_read_slows_nobody_and_costs_little(at: At, house: RouterProcess) -> None:
    """It loses events; requests go on as before, and the router's memory stays where it was."""
    place = at(OPEN)
    with Tapped(house, host=place.host), place.connect(plain=True) as client:
        for _ in range(2 * MAX_WAITING):
            client.request(place.host)
        before = house.resident_kib()
        path = "/" + "x" * 8000
        for _ in range(1000):
            assert client.request(place.host, path).status == 200
        assert house.resident_kib() - before < 8 * 1024


def test_a_few_listen_at_a_time(house: RouterProcess, busy: None) -> None:
    """One more is refused with 503; one that leaves makes room, without waiting for a heartbeat."""
    with contextlib.ExitStack() as stack:
        first, *_ = (stack.enter_context(Tapped(house, **LISTENER)) for _ in range(MAX_LISTENERS))
        with Tapped(house, **LISTENER) as late:
            assert late.status == 503
        first.__exit__()
        wait_until(lambda: _joins(house, stack), "room for one more")


def _joins(router: RouterProcess, stack: contextlib.ExitStack) -> bool:
    return stack.enter_context(Tapped(router, **LISTENER)).status == 200


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/tap", 400),
        ("/tap?host=a&host=b", 400),
        ("/tap?host=a/b", 400),
        ("/tap?host=" + "a" * 9000, 400),
        ("/tap?app=" + "a" * 20_000, 431),
    ],
)
def test_a_question_that_is_not_understood_is_refused(house: RouterProcess, target: str, status: int) -> None:
    """Bounded; and without credentials it is a 401, whatever it asks."""
    answer = house.fetch(house.routes_port, target, [CREDENTIALS])
    assert (answer.status, len(answer.body) < 400) == (status, True)
    if status == 400:
        assert house.fetch(house.routes_port, target).status == 401


def test_a_router_that_stops_ends_the_stream(make_router: MakeRouter) -> None:
    """Who listens does not keep it from leaving."""
    router = make_router()
    with Tapped(router, **LISTENER) as tapped:
        router.stop()
        with pytest.raises((EOFError, ConnectionError)):
            tapped.next()


# ---- the command


class Listening:
    """`vestibule tap`, as a person runs it."""

    def __init__(self, router: RouterProcess, *words: str, count: int = 1) -> None:
        command = [sys.executable, "-m", "router", "tap", "-c", str(router.config_file), "--count", str(count), *words]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment())
        assert self._process.stderr is not None
        self.said = self._process.stderr.readline()

    def ended(self) -> tuple[int, str]:
        out, _ = self._process.communicate(timeout=15)
        return self._process.returncode, out


def _environment() -> dict[str, str]:
    return {**os.environ, "NO_COLOR": "1"}


def test_the_command_prints_a_line_an_exchange_and_why_it_was_denied(
    at: At, house: RouterProcess, alice: Credential, carol: Credential
) -> None:
    """Ends after as many as were wanted."""
    place = at(ANY, {"mtls_allowed_apps": "app-a"})
    listening = Listening(house, "--host", place.host, count=2)
    assert listening.said == "listening; Ctrl-C ends it\n"
    place.call(alice)
    place.call(carol)
    status, out = listening.ended()
    allowed, denied, *trail = out.splitlines()
    assert status == 0
    assert "  allowed       200  GET  " + place.host in allowed
    assert "  DENIED        403  GET  " + place.host in denied
    assert "by app-c" in denied
    assert [line.split()[:2] for line in trail] == [
        ["passed", "binding"],
        ["passed", "identity"],
        ["passed", "domain"],
        ["FAILED", "route"],
    ]
    assert trail[-1].endswith("caller app app-c not in mtls_allowed_apps")


def test_the_command_prints_json_for_programs(at: At, house: RouterProcess) -> None:
    place = at(OPEN)
    listening = Listening(house, "--host", place.host, "-o", "json")
    place.call(plain=True)
    status, out = listening.ended()
    assert status == 0
    assert json.loads(out)["host"] == place.host


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "give --host, --app, --space or --org"),
        (["--count", "0"], 2, "is no number from 1"),
        (["--host", "a:80"], 1, "does not accept the question: 'a:80' is no host"),
        (["--host", "a", "--url", "http://127.0.0.1:1"], 1, "is the router running?"),
        (["--host", "a", "--names", "/nowhere"], 1, "name a file that can be read"),
    ],
)
def test_the_command_says_what_is_wrong(house: RouterProcess, words: list[str], status: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "router", "tap", "-c", str(house.config_file), *words], capture_output=True, text=True, timeout=15
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
