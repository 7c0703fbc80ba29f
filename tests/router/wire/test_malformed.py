"""Malformed: the third outcome of a parser."""

from router.wire.malformed import Malformed


def test_a_malformed_message_is_the_senders_fault_unless_said_otherwise() -> None:
    """A reason alone means status 400."""
    assert Malformed("bare_lf", 400) == Malformed("bare_lf")
