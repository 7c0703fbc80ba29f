"""Trace context of one request: what a client sent, and what goes on in its place.

Promises: a well-formed trace is continued, anything else begins a new one; every value that leaves is of a
known shape and bounded length. Refuses to know: sampling, span export, randomness (ids are arguments).
Source: W3C Trace Context sections 3.2 and 3.3; the B3 propagation specification; GoRouter's own entries.
"""

import re
from typing import NamedTuple

from router.wire.http1 import Fields

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?")
_TENANT = re.compile(r"(?:[a-z0-9][a-z0-9_*/-]{0,240})?")  # W3C section 3.3.1.3.1
_B3_SINGLE = re.compile(rb"([0-9a-f]{16}|[0-9a-f]{32})-[0-9a-f]{16}(?:-[01d](?:-[0-9a-f]{16})?)?")
_B3_SPAN = re.compile(rb"[0-9a-f]{16}")
_B3_FORMS = {
    b"b3": re.compile(_B3_SINGLE.pattern + rb"|[01d]"),
    b"x-b3-traceid": re.compile(rb"[0-9a-f]{16}|[0-9a-f]{32}"),
    b"x-b3-spanid": _B3_SPAN,
    b"x-b3-parentspanid": _B3_SPAN,
    b"x-b3-sampled": re.compile(rb"[01]|true|false"),
    b"x-b3-flags": re.compile(rb"[01]"),
}
_MAX_TRACESTATE = 2048  # bytes: more is ignored, as GoRouter does
_MAX_ENTRIES = 32  # list members of a tracestate (W3C section 3.3.1.1)

W3C_NAMES = frozenset({b"traceparent", b"tracestate"})
B3_NAMES = frozenset(_B3_FORMS)


class TraceParent(NamedTuple):
    """A well-formed traceparent: lower-case hexadecimal, never all zeros."""

    trace_id: bytes
    parent_id: bytes
    flags: bytes


class Trace(NamedTuple):
    """The trace a request belongs to (empty: none that we know) and the fields that carry it on."""

    trace_id: bytes
    fields: Fields


def w3c_key(tenant: str) -> bytes:
    """The key of our tracestate entry, `gorouter` or `<tenant>@gorouter`; ValueError for a bad tenant."""
    if _TENANT.fullmatch(tenant) is None:
        raise ValueError(f"w3c_tenant_id: {tenant[:64]!r} is none: expected at most 241 of a-z, 0-9, _, -, * and /")
    return f"{tenant}@gorouter".encode("ascii") if tenant else b"gorouter"


def parse_traceparent(value: bytes) -> TraceParent | None:
    """Read a traceparent; None where it is invalid. Of a later version only what version 00 has is read."""
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    if version == b"ff" or (version == b"00" and rest is not None):
        return None
    if trace_id == b"0" * 32 or parent_id == b"0" * 16:
        return None
    if version != b"00":
        flags = b"%02x" % (int(flags, 16) & 1)
    return TraceParent(trace_id, parent_id, flags)


def new_trace(trace_id: bytes, span_id: bytes, key: bytes) -> Trace:
    """A W3C trace that begins here, sampled."""
    parent = b"00-%b-%b-01" % (trace_id, span_id)
    return Trace(trace_id, [(b"traceparent", parent), (b"tracestate", key + b"=" + span_id)])


def continue_trace(incoming: Fields, trace_id: bytes, span_id: bytes, key: bytes | None, *, zipkin: bool) -> Trace:
    """Continue the trace that `incoming` (fields of any name) carries, else begin `trace_id`; our span is
    `span_id`.

    `key` is our tracestate key, None where W3C fields pass through untouched; the same holds for B3 without
    `zipkin`.
    """
    parent = _only_traceparent(incoming)
    b3 = _well_formed(incoming) if zipkin else {}
    continued = _b3_trace_id(b3)
    known = parent.trace_id if parent is not None else b""
    fields: Fields = []
    if key is not None:
        known = known or (continued if len(continued) == 32 else trace_id)
        fields += _w3c(incoming, parent, known, span_id, key)
    if zipkin:
        known = known or continued or trace_id
        fields += _b3_onwards(b3) if continued else _new_b3(b3, known, span_id)
    return Trace(known, fields)


def _only_traceparent(incoming: Fields) -> TraceParent | None:
    values = [value for name, value in incoming if name == b"traceparent"]
    return parse_traceparent(values[0]) if len(values) == 1 else None


def _w3c(incoming: Fields, parent: TraceParent | None, trace_id: bytes, span_id: bytes, key: bytes) -> Fields:
    if parent is None:
        return new_trace(trace_id, span_id, key).fields
    states = b",".join([value for name, value in incoming if name == b"tracestate"])
    entries = [key + b"=" + span_id]
    if len(states) <= _MAX_TRACESTATE:
        entries += _others(states, key)
    value = b"00-%b-%b-%b" % (trace_id, span_id, parent.flags)
    return [(b"traceparent", value), (b"tracestate", b",".join(entries[:_MAX_ENTRIES]))]


def _others(states: bytes, key: bytes) -> list[bytes]:
    entries = [entry.strip(b" \t") for entry in states.split(b",")]
    return [entry for entry in entries if b"=" in entry and entry.partition(b"=")[0] != key]


def _well_formed(incoming: Fields) -> dict[bytes, bytes]:
    """The B3 fields that are what they should be; of one that came twice, the last."""
    return {name: value for name, value in incoming if name in _B3_FORMS and _B3_FORMS[name].fullmatch(value) is not None}


def _b3_trace_id(sent: dict[bytes, bytes]) -> bytes:
    """The trace that well-formed B3 fields belong to; empty where they name none."""
    single = _B3_SINGLE.fullmatch(sent.get(b"b3", b""))
    if single is not None:
        return single[1]
    return sent.get(b"x-b3-traceid", b"") if b"x-b3-spanid" in sent else b""


def _b3_onwards(sent: dict[bytes, bytes]) -> Fields:
    """A client's trace as it came; where it came in many fields, in the single one as well."""
    if _B3_SINGLE.fullmatch(sent.get(b"b3", b"")) is not None:
        return list(sent.items())
    decision, parent = _decision(sent), sent.get(b"x-b3-parentspanid")
    single = sent[b"x-b3-traceid"] + b"-" + sent[b"x-b3-spanid"] + decision
    if decision and parent is not None:
        single += b"-" + parent
    return [*((name, value) for name, value in sent.items() if name != b"b3"), (b"b3", single)]


def _new_b3(sent: dict[bytes, bytes], trace_id: bytes, span_id: bytes) -> Fields:
    """A trace that begins here, under the sampling decision that the client may have taken."""
    kept = [(name, sent[name]) for name in (b"x-b3-sampled", b"x-b3-flags") if name in sent]
    single = trace_id + b"-" + span_id + _decision(sent)
    return [*kept, (b"X-B3-TraceId", trace_id), (b"X-B3-SpanId", span_id), (b"b3", single)]


def _decision(sent: dict[bytes, bytes]) -> bytes:
    """The sampling decision as the third part of a `b3` value; empty where none was taken."""
    if sent.get(b"x-b3-flags") == b"1":
        return b"-d"
    sampled = sent.get(b"x-b3-sampled")
    if sampled is not None:
        return b"-1" if sampled in (b"1", b"true") else b"-0"
    lone = sent.get(b"b3", b"")
    return b"-" + lone if len(lone) == 1 else b""
