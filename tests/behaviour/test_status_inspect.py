"""The promise: who knows the password sees what is demanded where, and what deserves a look, as docs/reference/status.md says."""

import base64
import datetime as dt
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from router.observe.status import MAX_HEAD
from tests.behaviour.conftest import ANY, LATER, OPEN, ORGS, REPORT, UNENFORCED, At
from tests.conftest import EAST, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential
from tests.support.client import Client, Response
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import STATUS_PASSWORD, STATUS_USER, RouterProcess, mtls_domain, wait_until

PAGE = Path(__file__).parents[2] / "docs/reference/status.md"
CREDENTIALS = ("Authorization", "Basic " + base64.b64encode(f"{STATUS_USER}:{STATUS_PASSWORD}".encode()).decode())
PATHS = ("/explain?host=a.example", "/policies", "/warnings", "/tap?host=a.example")
FREE = ("tags", "names")
"""Keys whose values are maps of anything."""


def ask(router: RouterProcess, target: str) -> Any:
    answer = router.fetch(router.routes_port, target, [CREDENTIALS])
    assert (answer.status, answer.get("content-type")) == (200, "application/json"), answer.body
    return json.loads(answer.body)


def keys(value: object, path: str = "") -> Iterator[str]:
    """Every key of a JSON value, with its way from the top."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}"
            if key not in FREE:
                yield from keys(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner, path + "[]")


def documented(section: str) -> list[Any]:
    """The examples below one heading of the page."""
    text = PAGE.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def only(examples: list[Any]) -> Any:
    (example,) = examples
    return example


# ---- the page


def test_the_page_shows_every_key_of_policies_and_no_other(at: At, house: RouterProcess) -> None:
    """R318: also for a route in a domain of the second dialect, and for one that is open."""
    places = [at(domain, {"mtls_allowed_apps": "a"}, tags={"app_name": "x"}) for domain in (ORGS, LATER, OPEN)]
    for place in places:
        answer = ask(house, f"/policies?host={place.host}")
        assert set(keys(only(documented("/policies")))) == set(keys(answer))


def test_the_page_shows_every_key_of_warnings_and_no_other(
    make_router: MakeRouter, make_registrar: Callable[[NatsServer, RouterProcess], Registrar], nats_server: NatsServer
) -> None:
    """Each kind of warning, from a router that has one of each."""
    ca = CA("ends soon", not_after=dt.datetime.now(dt.UTC) + dt.timedelta(days=10))
    router = make_router(trusted_proxies=None, mtls_domains=[mtls_domain(f"*.{EAST}", ca)])
    with EchoBackend(credential=ca.issue_server("backend")) as backend:
        host = f"w{router.pid}.open.example"
        make_registrar(nats_server, router).register(
            host, backend=backend, app="app-w", options={"mtls_allow_any": True}, stale_threshold_in_seconds=1
        )
        silent = wait_until(lambda: ask(router, "/warnings")["silent_endpoints"], "the endpoint to be silent")
        answer = ask(router, "/warnings")
    assert set(keys(only(documented("/warnings")))) == set(keys(answer))
    assert (silent[0]["route"], silent[0]["app"]) == (host, "app-w")
    assert [one["route"] for one in answer["routes"]] == [host]
    assert answer["domains"] == [{"domain": f"*.{EAST}", "warning": "no route is registered in this domain"}]
    (ending,) = (one for one in answer["certificates"] if one["key"].startswith("mtls_domains"))
    assert 9 * 86400 < ending["expires_in_seconds"] < 10 * 86400
    assert "trusted_proxies" in [one["path"] for one in answer["config"]]


def test_the_page_shows_every_key_of_an_explanation_and_no_other(at: At, house: RouterProcess) -> None:
    """Of a denied call, which says most."""
    place = at(ANY, {"mtls_allowed_apps": "app-a"})
    answer = ask(house, f"/explain?host={place.host}&app=app-c")
    assert set(keys(only(documented("/explain")))) == set(keys(answer))


def test_the_page_shows_every_key_of_an_event_and_no_other(at: At, house: RouterProcess, carol: Credential) -> None:
    start, exchange, end = documented("/tap")
    place = at(ANY, {"mtls_allowed_apps": "app-a"})
    with Client(house.routes_port) as client:
        client.send(f"GET /tap?host={place.host} HTTP/1.0\r\nHost: x\r\n{CREDENTIALS[0]}: {CREDENTIALS[1]}\r\n\r\n".encode())
        told = client.recv()
        while b"event: start" not in told:
            told += client.recv()
        place.call(carol)
        while told.count(b"data: ") < 2:
            told += client.recv()
    answers = [json.loads(data) for data in re.findall(rb"^data: (.*)$", told, re.MULTILINE)]
    assert answers[0] == start
    assert set(keys(exchange)) == set(keys(answers[1]))
    assert set(end) == {"reason", "missed"}


# ---- what is told


@pytest.mark.parametrize(
    ("domain", "options", "row", "effect"),
    [
        (ANY, {"mtls_allowed_apps": "app-a"}, "cf_identity", "enforce"),
        (ANY, None, "cf_identity", "deny"),
        (UNENFORCED, {"mtls_allowed_apps": "app-a"}, "none", "not_enforced"),
        (LATER, {"route_policy_scope": "any", "route_policy_sources": "cf:app:app-a"}, "domains", "enforce"),
        (OPEN, None, "open", "forward"),
    ],
)
def test_a_route_is_told_as_a_call_meets_it(
    at: At, house: RouterProcess, alice: Credential, carol: Credential, domain: str, options: object, row: str, effect: str
) -> None:
    """The effect that is told is the one that callers feel."""
    place = at(domain, options)
    (route,) = ask(house, f"/policies?host={place.host}")["routes"]
    assert (route["domain"], route["row"], route["effect"]) == (None if domain == OPEN else domain, row, effect)
    felt = [place.call(caller).response.status for caller in (alice, carol)]
    expected = {"enforce": [200, 403], "deny": [403, 403], "not_enforced": [200, 200], "forward": [200, 200]}
    assert felt == expected[effect]


def test_report_only_is_told(at: At, house: RouterProcess) -> None:
    place = at(REPORT, {"mtls_allow_any": True})
    (route,) = ask(house, f"/policies?host={place.host}")["routes"]
    assert route["report_only"] is True


def test_filters_find_a_route_by_host_app_and_domain(at: At, house: RouterProcess) -> None:
    place = at(ORGS, {"mtls_allow_any": True}, app="app-filtered")
    for query in (
        f"host={place.host.upper()}.",
        "app=app-filtered",
        f"app=app-filtered&domain={ORGS}",
        f"host={ORGS}&app=app-filtered",
    ):
        assert [route["host"] for route in ask(house, f"/policies?{query}")["routes"]] == [place.host]
    assert ask(house, f"/policies?app=app-filtered&domain={ANY}")["routes"] == []
    assert [one["domain"] for one in ask(house, f"/policies?domain={ORGS}")["domains"]] == [ORGS]


def test_a_reload_shows_in_the_generation_and_the_warnings(make_router: MakeRouter, east_ca: CA) -> None:
    """The warnings are those of the configuration that runs, not of the file as it is."""
    router = make_router(trusted_proxies=[])
    before = ask(router, "/warnings")
    assert (before["generation"], before["domains"]) == (1, [])
    assert router.reload(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)], trusted_proxies=None) == {'result="ok"': 1}
    after = ask(router, "/warnings")
    assert (after["generation"], len(after["domains"])) == (2, 1)
    assert "trusted_proxies" in {one["path"] for one in after["config"]} - {one["path"] for one in before["config"]}
    assert router.reload(port="none") == {'result="error"': 1}
    assert ask(router, "/warnings")["config"] == after["config"]


# ---- who may ask, and how


@pytest.mark.parametrize("target", [*PATHS, "/policies?&&nonsense", "/tap", "/explain?host=" + "a" * 5000])
def test_without_credentials_nothing_is_told(house: RouterProcess, target: str) -> None:
    """401, before anything of the question is read."""
    wrong = ("Authorization", "Basic " + base64.b64encode(b"router-status:wrong").decode())
    for headers in ([], [wrong], [CREDENTIALS, CREDENTIALS]):
        answer = house.fetch(house.routes_port, target, headers)
        assert (answer.status, answer.body) == (401, b"Not Authorized\n")


def raw(router: RouterProcess, target: str, *lines: str, method: str = "GET") -> Response:
    """A request with credentials, exactly so."""
    with Client(router.routes_port) as client:
        head = [f"{method} {target} HTTP/1.1", "Host: x", ": ".join(CREDENTIALS), *lines, "", ""]
        client.send("\r\n".join(head).encode("latin-1"))
        return client.read_response(method)


@pytest.mark.parametrize("target", PATHS)
def test_they_are_read_only(house: RouterProcess, target: str) -> None:
    """Only GET and HEAD, and never a body."""
    assert [raw(house, target, method=method).status for method in ("POST", "PUT", "DELETE", "PATCH")] == [405] * 4
    assert raw(house, target, "Content-Length: 10").status == 400
    assert raw(house, target, "Transfer-Encoding: chunked").status == 400
    head = raw(house, target, method="HEAD")
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/policies?host=a%00b", 400),
        ("/policies?host=a%0d%0aSet-Cookie:x", 400),
        ("/policies?host=..%2f..%2fetc", 400),
        ("/policies?host=\xff\xfe", 400),
        ("/policies?app=%1b%5b2J", 400),
        ("/explain?host=" + "a" * 2000, 400),
        ("/explain?host=a&path=nothing", 400),
        ("/warnings?x=" + "a" * 10_000, 400),
        ("/policies?host=" + "a" * MAX_HEAD, 431),
        ("/policies/../routes", 404),
        ("/policies/", 404),
    ],
)
def test_a_hostile_question_has_a_bounded_answer(house: RouterProcess, target: str, status: int) -> None:
    """One sentence of printable ASCII, and the next question is answered."""
    answer = raw(house, target)
    text = answer.body.decode("ascii").strip()
    assert (answer.status, len(text) < 400, text.isprintable()) == (status, True, True)
    assert answer.get("set-cookie") is None
    assert raw(house, "/policies?host=nobody.example").status == 200


def test_nothing_secret_is_in_any_answer(at: At, house: RouterProcess) -> None:
    """R21, R215: no key, no certificate, no password."""
    at(ANY, {"mtls_allow_any": True})
    for target in ("/policies", "/warnings"):
        text = house.fetch(house.routes_port, target, [CREDENTIALS]).body
        assert STATUS_PASSWORD.encode() not in text
        assert b"PRIVATE KEY" not in text
        assert b"BEGIN" not in text
