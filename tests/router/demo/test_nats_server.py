"""The real nats-server under our control."""

from collections.abc import Callable
from pathlib import Path

import pytest

from router.demo.nats_server import NatsServer, binary
from router.demo.process import free_port
from tests.support.nats import NatsConnection

MakeNats = Callable[..., NatsServer]


def test_a_started_server_takes_messages(make_nats: MakeNats) -> None:
    """`start` returns when it greets."""
    with NatsConnection(make_nats().port) as nats:
        nats.subscribe("a.*")
        nats.publish("a.b", b"hello")
        assert nats.next_message() == ("a.b", None, b"hello")


def test_a_restart_keeps_the_port(make_nats: MakeNats) -> None:
    """Clients find it again."""
    server = make_nats()
    port = server.port
    server.kill()
    server.restart()
    assert (server.port, server.pid > 0) == (port, True)
    NatsConnection(port).close()


def test_a_stopped_server_is_gone(make_nats: MakeNats) -> None:
    """Its port refuses; stopping or killing it again does nothing."""
    server = make_nats()
    server.stop()
    server.stop()
    server.kill()
    assert server.pid == 0
    with pytest.raises(ConnectionRefusedError):
        NatsConnection(server.port)


def test_a_configuration_that_is_refused_is_told_with_the_log(tmp_path: Path) -> None:
    """RuntimeError with what the server said."""
    server = NatsServer(tmp_path, "no such thing {")
    server.port = free_port()
    with pytest.raises(RuntimeError, match="nats-server did not start"):
        server.start()


def test_a_missing_binary_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """How to install it."""
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="pip install"):
        binary()
