"""router/connection.py: the road of a connection, in this process, on both event loops."""

import asyncio

import pytest

from identity.caller import Caller, Guid
from router.connection import ALERTS, Refused
from tests.router.desk import EAST, desk, in_thread, raw, settings
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import authority
from tests.support.client import Alert, Client, Tls, TlsRefusedError
from tests.support.client_hellos import FIXTURES, in_records, message, server_name
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


@pytest.mark.parametrize(
    ("data", "answer", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", None, "not_tls"),
        (in_records(message([server_name(b"a", b"b")])), ALERTS["unrecognized_name"], "two_names"),
        (in_records(message([server_name(b"a\0b")])), ALERTS["unrecognized_name"], "bad_name"),
        (b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff" + bytes(20_000), ALERTS["decode_error"], "too_large"),
    ],
    ids=["http", "two names", "bad name", "too large"],
)
async def test_what_is_no_hello_is_refused_before_openssl_sees_it(data: bytes, answer: bytes | None, reason: str) -> None:
    """Attacks 10 and 11: a reset, or an alert and the end; the reason is counted."""
    async with desk() as one:
        with raw(one, tls=True) as sock:
            sock.sendall(data)
            if answer is None:
                with pytest.raises(ConnectionResetError):
                    await in_thread(sock.recv, 100)
            else:
                assert await in_thread(sock.recv, 100) == answer
                assert await in_thread(sock.recv, 100) == b""
        await one.idle()
        assert one.counted("connections_refused") == {f'reason="{reason}"': 1}
        assert one.seen == []


@pytest.mark.parametrize("hello", ["python-ssl.bin", "openssl4-post-quantum.bin"])
async def test_a_hello_in_single_bytes_finds_its_domain(hello: str) -> None:
    """Attack 9: the whole name is known before a context is chosen, and the kernel waits for it."""
    data = (FIXTURES / hello).read_bytes()
    async with desk() as one:
        with raw(one, tls=True) as sock:
            for at in range(64):
                sock.sendall(data[at : at + 1])
                await asyncio.sleep(0)
            sock.sendall(data[64:])
            assert (await in_thread(sock.recv, 5))[:1] == b"\x16"
        await one.idle()


async def test_half_a_hello_costs_no_more_than_its_deadline() -> None:
    """Attack 27: counted and reset."""
    async with desk(tls_handshake_timeout="1ms") as one:
        with raw(one, tls=True) as sock:
            sock.sendall((FIXTURES / "curl.bin").read_bytes()[:100])
            with pytest.raises(ConnectionResetError):
                await in_thread(sock.recv, 1)
        await one.idle()
        assert one.counted("connections_refused") == {'reason="hello_timeout"': 1}


async def test_a_client_that_leaves_before_its_hello_is_counted_as_such() -> None:
    """Port scans are no failures."""
    async with desk() as one:
        with raw(one, tls=True) as sock:
            sock.sendall(b"\x16")
        await until(lambda: one.counted("connections_refused"), "the end")
        assert one.counted("connections_refused") == {'reason="peer_left"': 1}


async def test_a_handshake_that_stalls_after_its_hello_ends_at_its_deadline() -> None:
    """Attack 27: counted by domain, and the connection is gone."""
    async with desk(tls_handshake_timeout="300ms") as one:
        with raw(one, tls=True) as sock:
            sock.sendall((FIXTURES / "curl.bin").read_bytes())
            with pytest.raises(ConnectionResetError):
                await in_thread(lambda: [sock.recv(65536) for _ in range(9)])
        await one.idle()
        assert one.counted("tls_handshakes") == {'domain="",result="timeout"': 1}


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


async def test_too_many_handshakes_shed_the_oldest() -> None:
    """Attack 27: a client that means it is done in milliseconds; those that stall make room."""
    async with desk(max_handshakes=2) as one:
        with raw(one, tls=True) as first, raw(one, tls=True) as second, raw(one, tls=True) as third:
            for sock in (first, second, third):
                sock.sendall(b"\x16\x03")
            first.settimeout(5)
            with pytest.raises(ConnectionResetError):
                await in_thread(first.recv, 1)
            assert one.counted("connections_shed") == {'reason="max_handshakes"': 1}
            assert len(one.connections) == 2


async def test_draining_ends_idle_connections_and_lets_a_request_finish(backend: EchoBackend) -> None:
    """Attack 82: the answer in progress says Connection: close."""
    async with desk() as one:
        one.register("app.open.example", backend)

        async def drain() -> None:
            one.connections.close_idle()

        def drain_first(exchange: Exchange) -> None:
            asyncio.run_coroutine_threadsafe(drain(), one.loop).result(5)
            exchange.read_body()
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        with one.client() as idle, one.client() as busy:
            await in_thread(idle.request, "app.open.example")
            backend.script(drain_first)
            response = await in_thread(busy.request, "app.open.example")
            assert (response.status, response.get("connection")) == (200, "close")
            assert await in_thread(idle.closed_by_server)
            assert await in_thread(busy.closed_by_server)
        assert await one.connections.wait_closed(one.loop.time() + 5)


async def test_draining_reaches_a_connection_in_its_handshake() -> None:
    """What has asked for nothing yet does not delay the end."""
    async with desk() as one:
        with raw(one, tls=True) as sock:
            sock.sendall(b"\x16\x03")
            await until(lambda: len(one.connections) == 1, "the connection")
            one.connections.close_idle()
            assert await one.connections.wait_closed(one.loop.time() + 5)


async def test_waiting_for_connections_gives_up_at_its_deadline() -> None:
    """And aborting ends what is left."""
    async with desk() as one:
        with raw(one):
            await until(lambda: len(one.connections) == 1, "the connection")
            assert not await one.connections.wait_closed(one.loop.time())
            one.connections.abort()
            assert await one.connections.wait_closed(one.loop.time() + 5)
            assert one.budget.open == 0


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


def test_a_refusal_has_a_reason_and_perhaps_last_words() -> None:
    """What `_refuse` ends a connection with."""
    assert (Refused("not_tls").reason, Refused("not_tls").alert) == ("not_tls", b"")
    assert {alert[0] for alert in ALERTS.values()} == {21}


async def test_the_router_reaches_itself_without_a_port(backend: EchoBackend) -> None:
    """`connect_inside`: one end of a connection whose other end is served like any client's, and ends with it."""
    async with desk() as one:
        one.register("app.open.example", backend)
        stream = one.connections.connect_inside()
        await stream.send(b"GET /x HTTP/1.1\r\nHost: app.open.example\r\nConnection: close\r\n\r\n", one.loop.time() + 5)
        answer = b""
        while data := await stream.recv(one.loop.time() + 5):
            answer += data
        stream.close()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert one.seen[0].remote == "127.0.0.1:0"
        assert one.counted("connections_accepted") == {'listener="inside"': 1}
        await one.idle()
