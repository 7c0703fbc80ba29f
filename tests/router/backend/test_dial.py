"""router/backend/dial.py: a new backend connection, real TCP and TLS, and the fault for each way it fails."""

import asyncio
import contextlib
import datetime as dt
import errno
import math
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from authz.deny import NO_DENY, DenyLists
from registry.endpoint import Endpoint
from router.backend.dial import BackendTls, Dialer, chose_http1
from router.faults import Fault
from router.net.deadline import Wheel
from router.tls.session import TlsStream
from tests.router.backend.parts import endpoint
from tests.router.net.pairs import soon
from tests.support.backend import EchoBackend
from tests.support.certs import Credential, authority
from tests.support.failing import Mute
from tests.support.waiting import until

BACKENDS = authority("backends")
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
Make = Callable[..., EchoBackend]


def dialer(
    *, verify: bool = True, own: Credential | None = None, dial: float = 5.0, shake: float = 5.0, deny: DenyLists = NO_DENY
) -> Dialer:
    loop = asyncio.get_running_loop()
    chain = (own.certificate, *own.intermediates) if own is not None else ()
    key = own.key if own is not None else None
    tls = BackendTls((BACKENDS.certificate,), system_roots=False, verify=verify, chain=chain, key=key)
    return Dialer(tls, loop, Wheel(loop), dial, shake, deny=deny)


async def fault_of(one: Dialer, to: Endpoint) -> str:
    with pytest.raises(Fault) as raised:
        await one.dial(to)
    return raised.value.kind


async def test_a_plain_endpoint_is_connected(backend: EchoBackend) -> None:
    """A stream that speaks with it; nothing was sent, and the time it took is known."""
    upstream = await dialer().dial(endpoint(backend.port))
    assert upstream.dial_time >= 0
    assert upstream.tls_time == 0.0
    assert not upstream.reused
    await upstream.stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", soon())
    assert (await upstream.stream.recv(soon())).startswith(b"HTTP/1.1 200 OK")
    upstream.close()


def test_what_of_a_request_left_is_known_to_the_record() -> None:
    """A call to OpenSSL takes one record and says so (SSL_MODE_ENABLE_PARTIAL_WRITE): a request that left in part is never sent
    again as if it had not.
    """
    tls = BackendTls((), system_roots=False, verify=False)
    assert tls.context().set_mode(0) & 1


async def test_http2_is_offered_where_it_is_wanted(make_backend: Make) -> None:
    """ALPN, and the choice is the endpoint's: who knows nothing of it has not chosen it."""
    backend = make_backend(credential=BACKENDS.issue_server("backend.example"))
    to = endpoint(backend.port, tls=True, san="backend.example")
    offered = []
    for known in ([], ["http/1.1"], ["h2"]):
        if known:
            backend.choose(known)
        for dial in (dialer().dial_http2, dialer().dial):
            upstream = await dial(to)
            offered.append(not chose_http1(upstream))
            upstream.close()
    assert offered == [False, False, False, False, True, False]


async def test_a_connect_may_have_a_deadline_of_its_own() -> None:
    """`websocket_dial_timeout`: instead of the usual one."""
    with Mute(full=True) as mute, pytest.raises(Fault) as raised:
        await dialer(dial=600.0).dial(endpoint(mute.port), within=0.1)
    assert raised.value.kind == "dial_timeout"


LOOPBACK = DenyLists(networks=(ip_network("127.0.0.0/8"), ip_network("::1")))


@pytest.mark.parametrize(("host", "connections"), [("127.0.0.1", 0), ("localhost", 0), ("::ffff:127.0.0.1", 0), ("0.0.0.0", 1)])
async def test_no_byte_goes_to_an_address_that_is_denied(make_backend: Make, host: str, connections: int) -> None:
    """R238: known before it is dialled, or by the system's word on who answered, before the handshake."""
    backend = make_backend(credential=BACKENDS.issue_server("backend.example"))
    to = endpoint(backend.port, host, tls=True, san="backend.example")
    assert await fault_of(dialer(deny=LOOPBACK), to) == "dial_denied"
    await until(lambda: backend.connections == connections and not backend.open_connections, "the backend to see it end")
    assert backend.received == []
    assert not any("ClientHello" in error for error in backend.errors)


async def test_an_address_that_is_not_denied_is_remembered_as_such(backend: EchoBackend) -> None:
    """By the lists themselves, so that a pooled connection is looked at once a configuration."""
    others = DenyLists(networks=(ip_network("10.0.0.0/8"),))
    upstream = await dialer(deny=others).dial(endpoint(backend.port))
    assert upstream.passed is others
    upstream.close()


async def test_a_name_is_looked_up(backend: EchoBackend) -> None:
    """Registrations carry addresses; a name costs a look-up in a thread."""
    upstream = await dialer().dial(endpoint(backend.port, "localhost"))
    upstream.close()


class Portless(socket.socket):
    """A socket of a machine that has no local port left."""

    def connect_ex(self, address: object, /) -> int:
        return errno.EADDRNOTAVAIL


async def test_a_lack_of_local_ports_is_not_the_endpoints_fault(backend: EchoBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 81: it is the router's, and neither marks nor prunes, or one busy minute would empty the table of TLS endpoints."""
    monkeypatch.setattr("router.backend.dial.socket.socket", Portless)
    with pytest.raises(Fault) as raised:
        await dialer().dial(endpoint(backend.port))
    assert raised.value.side == "router"
    assert not (raised.value.rule.failable or raised.value.rule.prunable)


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_an_ipv6_address_is_reached(host: str) -> None:
    """With brackets or without."""
    with _server(lambda sock: None, "::1") as port:
        upstream = await dialer().dial(endpoint(port, host))
        upstream.close()


@pytest.mark.parametrize("names", [("app.internal",), ("*.internal",), ("other.internal", "app.internal")])
@pytest.mark.parametrize("san", ["app.internal", "App.Internal"])
async def test_a_tls_endpoint_shows_the_name_of_its_registration(make_backend: Make, names: tuple[str, ...], san: str) -> None:
    """Decision 11: the chain and server_cert_domain_san are verified; the name is sent as SNI."""
    backend = make_backend(credential=BACKENDS.issue_server(*names))
    upstream = await dialer().dial(endpoint(backend.port, tls=True, san=san))
    assert isinstance(upstream.stream, TlsStream)
    assert upstream.tls_time >= 0
    assert upstream.stream.tls.get_servername() == san.encode()
    upstream.close()


async def test_without_a_registered_name_the_address_is_verified(make_backend: Make) -> None:
    """As an IP SAN; an address among the DNS names does not count."""
    backend = make_backend(credential=BACKENDS.issue_server("127.0.0.1"))
    upstream = await dialer().dial(endpoint(backend.port, tls=True))
    upstream.close()
    named = make_backend(credential=BACKENDS.issue_server("localhost"))
    assert await fault_of(dialer(), endpoint(named.port, tls=True)) == "tls_name_mismatch"


@pytest.mark.parametrize(
    ("credential", "kind"),
    [
        (BACKENDS.issue_server("other.internal"), "tls_name_mismatch"),
        (BACKENDS.issue_server("*.app.internal"), "tls_name_mismatch"),
        (BACKENDS.issue_server("internal"), "tls_name_mismatch"),
        (authority("strangers").issue_server("app.internal"), "tls_untrusted"),
        (BACKENDS.issue_server("app.internal", not_before=NOW - 2 * DAY, not_after=NOW - DAY), "tls_expired"),
        (BACKENDS.issue_server("app.internal", not_before=NOW + DAY, not_after=NOW + 2 * DAY), "tls_expired"),
        (BACKENDS.issue_instance("app", san=[]), "tls_name_mismatch"),
    ],
    ids=["another name", "a label too many", "parent name", "authority", "expired", "not yet valid", "no name"],
)
async def test_an_endpoint_that_is_not_who_it_should_be_is_a_fault_of_its_kind(
    make_backend: Make, credential: Credential, kind: str
) -> None:
    """Attack 6: and not one byte of a request was sent."""
    backend = make_backend(credential=credential)
    assert kind == await fault_of(dialer(), endpoint(backend.port, tls=True, san="app.internal"))
    assert backend.received == []
    unverified = await dialer(verify=False).dial(endpoint(backend.port, tls=True, san="app.internal"))
    unverified.close()


async def test_the_router_shows_its_own_certificate_where_it_has_one(make_backend: Make) -> None:
    """Backends that ask for the router's identity get it; without it they refuse."""
    backend = make_backend(credential=BACKENDS.issue_server("app.internal"), client_ca=authority("routers"))
    own = authority("routers").issue_server("router.internal")
    client = authority("routers").issue(own.certificate.subject)
    upstream = await dialer(own=client).dial(endpoint(backend.port, tls=True, san="app.internal"))
    await upstream.stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", soon())
    assert (await upstream.stream.recv(soon())).startswith(b"HTTP/1.1 200 OK")
    assert backend.last.peer_der == client.der
    upstream.close()


async def test_a_backend_that_demands_a_certificate_in_vain_is_a_fault(make_backend: Make) -> None:
    """TLS 1.2 tells in the handshake."""
    backend = make_backend(
        credential=BACKENDS.issue_server("app.internal"), client_ca=authority("routers"), tls_maximum=ssl.TLSVersion.TLSv1_2
    )
    kind = await fault_of(dialer(), endpoint(backend.port, tls=True, san="app.internal"))
    assert kind in ("tls_handshake_failed", "tls_client_certificate_rejected")
    wrong = authority("strangers").issue_instance("router")
    kind = await fault_of(dialer(own=wrong), endpoint(backend.port, tls=True, san="app.internal"))
    assert kind == "tls_client_certificate_rejected"


async def test_a_backend_without_tls_is_told_apart() -> None:
    """An endpoint registered with tls_port that speaks HTTP."""
    with _server(lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        assert await fault_of(dialer(), endpoint(port, tls=True, san="a")) == "tls_not_spoken"


async def test_nobody_listening_is_a_failed_dial() -> None:
    """The reason stands in the detail, for the log."""
    with _server(lambda sock: None) as port:
        pass
    with pytest.raises(Fault) as raised:
        await dialer().dial(endpoint(port))
    assert (raised.value.kind, raised.value.detail) == ("dial_failed", "ECONNREFUSED")


@pytest.mark.parametrize("host", ["no-such-name.invalid", "a" * 64 + ".example"])
async def test_a_name_that_does_not_resolve_is_a_failed_dial(host: str) -> None:
    """Whatever a registration says, it is a fault and no exception of another kind."""
    assert await fault_of(dialer(dial=2.0), Endpoint(host, 1)) in ("dial_failed", "dial_timeout")


async def test_a_dial_that_hangs_is_given_up() -> None:
    """A backlog that is full never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        held = [socket.socket() for _ in range(4)]
        for one in held:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        await asyncio.sleep(0.02)
        assert await fault_of(dialer(dial=0.05), endpoint(listener.getsockname()[1])) == "dial_timeout"
        for one in held:
            one.close()


async def test_a_handshake_that_hangs_is_given_up() -> None:
    """A backend that accepts and is silent."""
    with _server(lambda sock: None) as port:
        assert await fault_of(dialer(shake=0.05), endpoint(port, tls=True, san="a")) == "tls_handshake_timeout"


async def test_a_backend_that_hangs_up_in_the_handshake_is_a_fault() -> None:
    """Ended before its certificate."""
    with _server(lambda sock: sock.close()) as port:
        assert await fault_of(dialer(), endpoint(port, tls=True, san="a")) == "tls_handshake_failed"


@contextlib.contextmanager
def _server(act: Callable[[socket.socket], object], host: str = "127.0.0.1") -> Iterator[int]:
    """A listener that does one thing with each connection and keeps it open."""
    held = []
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    held.append(sock)
                    act(sock)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    for sock in held:
        sock.close()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_dial_ends_by_the_time_that_the_request_has_left(tls: bool) -> None:
    """Sooner than its own deadlines; who dials knows that it was not they."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as mute, contextlib.ExitStack() as stack:
        for _ in range(0 if tls else 3):  # the kernel keeps one or two that nobody accepts, and answers no more after that
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(mute.getsockname())
        began = loop.time()
        with pytest.raises(Fault) as raised:
            await dialer().dial(endpoint(mute.getsockname()[1], tls=tls), began + 0.1)
    assert raised.value.kind == ("tls_handshake_timeout" if tls else "dial_timeout")
    assert 0.1 <= loop.time() - began < 2.0


@pytest.mark.parametrize("tls", [False, True])
async def test_an_endpoint_that_wants_a_proxy_header_hears_it_first(tls: bool) -> None:
    """R98: before TLS too; a dial for nobody, a health check's, says that the router speaks for itself."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for form, header in (("v1", b"PROXY UNKNOWN\r\n"), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")):
            dialled = asyncio.get_running_loop().create_task(dialer(shake=0.3).dial(_announced(listening, form, tls)))
            there, _ = await asyncio.get_running_loop().run_in_executor(None, listening.accept)
            there.settimeout(5)
            with there:
                heard = await asyncio.get_running_loop().run_in_executor(None, there.recv, len(header))
                assert heard == header
                if tls:
                    assert await asyncio.get_running_loop().run_in_executor(None, there.recv, 1) == b"\x16"
                    with pytest.raises(Fault):
                        await dialled
                else:
                    (await dialled).close()


async def test_a_header_that_cannot_be_made_ends_the_dial() -> None:
    """No byte may reach the endpoint without it."""

    def announce(_: tuple[str, int]) -> bytes:
        raise ValueError("no address")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        with pytest.raises(Fault) as raised:
            await dialer().dial_for(announce, _announced(listening, "v2", False), math.inf, None)
        assert raised.value.kind == "dial_failed"
        there, _ = listening.accept()
        with there:
            assert there.recv(1) == b""


def _announced(listening: socket.socket, form: str, tls: bool) -> Endpoint:
    return endpoint(listening.getsockname()[1], tls=tls, send_proxy=form)
