"""Who has called a router: read from its access log, where that is JSON.

Promises: each caller once, in the order of their first call, with the name that the log says last; only whom a verified
certificate named. A line that is no record is counted and passed over; nothing that a log holds raises. Refuses to know files,
and what came of a call.

Source: the JSON form of the access log (router/observe/access_line.py).
"""

import json
from collections.abc import Iterable
from typing import Final, NamedTuple

from identity.caller import Caller, parse_guid
from router.inspect.callers import MAX_CALLERS, KnownCaller

MAX_LINE: Final = 64 * 1024
"""Bytes of a line that are worth reading; the access log writes no longer ones."""


class CallersSeen(NamedTuple):
    """The callers of a log, how many of its lines were records and how many something else, and whether there are more callers
    than are told.
    """

    callers: tuple[KnownCaller, ...]
    records: int
    others: int
    more: bool = False


def callers_seen(lines: Iterable[bytes], limit: int = MAX_CALLERS) -> CallersSeen:
    """Who called; of more than `limit` the first."""
    found: dict[Caller, KnownCaller] = {}
    records = others = 0
    for line in lines:
        record = _record(line)
        if record is None:
            others += bool(line.strip())
            continue
        records += 1
        caller = _caller(record)
        if caller is not None and caller not in found and len(found) >= limit:
            return CallersSeen(tuple(found.values()), records, others, more=True)
        if caller is not None:
            found[caller] = KnownCaller(_name(caller, record.get("caller_cf_app_name")), caller)
    return CallersSeen(tuple(found.values()), records, others)


def _record(line: bytes) -> dict[str, object] | None:
    try:
        record = json.loads(line) if len(line) <= MAX_LINE else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and "caller_cf_app" in record else None


def _caller(record: dict[str, object]) -> Caller | None:
    app, space, org = (
        parse_guid(said) if isinstance(said := record.get(f"caller_cf_{kind}"), str) else None for kind in ("app", "space", "org")
    )
    return Caller(app, space, org) if app is not None else None


def _name(caller: Caller, said: object) -> str:
    return f"app {said} ({caller.app})" if isinstance(said, str) and said else f"app {caller.app}"
