"""router/observe/passthrough_record.py: the line of a connection that was passed through."""

import json

from hypothesis import given
from hypothesis import strategies as st

from router.observe.passthrough_record import PassthroughRecord, render_passthrough_json, render_passthrough_line
from router.observe.timestamp import Timestamps


def record() -> PassthroughRecord:
    made = PassthroughRecord(1.5, "edge", "web", "a.example", "203.0.113.7:40000", "10.0.0.9:555")
    made.backend, made.bytes_in, made.bytes_out = "10.0.0.1:443", 5, 7
    made.seconds, made.dial_time, made.ending = 1.25, 0.0005, "ended"
    return made


def line(one: PassthroughRecord, *, hide_source: bool = False) -> bytes:
    return render_passthrough_line(one, Timestamps(), hide_source=hide_source)


def test_the_line_says_who_where_how_much_how_long_and_why_it_ended() -> None:
    """The L4 form of the access log."""
    assert line(record()) == (
        b'a.example - [1970-01-01T00:00:01.500000000Z] "L4" ended 5 7 "203.0.113.7:40000" "10.0.0.1:443" '
        b'peer:"10.0.0.9:555" route:"web" listener:"edge" seconds:1.250000 dial_time:0.000500 failed_attempts:0 broken_by:"-"'
    )


def test_what_is_missing_is_a_dash() -> None:
    """A raw TCP route has no name, a failed dial no backend."""
    assert line(PassthroughRecord(0.0, "", "", "", "", "")) == (
        b'- - [1970-01-01T00:00:00.000000000Z] "L4" - 0 0 "-" "-" peer:"-" route:"-" listener:"-" '
        b'seconds:"-" dial_time:"-" failed_attempts:0 broken_by:"-"'
    )


def test_the_client_can_be_left_out() -> None:
    """`logging.disable_log_source_ip` holds here too."""
    assert b"203.0.113.7" not in line(record(), hide_source=True)
    assert b"10.0.0.9" not in line(record(), hide_source=True)
    hidden = json.loads(render_passthrough_json(record(), Timestamps(), hide_source=True))
    assert (hidden["remote_addr"], hidden["peer_addr"]) == (None, None)


def test_the_json_form_has_every_field() -> None:
    """Named as in the HTTP records where the fact is the same."""
    assert json.loads(render_passthrough_json(record(), Timestamps(), hide_source=False)) == {
        "timestamp": "1970-01-01T00:00:01.500000000Z",
        "proto": "L4",
        "tls_sni": "a.example",
        "ending": "ended",
        "bytes_in": 5,
        "bytes_out": 7,
        "remote_addr": "203.0.113.7:40000",
        "backend_addr": "10.0.0.1:443",
        "peer_addr": "10.0.0.9:555",
        "route": "web",
        "listener": "edge",
        "seconds": 1.25,
        "dial_time": 0.0005,
        "failed_attempts": 0,
        "broken_by": None,
    }


@given(st.text(), st.text())
def test_no_text_splits_a_line(sni: str, route: str) -> None:
    """Whatever a peer or an operator said."""
    one = PassthroughRecord(0.0, "edge", route, sni, "c", "p")
    for text in (line(one), render_passthrough_json(one, Timestamps(), hide_source=False)):
        assert len(text.splitlines()) == 1
