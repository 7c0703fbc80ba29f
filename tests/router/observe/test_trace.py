"""A well-formed trace goes on; anything else begins a new one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.observe.trace import (
    B3_NAMES,
    W3C_NAMES,
    TraceParent,
    continue_trace,
    new_trace,
    parse_traceparent,
    w3c_key,
)
from router.wire.http1 import Fields

_THEIRS, _THEIR_SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
_OURS, _OUR_SPAN = b"1" * 32, b"2" * 16
_PARENT = b"00-" + _THEIRS + b"-" + _THEIR_SPAN + b"-00"
_KEY = b"gorouter"
_SHAPE = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def _w3c(incoming: Fields, key: bytes = _KEY) -> dict[bytes, bytes]:
    return dict(continue_trace(incoming, _OURS, _OUR_SPAN, key, zipkin=False).fields)


def _b3(incoming: Fields) -> dict[bytes, bytes]:
    fields = continue_trace(incoming, _OURS, _OUR_SPAN, None, zipkin=True).fields
    assert len(fields) == len({name.lower() for name, _ in fields})
    return {name.lower(): value for name, value in fields}


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (_PARENT, b"00"),
        (_PARENT[:-2] + b"03", b"03"),
        (b"cc" + _PARENT[2:-2] + b"ff", b"01"),
        (b"01" + _PARENT[2:] + b"-what-comes", b"00"),
    ],
)
def test_a_traceparent_is_read_as_its_version_allows(value: bytes, flags: bytes) -> None:
    """W3C section 3.2: version 00 whole; of a later one the known part, and the sampled flag alone."""
    assert TraceParent(_THEIRS, _THEIR_SPAN, flags) == parse_traceparent(value)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"00", _PARENT + b"-x", _PARENT[:-1], _PARENT.upper(), b"ff" + _PARENT[2:], _PARENT + b"x",
        b"00-" + b"0" * 32 + b"-" + _THEIR_SPAN + b"-01", b"00-" + _THEIRS + b"-" + b"0" * 16 + b"-01",
        b"01" + _PARENT[2:] + b"x", _PARENT.replace(b"-", b"_"),
    ],
)  # fmt: skip
def test_an_invalid_traceparent_is_none(value: bytes) -> None:
    """W3C section 3.2.2: what breaks the form, all zeros included, is not continued."""
    assert parse_traceparent(value) is None


def test_a_new_trace_is_sampled_and_names_us_in_its_state() -> None:
    """Decision 9: traceparent is made where absent, as GoRouter makes it."""
    made = new_trace(_OURS, _OUR_SPAN, w3c_key("acme"))
    expected = [
        (b"traceparent", b"00-" + _OURS + b"-" + _OUR_SPAN + b"-01"),
        (b"tracestate", b"acme@gorouter=" + _OUR_SPAN),
    ]
    assert (_OURS, expected) == made


def test_a_trace_is_continued_with_our_span_in_front() -> None:
    """The trace id and flags stay, the parent is ours, our older entry goes, the others keep their order."""
    sent = [
        (b"traceparent", _PARENT),
        (b"tracestate", b"a=1 , gorouter=old,,"),
        (b"tracestate", b"b=2,nothing,x@gorouter=3"),
    ]
    assert _w3c(sent) == {
        b"traceparent": b"00-" + _THEIRS + b"-" + _OUR_SPAN + b"-00",
        b"tracestate": b"gorouter=" + _OUR_SPAN + b",a=1,b=2,x@gorouter=3",
    }
    assert continue_trace(sent, _OURS, _OUR_SPAN, _KEY, zipkin=False).trace_id == _THEIRS


@pytest.mark.parametrize("sent", [[b"nonsense"], [_PARENT, _PARENT], [_PARENT + b" "], []])
def test_a_trace_that_is_none_begins_anew_without_the_old_state(sent: list[bytes]) -> None:
    """W3C section 3.2.2: an invalid or repeated traceparent restarts the trace, tracestate included."""
    fields = [(b"traceparent", value) for value in sent] + [(b"tracestate", b"a=1")]
    assert dict(new_trace(_OURS, _OUR_SPAN, _KEY).fields) == _w3c(fields)


def test_a_tracestate_is_bounded() -> None:
    """More than 2048 bytes are ignored; more than 32 entries are cut."""
    long = [(b"traceparent", _PARENT), (b"tracestate", b"a=" + b"x" * 2048)]
    many = [(b"traceparent", _PARENT), (b"tracestate", b",".join(b"k%d=1" % i for i in range(60)))]
    assert _w3c(long)[b"tracestate"] == b"gorouter=" + _OUR_SPAN
    assert _w3c(many)[b"tracestate"].count(b"=") == 32


def test_a_switched_off_w3c_only_reads_the_trace_id() -> None:
    """`enable_w3c: false` passes the fields through: none are made, the id still serves the log."""
    assert continue_trace([(b"traceparent", _PARENT)], _OURS, _OUR_SPAN, None, zipkin=False) == (_THEIRS, [])
    assert continue_trace([], _OURS, _OUR_SPAN, None, zipkin=False) == (b"", [])


def test_a_new_b3_trace_has_both_forms() -> None:
    """Zipkin: `b3`, X-B3-TraceId and X-B3-SpanId are made where absent."""
    assert _b3([]) == {
        b"b3": _OURS + b"-" + _OUR_SPAN,
        b"x-b3-traceid": _OURS,
        b"x-b3-spanid": _OUR_SPAN,
    }


@pytest.mark.parametrize(
    ("extra", "tail"),
    [
        ([], b""),
        ([(b"x-b3-sampled", b"1")], b"-1"),
        ([(b"x-b3-sampled", b"false"), (b"x-b3-parentspanid", _OUR_SPAN)], b"-0-" + _OUR_SPAN),
        ([(b"x-b3-flags", b"1"), (b"x-b3-sampled", b"0")], b"-d"),
        ([(b"x-b3-parentspanid", _OUR_SPAN)], b""),
    ],
)
def test_b3_in_many_fields_is_kept_and_told_in_one(extra: Fields, tail: bytes) -> None:
    """Zipkin: existing trace and span ids stay; sampling and debug flags go on."""
    sent = [(b"x-b3-traceid", _THEIRS), (b"x-b3-spanid", _THEIR_SPAN), *extra]
    assert {**dict(sent), b"b3": _THEIRS + b"-" + _THEIR_SPAN + tail} == _b3(sent)


def test_b3_in_one_field_is_kept_as_it_came() -> None:
    """Zipkin: a well-formed `b3` is not touched, 64-bit trace ids included."""
    for value in (_THEIRS + b"-" + _THEIR_SPAN + b"-1", _THEIR_SPAN + b"-" + _THEIR_SPAN):
        assert {b"b3": value} == _b3([(b"b3", value)])


@pytest.mark.parametrize("lone", [b"0", b"1", b"d"])
def test_a_lone_sampling_decision_goes_into_the_new_trace(lone: bytes) -> None:
    """B3: `b3: 0` says no more than `do not sample`."""
    assert _b3([(b"b3", lone)])[b"b3"] == _OURS + b"-" + _OUR_SPAN + b"-" + lone


@pytest.mark.parametrize(
    "sent",
    [
        [(b"b3", b"x-y")],
        [(b"b3", _THEIRS + b"-" + _THEIR_SPAN + b"-")],
        [(b"x-b3-traceid", _THEIRS)],
        [(b"x-b3-traceid", b"g" * 32), (b"x-b3-spanid", _THEIR_SPAN), (b"x-b3-sampled", b"maybe")],
        [(b"x-b3-parentspanid", _THEIR_SPAN)],
    ],
)
def test_malformed_b3_begins_a_new_trace(sent: Fields) -> None:
    """A half or broken trace is not continued and none of it leaves."""
    assert _b3([]) == _b3(sent)


def test_both_forms_name_one_trace() -> None:
    """With W3C and B3 on, the trace id that one form brought is the other's too."""
    from_w3c = continue_trace([(b"traceparent", _PARENT)], _OURS, _OUR_SPAN, _KEY, zipkin=True)
    assert from_w3c.trace_id == _THEIRS
    assert (b"X-B3-TraceId", _THEIRS) in from_w3c.fields
    from_b3 = continue_trace([(b"b3", _THEIRS + b"-" + _THEIR_SPAN)], _OURS, _OUR_SPAN, _KEY, zipkin=True)
    assert from_b3.trace_id == _THEIRS
    assert dict(from_b3.fields)[b"traceparent"] == b"00-" + _THEIRS + b"-" + _OUR_SPAN + b"-01"


@given(
    st.lists(st.tuples(st.sampled_from(sorted(W3C_NAMES | B3_NAMES)), st.binary(max_size=70)), max_size=6),
    st.booleans(),
)
def test_nothing_that_a_client_sends_breaks_the_shape(incoming: Fields, zipkin: bool) -> None:
    """Any bytes in, one well-formed traceparent out."""
    fields = dict(continue_trace(incoming, _OURS, _OUR_SPAN, _KEY, zipkin=zipkin).fields)
    assert _SHAPE.fullmatch(fields[b"traceparent"]) is not None
