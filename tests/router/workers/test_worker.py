"""router/workers/worker.py: a worker does what it is told, in the order in which it is told."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from router.demo.process import free_port
from router.workers import worker
from router.workers.messages import (
    Adopt,
    Alive,
    Answered,
    Ask,
    Discard,
    Drain,
    Drained,
    End,
    HealthIs,
    Prepare,
    Prepared,
    Routes,
    Told,
)  # fmt: skip
from router.workers.takeover import Rendezvous
from tests.router.desk import in_thread
from tests.router.inspect.shop import said, table_of
from tests.router.workers.boss import boss
from tests.support.backend import EchoBackend
from tests.support.client import Client, get
from tests.support.recorder import RecordingLog
from tests.support.waiting import until

HOST = "app.open.example"


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    """A worker tunes the process's garbage collector, which is the tests' too."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


async def test_it_serves_what_it_is_told(backend: EchoBackend) -> None:
    """Routes, configuration and sockets of the supervisor; its numbers go back."""
    async with boss() as one:
        await one.launch(one.config(), table_of(said(HOST, port=backend.port)))
        assert (await in_thread(get, one.port, HOST)).status == 200
        assert (await in_thread(get, one.port, "none.open.example")).status == 404
        one.say(Ask(7))
        await one.answer(Answered)
        assert one.heard[-1] == Answered(7)
        told = [entry for message in one.heard if isinstance(message, Told) for entry in message.entries]
        assert ["responses", ["2xx"], 1] in told
        one.say(End())
        assert await one.ended() == 0


async def test_one_that_stands_by_says_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its supervisor would take it for one that hangs; what begins says at once that it has heard so."""
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.01)
    async with boss() as one:
        await until(lambda: one.heard.count(Alive()) > 2, "its word")
        assert one.worker._beat is not None
        one.worker._beat.cancel()
        one.heard.clear()
        one.begin()
        await one.answer(Alive)


async def test_a_configuration_is_in_force_when_it_is_adopted_and_not_before(backend: EchoBackend) -> None:
    """Ports come and go with it, and connections stay."""
    async with boss() as one:
        await one.launch(one.config(), table_of(said(HOST, port=backend.port)))
        with await in_thread(Client, one.port) as client:
            assert (await in_thread(client.request, HOST)).status == 200
            new = free_port()
            one.give(new)
            one.say(Prepare(2, one.config(max_request_header_bytes=2048).model_copy(update={"port": new}), True))
            assert await one.answer(Prepared, lambda said: said.generation == 2) == Prepared(2, "")
            big = [("X-Big", "x" * 3000)]
            assert (await in_thread(lambda: client.request(HOST, headers=big))).status == 200
            one.say(Adopt(2))
            await until(lambda: one.worker._serving and _listens(new), "the new port")
            assert (await in_thread(lambda: client.request(HOST, headers=big))).status == 431
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", one.port))


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


async def test_what_comes_to_nothing_changes_nothing(backend: EchoBackend) -> None:
    """The sockets that came for it are closed."""
    async with boss() as one:
        await one.launch(one.config(), table_of(said(HOST, port=backend.port)))
        new = free_port()
        one.give(new)
        one.say(Prepare(2, one.config().model_copy(update={"port": new}), True))
        await one.answer(Prepared, lambda said: said.generation == 2)
        one.say(Discard(2))
        await until(lambda: not _listens(new), "the end of the port")
        assert (await in_thread(get, one.port, HOST)).status == 200


async def test_what_it_cannot_have_it_says() -> None:
    """A port without a socket: the configuration in force stays."""
    async with boss() as one:
        await one.launch(one.config())
        one.say(Prepare(2, one.config().model_copy(update={"port": 1}), True))
        answer = await one.answer(Prepared, lambda said: said.generation == 2)
        assert "sent no socket" in answer.why
        assert (await in_thread(get, one.port, HOST)).status == 404


async def test_a_first_configuration_that_it_cannot_have_ends_it() -> None:
    """And it says why first."""
    async with boss() as one:
        one.begin()
        one.say(Prepare(1, one.config(), True))
        one.say(Adopt(1))
        assert "sent no socket" in (await one.answer(Prepared)).why
        assert await one.ended() == 1


async def test_routes_that_it_cannot_read_end_it() -> None:
    """It is not what its supervisor thinks, and must not go on serving."""
    async with boss() as one:
        await one.launch(one.config())
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        one.say(Routes(b"nonsense"))
        assert await one.ended() == 1


async def test_a_drain_lets_requests_finish(backend: EchoBackend) -> None:
    """Nobody new, the answer under way, then its end."""
    async with boss() as one:
        await one.launch(one.config(), table_of(said(HOST, port=backend.port)))
        with await in_thread(Client, one.port) as client:
            assert (await in_thread(client.request, HOST)).status == 200
            one.say(HealthIs(2))
            one.say(Drain(5.0))
            assert await one.answer(Drained) == Drained(True)
        assert await one.ended() == 0
        assert not _listens(one.port)


async def test_without_its_supervisor_it_serves_until_a_successor_comes(backend: EchoBackend) -> None:
    """With the last routes; then it drains."""
    name = f"\0vestibule.test.{os.getpid()}.{free_port()}"
    async with boss() as one:
        await one.launch(one.config(), table_of(said(HOST, port=backend.port)), name)
        one.channel.close()
        for _ in range(3):
            assert (await in_thread(get, one.port, HOST)).status == 200
        successor = Rendezvous(asyncio.get_running_loop(), RecordingLog())  # type: ignore[arg-type]
        assert successor.claim(name)
        assert await successor.found(10.0)
        assert (await in_thread(get, one.port, HOST)).status == 200
        successor.dismiss()
        assert await one.ended() == 0
        successor.close()


async def test_before_it_serves_it_ends_with_its_supervisor() -> None:
    """A spare is nobody's orphan."""
    async with boss() as one:
        one.channel.close()
        assert await one.ended() == 0


async def test_sigterm_ends_it() -> None:
    """An orphan can be sent away by hand."""
    async with boss() as one:
        await one.launch(one.config())
        os.kill(os.getpid(), signal.SIGTERM)
        assert await one.ended() == 0
