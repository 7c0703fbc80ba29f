"""router/observe/syslog.py: access-log lines as RFC 5424 messages."""

import re
import socket
from collections.abc import Iterator

import pytest

from router.observe.syslog import RETRY_SECONDS, SyslogTarget

HEAD = rb"<14>1 1970-01-01T00:00:00\.000000000Z \S+ gorouter \d+ - - \xef\xbb\xbf"


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    """A syslog server's datagram socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        yield server


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    """A syslog server's listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        yield server


def test_over_udp_each_line_is_a_datagram(udp: socket.socket) -> None:
    """RFC 5426, cut at `truncate` bytes."""
    target = SyslogTarget("udp", udp.getsockname(), "gorouter", truncate=6, clock=lambda: 0.0)
    assert target.write([b"one", b"two too long"]) == 0
    target.close()
    first, second = udp.recv(1000), udp.recv(1000)
    assert re.fullmatch(HEAD + b"one", first)
    assert re.fullmatch(HEAD + b"two to", second)


def test_over_tcp_each_line_ends_with_a_line_feed(tcp: socket.socket) -> None:
    """RFC 6587, section 3.4.2."""
    target = SyslogTarget("tcp", tcp.getsockname(), "gorouter", clock=lambda: 0.0)
    assert target.write([b"one", b"two"]) == 0
    target.close()
    connection, _ = tcp.accept()
    with connection, connection.makefile("rb") as stream:
        assert re.fullmatch(HEAD + b"one\n" + HEAD + b"two\n", stream.read())


def test_without_a_server_lines_are_lost_and_counted_and_tries_are_spaced() -> None:
    """A dead log server costs a connection try a second, not one a batch."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    now = [100.0]
    target = SyslogTarget("tcp", address, "gorouter", clock=lambda: now[0])
    assert target.write([b"one", b"two"]) == 2
    with socket.create_server(address) as server:
        assert target.write([b"too soon"]) == 1
        now[0] += RETRY_SECONDS
        assert target.write([b"three"]) == 0
        server.accept()[0].close()
    target.close()


def test_reopening_connects_anew(tcp: socket.socket) -> None:
    """After SIGHUP the next batch has its own connection."""
    now = [100.0]
    target = SyslogTarget("tcp", tcp.getsockname(), "gorouter", clock=lambda: now[0])
    target.write([b"one"])
    target.reopen()()
    now[0] += RETRY_SECONDS
    target.write([b"two"])
    target.close()
    for _ in range(2):
        tcp.accept()[0].close()


def test_a_connection_that_breaks_is_counted_and_replaced() -> None:
    """A failed send loses its batch and no more: the next one, a while later, has a new connection."""
    now = [100.0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = gone.getsockname()
    target = SyslogTarget("udp", address, "", clock=lambda: now[0])
    target.write([b"nobody hears this, and the kernel says so at the next"])
    assert target.write([b"lost"]) == 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(address)
        now[0] += RETRY_SECONDS
        assert target.write([b"heard"]) == 0
        assert server.recv(1000).endswith(b"heard")
    target.close()
