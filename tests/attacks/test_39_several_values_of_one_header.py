"""Attack 39: several values of one field, of which two readers would take different ones. Identity never comes from a field; what
the router does read from fields (an instance asked for, whether the client waits for 100, the request id) is read from all
values of it or from none.
"""

from collections.abc import Iterator

import pytest

from tests.support.backend import EchoBackend
from tests.support.certs import CA
from tests.support.client import Tls
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site

APP = "0f6d5d7c-9f6b-4a0e-8d0a-4b6f5a8f0c01"
OTHER = "0f6d5d7c-9f6b-4a0e-8d0a-4b6f5a8f0c02"


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar, app=APP, tags={"process_id": OTHER}) as made:
        yield made


@pytest.fixture(scope="module")
def strict(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar, "east.example", options={"mtls_allowed_apps": APP}) as made:
        yield made


@pytest.mark.parametrize(
    "values",
    [
        (f'Hash=00;Subject="OU=app:{APP}"',),
        (f'Hash=00;Subject="OU=app:{OTHER}"', f'Hash=00;Subject="OU=app:{APP}"'),
        (f'Hash=00;Subject="OU=app:{APP}"', f'Hash=00;Subject="OU=app:{OTHER}"'),
        (f'Hash=00;Subject="OU=app:{OTHER}",Hash=00;Subject="OU=app:{APP}"',),
    ],
)
def test_no_header_makes_a_caller(strict: Site, east_ca: CA, values: tuple[str, ...]) -> None:
    """Attack 39: a caller off the list stays refused, however many X-Forwarded-Client-Cert values name an app that is on it."""
    strict.backend.clear()
    headers = [("X-Forwarded-Client-Cert", value) for value in values]
    with strict.client(Tls(sni=strict.host, credential=east_ca.issue_instance(OTHER))) as client:
        response = client.request(strict.host, headers=headers)
    assert (response.status, response.get("x-cf-routererror")) == (403, "mtls_authorization_denied")
    assert strict.backend.received == []


@pytest.mark.parametrize(
    ("name", "values", "code"),
    [
        ("X-CF-App-Instance", (f"{APP}:0", f"{APP}:1"), "invalid_cf_app_instance_header"),
        ("X-CF-App-Instance", (f"{APP}:1", f"{APP}:0"), "invalid_cf_app_instance_header"),
        ("X-CF-App-Instance", (f"{APP}:0, {APP}:1",), "invalid_cf_app_instance_header"),
        ("X-CF-App-Instance", (f"{APP}:0", "nonsense"), "invalid_cf_app_instance_header"),
        ("X-CF-Process-Instance", (f"{OTHER}:0", f"{OTHER}:1"), "invalid_cf_process_instance_header"),
        ("X-CF-Process-Instance", (f"{OTHER}:0,{OTHER}:1",), "invalid_cf_process_instance_header"),
    ],
)
def test_two_instances_asked_for_are_none(place: Site, name: str, values: tuple[str, ...], code: str) -> None:
    """Attack 39: several values of an instance header are refused like the one joined value, not read as first or last."""
    place.backend.clear()
    with place.client() as client:
        response = client.request(place.host, headers=[(name, value) for value in values])
    assert (response.status, response.get("x-cf-routererror")) == (400, code)
    assert place.backend.received == []


@pytest.mark.parametrize("app_first", [True, False])
def test_the_app_instance_wins_over_the_process_instance(
    registrar: Registrar, place: Site, make_backend: type[EchoBackend], app_first: bool
) -> None:
    """Attack 39: with both instance headers the app's counts, whatever their order, as in GoRouter."""
    place.backend.clear()
    second = make_backend()
    registrar.register(place.host, backend=second, app=APP, tags={"process_id": OTHER}, index=1)
    headers = [("X-CF-App-Instance", f"{APP}:0"), ("X-CF-Process-Instance", f"{OTHER}:1")]
    with place.client() as client:
        for _ in range(3):
            assert client.request(place.host, headers=headers if app_first else headers[::-1]).status == 200
    registrar.unregister(place.host, backend=second, app=APP, tags={"process_id": OTHER}, index=1)
    assert (len(place.backend.received), len(second.received)) == (3, 0)


@pytest.mark.parametrize("values", [("one", "two"), ("one, two",), ("one", ""), ("a" * 65,), ("one two",)])
def test_a_request_id_of_several_values_is_replaced(place: Site, values: tuple[str, ...]) -> None:
    """Attack 39: an X-Request-Id that is not one plain value is replaced by ours, the same for backend and log."""
    place.backend.clear()
    with place.client() as client:
        assert client.request(place.host, headers=[("X-Request-Id", value) for value in values]).status == 200
    seen = place.seen()
    assert seen.get("x-request-id") == seen.get("x-vcap-request-id")


def test_two_expectations_are_refused(place: Site) -> None:
    """Attack 39: Expect twice is 417 and close, not 100-continue by the first."""
    place.backend.clear()
    lines = b"Expect: 100-continue\r\nExpect: nothing\r\nContent-Length: 2\r\n\r\n"
    place.refuses(b"POST / HTTP/1.1\r\nHost: %b\r\n" % place.host.encode() + lines, 417)
    assert place.backend.received == []
