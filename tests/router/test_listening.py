"""router/listening.py: the ports of a process, on both event loops."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from router.config.compile_l4 import L4Settings
from router.demo.process import free_port
from router.l4.listeners import Kind, ListenerPlan
from router.l4.routes import L4Table
from router.listening import Listening, take_or_bind
from router.net.budget import BudgetLimits
from router.net.firewall import NO_RULES
from router.net.listener import Listener
from router.observe.metrics import Metrics
from tests.router.l4.plumbing import descriptors
from tests.support.waiting import until


class Ports:
    """A process's ports, and who came by which listener."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self.open: list[socket.socket] = []
        self.metrics = Metrics()
        self.listening = Listening(asyncio.get_running_loop(), self.serve, self.metrics, lambda: 0.1)

    def serve(self, sock: socket.socket, address: str, port: int, listener: Listener) -> None:
        self.came.append(listener.name)
        self.open.append(sock)

    def sync(self, settings: L4Settings, inherited: dict[int, socket.socket] | None = None) -> None:
        take = take_or_bind({} if inherited is None else inherited)
        self.listening.adopt(settings, self.listening.prepare(settings, take))

    async def visit(self, port: int, address: str = "127.0.0.1") -> str:
        """By which listener a connection comes in."""
        before = len(self.came)
        with socket.create_connection((address, port), 5):
            await until(lambda: len(self.came) > before, "the connection")
        return self.came[-1]


@asynccontextmanager
async def ports() -> AsyncIterator[Ports]:
    made = Ports()
    try:
        yield made
    finally:
        made.listening.close()
        for sock in made.open:
            sock.close()
        await asyncio.sleep(0)


def plan(port: int, kind: Kind = "tls", *addresses: str, **more: object) -> ListenerPlan:
    return ListenerPlan(f"{kind}:{port}", kind, port, addresses or ("::",), **more)  # type: ignore[arg-type]


def settings(*plans: ListenerPlan, total: int = 0) -> L4Settings:
    return L4Settings(plans, L4Table(), (), NO_RULES, total)


async def test_exactly_the_wanted_ports_are_open_and_those_that_stay_keep_their_socket() -> None:
    """A reload closes and opens, and touches nothing else."""
    first, second, third = free_port(), free_port(), free_port()
    async with ports() as one:
        one.sync(settings(plan(first), plan(second, "tcp")))
        one.listening.open()
        assert (await one.visit(first), await one.visit(second)) == (f"tls:{first}", f"tcp:{second}")
        (kept,) = [listener.sock for listener in one.listening if listener.port == first]
        one.sync(settings(plan(first), plan(third, "http")))
        one.listening.open()
        assert one.listening.ports == sorted((first, third))
        assert [listener.sock for listener in one.listening if listener.port == first] == [kept]
        assert await one.visit(third) == f"http:{third}"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", second))


async def test_a_port_of_another_kind_keeps_its_socket_and_its_backlog() -> None:
    """It can be bound once only, and nobody who waits to be accepted is refused."""
    port = free_port()
    async with ports() as one:
        one.sync(settings(plan(port)))
        with socket.create_connection(("127.0.0.1", port), 5):
            one.sync(settings(plan(port, "tcp")))
            one.listening.open()
            await until(lambda: one.came, "the one who waited")
        assert one.came == [f"tcp:{port}"]


async def test_a_port_that_is_taken_changes_nothing() -> None:
    """R225: OSError, and not a descriptor more or less."""
    port, other = free_port(), free_port()
    async with ports() as one:
        one.sync(settings(plan(port)))
        one.listening.open()
        with socket.create_server(("::", 0), family=socket.AF_INET6) as taken:
            before = descriptors()
            with pytest.raises(OSError, match="in use"):
                one.sync(settings(plan(other), plan(taken.getsockname()[1])))
            assert descriptors() == before
        assert one.listening.ports == [port]
        assert await one.visit(port) == f"tls:{port}"


async def test_a_listener_has_several_addresses_and_one_budget() -> None:
    """R123: `max_connections` counts them together; a reload changes it for the connections that are there."""
    port = free_port()
    async with ports() as one:
        limited = plan(port, "tls", "127.0.0.1", "::1", budget=BudgetLimits(max_connections=2))
        one.sync(settings(limited))
        one.listening.open()
        assert {await one.visit(port), await one.visit(port, "::1")} == {f"tls:{port}"}
        with socket.create_connection(("127.0.0.1", port), 5) as third, pytest.raises(ConnectionResetError):
            await asyncio.get_running_loop().run_in_executor(None, third.recv, 1)
        assert one.metrics.connections_shed.labels("max_connections").value == 1
        one.sync(settings(plan(port, "tls", "127.0.0.1", "::1")))
        assert await one.visit(port) == f"tls:{port}"


async def test_inherited_sockets_are_taken_by_their_port() -> None:
    """Socket activation: what is not wanted is left for whoever passed it."""
    async with ports() as one:
        mine, other = (socket.create_server(("::", 0), family=socket.AF_INET6) for _ in range(2))
        inherited = {sock.getsockname()[1]: sock for sock in (mine, other)}
        port = mine.getsockname()[1]
        one.sync(settings(plan(port)), inherited)
        assert [listener.sock for listener in one.listening] == [mine]
        assert list(inherited.values()) == [other]
        other.close()


async def test_all_listeners_together_have_a_bound_of_their_own() -> None:
    """Shed with its own reason; a reload lifts it."""
    first, second = free_port(), free_port()
    async with ports() as one:
        one.sync(settings(plan(first), plan(second), total=1))
        one.listening.open()
        assert await one.visit(first) == f"tls:{first}"
        with socket.create_connection(("127.0.0.1", second), 5) as other, pytest.raises(ConnectionResetError):
            await asyncio.get_running_loop().run_in_executor(None, other.recv, 1)
        assert one.metrics.connections_shed.labels("total").value == 1
        one.sync(settings(plan(first), plan(second)))
        assert await one.visit(second) == f"tls:{second}"
