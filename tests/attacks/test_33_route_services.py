"""Attack 33: a route service returns to another strict name, in another's name, or unasked; no policy is skipped."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.attacks.conftest import assert_misdirected
from tests.conftest import EAST, OPEN, WEST, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential
from tests.support.client import Alert, Client, Response, Tls, expect_alert, get, render_request
from tests.support.http2_client import Http2Client
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.route_service import FORWARDED_URL, SECRET, SERVICES, SIGNATURE, Headers, RouteService, sealed_for
from tests.support.router import RouterProcess, mtls_domain

INVALID = (502, "invalid_route_service_signature")
DENIED = (403, "mtls_authorization_denied")
CONFIG: dict[str, Any] = {
    "route_services_secret": SECRET,
    "route_services": {"egress_blocklist": []},
    "ca_certs": [SERVICES.pem],
}


@pytest.fixture(scope="module")
def lured(nats_server: NatsServer, east_ca: CA, west_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    domains = [mtls_domain(f"*.{EAST}", east_ca), mtls_domain(f"*.{WEST}", west_ca)]
    with RouterProcess(tmp_path_factory.mktemp("lured"), nats=nats_server, mtls_domains=domains, **CONFIG) as process:
        yield process


@pytest.fixture(scope="module")
def lured_registrar(nats_server: NatsServer, lured: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, lured) as made:
        yield made


@pytest.fixture(scope="module")
def caller(east_ca: CA) -> Credential:
    return east_ca.issue_instance("app-a", "space-1", "org-1")


@pytest.fixture(scope="module")
def insider(east_ca: CA) -> Credential:
    """The malicious service's own certificate."""
    return east_ca.issue_instance("app-service", "space-9", "org-9")


class Trap(NamedTuple):
    """A strict host that app-a may call, with a route service that keeps what it gets; and another that only app-z may call."""

    router: RouterProcess
    host: str
    other: str
    app: EchoBackend
    service: RouteService
    seal: Headers

    def back(
        self, host: str, target: str, *more: tuple[str, str], tls: Tls | None = None, seal: Headers | None = None
    ) -> Response:
        """The service sends something to the router, by TLS under an open name unless told otherwise."""
        headers = [*(self.seal if seal is None else seal), *more]
        return get(self.router.ssl_port, host, target, tls=tls or Tls("localhost"), headers=headers)


@pytest.fixture
def trap(lured: RouterProcess, lured_registrar: Registrar, backend: EchoBackend, caller: Credential) -> Iterator[Trap]:
    host, other = unique_host(EAST), unique_host(EAST)
    with RouteService() as service:
        lured_registrar.register(
            host, backend=backend, route_service_url=service.address_url, options={"mtls_allowed_apps": "app-a"}
        )
        lured_registrar.register(
            other, backend=backend, route_service_url=service.address_url, options={"mtls_allowed_apps": "app-z"}
        )
        assert get(lured.ssl_port, host, "/asked", tls=Tls(host, caller)).body == b"from the service"
        yield Trap(lured, host, other, backend, service, service.sealed())


def told(response: Response) -> tuple[int, str | None]:
    return response.status, response.get("x-cf-routererror")


def test_the_seal_opens_what_the_caller_asked_for(trap: Trap, caller: Credential) -> None:
    """The other side of every test below: on its own host and path it does let the service in."""
    assert trap.back(trap.host, "/asked").status == 200
    assert trap.back(trap.host, "/asked?more=1").status == 200
    assert len(trap.app.received) == 2


@pytest.mark.parametrize("domain", [EAST, WEST])
def test_a_seal_opens_no_other_strict_name(trap: Trap, lured_registrar: Registrar, insider: Credential, domain: str) -> None:
    """Attack 33: 421 as for anybody without a certificate of that domain; registered or not, with a route service or without."""
    plain = unique_host(domain)
    lured_registrar.register(plain, backend=trap.app, options={"mtls_allow_any": True})
    for host in (trap.other, plain, unique_host(domain)):
        assert_misdirected(trap.back(host, "/asked"))
    assert expect_alert(trap.router.ssl_port, Tls(plain), render_request(plain)) == Alert.CERTIFICATE_REQUIRED
    assert trap.app.received == []


def test_a_seal_changes_nobodys_name(trap: Trap, insider: Credential) -> None:
    """Attack 33: with a certificate of its own the service is itself, and the other host's policy is asked about that."""
    assert told(trap.back(trap.other, "/asked", tls=Tls(trap.other, insider))) == DENIED
    assert trap.app.received == []


@pytest.mark.parametrize("target", ["/", "/asked/more", "/other", "/ASKED", "/asked%3Ba", "/asked%2F"])
def test_a_seal_opens_no_other_path(trap: Trap, target: str) -> None:
    """In an mTLS domain the caller's identity is good for the path that the caller asked for."""
    assert_misdirected(trap.back(trap.host, target))
    assert trap.app.received == []


def test_a_narrower_route_is_another(trap: Trap, lured_registrar: Registrar) -> None:
    """Registered since: the path is another route's now, with another policy."""
    lured_registrar.register(f"{trap.host}/asked", backend=trap.app, options={"mtls_allowed_apps": "app-z"})
    assert told(trap.back(trap.host, "/asked")) == DENIED
    lured_registrar.unregister(f"{trap.host}/asked", backend=trap.app)
    assert trap.app.received == []


@pytest.mark.parametrize("name", ["X-Forwarded-Client-Cert", "x_forwarded_client_cert", "Client-Cert"])
def test_no_header_says_who_calls(trap: Trap, insider: Credential, name: str) -> None:
    """GoRouter believes XFCC on a signed request: here the app gets the caller's, and nothing that the service wrote."""
    forged = (name, 'Hash=00;Subject="CN=x,OU=app:victim"')
    assert trap.back(trap.host, "/asked", forged, forged, tls=Tls(trap.host, insider)).status == 200
    (seen,) = trap.app.received
    assert "OU=app:app-a" in (seen.get("x-forwarded-client-cert") or "")
    assert b"victim" not in seen.head
    assert b"app-service" not in seen.head


@pytest.mark.parametrize("name", ["X-Forwarded-Client-Cert", "X-Forwarded-For", "X-Real-IP"])
def test_an_open_host_gets_no_forgery_either(trap: Trap, lured_registrar: Registrar, backend: EchoBackend, name: str) -> None:
    host = unique_host(OPEN)
    lured_registrar.register(host, backend=backend, route_service_url=trap.service.address_url)
    assert get(trap.router.port, host, "/").status == 200
    assert trap.back(host, "/", (name, "victim"), seal=trap.service.sealed()).status == 200
    assert b"victim" not in backend.last.head


def test_without_a_seal_of_ours_nobody_comes_back(trap: Trap, caller: Credential, insider: Credential) -> None:
    """Forged, broken or a GoRouter's (which names no caller): 421 without a certificate, 502 with the caller's own."""
    url = f"https://{trap.host}/asked"
    cut = [(name, value[:-4] if name != FORWARDED_URL else value) for name, value in trap.seal]
    alone = [field for field in trap.seal if field[0] == SIGNATURE]
    for seal in (sealed_for(url), sealed_for(url, secret="guessed"), cut, alone, [("X-CF-Proxy-Signature", "x")]):
        assert_misdirected(trap.back(trap.host, "/asked", seal=seal))
        assert told(trap.back(trap.host, "/asked", seal=seal, tls=Tls(trap.host, caller))) == INVALID
        assert told(trap.back(trap.host, "/asked", seal=seal, tls=Tls(trap.host, insider))) == DENIED
    assert trap.app.received == []


def test_an_old_seal_opens_nothing(trap: Trap, caller: Credential) -> None:
    old = sealed_for(f"https://{trap.host}/asked", age=61)
    assert_misdirected(trap.back(trap.host, "/asked", seal=old))
    answer = trap.back(trap.host, "/asked", seal=old, tls=Tls(trap.host, caller))
    assert told(answer) == (504, "expired_route_service_signature")
    assert trap.app.received == []


def test_a_strict_name_is_not_returned_to_in_plain_text(trap: Trap) -> None:
    """The seal is worth a certificate: by default it counts only where nobody reads along."""
    assert_misdirected(get(trap.router.port, trap.host, "/asked", headers=trap.seal))
    assert trap.app.received == []


def test_plain_text_is_the_operators_word_and_names_nobody_to_the_app(
    make_router: MakeRouter, make_registrar: Callable[..., Registrar], nats_server: NatsServer, east_ca: CA,
    backend: EchoBackend, caller: Credential,
) -> None:  # fmt: skip
    """`route_services_recommend_https: false`: then it counts there too; contract e: XFCC only where the service came by TLS."""
    router = make_router(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)], route_services_recommend_https=False, **CONFIG)
    registrar, host = make_registrar(nats_server, router), unique_host(EAST)
    with RouteService(router) as service:
        registrar.register(host, backend=backend, route_service_url=service.address_url, options={"mtls_allowed_apps": "app-a"})
        answer = get(router.ssl_port, host, "/asked", tls=Tls(host, caller))
        assert (answer.status, service.errors) == (200, [])
        assert service.last.get(FORWARDED_URL) == f"http://{host}/asked"
        assert backend.last.get("x-forwarded-client-cert") is None


def test_a_seal_ends_with_what_it_stands_on(
    make_router: MakeRouter, make_registrar: Callable[..., Registrar], nats_server: NatsServer, east_ca: CA, west_ca: CA,
    backend: EchoBackend, caller: Credential,
) -> None:  # fmt: skip
    """Attack 26: the caller denied, its certificate revoked, the domain's authorities changed, the domain gone: all in time."""
    own = mtls_domain(f"*.{EAST}", east_ca)
    router = make_router(mtls_domains=[own], **CONFIG)
    registrar, host = make_registrar(nats_server, router), unique_host(EAST)
    with RouteService() as service:
        registrar.register(host, backend=backend, route_service_url=service.address_url, options={"mtls_allowed_apps": "app-a"})
        assert get(router.ssl_port, host, "/asked", tls=Tls(host, caller)).status == 200
        seal = service.sealed()

    def back() -> tuple[int, str | None]:
        return told(get(router.ssl_port, host, "/asked", tls=Tls("localhost"), headers=seal))

    assert back() == (200, None)
    router.reload(deny={"apps": ["app-a"]})
    assert back() == DENIED
    router.reload(deny=None, mtls_domains=[mtls_domain(f"*.{EAST}", east_ca, crls=[east_ca.crl([caller])])])
    assert back() == (421, "mtls_domain_mismatch")
    router.reload(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca.pem + west_ca.pem)])
    assert back() == (421, "mtls_domain_mismatch")
    router.reload(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca, orgs=["org-2"])])
    assert back() == DENIED
    router.reload(mtls_domains=[own])
    assert back() == (200, None)
    router.reload(route_services_secret="another passphrase")
    assert back() == (421, "mtls_domain_mismatch")
    assert len(backend.received) == 2


def test_a_client_cannot_send_itself_past_the_service(trap: Trap, caller: Credential) -> None:
    """The service is part of the route: a caller who is let in does not get around it with headers of its own."""
    for headers in ([(FORWARDED_URL, f"https://{trap.host}/asked")], [("X-CF-Proxy-Metadata", "x")]):
        before = len(trap.service.received)
        answer = trap.back(trap.host, "/asked", *headers, seal=[], tls=Tls(trap.host, caller))
        assert answer.body == b"from the service"
        assert len(trap.service.received) == before + 1
        assert trap.service.last.all(FORWARDED_URL.lower()) == [f"https://{trap.host}/asked"]
        assert trap.service.last.all("x-cf-proxy-metadata") != ["x"]
    assert trap.app.received == []


def test_one_connection_carries_many_seals_and_none_stays(trap: Trap) -> None:
    """What a seal opened on a service's connection is shut again for the next request."""
    with Client(trap.router.ssl_port, Tls("localhost")) as client:
        assert client.request(trap.host, "/asked", headers=trap.seal).status == 200
        assert_misdirected(client.request(trap.host, "/asked"))
        assert client.request(trap.host, "/asked", headers=trap.seal).status == 200
    assert len(trap.app.received) == 2


def test_streams_of_one_connection_do_not_share_a_seal(trap: Trap) -> None:
    """Over HTTP/2 each stream is somebody of its own, at the same time."""
    with Http2Client(trap.router.ssl_port, Tls("localhost")) as client:
        streams = [client.open(trap.host, "/asked", headers=trap.seal if number % 2 else []) for number in range(6)]
        answers = [client.response(stream) for stream in streams]
    assert [answer.status for answer in answers] == [421, 200] * 3
    assert len(trap.app.received) == 3


def test_no_service_is_asked_in_a_blocked_network(
    make_router: MakeRouter, make_registrar: Callable[..., Registrar], nats_server: NatsServer, backend: EchoBackend
) -> None:
    """Attack 33, as in CVE-2026-22726: by default nobody leads the router into its own networks, nor to what is denied."""
    router = make_router(route_services_secret=SECRET, ca_certs=[SERVICES.pem])
    registrar = make_registrar(nats_server, router)
    with RouteService(router) as service:
        urls = [f"https://{name}:{service.port}/" for name in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0")]
        hosts = [unique_host(OPEN) for _ in urls]
        for host, url in zip(hosts, urls, strict=True):
            registrar.register(host, backend=backend, route_service_url=url)
        for host in hosts:
            assert told(get(router.port, host)) == (502, "endpoint_failure (address not allowed)")
        assert (service.connections, backend.received) == (0, [])
        router.reload(**CONFIG)
        assert get(router.port, hosts[0]).status == 200
        router.reload(**CONFIG, deny={"hosts": ["localhost"]})
        assert told(get(router.port, hosts[1])) == (502, "endpoint_failure (address not allowed)")
        assert get(router.port, hosts[0]).status == 200
        router.reload(**CONFIG | {"route_services": {"egress_blocklist": ["127.0.0.0/8"]}})
        assert told(get(router.port, hosts[0])) == (502, "endpoint_failure (address not allowed)")
