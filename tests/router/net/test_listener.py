"""router/net/listener.py: accepting, shedding and resting, over real sockets on both event loops."""

import asyncio
import os
import resource
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from router.net.budget import Budget, BudgetLimits
from router.net.listener import ACCEPTS_A_TURN, Listener, bind
from tests.router.net.pairs import SOON
from tests.support.waiting import until


class Door:
    """A listener on loopback that keeps what it is handed."""

    def __init__(self, address: str = "127.0.0.1", limits: BudgetLimits | None = None, pause: float = 0.05) -> None:
        self.served: list[tuple[socket.socket, str, int]] = []
        self.shed: Counter[str] = Counter()
        self.budget = Budget(limits or BudgetLimits())
        self.listener = Listener(
            "test",
            bind(address, 0),
            tls=False,
            budget=self.budget,
            loop=asyncio.get_running_loop(),
            serve=lambda sock, address, port, _: self.served.append((sock, address, port)),
            shed=lambda reason: self.shed.update([reason]),
            pause_seconds=pause,
        )

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.listener.port), SOON)


@contextmanager
def door(address: str = "127.0.0.1", limits: BudgetLimits | None = None, pause: float = 0.05) -> Iterator[Door]:
    made = Door(address, limits, pause)
    try:
        yield made
    finally:
        made.listener.close()
        for sock, _, _ in made.served:
            sock.close()


async def test_an_accepted_socket_is_ready_for_the_data_path() -> None:
    """Non-blocking, without Nagle's delay, with keep-alive; with the client's address and port."""
    with door() as one:
        one.listener.open()
        with one.connect() as client:
            await until(lambda: one.served, "the connection")
            sock, address, port = one.served[0]
            assert (address, port) == client.getsockname()
            assert not sock.getblocking()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert one.budget.open == 1


async def test_a_listener_on_all_addresses_names_an_ipv4_client_as_such() -> None:
    """`::` takes IPv4 too, and no client is called ::ffff:127.0.0.1."""
    with door("::") as one:
        one.listener.open()
        with one.connect(), socket.create_connection(("::1", one.listener.port), SOON):
            await until(lambda: len(one.served) == 2, "both connections")
            assert {address for _, address, _ in one.served} == {"127.0.0.1", "::1"}


async def test_more_connections_than_a_turn_takes_are_all_served() -> None:
    """A flood is accepted in portions; nobody is forgotten."""
    with door() as one:
        clients = [one.connect() for _ in range(ACCEPTS_A_TURN + 6)]
        one.listener.open()
        await until(lambda: len(one.served) == ACCEPTS_A_TURN + 6, "all of them")
        for client in clients:
            client.close()


async def test_a_connection_over_the_budget_is_reset_and_counted() -> None:
    """Attack 76: the reason is a bounded label, and it costs no descriptor."""
    with door(limits=BudgetLimits(per_address=1)) as one:
        one.listener.open()
        with one.connect() as first, one.connect() as second:
            await until(lambda: one.shed, "the shedding")
            assert one.shed == {"per_address": 1}
            with pytest.raises(ConnectionResetError):
                second.recv(1)
            assert len(one.served) == 1
            first.setblocking(False)
            with pytest.raises(BlockingIOError):
                first.recv(1)


async def test_a_paused_listener_leaves_connections_in_the_backlog() -> None:
    """They are served when it opens again."""
    with door() as one:
        one.listener.open()
        one.listener.open()
        one.listener.pause()
        one.listener.pause()
        with one.connect():
            await asyncio.sleep(0.02)
            assert one.served == []
            one.listener.open()
            await until(lambda: one.served, "the connection")


async def test_a_closed_listener_refuses_and_stays_closed() -> None:
    """The kernel refuses from then on; opening it again does nothing."""
    with door() as one:
        one.listener.open()
        port = one.listener.port
        one.listener.close()
        one.listener.open()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), SOON)


@contextmanager
def descriptors_limited_to(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def lowest_free() -> int:
    number = os.dup(0)
    os.close(number)
    return number


@pytest.mark.parametrize(
    "limit", [lambda free: free, lambda free: int(free / 0.75) - 1], ids=["none left", "the clients' share is used up"]
)
async def test_out_of_descriptors_it_rests_and_goes_on_by_itself(limit: Callable[[int], int]) -> None:
    """Attack 81: no busy loop, one count a rest, and it accepts again soon after there are descriptors."""
    with door(pause=0.05) as one:
        one.listener.open()
        with one.connect() as first:
            await until(lambda: one.served, "the first connection")
            second = one.connect()
            with descriptors_limited_to(limit(lowest_free())):
                await until(lambda: one.shed, "the rest")
                resting = one.shed["out_of_descriptors"]
                await asyncio.sleep(0.02)
                assert one.shed == {"out_of_descriptors": resting}
                assert len(one.served) == 1
            second.close()
            with one.connect():
                await until(lambda: len(one.served) >= 2, "accepting to go on")
            assert first.fileno() >= 0


async def test_closing_while_it_rests_is_final() -> None:
    """The pause's timer does not open a closed listener."""
    with door(pause=0.02) as one:
        one.listener.open()
        with one.connect(), descriptors_limited_to(lowest_free()):
            await until(lambda: one.shed, "the rest")
            one.listener.close()
            await asyncio.sleep(0.04)
        assert one.served == []


async def test_a_port_in_use_is_an_error_and_leaks_nothing() -> None:
    """`bind` raises OSError."""
    with door() as one, pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", one.listener.port)
