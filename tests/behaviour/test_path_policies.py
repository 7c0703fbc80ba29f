"""Two routes of one host with different policies: no spelling of a path slips past the narrower one."""

import pytest

from tests.behaviour.conftest import ANY, At
from tests.behaviour.place import Call, Place
from tests.support.backend import EchoBackend
from tests.support.certs import Credential


@pytest.fixture
def place(at: At, second_backend: EchoBackend) -> Place:
    """The host is for everybody, what is below /admin for app-b alone."""
    place = at(ANY, {"mtls_allow_any": True})
    place.registrar.register(f"{place.host}/admin", backend=second_backend, options={"mtls_allowed_apps": "app-b"})
    return place


def ask(place: Place, caller: Credential, target: str) -> Call:
    with place.connect(caller) as client:
        return Call(place.router, target, client.request(place.host, target), place.backends)


def test_the_longest_prefix_decides(place: Place, alice: Credential, bob: Credential, second_backend: EchoBackend) -> None:
    """R263, K46: each route has its own policy; the more specific path is judged by its own."""
    assert ask(place, alice, "/public").response.status == 200
    assert [ask(place, alice, target).response.status for target in ("/admin", "/admin/x", "/ADMIN/x", "/admin?x=1")] == [403] * 4
    assert ask(place, bob, "/admin/x").response.status == 200
    assert [one.request_line for one in second_backend.received] == ["GET /admin/x HTTP/1.1"]


@pytest.mark.parametrize(
    "target",
    [
        "/%61dmin",
        "/adm%69n/x",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/%2E/admin",
        "/admin/../public",
        "/admin//../../x",
    ],
)
def test_a_spelling_that_another_route_would_serve_is_refused(
    place: Place, alice: Credential, second_backend: EchoBackend, target: str
) -> None:
    """Decision 10: where the raw path and its normalised form select different routes: 400, and nobody sees it."""
    call = ask(place, alice, target)
    assert (call.response.status, call.response.get("x-cf-routererror")) == (400, "malformed_request")
    assert place.backends[0].received == second_backend.received == []


@pytest.mark.parametrize(
    "target", ["/public/%7Euser", "/public//x", "/public/./x", "/public/%2Fx?a=%zz", "/public?../admin", "/x%2fadmin"]
)
def test_any_other_spelling_goes_on_byte_for_byte(place: Place, alice: Credential, target: str) -> None:
    """Decision 10: where both forms select the same route the target is not touched, and a query never judged."""
    assert ask(place, alice, target).response.status == 200
    assert place.backends[0].last.request_line == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize("target", ["/%", "/%z", "/%zz", "/a%4"])
def test_a_broken_escape_in_the_path_is_refused(place: Place, alice: Credential, target: str) -> None:
    """Decision 10: what cannot be read is not forwarded."""
    assert ask(place, alice, target).response.status == 400
    assert place.backends[0].received == []
