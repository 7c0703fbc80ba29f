"""http_rewrite and hop-by-hop fields: what is added to and removed from messages on the way."""

from collections.abc import Iterator

import pytest

from tests.behaviour.conftest import OPEN, json_log
from tests.behaviour.place import Place, make_place
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import RouterProcess

REWRITE = {
    "responses": {
        "add_headers_if_not_present": [
            {"name": "Strict-Transport-Security", "value": "max-age=31536000"},
            {"name": "X-Frame-Options", "value": "DENY"},
        ],
        "remove_headers": [{"name": "X-Powered-By"}, {"name": "x-frame-options"}],
    }
}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%b\r\n\r\n"


@pytest.fixture(scope="module")
def rewriting(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    directory = tmp_path_factory.mktemp("rewriting")
    with RouterProcess(
        directory,
        nats=nats_server,
        http_rewrite=REWRITE,
        hop_by_hop_headers_to_filter=["X-Forwarded-For", "X-Tenant"],
        access_log=json_log(directory),
    ) as process:
        yield process


@pytest.fixture
def place(rewriting: RouterProcess, nats_server: NatsServer) -> Iterator[Place]:
    with Registrar(nats_server.port, rewriting) as registrar:
        made = make_place(rewriting, registrar, OPEN)
        made.register()
        yield made
        made.leave()


def test_a_field_is_added_where_the_backend_sent_none(place: Place) -> None:
    """Decision 13: `add_headers_if_not_present` adds to what a backend answers."""
    assert place.call(plain=True).response.get("strict-transport-security") == "max-age=31536000"


def test_a_field_that_is_there_stays(place: Place) -> None:
    """Decision 13: in any case of its name, the backend's own value wins."""
    place.backends[0].script(ANSWER % b"STRICT-transport-security: max-age=0")
    assert place.call(plain=True).response.all("strict-transport-security") == ["max-age=0"]


def test_removed_fields_go_before_others_are_added(place: Place) -> None:
    """Decision 13: `remove_headers` first, so that a value can be replaced."""
    place.backends[0].script(ANSWER % b"X-Powered-By: x\r\nX-Frame-Options: SAMEORIGIN\r\nX-Kept: 1")
    response = place.call(plain=True).response
    assert (response.all("x-powered-by"), response.all("x-frame-options"), response.get("x-kept")) == ([], ["DENY"], "1")


def test_the_routers_own_answers_are_rewritten_too(place: Place) -> None:
    """Decision 13: a 404 of the router's carries the operator's fields as well."""
    response = place.call(plain=True, host="nobody.open.example").response
    assert (response.status, response.get("strict-transport-security")) == (404, "max-age=31536000")


def test_a_clients_connection_field_removes_only_what_is_not_protected(place: Place) -> None:
    """R27, decision 9: hop-by-hop fields named by the client go, those of `hop_by_hop_headers_to_filter` and ours stay."""
    headers = [("Connection", "X-Hop, X-Tenant, X-Forwarded-For, Host"), ("X-Hop", "1"), ("X-Tenant", "2")]
    received = place.call(plain=True, headers=headers).at_backend
    assert (received.get("x-hop"), received.get("x-tenant")) == (None, "2")
    assert (received.get("x-forwarded-for"), received.get("host")) == ("127.0.0.1", place.host)
    assert received.get("connection") is None


def test_a_backends_hop_by_hop_fields_do_not_pass(place: Place) -> None:
    """R27: Connection, Keep-Alive and what Connection names are the backend's affair with the router."""
    place.backends[0].script(ANSWER % b"Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic")
    response = place.call(plain=True).response
    assert [response.get(name) for name in ("x-hop", "keep-alive", "proxy-authenticate", "connection")] == [None] * 4
