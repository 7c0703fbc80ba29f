"""Attack 41: X-Forwarded-For, -Proto, -Host, Forwarded and X-Real-IP as a client writes them. Nobody's are believed but those of
`trusted_proxies`, and for a decision not even theirs.
"""

from collections.abc import Iterator

import pytest

from tests.conftest import EAST
from tests.support.certs import CA
from tests.support.client import Tls
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain
from tests.support.site import Site, site

FORGED = [
    ("X-Forwarded-For", "192.0.2.66"),
    ("X-Forwarded-For", "192.0.2.67"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "forged.example"),
    ("X-Forwarded-Port", "1"),
    ("X-Forwarded-Server", "forged"),
    ("X_Forwarded_For", "192.0.2.68"),
    ("X-Real-IP", "192.0.2.69"),
    ("X_Real_IP", "192.0.2.70"),
    ("Forwarded", "for=192.0.2.71;host=forged.example;proto=https"),
]


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.fixture(scope="module")
def trusting(nats_server: NatsServer, east_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A router that believes its loopback neighbours."""
    config = {"trusted_proxies": ["127.0.0.0/8"], "mtls_domains": [mtls_domain(f"*.{EAST}", east_ca)]}
    with (
        RouterProcess(tmp_path_factory.mktemp("trusting"), nats=nats_server, **config) as process,
        Registrar(nats_server.port, process) as registrar,
        site(process, registrar) as made,
    ):
        yield made


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_the_fields_of_a_stranger_are_overwritten(place: Site, over_tls: bool) -> None:
    """Attack 41: from a peer outside `trusted_proxies` every forwarding field is replaced by what the router saw itself."""
    place.backend.clear()
    with place.client(Tls(sni=place.host) if over_tls else None) as client:
        assert client.request(place.host, headers=FORGED).status == 200
    seen, scheme = place.seen(), "https" if over_tls else "http"
    assert b"192.0.2." not in seen.head
    assert b"forged" not in seen.head
    assert seen.get("x-forwarded-for") == seen.get("x-real-ip") == "127.0.0.1"
    assert seen.get("x-forwarded-proto") == scheme
    assert seen.get("x-forwarded-host") == place.host
    assert seen.get("forwarded") == f'for=127.0.0.1;host="{place.host}";proto={scheme}'


def test_the_fields_of_a_trusted_proxy_are_continued(trusting: Site) -> None:
    """Attack 41: from `trusted_proxies` X-Forwarded-For is appended to, -Proto and -Host are kept; the rest is still ours."""
    trusting.backend.clear()
    with trusting.client() as client:
        assert client.request(trusting.host, headers=FORGED).status == 200
    seen = trusting.seen()
    assert seen.get("x-forwarded-for") == "192.0.2.66, 192.0.2.67, 127.0.0.1"
    assert (seen.get("x-forwarded-proto"), seen.get("x-forwarded-host")) == ("https", "forged.example")
    assert seen.get("x-real-ip") == "127.0.0.1"
    for other in (b"192.0.2.68", b"192.0.2.69", b"192.0.2.70", b"192.0.2.71", b"forwarded-port", b"forwarded-server"):
        assert other not in seen.head.lower()


def test_no_forwarding_field_opens_an_mtls_domain(trusting: Site) -> None:
    """Attack 41: not even a trusted proxy's fields count for a decision: https and another host in them change no 421."""
    trusting.backend.clear()
    headers = [*FORGED, ("X-Forwarded-Host", trusting.host), ("X-Forwarded-Client-Cert", "Hash=00")]
    with trusting.client() as client:
        response = client.request(unique_host(EAST), headers=headers)
    assert (response.status, response.get("x-cf-routererror")) == (421, "mtls_domain_mismatch")
    with trusting.client() as client:
        response = client.request(unique_host("open.example"), headers=[("X-Forwarded-Host", trusting.host)])
    assert (response.status, response.get("x-cf-routererror")) == (404, "unknown_route")
    assert trusting.backend.received == []
