"""router/inspect/handlers.py: who may look into the router, and what a question may be."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from registry.problems import Problem
from router.inspect.handlers import inspect_handlers
from router.live import Live
from router.observe.endpoints import Handler, Response, respond
from router.observe.tap import MAX_LISTENERS, Listener, Tap
from router.wire.http1 import HeadLimits, RequestHead, parse_request_head
from tests.router.inspect.shop import said, snapshot_of, table_of

PROBLEM = Problem("router.yml", 3, "nats", "'x'", "more", "do it")
PATHS = ("/policies", "/warnings", "/tap?host=a.example", "/explain?host=a.example")


class Desk:
    """The handlers over one snapshot and table."""

    def __init__(self, live: Live) -> None:
        self.tap = Tap()
        self.handlers: dict[str, Handler] = inspect_handlers(
            "user", "pass", live, self.tap, lambda: [PROBLEM], lambda: 0.0, lambda: 0.0
        )

    def ask(self, target: str, *lines: str, method: str = "GET", credentials: str = "user:pass") -> Response:
        token = base64.b64encode(credentials.encode()).decode()
        text = "\r\n".join((f"{method} {target} HTTP/1.1", "Host: x", f"Authorization: Basic {token}", *lines, "", ""))
        head = parse_request_head(text.encode(), HeadLimits(16_384, 100))
        assert isinstance(head, RequestHead)
        return respond(head, self.handlers)


@pytest.fixture
def desk() -> Iterator[Desk]:
    with snapshot_of() as snapshot:
        yield Desk(Live(snapshot, table_of(said("a.east.example", app="one"), said("b.open.example", app="two", port=10))))


def value(response: Response) -> Any:
    assert isinstance(response.body, Iterator)
    return json.loads(b"".join(response.body))


def text(response: Response) -> str:
    assert isinstance(response.body, bytes)
    return response.body.decode()


def listener(response: Response) -> Listener:
    assert isinstance(response.body, Listener)
    return response.body


@pytest.mark.parametrize("path", [*PATHS, "/policies?nonsense&&", "/tap"])
def test_nobody_without_credentials_learns_anything(desk: Desk, path: str) -> None:
    """401 whether the question was well put or not."""
    for credentials in ("", "user:", ":pass", "user:wrong"):
        response = desk.ask(path, credentials=credentials)
        assert (response.status, response.body) == (401, b"Not Authorized\n")
    assert desk.tap.listeners == []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("line", ["Content-Length: 1", "Transfer-Encoding: chunked"])
def test_a_question_has_no_body(desk: Desk, path: str, line: str) -> None:
    response = desk.ask(path, line)
    assert (response.status, text(response)) == (400, "the request has a body; expected none\n")
    assert desk.ask(path, "Content-Length: 0").status == 200


@pytest.mark.parametrize("path", PATHS)
def test_only_get_and_head_are_answered(desk: Desk, path: str) -> None:
    assert [desk.ask(path, method=method).status for method in ("POST", "PUT", "DELETE", "HEAD")] == [405, 405, 405, 200]
    assert desk.tap.listeners == []


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/policies?limit=3", "parameter 'limit' is not known; expected host, app, domain\n"),
        ("/policies?host=a&host=b", "parameter host comes twice; expected it once\n"),
        ("/policies?host=a:80", "'a:80' is no host; expected a host name without a port, or *.suffix\n"),
        ("/policies?app=a%00b", r"app 'a\x00b' is no GUID; expected 1 to 64 of [A-Za-z0-9_-]" + "\n"),
        ("/warnings?host=a", "parameter 'host' is not known; expected none\n"),
        ("/tap", "everything at once is too much; expected host, app, space or org\n"),
        ("/tap?domain=a", "parameter 'domain' is not known; expected host, app, space, org\n"),
        ("/tap?space=*", "space '*' is no GUID; expected 1 to 64 of [A-Za-z0-9_-]\n"),
        ("/tap?host=" + "a" * 300, "'" + "a" * 64 + "'... is no host; expected a host name without a port, or *.suffix\n"),
    ],
)
def test_what_is_not_understood_is_refused_in_one_sentence(desk: Desk, path: str, why: str) -> None:
    """Bounded and escaped."""
    response = desk.ask(path)
    assert (response.status, text(response)) == (400, why)
    assert desk.tap.listeners == []


def test_policies_and_warnings_are_json_that_nobody_keeps(desk: Desk) -> None:
    for path in ("/policies", "/warnings"):
        response = desk.ask(path)
        assert (b"content-type", b"application/json") in response.fields
        assert (b"cache-control", b"no-store") in response.fields
        assert value(response)["generation"] == 7
    assert value(desk.ask("/warnings"))["config"] == [PROBLEM.as_json()]


def test_a_tap_is_an_event_stream(desk: Desk) -> None:
    """As the HTML standard names it, so that a browser's EventSource or `curl -N` can listen; HEAD listens to nothing."""
    for method in ("GET", "HEAD"):
        response = desk.ask("/tap?host=a.example", method=method)
        assert (b"content-type", b"text/event-stream") in response.fields
        assert (b"cache-control", b"no-store") in response.fields
    assert len(desk.tap.listeners) == 1


def test_policies_can_be_asked_for_by_host_app_and_domain(desk: Desk) -> None:
    """A host in any spelling."""
    for query in (
        "host=A.East.example.",
        "host=*.east.example",
        "app=one",
        "domain=*.east.example",
        "app=one&host=a.east.example",
    ):
        assert [route["route"] for route in value(desk.ask(f"/policies?{query}"))["routes"]] == ["a.east.example"]


def test_a_tap_is_for_a_few_at_a_time(desk: Desk) -> None:
    """One more is told so; one that leaves makes room."""
    listening = [listener(desk.ask("/tap?host=a.example")) for _ in range(MAX_LISTENERS)]
    refused = desk.ask("/tap?app=x")
    assert (refused.status, text(refused)) == (503, f"{MAX_LISTENERS} listen already; end one of them\n")
    listening[0].close()
    wanted = listener(desk.ask("/tap?app=a&space=s&org=o&host=*.b.example")).wanted
    assert wanted == ("*.b.example", "a", "s", "o")
