"""The promise: through an edge that passes connections on and an origin that terminates them, the real client stays known."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from router.demo.process import free_port
from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.client import Tls, get
from tests.support.client_hellos import in_records, message, server_name
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess

TUNNEL = "tunnel.example"
FAR = "127.0.0.77"
"""A client that is neither the edge nor the origin."""


@contextmanager
def plain_backend() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        yield listening


class Hops:
    """An edge, an origin behind it that believes the edge alone, and what stands behind the origin."""

    def __init__(self, make_router: MakeRouter, tunnel: socket.socket) -> None:
        self.origin_port, self.edge_port = free_port(), free_port()
        to_tunnel = {"hostname": TUNNEL, "backend": f"127.0.0.1:{tunnel.getsockname()[1]}"}
        self.origin = make_router(
            listeners=[
                {
                    "port": self.origin_port,
                    "kind": "tls",
                    "proxy_protocol": True,
                    "proxy_protocol_trusted": ["127.0.0.1/32"],
                    "routes": [to_tunnel],
                }
            ],
            firewall={"blocked_ips": ["127.0.0.66"]},
        )
        to_origin = {"backend": f"127.0.0.1:{self.origin_port}", "send_proxy_protocol": True}
        routes = [{"hostname": name, **to_origin} for name in (f"*.{OPEN}", TUNNEL)]
        self.edge: RouterProcess = make_router(
            l7={"enabled": False}, enable_ssl=None, listeners=[{"port": self.edge_port, "kind": "tls", "routes": routes}]
        )


@pytest.fixture
def tunnel() -> Iterator[socket.socket]:
    with plain_backend() as made:
        yield made


def test_http_behind_two_hops_knows_its_client(
    make_router: MakeRouter, nats_server: NatsServer, backend: EchoBackend, tunnel: socket.socket
) -> None:
    """R119, R138: X-Forwarded-For and the origin's logs name the client, the edge sees nothing of the request."""
    hops, host = Hops(make_router, tunnel), unique_host(OPEN)
    with Registrar(nats_server.port, hops.origin) as registrar:
        registrar.register(host, backend=backend)
        with socket.create_connection(("127.0.0.1", hops.edge_port), 10, (FAR, 0)) as sock:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(sock, server_hostname=host) as secure:
                secure.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                assert secure.recv(12) == b"HTTP/1.1 200"
        assert backend.received[0].get("x-forwarded-for") == FAR
        assert f'"{FAR}:' in hops.origin.wait_for_log(host)
        assert '"L4" ' in hops.edge.wait_for_log(host)
        assert get(hops.edge_port, host, tls=Tls(sni=host)).status == 200


def test_a_tunnel_behind_two_hops_and_the_firewall_of_the_second(make_router: MakeRouter, tunnel: socket.socket) -> None:
    """R95, R119: both hops pass it on; who is blocked at the origin is blocked by his own address, not by the edge's."""
    hops = Hops(make_router, tunnel)
    hello = in_records(message([server_name(TUNNEL.encode()), (43, b"\2\3\4")]))
    with socket.create_connection(("127.0.0.1", hops.edge_port), 10, (FAR, 0)) as sock:
        sock.sendall(hello)
        there, _ = tunnel.accept()
        with there:
            assert there.recv(65536) == hello
    line = hops.origin.wait_for_log(TUNNEL)
    assert f'"{FAR}:' in line
    assert 'peer:"127.0.0.1:' in line
    with socket.create_connection(("127.0.0.1", hops.edge_port), 10, ("127.0.0.66", 0)) as sock:
        sock.sendall(hello)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert "127.0.0.66" in hops.origin.wait_for_event("connection-blocked")
