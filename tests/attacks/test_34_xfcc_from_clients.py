"""Attacks 34, 35 and 38: X-Forwarded-Client-Cert as a client would forge it. In sanitize_set, the default, the backend reads
the certificate of the handshake or nothing.
"""

from collections.abc import Iterator

import pytest

from tests.support.certs import CA, Credential
from tests.support.client import Tls
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site

FORGED = 'Hash=00;Subject="CN=forged,OU=app:forged"'
APP = "0f6d5d7c-9f6b-4a0e-8d0a-4b6f5a8f0c01"

SPELLINGS = [
    ("X-Forwarded-Client-Cert",),
    ("x-forwarded-client-cert",),
    ("X-FORWARDED-CLIENT-CERT",),
    ("x-FoRwArDeD-cLiEnT-cErT",),
    ("X-Forwarded-Client-Cert", "X-Forwarded-Client-Cert"),
    ("X-Forwarded-Client-Cert", "x-forwarded-client-cert", "X-FORWARDED-CLIENT-CERT"),
    ("X_Forwarded_Client_Cert",),
    ("X-Forwarded_Client-Cert",),
    ("X-Forwarded-Client_Cert",),
    ("x_forwarded-client_cert", "X-Forwarded-Client-Cert"),
    ("X.Forwarded.Client.Cert",),
    ("X-Forwarded-Client-Cert-Chain",),
    ("X_Forwarded_Client_Cert_",),
]
VALUES = [FORGED, f"{FORGED},{FORGED}", "", f",{FORGED}"]


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.fixture(scope="module")
def strict(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar, "east.example", options={"mtls_allowed_apps": APP}) as made:
        yield made


@pytest.fixture(scope="module")
def caller(east_ca: CA) -> Credential:
    return east_ca.issue_instance(APP)


def _forging(host: str, lines: list[str]) -> bytes:
    return "\r\n".join(["GET / HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


@pytest.mark.parametrize("value", VALUES, ids=["plain", "list", "empty", "list_with_an_empty_one"])
@pytest.mark.parametrize("names", SPELLINGS, ids=",".join)
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain_http", "tls"])
def test_a_forged_certificate_header_is_dropped(place: Site, names: tuple[str, ...], value: str, over_tls: bool) -> None:
    """Attacks 34 and 35: without a client certificate no spelling of X-Forwarded-Client-Cert reaches the backend."""
    place.backend.clear()
    with place.client(Tls(sni=place.host) if over_tls else None) as client:
        client.send(_forging(place.host, [f"{name}: {value}" for name in names]))
        assert client.read_response().status == 200
    seen = place.seen().head.lower()
    assert b"cert" not in seen
    assert b"forged" not in seen


@pytest.mark.parametrize("names", SPELLINGS, ids=",".join)
def test_the_true_certificate_stands_alone(strict: Site, caller: Credential, names: tuple[str, ...]) -> None:
    """Attacks 34 and 35: beside a verified certificate the backend reads that one, once, whatever the client adds, also
    after an empty value.
    """
    strict.backend.clear()
    lines = [f"{names[0]}: ", *(f"{name}: {FORGED}" for name in names)]
    with strict.client(Tls(sni=strict.host, credential=caller)) as client:
        client.send(_forging(strict.host, lines))
        assert client.read_response().status == 200
    seen = strict.seen()
    assert (seen.get("x-forwarded-client-cert") or "").startswith("Hash=")
    assert f"OU=app:{APP}" in (seen.get("x-forwarded-client-cert") or "")
    assert seen.head.lower().count(b"cert") == 1
    assert b"forged" not in seen.head


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("X-Forwarded-Client-Cert : forged", "bad_field_name"),
        ("X-Forwarded-Client-Cert\t: forged", "bad_field_name"),
        (" X-Forwarded-Client-Cert: forged", "folded_line"),
        ("X: y\r\n X-Forwarded-Client-Cert: forged", "folded_line"),
        ("X: y\rX-Forwarded-Client-Cert: forged", "bare_cr"),
        ("X: y\nX-Forwarded-Client-Cert: forged", "bare_lf"),
        ("X: y\x00\r\nX-Forwarded-Client-Cert: forged", "control_byte"),
        ("X-Forwarded-Client-Cert\x00: forged", "control_byte"),
        ("X-Forwarded-Client-Cert: for\x00ged", "control_byte"),
        ("X-Forwarded-Client-Cert\x0b: forged", "control_byte"),
        ("X-Forwarded-Client-Cert\xa0: forged", "bad_field_name"),
        ("X-Forwarded-Client-Cert", "bad_field_name"),
    ],
)
def test_a_forged_header_in_a_broken_line_is_refused(strict: Site, caller: Credential, line: str, reason: str) -> None:
    """Attack 38: X-Forwarded-Client-Cert behind a fold, a bare CR or LF, a NUL or a blank before the colon is 400 and close."""
    strict.backend.clear()
    before = strict.router.metric("malformed_requests", reason=reason)
    data = f"GET / HTTP/1.1\r\nHost: {strict.host}\r\n{line}\r\n\r\n".encode("latin-1")
    strict.refuses(data, 400, tls=Tls(sni=strict.host, credential=caller))
    assert strict.backend.received == []
    assert strict.router.metric("malformed_requests", reason=reason) == before + 1


@pytest.mark.parametrize("name", ["X-Forwarded-Client-Cert", "x_forwarded_client_cert", "Client-Cert", "X-SSL-Client-Cert"])
def test_a_forged_header_in_a_trailer_is_dropped(strict: Site, caller: Credential, name: str) -> None:
    """Attack 38: a certificate header after the body is dropped; the one in the head is ours."""
    strict.backend.clear()
    head = f"POST / HTTP/1.1\r\nHost: {strict.host}\r\nTrailer: {name}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with strict.client(Tls(sni=strict.host, credential=caller)) as client:
        client.send(f"{head}1\r\nx\r\n0\r\n{name}: forged\r\n\r\n".encode())
        assert client.read_response().status == 200
    seen = strict.seen()
    assert seen.trailers == []
    assert f"OU=app:{APP}" in (seen.get("x-forwarded-client-cert") or "")
