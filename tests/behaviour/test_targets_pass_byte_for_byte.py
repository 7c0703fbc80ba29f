"""The request target reaches the backend byte for byte; what selects a route is its path, read once (decision 10)."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.backend import EchoBackend
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/?",
        "/??",
        "/?%zz",
        "/?%",
        "/?a=%2",
        "/?a;b;c",
        "/?q=/../x//y",
        '/?q={}|\\^`<>"[]',
        "/a%2Fb",
        "/a%2fb",
        "/%41",
        "/%C3%A9",
        "/%ff%00",
        "/a//b",
        "//a",
        "//",
        "/a/./b",
        "/a/../b",
        "/..",
        "/../../etc/passwd",
        "/a/.",
        "/a;v=1/b",
        "/a+b%20c",
        "/a:b@c",
        "/{a}|b^c`d",
        "/a\\b",
        '/"<>"',
        "/~user/-._~!$&'()*+,;=:@",
        "/" + "a" * 8000,
        "/A/b/C",
        "/trailing/",
    ],
)
def test_an_odd_target_is_not_touched(place: Site, target: str) -> None:
    """No escape is decoded or encoded, no slash merged, no dot segment removed, no query judged, no `?` lost."""
    place.backend.clear()
    with place.client() as client:
        assert client.request(place.host, target).status == 200
    assert place.seen().request_line == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize("target", ["/%", "/%2", "/%zz", "/a%g1/b", "/%%41"])
def test_a_broken_escape_in_the_path_is_refused(place: Site, target: str) -> None:
    """A percent sign in the path without two hex digits is 400: nobody knows what it names."""
    place.backend.clear()
    place.refuses(f"GET {target} HTTP/1.1\r\nHost: {place.host}\r\n\r\n".encode(), 400)
    assert place.backend.received == []


@pytest.mark.parametrize("form", ["http://{}", "http://{}/", "HTTP://{}/a?b", "http://{}?q", "https://{}/x"])
def test_an_absolute_target_is_served(place: Site, form: str) -> None:
    """An absolute-form target that names the Host's authority selects its route and goes on as it came."""
    place.backend.clear()
    target = form.format(place.host)
    with place.client() as client:
        assert client.request(place.host, target).status == 200
    seen = place.seen()
    assert seen.request_line == f"GET {target} HTTP/1.1"
    assert seen.get("host") == place.host


@pytest.mark.parametrize("form", ["{}", "{}.", "{}:80", "{}:8080"])
def test_the_host_field_passes_as_it_came(place: Site, form: str) -> None:
    """A Host in capitals, with a port or a final dot selects the same route, and the backend reads it as the client wrote it."""
    place.backend.clear()
    host = form.format(place.host.upper())
    with place.client() as client:
        assert client.request(host).status == 200
    assert place.seen().get("host") == host


def test_options_for_the_whole_server_are_served(place: Site) -> None:
    """`OPTIONS *` goes to the backend of the Host's route."""
    place.backend.clear()
    with place.client() as client:
        assert client.request(place.host, "*", method="OPTIONS").status == 200
    assert place.seen().request_line == "OPTIONS * HTTP/1.1"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "PROPFIND", "M-SEARCH", "brew", "X!#$%&'*+-.^_`|~"])
def test_any_method_is_passed_on(place: Site, method: str) -> None:
    """Methods are tokens, compared with nothing: known or not, they pass as they are."""
    place.backend.clear()
    with place.client() as client:
        assert client.request(place.host, method=method).status == 200
    assert place.seen().request_line == f"{method} / HTTP/1.1"


@pytest.mark.parametrize("target", ["//admin", "/x/../admin", "/%61dmin", "/./admin", "/admin/../", "/%2e/admin/x"])
def test_a_spelling_that_selects_another_route_is_refused(
    place: Site, registrar: Registrar, make_backend: Callable[[], EchoBackend], target: str
) -> None:
    """Where a path and its normal form select different routes the request is 400: no spelling slips past a narrower route."""
    place.backend.clear()
    admin = make_backend()
    registrar.register(f"{place.host}/admin", backend=admin)
    try:
        place.refuses(f"GET {target} HTTP/1.1\r\nHost: {place.host}\r\n\r\n".encode(), 400)
        with place.client() as client:
            assert client.request(place.host, "/admin/../admin/x").status == 200
        assert [one.request_line for one in admin.received] == ["GET /admin/../admin/x HTTP/1.1"]
        assert place.backend.received == []
    finally:
        registrar.unregister(f"{place.host}/admin", backend=admin)
