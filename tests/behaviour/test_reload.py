"""The promise: SIGHUP takes the whole new configuration or nothing of it, and no connection pays for it."""

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.demo.process import free_port
from tests.conftest import EAST, OPEN, WEST, MakeRouter
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import CA, authority
from tests.support.client import Alert, Client, Tls, expect_alert, get, render_request
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain, tls_pem, wait_until

OK, ERROR = {'result="ok"': 1.0}, {'result="error"': 1.0}
ORG, OTHER_ORG = "org-1", "org-2"


@pytest.fixture(scope="module")
def reloaded(nats_server: NatsServer, east_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    domains = [mtls_domain(f"*.{EAST}", east_ca, orgs=[ORG])]
    with RouterProcess(tmp_path_factory.mktemp("reloaded"), nats=nats_server, mtls_domains=domains) as process:
        yield process


@pytest.fixture
def router(reloaded: RouterProcess) -> Iterator[RouterProcess]:
    """One router for all, which has the configuration of its start again after each test."""
    with reloaded.restored():
        yield reloaded


@pytest.fixture(scope="module")
def registrar(reloaded: RouterProcess, nats_server: NatsServer) -> Iterator[Registrar]:
    with Registrar(nats_server.port, reloaded) as made:
        yield made


@pytest.fixture
def host(registrar: Registrar, backend: EchoBackend) -> str:
    name = unique_host(OPEN)
    registrar.register(name, backend=backend)
    return name


@pytest.fixture
def strict(registrar: Registrar, backend: EchoBackend) -> str:
    name = unique_host(EAST)
    registrar.register(name, backend=backend, options={"mtls_allow_any": True})
    return name


def test_a_list_judges_the_next_request_of_a_live_connection(
    router: RouterProcess, strict: str, east_ca: CA, backend: EchoBackend
) -> None:
    """Decision 6: an org taken off (and put back on) the list is refused (and admitted) on the same connection."""
    caller = east_ca.issue_instance("app", "space", ORG)
    with Client(router.ssl_port, Tls(strict, credential=caller)) as client:
        assert client.request(strict).status == 200
        assert router.reload(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca, orgs=[OTHER_ORG])]) == OK
        refused = client.request(strict)
        assert (refused.status, refused.get("x-cf-routererror")) == (403, "mtls_authorization_denied")
        assert router.reload(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca, orgs=[ORG])]) == OK
        assert client.request(strict).status == 200
    assert len(backend.received) == 2


def test_new_authorities_let_nobody_go_on_under_the_old_ones(
    router: RouterProcess, strict: str, east_ca: CA, west_ca: CA, backend: EchoBackend
) -> None:
    """Decision 6: after ca_certs changed, an old connection gets 421 and a close; the new authority's callers get in."""
    old, new = (ca.issue_instance("app", "space", ORG) for ca in (east_ca, west_ca))
    with Client(router.ssl_port, Tls(strict, credential=old)) as client:
        assert client.request(strict).status == 200
        assert router.reload(mtls_domains=[mtls_domain(f"*.{EAST}", west_ca, orgs=[ORG])]) == OK
        refused = client.request(strict)
        assert (refused.status, refused.get("x-cf-routererror")) == (421, "mtls_domain_mismatch")
        assert client.closed_by_server()
    assert expect_alert(router.ssl_port, Tls(strict, credential=old)) == Alert.UNKNOWN_CA
    assert get(router.ssl_port, strict, tls=Tls(strict, credential=new)).status == 200
    assert len(backend.received) == 2


def test_a_domain_that_comes_is_strict_at_once(
    router: RouterProcess, registrar: Registrar, backend: EchoBackend, east_ca: CA, west_ca: CA
) -> None:
    """Decision 6, R310: a host that was open becomes strict for connections made before, too."""
    name = unique_host(WEST)
    registrar.register(name, backend=backend, options={"mtls_allow_any": True})
    with Client(router.ssl_port, Tls(name)) as client, Client(router.port) as plain:
        assert (client.request(name).status, plain.request(name).status) == (200, 200)
        domains = [mtls_domain(f"*.{EAST}", east_ca, orgs=[ORG]), mtls_domain(f"*.{WEST}", west_ca)]
        assert router.reload(mtls_domains=domains) == OK
        assert (client.request(name).status, plain.request(name).status) == (421, 421)
    assert expect_alert(router.ssl_port, Tls(name)) == Alert.CERTIFICATE_REQUIRED
    caller = west_ca.issue_instance("app")
    assert get(router.ssl_port, name, tls=Tls(name, credential=caller)).status == 200
    assert len(backend.received) == 3


def test_a_new_server_certificate_closes_nothing(router: RouterProcess, strict: str, host: str, east_ca: CA) -> None:
    """Decision 6, R174: new handshakes show the new certificate, established connections go on."""
    fresh = authority("server").issue_server("localhost", f"*.{OPEN}", f"*.{EAST}")
    caller = east_ca.issue_instance("app", "space", ORG)
    with (
        Client(router.ssl_port, Tls(strict, credential=caller)) as inside,
        Client(router.ssl_port, Tls(host)) as outside,
    ):
        assert (inside.request(strict).status, outside.request(host).status) == (200, 200)
        assert router.reload(tls_pem=[tls_pem(fresh)]) == OK
        assert (inside.request(strict).status, outside.request(host).status) == (200, 200)
        assert outside.server_certificate != fresh.certificate
    with Client(router.ssl_port, Tls(host)) as client:
        assert client.server_certificate == fresh.certificate


def test_certificates_named_by_path_are_read_again(make_router: MakeRouter, tmp_path: Path) -> None:
    """A rotation is new files and SIGHUP; the YAML need not change."""
    old, new = (authority("server").issue_server("localhost") for _ in range(2))
    chain, key = old.files(tmp_path)
    router = make_router(tls_pem=[{"cert_chain": str(chain), "private_key": str(key)}])
    chain.write_text(new.chain_pem)
    key.write_text(new.key_pem)
    assert router.reload() == OK
    with Client(router.ssl_port, Tls()) as client:
        assert client.server_certificate == new.certificate


@pytest.mark.parametrize(
    "broken",
    [
        {"no_such_key": 1}, {"endpoint_timeout": "soon"}, {"mtls_domains": [{"domain": "x.example"}]},
        {"enable_proxy": True, "proxy_protocol_trusted": []}, {"mtls_domains": [{"domain": "a.*.example", "ca_certs": "x"}]},
    ],
    ids=["unknown key", "value", "domain without CA", "enable_proxy", "pattern"],
)  # fmt: skip
def test_a_bad_file_changes_nothing(
    router: RouterProcess, strict: str, host: str, east_ca: CA, broken: dict[str, object]
) -> None:
    """Issue, bad input: the last good configuration stays whole; the log says each problem, the metric counts."""
    caller, before = east_ca.issue_instance("app", "space", ORG), len(router.stdout)
    with Client(router.ssl_port, Tls(strict, credential=caller)) as client:
        assert client.request(strict).status == 200
        assert router.reload(max_request_headers=100, **broken) == ERROR
        assert client.request(strict).status == 200
    for event in ("config-problem", "config-reload-failed"):
        wait_until(lambda event=event: event in router.stdout[before:], event)  # type: ignore[misc]
    # The good half of the bad file was not taken either.
    assert get(router.port, host, headers=[(f"X-{number}", "1") for number in range(110)]).status == 200


@pytest.mark.parametrize("content", ["", "][", "- a list", "port: 1\nport: 2\n"], ids=["empty", "no YAML", "list", "twice"])
def test_a_file_that_is_no_configuration_changes_nothing(router: RouterProcess, host: str, content: str) -> None:
    """Issue, bad input: what does not parse keeps the last good configuration."""
    failed = router.metric("config_reloads", result="error")
    router.config_file.write_text(content)
    router.signal(signal.SIGHUP)
    router.wait_for_metric("config_reloads", failed + 1, result="error")
    assert get(router.port, host).status == 200


def test_a_file_that_is_gone_changes_nothing(router: RouterProcess, host: str) -> None:
    """Issue, bad input: so does a file that cannot be read."""
    failed = router.metric("config_reloads", result="error")
    router.config_file.unlink()
    router.signal(signal.SIGHUP)
    router.wait_for_metric("config_reloads", failed + 1, result="error")
    assert get(router.port, host).status == 200


def test_ports_move(router: RouterProcess, host: str) -> None:
    """New ports listen before old ones close; connections of the old ones go on."""
    old, new = router.port, free_port()
    with Client(old) as client:
        assert client.request(host).status == 200
        assert router.reload(port=new) == OK
        assert get(new, host).status == 200
        with pytest.raises(ConnectionRefusedError):
            Client(old)
        assert client.request(host).status == 200
    assert router.reload(port=old) == OK
    assert get(old, host).status == 200


def test_a_listener_can_be_closed_and_opened(router: RouterProcess, host: str) -> None:
    """Disable_http takes the plain listener away, and its absence gives it back."""
    assert router.reload(disable_http=True) == OK
    with pytest.raises(ConnectionRefusedError):
        Client(router.port)
    assert get(router.ssl_port, host, tls=Tls(host)).status == 200
    assert router.reload(disable_http=False) == OK
    assert get(router.port, host).status == 200


def test_a_port_that_is_taken_changes_nothing(router: RouterProcess, host: str, backend: EchoBackend) -> None:
    """The reload fails as a whole: the old port goes on, other new values are not taken."""
    assert router.reload(port=backend.port, max_request_headers=100) == ERROR
    assert get(router.port, host, headers=[(f"X-{number}", "1") for number in range(110)]).status == 200


def test_an_exchange_in_flight_ends_as_it_began(router: RouterProcess, host: str, backend: EchoBackend) -> None:
    """A response that streams across a reload is whole, and its connection goes on."""
    before = router.metric("config_reloads")

    def slow(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        wait_until(lambda: router.metric("config_reloads") > before, "the reload")
        exchange.send(b"half")

    backend.script(slow)
    with Client(router.port) as client:
        client.send(render_request(host))
        wait_until(lambda: backend.received, "the request")
        assert router.reload(backends={"max_attempts": 1}) == OK
        assert client.read_response().body == b"halfhalf"
        assert client.request(host).status == 200


def test_limits_hold_from_the_next_request_on(router: RouterProcess, host: str) -> None:
    """Decision 6: a live connection is under the new bounds."""
    many = [(f"X-{number}", "1") for number in range(60)]
    with Client(router.port) as client:
        assert client.request(host, headers=many).status == 200
        assert router.reload(max_request_headers=50) == OK
        assert client.request(host, headers=many).status == 431


def test_the_last_of_many_signals_wins(router: RouterProcess, host: str) -> None:
    """Signals in a burst end with the configuration of the last file, and every generation is whole."""
    for number in range(50, 58):
        router.write_config(max_request_headers=number)
        router.signal(signal.SIGHUP)
        time.sleep(0.01)
    # 58 fields are too many for every file of the burst, 57 fields only fit the last.
    fields = [(f"X-{number}", "1") for number in range(56)]
    wait_until(lambda: get(router.port, host, headers=fields).status == 200, "the last file to be in force")
    wait_until(lambda: not _reloading(router), "the router to be done with every signal")
    assert get(router.port, host, headers=fields).status == 200
    assert get(router.port, host, headers=[*fields, ("X-Last", "1")]).status == 431


def _reloading(router: RouterProcess) -> bool:
    before = router.metric("config_reloads")
    time.sleep(0.3)
    return router.metric("config_reloads") > before


def test_the_access_log_is_opened_anew(router: RouterProcess, host: str) -> None:
    """After a rotation by rename, SIGHUP lets the router write to a new file; no line is lost."""
    log = router.directory / "access.log"
    assert get(router.port, host, "/before").status == 200
    router.wait_for_log("/before")
    log.rename(router.directory / "access.log.1")
    assert router.reload() == OK
    assert get(router.port, host, "/after").status == 200
    router.wait_for_log("/after")
    assert "/before" in (router.directory / "access.log.1").read_text()
    assert "/before" not in log.read_text()


def test_keys_that_need_a_restart_are_named(router: RouterProcess) -> None:
    """What a reload cannot carry out is said, not silently ignored."""
    assert router.reload(index=7, droplet_stale_threshold="77s") == OK
    line = router.wait_for_event("config-needs-restart")
    assert "index" in line
    assert "droplet_stale_threshold" in line


def test_the_generation_counts_good_reloads(router: RouterProcess, host: str) -> None:
    """House: every snapshot has a number; a failed reload takes none."""
    reloaded = (re.search(r'"config-reloaded".*"generation":(\d+)', line) for line in router.events)
    last = max([1, *(int(found[1]) for found in reloaded if found)])
    router.reload(endpoint_timeout="800s")
    router.reload(endpoint_timeout="never")
    router.reload(endpoint_timeout="900s")
    wanted = f'"generation":{last + 2}'
    router.wait_for_event(lambda line: "config-reloaded" in line and wanted in line)
    assert not any(f'"generation":{last + 3}' in line for line in router.events)
