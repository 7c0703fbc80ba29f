"""`vestibule routes`, against a real HTTP server on loopback."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.cli import main
from router.cli.routes import as_text

ROUTES = {
    "b.example": [{"address": "10.0.0.2:80", "tls": False, "ttl": 120, "protocol": "http1"}],
    "a.example/x": [{"address": "10.0.0.1:61001", "tls": True, "ttl": 120, "isolation_segment": "is1"}],
}


class _Status(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        good = self.headers.get("Authorization") == "Basic cm91dGVyLXN0YXR1czpwYXNz"
        body = json.dumps(ROUTES).encode() if self.path == "/routes" else b"[]"
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Status) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_the_table_is_sorted_with_one_line_an_endpoint(
    port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VESTIBULE_STATUS_PASS", "pass")
    assert main(["routes", "--url", f"http://127.0.0.1:{port}"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["ROUTE", "ENDPOINT", "TLS", "TTL", "PROTOCOL", "SEGMENT"],
        ["a.example/x", "10.0.0.1:61001", "true", "120", "-", "is1"],
        ["b.example", "10.0.0.2:80", "false", "120", "http1", "-"],
    ]


def test_the_configuration_tells_where_and_as_whom(port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "router.yml"
    file.write_text(f"status: {{pass: pass, routes: {{port: {port}}}}}\n")
    assert main(["routes", "-c", str(file), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == ROUTES


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:{port}", "401"),
        ("http://127.0.0.1:1", "is the router running?"),
        ("https://127.0.0.1/routes", "is the form of the URL"),
        ("http://u:p@127.0.0.1/routes", "is the form of the URL"),
        ("http://127.0.0.1:x/routes", "is the form of the URL"),
        ("nothing", "is the form of the URL"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_exit_1(
    port: int, url: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VESTIBULE_STATUS_PASS", raising=False)
    assert main(["routes", "--url", url.format(port=port)]) == 1
    assert said in capsys.readouterr().err


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in as_text({"a\x1b[2J": [{"address": "\x1b]0;x\x07"}]})
