"""Attack 37: a client's Connection header that asks the router to remove what the router says."""

from collections.abc import Iterator

import pytest

from tests.support.certs import CA, Credential
from tests.support.client import Tls
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site

APP = "0f6d5d7c-9f6b-4a0e-8d0a-4b6f5a8f0c01"


@pytest.fixture(scope="module")
def strict(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar, "east.example", options={"mtls_allowed_apps": APP}, app=APP) as made:
        yield made


@pytest.fixture(scope="module")
def caller(east_ca: CA) -> Credential:
    return east_ca.issue_instance(APP)


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-Client-Cert",
        "x-forwarded-client-cert",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "Forwarded",
        "X-Real-IP",
        "X-Request-Id",
        "X-Vcap-Request-Id",
        "X-Request-Start",
        "X-CF-ApplicationID",
        "X-CF-InstanceID",
        "X-CF-InstanceIndex",
        "traceparent",
        "tracestate",
        "Host",
        "Content-Length",
    ],
)
@pytest.mark.parametrize("form", ["close, {}", "{}", "keep-alive,{} ,x", "{0}, {0}"])
def test_our_field_arrives_although_connection_names_it(strict: Site, caller: Credential, name: str, form: str) -> None:
    """Attack 37: `Connection: close, <our field>` with a valid certificate removes nothing of ours: each arrives, once."""
    strict.backend.clear()
    tls = Tls(sni=strict.host, credential=caller)
    with strict.client(tls) as client:
        headers = [("Connection", form.format(name)), ("X-Forwarded-Client-Cert", "forged")]
        assert client.request(strict.host, method="POST", headers=headers, body=b"four").status == 200
    seen = strict.seen()
    assert seen.body == b"four"
    assert b"forged" not in seen.head
    value = seen.get(name)
    assert value is not None
    expected = {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": strict.host,
        "x-real-ip": "127.0.0.1",
        "x-cf-applicationid": APP,
        "x-cf-instanceindex": "0",
        "host": strict.host,
        "content-length": "4",
    }
    assert expected.get(name.lower(), value) == value
    if name.lower() == "x-forwarded-client-cert":
        assert f"OU=app:{APP}" in value


def test_two_connection_headers_remove_no_more_than_one(strict: Site, caller: Credential) -> None:
    """Attack 37: the same over several Connection fields, which count as one list; what is not ours is removed."""
    strict.backend.clear()
    headers = [("Connection", "X-Hop"), ("Connection", "X-Forwarded-Client-Cert"), ("X-Hop", "1"), ("X-End", "2")]
    with strict.client(Tls(sni=strict.host, credential=caller)) as client:
        assert client.request(strict.host, headers=headers).status == 200
    seen = strict.seen()
    assert f"OU=app:{APP}" in (seen.get("x-forwarded-client-cert") or "")
    assert (seen.get("x-hop"), seen.get("x-end")) == (None, "2")


@pytest.mark.parametrize("name", ["Authorization", "Cookie"])
def test_credentials_arrive_although_connection_names_them(strict: Site, caller: Credential, name: str) -> None:
    """Attack 37: what a backend authenticates by is not removed by a Connection header either."""
    strict.backend.clear()
    with strict.client(Tls(sni=strict.host, credential=caller)) as client:
        assert client.request(strict.host, headers=[("Connection", name), (name, "token")]).status == 200
    assert strict.seen().get(name) == "token"
