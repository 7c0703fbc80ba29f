"""router/connection.py: the road of a connection, in this process, on both event loops."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from router.connection import ALERTS
from router.net.arrival import Refused
from router.net.listener import Listener
from router.wire.proxy_protocol import render_v1, render_v2
from tests.router.desk import desk, in_thread, raw
from tests.support.backend import EchoBackend, Exchange
from tests.support.client import Client, Tls
from tests.support.client_hellos import FIXTURES, in_records, message, server_name
from tests.support.http2_client import Http2Client
from tests.support.waiting import until


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


def test_a_refusal_has_a_reason_and_perhaps_last_words() -> None:
    """What `_refuse` ends a connection with."""
    assert (Refused("not_tls").reason, Refused("not_tls").alert) == ("not_tls", b"")
    assert {alert[0] for alert in ALERTS.values()} == {21}


# ---- listeners with routes of their own

TUNNEL, TLS_PORT, TCP_PORT, HTTP_PORT = "tunnel.example", 8443, 5432, 8088
CLIENT, FIREWALLED = ("203.0.113.7", 40_000), ("198.51.100.9", 40_001)
HERE = ("192.0.2.1", 443)


ECH, ALPN_H2 = (0xFE0D, b"\0\0\1\0\1\x17\0\0\0\0"), (16, b"\0\3\2h2")


def hello(name: bytes | None, *more: tuple[int, bytes]) -> bytes:
    extensions = [server_name(name)] if name is not None else []
    return in_records(message([*extensions, *more, (43, b"\2\3\4")]))


@contextmanager
def echo() -> Iterator[socket.socket]:
    """A listening backend of any protocol; accepted connections are the test's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        yield listening


def listeners(backend: socket.socket, **more: Any) -> dict[str, Any]:
    """One listener of each kind, all before the same backend."""
    route = {"backend": f"127.0.0.1:{backend.getsockname()[1]}"}
    kinds = [
        {"port": TLS_PORT, "kind": "tls", "routes": [{"hostname": TUNNEL, **route}]},
        {"port": TCP_PORT, "kind": "tcp", "routes": [route]},
        {"port": HTTP_PORT, "kind": "http"},
    ]
    return {"listeners": [{**kind, **more} for kind in kinds]}


PROXIED = {"proxy_protocol": True, "proxy_protocol_trusted": ["127.0.0.0/8"]}


@contextmanager
def to(listener: Listener) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", listener.port), 10) as sock:
        yield sock


async def accepted(backend: socket.socket) -> socket.socket:
    connection, _ = await in_thread(backend.accept)
    connection.settimeout(10)
    assert isinstance(connection, socket.socket)
    return connection


async def is_reset(sock: socket.socket) -> None:
    with pytest.raises(ConnectionResetError):
        await in_thread(sock.recv, 100)


async def test_a_name_with_a_route_is_passed_through_from_its_first_byte() -> None:
    """R1, R109: on a port that also terminates; the record says what was asked for."""
    with echo() as backend:
        async with desk(**listeners(backend)) as one:
            with to(one.listen(f"tls:{TLS_PORT}")) as sock:
                said = hello(TUNNEL.encode())
                sock.sendall(said)
                with await accepted(backend) as there:
                    assert await in_thread(there.recv, 65536) == said
                    there.sendall(b"anything at all")
                    assert await in_thread(sock.recv, 100) == b"anything at all"
            await one.idle()
            (record,) = one.records.passed
            assert (record.sni, record.listener, record.bytes_out) == (TUNNEL, f"tls:{TLS_PORT}", 15)
            assert one.counted("hellos") == {f'listener="tls:{TLS_PORT}",outcome="passed_through"': 1}
            assert one.seen == []


async def test_a_name_with_a_certificate_is_terminated_on_the_same_port(backend: EchoBackend) -> None:
    """R11, R109: the one port carries both kinds, and nothing of the one changes the other."""
    with echo() as other:
        async with desk(**listeners(other)) as one:
            one.register("app.open.example", backend)
            port = one.listen(f"tls:{TLS_PORT}").port

            def ask() -> int:
                with Client(port, Tls(sni="app.open.example")) as client:
                    return client.request("app.open.example").status

            assert await in_thread(ask) == 200
            await one.idle()
            assert one.counted("hellos") == {f'listener="tls:{TLS_PORT}",outcome="terminated"': 1}
            assert one.records.passed == []


async def test_a_terminated_name_speaks_http2_and_a_passed_one_what_its_backend_speaks(backend: EchoBackend) -> None:
    """R11, R25, R109: ALPN is answered here only where TLS ends here, on the very same port."""
    with echo() as other:
        async with desk(**listeners(other)) as one:
            one.register("app.open.example", backend)
            port = one.listen(f"tls:{TLS_PORT}").port

            def ask() -> list[int]:
                with Http2Client(port, Tls("app.open.example")) as client:
                    return [client.response(client.open("app.open.example")).status for _ in range(2)]

            assert await in_thread(ask) == [200, 200]
            said = hello(TUNNEL.encode(), ALPN_H2)
            with to(one.listen(f"tls:{TLS_PORT}")) as sock:
                sock.sendall(said)
                with await accepted(other) as there:
                    assert await in_thread(there.recv, 65536) == said
            await one.idle()
            assert [record.proto for record in one.records.records] == [b"HTTP/2.0", b"HTTP/2.0"]
            assert len(one.records.passed) == 1


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (hello(b"nobody.example"), "unknown_sni"),
        (hello(None), "no_sni"),
        (hello(b"public.example", ECH), "ech"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not_tls"),
        (in_records(message([server_name(b"a", b"b")])), "two_names"),
        (b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff" + bytes(20_000), "too_large"),
    ],
    ids=["unknown", "none", "ech", "not TLS", "two names", "too large"],
)
async def test_whatever_has_no_route_is_reset_without_a_word(said: bytes, reason: str) -> None:
    """R97, R137, attacks 70 and 74: who asks learns nothing but the reset, which is the same for each; the reason is counted."""
    with echo() as backend:
        async with desk(**listeners(backend)) as one:
            with to(one.listen(f"tls:{TLS_PORT}")) as sock:
                sock.sendall(said)
                await is_reset(sock)
            await one.idle()
            assert one.counted("connections_refused") == {f'reason="{reason}"': 1}
            assert one.counted("hellos") == {f'listener="tls:{TLS_PORT}",outcome="{reason}"': 1}
            assert one.records.passed == []


async def test_raw_tcp_lets_the_server_speak_first() -> None:
    """R4: by its port alone, before the client has said anything."""
    with echo() as backend:
        async with desk(**listeners(backend)) as one:
            with to(one.listen(f"tcp:{TCP_PORT}")) as sock, await accepted(backend) as there:
                there.sendall(b"220 ready\r\n")
                assert await in_thread(sock.recv, 100) == b"220 ready\r\n"
            await one.idle()
            assert [(record.sni, record.route) for record in one.records.passed] == [("", f"tcp:{TCP_PORT}")]


@pytest.mark.parametrize("header", [render_v1(CLIENT, HERE), render_v2(CLIENT, HERE)], ids=["v1", "v2"])
async def test_a_trusted_proxy_says_who_the_client_is(header: bytes) -> None:
    """R94, R95: exactly the header is consumed; what follows passes on untouched, in whatever pieces both came."""
    with echo() as backend:
        async with desk(**listeners(backend, **PROXIED)) as one:
            listener, said = one.listen(f"tls:{TLS_PORT}"), hello(TUNNEL.encode())
            for piece in (1, 10_000):
                with to(listener) as sock:
                    whole = header + said
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    for at in range(0, len(whole), piece):
                        sock.sendall(whole[at : at + piece])
                    with await accepted(backend) as there:
                        heard = b""
                        while len(heard) < len(said):
                            heard += await in_thread(there.recv, 65536)
                        assert heard == said
                await one.idle()
            assert {record.client for record in one.records.passed} == {"203.0.113.7:40000"}
            assert all(record.peer.startswith("127.0.0.1:") for record in one.records.passed)
            assert one.budget.open == 0


async def test_the_client_that_a_proxy_names_reaches_http(backend: EchoBackend) -> None:
    """R101, R105, R119: the address in the header is the client's in X-Forwarded-For and X-Real-IP."""
    async with desk(enable_proxy=True) as one:
        one.register("app.open.example", backend)
        with raw(one) as sock:
            request = b"GET / HTTP/1.1\r\nHost: app.open.example\r\nConnection: close\r\n\r\n"
            sock.sendall(render_v2(CLIENT, HERE) + request)
            assert (await in_thread(sock.recv, 12)) == b"HTTP/1.1 200"
        await one.idle()
        told = [backend.received[0].get(name) for name in ("x-forwarded-for", "x-real-ip", "x-forwarded-proto")]
        assert told == [CLIENT[0], CLIENT[0], "http"]


async def test_a_proxys_own_health_check_keeps_the_address_of_the_socket() -> None:
    """R88: LOCAL."""
    with echo() as backend:
        async with desk(**listeners(backend, **PROXIED)) as one:
            with to(one.listen(f"tcp:{TCP_PORT}")) as sock:
                sock.sendall(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")
                (await accepted(backend)).close()
            await one.idle()
            (record,) = one.records.passed
            assert record.client == record.peer


@pytest.mark.parametrize("plan", [f"tls:{TLS_PORT}", f"tcp:{TCP_PORT}", f"http:{HTTP_PORT}"])
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (hello(TUNNEL.encode()), "proxy_not_proxy"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 99999 1\r\n", "proxy_bad_address"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x02\x20" + bytes(0x220), "proxy_too_large"),
        (render_v1(CLIENT, HERE) + render_v2(FIREWALLED, HERE), "proxy_twice"),
        (render_v2(CLIENT, HERE) + render_v1(FIREWALLED, HERE), "proxy_twice"),
    ],
    ids=["none", "bad port", "537 bytes", "two", "two, v1 behind"],
)
async def test_a_header_that_is_missing_broken_or_doubled_is_a_reset(plan: str, said: bytes, reason: str) -> None:
    """R89, R96, attacks 70-72: nothing is forwarded, on no kind of listener."""
    with echo() as backend:
        async with desk(**listeners(backend, **PROXIED)) as one:
            with to(one.listen(plan)) as sock:
                sock.sendall(said)
                await is_reset(sock)
            await one.idle()
            assert one.counted("connections_refused") == {f'reason="{reason}"': 1}
            assert one.records.passed == []


async def test_a_stranger_is_not_believed_and_not_served() -> None:
    """R226, attack 71: from outside of the trusted networks even a good header is a reset, at once."""
    with echo() as backend:
        async with desk(**listeners(backend, proxy_protocol=True, proxy_protocol_trusted=["10.0.0.0/8"])) as one:
            with to(one.listen(f"tcp:{TCP_PORT}")) as sock:
                sock.sendall(render_v2(CLIENT, HERE))
                await is_reset(sock)
            await one.idle()
            assert one.counted("connections_refused") == {'reason="proxy_untrusted"': 1}


@pytest.mark.parametrize("said", [b"", b"PROXY TCP4 203.0.", render_v2(CLIENT, HERE)[:20]], ids=["silence", "v1", "v2"])
async def test_a_header_that_does_not_come_is_a_reset_at_its_deadline(said: bytes) -> None:
    """R90, attack 73: and nobody's thread or descriptor is kept by it."""
    with echo() as backend:
        async with desk(**listeners(backend, **PROXIED)) as one:
            one.l4_live.limits = replace(one.l4_live.limits, proxy_header_deadline=0.2)
            with to(one.listen(f"tcp:{TCP_PORT}")) as sock:
                sock.sendall(said)
                await is_reset(sock)
            await one.idle()
            assert one.counted("connections_refused") == {'reason="proxy_timeout"': 1}


async def test_the_limits_of_an_address_hold_for_the_client_that_the_proxy_names() -> None:
    """Attack 76: one client behind a balancer has one client's share, and gives it back; the others have theirs."""
    with echo() as backend:
        async with desk(**listeners(backend, **PROXIED), max_connections_per_address=1) as one:
            listener = one.listen(f"tcp:{TCP_PORT}")
            for _ in range(2):
                with to(listener) as first, to(listener) as second, to(listener) as other:
                    first.sendall(render_v2(CLIENT, HERE))
                    with await accepted(backend):
                        second.sendall(render_v1(CLIENT, HERE))
                        await is_reset(second)
                        other.sendall(render_v2(FIREWALLED, HERE))
                        (await accepted(backend)).close()
                await one.idle()
            assert one.counted("connections_shed") == {'reason="per_address"': 2}
            assert len(one.records.passed) == 4


async def test_the_firewall_judges_the_client_that_the_proxy_names() -> None:
    """R94, R99, R136: not the proxy's own address, and before any hello is waited for; counted and logged with the rule."""
    with echo() as backend:
        async with desk(**listeners(backend, **PROXIED), firewall={"blocked_cidrs": ["198.51.100.0/24"]}) as one:
            listener = one.listen(f"tls:{TLS_PORT}")
            with to(listener) as sock:
                sock.sendall(render_v2(FIREWALLED, HERE))  # and no hello
                await is_reset(sock)
            await one.idle()
            labels = f'listener="tls:{TLS_PORT}",reason="blocked_address"'
            assert one.counted("connections_blocked") == {labels: 1}
            (event,) = one.log.of("connection-blocked")
            assert (event["remote"], event["rule"]) == ("198.51.100.9:40001", "198.51.100.0/24")
            with to(listener) as sock:
                sock.sendall(render_v2(CLIENT, HERE) + hello(TUNNEL.encode()))
                (await accepted(backend)).close()
            await one.idle()
            assert len(one.records.passed) == 1


async def test_a_listeners_allow_list_is_asked_too() -> None:
    """R136: loopback is not on it."""
    with echo() as backend:
        async with desk(**listeners(backend, allowed_cidrs=["10.0.0.0/8"])) as one:
            with to(one.listen(f"tcp:{TCP_PORT}")) as sock:
                await is_reset(sock)
            assert one.counted("connections_blocked") == {f'listener="tcp:{TCP_PORT}",reason="not_allowed"': 1}


async def test_a_drain_sheds_who_waits_and_leaves_what_is_passed_through() -> None:
    """Attack 82: a relay runs on until its own end, or the drain's."""
    with echo() as backend:
        async with desk(**listeners(backend)) as one:
            tls, tcp = one.listen(f"tls:{TLS_PORT}"), one.listen(f"tcp:{TCP_PORT}")
            with to(tls) as waiting, to(tcp) as passing, await accepted(backend) as there:
                await until(lambda: len(one.connections) == 2 and one.l4.passages, "both connections")
                waiting.sendall(b"\x16")
                one.connections.close_idle()
                await is_reset(waiting)
                passing.sendall(b"still here")
                assert await in_thread(there.recv, 100) == b"still here"
                for passage in list(one.l4.passages):
                    passage.end("drained")
                await is_reset(passing)
            await one.idle()
            assert [record.ending for record in one.records.passed] == ["drained"]


async def test_a_listener_that_a_reload_has_taken_away_serves_nobody() -> None:
    """Accepted in the very turn of the loop in which it was closed."""
    with echo() as backend:
        async with desk(**listeners(backend)) as one:
            listener = one.listen(f"tcp:{TCP_PORT}")
            one.l4_live.plans = {}
            with to(listener) as sock:
                await is_reset(sock)
            assert one.counted("connections_refused") == {'reason="listener_gone"': 1}


async def test_without_l7_a_route_of_l4_is_served_as_ever_and_all_else_is_refused() -> None:
    """R3, R61, R62."""
    with echo() as backend:
        async with desk(**listeners(backend)) as one:
            one.connections._l7 = None
            tls = one.listen(f"tls:{TLS_PORT}")
            with to(tls) as sock:
                sock.sendall(hello(TUNNEL.encode()))
                (await accepted(backend)).close()
            with to(tls) as sock:
                sock.sendall(hello(b"app.open.example"))
                await is_reset(sock)
            with to(one.listen(f"http:{HTTP_PORT}")) as sock:
                await is_reset(sock)
            await one.idle()
            assert one.counted("connections_refused") == {'reason="unknown_sni"': 1, 'reason="l7_disabled"': 1}
            one.connections.close_idle()
