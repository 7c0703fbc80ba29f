"""The demo's calls: what was seen is what happened."""

import json
from pathlib import Path

import pytest

from router.demo.calls import Call, make
from router.demo.process import free_port
from router.demo.world import World
from tests.support.backend import EchoBackend
from tests.support.certs import authority

CALL = Call(None, "a.example", "anything", "200")


@pytest.fixture
def here(tmp_path: Path) -> World:
    """A world without a router: the tests put something else at its port."""
    world = World(tmp_path, free_port())
    world.authority.write_text(authority("server").pem)
    return world


def at(backend: EchoBackend, here: World) -> World:
    return here._replace(port=backend.port)


@pytest.fixture
def server() -> EchoBackend:
    """A TLS server for a.example."""
    return EchoBackend(credential=authority("server").issue_server("a.example"))


def test_nothing_there_is_seen_as_an_error(here: World) -> None:
    """The demo says WRONG rather than ending."""
    outcome = make(CALL, here)
    assert (outcome.seen.startswith("ConnectionRefusedError"), outcome.as_expected) == (True, False)


def test_an_app_without_the_header_is_told_as_such(server: EchoBackend, here: World) -> None:
    """200 alone is not all: what the app saw stands beside it."""
    with server:
        server.always(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        assert make(CALL, at(server, here)).details == ("the app saw no X-Forwarded-Client-Cert",)


def test_a_refusal_is_told_with_the_trail_of_the_routers_log(server: EchoBackend, here: World) -> None:
    """The component log's event of that very request, check by check."""
    refused = b"HTTP/1.1 403 Forbidden\r\nX-Vcap-Request-Id: id-1\r\nContent-Length: 0\r\n\r\n"
    checks = [
        {"layer": "identity", "rule": "r", "passed": True, "detail": "named"},
        {"layer": "route", "rule": "r", "passed": False, "detail": "not in the list"},
    ]
    event = {"message": "mtls-pre-auth-denied", "data": {"vcap_request_id": "id-1", "trail": checks}}
    (here.directory / "router.log").write_text("not json\n" + json.dumps(event) + "\n")
    (here.directory / "access.log").write_text(json.dumps({"vcap_request_id": "id-1"}) + "\n")
    with server:
        server.always(refused)
        outcome = make(CALL._replace(expected="403"), at(server, here))
    assert (outcome.as_expected, outcome.details) == (
        True,
        ("identity passed  named", "route    FAILED  not in the list"),
    )


def test_without_a_trail_the_access_logs_reason_is_told(server: EchoBackend, here: World) -> None:
    """Events of a kind that clients can cause are held back in a flood; the access log is not."""
    record = {"vcap_request_id": "id-2", "mtls_rule": "route:x", "mtls_denied_reason": "because"}
    (here.directory / "access.log").write_text(json.dumps(record) + "\n")
    with server:
        server.always(b"HTTP/1.1 403 Forbidden\r\nX-Vcap-Request-Id: id-2\r\nContent-Length: 0\r\n\r\n")
        assert make(CALL, at(server, here)).details == ("route:x: because",)
