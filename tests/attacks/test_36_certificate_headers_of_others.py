"""Attacks 36 and 40: fields in which other programs look for a client's certificate or for a proxy."""

from collections.abc import Iterator

import pytest

from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.mark.parametrize(
    "name",
    [
        "Client-Cert",
        "Client-Cert-Chain",
        "client_cert",
        "X-Client-Cert",
        "X-Client-Verify",
        "X-Client-DN",
        "X-SSL-Client-Cert",
        "X-SSL-Client-Verify",
        "X-SSL-Client-S-DN",
        "X_SSL_Client_DN",
        "SSL-Client-Cert",
        "SSL_CLIENT_VERIFY",
        "X-SSL-Cert",
        "X-Forwarded-Tls-Client-Cert",
        "X-Forwarded-Tls-Client-Cert-Info",
        "X-TLS-Client-Cert",
        "X-Amzn-Mtls-Clientcert",
        "X-ARR-ClientCert",
        "X-CF-Proxy-Signature",
        "X-CF-ApplicationID",
        "X-CF-InstanceID",
    ],
)
def test_a_certificate_header_of_another_router_is_dropped(place: Site, name: str) -> None:
    """Attack 36: a field by which another router tells of a verified certificate, or of itself, never comes from a client."""
    place.backend.clear()
    with place.client() as client:
        assert client.request(place.host, headers=[(name, "forged"), ("X-Innocent", "kept")]).status == 200
    seen = place.seen()
    assert seen.get("x-innocent") == "kept"
    assert b"forged" not in seen.head


@pytest.mark.parametrize(
    "name", ["X-Client-Verify", "SSL-Client-Cert", "X-TLS-Client-Cert", "X-Amzn-Mtls-Clientcert", "X.Forwarded.For"]
)
def test_a_certificate_header_of_another_router_is_no_trailer_either(place: Site, name: str) -> None:
    """Attack 36: behind the body a name is judged as it is in the head."""
    place.backend.clear()
    with place.client() as client:
        client.send(f"POST / HTTP/1.1\r\nHost: {place.host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        client.send(f"1\r\na\r\n0\r\n{name}: forged\r\nX-Innocent: kept\r\n\r\n".encode())
        assert client.read_response("POST").status == 200
    assert place.seen().trailers == [("x-innocent", "kept")]


@pytest.mark.parametrize("name", ["Proxy", "proxy", "PROXY", "Proxy-Connection", "Proxy-Authorization"])
def test_a_proxy_header_is_dropped(place: Site, name: str) -> None:
    """Attack 40: `Proxy`, which CGI programs read as HTTP_PROXY, and the fields between proxies, never reach a backend."""
    place.backend.clear()
    with place.client() as client:
        assert client.request(place.host, headers=[(name, "http://evil.example/")]).status == 200
    assert b"evil.example" not in place.seen().head
