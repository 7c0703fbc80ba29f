"""The promise: the router's own errors wear the operator's page, and tell no more by it; a `;` in a target is complained of."""

from collections.abc import Iterator

import pytest

from tests.behaviour.conftest import OPEN, json_log
from tests.behaviour.place import Place, make_place
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import RouterProcess

TEMPLATE = '<h1>{{.Status}} {{.StatusText}}</h1>\n<p id="{{.Header.Get "X-Vcap-Request-Id"}}">{{.Message}}</p>'
REWRITE = {"responses": {"add_headers_if_not_present": [{"name": "X-Frame-Options", "value": "DENY"}]}}


@pytest.fixture(scope="module")
def dressed(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    directory = tmp_path_factory.mktemp("dressed")
    (directory / "error.html").write_text(TEMPLATE)
    with RouterProcess(
        directory, nats=nats_server, html_error_template_file="error.html", http_rewrite=REWRITE, access_log=json_log(directory)
    ) as process:
        yield process


@pytest.fixture
def place(dressed: RouterProcess, nats_server: NatsServer) -> Iterator[Place]:
    with Registrar(nats_server.port, dressed) as registrar:
        made = make_place(dressed, registrar, OPEN)
        made.register()
        yield made
        made.leave()


def test_a_refusal_wears_the_page(place: Place) -> None:
    """Contract d: text/html, the status and code as ever, the request's id on the page, `http_rewrite` on the response."""
    response = place.call(plain=True, host="nobody.open.example").response
    assert (response.status, response.get("x-cf-routererror")) == (404, "unknown_route")
    assert response.get("content-type") == "text/html; charset=utf-8"
    assert (response.get("x-content-type-options"), response.get("x-frame-options")) == ("nosniff", "DENY")
    said = "Requested route (&#x27;nobody.open.example&#x27;) does not exist."
    assert response.body.decode() == f'<h1>404 Not Found</h1>\n<p id="{response.get("x-vcap-request-id")}">{said}</p>'


def test_a_failed_round_trip_wears_the_page(place: Place) -> None:
    place.backends[0].script(b"no HTTP at all\r\n\r\n")
    response = place.call(plain=True).response
    assert (response.status, response.get("content-type")) == (502, "text/html; charset=utf-8")
    assert b"<h1>502 Bad Gateway</h1>" in response.body


def test_what_an_app_answers_is_its_own(place: Place) -> None:
    place.backends[0].script(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nmine")
    response = place.call(plain=True).response
    assert (response.status, response.body, response.get("content-type")) == (404, b"mine", "text/plain")


def test_head_gets_the_length_alone(place: Place) -> None:
    response = place.call(plain=True, method="HEAD", host="nobody.open.example").response
    assert (response.status, response.body) == (404, b"")
    assert int(response.get("content-length") or 0) > 100


def test_a_broken_template_keeps_the_old_page(dressed: RouterProcess, place: Place) -> None:
    """A reload takes whole effect or none; the template's line is told."""
    template = dressed.directory / "error.html"
    template.write_text("<p>\n{{.Nothing}}</p>")
    try:
        dressed.reload()
        assert '"line":2' in dressed.wait_for_event("config-problem")
        assert b"<h1>404" in place.call(plain=True, host="nobody.open.example").response.body
        template.write_text("<b>{{.Status}}</b>")
        dressed.reload()
        assert place.call(plain=True, host="nobody.open.example").response.body == b"<b>404</b>"
    finally:
        template.write_text(TEMPLATE)
        dressed.reload()


def test_a_semicolon_in_the_target_is_complained_of(place: Place) -> None:
    """Contract d, 6: the app's answer passes and carries `deprecated-semicolon-params`; log and access log say so too."""
    call = place.call(plain=True, path="/list;a=1")
    assert (call.response.status, call.response.get("x-cf-routererror")) == (200, "deprecated-semicolon-params")
    assert call.at_backend.request_line == f"GET {call.target} HTTP/1.1"
    assert call.record["x_cf_routererror"] == "deprecated-semicolon-params"
    assert place.router.wait_for_event("deprecated-semicolon-params")
    assert place.call(plain=True, path="/list").response.get("x-cf-routererror") is None


def test_a_refusal_keeps_its_own_code_before_the_complaint(place: Place) -> None:
    """Contract d, 6: both values, and the record has the refusal's."""
    call = place.call(plain=True, host="nobody.open.example", path="/none;b")
    assert call.response.all("x-cf-routererror") == ["unknown_route", "deprecated-semicolon-params"]
    assert call.record["x_cf_routererror"] == "unknown_route"
