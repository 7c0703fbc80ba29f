"""router/net/stream.py: the verbs of the data path, over real TCP on both event loops."""

import asyncio
import contextlib
import os
import socket
import threading
from itertools import pairwise

import pytest

from router.net.deadline import Wheel
from router.net.stream import LINGER_BYTES, TURN_BYTES, Stream
from tests.router.net.pairs import SOON, connected, soon, tcp_pair
from tests.support.waiting import until


def task_of(work: object) -> "asyncio.Task[bytes]":
    return asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]


def passed() -> float:
    """A deadline that has passed: the wheel says so with its next tick."""
    return asyncio.get_running_loop().time()


# Reading


async def test_recv_takes_what_is_here_waits_for_more_and_ends_empty() -> None:
    """Bytes at once where there are some; b"" when the peer has ended its side."""
    with connected() as (stream, peer):
        peer.sendall(b"one")
        assert await stream.recv(soon()) == b"one"
        waiting = task_of(stream.recv(soon()))
        await until(lambda: stream.read_gate.waited, "the reader")
        peer.sendall(b"two")
        assert await waiting == b"two"
        peer.shutdown(socket.SHUT_WR)
        assert await stream.recv(soon()) == b""


async def test_recv_gives_up_at_its_deadline_and_can_be_tried_again() -> None:
    """Past the deadline: TimeoutError; nothing is lost."""
    with connected() as (stream, peer):
        with pytest.raises(TimeoutError):
            await stream.recv(passed())
        peer.sendall(b"late")
        assert await stream.recv(soon()) == b"late"


async def test_a_large_message_arrives_whole_and_in_order() -> None:
    """A receive that fills its buffer is followed by another without a wait."""
    data = bytes(range(256)) * 4096
    with connected() as (stream, peer):
        sender = threading.Thread(target=peer.sendall, args=(data,))
        sender.start()
        got = bytearray()
        while len(got) < len(data):
            got += await stream.recv(soon())
        sender.join()
    assert bytes(got) == data


class Endless(Stream):
    """A peer that always has more to say."""

    def _try_recv(self, size: int) -> bytes:
        return bytes(size)


async def test_a_peer_that_is_always_ready_gives_the_others_their_turn() -> None:
    """No stream is read for more than TURN_BYTES without the event loop going round."""
    ours, theirs = tcp_pair()
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    stream = Endless(ours, loop, wheel)
    others: list[int] = []
    loop.call_soon(others.append, 1)
    taken = 0
    while not others and taken < 100 * TURN_BYTES:
        taken += len(await stream.recv(soon()))
    stream.close()
    theirs.close()
    wheel.close()
    assert taken <= TURN_BYTES + stream.chunk


async def test_a_turn_stays_as_long_however_long_the_peer_goes_on() -> None:
    """Woken by its descriptor as well as by its own call, a stream has two turns in a round of the loop and never more."""
    ours, theirs = tcp_pair()
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    stream = Endless(ours, loop, wheel)
    theirs.sendall(b"x")  # is never taken: the descriptor is always ready
    taken = 0
    rounds: list[int] = []

    def go_round() -> None:
        rounds.append(taken)
        if len(rounds) < 50:
            loop.call_soon(go_round)

    loop.call_soon(go_round)
    while len(rounds) < 50:
        taken += len(await stream.recv(soon()))
    stream.close()
    theirs.close()
    wheel.close()
    assert max(after - before for before, after in pairwise(rounds)) <= 2 * (TURN_BYTES + stream.chunk)


async def test_bytes_that_nobody_reads_wake_the_stream_once_only() -> None:
    """Back-pressure: they stay in the kernel, and the callback is taken off until somebody reads."""
    with connected() as (stream, peer):
        peer.sendall(b"x")
        await stream.recv(soon())
        waiting = task_of(stream.recv(soon()))
        await until(lambda: stream.read_gate.waited, "the reader")
        peer.sendall(b"y")
        await waiting
        before = stream.wakeups
        peer.sendall(b"z")
        await asyncio.sleep(0.05)
        assert stream.wakeups - before == 1
        assert await stream.recv(soon()) == b"z"


async def test_a_reset_peer_is_an_error() -> None:
    """A broken peer is an OSError."""
    with connected() as (stream, peer):
        waiting = task_of(stream.recv(soon()))
        await until(lambda: stream.read_gate.waited, "the reader")
        Stream(peer, asyncio.get_running_loop(), stream.wheel).reset()
        with pytest.raises(ConnectionResetError):
            await waiting


# Peeking


async def test_peek_sees_more_than_is_known_and_consumes_nothing() -> None:
    """The same bytes are there for the next reader."""
    with connected() as (stream, peer):
        peer.sendall(b"hello")
        assert await stream.peek(soon(), 16, 0) == b"hello"
        assert await stream.peek(soon(), 3, 0) == b"hel"
        assert await stream.recv(soon()) == b"hello"


async def test_peek_sleeps_through_bytes_that_are_not_enough() -> None:
    """Attack 9: the kernel does the waiting, so that a ClientHello in single bytes costs one wake-up and not one a byte."""
    with connected() as (stream, peer):
        peer.sendall(b"1234")
        waiting = task_of(_peek_twice(stream, 9))
        await until(lambda: stream.wakeups == 1 and stream.read_gate.waited, "the reader")
        before = stream.wakeups
        for byte in b"56789":
            peer.sendall(bytes([byte]))
            await asyncio.sleep(0.01)
        assert stream.wakeups == before
        peer.sendall(b"0")
        assert await waiting == b"1234567890"
        assert stream.wakeups - before == 1


@pytest.mark.parametrize("sent", [b"", b"1234"])
async def test_peek_ends_empty_when_the_peer_closes_early(sent: bytes) -> None:
    """A wake-up that brings no new bytes is the end: b"", at once and without spinning."""
    with connected() as (stream, peer):
        peer.sendall(sent)
        waiting = task_of(_peek_twice(stream, 8) if sent else stream.peek(soon(), 64, 8))
        await until(lambda: stream.wakeups == bool(sent) and stream.read_gate.waited, "the reader")
        before = stream.wakeups
        peer.shutdown(socket.SHUT_WR)
        assert await waiting == b""
        assert stream.wakeups - before == 1


async def test_peek_fails_for_a_peer_that_resets() -> None:
    """A reset before any byte is an OSError."""
    with connected() as (stream, peer):
        waiting = task_of(stream.peek(soon(), 64, 0))
        await until(lambda: stream.read_gate.waited, "the reader")
        Stream(peer, asyncio.get_running_loop(), stream.wheel).reset()
        with pytest.raises(ConnectionResetError):
            await waiting


async def test_peek_ends_empty_for_a_peer_that_resets_behind_its_bytes() -> None:
    """The bytes before a reset can still be seen, so that it looks like an end: no more will come either way."""
    with connected() as (stream, peer):
        peer.sendall(b"1234")
        waiting = task_of(_peek_twice(stream, 8))
        await until(lambda: stream.wakeups == 1 and stream.read_gate.waited, "the reader")
        Stream(peer, asyncio.get_running_loop(), stream.wheel).reset()
        assert await waiting == b""


async def test_after_a_peek_one_byte_wakes_a_reader_again() -> None:
    """The low-water mark does not outlive the peek."""
    with connected() as (stream, peer):
        peer.sendall(b"12345678")
        assert await stream.peek(soon(), 64, 7) == b"12345678"
        assert await stream.recv(soon()) == b"12345678"
        waiting = task_of(stream.recv(soon()))
        await until(lambda: stream.read_gate.waited, "the reader")
        peer.sendall(b"9")
        assert await waiting == b"9"


async def test_a_reader_after_a_peek_that_timed_out_is_woken_by_one_byte() -> None:
    """Nor does it outlive a deadline that passed."""
    with connected() as (stream, peer):
        with pytest.raises(TimeoutError):
            await stream.peek(passed(), 64, 7)
        waiting = task_of(stream.recv(soon()))
        await until(lambda: stream.read_gate.waited, "the reader")
        peer.sendall(b"9")
        assert await asyncio.wait_for(waiting, 2) == b"9"


# Watching


async def test_a_watcher_is_called_once_when_something_arrives() -> None:
    """Once, although more comes."""
    with connected() as (stream, peer):
        calls: list[int] = []
        stream.watch(lambda: calls.append(1))
        peer.sendall(b"a")
        await until(lambda: calls, "the watcher")
        peer.sendall(b"b")
        await asyncio.sleep(0.03)
        assert calls == [1]
        assert await stream.recv(soon()) == b"ab"


async def test_a_watcher_is_called_when_the_peer_leaves() -> None:
    """The end of the stream is something too; `take` tells it from bytes."""
    with connected() as (stream, peer):
        calls: list[bytes | None] = []
        stream.watch(lambda: calls.append(stream.take()))
        peer.close()
        await until(lambda: calls, "the watcher")
        assert calls == [b""]


async def test_a_watcher_hears_of_what_arrived_before_it_watched() -> None:
    """Watching starts with a look."""
    with connected() as (stream, peer):
        calls: list[bytes | None] = []
        peer.sendall(b"early")
        await asyncio.sleep(0.01)
        stream.watch(lambda: calls.append(stream.take()))
        await until(lambda: calls, "the watcher")
        assert calls == [b"early"]


async def test_a_watcher_taken_off_is_not_called() -> None:
    """None takes it off; who reads then gets the bytes."""
    with connected() as (stream, peer):
        calls: list[int] = []
        stream.watch(lambda: calls.append(1))
        stream.watch(None)
        waiting = task_of(stream.recv(soon()))
        await until(lambda: stream.read_gate.waited, "the reader")
        peer.sendall(b"a")
        assert await waiting == b"a"
        assert calls == []


async def test_take_tells_silence_bytes_and_the_end_apart() -> None:
    """None, bytes, an empty value for the end; it never waits."""
    with connected() as (stream, peer):
        assert stream.take() is None
        peer.sendall(b"a")
        await stream.peek(soon(), 1, 0)
        assert stream.take() == b"a"
        peer.close()
        await stream.readable(soon())
        assert stream.take() == b""


# Writing


async def test_push_takes_what_fits_and_send_waits_for_the_rest() -> None:
    """Nothing is lost or doubled between the two."""
    data = bytes(range(256)) * 65536
    with connected() as (stream, peer):
        got = bytearray()
        reader = threading.Thread(target=_read_into, args=(peer, got, len(data)))
        rest = stream.push(data)
        assert rest is not None
        reader.start()
        await stream.send(rest, soon())
        await asyncio.to_thread(reader.join)
        assert bytes(got) == data
        assert stream.push(b"tail") is None


async def test_send_gives_up_at_its_deadline() -> None:
    """A peer that does not read costs no more than the deadline."""
    with connected() as (stream, _), pytest.raises(TimeoutError):
        await stream.send(bytes(1 << 25), passed())


async def test_send_to_a_peer_that_is_gone_fails() -> None:
    """A broken peer is an OSError."""
    with connected() as (stream, peer):
        Stream(peer, asyncio.get_running_loop(), stream.wheel).reset()
        await until(stream.hung_up, "the reset")
        with pytest.raises(OSError, match=r"reset|pipe"):
            await stream.send(bytes(1 << 20), soon())


async def test_one_reads_while_another_writes() -> None:
    """One reader and one writer at a time do not disturb each other."""
    with connected() as (stream, peer):
        reading = task_of(stream.recv(soon()))
        writing = task_of(stream.send(bytes(1 << 23), soon()))
        await until(lambda: stream.read_gate.waited and stream.write_gate.waited, "both")
        peer.sendall(b"hello")
        assert await reading == b"hello"
        assert not writing.done()
        await asyncio.to_thread(_read_into, peer, bytearray(), 1 << 23)
        await writing


# Ending


@pytest.mark.parametrize("writes", [False, True])
async def test_interrupt_raises_in_whoever_waits(writes: bool) -> None:
    """The very error, in the reader or else in the writer; nobody waiting: nothing."""
    with connected() as (stream, _):
        stream.interrupt(OSError("nobody hears this"))
        waiting = task_of(stream.send(bytes(1 << 25), soon()) if writes else stream.recv(soon()))
        await until(lambda: stream.read_gate.waited or stream.write_gate.waited, "the wait")
        asyncio.get_running_loop().call_soon(stream.interrupt, ValueError("stop"))
        with pytest.raises(ValueError, match="stop"):
            await waiting


@pytest.mark.parametrize("writes", [False, True])
async def test_closing_ends_the_wait_of_whoever_waits(writes: bool) -> None:
    """ConnectionAbortedError for the waiter, and for everybody who comes later."""
    with connected() as (stream, _):
        waiting = task_of(stream.send(bytes(1 << 25), soon()) if writes else stream.recv(soon()))
        await until(lambda: stream.read_gate.waited or stream.write_gate.waited, "the wait")
        stream.close()
        stream.close()
        with pytest.raises(ConnectionAbortedError):
            await waiting
        with pytest.raises(ConnectionAbortedError):
            await stream.readable(soon())
        with pytest.raises(ConnectionAbortedError):
            await stream.writable(soon())
        with pytest.raises(OSError, match="Bad file descriptor"):
            await stream.recv(soon())
        assert stream.closed


async def test_a_closed_stream_leaves_nothing_in_the_wheel() -> None:
    """Its deadlines are forgotten with it."""
    with connected() as (stream, peer):
        peer.sendall(b"a")
        await stream.recv(soon())
        stream.wheel.arm(stream.write_gate, soon())
        stream.close()
        assert (stream.read_gate.slot, stream.write_gate.slot) == (None, None)


async def test_the_next_owner_of_a_descriptor_number_is_left_alone() -> None:
    """A stream that was closed takes nothing off the loop that belongs to a new one with the same number."""
    with connected() as (old, _):
        waiting = task_of(old.send(bytes(1 << 25), soon()))
        await until(lambda: old.write_gate.waited, "the writer")
        ours, theirs = tcp_pair()
        old.close()
        again = socket.socket(fileno=os.dup2(ours.fileno(), old.fd))
        again.setblocking(False)
        ours.close()
        new = Stream(again, asyncio.get_running_loop(), old.wheel)
        sending = task_of(new.send(bytes(1 << 23), soon()))
        with pytest.raises(ConnectionAbortedError):
            await waiting
        await asyncio.to_thread(_read_into, theirs, bytearray(), 1 << 23)
        await sending
        new.close()
        theirs.close()


async def test_a_detached_descriptor_lives_on_with_its_next_owner() -> None:
    """The old stream is closed for good and the socket is open."""
    with connected() as (stream, peer):
        peer.sendall(b"a")
        await stream.recv(soon())
        sock = stream.detach()
        assert stream.closed
        stream.close()
        other = Stream(sock, asyncio.get_running_loop(), Wheel(asyncio.get_running_loop()))
        waiting = task_of(other.recv(soon()))
        await until(lambda: other.read_gate.waited, "the reader")
        peer.sendall(b"b")
        assert await waiting == b"b"
        other.close()


async def test_reset_tells_the_peer_at_once() -> None:
    """The peer gets a reset, not an end. Twice is once."""
    with connected() as (stream, peer):
        stream.reset()
        stream.reset()
        with pytest.raises(ConnectionResetError):
            peer.recv(1)


async def test_an_end_of_ours_leaves_the_other_way_open() -> None:
    """The peer reads the end, and is still heard; one that is gone is an OSError."""
    with connected() as (stream, peer):
        assert stream.half_closes
        stream.end_writing()
        assert peer.recv(1) == b""
        peer.sendall(b"still here")
        assert await stream.recv(soon()) == b"still here"
        peer.close()
        stream.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            stream.end_writing()


@pytest.mark.parametrize("direction", ["readable", "writable"])
async def test_a_wait_that_is_woken_after_the_close_tries_nothing(direction: str) -> None:
    """The descriptor may be another connection's by then: whoever waited hears that its own is closed, whatever woke it."""
    with connected() as (stream, _):
        if direction == "writable":
            while stream.push(bytes(1 << 20)) is None:
                pass
        waiting = task_of(getattr(stream, direction)(soon()))
        gate = stream.read_gate if direction == "readable" else stream.write_gate
        await until(lambda: gate.waited, "the wait")
        asyncio.get_running_loop().call_soon(gate.open)
        stream.close()
        with pytest.raises(ConnectionAbortedError):
            await waiting


async def test_lingering_lets_the_last_words_arrive_although_input_is_unread() -> None:
    """RFC 9112 section 9.6: the peer reads our answer and then the end, no reset."""
    with connected() as (stream, peer):
        peer.sendall(bytes(100_000))
        await stream.send(b"answer", soon())
        ending = task_of(stream.linger())
        assert await asyncio.to_thread(peer.recv, 100) == b"answer"
        assert await asyncio.to_thread(peer.recv, 100) == b""
        peer.close()
        await ending
        assert stream.closed


async def test_lingering_discards_no_more_than_its_bound() -> None:
    """A peer that never stops sending is cut off."""
    with connected() as (stream, peer):
        sender = threading.Thread(target=_send_until_refused, args=(peer,))
        sender.start()
        await stream.linger()
        assert stream.closed
        await asyncio.to_thread(sender.join, SOON)
        assert not sender.is_alive()


async def test_lingering_ends_for_a_peer_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded in time."""
    monkeypatch.setattr("router.net.stream.LINGER_SECONDS", 0.0)
    with connected() as (stream, _):
        await stream.linger()
        assert stream.closed
        await stream.linger()


async def _peek_twice(stream: Stream, known: int) -> bytes:
    """As the reader of a ClientHello does: a look, then at once another for more than `known` bytes."""
    assert await stream.peek(soon(), 64, 0)
    return await stream.peek(soon(), 64, known)


def _read_into(sock: socket.socket, buffer: bytearray, size: int) -> None:
    while len(buffer) < size and (data := sock.recv(1 << 20)):
        buffer += data


def _send_until_refused(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        for _ in range(64):
            sock.sendall(bytes(LINGER_BYTES))
