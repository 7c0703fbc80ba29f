"""router/l7_door.py: handshakes and what they leave behind, in this process, on both event loops."""

import pytest

from identity.caller import Caller, Guid
from tests.router.desk import EAST, desk, in_thread, raw, settings
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import Alert, Client, Tls, TlsRefusedError
from tests.support.client_hellos import FIXTURES
from tests.support.router import mtls_domain
from tests.support.waiting import until

EAST_CA = authority("east instance identity")
HOST = f"app.{EAST}"


async def test_a_handshake_leaves_behind_what_it_enforced(backend: EchoBackend) -> None:
    """The binding names domain, policy and leaf; the caller comes from the verified certificate."""
    async with desk() as one:
        one.register(HOST, backend, options={"mtls_allow_any": True})
        credential = EAST_CA.issue_instance("app-1", "space-1", "org-1")
        response = await one.get(HOST, tls=Tls(sni=HOST.upper() + ".", credential=credential))
        assert response.status == 200
        (downstream,) = one.seen
        binding, client = downstream.binding, downstream.client
        assert binding is not None
        assert client is not None
        assert (binding.sni, binding.domain, binding.verified) == (HOST, f"*.{EAST}", True)
        assert binding.client_policy == one.live.snapshot.client_policy(f"*.{EAST}").fingerprint  # type: ignore[union-attr]
        assert binding.not_after == credential.certificate.not_valid_after_utc.timestamp()
        assert client.caller == Caller(Guid("app-1"), Guid("space-1"), Guid("org-1"))
        await one.idle()
        assert one.counted("tls_handshakes") == {f'domain="*.{EAST}",result="ok"': 1}
        assert one.budget.open == 0


async def test_an_open_handshake_binds_to_no_domain(backend: EchoBackend) -> None:
    """No SNI, or one that no domain claims: nothing was enforced, and nothing is claimed."""
    async with desk() as one:
        one.register("app.open.example", backend)
        for sni in (None, "app.open.example"):
            response = await one.get("app.open.example", tls=Tls(sni=sni, credential=EAST_CA.issue_instance("app-1")))
            assert response.status == 200
        for downstream, sni in zip(one.seen, (None, "app.open.example"), strict=True):
            assert downstream.binding is not None
            assert (downstream.binding.sni, downstream.binding.domain, downstream.binding.verified) == (sni, None, False)
            assert downstream.client is None


async def test_a_handshake_that_stalls_after_its_hello_ends_at_its_deadline() -> None:
    """Attack 27: counted by domain, and the connection is gone."""
    async with desk(tls_handshake_timeout="300ms") as one:
        with raw(one, tls=True) as sock:
            sock.sendall((FIXTURES / "curl.bin").read_bytes())
            with pytest.raises(ConnectionResetError):
                await in_thread(lambda: [sock.recv(65536) for _ in range(9)])
        await one.idle()
        assert one.counted("tls_handshakes") == {'domain="",result="timeout"': 1}


async def test_a_failed_handshake_is_told_while_its_client_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever keeps the connection open after the alert keeps nothing from the operator."""
    monkeypatch.setattr("router.net.stream.LINGER_SECONDS", 1000.0)
    async with desk() as one:
        with raw(one, tls=True) as sock:
            sock.sendall((FIXTURES / "curl.bin").read_bytes() + b"\x17\x03\x03\0\x20" + bytes(32))
            await until(lambda: one.counted("tls_handshakes"), "the failure to be counted")
            assert len(one.log.of("tls-handshake-failed")) == 1
            assert len(one.connections) == 1
        await one.idle()


async def test_a_refused_certificate_is_logged_counted_and_told() -> None:
    """The alert reaches the client; name and reason reach the operator."""
    async with desk() as one:
        stranger = authority("strangers").issue_instance("app-1")
        with pytest.raises(TlsRefusedError) as refused:
            await one.get(HOST, tls=Tls(sni=HOST, credential=stranger))
        assert refused.value.alert == Alert.UNKNOWN_CA
        await one.idle()
        assert one.counted("tls_handshakes") == {f'domain="*.{EAST}",result="unknown_ca"': 1}
        (event,) = one.log.of("tls-handshake-failed")
        assert (event["sni"], event["reason"]) == (HOST, "unknown_ca")


async def test_a_changed_policy_closes_what_it_had_let_in(backend: EchoBackend) -> None:
    """Decision 6: the next request on an old connection gets 421; a new handshake is judged anew."""
    async with desk() as one:
        one.register(HOST, backend, options={"mtls_allow_any": True})
        tls = Tls(sni=HOST, credential=EAST_CA.issue_instance("app-1"))
        with await in_thread(Client, one.port(tls=True), tls) as client:
            assert (await in_thread(client.request, HOST)).status == 200
            domains = [{**_domain(), "ca_certs": EAST_CA.pem + authority("strangers").pem}]
            one.adopt(settings(mtls_domains=domains))
            assert (await in_thread(client.request, HOST)).status == 421
            assert await in_thread(client.closed_by_server)
        assert (await one.get(HOST, tls=tls)).status == 200


def _domain() -> dict[str, object]:
    return mtls_domain(f"*.{EAST}", EAST_CA)


async def test_a_name_is_borne_by_a_certificate_or_by_none() -> None:
    """What a tls listener may terminate: never a name for which the default certificate would stand in."""
    async with desk() as one:
        assert (one.door.bears(HOST), one.door.bears("nobody.example")) == (True, False)


async def test_the_router_reaches_itself_without_a_port(backend: EchoBackend) -> None:
    """`connect_inside`: one end of a connection whose other end is served like any client's, and ends with it."""
    async with desk() as one:
        one.register("app.open.example", backend)
        stream = one.door.connect_inside()
        await stream.send(b"GET /x HTTP/1.1\r\nHost: app.open.example\r\nConnection: close\r\n\r\n", one.loop.time() + 5)
        answer = b""
        while data := await stream.recv(one.loop.time() + 5):
            answer += data
        stream.close()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert one.seen[0].remote == "127.0.0.1:0"
        assert one.counted("connections_accepted") == {'listener="inside"': 1}
        await one.idle()


async def test_connections_from_inside_end_with_the_others() -> None:
    """A drain and a stop end them too, and wait for them."""
    async with desk() as one:
        for end in (one.connections.close_idle, one.connections.abort):
            stream = one.door.connect_inside()
            assert len(one.connections) == 1
            end()
            assert await one.connections.wait_closed(one.loop.time() + 5)
            assert await stream.recv(one.loop.time() + 5) == b""
            stream.close()
