"""The options of one route of a manifest, judged before anything is registered, where somebody can still mend them.

Promises: as strict as the Cloud Controller: every mistake at once, each at its place, and what passes is read by
`parse_options` without a warning. Where the router would deny and carry on, this refuses. Refuses to know files,
variables, domains, and what a policy decides.

Source: contract a.2 (`mtls_*`), a.3 (`route_policy_*`), a.5 (RFC-0027: flat values, the size limit and its words),
a.6 (RFC-0042: hash rules); K1, K3; registry/route_limits.py for what a route asks beyond those.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeAlias

from authz.policy import MAX_LIST, MtlsOptions, RoutePolicies
from identity.caller import parse_guid
from registry.findings import Findings
from registry.options import HASH_HEADER, encoded_size, parse_options
from registry.problems import Where, did_you_mean, printable, show
from registry.route_limits import LIMIT_OPTIONS, Scalar

LISTS = ("mtls_allowed_apps", "mtls_allowed_spaces", "mtls_allowed_orgs")
ALLOW_ANY = "mtls_allow_any"
SCOPE, SOURCES = "route_policy_scope", "route_policy_sources"
ALGORITHMS = ("round-robin", "least-connection", "hash")
SCOPES = ("any", "org", "space")
OPTIONS = ("loadbalancing", "hash_header", "hash_balance", *LISTS, ALLOW_ANY, SCOPE, SOURCES, *LIMIT_OPTIONS)
"""Every option that the router reads."""
WITHOUT_EFFECT = ("protocol",)
"""An example of RFC-0027's that stands beside the options, not in them."""
NESTED_FORMS = {"mtls_allowed_sources", "allowed_sources"}
"""What older drafts nested (K1)."""

_PREFIXES = ("mtls_", "route_policy_")
_SOURCE_KINDS = ("cf:app:", "cf:space:", "cf:org:")
_NUMBER = re.compile(r"[0-9]{1,8}(?:\.[0-9]{1,8})?", re.ASCII)
_MAX_BALANCE = 16  # characters
_MAX_REMEDY = 1200  # characters: a list that just fits its limit can be copied whole
_A_FLAT_VALUE = "a text, a number, true or false"

Judge: TypeAlias = Callable[[Scalar, Where, Findings], None]


def check_options(
    raw: Mapping[str, object], where: Where, found: Findings, limit: int, unknown: Collection[str] = ()
) -> dict[str, Scalar]:
    """The flat pairs of the options at `where`; whatever is wrong or unwise goes to `found`.

    The pairs are good only where `found` has no problem. `limit`: bytes of UTF-8 compact JSON. `unknown`: the
    options whose values nobody knows, which is told already.
    """
    before = len(found.problems)
    flat: dict[str, Scalar] = {}
    known = {key: value for key, value in raw.items() if key not in unknown}
    for key, value in known.items():
        if found.full:
            return {}
        if _is_known(key, value, (*where, key), found):
            flat[key] = _plain(value)
    for key, value in flat.items():
        if key in _JUDGES:
            _JUDGES[key](value, (*where, key), found)
    _together(raw, where, found)
    _size(known, where, found, limit)
    if len(found.problems) == before and not unknown:
        _as_the_router_reads_it(flat, where, found, limit)
    return flat


def misplaced(key: str) -> bool:
    """Whether a key that stands beside `options` is meant to stand in them."""
    return key in OPTIONS or key in NESTED_FORMS or key.startswith(_PREFIXES)


def flat_form(value: object) -> str:
    """A nested form in flat options, as it can be pasted."""
    if not isinstance(value, Mapping):
        return 'mtls_allowed_apps: "guid1,guid2"'
    lines = [f"mtls_allowed_{kind}: {_joined(value[kind])}" for kind in ("apps", "spaces", "orgs") if value.get(kind)]
    allow_any = value.get("any") in (True, "true")
    return "; ".join(lines) or f"{ALLOW_ANY}: {'true' if allow_any else 'false'}"


def nearest(key: str, known: tuple[str, ...]) -> str:
    """The way out of a name that nobody knows."""
    return did_you_mean(key, known) or f"remove it; known here: {', '.join(known)}"


def _is_known(key: str, value: object, at: Where, found: Findings) -> bool:
    """Whether the pair is flat and its name one of ours; says what is wrong where not."""
    if key in NESTED_FORMS:
        found.wrong(at, value, f"flat options: values are {_A_FLAT_VALUE}", printable(f"write {flat_form(value)}", _MAX_REMEDY))
    elif key in WITHOUT_EFFECT and isinstance(value, Scalar):
        found.unwise(at, "has no effect here: it is no option", "set `protocol` beside `route`, not in `options`")
        return True
    elif key not in OPTIONS and key not in WITHOUT_EFFECT:
        found.wrong(at, value, "a known option", nearest(key, OPTIONS))
    elif isinstance(value, tuple | list) and key in (*LISTS, SOURCES):
        remedy = printable(f"write {key}: {_joined(value)}", _MAX_REMEDY)
        found.wrong(at, value, "one text with commas between the entries (options are flat)", remedy)
    elif value is None:
        found.wrong(at, value, _A_FLAT_VALUE, "remove the key, or give it a value")
    elif not isinstance(value, Scalar):
        found.wrong(at, value, f"{_A_FLAT_VALUE} (options are flat)", "write one value")
    else:
        return True
    return False


def _plain(value: object) -> Scalar:
    """The value without its memory of the file."""
    match value:
        case bool() | str():
            return value
        case int():
            return int(value)
        case float():
            return float(value)
    return str(value)


def _joined(value: object) -> str:
    """A list as the one text that options can hold."""
    entries = value if isinstance(value, tuple | list) else (value,)
    return '"' + ",".join(str(entry) for entry in entries[:1000] if isinstance(entry, Scalar)) + '"'


def _entries(value: Scalar, at: Where, found: Findings) -> Iterator[tuple[int, str]]:
    """The entries of a comma-separated text, counted from 1, each once; blanks around them go."""
    if not isinstance(value, str):
        found.wrong(at, value, "one text with commas between the entries", f'put quotes around it: "{show(value, ())}"')
        return
    seen: dict[str, int] = {}
    for number, piece in enumerate(value[:MAX_LIST].split(","), 1):
        entry = piece.strip(" \t")
        if found.full or not entry:
            continue
        if entry in seen:
            found.wrong(at, entry, f"each entry once, but {seen[entry]} and {number} are equal", f"remove entry {number}")
        else:
            seen[entry] = number
            yield number, entry


def _guids(value: Scalar, at: Where, found: Findings) -> None:
    for number, entry in _entries(value, at, found):
        if parse_guid(entry) is None:
            _bad_entry(number, entry, "a GUID, 1 to 64 of A-Z a-z 0-9 _ -", at, found)


def _sources(value: Scalar, at: Where, found: Findings) -> None:
    entries = list(_entries(value, at, found))
    for number, entry in entries:
        guid = next((entry[len(kind) :] for kind in _SOURCE_KINDS if entry.startswith(kind)), "")
        if entry != "cf:any" and parse_guid(guid) is None:
            _bad_entry(number, entry, "cf:app:<guid>, cf:space:<guid>, cf:org:<guid> or cf:any", at, found)
    if len(entries) > 1 and any(entry == "cf:any" for _, entry in entries):
        found.wrong(at, "cf:any", "no other source beside cf:any", "remove cf:any, or all the others")


def _bad_entry(number: int, entry: str, expected: str, at: Where, found: Findings) -> None:
    remedy = "correct the entry"
    if re.search(r"\s", entry):
        remedy = "separate entries by commas; a text of several lines begins with `>-`"
    elif entry.startswith("cf:") and at[-1] in LISTS:
        remedy = f"write the GUID alone; `cf:` belongs into {SOURCES}"
    found.wrong(at, entry, f"entry {number}: {expected}", remedy)


def _allow_any(value: Scalar, at: Where, found: Findings) -> None:
    if value not in (True, False, "true", "false") or not isinstance(value, bool | str):
        found.wrong(at, value, "true or false", "write true, or remove it and list who may call")


def _one_of(names: tuple[str, ...]) -> Judge:
    def judge(value: Scalar, at: Where, found: Findings) -> None:
        if value not in names:
            remedy = nearest(value, names) if isinstance(value, str) else "write one of these names"
            found.wrong(at, value, "one of " + ", ".join(names), remedy)

    return judge


def _hash_header(value: Scalar, at: Where, found: Findings) -> None:
    if not (isinstance(value, str) and HASH_HEADER.fullmatch(value)):
        found.wrong(at, value, "the name of a header, at most 128 characters", "write one name, such as X-Tenant")


def _hash_balance(value: Scalar, at: Where, found: Findings) -> None:
    text = str(value)
    good = not isinstance(value, bool) and len(text) <= _MAX_BALANCE and _NUMBER.fullmatch(text)
    if not good or not (float(text) == 0 or 1.1 <= float(text) <= 10):
        found.wrong(at, value, "0, or a number from 1.1 to 10.0 in at most 16 characters", "write 1.2 or so, or remove it")


def _limit(key: str) -> Judge:
    option = LIMIT_OPTIONS[key]

    def judge(value: Scalar, at: Where, found: Findings) -> None:
        if option.read(value) is None:
            found.wrong(at, value, option.expected, f"remove it: without it holds {option.in_effect}")

    return judge


_JUDGES: dict[str, Judge] = {
    "loadbalancing": _one_of(ALGORITHMS),
    "hash_header": _hash_header,
    "hash_balance": _hash_balance,
    **dict.fromkeys(LISTS, _guids),
    ALLOW_ANY: _allow_any,
    SCOPE: _one_of(SCOPES),
    SOURCES: _sources,
    **{key: _limit(key) for key in LIMIT_OPTIONS},
}


def _together(raw: Mapping[str, object], where: Where, found: Findings) -> None:
    """What two options say of each other."""
    lists = [key for key in raw if key.startswith("mtls_allowed")]
    if raw.get(ALLOW_ANY) in (True, "true") and lists:
        line = found.source.line_of((*where, lists[0]))
        expected = f"no list beside it: {ALLOW_ANY} is mutually exclusive with {', '.join(LISTS)}"
        found.wrong((*where, ALLOW_ANY), raw[ALLOW_ANY], expected, f"remove it, or {lists[0]} on line {line} and its like")
    mtls, policies = ([key for key in raw if key.startswith(prefix)] for prefix in _PREFIXES)
    if mtls and policies:
        expected = f"no `route_policy_*` beside `mtls_*`, which is on line {found.source.line_of((*where, mtls[0]))}"
        found.absent((*where, policies[0]), expected, "keep the options of one kind: both would have to let a caller in")
    if SOURCES in raw and SCOPE not in raw:
        found.absent((*where, SCOPE), f"this option beside {SOURCES}: any, org or space", f"add {SCOPE}: any")
    if raw.get("loadbalancing") == "hash":
        if "hash_header" not in raw:
            found.absent((*where, "hash_header"), "this option beside `loadbalancing: hash`", "name the header to hash by")
        return
    for key in ("hash_header", "hash_balance"):
        if key in raw:
            found.wrong((*where, key), raw[key], "`loadbalancing: hash` beside it", "set loadbalancing: hash, or remove it")


def _size(raw: Mapping[str, object], where: Where, found: Findings, limit: int) -> None:
    size = encoded_size(raw) or 0
    way_out = "allow a space or an org instead of its apps, or shorten the list"
    if size > limit:
        expected = f"Options must be smaller than {limit} bytes (actual size is {size} bytes)"
        found.absent(where, expected, way_out)
    elif size * 10 > limit * 8:
        found.unwise(where, f"the options take {size} of {limit} bytes, over 80 %", way_out)


def _as_the_router_reads_it(flat: Mapping[str, Scalar], where: Where, found: Findings, limit: int) -> None:
    """What the router would still complain of is a problem; what lets nobody in is a warning."""
    options = parse_options(dict(flat), limit)
    for said in (*options.policy.warnings, *(f"{key}: {value}, {effect}" for _, key, value, effect in options.warnings)):
        found.absent(where, printable(said, 300), "see docs/reference/options.md")
    for part in options.policy.parts:
        if isinstance(part, MtlsOptions | RoutePolicies) and part.callers.nobody:
            anybody = f"{ALLOW_ANY}: true" if isinstance(part, MtlsOptions) else f"{SOURCES}: cf:any"
            found.unwise(where, "these options let nobody in", f"list who may call, or set {anybody}")
