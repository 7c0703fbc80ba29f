"""Cookies are the client's to write: what it can make of `__VCAP_ID__` is no more than it could reach without (contract f.5)."""

from collections.abc import Callable

import pytest

from tests.behaviour.conftest import LATER, At
from tests.behaviour.place import Place
from tests.support.backend import EchoBackend
from tests.support.certs import Credential
from tests.support.client import get
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess

SCOPED = {"route_policy_scope": "space", "route_policy_sources": "cf:any"}
OURS = {"organization_id": "org-1", "space_id": "space-1"}
THEIRS = {"organization_id": "org-1", "space_id": "space-9"}


class Two:
    """Two routes with a backend each; the cookie names the second one's."""

    def __init__(self, registrar: Registrar, mine: EchoBackend, other: EchoBackend) -> None:
        self.mine, self.other = mine, other
        self.host = unique_host("open.example")
        self.instance = str(registrar.register(self.host, backend=mine)["private_instance_id"])
        elsewhere = registrar.register(unique_host("open.example"), backend=other)
        self.named = (str(elsewhere["private_instance_id"]), other.address)


@pytest.fixture
def two(registrar: Registrar, make_backend: Callable[..., EchoBackend]) -> Two:
    return Two(registrar, make_backend("mine"), make_backend("other"))


@pytest.mark.parametrize("form", [0, 1], ids=["by_id", "by_address"])
def test_a_cookie_that_names_another_routes_instance_leads_nowhere(router: RouterProcess, two: Two, form: int) -> None:
    """It is as one that names nobody: served by the route's own, and rewritten."""
    response = get(router.port, two.host, headers=[("Cookie", f"JSESSIONID=s; __VCAP_ID__={two.named[form]}")])
    assert response.status == 200
    assert response.all("set-cookie") == [f"__VCAP_ID__={two.instance}; Path=/; HttpOnly"]
    assert (len(two.mine.received), two.other.received) == (1, [])


def test_a_cookie_does_not_lead_out_of_the_scope(at: At, alice: Credential, second_backend: EchoBackend) -> None:
    """Decision 7: an endpoint of another space stays out of reach, named or not, and nothing tells that it exists."""
    place: Place = at(LATER, SCOPED, tags=OURS)
    place.register(SCOPED, backend=second_backend, tags=THEIRS, index=1, private_instance_id="theirs-1")
    for instance in ("theirs-1", second_backend.address, "nobody"):
        call = place.call(alice, headers=[("Cookie", f"JSESSIONID=s; __VCAP_ID__={instance}")])
        assert call.response.status == 200
        (cookie,) = call.response.all("set-cookie")
        assert instance not in cookie
    assert (len(place.backends[0].received), second_backend.received) == (3, [])


def test_a_cookie_does_not_soften_a_denial(at: At, bob: Credential) -> None:
    """Decision 7: 403 for a caller in nobody's scope, whatever instance it names; no cookie is set."""
    place: Place = at(LATER, SCOPED)
    place.register(SCOPED, tags=OURS, private_instance_id="ours-1")
    call = place.call(bob, headers=[("Cookie", "JSESSIONID=s; __VCAP_ID__=ours-1")])
    assert (call.response.status, call.response.all("set-cookie"), call.received) == (403, [], [])


@pytest.mark.parametrize(
    "companion",
    [
        "secure\tx",
        "samesite=lax, Domain=evil.example",
        "expires=99999999999999999999",
        "maxage=" + "9" * 4000,
        "%0d%0aX:y",
        "&" * 9000,
    ],
)
def test_a_forged_companion_adds_nothing(router: RouterProcess, two: Two, companion: str) -> None:
    """Of what a client says about its cookie only the enumerated words and seconds come back."""
    sent = f"JSESSIONID=s; __VCAP_ID__=nobody; __VCAP_ID_META__={companion}"
    response = get(router.port, two.host, headers=[("Cookie", sent)])
    assert response.all("set-cookie") == [f"__VCAP_ID__={two.instance}; Path=/; HttpOnly"]
    assert "evil" not in response.head.decode("latin-1")


@pytest.mark.parametrize(
    "value",
    [
        "__VCAP_ID__=" + "i" * 60_000 + "; JSESSIONID=s",
        "JSESSIONID=" + "s" * 60_000 + "; __VCAP_ID__=",
        "a=b;" * 12_000 + "JSESSIONID=s; __VCAP_ID__=nobody",
        "__VCAP_ID__=nobody;" * 3_000 + "JSESSIONID=s",
        "__VCAP_ID__" + ";" * 60_000,
        "__VCAP_ID__" + "=" * 60_000,
        "__VCAP_ID__" + " " * 60_000 + ";",
    ],
    ids=["giant_id", "giant_session", "thousands", "thousands_of_ids", "separators", "equals", "blanks"],
)
def test_giant_cookie_fields_cost_nothing_and_pin_nothing(router: RouterProcess, two: Two, value: str) -> None:
    """A Cookie as large as a head may be: forwarded as it came, not pinned, and the router goes on at once."""
    response = get(router.port, two.host, headers=[("Cookie", value)])
    assert (response.status, response.all("set-cookie")) == (200, [])
    assert two.mine.last.get("cookie") == value.strip()


def test_many_cookie_fields_are_read_once(router: RouterProcess, two: Two) -> None:
    """A hundred fields with hundreds of cookies each do not multiply: a hundred requests take the router no 20 seconds."""
    field, before = ("Cookie", "__VCAP_ID__=" + ";a=b" * 140), router.cpu_seconds()
    for _ in range(100):
        response = get(router.port, two.host, headers=[field] * 100)
        assert (response.status, response.all("set-cookie")) == (200, [])
    assert router.cpu_seconds() - before < 20


def test_an_app_that_sets_thousands_of_cookies_gets_one_pair(router: RouterProcess, two: Two) -> None:
    """However many sessions and attributes a backend sends, what is added stays at two pairs."""
    sessions = b"Set-Cookie: JSESSIONID=s;" + b";Secure" * 100 + b"\r\n"
    moving = b"Set-Cookie: JSESSIONID=s; Partitioned\r\n"
    two.mine.script(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + (sessions + moving) * 100 + b"\r\n")
    response = get(router.port, two.host)
    ours = [cookie for cookie in response.all("set-cookie") if cookie.startswith("__VCAP_ID")]
    assert (response.status, len(ours)) == (200, 4)
