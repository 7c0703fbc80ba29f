"""router/workers/roll.py: when many have answered."""

from router.workers.roll import Roll
from tests.router.workers.crew import Listening


async def test_a_roll_is_complete_when_all_have_answered_or_are_gone() -> None:
    """And what each said is kept."""
    first, second = Listening(1), Listening(2)
    roll = Roll((first, second))
    await roll.complete(0.001)
    assert roll.owing == {1, 2}
    roll.answer(first, "yes")
    roll.gone(second)
    await roll.complete(10.0)
    assert roll.said == {1: "yes"}
    await Roll(()).complete(10.0)


async def test_who_owes_no_answer_changes_nothing() -> None:
    """A second answer, and one that nobody asked for, are not taken."""
    first, stranger = Listening(1), Listening(9)
    roll = Roll((first,), 7)
    roll.answer(stranger, "no")
    assert roll.owing == {1}
    roll.answer(first, "yes")
    roll.answer(first, "no")
    roll.gone(stranger)
    assert (roll.number, roll.said) == (7, {1: "yes"})
