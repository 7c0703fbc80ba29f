"""router/inspect/explain_http.py: one question in a query, one explanation as JSON; anything else is one sentence."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.caller import Caller, Guid
from router.inspect.explain_http import explain_handler, read_question, why_not
from router.inspect.explanation import Question
from router.inspect.query import BadQuery
from router.inspect.scene import scene_of_config
from router.observe.endpoints import Response
from router.wire.http1 import HeadLimits, RequestHead, parse_request_head
from router.wire.malformed import Malformed
from tests.router.desk import settings
from tests.router.inspect.shop import said, table_of

HOST = "a.east.example"
SCENE = scene_of_config(settings(), table_of(said(HOST, options={"mtls_allowed_apps": "app-a"})))
SLASH = "; expected / and what follows it, escaped"
HANDLER = explain_handler(lambda: SCENE, lambda: 0.0)


def ask(query: str) -> Response:
    data = f"GET /explain{query} HTTP/1.1\r\nHost: status\r\n\r\n".encode("latin-1")
    head = parse_request_head(data, HeadLimits(16384, 10))
    assert isinstance(head, RequestHead), head
    return HANDLER(head)


def answer(query: str) -> Any:
    response = ask(query)
    assert (response.status, dict(response.fields)[b"content-type"]) == (200, b"application/json"), response
    assert dict(response.fields)[b"cache-control"] == b"no-store"
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


def test_a_caller_is_told_by_guids() -> None:
    """Allowed or not, the answer is a 200 with the explanation."""
    allowed = answer(f"?host={HOST}&path=/x&app=app-a&space=s&org=o")
    assert (allowed["allowed"], allowed["status"], allowed["rule"]) == (True, 200, "route:mtls_allowed_apps")
    assert (allowed["question"]["path"], allowed["identity"]["org"]) == ("/x", "o")
    assert allowed["handshake"]["verified"] is None
    denied = answer(f"?host={HOST}&app=app-b")
    assert (denied["allowed"], denied["status"], denied["rule"]) == (False, 403, "route:mtls_allowed_apps")


def test_nobody_plain_and_another_server_name_can_be_asked_for() -> None:
    """The alert and both ways to a 421."""
    assert answer(f"?host={HOST}")["handshake"]["alert"] == {"number": 116, "name": "certificate_required"}
    assert answer(f"?host={HOST}&plain=true")["rule"] == "plain_http"
    assert answer(f"?host={HOST}&plain=false&app=app-a")["allowed"]
    assert answer(f"?host={HOST}&app=app-a&sni=open.example")["rule"] == "no_mtls"
    assert answer(f"?host={HOST}&app=app-a&sni=-")["handshake"]["sni"] is None


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "no host is given; expected host=NAME"),
        ("?host=", "parameter host has 0 characters; expected 1 to 1024"),
        ("?host=a&host=a", "parameter host comes twice; expected it once"),
        ("?host=a&cert=x", "parameter 'cert' is not known; expected host, path, app, space, org, sni, plain"),
        ("?host=a&plain=yes", "plain is 'yes'; expected true or false"),
        ("?host=a&app=a%20b", "app 'a b' is no GUID; expected 1 to 64 of [A-Za-z0-9_-]"),
        ("?host=a&app=x&org=../x", "org '../x' is no GUID; expected 1 to 64 of [A-Za-z0-9_-]"),
        ("?host=a&space=x", "a caller without app is nobody; expected app=GUID, with space and org where it has them"),
        ("?host=a%0d%0ab", r"host 'a\r\nb' is none; expected a host name or an address, with a port or without"),
        ("?host=%3cscript%3e", "host '<script>' is none; expected a host name or an address, with a port or without"),
        ("?host=a&sni=a%20b", "sni 'a b' is no server name; expected a host name, or - for none"),
        ("?host=a&path=x", "path 'x' is none that a client can send (bad_target)" + SLASH),
        ("?host=a&path=/%0d%0a", r"path '/\r\n' is none that a client can send (bad_target)" + SLASH),
        ("?host=a&path=/%2500%25zz", "path '/%00%zz' is none that a client can send (bad_escape)" + SLASH),
        (f"?host={'a' * 1025}", "parameter host has 1025 characters; expected 1 to 1024"),
        (f"?host=a&path=/{'a' * 9000}", "the query has 9013 bytes; expected at most 8192"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_a_400_in_one_sentence(query: str, said: str) -> None:
    """Bounded and printable, whatever came."""
    response = ask(query)
    assert (response.status, response.body) == (400, f"{said}\n".encode())


@given(st.dictionaries(st.sampled_from(["host", "path", "app", "space", "org", "sni", "plain", "x"]), st.text(max_size=200)))
def test_no_query_makes_it_raise_or_answer_at_length(query: dict[str, str]) -> None:
    """Property: 200 with JSON, or 400 with one bounded printable line."""
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    response = ask(f"?{text}")
    assert isinstance(response.body, bytes)
    if response.status == 200:
        json.loads(response.body)
        return
    assert response.status == 400
    assert len(response.body) < 700
    assert response.body.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in response.body[:-1])


def test_parameters_become_a_question() -> None:
    """Each where it belongs."""
    assert read_question({"host": "a"}) == Question("a")
    whole = {"host": "a", "path": "/b", "app": "x", "space": "y", "org": "z", "sni": "c", "plain": "false"}
    assert read_question(whole) == Question("a", "/b", Caller(Guid("x"), Guid("y"), Guid("z")), "c")
    assert read_question({"host": "a", "sni": "-"}) == Question("a", sni="")
    assert isinstance(read_question({}), BadQuery)


def test_every_flaw_has_its_sentence() -> None:
    """Long values are cut."""
    assert len(why_not(Malformed("bad_host"), Question("x" * 5000))) < 200
    assert why_not(Malformed("empty_host"), Question("")).startswith("host '' is none")
