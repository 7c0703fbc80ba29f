"""router/inspect/callers_seen.py: who called, by the access log."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.caller import Caller, Guid
from router.inspect.callers import KnownCaller
from router.inspect.callers_seen import MAX_LINE, CallersSeen, callers_seen
from router.observe.access_line import AccessLogOptions, Renderer
from router.observe.access_record import AccessRecord, CallerNames

FRONT = Caller(Guid("front"), Guid("space-1"), Guid("org-1"))


def line(caller: Caller | None, name: str | None = None) -> bytes:
    """As the router writes it."""
    record = AccessRecord(0.0)
    if caller is not None:
        record.caller_cf_app, record.caller_cf_space, record.caller_cf_org = caller.app, caller.space, caller.org
    record.caller_names = CallerNames(app=name)
    return Renderer(AccessLogOptions()).render_json(record)


def test_each_caller_is_told_once_by_its_latest_name() -> None:
    """In the order of their first call; who showed no certificate is nobody."""
    lone = Caller(Guid("lone"))
    log = [line(FRONT), line(None), line(lone), line(FRONT, "shop front"), line(lone)]
    assert callers_seen(log) == CallersSeen((KnownCaller("app shop front (front)", FRONT), KnownCaller("app lone", lone)), 5, 0)


def test_what_is_no_record_is_counted_and_passed_over() -> None:
    log = [b"example.com - [2026-01-01] GET", b"\n", b"[]", b"{}", b"{" * 100_000, b"\xff", line(FRONT), b" " * MAX_LINE + b"x"]
    assert callers_seen(log) == CallersSeen((KnownCaller("app front", FRONT),), 1, 6)


@pytest.mark.parametrize("said", ["not a guid", 7, None, ["front"], {"a": 1}, "x" * 65])
def test_what_is_no_guid_names_nobody(said: object) -> None:
    """A log is a file like any other: it may have been changed."""
    assert callers_seen([json.dumps({"caller_cf_app": said, "caller_cf_space": "space-1"}).encode()]).callers == ()


def test_the_number_of_callers_is_bounded() -> None:
    """And whether there are more is told; one that is told already may call on."""
    log = [line(Caller(Guid(f"app-{number}"))) for number in (0, 1, 2, 0)]
    assert (len(callers_seen(log, limit=3).callers), callers_seen(log, limit=3).more) == (3, False)
    assert (len(callers_seen(log, limit=2).callers), callers_seen(log, limit=2).more) == (2, True)


@given(st.lists(st.binary(max_size=60) | st.dictionaries(st.sampled_from(["caller_cf_app", "caller_cf_app_name"]), st.text())
                .map(lambda record: json.dumps(record).encode())))  # fmt: skip
def test_no_line_raises(lines: list[bytes]) -> None:
    found = callers_seen(lines)
    assert found.records + found.others <= len(lines)
