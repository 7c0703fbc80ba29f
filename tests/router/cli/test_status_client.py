"""One GET to a router's status endpoint, against a real HTTP server on loopback."""

import argparse
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from router.cli.status_client import DEFAULT_URL, Place, add_live, add_place, fetch, place_of


class _Status(http.server.BaseHTTPRequestHandler):
    """Answers by path: /what says how it was asked."""

    def do_GET(self) -> None:
        status = {"/bad": 400, "/gone": 503}.get(self.path, 200)
        good = self.headers.get("Authorization") == "Basic dTpw"
        texts = {"/text": b"no json", "/infinite": b"[1e999]", "/nan": b"[NaN]"}
        body = (
            texts[self.path] if self.path in texts else b'"\\u001b' + self.path.encode() + b'"' if status == 200 else b"\x1bno\n"
        )
        self.send_response(status if good else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def place() -> Iterator[Place]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Status) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Place("127.0.0.1", server.server_address[1], "u", "p")
        server.shutdown()
        thread.join()


def asked(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_place(parser)
    return parser.parse_args(words)


def test_a_question_goes_with_credentials_and_its_query_is_encoded(place: Place) -> None:
    assert fetch(place, "/explain", {"host": "a b&c"}) == "\x1b/explain?host=a+b%26c"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/bad", "does not accept the question: .x1bno$"),
        ("/gone", "the answer is 503"),
        ("/text", "no JSON"),
        ("/infinite", "no JSON"),
        ("/nan", "no JSON"),
    ],
)
def test_what_goes_wrong_is_one_sentence(place: Place, path: str, said: str) -> None:
    """What the other side says is escaped."""
    with pytest.raises(ValueError, match=said):
        fetch(place, path)


def test_without_the_password_it_says_how_to_give_one(place: Place) -> None:
    with pytest.raises(ValueError, match="VESTIBULE_STATUS_PASS"):
        fetch(place._replace(password=""), "/routes")


def test_a_running_router_is_asked_only_where_live_says_so() -> None:
    """`--live` has no default, and `-c` is what the command says it is."""
    parser = argparse.ArgumentParser()
    add_live(parser, config="the configuration")
    assert parser.parse_args([]).url is None
    assert place_of(parser.parse_args(["--live", "http://h:9"]), {}) == Place("h", 9, "router-status", "")
    assert "the configuration\n" in parser.format_help()


def test_nobody_there_is_said_so() -> None:
    with pytest.raises(ValueError, match="is the router running"):
        fetch(Place("127.0.0.1", 1, "", ""), "/routes")


def test_the_password_comes_from_the_environment() -> None:
    """Never from the command line."""
    assert place_of(asked(), {"VESTIBULE_STATUS_PASS": "p"}) == Place("127.0.0.1", 8082, "router-status", "p")
    assert place_of(asked("--url", "http://h:9", "--user", "u"), {}) == Place("h", 9, "u", "")
    assert DEFAULT_URL == "http://127.0.0.1:8082"


@pytest.mark.parametrize("url", ["https://h", "http://u:p@h", "http://h:x", "nothing", "http://h/other"])
def test_another_form_of_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is the form of the URL"):
        place_of(asked("--url", url), {})
