"""`vestibule routes`, against a real HTTP server on loopback."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.cli import main

ROUTE = {
    "route": "b.example", "domain": None, "row": "open", "effect": "forward", "warnings": ["look"],
    "policy": [{"options": "no_options", "outcome": "forward"}],
    "owners": [{"app": "app-1", "app_name": "orders"}],
    "endpoints": [{"address": "10.0.0.2:80", "app": "app-1", "age_seconds": 3, "expires_in_seconds": 117}],
}  # fmt: skip
ANSWERS: dict[str, Any] = {
    "/policies": {"generation": 1, "domains": [], "routes": [ROUTE, {**ROUTE, "route": "a.example"}]},
    "/warnings": {"routes": [], "domains": [{"domain": "*.x", "warning": "no route"}]},
    "/policies?host=*.example&app=a&domain=*.d": {"routes": []},
}


class _Status(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        good = self.headers.get("Authorization") == "Basic cm91dGVyLXN0YXR1czpwYXNz"
        body = json.dumps(ANSWERS.get(self.path.replace("%2A", "*"), [])).encode()
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("VESTIBULE_STATUS_PASS", "pass")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Status) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_the_table_is_sorted_with_one_line_an_endpoint(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """R304: a name stands before its GUID."""
    assert main(["routes", "--url", url]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["ROUTE", "DOMAIN", "POLICY", "ENDPOINT", "AGE", "OWNER", "WARNINGS"],
        ["a.example", "-", "open", "10.0.0.2:80", "3s", "orders", "(app-1)", "1"],
        ["b.example", "-", "open", "10.0.0.2:80", "3s", "orders", "(app-1)", "1"],
    ]


def test_the_names_file_wins_over_the_registration(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "names.yml"
    file.write_text("apps: {app-1: the shop}\n")
    assert main(["routes", "--url", url, "--names", str(file)]) == 0
    shown = capsys.readouterr().out
    assert ("the shop (app-1)" in shown, "orders" in shown) == (True, False)


def test_the_configuration_tells_where_and_as_whom(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "router.yml"
    file.write_text(f"status: {{pass: pass, routes: {{port: {url.rpartition(':')[2]}}}}}\n")
    assert main(["routes", "-c", str(file), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == ANSWERS["/policies"]


def test_filters_are_the_routers(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And warnings of everything else are left out then."""
    words = ["--host", "*.example", "--app", "a", "--domain", "*.d", "--warnings", "-o", "json"]
    assert main(["routes", "--url", url, *words]) == 0
    assert json.loads(capsys.readouterr().out) == {"routes": []}


def test_an_empty_table_is_said_in_words(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether there is nothing at all, or nothing that fits."""
    words = ["--host", "*.example", "--app", "a", "--domain", "*.d"]
    assert main(["routes", "--url", url, *words]) == 0
    assert capsys.readouterr().out == "no route fits\n"


def test_warnings_stand_below_the_table(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["routes", "--url", url, "--warnings"]) == 0
    assert capsys.readouterr().out.splitlines()[3:] == [
        "warning: a.example: look", "warning: b.example: look", "warning: *.x: no route",
    ]  # fmt: skip
    assert main(["routes", "--url", url, "--warnings", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == ANSWERS["/warnings"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("http://127.0.0.1:1", "is the router running?"),
        ("https://127.0.0.1/routes", "is the form of the URL"),
        ("http://u:p@127.0.0.1/routes", "is the form of the URL"),
        ("http://127.0.0.1:x/routes", "is the form of the URL"),
        ("nothing", "is the form of the URL"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_exit_1(
    place: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["routes", "--url", place]) == 1
    assert said in capsys.readouterr().err


def test_without_the_password_it_says_so(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VESTIBULE_STATUS_PASS")
    assert main(["routes", "--url", url]) == 1
    assert "401" in capsys.readouterr().err


def test_an_answer_of_another_shape_is_told(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["routes", "--url", url, "--host", "other.example"]) == 1
    assert "the answer to /policies is no table of routes" in capsys.readouterr().err


def test_a_names_file_with_problems_is_told(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "names.yml"
    file.write_text("people: {}\n")
    assert main(["routes", "--url", url, "--names", str(file)]) == 1
    assert "names.yml:1: error: people" in capsys.readouterr().err
