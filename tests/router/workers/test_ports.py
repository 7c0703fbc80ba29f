"""router/workers/ports.py: the listening sockets of all workers."""

import socket
from collections.abc import Iterator

import pytest

from router.demo.process import free_port
from router.listening import Place
from router.net.listener import bind
from router.workers.ports import Ports, discard

WORKERS = 2


@pytest.fixture
def place() -> Place:
    return Place("127.0.0.1", free_port())


@pytest.fixture
def ports() -> Iterator[Ports]:
    made = Ports(WORKERS)
    yield made
    made.close()


def test_each_worker_has_a_socket_of_its_own(ports: Ports, place: Place) -> None:
    """All of them at the same place."""
    ports.adopt([place], ports.prepare([place], {}))
    first, second = ports.of(0)[place], ports.of(1)[place]
    assert first is not second
    assert first.getsockname() == second.getsockname() == tuple(place)
    assert ports.numbers == [place.port]


def test_connections_reach_every_socket(ports: Ports, place: Place) -> None:
    """The kernel spreads them."""
    ports.adopt([place], ports.prepare([place], {}))
    ports.listen()
    for sock in (ports.of(0)[place], ports.of(1)[place]):
        sock.setblocking(False)
    reached = set()
    for _ in range(64):
        with socket.create_connection(place):
            for slot in range(WORKERS):
                try:
                    ports.of(slot)[place].accept()[0].close()
                except BlockingIOError:
                    continue
                reached.add(slot)
    assert reached == {0, 1}


def assert_all_go_to(sock: socket.socket, place: Place) -> None:
    """It has every connection, and nobody else can have the port."""
    for _ in range(32):
        with socket.create_connection(place):
            sock.accept()[0].close()
    with pytest.raises(OSError, match="in use"):
        bind(*place)


def test_nobody_waits_at_a_socket_whose_worker_does_not_serve_yet(ports: Ports, place: Place) -> None:
    """From the start the first one has all, and nobody else gets the port; the others get their share when they listen."""
    ports.adopt([place], ports.prepare([place], {}))
    first, second = ports.of(0)[place], ports.of(1)[place]
    first.setblocking(False)
    assert_all_go_to(first, place)
    ports.listen(1)
    assert second.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


def test_what_rests_gets_nothing_until_it_listens_again(ports: Ports, place: Place) -> None:
    """The others get all, and nobody else gets the port meanwhile."""
    ports.adopt([place], ports.prepare([place], {}))
    ports.listen()
    first, second = ports.of(0)[place], ports.of(1)[place]
    for sock in (first, second):
        sock.setblocking(False)
    for _ in range(2):
        ports.rest(1)
    assert_all_go_to(first, place)
    ports.listen(1)
    ports.rest(0)
    with socket.create_connection(place) as client:
        accepted, _ = second.accept()
        with accepted:
            accepted.sendall(b"a")
            assert client.recv(1) == b"a"


def test_the_only_socket_of_a_place_never_rests(place: Place) -> None:
    """It may be everybody's."""
    ports = Ports(1)
    ports.adopt([place], ports.prepare([place], {}))
    ports.rest(0)
    with socket.create_connection(place):
        ports.of(0)[place].accept()[0].close()
    ports.close()


@pytest.mark.parametrize("shared", [False, True])
def test_a_place_that_somebody_has_is_not_shared(ports: Ports, place: Place, *, shared: bool) -> None:
    """Not even with one who would: two routers never have one port unnoticed."""
    other = Place("127.0.0.1", free_port())
    with bind(*place, shared=shared), pytest.raises(OSError, match="in use"):
        ports.prepare([other, place], {})
    socket.create_server(other).close()  # nothing was left open


def test_a_successor_shares_with_those_that_it_relieves(ports: Ports, place: Place) -> None:
    """It is given no connection before it listens."""
    predecessor = bind(*place, shared=True)
    with predecessor:
        ports.adopt([place], ports.prepare([place], {}, over=True))
        with socket.create_connection(place):
            predecessor.accept()[0].close()
        ports.listen()
    with socket.create_connection(place):
        pass


def test_what_is_not_wanted_any_more_is_closed_and_the_rest_stays(ports: Ports, place: Place) -> None:
    """A reload: no socket of a place that stays is another one afterwards."""
    other = Place("127.0.0.1", free_port())
    ports.adopt([place], ports.prepare([place], {}))
    kept = ports.of(0)[place]
    ports.adopt([place, other], ports.prepare([place, other], {}))
    assert ports.of(0)[place] is kept
    ports.adopt([other], ports.prepare([other], {}))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place)
    assert ports.numbers == [other.port]


def test_a_socket_that_was_passed_is_every_workers(ports: Ports, place: Place) -> None:
    """systemd passes one a port."""
    passed = bind(*place)
    inherited = {place.port: passed}
    ports.adopt([place], ports.prepare([place], inherited))
    assert inherited == {}
    assert ports.of(0)[place] is ports.of(1)[place] is passed


def test_what_was_prepared_can_be_given_up(ports: Ports, place: Place) -> None:
    """Nothing holds the place then."""
    discard(ports.prepare([place], {}))
    socket.create_server(place).close()
