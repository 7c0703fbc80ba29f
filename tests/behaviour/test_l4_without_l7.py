"""The promise: L4 needs nothing of L7. With `l7.enabled: false` none of it is loaded, and connections pass through as ever."""

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from router.demo.process import free_port
from tests.conftest import MakeRouter
from tests.support.client_hellos import in_records, message, server_name
from tests.support.router import RouterProcess, wait_until

TUNNEL = "tunnel.example"
HELLO = in_records(message([server_name(TUNNEL.encode()), (43, b"\2\3\4")]))
PIPE = 2
"""Descriptors of the one that is kept for the next relay."""

LOADED = """
import asyncio, json, sys
from pathlib import Path
from router.cli.main import main
import router.app
class Stopped(Exception): pass
run = router.app.App.run
async def started(self):
    asyncio.get_running_loop().call_later(0.5, self._stopping.set)
    return await run(self)
router.app.App.run = started
status = main(["run", "-c", sys.argv[1]])
Path(sys.argv[2]).write_text(json.dumps([status, list(sys.modules)]))
"""
"""A router that stops by itself, and then says which modules it has."""


@pytest.fixture
def backend() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        yield listening


@pytest.fixture
def router(make_router: MakeRouter, backend: socket.socket) -> RouterProcess:
    tls, tcp = free_port(), free_port()
    to = f"127.0.0.1:{backend.getsockname()[1]}"
    listeners = [
        {"port": tls, "kind": "tls", "routes": [{"hostname": TUNNEL, "backend": to, "connect_timeout": "1s"}]},
        {"port": tcp, "kind": "tcp", "routes": [{"backend": to}]},
    ]
    return make_router(l7={"enabled": False}, listeners=listeners, enable_ssl=None)


def port(router: RouterProcess, kind: str) -> int:
    return int(next(listener["port"] for listener in router.config["listeners"] if listener["kind"] == kind))


@contextmanager
def passing(router: RouterProcess, backend: socket.socket, kind: str = "tls") -> Iterator[tuple[socket.socket, socket.socket]]:
    """(a client that said hello, what the backend accepted)."""
    with socket.create_connection(("127.0.0.1", port(router, kind)), 10) as client:
        client.sendall(HELLO)
        there, _ = backend.accept()
        there.settimeout(10)
        with there:
            yield client, there


def test_nothing_of_l7_is_loaded(router: RouterProcess, tmp_path: Path) -> None:
    """R61: not a module of router/l7, router/tls or router/backend, OpenSSL or HTTP/2, in a process that served and stopped."""
    router.stop()
    result = tmp_path / "loaded.json"
    command = [sys.executable, "-c", LOADED, str(router.config_file), str(result)]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "PYTHONPATH": "."}
    )
    status, loaded = json.loads(result.read_text())
    assert status == 0, ended.stderr
    assert "router.l4.relay" in loaded
    parts = ("router.l7", "router.tls", "router.backend", "router.live", "router.downstream")
    assert [name for name in loaded if name.startswith(parts)] == []
    assert {"OpenSSL", "h2", "hpack", "hyperframe", "router.wire.http2", "router.wire.http2_client"}.isdisjoint(loaded)


def test_connections_pass_through_and_are_told_of(router: RouterProcess, backend: socket.socket) -> None:
    """R3, R59: both kinds of port; health, metrics and the access log are there."""
    assert router.health() == 200
    for kind in ("tls", "tcp"):
        with passing(router, backend, kind) as (client, there):
            assert there.recv(65536) == HELLO
            there.sendall(b"welcome")
            assert client.recv(100) == b"welcome"
    line = router.wait_for_log("tcp:")
    assert f'"L4" ended {len(HELLO)} 7' in line
    assert router.metric("l4_bytes") >= 2 * (len(HELLO) + 7)
    assert router.metric("l4_open") == 0


def test_what_http_would_be_is_not_listened_to(router: RouterProcess) -> None:
    """GoRouter's own two ports stay closed."""
    for closed in (router.port, router.ssl_port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", closed), 5)


def test_a_reload_moves_new_connections_and_leaves_those_that_run(router: RouterProcess, backend: socket.socket) -> None:
    """Part 1: listeners and routes live; a connection keeps what it began with."""
    with socket.create_server(("127.0.0.1", 0)) as other, passing(router, backend) as (client, there):
        other.settimeout(10)
        listeners = json.loads(json.dumps(router.config["listeners"]))
        listeners[0]["routes"][0]["backend"] = f"127.0.0.1:{other.getsockname()[1]}"
        closed = port(router, "tcp")
        assert router.reload(listeners=listeners[:1]) == {'result="ok"': 1}
        with passing(router, other) as (_, moved):
            assert moved.recv(65536) == HELLO
        there.sendall(b"still here")
        assert client.recv(100) == b"still here"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", closed), 5)


def test_switching_l7_on_needs_a_restart(router: RouterProcess, backend: socket.socket) -> None:
    """The reload says so, and L4 goes on."""
    router.reload(l7={"enabled": True})
    router.wait_for_event("config-needs-restart")
    with passing(router, backend) as (_, there):
        assert there.recv(65536) == HELLO


def test_whatever_a_peer_does_leaves_no_descriptor_behind(router: RouterProcess, backend: socket.socket) -> None:
    """A reset at each step, a half-close, a refusing backend, garbage: afterwards the router has what it had before."""
    abort = struct.pack("ii", 1, 0)
    with passing(router, backend) as (client, there):
        client.sendall(bytes(100_000))
        size = len(HELLO) + 100_000
        while size:  # from now on one worker keeps a pipe, and the others may keep one later
            size -= len(there.recv(size))
    wait_until(lambda: router.metric("connections_open") == 0, "quiet")
    before = router.open_files() + PIPE * (router.width - 1)
    for said in (b"", HELLO[:20], HELLO, b"GET / HTTP/1.1\r\n\r\n", HELLO + bytes(100_000)):
        for ends in ("close", "reset"):
            with socket.create_connection(("127.0.0.1", port(router, "tls")), 10) as client:
                client.sendall(said)
                if ends == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abort)
            if said.startswith(HELLO):
                there, _ = backend.accept()
                there.close()
    with passing(router, backend) as (client, there):
        client.shutdown(socket.SHUT_WR)
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abort)
    backend.close()
    with socket.create_connection(("127.0.0.1", port(router, "tls")), 10) as client:
        client.sendall(HELLO)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    wait_until(lambda: router.metric("connections_open") == 0, "every connection to end")
    wait_until(lambda: router.open_files() <= before, "the descriptors to be closed")
