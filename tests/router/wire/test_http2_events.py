"""What a peer said: one value for each thing that it can say."""

from typing import get_args

from router.wire import http2_events
from router.wire.http2_events import Data, Ended, Event, GoneAway, Head, Request, Reset, Trailers, Window


def test_every_event_can_be_told_from_every_other_by_its_kind() -> None:
    """The union names them all: a match over it can be complete."""
    kinds = get_args(Event)
    assert set(kinds) == {Request, Head, Data, Trailers, Reset, Window, GoneAway, Ended}
    named = {kind for kind in vars(http2_events).values() if isinstance(kind, type) and kind.__module__ == http2_events.__name__}
    assert named == set(kinds)


def test_every_event_of_a_stream_names_it_first() -> None:
    """Whoever serves many streams looks there."""
    assert all(kind._fields[0] == "stream" for kind in (Request, Head, Data, Trailers, Reset, Window))
