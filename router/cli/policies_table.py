"""What `/policies` and `/warnings` answer, as lines for people.

Promises: one line an endpoint, sorted by route; a GUID, or how it begins, always stands behind a name; a shape that is
not the answer's gives dashes and no error. Refuses to know where the answer came from.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from router.cli.output import cell, paint, table

Json = Mapping[str, Any]
Label = Callable[[str | None], str]
"""GUID -> what is shown of it."""

_SHORT: Final = ("ROUTE", "DOMAIN", "POLICY", "ENDPOINT", "AGE", "OWNER", "WARNINGS")
_WIDE: Final = (*_SHORT, "SPACE", "ORG", "INSTANCE", "TLS", "TTL", "PROTOCOL", "SEGMENT", "IN FLIGHT", "FAILED", "DENIED")
_BRIEF: Final = 8
_LISTS: Final = ("apps", "spaces", "orgs")


def as_table(policies: Json, label: Label, *, wide: bool) -> str:
    """The routes with their policies, owners and endpoints."""
    routes = sorted(dicts(policies.get("routes")), key=lambda route: str(route.get("route")))
    return table(_WIDE if wide else _SHORT, (row for route in routes for row in _rows(route, label, wide)))


def _rows(route: Json, label: Label, wide: bool) -> Iterator[tuple[object, ...]]:
    owners = dicts(route.get("owners"))
    warnings = route.get("warnings")
    for endpoint in dicts(route.get("endpoints")) or [{}]:
        owner = next((one for one in owners if one.get("app") == endpoint.get("app")), owners[0] if owners else {})
        row = (
            route.get("route"),
            route.get("domain"),
            policy_text(route, label if wide else None),
            f"{endpoint.get('address')} (denied)" if endpoint.get("denied") else endpoint.get("address"),
            age_text(endpoint),
            label(owner.get("app")) if wide else brief(label(owner.get("app")), owner.get("app")),
            len(warnings) if isinstance(warnings, list) and warnings else None,
        )
        yield (*row, *_more(endpoint, owner, label)) if wide else row


def brief(shown: str, guid: object) -> str:
    """`name (GUID)` with no more of the GUID than tells it apart: the wide table has all of it."""
    whole = f"({guid})"
    return shown.replace(whole, f"({str(guid)[:_BRIEF]}...)") if len(whole) > 2 * _BRIEF else shown


def _more(endpoint: Json, owner: Json, label: Label) -> tuple[object, ...]:
    said = (endpoint.get(key) for key in ("instance_index", "tls", "ttl_seconds", "protocol", "isolation_segment", "in_flight"))
    return (
        label(owner.get("space")),
        label(owner.get("org")),
        *said,
        endpoint.get("failed"),
        endpoint.get("denied"),
    )


def names_heard(policies: Json) -> dict[str, str]:
    """GUID -> the name that a registration gives its owner."""
    return {
        owner[kind]: owner[f"{kind}_name"]
        for route in dicts(policies.get("routes"))
        for owner in dicts(route.get("owners"))
        for kind in ("app", "space", "org")
        if isinstance(owner.get(kind), str) and isinstance(owner.get(f"{kind}_name"), str)
    }


# ---- policies


def policy_text(route: Json, label: Label | None = None) -> str:
    """Who gets in: `open`, `any`, `apps(2) orgs(1)`, `none: denies`; with `label` the lists themselves."""
    parts = dicts(route.get("policy"))
    text = " and ".join(_part_text(part, str(route.get("row")), label) for part in parts)
    if route.get("denied"):
        return f"{text}: denied by the operator"
    if route.get("effect") == "deny":
        text += ": denies"
    return text + " (report only)" if route.get("report_only") else text


def _part_text(part: Json, row: str, label: Label | None) -> str:
    match part.get("options"):
        case "no_options":
            if part.get("outcome") == "deny":
                return "none"
            return "open" if row == "open" else "any certificate"
        case "mtls" | "route_policy":
            text = _callers_text(part, label)
            scope = part.get("scope")
            text = text if scope in (None, "any") else f"{text} in scope={scope}"
            return f"{text} (not enforced)" if part.get("outcome") == "not_enforced" else text
        case _:
            return "invalid options"


def _callers_text(part: Json, label: Label | None) -> str:
    if part.get("any"):
        return "any"
    lists = [(kind, guids) for kind in _LISTS if isinstance(guids := part.get(kind), list) and guids]
    if label is None:
        return " ".join(f"{kind}({len(guids)})" for kind, guids in lists) or "none"
    return " ".join(f"{kind}: {', '.join(label(guid) for guid in guids)}" for kind, guids in lists) or "none"


def age_text(endpoint: Json) -> str | None:
    """How long ago the endpoint was heard of; `silent` where that is longer than its TTL."""
    age, left = endpoint.get("age_seconds"), endpoint.get("expires_in_seconds")
    if not isinstance(age, int | float):
        return None
    return f"{duration(age)} silent" if isinstance(left, int | float) and left <= 0 else duration(age)


def duration(seconds: float) -> str:
    """`7s`, `3m`, `2h`, `5d`: the largest unit of which there are at least two."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


# ---- warnings


def warning_lines(policies: Json, warnings: Json | None) -> Iterator[str]:
    """The warnings of the routes that are shown, then, from `/warnings`, those of everything else."""
    for route in sorted(dicts(policies.get("routes")), key=lambda route: str(route.get("route"))):
        for sentence in _texts(route.get("warnings")):
            yield _line(route.get("route"), sentence)
    if warnings is None:
        return
    for one in dicts(warnings.get("domains")):
        yield _line(one.get("domain"), one.get("warning"))
    for one in dicts(warnings.get("certificates")):
        left = one.get("expires_in_seconds")
        ends = f"ends in {duration(left)}" if isinstance(left, int | float) and left > 0 else "has ended"
        yield _line(one.get("key"), f"{one.get('subject')} {ends} ({one.get('not_after')})")
    for one in dicts(warnings.get("silent_endpoints")):
        silent = one.get("silent_for_seconds")
        yield _line(one.get("route"), f"{one.get('address')} was last heard of {duration(silent or 0)} ago")
    for one in dicts(warnings.get("config")):
        yield _line(f"{one.get('file')}:{one.get('line')} {one.get('path')}", f"{one.get('expected')}; {one.get('remedy')}")


def _line(where: object, sentence: object) -> str:
    return f"{paint('warning:', 'yellow')} {cell(where)}: {_bounded(sentence)}"


def _bounded(sentence: object) -> str:
    return str(sentence)[:500].encode("unicode_escape").decode("ascii")


def dicts(value: object) -> list[Json]:
    """The objects of a JSON list; nothing for what is none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(value: object) -> Iterable[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
