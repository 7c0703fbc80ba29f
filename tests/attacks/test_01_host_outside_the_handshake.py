"""Attacks 1, 2, 4 to 8: a Host whose domain the handshake did not enforce, in every spelling."""

import pytest
from OpenSSL import SSL

from tests.attacks.conftest import Door, MakeRegistrar, assert_misdirected, assert_unseen
from tests.conftest import EAST, OPEN, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential
from tests.support.client import Alert, Client, Tls, expect_alert, get, render_request
from tests.support.nats import NatsServer
from tests.support.register import unique_host
from tests.support.router import RouterProcess, mtls_domain

VERSIONS = [
    pytest.param(SSL.TLS1_2_VERSION, Alert.HANDSHAKE_FAILURE, id="tls12"),
    pytest.param(SSL.TLS1_3_VERSION, Alert.CERTIFICATE_REQUIRED, id="tls13"),
]


def test_a_strict_host_behind_an_open_handshake_is_misdirected(router: RouterProcess, strict: Door, open_door: Door) -> None:
    """Attack 1: SNI A, Host B, no certificate: 421 before any backend contact, counted and in the access log."""
    before = router.metric("mtls_misdirected", domain=f"*.{EAST}")
    assert_misdirected(get(router.ssl_port, strict.host, "/one", tls=Tls(open_door.host)), strict, open_door)
    assert router.metric("mtls_misdirected", domain=f"*.{EAST}") == before + 1
    assert '"GET /one HTTP/1.1" 421 ' in router.wait_for_log(strict.host)


def test_the_421_does_not_tell_which_routes_exist(router: RouterProcess, strict: Door, open_door: Door) -> None:
    """Attack 1: a strict host that nobody registered gets the very answer of one that exists."""
    known = get(router.ssl_port, strict.host, tls=Tls(open_door.host))
    unknown = get(router.ssl_port, unique_host(EAST), tls=Tls(open_door.host))
    assert_misdirected(unknown, strict, open_door)
    assert [n for n, _ in known.headers] == [n for n, _ in unknown.headers]


def test_a_strict_host_over_plain_http_is_misdirected(router: RouterProcess, strict: Door) -> None:
    """Attack 1: without any handshake there is nothing that enforced B."""
    assert_misdirected(get(router.port, strict.host), strict)


@pytest.mark.parametrize(
    ("spelling", "target", "status"),
    [
        ("{HOST}", "/", 421),
        ("{host}.", "/", 421),
        ("{HOST}.", "/", 421),
        ("{host}:443", "/", 421),
        ("{host}:8080", "/", 421),
        ("{HOST}.:443", "/", 421),
        ("{host}", "https://{host}/", 421),
        ("{host}", "HTTP://{HOST}/", 421),
        ("{host}:443", "https://{host}/", 421),
        ("{open}", "https://{host}/", 400),
        ("{host}", "https://{open}/", 400),
        ("{host}", "https://{open}@{host}/", 400),
        ("{open}@{host}", "/", 400),
        ("{host},{open}", "/", 400),
        ("{open} {host}", "/", 400),
        ("{host}..", "/", 400),
        ("{host}:", "/", 400),
        ("{host}:0", "/", 400),
        ("{host}:port", "/", 400),
        ("{host}/", "/", 400),
        ("{host}\\", "/", 400),
        ("{host}%00.{open}", "/", 400),
    ],
)
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_no_spelling_of_a_strict_host_passes_an_open_handshake(
    router: RouterProcess, strict: Door, open_door: Door, spelling: str, target: str, status: int, tls: bool
) -> None:
    """Attack 2: Host in another case, with dot, port or absolute-form target: 421, or 400 where it is no one host."""
    names = {"host": strict.host, "HOST": strict.host.upper(), "open": open_door.host}
    port, settings = (router.ssl_port, Tls(open_door.host)) if tls else (router.port, None)
    with Client(port, settings) as client:
        response = client.request(spelling.format(**names), target.format(**names))
        code = "mtls_domain_mismatch" if status == 421 else "malformed_request"
        assert (response.status, response.get("x-cf-routererror")) == (status, code)
        assert status == 421 or client.closed_by_server()
    assert_unseen(strict, open_door)


def test_two_hosts_in_one_request_are_refused(router: RouterProcess, strict: Door, open_door: Door) -> None:
    """Attack 2: two Host fields, whichever comes first: 400."""
    for first, second in ((open_door.host, strict.host), (strict.host, open_door.host)):
        response = get(router.ssl_port, first, tls=Tls(open_door.host), headers=[("Host", second)])
        assert (response.status, response.get("x-cf-routererror")) == (400, "malformed_request")
    assert_unseen(strict, open_door)


@pytest.mark.parametrize(
    "name", ["X-Forwarded-Host", "X-Host", "X-Original-Host", "Forwarded", "X-Rewrite-URL", "X-Original-URL"]
)
def test_no_other_header_names_the_host(router: RouterProcess, strict: Door, open_door: Door, name: str) -> None:
    """Attack 2: X-Forwarded-Host and its kin neither lead an open Host into B nor excuse a strict one."""
    inwards = [(name, f"host={strict.host}" if name == "Forwarded" else strict.host)]
    assert get(router.ssl_port, open_door.host, tls=Tls(open_door.host), headers=inwards).status == 200
    assert len(open_door.backend.received) == 1
    outwards = [(name, f"host={open_door.host}" if name == "Forwarded" else open_door.host)]
    assert_misdirected(get(router.ssl_port, strict.host, tls=Tls(open_door.host), headers=outwards), strict)
    assert len(open_door.backend.received) == 1


def test_each_request_of_a_connection_is_judged_by_itself(router: RouterProcess, strict: Door, open_door: Door) -> None:
    """Attack 4: A, then B, then A again on one keep-alive connection: 200, 421, 200."""
    with Client(router.ssl_port, Tls(open_door.host)) as client:
        assert client.request(open_door.host).status == 200
        assert_misdirected(client.request(strict.host), strict)
        assert client.request(open_door.host).status == 200
    assert len(open_door.backend.received) == 2


def test_pipelined_requests_are_judged_one_by_one(router: RouterProcess, strict: Door, open_door: Door) -> None:
    """Attack 4: the same in one write, with a body before the misdirected request."""
    with Client(router.ssl_port, Tls(open_door.host)) as client:
        first = render_request(open_door.host, method="POST", body=b"GET / HTTP/1.1\r\nHost: smuggled\r\n\r\n")
        client.send(first + render_request(strict.host) + render_request(open_door.host))
        assert [client.read_response().status for _ in range(3)] == [200, 421, 200]
    assert_unseen(strict)
    assert len(open_door.backend.received) == 2


def test_a_strict_connection_serves_no_host_outside_its_domain(
    router: RouterProcess, strict: Door, open_door: Door, caller: Credential
) -> None:
    """Attack 4: a connection whose handshake enforced B gives 421 for A's host, and goes on for B's."""
    with Client(router.ssl_port, Tls(strict.host, caller)) as client:
        assert_misdirected(client.request(open_door.host), open_door)
        assert client.request(strict.host).status == 200


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION], ids=["tls12", "tls13"])
def test_a_certificate_in_hand_does_not_help_an_open_handshake(
    router: RouterProcess, strict: Door, open_door: Door, caller: Credential, version: int
) -> None:
    """Attack 5: SNI A with a certificate of B's authority, Host B: 421, since A's handshake asked for none."""
    tls = Tls(open_door.host, caller, minimum=version, maximum=version)
    assert_misdirected(get(router.ssl_port, strict.host, tls=tls), strict, open_door)
    assert get(router.ssl_port, open_door.host, tls=tls).status == 200
    assert open_door.backend.received[0].all("x-forwarded-client-cert") == []


def test_a_certificate_is_accepted_by_the_policy_of_its_sni_alone(
    router: RouterProcess, strict: Door, caller: Credential, stranger: Credential
) -> None:
    """Attack 5: C's certificate opens C, not B: alert 48 on B's SNI, 421 for B's Host behind C's SNI."""
    other = unique_host("west.example")
    assert expect_alert(router.ssl_port, Tls(strict.host, stranger)) == Alert.UNKNOWN_CA
    assert expect_alert(router.ssl_port, Tls(other, caller)) == Alert.UNKNOWN_CA
    assert_misdirected(get(router.ssl_port, strict.host, tls=Tls(other, stranger)), strict)


@pytest.mark.parametrize(
    "sni", [None, "127.0.0.1", "::1", "[::1]", "unknown.invalid", "localhost", "east.example", "xeast.example"]
)
@pytest.mark.parametrize("certified", [False, True], ids=["bare", "certified"])
def test_a_name_that_is_in_no_strict_domain_never_opens_one(
    router: RouterProcess, strict: Door, caller: Credential, sni: str | None, certified: bool
) -> None:
    """Attack 6: no SNI, an address, an unknown name or B's bare suffix as SNI: Host B gets 421."""
    assert_misdirected(get(router.ssl_port, strict.host, tls=Tls(sni, caller if certified else None)), strict)


@pytest.mark.parametrize(("version", "alert"), VERSIONS)
@pytest.mark.parametrize("spelling", ["{host}", "{HOST}", "{host}.", "{HOST}.", "x.y.{host}", "unregistered.EAST.example"])
def test_every_spelling_of_a_strict_name_gets_the_strict_policy(
    router: RouterProcess, strict: Door, caller: Credential, spelling: str, version: int, alert: int
) -> None:
    """Attack 7: SNI B in upper case or with a final dot, no certificate: B's alert; with one, B's host answers."""
    sni = spelling.format(host=strict.host, HOST=strict.host.upper())
    request = render_request(strict.host)
    assert expect_alert(router.ssl_port, Tls(sni, minimum=version, maximum=version), request) == alert
    assert_unseen(strict)
    assert get(router.ssl_port, strict.host, tls=Tls(sni, caller, minimum=version, maximum=version)).status == 200


@pytest.mark.parametrize("below", ["x", "x.y", "x.y.z", "*"])
def test_a_wildcard_domain_claims_every_depth(router: RouterProcess, open_door: Door, below: str) -> None:
    """Attack 8: strict `*.b`, permissive SNI, Host at any depth below b: 421; `*` itself is no host: 400."""
    response = get(router.ssl_port, f"{below}.{EAST}", tls=Tls(open_door.host))
    assert response.status == (400 if below == "*" else 421)
    assert_unseen(open_door)


def test_the_most_specific_domain_is_the_one_that_counts(
    make_router: MakeRouter,
    make_registrar: MakeRegistrar,
    nats_server: NatsServer,
    east_ca: CA,
    west_ca: CA,
    backend: EchoBackend,
) -> None:
    """Attack 8: a host with a domain entry of its own below a wildcard one is not served by the wildcard's handshake."""
    vip, deep = f"vip.{EAST}", f"x.deep.{EAST}"
    domains = [mtls_domain(f"*.{EAST}", east_ca), mtls_domain(vip, west_ca), mtls_domain(f"*.deep.{EAST}", west_ca)]
    router = make_router(mtls_domains=domains)
    routes = (vip, deep, f"plain.{EAST}", f"plain.{OPEN}")  # no wildcard: the shared router hears this NATS too
    make_registrar(nats_server, router).register(*routes, backend=backend, options={"mtls_allow_any": True})
    east, west = east_ca.issue_instance("a"), west_ca.issue_instance("a")
    for host in (vip, deep):
        assert_misdirected(get(router.ssl_port, host, tls=Tls(f"plain.{EAST}", east)))
        assert_misdirected(get(router.ssl_port, host, tls=Tls(f"plain.{OPEN}")))
        assert expect_alert(router.ssl_port, Tls(host, east)) == Alert.UNKNOWN_CA
        assert_misdirected(get(router.ssl_port, f"plain.{EAST}", tls=Tls(host, west)))
    assert_misdirected(get(router.ssl_port, deep, tls=Tls(vip, west)))
    assert backend.received == []
    assert get(router.ssl_port, vip, tls=Tls(vip, west)).status == 200
