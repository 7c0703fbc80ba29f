"""router/net/deadline.py: the timer wheel, under a clock that the test moves."""

import asyncio
import gc
import weakref

from hypothesis import given
from hypothesis import strategies as st

from router.net.deadline import NEVER, TICK, Timed, Wheel
from tests.router.net.pairs import HandMovedLoop


class Alarm(Timed):
    """Remembers when it expired."""

    __slots__ = ("__weakref__", "at", "loop")

    def __init__(self, loop: HandMovedLoop) -> None:
        super().__init__()
        self.loop = loop
        self.at: list[float] = []

    def expire(self) -> None:
        self.at.append(self.loop.now)


def made(now: float = 1000.0) -> tuple[HandMovedLoop, Wheel, Alarm]:
    loop = HandMovedLoop(now)
    return loop, Wheel(loop.as_loop()), Alarm(loop)


@given(
    st.floats(0, 1000, allow_nan=False),
    st.floats(0, 10, allow_nan=False),
    st.lists(st.floats(0.001, 3, allow_nan=False), max_size=8),
)
def test_a_deadline_expires_once_never_early_and_at_most_one_tick_late(start: float, wait: float, steps: list[float]) -> None:
    """Whatever the moment of arming and the wheel's phase: within [deadline, deadline + TICK]."""
    loop, wheel, alarm = made(start)
    other = Alarm(loop)
    for step in steps:  # the wheel's own phase
        wheel.arm(other, loop.now + step)
        loop.advance(step)
    deadline = loop.now + wait
    wheel.arm(alarm, deadline)
    loop.advance(wait + 3 * TICK)
    assert len(alarm.at) == 1
    assert deadline <= alarm.at[0] <= deadline + TICK + 1e-9


def test_a_deadline_in_the_past_expires_with_the_next_tick() -> None:
    """Nothing is called from within `arm`."""
    loop, wheel, alarm = made()
    wheel.arm(alarm, loop.now - 5)
    assert alarm.at == []
    loop.advance(TICK)
    assert len(alarm.at) == 1


def test_moving_a_deadline_later_costs_no_slot_and_holds() -> None:
    """The object stays where it sits, and is put back when that slot comes up."""
    loop, wheel, alarm = made()
    wheel.arm(alarm, loop.now + 1)
    slot = alarm.slot
    for later in range(2, 6):
        wheel.arm(alarm, loop.now + later)
        assert slot == alarm.slot
    loop.advance(4.9)
    assert alarm.at == []
    loop.advance(0.1 + TICK)
    assert len(alarm.at) == 1


def test_moving_a_deadline_earlier_works() -> None:
    """The earlier deadline counts, and it expires once only."""
    loop, wheel, alarm = made()
    wheel.arm(alarm, loop.now + 60)
    wheel.arm(alarm, loop.now + 1)
    loop.advance(1 + TICK)
    assert len(alarm.at) == 1
    loop.advance(70)
    assert len(alarm.at) == 1


def test_a_deadline_of_never_takes_the_old_one_back() -> None:
    """Armed with NEVER, an object waits for ever, and the wheel stops turning."""
    loop, wheel, alarm = made()
    wheel.arm(alarm, loop.now + 1)
    wheel.arm(alarm, NEVER)
    loop.advance(5)
    assert alarm.at == []
    assert loop.timers == 0


def test_a_forgotten_object_never_expires_and_is_not_referenced() -> None:
    """Closed connections leave nothing behind."""
    loop, wheel, alarm = made()
    wheel.arm(alarm, loop.now + 1)
    wheel.forget(alarm)
    wheel.forget(alarm)
    gone = weakref.ref(alarm)
    del alarm
    gc.collect()
    assert gone() is None
    loop.advance(5)


def test_an_expired_object_is_not_referenced_and_can_be_armed_again() -> None:
    """Expiry is the end of one deadline, not of the object."""
    loop, wheel, alarm = made()
    wheel.arm(alarm, loop.now + 1)
    loop.advance(2)
    wheel.arm(alarm, loop.now + 1)
    loop.advance(2)
    assert len(alarm.at) == 2
    gone = weakref.ref(alarm)
    del alarm
    gc.collect()
    assert gone() is None


def test_an_object_can_forget_its_neighbour_while_it_expires() -> None:
    """What happens inside `expire` counts at once, for objects of the same slot too."""
    loop, wheel, _ = made()

    class Closing(Alarm):
        other: Timed

        def expire(self) -> None:
            super().expire()
            wheel.forget(self.other)

    first, second = Closing(loop), Closing(loop)
    first.other, second.other = second, first
    wheel.arm(first, loop.now + 1)
    wheel.arm(second, loop.now + 1)
    loop.advance(3)
    assert len(first.at) + len(second.at) == 1


def test_an_object_can_arm_itself_again_while_it_expires() -> None:
    """A periodic deadline is armed from its own expiry."""
    loop, wheel, _ = made()

    class Periodic(Alarm):
        __slots__ = ()

        def expire(self) -> None:
            super().expire()
            wheel.arm(self, loop.now + 1)

    alarm = Periodic(loop)
    wheel.arm(alarm, loop.now + 1)
    loop.advance(5.9)
    assert len(alarm.at) in (4, 5)
    assert all(one + 1 <= two <= one + 1 + TICK for one, two in zip(alarm.at, alarm.at[1:], strict=False))


def test_a_wheel_without_deadlines_does_not_turn() -> None:
    """One timer for all deadlines, none for none."""
    loop, wheel, alarm = made()
    assert loop.timers == 0
    wheel.arm(alarm, loop.now + 1)
    wheel.arm(Alarm(loop), loop.now + 2)
    assert loop.timers == 1
    loop.advance(3)
    assert loop.timers == 0


def test_a_closed_wheel_expires_nothing() -> None:
    """At the end of the process nobody is woken."""
    loop, wheel, alarm = made()
    wheel.arm(alarm, loop.now + 1)
    wheel.close()
    loop.advance(5)
    assert alarm.at == []


async def test_a_real_loop_turns_the_wheel() -> None:
    """On both event loops: never early, and within a tick and some slack."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    done = asyncio.Event()

    class Ring(Timed):
        __slots__ = ()

        def expire(self) -> None:
            done.set()

    deadline = loop.time() + 0.02
    wheel.arm(Ring(), deadline)
    await done.wait()
    assert deadline <= loop.time() < deadline + TICK + 0.2
    wheel.close()
