"""What is not in an mTLS domain is served as if there were none, and without mtls_domains nothing changes at all."""

from collections.abc import Iterator

import pytest

from tests.behaviour.conftest import ANY, OPEN, At, json_log
from tests.behaviour.place import Place, Seen, make_place
from tests.support.certs import Credential
from tests.support.client import Client, Tls
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import RouterProcess


def test_an_open_host_asks_for_no_certificate(at: At) -> None:
    """R246: on the same port as the mTLS domains a client without a certificate is served, and none is asked for."""
    place = at(OPEN)
    before = place.router.metric("tls_handshakes", domain="", result="ok")
    with place.connect() as client:
        assert client.tls is not None
        assert client.tls.get_client_ca_list() == []
        call = place.ask(client)
    assert call.response.status == 200
    assert call.seen == Seen(None, None, None)
    assert place.router.metric("tls_handshakes", domain="", result="ok") == before + 1


def test_a_certificate_in_hand_changes_nothing_there(at: At, alice: Credential) -> None:
    """R246: a client with a certificate is served like anybody, and it is neither verified nor told on."""
    call = at(OPEN).call(alice)
    assert call.response.status == 200
    assert call.at_backend.get("x-forwarded-client-cert") is None
    assert call.record["caller_cf_app"] is None


def test_plain_http_to_an_open_host_is_served(at: At) -> None:
    """R246: the plain port serves the open domain as ever."""
    assert at(OPEN).call(plain=True).response.status == 200


def test_open_clients_resume_their_sessions(at: At) -> None:
    """R246, decision 1: resumption stays on for open hosts, and is off for mTLS ones."""
    place = at(OPEN)
    with place.connect() as client:
        place.ask(client)
        session = client.session
    resumed = False
    for _ in range(place.router.tries):  # a ticket is good at the worker that issued it
        with Client(place.router.ssl_port, Tls(place.host, session=session)) as again:
            assert place.ask(again).response.status == 200
            resumed |= again.resumed
    assert resumed


def test_mtls_clients_never_resume(at: At, alice: Credential) -> None:
    """Decision 1: every connection of an mTLS domain verifies the certificate anew."""
    place = at(ANY, {"mtls_allow_any": True})
    with place.connect(alice) as client:
        place.ask(client)
        session = client.session
    for _ in range(place.router.tries):
        with Client(place.router.ssl_port, Tls(place.host, alice, session=session)) as again:
            assert not again.resumed
            place.ask(again).assert_allowed("route:mtls_allow_any")


@pytest.fixture(scope="module")
def bare(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """A router without any domain."""
    directory = tmp_path_factory.mktemp("bare")
    with RouterProcess(directory, nats=nats_server, access_log=json_log(directory)) as process:
        yield process


@pytest.fixture
def plain_place(bare: RouterProcess, nats_server: NatsServer) -> Iterator[Place]:
    with Registrar(nats_server.port, bare) as registrar:
        place = make_place(bare, registrar, "*.any.test")
        yield place
        place.leave()


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_without_mtls_domains_nothing_changes(bare: RouterProcess, plain_place: Place, tls: bool) -> None:
    """R250: opt-in: every host is open, no 421, no 403, no decision counted."""
    plain_place.register()
    call = plain_place.call(plain=not tls)
    assert call.response.status == 200
    assert call.seen == Seen(None, None, None)
    assert bare.metric_values("mtls_decisions") == bare.metric_values("mtls_misdirected") == {}


def test_without_mtls_domains_options_only_warn(bare: RouterProcess, plain_place: Place) -> None:
    """R250, R251: mtls_allowed_* then has no effect but a warning in the log."""
    plain_place.register({"mtls_allowed_apps": "g1"})
    call = plain_place.call()
    assert call.response.status == 200
    reason = "route specifies mtls_allowed_apps but its domain is no mTLS domain; rules ignored"
    assert call.seen == Seen("not_enforced", None, reason)
    line = bare.wait_for_event(lambda line: "route-options-not-enforced" in line and plain_place.host in line)
    assert reason in line
