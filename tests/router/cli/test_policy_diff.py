"""`vestibule policy diff`."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from authz.domain import DomainTable
from registry.table import RouteTable
from router.cli import main
from router.cli.policy_diff import _Changes, as_text
from router.inspect.difference import compare, pairs
from router.inspect.policies import route_json
from tests.router.cli.policy_files import DOMAIN, MANIFEST, config, write
from tests.router.inspect.worlds import asking, domain, side, table
from tests.support.certs import CA

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, east_ca: CA, west_ca: CA, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`policy diff` in the folder of a developer's files, where new.yml bounds the domain by org-1."""
    write(tmp_path, east_ca, west_ca)
    (tmp_path / "new.yml").write_text(config(east_ca, "org-1"))
    (tmp_path / "other-ca.yml").write_text(config(west_ca))
    (tmp_path / "open.yml").write_text("trusted_proxies: []\n")
    (tmp_path / "more.yml").write_text(MANIFEST.replace('"front-guid"', '"front-guid,batch-guid"'))
    monkeypatch.chdir(tmp_path)
    return lambda *words: main(["policy", "diff", *words])


def shown(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str, str]]:
    """(change, who, at) of each."""
    told = json.loads(capsys.readouterr().out)
    return [(change["change"], change["caller"], change["host"] + change["path"]) for change in told["changes"]]


def test_no_difference_exits_0(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("router.yml", "router.yml", "-m", "manifest.yml") == 0
    assert capsys.readouterr().out == "0 opened, 0 closed, 0 by another rule: 5 pairs of caller and route compared\n"


def test_what_a_boundary_closes_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("router.yml", "new.yml", "-m", "manifest.yml") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["CHANGE", "WHO", "ROUTE", "BEFORE", "AFTER"]
    assert [line.split("  ")[:2] for line in lines[1:4]] == [
        ["closed", "anybody else with a certificate"],
        ["closed", "app front-guid, if in no listed org"],
        ["rule", ""],
    ]
    assert lines[-1] == "0 opened, 2 closed, 1 by another rule: 8 pairs of caller and route compared"


def test_callers_of_a_file_are_asked_about_by_name(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The same change, where org and space of the front end are told: it keeps its access."""
    assert run("router.yml", "new.yml", "-m", "manifest.yml", "--callers", "expectations.yml", "-o", "json") == 1
    assert shown(capsys) == [
        ("closed", "anybody else with a certificate", f"free.{DOMAIN}/v1"),
        ("closed", "batch", f"free.{DOMAIN}/v1"),
        ("rule", "anybody else with a certificate", f"api.{DOMAIN}/"),
        ("rule", "batch", f"api.{DOMAIN}/"),
    ]


def test_a_change_of_manifests_alone_needs_one_configuration(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("router.yml", "--old-manifest", "manifest.yml", "--new-manifest", "more.yml", "-o", "json") == 1
    assert shown(capsys) == [("opened", "app batch-guid", f"api.{DOMAIN}/")]


def test_the_widest_that_is_opened_comes_first(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A domain that is forgotten lets in whoever comes, without any certificate."""
    assert run("router.yml", "open.yml", "-m", "manifest.yml", "-o", "json") == 1
    assert shown(capsys)[:2] == [
        ("opened", "anybody without a certificate", f"api.{DOMAIN}/"),
        ("opened", "anybody without a certificate", f"free.{DOMAIN}/v1"),
    ]


def test_other_authorities_are_a_difference(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Whom they let in no list can tell, so the exit status is 1."""
    assert run("router.yml", "other-ca.yml", "-m", "manifest.yml") == 1
    assert capsys.readouterr().out.startswith(f"*.{DOMAIN} -> *.{DOMAIN}: other client certificates are accepted than before")
    assert run("router.yml", "other-ca.yml", "-m", "manifest.yml", "--callers", "callers.yml", "-o", "json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["authorities"] == [{"old": f"*.{DOMAIN}", "new": f"*.{DOMAIN}"}]
    assert [(change["change"], change["caller"]) for change in told["changes"]] == [("opened", "partner")] * 2


def test_a_host_narrows_the_question(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("router.yml", "open.yml", "-m", "manifest.yml", "--host", f"FREE.{DOMAIN}", "-o", "json") == 1
    assert {at for _, _, at in shown(capsys)} == {f"free.{DOMAIN}/v1"}
    assert run("router.yml", "open.yml", "-m", "manifest.yml", "--host", "a b") == 1
    assert "--host 'a b' is no host" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["router.yml", "-m", "manifest.yml"], "there is nothing to compare with"),
        (["router.yml", "new.yml"], "there are no routes to ask about"),
    ],
)
def test_a_question_without_sense_is_a_wrong_call(
    run: Run, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert said in capsys.readouterr().err


def test_every_problem_of_all_files_is_said_once(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.yml").write_text("prot: 80\n")
    (tmp_path / "callers.yml").write_text("callers: {a: {space: s}}\n")
    assert run("bad.yml", "bad.yml", "-m", "none.yml", "--callers", "callers.yml") == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert [line.partition(": error: ")[0] for line in told.err.splitlines() if ": error: " in line] == [
        "callers.yml:1",
        "bad.yml:1",
        "none.yml",
    ]
    assert run("bad.yml", "bad.yml", "-m", "none.yml", "--callers", "none.yml", "-o", "json") == 1
    assert [problem["file"] for problem in json.loads(capsys.readouterr().out)["problems"]] == ["none.yml", "bad.yml", "none.yml"]


# ---- who has called


def record(app: str | None, *more: str, name: str | None = None) -> str:
    """The part of a line of the access log that counts."""
    guids = dict(zip(("caller_cf_app", "caller_cf_space", "caller_cf_org"), (app, *more), strict=False))
    return json.dumps({"status": 200, **guids, "caller_cf_app_name": name}) + "\n"


def test_who_called_by_the_access_log_is_asked_about_by_name(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also whom no list names; who stands in a callers file is said by the name of that file."""
    lines = [record("dash", "space-7", "org-9", name="dashboard"), record(None), record("front-guid", "space-1", "org-1"), "cut"]
    (tmp_path / "access.log").write_text("".join(lines))
    words = ("router.yml", "new.yml", "-m", "manifest.yml", "--callers", "callers.yml", "-o", "json")
    assert run(*words) == 1
    before = shown(capsys)
    assert run(*words, "--seen", "access.log") == 1
    found = shown(capsys)
    assert [one for one in found if one not in before] == [
        ("closed", "app dashboard (dash)", f"free.{DOMAIN}/v1"),
        ("rule", "app dashboard (dash)", f"api.{DOMAIN}/"),
    ]


def test_a_log_that_tells_nobody_is_a_problem(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """GoRouter's text form, or no file at all; an empty one is a router that nobody called."""
    (tmp_path / "text.log").write_text('api.example - [2026-01-01T00:00:00Z] "GET / HTTP/1.1" 200\n')
    (tmp_path / "empty.log").write_text("")
    words = ("router.yml", "router.yml", "-m", "manifest.yml")
    assert run(*words, "--seen", "text.log", "--seen", "none.log") == 1
    told = capsys.readouterr().err
    assert "text.log:1: error: (whole file)" in told
    assert "access_log.format: json" in told
    assert "none.log: error: (whole file)" in told
    assert run(*words, "--seen", "empty.log") == 0


# ---- live


def told_by(routes: RouteTable) -> dict[str, Any]:
    """What a router with these routes answers to /policies."""
    return {"generation": 1, "domains": [], "routes": [route_json(route, None, DomainTable(()), 0.0) for route in routes]}


class _Status(http.server.BaseHTTPRequestHandler):
    answer: object = None

    def do_GET(self) -> None:
        good = self.headers.get("Authorization") == "Basic cm91dGVyLXN0YXR1czpwYXNz"
        body = json.dumps(type(self).answer).encode() if self.path == "/policies" else b"[]"
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """A router that tells of one route, whose one caller is registered with space and org."""
    routes = table({f"api.{DOMAIN}": {"mtls_allowed_apps": "front-guid"}})
    tags = {"space_id": "space-1", "organization_id": "org-9", "app_name": "front"}
    owned = table({f"front.{DOMAIN}": {}}, app="front-guid", tags=tags)
    _Status.answer = told_by(routes.changed({(route.host, route.path): route for route in owned}))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Status) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_live_routes_and_registered_apps_are_a_running_routers(
    run: Run, url: str, tmp_path: Path, east_ca: CA, capsys: pytest.CaptureFixture[str]
) -> None:
    """The front end is in org-9, as its own registration says, and the new boundary shuts it out."""
    (tmp_path / "router.yml").write_text(config(east_ca, **{"pass": "pass"}))
    assert run("router.yml", "new.yml", "--live", url, "-o", "json") == 1
    assert ("closed", "app front (front-guid)", f"api.{DOMAIN}/") in shown(capsys)


def test_a_new_manifest_replaces_its_routes_among_the_live_ones(
    run: Run, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VESTIBULE_STATUS_PASS", "pass")
    assert run("router.yml", "--live", url, "--new-manifest", "more.yml", "--host", f"api.{DOMAIN}", "-o", "json") == 1
    assert shown(capsys) == [("opened", "app batch-guid", f"api.{DOMAIN}/")]


def test_a_router_that_does_not_answer_is_one_sentence(run: Run, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("router.yml", "new.yml", "--live", url) == 1
    assert "401" in capsys.readouterr().err
    assert run("router.yml", "new.yml", "--live", "http://127.0.0.1:1") == 1
    assert "is the router running?" in capsys.readouterr().err


def test_an_opening_to_anybody_is_red_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    host = "x.mtls.example"
    old, new = (
        side({host: {}}, domain()),
        side({host: {"mtls_allow_any": True}, "y.mtls.example": {"mtls_allowed_apps": "a"}}, domain()),
    )
    found = compare(pairs(old, new, (), {}), asking(old), asking(new))
    lines = as_text(_Changes(found, (), 9)).splitlines()
    assert [line[:5] for line in lines[1:3]] == ["\x1b[31m", "\x1b[33m"]


def test_where_a_route_with_a_star_is_asked_at_is_said() -> None:
    """Any other route is asked at itself, which need not be said twice."""
    star, other = "*.mtls.example", "x.mtls.example/v1"
    old, new = (side({star: options, other: options}, domain()) for options in ({}, {"mtls_allow_any": True}))
    lines = as_text(_Changes(compare(pairs(old, new, (), {}), asking(old), asking(new)), (), 2)).splitlines()
    assert [" ".join(line.split()).partition("certificate ")[2].partition(" deny")[0] for line in lines[1:3]] == [
        f"{star} at any.mtls.example/",
        other,
    ]
