"""router/net/systemd.py: sockets that are open already, and telling how it goes."""

import os
import socket
from pathlib import Path

import pytest

from router.net import systemd
from router.net.systemd import inherited_sockets, notify


def environment(count: int | str, pid: int | None = None) -> dict[str, str]:
    return {"LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": "a:b", "HOME": "/"}


def test_a_passed_listener_is_found_by_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """The very socket, not inheritable by children; the variables are taken away."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    monkeypatch.setattr(systemd, "FIRST_FD", listener.fileno())
    os.set_inheritable(listener.fileno(), True)
    environ = environment(1)
    found = inherited_sockets(environ)
    assert list(found) == [port]
    listener.detach()
    with found[port] as taken, socket.create_connection(("127.0.0.1", port)):
        assert not taken.get_inheritable()
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    "environ",
    [{}, environment(1, pid=1), environment("x"), environment(""), environment(0), environment("-1")],
    ids=["absent", "another process", "no number", "empty", "none", "negative"],
)
def test_without_sockets_of_our_own_there_are_none(environ: dict[str, str]) -> None:
    """What was meant for another process, or means nothing, is not touched."""
    assert inherited_sockets(environ) == {}
    assert "LISTEN_FDS" not in environ


def test_a_descriptor_that_is_no_listening_stream_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A datagram socket or a file among them is closed or left, never served."""
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    monkeypatch.setattr(systemd, "FIRST_FD", datagram.detach())
    assert inherited_sockets(environment(1)) == {}
    with (tmp_path / "file").open("wb") as file:
        monkeypatch.setattr(systemd, "FIRST_FD", file.fileno())
        assert inherited_sockets(environment(1)) == {}


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_the_service_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    """One datagram a state, to a path or an abstract name."""
    name = f"vestibule-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if abstract else name)
        manager.settimeout(5)
        notify("READY=1", {"NOTIFY_SOCKET": "@" + name if abstract else name})
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    "address", ["", "relative", "/nobody/listens/here", "/" + "x" * 500], ids=["none", "odd", "gone", "long"]
)
def test_a_manager_that_does_not_listen_harms_nobody(address: str) -> None:
    """Nothing is raised; without systemd nothing is done."""
    notify("READY=1", {"NOTIFY_SOCKET": address})
    notify("READY=1", {})
