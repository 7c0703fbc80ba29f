"""The promise: HTTP/2 connections end by GOAWAY, every stream that was let in is answered, and nobody who is idle delays it."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import EAST, OPEN, MakeRouter
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import CA, Credential
from tests.support.client import Client, Tls
from tests.support.http2_client import Answer, Code, FrameClient, Http2Client, headers_frame
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain, wait_until
from tests.support.websocket import Reader, echo, frame, open_websocket, read_frame

MakeRegistrar = Callable[[NatsServer, RouterProcess], Registrar]


class Yard:
    """A router of a test's own, with a host behind each door."""

    def __init__(self, router: RouterProcess, registrar: Registrar, backend: EchoBackend, east: CA) -> None:
        self.router, self.backend, self.east = router, backend, east
        self.strict, self.plain = unique_host(EAST), unique_host(OPEN)
        registrar.register(self.strict, self.plain, backend=backend, options={"mtls_allow_any": True})
        self.caller = east.issue_instance("app-a", "space-1", "org-1")

    def http2(self, host: str | None = None, caller: Credential | None = None) -> Http2Client:
        return Http2Client(self.router.ssl_port, Tls(host or self.plain, caller))

    def hold(self) -> "Held":
        """The next request waits at the backend until it is told to go on."""
        held = Held()
        self.backend.script(held)
        return held

    def reload(self, *domains: dict[str, Any]) -> None:
        assert self.router.reload(mtls_domains=list(domains)) == {'result="ok"': 1}


class Held:
    """A backend's step: half an answer, and the rest later."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        self.go_on.wait(15)
        exchange.send(b"other")


MakeYard = Callable[..., Yard]


@pytest.fixture
def make_yard(
    make_router: MakeRouter, make_registrar: MakeRegistrar, nats_server: NatsServer, backend: EchoBackend, east_ca: CA
) -> MakeYard:
    def make(**config: Any) -> Yard:
        router = make_router(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)], **config)
        return Yard(router, make_registrar(nats_server, router), backend, east_ca)

    return make


def begun(client: Http2Client, host: str) -> Answer:
    """A request whose answer has begun."""
    stream = client.open(host, "/held")
    client.wait(lambda: client.answer(stream).body, "half of the answer")
    return client.answer(stream)


def test_a_drain_lets_streams_end_and_no_others_begin(make_yard: MakeYard) -> None:
    """Health fails first, and new streams are served while balancers notice; then GOAWAY names the last stream: it is answered
    whole, a later one is not looked at, and the connection and the process end.
    """
    yard = make_yard(drain_wait="500ms")
    with yard.http2() as client:
        held = yard.hold()
        answer = begun(client, yard.plain)
        yard.router.signal(signal.SIGUSR1)
        wait_until(lambda: yard.router.health() == 503, "the health to turn bad")
        assert client.request(yard.plain, "/meanwhile").status == 200
        client.wait(lambda: client.goodbye, "GOAWAY")
        assert client.goodbye is not None
        assert (client.goodbye.code, client.goodbye.last) == (Code.NO_ERROR, 3)
        late = client.open(yard.plain, "/late")
        held.go_on.set()
        client.wait(lambda: answer.ended, "the rest of the answer")
        assert answer.body == b"firstother"
        client.wait_end()
        assert client.answer(late).status == 0
        assert client.answer(late).reset in (None, Code.REFUSED_STREAM)
    assert yard.router.wait_exit() == 0
    assert [one.request_line.split(" ")[1] for one in yard.backend.received] == ["/held", "/meanwhile"]


def test_idle_connections_end_at_once(make_yard: MakeYard) -> None:
    """Who has no stream open is told goodbye and closed; the process does not wait for the deadline."""
    yard = make_yard(drain_timeout="60s")
    with yard.http2() as fresh, yard.http2() as used:
        assert used.request(yard.plain).status == 200
        fresh.ping()
        began = time.monotonic()
        yard.router.signal(signal.SIGUSR1)
        for client, last in ((fresh, 0), (used, 1)):
            goodbye = client.wait_end()
            assert goodbye is not None
            assert (goodbye.code, goodbye.last) == (Code.NO_ERROR, last)
    assert yard.router.wait_exit() == 0
    assert time.monotonic() - began < 10


def test_scanners_do_not_hold_it_up(make_yard: MakeYard) -> None:
    """Connections that never said a thing, or half a thing: silent ones, half a handshake, no preface, half of one, no SETTINGS,
    half a frame, half a head. None of them has a request, so none of them is waited for.
    """
    yard = make_yard(drain_timeout="60s")
    port, plain, tls = yard.router.ssl_port, yard.router.port, Tls(yard.plain)
    with contextlib.ExitStack() as stack:
        stack.enter_context(Client(plain))
        stack.enter_context(Client(port))
        stack.enter_context(Client(port)).send(b"\x16\x03\x01")
        for first in (b"", b"PRI * HTT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            stack.enter_context(FrameClient(port, tls, greet=False)).write(first)
        stack.enter_context(FrameClient(port, tls)).write(b"\0\0")
        half = stack.enter_context(FrameClient(port, tls))
        half.write(headers_frame(1, half.head(yard.plain))[:-5])
        with yard.http2() as marker:
            assert marker.request(yard.plain).status == 200
        began = time.monotonic()
        yard.router.signal(signal.SIGUSR1)
        assert yard.router.wait_exit() == 0
        assert time.monotonic() - began < 10


def test_streams_that_take_too_long_are_cut(make_yard: MakeYard) -> None:
    """Contract h: at the drain's deadline what is left ends, and the exit status is 1."""
    yard = make_yard(drain_timeout="500ms")
    with yard.http2() as client:
        held = yard.hold()
        answer = begun(client, yard.plain)
        yard.router.signal(signal.SIGUSR1)
        client.wait_end()
        assert not answer.ended
        held.go_on.set()
    assert yard.router.wait_exit() == 1


def test_websockets_get_the_deadline_and_streams_their_end(make_yard: MakeYard) -> None:
    """A WebSocket that stays until the deadline does not keep HTTP/2 connections open, nor make the exit status 1."""
    yard = make_yard(drain_timeout="3s")
    with Client(yard.router.port) as websocket, yard.http2() as client:
        yard.backend.script(echo)
        open_websocket(websocket, yard.plain)
        held = yard.hold()
        answer = begun(client, yard.plain)
        yard.router.signal(signal.SIGUSR1)
        client.wait(lambda: client.goodbye, "GOAWAY")
        websocket.send(frame(b"still here", masked=True))
        assert read_frame(Reader(websocket.recv)) == b"still here"
        held.go_on.set()
        client.wait(lambda: answer.ended, "the rest of the answer")
        client.wait_end()
        assert websocket.closed_by_server()
    assert yard.router.wait_exit() == 0


def test_a_stop_is_at_once(make_yard: MakeYard) -> None:
    """Contract h: SIGTERM waits for no stream; what was half sent does not pass for the whole."""
    yard = make_yard()
    with yard.http2() as client:
        held = yard.hold()
        answer = begun(client, yard.plain)
        began = time.monotonic()
        yard.router.signal(signal.SIGTERM)
        client.wait_end()
        assert yard.router.wait_exit() == 0
        assert time.monotonic() - began < 5
        assert not answer.ended
        held.go_on.set()


# A policy that changes


def test_a_changed_policy_says_goodbye_and_honours_the_last_stream(make_yard: MakeYard, west_ca: CA) -> None:
    """Other authorities for the domain: the stream that was let in before ends as it would have, the connection takes no later
    ones, and a fresh handshake is by the new policy.
    """
    yard = make_yard()
    with yard.http2(yard.strict, yard.caller) as client, yard.http2() as bystander:
        held = yard.hold()
        answer = begun(client, yard.strict)
        yard.reload(mtls_domain(f"*.{EAST}", west_ca))
        later = client.open(yard.strict, "/later")
        client.wait(lambda: client.goodbye, "GOAWAY")
        assert client.goodbye is not None
        assert client.goodbye.code == Code.NO_ERROR
        held.go_on.set()
        client.wait(lambda: answer.ended, "the rest of the answer")
        assert answer.body == b"firstother"
        client.wait_end()
        if client.goodbye.last >= later:
            assert client.answer(later).refusal == (421, "mtls_domain_mismatch")
        else:
            assert client.answer(later).status == 0
        assert bystander.request(yard.plain).status == 200
        assert bystander.goodbye is None
    assert "/later" not in str([one.request_line for one in yard.backend.received])
    with yard.http2(yard.strict, west_ca.issue_instance("app-w")) as client:
        assert client.request(yard.strict).status == 200


def test_after_a_changed_policy_the_answer_is_421_and_the_end(make_yard: MakeYard, west_ca: CA) -> None:
    """As over HTTP/1.1: a stream on a connection whose handshake enforced another policy gets 421, or is not looked at,
    and the connection ends so that the client comes back with a fresh handshake.
    """
    yard = make_yard()
    with yard.http2(yard.strict, yard.caller) as client:
        assert client.request(yard.strict).status == 200
        seen = len(yard.backend.received)
        yard.reload(mtls_domain(f"*.{EAST}", west_ca))
        stream = client.open(yard.strict)
        goodbye = client.wait_end()
        assert goodbye is not None
        assert goodbye.code == Code.NO_ERROR
        assert client.answer(stream).refusal == ((421, "mtls_domain_mismatch") if goodbye.last >= stream else (0, None))
        assert len(yard.backend.received) == seen


def test_a_reload_that_changes_no_client_policy_ends_nothing(make_yard: MakeYard, east_ca: CA) -> None:
    """Other keys, the same policy: connections and their streams stay, and are judged by the new configuration."""
    yard = make_yard()
    with yard.http2(yard.strict, yard.caller) as client:
        assert client.request(yard.strict).status == 200
        yard.reload(mtls_domain(f"*.{EAST}", east_ca, orgs=["somebody-else"]))
        assert client.request(yard.strict).refusal == (403, "mtls_authorization_denied")
        yard.reload(mtls_domain(f"*.{EAST}", east_ca))
        assert client.request(yard.strict).status == 200
        assert client.goodbye is None


def test_a_changed_policy_is_told_to_who_asks_nothing(make_yard: MakeYard, west_ca: CA) -> None:
    """At the reload, not with the next request: an idle connection ends, one with a stream ends behind it; others stay."""
    yard = make_yard()
    with (
        yard.http2(yard.strict, yard.caller) as idle,
        yard.http2(yard.strict, yard.caller) as busy,
        yard.http2() as bystander,
    ):
        assert (idle.request(yard.strict).status, bystander.request(yard.plain).status) == (200, 200)
        held = yard.hold()
        answer = begun(busy, yard.strict)
        yard.reload(mtls_domain(f"*.{EAST}", west_ca))
        goodbyes = [idle.wait_end(), busy.wait(lambda: busy.goodbye, "GOAWAY")]
        assert [each and each.code for each in goodbyes] == [Code.NO_ERROR] * 2
        held.go_on.set()
        busy.wait(lambda: answer.ended, "the rest of the answer")
        assert answer.body == b"firstother"
        busy.wait_end()
        assert bystander.request(yard.plain).status == 200
        assert bystander.goodbye is None
