"""Attack 56: clients that leave in the middle, before a slow backend. The backend's connection is closed and not used again, the
endpoint's slot is free at once, and nothing is held against the endpoint.
"""

import contextlib
import select
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.backend import EchoBackend, Exchange
from tests.support.client import Client, Tls
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import RouterProcess, wait_until
from tests.support.site import Site, site

Leave = Callable[[Client], None]


@pytest.fixture(scope="module")
def narrow(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """A router that lets one request at a time to an endpoint, so that a slot that is not freed shows."""
    with RouterProcess(tmp_path_factory.mktemp("narrow"), nats=nats_server, backends={"max_conns": 1}) as process:
        yield process


@pytest.fixture(scope="module")
def narrow_registrar(nats_server: NatsServer, narrow: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, narrow) as made:
        yield made


@pytest.fixture
def place(narrow: RouterProcess, narrow_registrar: Registrar) -> Iterator[Site]:
    with site(narrow, narrow_registrar) as made:
        yield made


def _half_close(client: Client) -> None:
    with contextlib.suppress(OSError):  # the router may have ended the connection between TLS's end and TCP's
        client.half_close()


class Waiting:
    """A step that sends `answer`, then only waits until the router closes the connection."""

    def __init__(self, answer: bytes = b"") -> None:
        self._answer = answer
        self.read = b""
        self.closed = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        if self._answer:
            exchange.send(self._answer)
        with contextlib.suppress(ConnectionResetError):
            while piece := exchange.recv():
                self.read += piece
        self.closed.set()


def _head(place: Site, *lines: str) -> bytes:
    return "\r\n".join(["POST /dropped HTTP/1.1", f"Host: {place.host}", *lines, "", ""]).encode()


def _assert_as_if_nothing_had_been(place: Site, narrow_registrar: Registrar) -> None:
    """The slot is free; beside a second endpoint this one still gets its turn; its old connection is not used."""
    dropped = place.backend.received[0]
    place.backend.clear()
    with EchoBackend() as other:
        narrow_registrar.register(place.host, backend=other, index=1)
        with place.client() as client:
            for _ in range(4):
                assert client.request(place.host).status == 200
        assert (len(place.backend.received), len(other.received)) == (2, 2)
        narrow_registrar.unregister(place.host, backend=other, index=1)
    assert dropped.connection not in {one.connection for one in place.backend.received}


@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["close", "reset"])
@pytest.mark.parametrize(
    ("lines", "body"),
    [(("Content-Length: 1000",), b"only this"), (("Transfer-Encoding: chunked",), b"9\r\nonly this\r\n5\r\nand")],
    ids=["content_length", "chunked"],
)
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_a_client_that_leaves_inside_its_body(
    place: Site, narrow_registrar: Registrar, leave: Leave, lines: tuple[str, ...], body: bytes, over_tls: bool
) -> None:
    """Attack 56: half a body ends the backend's connection, so that the half is never taken for the whole; no mark, slot free."""
    backend = Waiting()
    place.backend.script(backend)
    client = place.client(Tls(sni=place.host) if over_tls else None)
    client.send(_head(place, *lines) + body)
    wait_until(lambda: place.backend.received, "the request's head at the backend")
    leave(client)
    assert backend.closed.wait(5)
    assert backend.read in (b"only this", b"9\r\nonly this\r\n3\r\nand\r\n", b"c\r\nonly thisand\r\n")
    place.router.wait_for_log(lambda line: place.host in line and '" 499 ' in line and "(request cancelled)" in line)
    _assert_as_if_nothing_had_been(place, narrow_registrar)


def test_a_client_that_leaves_while_its_body_is_stuck(place: Site, narrow_registrar: Registrar) -> None:
    """Attack 56: a client's reset is noticed even while the backend takes nothing of its body and unread bytes hide the end.

    (An orderly end cannot be: it waits behind those bytes in the client's own kernel.)
    """
    go, closed = threading.Event(), threading.Event()

    def stuck(exchange: Exchange) -> None:
        go.wait(10)
        with contextlib.suppress(ConnectionResetError):
            while exchange.recv():
                pass
        closed.set()

    place.backend.script(stuck)
    client = place.client()
    client.send(_head(place, "Content-Length: 1000000000"))
    client.socket.setblocking(False)
    while select.select([], [client.socket], [], 0.2)[1]:
        client.socket.send(b"x" * 65536)
    client.reset()
    place.router.wait_for_log(lambda line: place.host in line and '" 499 ' in line and "(request cancelled)" in line)
    go.set()
    assert closed.wait(5)
    _assert_as_if_nothing_had_been(place, narrow_registrar)


@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["close", "reset"])
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_a_client_that_leaves_behind_a_pipelined_byte(
    place: Site, narrow_registrar: Registrar, leave: Leave, over_tls: bool
) -> None:
    """Attack 56: the end of a client is seen behind bytes that it sent before their turn."""
    backend = Waiting()
    place.backend.script(backend)
    client = place.client(Tls(sni=place.host) if over_tls else None)
    client.send(b"GET /dropped HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
    wait_until(lambda: place.backend.received, "the request at the backend")
    client.send(b"G")
    leave(client)
    assert backend.closed.wait(5)
    place.router.wait_for_log(lambda line: place.host in line and '" 499 ' in line and "(request cancelled)" in line)
    _assert_as_if_nothing_had_been(place, narrow_registrar)


@pytest.mark.parametrize("leave", [Client.close, Client.reset, _half_close], ids=["close", "reset", "half_close"])
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_a_client_that_does_not_wait_for_its_answer(
    place: Site, narrow_registrar: Registrar, leave: Leave, over_tls: bool
) -> None:
    """Attack 56: a client that leaves before the answer ends the request at the backend: 499 in the log, no mark, slot free."""
    backend = Waiting()
    place.backend.script(backend)
    client = place.client(Tls(sni=place.host) if over_tls else None)
    client.send(b"GET /dropped HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
    wait_until(lambda: place.backend.received, "the request at the backend")
    leave(client)
    assert backend.closed.wait(5)
    client.close()
    place.router.wait_for_log(lambda line: place.host in line and '" 499 ' in line and "(request cancelled)" in line)
    _assert_as_if_nothing_had_been(place, narrow_registrar)


@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["close", "reset"])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n",
    ],
    ids=["content_length", "chunked"],
)
def test_a_client_that_leaves_inside_an_answer_that_stands_still(
    place: Site, narrow_registrar: Registrar, leave: Leave, answer: bytes
) -> None:
    """Attack 56: a client that leaves while the backend says nothing more is noticed, not first at the backend's next word."""
    backend = Waiting(answer)
    place.backend.script(backend)
    client = place.client()
    client.send(b"GET /dropped HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
    assert b"200 OK" in client.recv()
    leave(client)
    assert backend.closed.wait(5)
    place.router.wait_for_log(lambda line: place.host in line and "client-conn-closed-during-response-streaming" in line)
    _assert_as_if_nothing_had_been(place, narrow_registrar)


@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["close", "reset"])
def test_a_client_that_leaves_inside_a_long_answer(place: Site, narrow_registrar: Registrar, leave: Leave) -> None:
    """Attack 56: an answer that nobody reads any more is not read on from the backend."""
    stopped = threading.Event()

    def endless(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 2**40)
        try:
            while True:
                exchange.send(b"x" * 65536)
        except OSError:
            stopped.set()

    place.backend.script(endless)
    client = place.client()
    client.send(b"GET /dropped HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
    assert client.recv().startswith(b"HTTP/1.1 200 OK")
    leave(client)
    assert stopped.wait(5)
    place.router.wait_for_log(lambda line: place.host in line and "client-conn-closed-during-response-streaming" in line)
    _assert_as_if_nothing_had_been(place, narrow_registrar)


def test_a_full_endpoint_refuses_and_recovers(place: Site) -> None:
    """Attack 56: the slot counts while the request runs (503 to the next one), so that the tests above can see it freed."""
    backend = Waiting()
    place.backend.script(backend)
    with place.client() as first, place.client() as second:
        first.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode())
        wait_until(lambda: place.backend.received, "the request at the backend")
        refused = second.request(place.host)
        assert (refused.status, refused.get("x-cf-routererror")) == (503, "Connection Limit Reached")
        first.close()
        assert backend.closed.wait(5)
        assert second.request(place.host).status == 200
