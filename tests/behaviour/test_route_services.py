"""Contract d: routes with a route service. A real router, real services over HTTPS, real apps."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.behaviour.conftest import json_log
from tests.conftest import EAST, OPEN, MakeRouter
from tests.support.backend import EchoBackend, Exchange, Received
from tests.support.certs import CA, Credential, authority
from tests.support.client import Client, Response, Tls, get
from tests.support.http2_client import Http2Client
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.route_service import FORWARDED_URL, METADATA, SEALED, SECRET, SERVICES, SIGNATURE, RouteService, sealed_for
from tests.support.router import RouterProcess, mtls_domain
from tests.support.websocket import opening

OLDER = "the passphrase before that one"
OURS = authority("router as a client of services")
ALLOWED = {"mtls_allowed_apps": "app-a"}


def enabled(**more: Any) -> dict[str, Any]:
    own = {"egress_blocklist": [], **more.pop("route_services", {})}
    return {
        "route_services_secret": SECRET,
        "route_services_secret_decrypt_only": OLDER,
        "route_services": own,
        "ca_certs": [SERVICES.pem],
        **more,
    }


@pytest.fixture(scope="module")
def away(nats_server: NatsServer, east_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """A router whose routes may have route services."""
    directory = tmp_path_factory.mktemp("away")
    own = OURS.issue_instance("router")
    config = enabled(route_services={"cert_chain": own.chain_pem, "private_key": own.key_pem})
    domains = [mtls_domain(f"*.{EAST}", east_ca)]
    with RouterProcess(directory, nats=nats_server, mtls_domains=domains, access_log=json_log(directory), **config) as process:
        yield process
        assert SECRET not in process.stdout
        assert OLDER not in process.stdout


@pytest.fixture(scope="module")
def away_registrar(nats_server: NatsServer, away: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, away) as made:
        yield made


@pytest.fixture
def service(away: RouterProcess) -> Iterator[RouteService]:
    with RouteService(away) as made:
        yield made


class Bound(NamedTuple):
    """An app's host with a route service."""

    router: RouterProcess
    registrar: Registrar
    host: str
    app: EchoBackend
    service: RouteService

    def ask(self, caller: Credential | None = None, target: str = "/shop?q=1", **request: Any) -> Response:
        return get(self.router.ssl_port, self.host, target, tls=Tls(self.host, caller), **request)

    def records(self, count: int, path: str) -> list[dict[str, Any]]:
        """The lines of the access log for a path (queries are not logged); that of the first leg, which knows no app, is last,
        whichever of two workers wrote its line earlier.
        """

        def found() -> list[dict[str, Any]]:
            lines = [json.loads(line) for line in self.router.access_log]
            return [line for line in lines if line["uri"] == path and line["host"].startswith(self.host)]

        self.router.wait_for_log(lambda _: len(found()) >= count)
        return sorted(found(), key=lambda line: line["app_id"] is None)


MakeBound = Callable[..., Bound]


@pytest.fixture
def bind(away: RouterProcess, away_registrar: Registrar, backend: EchoBackend, service: RouteService) -> MakeBound:
    def make(domain: str = OPEN, *, url: str | None = None, **more: Any) -> Bound:
        host = unique_host(domain)
        away_registrar.register(host, backend=backend, route_service_url=url or service.address_url, **more)
        return Bound(away, away_registrar, host, backend, service)

    return make


def error(response: Response) -> tuple[int, str | None]:
    return response.status, response.get("x-cf-routererror")


def xfcc_subject(request: Received) -> str:
    return request.get("x-forwarded-client-cert") or ""


# ---- there and back


def test_a_request_goes_to_the_service_first_and_then_to_the_app(bind: MakeBound) -> None:
    """Contract d: the service is asked with the client's method, body and fields, and is told where to send them on."""
    bound = bind()
    answer = bound.ask(method="POST", body=b"an order", headers=[("X-Own", "kept"), ("Cookie", "a=b")])
    assert (answer.status, answer.get("x-route-service")) == (200, "seen")
    there, back = bound.service.last, bound.app.last
    assert there.request_line == "POST /check?by=service HTTP/1.1"
    assert there.get("host") == f"127.0.0.1:{bound.service.port}"
    assert (there.body, there.get("x-own"), there.get("cookie")) == (b"an order", "kept", "a=b")
    assert there.get(FORWARDED_URL) == f"https://{bound.host}/shop?q=1"
    assert [there.get(name) is not None for name in (SIGNATURE, METADATA)] == [True, True]
    assert [there.get(name) for name in ("x-cf-applicationid", "x-cf-instanceindex", "x-cf-instanceid")] == [None, None, None]
    assert back.request_line == "POST /shop?q=1 HTTP/1.1"
    assert (back.get("host"), back.body, back.get("x-own")) == (bound.host, b"an order", "kept")
    assert [back.get(name) for name in SEALED] == [None, None, None]
    assert len(bound.service.received) == len(bound.app.received) == 1


def test_the_client_stays_the_client(bind: MakeBound) -> None:
    """Contract d, row 17: what the first leg knew of the way to the router is told to the app, not what the service says."""
    bound = bind()
    bound.service.change = lambda headers: [*headers, ("X-Forwarded-For", "6.6.6.6"), ("X-Real-IP", "6.6.6.6")]
    assert bound.ask().status == 200
    there, back = bound.service.last, bound.app.last
    assert there.get("x-forwarded-for") == "127.0.0.1"
    assert (there.get("x-forwarded-proto"), there.get("x-forwarded-host")) == ("https", bound.host)
    assert back.get("x-forwarded-for") == "127.0.0.1, 127.0.0.1"
    assert (back.get("x-forwarded-proto"), back.get("x-real-ip")) == ("https", "127.0.0.1")


def test_the_services_answer_is_the_clients(bind: MakeBound) -> None:
    """What the service answers by itself goes back; the app hears nothing, and no sticky cookie is set on that leg."""
    bound = bind()
    reply = b"HTTP/1.1 401 Who\r\nSet-Cookie: JSESSIONID=1\r\nX-CF-Proxy-Signature: x\r\nContent-Length: 4\r\n\r\nwho?"
    bound.service.script(reply)
    answer = bound.ask()
    assert (answer.status, answer.body, answer.all("set-cookie")) == (401, b"who?", ["JSESSIONID=1"])
    assert answer.get(SIGNATURE) is None
    assert bound.app.received == []


def test_both_legs_stand_in_the_access_log(bind: MakeBound) -> None:
    """The first leg names the service as its backend and no app; the way back is an exchange like any other."""
    bound = bind()
    path = f"/logged-{bound.host}"
    assert bound.ask(target=path).status == 200
    back, there = bound.records(2, path)
    assert (there["backend_addr"], there["app_id"], there["status"]) == (f"127.0.0.1:{bound.service.port}", None, 200)
    assert (back["backend_addr"], back["app_id"] is not None) == (bound.app.address, True)


def test_answers_of_services_are_counted(bind: MakeBound) -> None:
    """Contract h: responses_route_services{status_group}; `xxx` where the service gave none."""
    bound = bind()
    before = {group: bound.router.metric("responses_route_services", status_group=group) for group in ("2xx", "4xx", "xxx")}
    assert bound.ask().status == 200
    bound.service.script(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", lambda exchange: exchange.reset())
    assert [bound.ask().status, bound.ask(method="POST").status] == [404, 502]
    for group, count in before.items():
        assert bound.router.metric("responses_route_services", status_group=group) == count + 1


def test_a_large_body_streams_both_ways(bind: MakeBound) -> None:
    bound = bind()
    body = b"0123456789abcdef" * 65536
    assert bound.ask(method="PUT", body=body).status == 200
    assert bound.service.last.body == bound.app.last.body == body


def test_a_client_of_http2_is_served_alike(bind: MakeBound, alice: Credential, bob: Credential) -> None:
    """Its streams go there and back like requests of HTTP/1.1, with their bodies."""
    bound = bind(EAST, options=ALLOWED)
    bound.service.tls_as = bob
    with Http2Client(bound.router.ssl_port, Tls(bound.host, alice)) as client:
        streams = [client.open(bound.host, f"/{size}", method="POST", end=False) for size in (1, 70_000)]
        for stream, size in zip(streams, (1, 70_000), strict=True):
            client.send(stream, b"x" * size, end=True)
        assert [client.response(stream).status for stream in streams] == [200, 200]
    assert sorted(len(request.body) for request in bound.app.received) == [1, 70_000]
    assert all("OU=app:app-a" in xfcc_subject(request) for request in bound.app.received)


def test_connections_to_a_service_are_used_again(bind: MakeBound) -> None:
    bound = bind()
    for _ in range(3):
        assert bound.ask().status == 200
    assert len(bound.service.received) == 3
    assert 1 <= bound.service.connections <= bound.router.width


def test_a_service_that_closed_an_idle_connection_is_asked_on_a_new_one(bind: MakeBound) -> None:
    bound = bind()

    def answer_and_leave(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        exchange.close()

    bound.service.script(answer_and_leave)
    assert [bound.ask().status, bound.ask().status] == [200, 200]
    assert bound.service.connections == 2


def test_the_router_shows_its_certificate(away: RouterProcess, bind: MakeBound) -> None:
    """`route_services.cert_chain`: to services that ask for one."""
    with RouteService(away, client_ca=OURS) as strict:
        bound = bind(url=strict.address_url)
        assert bound.ask().status == 200
        assert strict.last.peer_der is not None
        assert len(bound.app.received) == 1


# ---- the caller


def test_the_policy_is_asked_before_the_service(bind: MakeBound, alice: Credential, carol: Credential) -> None:
    """Attack 33: nobody's request reaches a service before both doors let it in."""
    bound = bind(EAST, options=ALLOWED)
    assert error(bound.ask(carol)) == (403, "mtls_authorization_denied")
    assert error(get(bound.router.port, bound.host)) == (421, "mtls_domain_mismatch")
    assert bound.service.received == bound.app.received == []


def test_endpoints_out_of_the_callers_scope_keep_the_service_out(bind: MakeBound, alice: Credential, carol: Credential) -> None:
    """`route_policy_scope`: a caller who could reach no endpoint does not reach the service either."""
    tags = {"organization_id": "org-1", "space_id": "space-1"}
    bound = bind(EAST, options={"route_policy_scope": "space", "route_policy_sources": "cf:any"}, tags=tags)
    assert error(bound.ask(carol)) == (403, "mtls_authorization_denied")
    assert bound.service.received == []


@pytest.mark.parametrize("by", ["a certificate of its own", "another name"])
def test_the_app_learns_who_called_and_not_who_came_back(bind: MakeBound, alice: Credential, bob: Credential, by: str) -> None:
    """Contract e, the matrix: XFCC is the caller's, from the seal; the service's own certificate makes no difference."""
    bound = bind(EAST, options=ALLOWED)
    bound.service.tls_as = bob
    if by == "another name":
        bound.service.by = lambda scheme, host: Client(bound.router.ssl_port, Tls("localhost"))
    path = f"/who-{bound.host}"
    assert bound.ask(alice, path).status == 200
    assert "OU=app:app-a" in xfcc_subject(bound.service.last)
    assert xfcc_subject(bound.app.last) == xfcc_subject(bound.service.last)
    back, there = bound.records(2, path)
    assert [back["caller_cf_app"], there["caller_cf_app"]] == ["app-a", "app-a"]
    assert [back["mtls_auth"], there["mtls_auth"]] == ["allowed", "allowed"]


def test_the_way_back_is_judged_by_the_policy_of_its_moment(bind: MakeBound, alice: Credential, bob: Credential) -> None:
    """Decision 6: revoked while the service had the request, the caller is denied."""
    bound = bind(EAST, options=ALLOWED)

    def revoke(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        bound.registrar.register(
            bound.host, backend=bound.app, route_service_url=bound.service.address_url, options={"mtls_allowed_apps": "app-z"}
        )
        return headers

    bound.service.change, bound.service.tls_as = revoke, bob
    assert bound.ask(alice).status == 403
    assert error(bound.service.answers[0]) == (403, "mtls_authorization_denied")
    assert bound.app.received == []


def test_a_rate_counts_requests_and_not_legs(bind: MakeBound) -> None:
    """`rate-limit-rps`: the way back takes nothing of the rate."""
    bound = bind(options={"rate-limit-rps": 1})
    assert bound.ask().status == 200
    assert error(bound.ask()) == (429, "rate_limit_exceeded")
    assert len(bound.service.received) == 1


# ---- refusals


def test_an_upgrade_is_answered_503(bind: MakeBound) -> None:
    bound = bind()
    with Client(bound.router.port) as client:
        client.send(opening(bound.host))
        assert error(client.read_response()) == (503, "route_service_unsupported")
    assert bound.service.received == bound.app.received == []


@pytest.mark.parametrize("url", ["https://bad%20service.com", "https://user:pass@service.example/", "https://service.example:0/"])
def test_a_url_that_cannot_be_asked_is_500(bind: MakeBound, url: str) -> None:
    bound = bind(url=url)
    answer = bound.ask()
    assert error(answer) == (500, "bad_route_service_url")
    assert b"Route service request failed." in answer.body
    assert bound.app.received == []


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (lambda host: sealed_for(f"https://{host}/", age=61), (504, "expired_route_service_signature")),
        (lambda host: sealed_for(f"https://{host}/", secret="guessed"), (502, "invalid_route_service_signature")),
        (lambda host: sealed_for(f"https://{host}/")[:1], (502, "invalid_route_service_signature")),
        (lambda host: [(SIGNATURE, "x"), (METADATA, "y")], (502, "invalid_route_service_signature")),
        (lambda host: sealed_for(f"https://other.{host}/"), (502, "invalid_route_service_signature")),
        (lambda host: sealed_for("no url"), (502, "invalid_route_service_signature")),
        (lambda host: sealed_for(f"https://{host}/", vestibule={}), (502, "invalid_route_service_signature")),
        (lambda host: sealed_for(f"https://{host}/") * 2, (502, "invalid_route_service_signature")),
    ],
)
def test_what_falsely_claims_to_come_back_is_refused(
    bind: MakeBound, headers: Callable[[str], list[tuple[str, str]]], expected: tuple[int, str]
) -> None:
    """Contract d: 504 for a seal that is too old, 502 for one that is not ours or for another URL; nobody sees the request."""
    bound = bind()
    answer = bound.ask(headers=headers(bound.host))
    assert error(answer) == expected
    assert b"Failed to validate Route Service Signature" in answer.body
    assert bound.service.received == bound.app.received == []
    assert '"signature-validation-failed"' in bound.router.wait_for_event("signature-validation-failed")


@pytest.mark.parametrize("secret", [SECRET, OLDER])
def test_a_gorouters_seal_is_good_with_either_secret(bind: MakeBound, secret: str) -> None:
    """A fleet changes router by router, and its secret one after the other; GoRouter compares routes, not paths."""
    bound = bind()
    headers = [*sealed_for(f"https://{bound.host}/elsewhere", secret=secret), ("X-Forwarded-Proto", "http")]
    assert bound.ask(headers=headers).status == 200
    assert bound.service.received == []
    assert [bound.app.last.get(name) for name in SEALED] == [None, None, None]
    assert bound.app.last.get("x-forwarded-proto") == "http"


def test_a_seal_is_good_for_one_route(bind: MakeBound, away_registrar: Registrar) -> None:
    """GoRouter's rule: the route of the forwarded URL, by its host and path, is the one that is asked for."""
    bound = bind()
    away_registrar.register(f"{bound.host}/narrow", backend=bound.app, route_service_url=bound.service.address_url)
    headers = sealed_for(f"https://{bound.host}/narrow/er")
    assert error(bound.ask(headers=headers)) == (502, "invalid_route_service_signature")
    assert bound.ask(target="/narrow", headers=headers).status == 200
    assert len(bound.app.received) == 1


def dawdle(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    time.sleep(0.15)
    return headers


def test_a_service_that_is_too_slow_comes_back_in_vain(
    make_router: MakeRouter, make_registrar: Callable[..., Registrar], nats_server: NatsServer, backend: EchoBackend
) -> None:
    """`route_services_timeout`."""
    router = make_router(**enabled(route_services_timeout="100ms"))
    registrar, host = make_registrar(nats_server, router), unique_host(OPEN)
    with RouteService(router) as service:
        registrar.register(host, backend=backend, route_service_url=service.address_url)
        service.change = dawdle
        assert get(router.port, host).status == 504
        assert error(service.answers[0]) == (504, "expired_route_service_signature")
        assert backend.received == []


def test_without_a_secret_nothing_is_bypassed(
    make_router: MakeRouter, make_registrar: Callable[..., Registrar], nats_server: NatsServer, backend: EchoBackend
) -> None:
    """Contract d: 502 route_service_unsupported, for seals too; a reload turns services on and off."""
    router = make_router()
    registrar, host = make_registrar(nats_server, router), unique_host(OPEN)
    with RouteService(router) as service:
        registrar.register(host, backend=backend, route_service_url=service.address_url)
        assert error(get(router.port, host, headers=sealed_for(f"https://{host}/"))) == (502, "route_service_unsupported")
        router.reload(**enabled())
        assert get(router.port, host).status == 200
        router.reload(route_services_secret="")
        assert error(get(router.port, host)) == (502, "route_service_unsupported")
        assert len(backend.received) == len(service.received) == 1


def test_strict_signature_validation_refuses_what_is_not_ours_everywhere(
    make_router: MakeRouter, make_registrar: Callable[..., Registrar], nats_server: NatsServer, backend: EchoBackend
) -> None:
    """Contract d: 400, and 504 for an old one, also on routes without a route service; without it such headers are taken off."""
    router = make_router(**enabled())
    registrar, host = make_registrar(nats_server, router), unique_host(OPEN)
    registrar.register(host, backend=backend)
    forged, old = sealed_for("https://a.example/", secret="guessed"), sealed_for("https://a.example/", age=90)
    for headers in (forged, old):
        assert get(router.port, host, headers=headers).status == 200
        assert [backend.last.get(name) for name in SEALED] == [None, None, None]
    router.reload(**enabled(route_services={"strict_signature_validation": True}))
    backend.clear()
    assert error(get(router.port, host, headers=forged)) == (400, "invalid_route_service_signature")
    assert error(get(router.port, host, headers=old)) == (504, "expired_route_service_signature")
    assert backend.received == []
    assert get(router.port, host, headers=sealed_for("https://a.example/")).status == 200


def test_a_service_that_is_a_route_here_gets_what_it_was_sent(
    away: RouterProcess, away_registrar: Registrar, backend: EchoBackend
) -> None:
    """Contract d: a seal of ours passes to a route without route service; the URL is the sealed one, whatever was written."""
    host = unique_host(OPEN)
    away_registrar.register(host, backend=backend)
    signature, metadata, _ = sealed_for("https://a.example/x")
    headers = [signature, metadata, (FORWARDED_URL, "https://evil.example/")]
    assert get(away.port, host, headers=headers).status == 200
    assert [backend.last.get(name) for name in SEALED] == [signature[1], metadata[1], "https://a.example/x"]


# ---- the way to the service


def test_a_services_certificate_must_be_good(away: RouterProcess, bind: MakeBound) -> None:
    """Contract d: 526 for an authority that nobody here knows, 503 for another name."""
    with RouteService(away, credential=authority("strangers").issue_server("127.0.0.1")) as stranger:
        assert bind(url=stranger.address_url).ask().status == 526
        assert stranger.received == []
    with RouteService(away, credential=SERVICES.issue_server("service.example")) as misnamed:
        assert bind(url=misnamed.address_url).ask().status == 503
        assert misnamed.received == []


def test_a_service_by_name_is_resolved_and_verified(bind: MakeBound, service: RouteService) -> None:
    bound = bind(url=f"https://localhost:{service.port}/by-name")
    assert bound.ask().status == 200
    assert service.last.get("host") == f"localhost:{service.port}"


def test_a_service_that_is_away_is_502_and_the_route_stays(bind: MakeBound) -> None:
    """`route_services.max_attempts` connections; the endpoints of the route have nothing to do with it."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # so that nobody else listens there
        bound = bind(url=f"https://127.0.0.1:{silent.getsockname()[1]}/")
        path = f"/away-{bound.host}"
        assert error(bound.ask(target=path)) == (502, "endpoint_failure (dial failed)")
        (record,) = bound.records(1, path)
        assert record["failed_attempts"] == 3
        assert error(bound.ask()) == (502, "endpoint_failure (dial failed)")
        assert bound.app.received == []


# ---- inside


@pytest.fixture(scope="module")
def inside(nats_server: NatsServer, east_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    directory = tmp_path_factory.mktemp("inside")
    config = enabled(route_services_hairpinning=True, route_services_hairpinning_allowlist=["*.services.example", "one.example"])
    domains = [mtls_domain(f"*.{EAST}", east_ca)]
    with RouterProcess(directory, nats=nats_server, mtls_domains=domains, access_log=json_log(directory), **config) as process:
        yield process


@pytest.fixture(scope="module")
def inside_registrar(nats_server: NatsServer, inside: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, inside) as made:
        yield made


def test_a_service_that_is_an_app_here_is_asked_inside(
    inside: RouterProcess, inside_registrar: Registrar, backend: EchoBackend, alice: Credential
) -> None:
    """`route_services_hairpinning`: without DNS or balancer (the name exists nowhere else), with the caller's XFCC."""
    name, host = unique_host("services.example"), unique_host(EAST)
    with RouteService(inside, tls=False) as service:
        inside_registrar.register(name, backend=service)
        inside_registrar.register(host, backend=backend, route_service_url=f"https://{name}/check", options=ALLOWED)
        service.by = lambda scheme, host: Client(inside.ssl_port, Tls("localhost"))
        answer = get(inside.ssl_port, host, "/path", tls=Tls(host, alice))
        assert (answer.status, answer.get("x-route-service")) == (200, "seen")
        there = service.last
        assert (there.request_line, there.get("host")) == ("GET /check HTTP/1.1", name)
        assert there.get("x-cf-applicationid") is not None
        assert there.get(FORWARDED_URL) == f"https://{host}/path"
        assert (there.get("x-forwarded-proto"), there.get("x-forwarded-for")) == ("https", "127.0.0.1, 127.0.0.1")
        assert "OU=app:app-a" in xfcc_subject(there)
        assert xfcc_subject(backend.last) == xfcc_subject(there)


def test_only_what_is_on_the_list_is_asked_inside(
    inside: RouterProcess, inside_registrar: Registrar, backend: EchoBackend
) -> None:
    """`route_services_hairpinning_allowlist`: `*.` is one label; any other name goes by DNS, where these do not exist."""
    with RouteService(None, tls=False) as service:
        for name, status in (
            ("one.example", 200),
            (unique_host("services.example"), 200),
            (unique_host("deep.services.example"), 502),
            ("services.example", 502),
            (unique_host("two.example"), 502),
        ):
            host = unique_host(OPEN)
            inside_registrar.register(name, backend=service)
            inside_registrar.register(host, backend=backend, route_service_url=f"https://{name}/")
            assert get(inside.port, host).status == status, name
        assert len(service.received) == 2


def test_what_is_sent_inside_has_no_rights(
    inside: RouterProcess, inside_registrar: Registrar, backend: EchoBackend, alice: Credential
) -> None:
    """A service under a strict name cannot be asked inside: the router has no certificate of that domain."""
    name, host = unique_host(EAST), unique_host(OPEN)
    inside.reload(route_services_hairpinning_allowlist=[f"*.{EAST}", "*.services.example", "one.example"])
    with RouteService(None, tls=False) as service:
        inside_registrar.register(name, backend=service, options={"mtls_allow_any": True})
        inside_registrar.register(host, backend=backend, route_service_url=f"https://{name}/")
        assert error(get(inside.port, host)) == (421, "mtls_domain_mismatch")
        assert service.received == backend.received == []


def test_a_route_that_is_its_own_service_ends_at_its_app(
    inside: RouterProcess, inside_registrar: Registrar, backend: EchoBackend
) -> None:
    host = unique_host("services.example")
    inside_registrar.register(host, backend=backend, route_service_url=f"https://{host}/")
    assert get(inside.port, host, "/round").status == 200
    assert [request.request_line for request in backend.received] == ["GET / HTTP/1.1"]


def test_two_routes_that_are_each_others_service_end(
    inside: RouterProcess, inside_registrar: Registrar, backend: EchoBackend
) -> None:
    """A route service has no route service: what is on its way to one is for no other."""
    one, two = unique_host("services.example"), unique_host("services.example")
    inside_registrar.register(one, backend=backend, route_service_url=f"https://{two}/")
    inside_registrar.register(two, backend=backend, route_service_url=f"https://{one}/")
    assert error(get(inside.port, one)) == (502, "invalid_route_service_signature")
    assert backend.received == []
