"""router/l4/relay.py: two sockets joined, over real TCP on both event loops, through pipes and without."""

import asyncio
import contextlib
import socket

import pytest

from router.l4 import relay as module
from router.net.edges import Edges
from router.net.relay import Ending
from tests.router.l4.plumbing import Joint, descriptors, joint, plumbing, reset
from tests.router.net.pairs import SOON
from tests.support.waiting import until

THROUGH_PIPES, WITHOUT = 16, 0
either = pytest.mark.parametrize("lent", [THROUGH_PIPES, WITHOUT], ids=["splice", "plain"])
MEGABYTES = bytes(range(256)) * 32768


@either
async def test_bytes_pass_both_ways_and_ends_are_passed_on_alone(lent: int) -> None:
    """Once, in order, counted; who has ended still hears."""
    with joint(lent=lent) as one:
        one.client.sendall(b"early ")
        running = one.start()
        one.client.sendall(b"late")
        one.backend.sendall(b"second")
        assert await one.read(one.backend, 10) == b"early late"
        assert await one.read(one.client, 6) == b"second"
        one.client.shutdown(socket.SHUT_WR)
        assert await one.read(one.backend, 1) == b""
        one.backend.sendall(b" more")
        assert await one.read(one.client, 5) == b" more"
        one.backend.close()
        assert await running == "ended"
        assert (one.relay.from_client, one.relay.from_backend, one.relay.broken_by) == (10, 11, "")
        assert await one.read(one.client, 1) == b""


@either
async def test_a_backend_that_ends_first_still_hears_the_client(lent: int) -> None:
    """Half-close is kept in that direction too."""
    with joint(lent=lent) as one:
        running = one.start()
        one.backend.sendall(b"all")
        one.backend.shutdown(socket.SHUT_WR)
        assert await one.read(one.client, 4) == b"all"
        one.client.sendall(b"thanks")
        one.client.shutdown(socket.SHUT_WR)
        assert await one.read(one.backend, 7) == b"thanks"
        assert await running == "ended"


@either
async def test_megabytes_pass_whole_with_both_sides_talking_at_once(lent: int) -> None:
    """Every byte in order, an end right behind them."""
    with joint(lent=lent) as one:
        running = one.start()

        def say(sock: socket.socket) -> None:
            sock.sendall(MEGABYTES)
            sock.shutdown(socket.SHUT_WR)

        sending = [one.loop.run_in_executor(None, say, sock) for sock in (one.client, one.backend)]
        heard = await asyncio.gather(
            one.read(one.backend, len(MEGABYTES) + 1), one.read(one.client, len(MEGABYTES) + 1), *sending
        )
        assert heard[0] == heard[1] == MEGABYTES
        assert await running == "ended"
        assert one.relay.from_client == one.relay.from_backend == len(MEGABYTES)


@either
async def test_a_peer_that_does_not_take_its_bytes_holds_back_the_other_and_loses_none(lent: int) -> None:
    """The kernel's windows are the back-pressure; the relay holds a pipe's content at most, and no pipe afterwards."""
    with joint(lent=lent, narrow=True) as one:
        running = one.start()
        one.client.setblocking(False)
        sent = await _fill(one.client)
        assert sent < len(MEGABYTES)
        assert one.around.pipes.lent <= 1
        heard = await one.read(one.backend, sent)
        assert heard == MEGABYTES[:sent]
        await until(lambda: one.around.pipes.lent == 0, "the pipe to be given back")
        one.client.close()
        one.backend.close()
        await running


async def _fill(sock: socket.socket) -> int:
    """Send until nobody takes any more for a while; how many bytes."""
    sent, quiet = 0, 0
    while quiet < 20:
        try:
            sent += sock.send(MEGABYTES[sent : sent + 65536])
            quiet = 0
        except BlockingIOError:
            quiet += 1
            await asyncio.sleep(0.005)
    return sent


@either
@pytest.mark.parametrize("who", ["client", "backend"])
async def test_a_reset_is_passed_on_as_a_reset(lent: int, who: str) -> None:
    """Nothing that was cut short looks whole."""
    with joint(lent=lent) as one:
        running = one.start()
        breaks, other = (one.client, one.backend) if who == "client" else (one.backend, one.client)
        breaks.sendall(b"hello")
        assert await one.read(other, 5) == b"hello"
        reset(breaks)
        assert await running == "broken"
        assert one.relay.broken_by == who
        with pytest.raises(ConnectionResetError):
            await one.read(other, 1)


@either
async def test_last_words_before_a_reset_arrive(lent: int) -> None:
    """A backend that answers early and slams the door is still understood."""
    with joint(lent=lent) as one:
        running = one.start()
        one.client.sendall(b"question")
        await one.read(one.backend, 1)
        one.backend.sendall(b"no")
        one.backend.close()  # with unread bytes: the kernel sends a reset behind the answer
        assert await one.read(one.client, 2) == b"no"
        assert await running == "broken"


@either
async def test_a_reset_is_heard_while_the_other_side_is_stalled(lent: int) -> None:
    """Nobody reads from the client then, and its reset must not wait for the backend to move."""
    before = descriptors()
    with joint(lent=lent, narrow=True) as one:
        running = one.start()
        one.client.setblocking(False)
        await _fill(one.client)
        reset(one.client)
        assert await asyncio.wait_for(running, SOON) == "broken"
        assert (one.relay.broken_by, one.around.pipes.lent) == ("client", 0)
    assert descriptors() == before


async def test_a_reset_is_heard_after_the_end() -> None:
    """A client that ended its side and then vanishes ends the relay at once, though nobody has anything to say."""
    with joint() as one:
        running = one.start()
        one.client.shutdown(socket.SHUT_WR)
        assert await one.read(one.backend, 1) == b""
        reset(one.client)
        assert await asyncio.wait_for(running, SOON) == "broken"
        with pytest.raises(OSError, match=r"Broken pipe|reset by peer"):
            one.backend.send(b"anybody there?")


async def test_nothing_spins_while_one_side_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end is told once."""
    looks = 0
    look = module.SocketRelay._look

    def counted(self: module.SocketRelay, events: int, heard: module._Way, said: module._Way) -> None:
        nonlocal looks
        looks += 1
        look(self, events, heard, said)

    monkeypatch.setattr(module.SocketRelay, "_look", counted)
    with joint() as one:
        running = one.start()
        one.client.shutdown(socket.SHUT_WR)
        assert await one.read(one.backend, 1) == b""
        seen = looks
        await asyncio.sleep(0.3)
        assert looks - seen <= 1
        assert seen < 10
        one.backend.close()
        await running


@either
async def test_silence_ends_it_and_either_side_keeps_it(lent: int) -> None:
    """`idle` counts from the last byte of any side."""
    with joint(idle=0.6, lent=lent) as one:
        started = one.loop.time()
        running = one.start()
        for _ in range(4):
            await asyncio.sleep(0.3)
            one.backend.sendall(b".")
        assert await running == "idle"
        assert one.loop.time() - started >= 1.7
        assert await one.read(one.client, 4) == b"...."
        with pytest.raises(ConnectionResetError):
            await one.read(one.client, 1)


async def test_a_slow_taker_is_not_silent() -> None:
    """What a peer takes of the bytes that wait for it is movement too."""
    with joint(idle=2.0, narrow=True) as one:
        running = one.start()
        one.client.setblocking(False)
        sent = await _fill(one.client)
        heard = 0
        started = one.loop.time()
        while one.loop.time() - started < 3.0:
            heard += len(await one.read(one.backend, min(sent - heard, sent // 20)))
            await asyncio.sleep(0.2)
        assert not running.done()


async def test_the_total_deadline_ends_what_never_falls_silent() -> None:
    """However busy: late is late."""
    with joint(total=0.6) as one:
        running = one.start()
        with contextlib.suppress(OSError):
            while not running.done():
                one.client.sendall(b".")
                await asyncio.sleep(0.02)
        assert await running == "late"


@pytest.mark.parametrize("ending", ["drained", "denied"])
async def test_whoever_ends_it_says_why_and_the_first_word_stands(ending: Ending) -> None:
    """A drain or a reload cuts with a reset, from outside of any callback."""
    with joint() as one:
        running = one.start()
        await asyncio.sleep(0)
        one.relay.end(ending)
        one.relay.end("idle")
        assert await running == ending
        with pytest.raises(ConnectionResetError):
            await one.read(one.client, 1)


async def test_a_relay_that_is_ended_leaves_nothing_behind() -> None:
    """Both sockets, both registrations, the deadline and the pipe are gone."""
    before = descriptors()
    with joint(narrow=True) as one:
        running = one.start()
        one.client.setblocking(False)
        await _fill(one.client)
        one.relay.end("drained")
        assert await running == "drained"
        assert (len(one.around.edges), one.around.pipes.lent, one.relay.slot) == (0, 0, None)
    assert descriptors() == before


async def test_what_the_backend_has_heard_already_is_counted_and_not_said_again() -> None:
    """Whoever looked at the first bytes sent them ahead; the client's socket still holds them."""
    with joint() as one:
        one.client.sendall(b"hello, and more")
        running = one.start(5)
        assert await one.read(one.backend, 10) == b", and more"
        one.client.close()
        one.backend.close()
        await running
        assert one.relay.from_client == 15


async def test_a_client_that_resets_before_its_first_bytes_were_read_broke_it() -> None:
    """And the backend hears of it."""
    before = descriptors()
    with joint() as one:
        one.client.sendall(b"hello")
        reset(one.client)
        assert await one.start(5) == "broken"
        assert one.relay.broken_by == "client"
        with pytest.raises(ConnectionResetError):
            await one.read(one.backend, 1)
    assert descriptors() == before


async def test_an_idle_relay_holds_no_pipe() -> None:
    """Pipes are lent only while bytes are in them."""
    with joint() as one:
        running = one.start()
        sending = one.loop.run_in_executor(None, one.client.sendall, MEGABYTES)
        assert await one.read(one.backend, len(MEGABYTES)) == MEGABYTES
        await sending
        assert one.around.pipes.lent == 0
        one.relay.end("drained")
        await running


async def test_without_a_pipe_to_be_had_bytes_pass_all_the_same() -> None:
    """Stalled relays may hold all of them; the others go without."""
    with plumbing(lent=1) as around:
        stalled, other = Joint(around, narrow=True), Joint(around)
        running = [stalled.start(), other.start()]
        stalled.client.setblocking(False)
        await _fill(stalled.client)
        assert around.pipes.lent == 1
        sending = other.loop.run_in_executor(None, other.client.sendall, MEGABYTES)
        assert await other.read(other.backend, len(MEGABYTES)) == MEGABYTES
        await sending
        for one in (stalled, other):
            one.relay.end("drained")
            one.client.close()
            one.backend.close()
        await asyncio.gather(*running)
        assert around.pipes.lent == 0


async def test_a_busy_relay_leaves_the_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """After TURN_BYTES the loop goes round, and it goes on by itself."""
    monkeypatch.setattr(module, "TURN_BYTES", 1)
    with joint() as one:
        running = one.start()
        sending = one.loop.run_in_executor(None, one.client.sendall, MEGABYTES[:1_000_000])
        assert await one.read(one.backend, 1_000_000) == MEGABYTES[:1_000_000]
        await sending
        one.relay.end("drained")
        await running


async def test_what_others_were_told_of_a_socket_is_not_lost() -> None:
    """An end that came while somebody else waited on the same edges."""
    with joint() as one:
        down = one.relay._to_backend.source
        told: list[int] = []
        one.around.edges.watch(down.fileno(), told.append)
        one.client.sendall(b"all of it")
        one.client.shutdown(socket.SHUT_WR)
        await until(lambda: told, "the edge")
        await asyncio.sleep(0.05)
        running = one.start(0, told[0] | told[-1])
        assert await one.read(one.backend, 10) == b"all of it"
        one.backend.close()
        assert await running == "ended"


async def test_a_kernel_that_watches_no_more_breaks_it_cleanly(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor stays behind."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = descriptors()
    with joint() as one:
        monkeypatch.setattr(Edges, "watch", full)
        assert await one.start() == "broken"
    assert descriptors() == before
